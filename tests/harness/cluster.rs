//! Several servers with one person each, every link between them through the fault board.
//!
//! One person a server: an announced address stands for one router. Servers outside of the cluster
//! can be dialled from it, but cannot dial into it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::future::join_all;

use super::{
    client::Person,
    fault::Board,
    server::{Plan, Server},
};

/// The links between the servers of a story.
pub(crate) struct Cluster {
    board: Arc<Board>,
    seats: Vec<String>,
}

impl Cluster {
    /// Starts a server for each name and creates the account of that name on it.
    pub(crate) async fn of<const N: usize>(names: [&str; N]) -> (Self, [Person; N]) {
        Self::with(names, |plan| plan).await
    }

    /// The same with changes to how the servers are started.
    pub(crate) async fn with<const N: usize>(
        names: [&str; N],
        change: impl Fn(Plan) -> Plan,
    ) -> (Self, [Person; N]) {
        let board = Board::with_seats(N).await;
        let people = join_all(names.iter().enumerate().map(async |(seat, name)| {
            let plan = change(Server::plan(name)).seat(Arc::clone(&board), seat);
            let mut person = plan.start().await.sign_up(name).await;
            board.leads_to(seat, peer_port(&person).await);
            person.proxy_port = Some(board.proxy_port(seat));
            person
        }))
        .await;
        let Ok(people) = people.try_into() else { unreachable!("one person a name") };
        (Self { board, seats: names.map(String::from).to_vec() }, people)
    }

    /// Closes every connection between two people's servers and lets no new one through.
    pub(crate) async fn cut(&self, a: &Person, b: &Person) {
        self.board.cut(self.seat(a), self.seat(b)).await;
    }

    /// Ends a cut.
    pub(crate) fn heal(&self, a: &Person, b: &Person) {
        self.board.heal(self.seat(a), self.seat(b));
    }

    /// Cuts every link between two sides.
    pub(crate) async fn part(&self, one: &[&Person], other: &[&Person]) {
        for (a, b) in pairs(one, other) {
            self.cut(a, b).await;
        }
    }

    /// Ends every cut between two sides.
    pub(crate) fn reunite(&self, one: &[&Person], other: &[&Person]) {
        for (a, b) in pairs(one, other) {
            self.heal(a, b);
        }
    }

    /// Lets nothing more pass one way, until the link is healed.
    pub(crate) fn silence(&self, from: &Person, to: &Person) {
        self.board.silence(self.seat(from), self.seat(to));
    }

    /// Loses one in so many chunks, each way; 0 for none.
    pub(crate) fn lose(&self, a: &Person, b: &Person, one_in: u32) {
        self.board.lose(self.seat(a), self.seat(b), one_in);
    }

    /// Makes the link slow, each way.
    pub(crate) fn delay(&self, a: &Person, b: &Person, delay: Duration) {
        self.board.delay(self.seat(a), self.seat(b), delay);
    }

    /// From now on keeps what passes over new connections.
    pub(crate) fn record(&self) {
        self.board.record();
    }

    /// What has passed since, each way of each connection by itself.
    pub(crate) fn recorded(&self) -> Vec<Vec<u8>> {
        self.board.recorded()
    }

    fn seat(&self, person: &Person) -> usize {
        self.seats.iter().position(|name| name == person.name()).expect("a person of this cluster")
    }
}

fn pairs<'p>(one: &'p [&Person], other: &'p [&Person]) -> impl Iterator<Item = (&'p Person, &'p Person)> {
    one.iter().flat_map(move |a| other.iter().map(move |b| (*a, *b)))
}

/// The real port of a person's router.
pub(crate) async fn peer_port(person: &Person) -> SocketAddr {
    let listening = person.status().await.listen_addresses;
    let ports = listening.iter().filter_map(|address| address.strip_prefix("/ip4/127.0.0.1/tcp/"));
    let port = ports.filter_map(|rest| rest.split('/').next()?.parse().ok()).next();
    SocketAddr::from(([127, 0, 0, 1], port.expect("a TCP port on loopback")))
}
