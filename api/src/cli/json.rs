//! The API's messages as JSON: field names and enum names as in the `.proto` files.
//!
//! Scripts depend on these shapes: add fields, never rename one.

use std::time::SystemTime;

use prost_types::Timestamp;
use serde_json::{Map, Value, json};
use spacepanda_proto::api::v1 as api;

/// A message as the JSON that `--json` prints.
pub(super) trait ToJson {
    /// Its fields in snake_case.
    fn to_json(&self) -> Value;
}

/// Each item's JSON.
pub(super) fn list<T: ToJson>(items: &[T]) -> Value {
    items.iter().map(ToJson::to_json).collect()
}

fn optional<T: ToJson>(item: Option<&T>) -> Value {
    item.map_or(Value::Null, ToJson::to_json)
}

fn time(stamp: Option<&Timestamp>) -> Value {
    stamp
        .and_then(|stamp| SystemTime::try_from(*stamp).ok())
        .map_or(Value::Null, |at| humantime::format_rfc3339_millis(at).to_string().into())
}

fn milliseconds(span: Option<&prost_types::Duration>) -> Value {
    let span = span.and_then(|span| std::time::Duration::try_from(*span).ok());
    span.and_then(|span| u64::try_from(span.as_millis()).ok()).map_or(Value::Null, Value::from)
}

impl ToJson for api::Space {
    fn to_json(&self) -> Value {
        json!({
            "space_id": self.space_id,
            "name": self.name,
            "description": self.description,
            "owner_id": self.owner_id,
            "my_role": self.my_role().as_str_name(),
            "member_count": self.member_count,
            "created_at": time(self.created_at.as_ref()),
            "group": optional(self.group.as_ref()),
            "send_timing": self.send_timing().as_str_name(),
        })
    }
}

impl ToJson for api::GroupState {
    fn to_json(&self) -> Value {
        json!({
            "epoch": self.epoch,
            "state_id": self.state_id,
            "check": self.check,
            "health": self.health().as_str_name(),
            "health_detail": self.health_detail,
            "head": self.head,
            "retained_epochs": self.retained_epochs,
            "oldest_retained_age_ms": milliseconds(self.oldest_retained_age.as_ref()),
            "members_behind": self.members_behind,
            "waiting_changes": self.waiting_changes,
            "repair_in_progress": self.repair_in_progress,
            "summary": self.summary,
        })
    }
}

impl ToJson for api::Channel {
    fn to_json(&self) -> Value {
        json!({
            "channel_id": self.channel_id,
            "space_id": self.space_id,
            "name": self.name,
            "topic": self.topic,
            "visibility": self.visibility().as_str_name(),
            "archived": self.archived,
        })
    }
}

impl ToJson for api::Member {
    fn to_json(&self) -> Value {
        json!({
            "account_id": self.account_id,
            "display_name": self.display_name,
            "role": self.role().as_str_name(),
            "joined_at": time(self.joined_at.as_ref()),
            "presence": self.presence().as_str_name(),
        })
    }
}

impl ToJson for api::Invite {
    fn to_json(&self) -> Value {
        json!({
            "invite_id": self.invite_id,
            "link": self.link,
            "expires_at": time(self.expires_at.as_ref()),
            "uses_left": self.uses_left,
            "warning": self.warning,
        })
    }
}

impl ToJson for api::Peer {
    fn to_json(&self) -> Value {
        json!({
            "peer_id": self.peer_id,
            "addresses": self.addresses,
            "state": self.state().as_str_name(),
            "direction": self.direction().as_str_name(),
            "relayed": self.relayed,
            "round_trip_ms": self.round_trip_ms,
            "account_id": self.account_id,
            "last_seen_at": time(self.last_seen_at.as_ref()),
        })
    }
}

impl ToJson for api::NetworkStatus {
    fn to_json(&self) -> Value {
        json!({
            "peer_id": self.peer_id,
            "listen_addresses": self.listen_addresses,
            "external_addresses": self.external_addresses,
            "connected_peers": self.connected_peers,
            "queued_messages": self.queued_messages,
            "nat": self.nat().as_str_name(),
        })
    }
}

impl ToJson for api::Delivery {
    fn to_json(&self) -> Value {
        json!({
            "state": self.state().as_str_name(),
            "delivered_to": self.delivered_to,
            "recipients": self.recipients,
            "reason": self.reason,
        })
    }
}

impl ToJson for api::Message {
    fn to_json(&self) -> Value {
        let reaction = |r: &api::Reaction| json!({"emoji": r.emoji, "account_ids": r.account_ids});
        let attachment = |a: &api::Attachment| json!({"attachment_id": a.attachment_id});
        json!({
            "message_id": self.message_id,
            "channel_id": self.channel_id,
            "space_id": self.space_id,
            "sender_id": self.sender_id,
            "sender_display_name": self.sender_display_name,
            "text": self.text,
            "sent_at": time(self.sent_at.as_ref()),
            "received_at": time(self.received_at.as_ref()),
            "edited_at": time(self.edited_at.as_ref()),
            "deleted": self.deleted,
            "reply_to_message_id": self.reply_to_message_id,
            "reactions": self.reactions.iter().map(reaction).collect::<Value>(),
            "attachments": self.attachments.iter().map(attachment).collect::<Value>(),
            "delivery": optional(self.delivery.as_ref()),
            "mine": self.mine,
        })
    }
}

