//! People on servers of their own who form a space: the setting of the demo and the bench.
//!
//! It uses the public API alone and waits for conditions, never for a time to pass.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use futures::future::{try_join, try_join_all};
use spacepanda_proto::api::v1 as api;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use super::{
    connect::{CALL_DEADLINE, Client, SLOW_CALL_DEADLINE},
    credentials::Token,
    failure::Failure,
    listing,
    local_server::LocalServer,
    space,
};

/// How long a condition may take to come true.
pub(super) const CONDITION_DEADLINE: Duration = Duration::from_secs(15);
/// Between two looks at a condition that no event announces.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A server that limits registration more than this is not ours.
const REGISTRATION_DEADLINE: Duration = Duration::from_secs(300);

/// Someone with a server of their own.
#[derive(Debug)]
pub(super) struct Resident {
    /// The display name.
    pub name: String,
    /// The server, killed when dropped.
    pub server: LocalServer,
    /// The account.
    pub account_id: String,
    /// A logged-in connection to it.
    pub client: Client,
    /// Where others connect to, ending in `/p2p/<peer id>`.
    pub address: String,
}

impl Resident {
    /// Starts a server and creates an account on it.
    ///
    /// # Errors
    /// When the server does not start or refuses.
    pub(super) async fn move_in(name: &str) -> Result<Self, Failure> {
        Self::move_into(name, LocalServer::start(name).await?).await
    }

    /// The same with a server whose metrics can be read.
    ///
    /// # Errors
    /// When the server does not start or refuses.
    pub(super) async fn move_in_measured(name: &str) -> Result<Self, Failure> {
        Self::move_into(name, LocalServer::start_measured(name).await?).await
    }

    async fn move_into(name: &str, server: LocalServer) -> Result<Self, Failure> {
        let anonymous = Client::open(&server.url(), None, None).await?;
        let session = sign_up(&anonymous, &name.to_lowercase(), name).await?;
        let client = anonymous.with_token(&Token::from(session.session_token))?;
        let address = session.listen_addresses.into_iter().next().ok_or_else(|| {
            Failure::local_fault("NO_ADDRESS", format!("the router of {name} listens nowhere"))
        })?;
        Ok(Self { name: name.to_owned(), server, account_id: session.account_id, client, address })
    }

    /// Connects this person's server to another's.
    ///
    /// # Errors
    /// When the other does not answer.
    pub(super) async fn connect_to(&self, other: &Resident) -> Result<(), Failure> {
        let request = api::ConnectPeerRequest { peer_address: other.address.clone() };
        let call = || async { self.client.network().connect_peer(request.clone()).await };
        self.client.call(SLOW_CALL_DEADLINE, call).await.map(drop)
    }

    /// Accepts a message on this person's server.
    ///
    /// # Errors
    /// When the server refuses.
    pub(super) async fn send(&self, channel_id: &str, text: String) -> Result<api::Message, Failure> {
        let request = api::SendMessageRequest {
            channel_id: channel_id.to_owned(),
            text,
            request_id: Uuid::new_v4().to_string(),
            ..Default::default()
        };
        let call = || async { self.client.messages().send_message(request.clone()).await };
        self.client.call(CALL_DEADLINE, call).await
    }
}

/// A space and its first channel, known to all of its members.
#[derive(Debug, Clone)]
pub(super) struct Room {
    /// The space.
    pub space_id: String,
    /// Its channel `general`.
    pub channel_id: String,
}

/// Creates an account with a random password; waits when the server asks to.
///
/// # Errors
/// When the server refuses.
pub(super) async fn sign_up(
    client: &Client,
    username: &str,
    display_name: &str,
) -> Result<api::Session, Failure> {
    let request = api::CreateProfileRequest {
        username: username.to_owned(),
        password: Uuid::new_v4().to_string(),
        display_name: display_name.to_owned(),
        device_name: "command line".to_owned(),
        registration_token: String::new(),
        request_id: Uuid::new_v4().to_string(),
    };
    let begun = Instant::now();
    loop {
        let answer = client.auth().create_profile(request.clone()).await;
        match answer {
            Ok(session) => return Ok(session.into_inner()),
            Err(status) => match asked_to_wait(&status) {
                Some(delay) if begun.elapsed() + delay < REGISTRATION_DEADLINE => {
                    tokio::time::sleep(delay).await;
                }
                _ => return Err(Failure::from_status(&status, client.server())),
            },
        }
    }
}

fn asked_to_wait(status: &Status) -> Option<Duration> {
    let retry = status.get_details_retry_info().filter(|_| status.code() == Code::ResourceExhausted)?;
    retry.retry_delay.map(|delay| delay.max(LOOK_AGAIN))
}

/// The owner creates a space and invites; the guests join by link; all hold the same group state, and what
/// they write leaves at once.
///
/// # Errors
/// When a step is refused, or does not complete.
pub(super) async fn found_space(owner: &Resident, guests: &[&Resident], name: &str) -> Result<Room, Failure> {
    let request = api::CreateSpaceRequest {
        name: name.to_owned(),
        description: String::new(),
        send_timing: api::SendTiming::Fast.into(),
        request_id: Uuid::new_v4().to_string(),
    };
    let call = || async { owner.client.spaces().create_space(request.clone()).await };
    let space_id = owner.client.call(CALL_DEADLINE, call).await?.space_id;
    let link = invite(owner, &space_id, guests.len()).await?;
    try_join_all(guests.iter().map(|guest| join(&guest.client, &guest.name, &space_id, &link))).await?;
    let channels = listing::channels(&owner.client, &space_id).await?;
    let channel_id = channels.into_iter().next().map(|channel| channel.channel_id).unwrap_or_default();
    let room = Room { space_id, channel_id };
    let all = || guests.iter().copied().chain([owner]);
    try_join(try_join_all(all().map(|person| knows(person, &room))), agree(owner, guests, &room.space_id))
        .await?;
    Ok(room)
}

