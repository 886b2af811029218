//! The event stream on the wire.

use std::time::SystemTime;

use spacepanda_core::model::{Change, FeedItem, MemberChange};
use spacepanda_proto::api::v1::{self as wire, event::Kind};

use super::IntoWire;
use crate::status::join_failure_reason;

impl IntoWire for FeedItem {
    type Wire = wire::Event;

    fn into_wire(self) -> wire::Event {
        wire::Event { seq: self.seq, at: Some(self.at.into()), kind: Some(self.change.into_wire()) }
    }
}

impl IntoWire for MemberChange {
    type Wire = wire::MemberChange;

    fn into_wire(self) -> wire::MemberChange {
        match self {
            Self::Joined => wire::MemberChange::Joined,
            Self::Left => wire::MemberChange::Left,
            Self::Removed => wire::MemberChange::Removed,
            Self::Updated => wire::MemberChange::Updated,
        }
    }
}

impl IntoWire for Change {
    type Wire = Kind;

    fn into_wire(self) -> Kind {
        match self {
            Self::MessageAdded(message) => {
                Kind::MessageAdded(wire::MessageAdded { message: Some(message.into_wire()) })
            }
            Self::DeliveryChanged { message, channel, space, delivery } => {
                Kind::DeliveryChanged(wire::DeliveryChanged {
                    message_id: message.to_string(),
                    channel_id: channel.to_string(),
                    space_id: space.to_string(),
                    delivery: Some(delivery.into_wire()),
                })
            }
            Self::MemberChanged { space, member, change } => Kind::MemberChanged(wire::MemberChanged {
                space_id: space.to_string(),
                member: Some(member.into_wire()),
                change: change.into_wire().into(),
            }),
            Self::SpaceChanged(space) => {
                Kind::SpaceChanged(wire::SpaceChanged { space: Some(space.into_wire()), gone: false })
            }
            Self::SpaceGone(id) => {
                let space = wire::Space { space_id: id.to_string(), ..Default::default() };
                Kind::SpaceChanged(wire::SpaceChanged { space: Some(space), gone: true })
            }
            Self::ChannelChanged(channel) => {
                Kind::ChannelChanged(wire::ChannelChanged { channel: Some(channel.into_wire()) })
            }
            Self::JoinProgress { space, joined, failure } => {
                let state = match (joined, failure) {
                    (true, _) => wire::JoinState::Joined,
                    (false, None) => wire::JoinState::Pending,
                    (false, Some(_)) => wire::JoinState::Failed,
                };
                let reason = failure.map(join_failure_reason).unwrap_or_default().to_owned();
                Kind::JoinProgress(wire::JoinProgress {
                    space_id: space.to_string(),
                    state: state.into(),
                    reason,
                })
            }
            Self::PeerChanged(peer) => Kind::PeerChanged(wire::PeerChanged { peer: Some(peer.into_wire()) }),
            Self::GroupHealth { space, health, detail, group } => {
                Kind::GroupHealth(wire::GroupHealthChanged {
                    space_id: space.to_string(),
                    health: health.into_wire().into(),
                    detail,
                    group: group.map(|group| group.into_wire()),
                })
            }
        }
    }
}

/// Rows that were asked for are gone.
pub(crate) fn feed_reset(oldest_seq: u64) -> wire::Event {
    now(0, Kind::FeedReset(wire::FeedReset { oldest_seq }))
}

/// Everything stored up to `seq` was sent.
pub(crate) fn caught_up(seq: u64) -> wire::Event {
    now(seq, Kind::CaughtUp(wire::CaughtUp { seq }))
}

/// Nothing happened after `seq`, and the stream is alive.
pub(crate) fn keep_alive(seq: u64) -> wire::Event {
    now(seq, Kind::KeepAlive(wire::KeepAlive {}))
}

fn now(seq: u64, kind: Kind) -> wire::Event {
    wire::Event { seq, at: Some(SystemTime::now().into()), kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use spacepanda_core::{id::GroupId, model::JoinFailure};

    use super::*;

    fn progress(joined: bool, failure: Option<JoinFailure>) -> (wire::JoinState, String) {
        let change = Change::JoinProgress { space: GroupId([1; 16]), joined, failure };
        match change.into_wire() {
            Kind::JoinProgress(progress) => (progress.state(), progress.reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn joins_say_how_they_ended() {
        assert_eq!(progress(true, None), (wire::JoinState::Joined, String::new()));
        assert_eq!(progress(false, None), (wire::JoinState::Pending, String::new()));
        let failed = progress(false, Some(JoinFailure::UsedUp));
        assert_eq!(failed, (wire::JoinState::Failed, "INVITE_USED_UP".to_owned()));
    }

    #[test]
    fn a_space_that_is_gone_keeps_its_id() {
        let Kind::SpaceChanged(changed) = Change::SpaceGone(GroupId([1; 16])).into_wire() else {
            panic!("another kind");
        };
        assert!(changed.gone);
        assert_eq!(changed.space.unwrap().space_id, GroupId([1; 16]).to_string());
    }

    #[test]
    fn what_is_no_row_repeats_the_cursor() {
        assert_eq!([feed_reset(7).seq, caught_up(7).seq, keep_alive(7).seq], [0, 7, 7]);
    }
}
