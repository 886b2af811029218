//! Faults between servers: a TCP proxy in front of every peer port, with a switch for each pair.
//!
//! A connection whose dialling server cannot be told is refused: nothing passes uncounted.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::Rng as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::owner::owner;

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;
/// Chunks on their way in one direction; more make the sender wait.
const IN_FLIGHT: usize = 256;
/// How late a lost chunk is that TCP sends again, and everything behind it.
const RETRANSMITTED_AFTER: Duration = Duration::from_millis(300);
/// Of so many lost chunks one is not sent again: the connection breaks.
const FATAL_ONE_IN: u32 = 4;

/// How a pair of servers is linked.
#[derive(Clone, Copy, Default)]
struct Link {
    cut: bool,
    delay: Duration,
    /// Of each way, whether what is sent vanishes; see [`way`].
    silent: [bool; 2],
    /// One chunk in so many is lost; 0 for none.
    loses_one_in: u32,
}

/// Which of a pair's two ways leads from one seat to the other.
fn way(from: usize, to: usize) -> usize {
    usize::from(from > to)
}

/// What became of a chunk on a lossy link.
enum Fate {
    Passes,
    ComesLate,
    BreaksTheConnection,
}

impl Link {
    /// Not seeded: which chunk is the how-manieth depends on the machine anyway.
    fn fate(self) -> Fate {
        let mut rng = rand::rng();
        if self.loses_one_in == 0 || !rng.random_ratio(1, self.loses_one_in) {
            Fate::Passes
        } else if rng.random_ratio(1, FATAL_ONE_IN) {
            Fate::BreaksTheConnection
        } else {
            Fate::ComesLate
        }
    }
}

/// The switches of a cluster.
pub(crate) struct Board {
    proxies: Vec<SocketAddr>,
    state: Mutex<State>,
}

/// What passed one way over one connection.
type Recording = Arc<Mutex<Vec<u8>>>;

#[derive(Default)]
struct State {
    /// While connections are recorded.
    recordings: Option<Vec<Recording>>,
    processes: HashMap<usize, u32>,
    targets: HashMap<usize, SocketAddr>,
    links: HashMap<(usize, usize), watch::Sender<Link>>,
}

impl Board {
    /// A proxy for each of `seats` servers, before any of them runs.
    pub(crate) async fn with_seats(seats: usize) -> Arc<Self> {
        let mut listeners = Vec::new();
        for _ in 0..seats {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a port for the proxy"));
        }
        let proxies = listeners.iter().map(|listener| listener.local_addr().expect("bound")).collect();
        let board = Arc::new(Self { proxies, state: Mutex::default() });
        for (seat, listener) in listeners.into_iter().enumerate() {
            tokio::spawn(Arc::clone(&board).accept(seat, listener));
        }
        board
    }

    /// The port that stands for the peer port of the server at `seat`.
    pub(crate) fn proxy_port(&self, seat: usize) -> u16 {
        self.proxies[seat].port()
    }

    /// The process of the server at `seat` has this id now.
    pub(crate) fn seated(&self, seat: usize, process: u32) {
        self.state().processes.insert(seat, process);
    }

    /// The real peer port of the server at `seat`.
    pub(crate) fn leads_to(&self, seat: usize, target: SocketAddr) {
        self.state().targets.insert(seat, target);
    }

    /// Refuses new connections between the two and waits until every open one is closed.
    pub(crate) async fn cut(&self, a: usize, b: usize) {
        let link = self.link(a, b);
        link.send_modify(|link| link.cut = true);
        link.closed().await;
    }

    /// Lets connections between the two pass again, both ways.
    pub(crate) fn heal(&self, a: usize, b: usize) {
        self.link(a, b).send_modify(|link| (link.cut, link.silent) = (false, [false; 2]));
    }

    /// From now on whatever goes from one to the other vanishes, while the other way stays open. It ends with
    /// [`Board::heal`], and every connection that lost something with it.
    pub(crate) fn silence(&self, from: usize, to: usize) {
        self.link(from, to).send_modify(|link| link.silent[way(from, to)] = true);
    }