impl ToJson for api::JoinSpaceResponse {
    fn to_json(&self) -> Value {
        json!({"space": optional(self.space.as_ref()), "state": self.state().as_str_name()})
    }
}

impl ToJson for api::Event {
    fn to_json(&self) -> Value {
        let mut event = Map::new();
        event.insert("seq".into(), self.seq.into());
        event.insert("at".into(), time(self.at.as_ref()));
        if let Some(kind) = &self.kind {
            let (name, value) = event_kind(kind);
            event.insert(name.into(), value);
        }
        Value::Object(event)
    }
}

fn event_kind(kind: &api::event::Kind) -> (&'static str, Value) {
    use api::event::Kind;
    match kind {
        Kind::MessageAdded(e) => ("message_added", json!({"message": optional(e.message.as_ref())})),
        Kind::MessageChanged(e) => ("message_changed", json!({"message": optional(e.message.as_ref())})),
        Kind::DeliveryChanged(e) => {
            let delivery = optional(e.delivery.as_ref());
            let ids = (&e.message_id, &e.channel_id, &e.space_id);
            let value =
                json!({"message_id": ids.0, "channel_id": ids.1, "space_id": ids.2, "delivery": delivery});
            ("delivery_changed", value)
        }
        Kind::MemberChanged(e) => {
            let member = optional(e.member.as_ref());
            let change = e.change().as_str_name();
            ("member_changed", json!({"space_id": e.space_id, "member": member, "change": change}))
        }
        Kind::SpaceChanged(e) => {
            ("space_changed", json!({"space": optional(e.space.as_ref()), "gone": e.gone}))
        }
        Kind::ChannelChanged(e) => ("channel_changed", json!({"channel": optional(e.channel.as_ref())})),
        Kind::JoinProgress(e) => {
            let state = e.state().as_str_name();
            ("join_progress", json!({"space_id": e.space_id, "state": state, "reason": e.reason}))
        }
        Kind::PeerChanged(e) => ("peer_changed", json!({"peer": optional(e.peer.as_ref())})),
        Kind::GroupHealth(e) => {
            let (health, group) = (e.health().as_str_name(), optional(e.group.as_ref()));
            let told = json!({"space_id": e.space_id, "health": health, "detail": e.detail, "group": group});
            ("group_health", told)
        }
        Kind::FeedReset(e) => ("feed_reset", json!({"oldest_seq": e.oldest_seq})),
        Kind::CaughtUp(e) => ("caught_up", json!({"seq": e.seq})),
        Kind::KeepAlive(_) => ("keep_alive", json!({})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn a_message_has_the_fields_of_the_proto() {
        let message = api::Message {
            message_id: "ab".into(),
            sent_at: Some(Timestamp { seconds: 1, nanos: 500_000_000 }),
            delivery: Some(api::Delivery {
                state: api::DeliveryState::Sent.into(),
                delivered_to: 1,
                recipients: 2,
                reason: String::new(),
            }),
            mine: true,
            ..Default::default()
        };
        let value = message.to_json();
        assert_eq!(value["sent_at"], "1970-01-01T00:00:01.500Z");
        assert_eq!(value["received_at"], Value::Null);
        assert_eq!(value["delivery"]["state"], "DELIVERY_STATE_SENT");
        let mut expected = [
            "message_id",
            "channel_id",
            "space_id",
            "sender_id",
            "sender_display_name",
            "text",
            "sent_at",
            "received_at",
            "edited_at",
            "deleted",
            "reply_to_message_id",
            "reactions",
            "attachments",
            "delivery",
            "mine",
        ];
        expected.sort_unstable();
        assert_eq!(keys(&value), expected);
    }

    #[test]
    fn an_unknown_enum_number_is_unspecified() {
        let space = api::Space { my_role: 99, ..Default::default() };
        assert_eq!(space.to_json()["my_role"], "ROLE_UNSPECIFIED");
    }

    #[test]
    fn an_event_names_its_kind() {
        let kind = api::event::Kind::CaughtUp(api::CaughtUp { seq: 7 });
        let event = api::Event { seq: 7, at: None, kind: Some(kind) };
        assert_eq!(event.to_json(), json!({"seq": 7, "at": null, "caught_up": {"seq": 7}}));
        let empty = api::Event::default();
        assert_eq!(keys(&empty.to_json()), ["at", "seq"], "a kind from a newer server is left out");
    }
}
