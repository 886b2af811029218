//! Messages on the wire.

use prost::Message as _;
use spacepanda_core::{
    id::{ChannelId, EventId},
    model::{Delivery, DeliveryState, Message, MessagePage, Page},
};
use spacepanda_proto::api::v1 as wire;
use uuid::Uuid;

use super::{FromWire, IntoWire, field, page};
use crate::status::Refusal;

/// Bytes of messages in a page; clients refuse answers over 4 MiB unless told otherwise.
const MAX_PAGE_BYTES: usize = 3 * 1024 * 1024;

/// A checked SendMessage.
pub(crate) struct SendMessage {
    pub(crate) request: Option<Uuid>,
    pub(crate) channel: ChannelId,
    pub(crate) text: String,
    pub(crate) reply_to: Option<EventId>,
}

/// A checked ListMessages.
#[derive(Debug)]
pub(crate) struct ListMessages {
    pub(crate) channel: ChannelId,
    pub(crate) page: Page,
    pub(crate) limit: u32,
}

impl FromWire<wire::SendMessageRequest> for SendMessage {
    fn from_wire(wire: wire::SendMessageRequest) -> Result<Self, Refusal> {
        if !wire.attachment_ids.is_empty() {
            let what = "attachments are not supported yet";
            return Err(Refusal::bad_field("ATTACHMENTS_UNSUPPORTED", "attachment_ids", what));
        }
        Ok(Self {
            request: field::request_id(&wire.request_id)?,
            channel: channel_id(&wire.channel_id)?,
            text: field::text("text", wire.text)?,
            reply_to: field::optional_message("reply_to_message_id", &wire.reply_to_message_id)?,
        })
    }
}

impl FromWire<wire::ListMessagesRequest> for ListMessages {
    fn from_wire(wire: wire::ListMessagesRequest) -> Result<Self, Refusal> {
        let before = field::optional_message("before_message_id", &wire.before_message_id)?;
        let after = field::optional_message("after_message_id", &wire.after_message_id)?;
        let page = match (before, after) {
            (None, None) => Page::Latest,
            (Some(before), None) => Page::Before(before),
            (None, Some(after)) => Page::After(after),
            (Some(_), Some(_)) => {
                return Err(Refusal::field("after_message_id", "cannot be given with before_message_id"));
            }
        };
        // At most 200, see `page::size`.
        let limit = u32::try_from(page::size(wire.page_size)).unwrap_or(u32::MAX);
        Ok(Self { channel: channel_id(&wire.channel_id)?, page, limit })
    }
}

fn channel_id(text: &str) -> Result<ChannelId, Refusal> {
    field::uuid("channel_id", text).map(ChannelId::from)
}

impl IntoWire for DeliveryState {
    type Wire = wire::DeliveryState;

    fn into_wire(self) -> wire::DeliveryState {
        match self {
            Self::Queued => wire::DeliveryState::Queued,
            Self::Sent => wire::DeliveryState::Sent,
            Self::Delivered => wire::DeliveryState::Delivered,
            Self::Failed => wire::DeliveryState::Failed,
        }
    }
}

impl IntoWire for Delivery {
    type Wire = wire::Delivery;

    fn into_wire(self) -> wire::Delivery {
        wire::Delivery {
            state: self.state.into_wire().into(),
            delivered_to: self.delivered_to,
            recipients: self.recipients,
            reason: self.reason,
        }
    }
}

impl IntoWire for Message {
    type Wire = wire::Message;

    fn into_wire(self) -> wire::Message {
        wire::Message {
            message_id: self.id.to_string(),
            channel_id: self.channel.to_string(),
            space_id: self.space.to_string(),
            sender_id: self.sender.to_string(),
            sender_display_name: self.sender_display_name,
            text: self.text,
            sent_at: Some(self.sent_at.into()),
            received_at: Some(self.received_at.into()),
            edited_at: None,
            deleted: false,
            reply_to_message_id: self.reply_to.map(|id| id.to_string()).unwrap_or_default(),
            reactions: Vec::new(),
            attachments: Vec::new(),
            mine: self.delivery.is_some(),
            delivery: self.delivery.map(IntoWire::into_wire),
        }
    }
}

/// Makes a page, cut to what a client can take: the messages nearest to where it started stay.
pub(crate) fn history(found: MessagePage, asked: Page) -> wire::ListMessagesResponse {
    let mut messages: Vec<_> = found.messages.into_iter().map(IntoWire::into_wire).collect();
    let newest_first = !matches!(asked, Page::After(_));
    let fitting = if newest_first { fitting(messages.iter().rev()) } else { fitting(messages.iter()) };
    let cut = messages.len() - fitting;
    if newest_first {
        messages.drain(..cut);
    } else {
        messages.truncate(fitting);
    }
    wire::ListMessagesResponse { messages, has_more: found.has_more || cut > 0 }
}