    /// Loses one in so many chunks between the two, each way; 0 for none. Under TCP a loss is a delay, at times
    /// a broken connection.
    pub(crate) fn lose(&self, a: usize, b: usize, one_in: u32) {
        self.link(a, b).send_modify(|link| link.loses_one_in = one_in);
    }

    /// Holds back every byte between the two, each way, for this long.
    pub(crate) fn delay(&self, a: usize, b: usize, delay: Duration) {
        self.link(a, b).send_modify(|link| link.delay = delay);
    }

    /// From now on keeps what passes over new connections.
    pub(crate) fn record(&self) {
        self.state().recordings.get_or_insert_default();
    }

    /// What has passed since, each way of each connection by itself.
    pub(crate) fn recorded(&self) -> Vec<Vec<u8>> {
        let recordings = self.state().recordings.clone().unwrap_or_default();
        recordings.iter().map(|bytes| bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    fn recording(&self) -> Option<Recording> {
        let mut state = self.state();
        let recordings = state.recordings.as_mut()?;
        recordings.push(Recording::default());
        recordings.last().cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, a: usize, b: usize) -> watch::Sender<Link> {
        let pair = (a.min(b), a.max(b));
        self.state().links.entry(pair).or_insert_with(|| watch::Sender::new(Link::default())).clone()
    }

    async fn accept(self: Arc<Self>, seat: usize, listener: TcpListener) {
        while let Ok((stream, from)) = listener.accept().await {
            tokio::spawn(Arc::clone(&self).carry(seat, stream, from));
        }
    }

    /// Carries one connection to the server at `seat` until either side or the link ends.
    async fn carry(self: Arc<Self>, seat: usize, dialler: TcpStream, from: SocketAddr) {
        let Some(other) = self.who_dials(seat, from).await else { return };
        let link = self.link(seat, other).subscribe();
        let mut switch = link.clone();
        let Some(target) = self.state().targets.get(&seat).copied() else { return };
        let passing = async {
            let Ok(server) = TcpStream::connect(target).await else { return };
            let _ = (dialler.set_nodelay(true), server.set_nodelay(true));
            let (from_dialler, to_dialler) = dialler.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = pump(from_dialler, to_server, (link.clone(), way(other, seat)), self.recording()) => {}
                () = pump(from_server, to_dialler, (link.clone(), way(seat, other)), self.recording()) => {}
            }
        };
        tokio::select! {
            biased;
            _ = switch.wait_for(|link| link.cut) => {}
            () = passing => {}
        }
    }

    async fn who_dials(&self, seat: usize, from: SocketAddr) -> Option<usize> {
        let processes = self.state().processes.clone();
        let proxy = self.proxies[seat];
        let ids: Vec<_> = processes.values().copied().collect();
        let found = tokio::task::spawn_blocking(move || owner(from, proxy, &ids)).await.ok()??;
        processes.into_iter().find(|(_, process)| *process == found).map(|(other, _)| other)
    }
}

/// Moves bytes one way, each chunk as late as the link says; ends when either end does, or the link loses for
/// good what cannot be missed.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    (link, way): (watch::Receiver<Link>, usize),
    recording: Option<Recording>,
) {
    let (late, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(IN_FLIGHT);
    let reading = async {
        let mut chunk = vec![0; CHUNK];
        let mut healed = link.clone();
        let mut has_a_hole = false;
        loop {
            let length = tokio::select! {
                read = from.read(&mut chunk) => match read {
                    Ok(length @ 1..) => length,
                    Ok(0) | Err(_) => break,
                },
                _ = healed.wait_for(|link| has_a_hole && !link.silent[way]) => return,
            };
            let now = *link.borrow();
            if now.silent[way] {
                has_a_hole = true;
                continue;
            }
            let at = Instant::now() + now.delay;
            let at = match now.fate() {
                Fate::Passes => at,
                Fate::ComesLate => at + RETRANSMITTED_AFTER,
                Fate::BreaksTheConnection => return,
            };
            if let Some(recording) = &recording {
                let mut recording = recording.lock().unwrap_or_else(PoisonError::into_inner);
                recording.extend_from_slice(&chunk[..length]);
            }
            if late.send((at, chunk[..length].to_vec())).await.is_err() {
                return;
            }
        }
        drop(late);
    };
    let writing = async {
        while let Some((at, bytes)) = due.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::wait::{comes_true, when};

    /// Both "servers" are this process, so every pair is (0, 0) here.
    async fn echo_behind_a_proxy() -> Arc<Board> {
        let board = Board::with_seats(1).await;
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        board.leads_to(0, echo.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        board
    }

    async fn echoes(board: &Board) -> Result<TcpStream, String> {
        let mut stream = TcpStream::connect(board.proxies[0]).await.map_err(|error| error.to_string())?;
        stream.write_all(b"hello").await.map_err(|error| error.to_string())?;
        let mut back = [0; 5];
        stream.read_exact(&mut back).await.map_err(|error| error.to_string())?;
        when(&back == b"hello", "other bytes came back")?;
        Ok(stream)
    }

    #[tokio::test]
    async fn a_stranger_does_not_pass() {
        let board = echo_behind_a_proxy().await;
        assert!(echoes(&board).await.is_err());
    }

    #[tokio::test]
    async fn a_cut_closes_what_is_open_and_refuses_what_is_new_until_healed() {
        let board = echo_behind_a_proxy().await;
        board.seated(0, std::process::id());
        let mut open = echoes(&board).await.unwrap();

        board.cut(0, 0).await;
        let ended = comes_true(Duration::from_secs(5), async || match open.read(&mut [0; 1]).await {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => Err("bytes".into()),
        });
        assert!(ended.await.is_ok());
        assert!(echoes(&board).await.is_err());

        board.heal(0, 0);
        assert!(echoes(&board).await.is_ok());
    }

    #[tokio::test]
    async fn what_passes_is_recorded_each_way_once_it_is_asked_for() {
        let board = echo_behind_a_proxy().await;
        board.seated(0, std::process::id());
        echoes(&board).await.unwrap();
        assert!(board.recorded().is_empty());
        board.record();
        echoes(&board).await.unwrap();
        assert_eq!(board.recorded(), [b"hello", b"hello"]);
    }

    #[tokio::test]
    async fn what_is_said_one_way_vanishes_while_the_other_way_is_open_and_ends_the_connection() {
        let board = Board::with_seats(2).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        board.leads_to(1, listener.local_addr().unwrap());
        board.seated(0, std::process::id());
        let mut dialler = TcpStream::connect(board.proxies[1]).await.unwrap();
        let (mut dialled, _) = listener.accept().await.unwrap();

        board.silence(0, 1);
        dialler.write_all(b"unheard").await.unwrap();
        let heard = comes_true(Duration::from_millis(300), async || match dialled.read(&mut [0; 8]).await {
            Ok(length) => when(length > 0, "the end"),
            Err(error) => Err(error.to_string()),
        });
        assert!(heard.await.is_err());
        dialled.write_all(b"heard").await.unwrap();
        let mut back = [0; 5];
        dialler.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"heard");

        board.heal(0, 1);
        assert_eq!(dialler.read(&mut [0; 1]).await.unwrap_or(0), 0, "it has a hole");
    }

    #[tokio::test]
    async fn a_lossy_link_changes_no_byte_and_breaks_connections() {
        let board = echo_behind_a_proxy().await;
        board.seated(0, std::process::id());
        board.lose(0, 0, 8);
        let mut broken = 0;
        for _ in 0..64 {
            broken += usize::from(echoes(&board).await.is_err());
        }
        assert!((1..64).contains(&broken), "{broken} of 64 broke");
    }

    #[tokio::test]
    async fn a_delay_holds_back_each_way() {
        let board = echo_behind_a_proxy().await;
        board.seated(0, std::process::id());
        board.delay(0, 0, Duration::from_millis(50));
        let began = Instant::now();
        echoes(&board).await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(100));
    }
}