/// A link that lets so many in.
///
/// # Errors
/// When the server refuses.
pub(super) async fn invite(owner: &Resident, space_id: &str, uses: usize) -> Result<String, Failure> {
    let request = api::CreateInviteRequest {
        space_id: space_id.to_owned(),
        max_uses: u32::try_from(uses).unwrap_or(1),
        request_id: Uuid::new_v4().to_string(),
        ..Default::default()
    };
    let call = || async { owner.client.spaces().create_invite(request.clone()).await };
    Ok(owner.client.call(CALL_DEADLINE, call).await?.link)
}

/// Joins by link, and waits until that is done.
///
/// # Errors
/// When the server refuses, or it does not complete.
pub(super) async fn join(guest: &Client, name: &str, space_id: &str, link: &str) -> Result<(), Failure> {
    let request =
        api::JoinSpaceRequest { invite_link: link.to_owned(), request_id: Uuid::new_v4().to_string() };
    let call = || async { guest.spaces().join_space(request.clone()).await };
    guest.call(SLOW_CALL_DEADLINE, call).await?;
    let what = format!("{name} is in the space");
    eventually(&what, || async { space::get(guest, space_id.to_owned()).await.ok() }).await?;
    let request = api::UpdateSpaceRequest {
        space_id: space_id.to_owned(),
        send_timing: api::SendTiming::Fast.into(),
        ..Default::default()
    };
    let call = || async { guest.spaces().update_space(request.clone()).await };
    guest.call(CALL_DEADLINE, call).await.map(drop)
}

async fn knows(person: &Resident, room: &Room) -> Result<(), Failure> {
    let what = format!("{} knows the channel", person.name);
    eventually(&what, || async {
        let channels = listing::channels(&person.client, &room.space_id).await.ok()?;
        channels.iter().any(|channel| channel.channel_id == room.channel_id).then_some(())
    })
    .await
}

/// Waits until all hold the same group state with all of them in it.
///
/// # Errors
/// When that does not come true.
pub(super) async fn agree(owner: &Resident, guests: &[&Resident], space_id: &str) -> Result<(), Failure> {
    let everyone = guests.len() + 1;
    eventually("everyone holds the same group state", || async {
        let people = guests.iter().copied().chain([owner]);
        let spaces = try_join_all(people.map(|person| space::get(&person.client, space_id.to_owned())));
        same_state(&spaces.await.ok()?, everyone).then_some(())
    })
    .await
}

fn same_state(spaces: &[api::Space], members: usize) -> bool {
    let check = |space: &api::Space| space.group.as_ref().map(|group| group.check.clone());
    let mut checks = spaces.iter().map(check);
    let first = checks.next().flatten();
    first.is_some()
        && checks.all(|check| check == first)
        && spaces.iter().all(|space| usize::try_from(space.member_count).is_ok_and(|n| n == members))
}

/// Looks until the condition is true.
///
/// # Errors
/// With the condition's words, when it is not within [`CONDITION_DEADLINE`].
pub(super) async fn eventually<T, F, Fut>(what: &str, probe: F) -> Result<T, Failure>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let looking = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(CONDITION_DEADLINE, looking).await.map_err(|_| never(what))
}

/// A condition that did not come true.
pub(super) fn never(what: &str) -> Failure {
    let seconds = CONDITION_DEADLINE.as_secs();
    Failure::local_fault("CONDITION_MISSED", format!("not true within {seconds} s: {what}"))
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn space(check: &str, member_count: u32) -> api::Space {
        let group = api::GroupState { check: check.into(), ..Default::default() };
        api::Space { member_count, group: Some(group), ..Default::default() }
    }

    #[test]
    fn agreement_needs_equal_checks_and_all_members() {
        assert!(same_state(&[space("aa", 2), space("aa", 2)], 2));
        assert!(!same_state(&[space("aa", 2), space("bb", 2)], 2));
        assert!(!same_state(&[space("aa", 1), space("aa", 1)], 2));
        assert!(!same_state(&[], 0));
    }

    #[test]
    fn only_a_limit_with_a_delay_is_waited_for() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(2)));
        let limited = Status::with_error_details(Code::ResourceExhausted, "slow down", details);
        assert_eq!(asked_to_wait(&limited), Some(Duration::from_secs(2)));
        assert_eq!(asked_to_wait(&Status::resource_exhausted("full")), None);
    }

    #[tokio::test]
    async fn a_condition_is_looked_at_until_it_is_true() {
        let looks = std::cell::Cell::new(0);
        let probe = || async {
            looks.set(looks.get() + 1);
            (looks.get() == 3).then_some("found")
        };
        assert_eq!(eventually("it is there", probe).await.unwrap(), "found");
        assert!(never("the sky is green").message.contains("the sky is green"));
    }
}