/// How many of these fit into a page, one at least.
fn fitting<'a>(messages: impl Iterator<Item = &'a wire::Message>) -> usize {
    let ends = messages.scan(0, |total, message| {
        *total += message.encoded_len();
        Some(*total)
    });
    ends.enumerate().take_while(|(index, end)| *index == 0 || *end <= MAX_PAGE_BYTES).count()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use spacepanda_core::id::{AccountId, GroupId};

    use super::*;
    use crate::wire::field::refused_field;

    const CHANNEL: &str = "0190d9a8-5c4e-4d3f-8b7a-1c2d3e4f5a6b";

    fn send() -> wire::SendMessageRequest {
        wire::SendMessageRequest { channel_id: CHANNEL.into(), text: "hello".into(), ..Default::default() }
    }

    fn message(number: u8, bytes: usize) -> Message {
        Message {
            id: EventId([number; 32]),
            channel: ChannelId([1; 16]),
            space: GroupId([2; 16]),
            sender: AccountId([3; 32]),
            sender_display_name: "Bob".into(),
            text: "x".repeat(bytes),
            sent_at: SystemTime::UNIX_EPOCH,
            received_at: SystemTime::UNIX_EPOCH,
            reply_to: None,
            delivery: None,
        }
    }

    fn page(count: u8, bytes: usize) -> MessagePage {
        MessagePage { messages: (0..count).map(|n| message(n, bytes)).collect(), has_more: false }
    }

    #[test]
    fn bad_fields_are_named() {
        assert!(SendMessage::from_wire(send()).is_ok());
        for (name, change) in [
            ("text", wire::SendMessageRequest { text: String::new(), ..send() }),
            ("text", wire::SendMessageRequest { text: "a".repeat(32 * 1024 + 1), ..send() }),
            ("channel_id", wire::SendMessageRequest { channel_id: "general".into(), ..send() }),
            ("request_id", wire::SendMessageRequest { request_id: "?".into(), ..send() }),
            ("reply_to_message_id", wire::SendMessageRequest { reply_to_message_id: "?".into(), ..send() }),
            ("attachment_ids", wire::SendMessageRequest { attachment_ids: vec!["a".into()], ..send() }),
        ] {
            assert_eq!(refused_field(SendMessage::from_wire(change)), name);
        }
    }

    #[test]
    fn a_page_has_one_bound_at_most() {
        let id = "ab".repeat(32);
        let list = |before: &str, after: &str| {
            ListMessages::from_wire(wire::ListMessagesRequest {
                channel_id: CHANNEL.into(),
                page_size: 0,
                before_message_id: before.into(),
                after_message_id: after.into(),
            })
        };
        let latest = list("", "").unwrap();
        assert_eq!((latest.page, latest.limit), (Page::Latest, 50));
        assert_eq!(list(&id, "").unwrap().page, Page::Before(EventId([0xab; 32])));
        assert_eq!(list("", &id).unwrap().page, Page::After(EventId([0xab; 32])));
        assert_eq!(refused_field(list(&id, &id)), "after_message_id");
        assert_eq!(refused_field(list("x", "")), "before_message_id");
    }

    #[test]
    fn small_pages_stay_whole() {
        let answer = history(page(200, 100), Page::Latest);
        assert_eq!((answer.messages.len(), answer.has_more), (200, false));
    }

    #[test]
    fn large_pages_keep_what_is_nearest() {
        let latest = history(page(200, 32 * 1024), Page::Latest);
        assert!(latest.has_more && latest.encoded_len() <= 4 * 1024 * 1024);
        assert_eq!(latest.messages.last().unwrap().message_id, EventId([199; 32]).to_string());

        let after = history(page(200, 32 * 1024), Page::After(EventId([9; 32])));
        assert!(after.has_more && after.encoded_len() <= 4 * 1024 * 1024);
        assert_eq!(after.messages.first().unwrap().message_id, EventId([0; 32]).to_string());
        assert_eq!(after.messages.len(), latest.messages.len());
    }

    #[test]
    fn only_own_messages_have_a_delivery() {
        let delivery =
            Delivery { state: DeliveryState::Sent, delivered_to: 1, recipients: 2, reason: String::new() };
        let own = Message { delivery: Some(delivery), ..message(1, 1) }.into_wire();
        assert!(own.mine);
        assert_eq!(own.delivery.unwrap().state(), wire::DeliveryState::Sent);
        assert!(!message(1, 1).into_wire().mine);
    }
}
