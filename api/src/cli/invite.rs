//! Invites and joining by link.

use std::time::{Duration, SystemTime};

use serde_json::json;
use spacepanda_proto::api::v1::{self as api, JoinState, event::Kind};
use uuid::Uuid;

use super::{
    connect::{CALL_DEADLINE, Client, SLOW_CALL_DEADLINE},
    failure::{Failure, Outcome},
    feed::Feed,
    json::ToJson as _,
    options::duration,
    output::{Output, bold, printable_line, until},
    resolve, space,
};

/// Arguments of `space invite`.
#[derive(Debug, Clone, clap::Args)]
pub struct Invite {
    /// The space: its name, id, or the start of its id
    space: String,
    /// How many accounts may join with it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    uses: u32,
    /// How long it can be used, such as 30m, 12h or 7d
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration)]
    expires: Duration,
    /// The role they get
    #[arg(long, value_name = "ROLE", default_value = "member", value_parser = ["admin", "moderator", "member"])]
    role: String,
}

/// Arguments of `space join`.
#[derive(Debug, Clone, clap::Args)]
pub struct Join {
    /// The link, beginning with `spacepanda:`
    link: String,
    /// Wait until joined, for 30 s or the time given
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30s",
        value_parser = duration
    )]
    wait: Option<Duration>,
}

/// Makes an invite.
///
/// # Errors
/// When the server refuses, or cannot be reached.
pub(super) async fn create(client: &Client, out: Output, args: Invite) -> Result<(), Failure> {
    let expires_in =
        prost_types::Duration::try_from(args.expires).map_err(|_| Failure::usage("--expires is too long"))?;
    let request = api::CreateInviteRequest {
        space_id: resolve::space(client, &args.space).await?,
        max_uses: args.uses,
        expires_in: Some(expires_in),
        role: granted(&args.role).into(),
        request_id: Uuid::new_v4().to_string(),
    };
    let call = || async { client.spaces().create_invite(request.clone()).await };
    let invite = client.call(CALL_DEADLINE, call).await?;
    out.show(|| invite.to_json(), || described(&invite))
}

fn granted(role: &str) -> api::Role {
    match role {
        "admin" => api::Role::Admin,
        "moderator" => api::Role::Moderator,
        _ => api::Role::Member,
    }
}

fn described(invite: &api::Invite) -> String {
    let expires = until(invite.expires_at.as_ref(), SystemTime::now());
    let mut lines = vec![
        invite.link.clone(),
        String::new(),
        format!("Whoever holds this link can join; it expires {expires}, uses left: {}.", invite.uses_left),
        format!("Revoke it with: spacepanda space revoke {}", invite.invite_id),
    ];
    if !invite.warning.is_empty() {
        lines.push(format!("Warning: {}", printable_line(&invite.warning)));
    }
    lines.join("\n")
}

/// Revokes an invite.
///
/// # Errors
/// When the server refuses, or cannot be reached.
pub(super) async fn revoke(client: &Client, out: Output, invite_id: String) -> Result<(), Failure> {
    let request = api::RevokeInviteRequest { invite_id: invite_id.clone() };
    client.call(CALL_DEADLINE, || async { client.spaces().revoke_invite(request.clone()).await }).await?;
    out.show(|| json!({"invite_id": invite_id, "revoked": true}), || "Revoked.".to_owned())
}

/// Joins by link.
///
/// # Errors
/// When the join ended without success, or the server cannot be reached.
pub(super) async fn join(client: &Client, out: Output, args: Join) -> Result<Outcome, Failure> {
    // The position comes first, so that a join that completes at once is not missed.
    let feed = match args.wait {
        Some(wait) => Some((Feed::from_now(client).await?, wait)),
        None => None,
    };
    let request = api::JoinSpaceRequest { invite_link: args.link, request_id: Uuid::new_v4().to_string() };
    let call = || async { client.spaces().join_space(request.clone()).await };
    let mut joined = client.call(SLOW_CALL_DEADLINE, call).await?;
    let space_id = joined.space.as_ref().map(|space| space.space_id.clone()).unwrap_or_default();
    if let (JoinState::Pending, Some((feed, wait))) = (joined.state(), feed)
        && completed(feed, &space_id, wait).await?
    {
        joined.space = Some(space::get(client, space_id).await?);
        joined.set_state(JoinState::Joined);
    }
    if joined.state() == JoinState::Failed {
        return Err(Failure::ended("JOIN_FAILED", "the join ended without success"));
    }
    out.show(|| joined.to_json(), || told(&joined))?;
    Ok(if joined.state() == JoinState::Joined { Outcome::Done } else { Outcome::Pending })
}

async fn completed(mut feed: Feed, space_id: &str, wait: Duration) -> Result<bool, Failure> {
    let progress = async {
        loop {
            let event = feed.next().await?;
            match join_progress(&event, space_id) {
                Some((JoinState::Joined, _)) => return Ok(()),
                Some((JoinState::Failed, reason)) => {
                    return Err(Failure::ended(reason, format!("the join ended: {reason}")));
                }
                _ => {}
            }
        }
    };
    match tokio::time::timeout(wait, progress).await {
        Ok(result) => result.map(|()| true),
        Err(_) => Ok(false),
    }
}

fn join_progress<'a>(event: &'a api::Event, space_id: &str) -> Option<(JoinState, &'a str)> {
    match &event.kind {
        Some(Kind::JoinProgress(progress)) if progress.space_id == space_id => {
            Some((progress.state(), &progress.reason))
        }
        _ => None,
    }
}

fn told(joined: &api::JoinSpaceResponse) -> String {
    match (joined.state(), &joined.space) {
        (JoinState::Joined, Some(space)) => {
            format!("You are in {} ({}).", bold(&printable_line(&space.name)), space.space_id)
        }
        _ => "Pending: the inviter cannot be reached yet; the join completes by itself.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(space_id: &str, state: JoinState) -> api::Event {
        let kind = Kind::JoinProgress(api::JoinProgress {
            space_id: space_id.into(),
            state: state.into(),
            reason: "INVITE_EXPIRED".into(),
        });
        api::Event { kind: Some(kind), ..Default::default() }
    }

    #[test]
    fn only_the_joined_space_counts() {
        let failed = progress("a", JoinState::Failed);
        assert_eq!(join_progress(&failed, "a"), Some((JoinState::Failed, "INVITE_EXPIRED")));
        assert_eq!(join_progress(&failed, "b"), None);
    }

    #[test]
    fn a_pending_join_says_that_it_completes_later() {
        let mut joined = api::JoinSpaceResponse { space: None, state: JoinState::Pending.into() };
        assert!(told(&joined).starts_with("Pending"));
        joined.set_state(JoinState::Joined);
        joined.space = Some(api::Space { name: "Garden".into(), ..Default::default() });
        assert!(told(&joined).contains("Garden"));
    }
}
