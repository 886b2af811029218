//! Sending and reading messages. Following a channel live is in `follow`.

use std::{
    io::Read as _,
    time::{Duration, SystemTime},
};

use owo_colors::Style;
use serde_json::json;
use spacepanda_proto::api::v1::{self as api, DeliveryState, event::Kind};
use uuid::Uuid;

use super::{
    connect::{CALL_DEADLINE, Client},
    failure::{Failure, Outcome},
    feed::Feed,
    follow,
    json::{self, ToJson as _},
    listing,
    output::{Output, ago, dim, paint, printable, printable_line, short},
    resolve,
};

/// Bytes of the longest text.
const TEXT_LIMIT: u64 = 32 * 1024;
/// How long `send --wait-sent` waits.
const SENT_DEADLINE: Duration = Duration::from_secs(30);

/// Arguments of `send`.
#[derive(Debug, Clone, clap::Args)]
pub struct Send {
    /// The channel: `channel` or `space/channel`, its id, or the start of its id
    channel: String,
    /// The text; `-` reads it from standard input
    #[arg(required = true, value_name = "TEXT")]
    text: Vec<String>,
    /// The message this answers: its id, or the start of a recent one's
    #[arg(long, value_name = "ID")]
    reply_to: Option<String>,
    /// Wait until a member's server has stored it, for at most 30 s
    #[arg(long)]
    wait_sent: bool,
}

/// Arguments of `read`.
#[derive(Debug, Clone, clap::Args)]
pub struct Read {
    /// The channel: `channel` or `space/channel`, its id, or the start of its id
    channel: String,
    /// How many messages
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Only those before this message: its id, or the start of a recent one's
    #[arg(long, value_name = "ID", conflicts_with = "follow")]
    before: Option<String>,
    /// Go on with new messages as they come
    #[arg(long, short)]
    follow: bool,
}

/// Sends a message.
///
/// # Errors
/// When the server refuses, or cannot be reached.
pub(super) async fn send(client: &Client, out: Output, args: Send) -> Result<Outcome, Failure> {
    let text = text(args.text)?;
    let channel_id = resolve::channel(client, &args.channel).await?;
    let reply_to_message_id = match args.reply_to {
        Some(argument) => resolve::message(client, &channel_id, &argument).await?,
        None => String::new(),
    };
    let request = api::SendMessageRequest {
        channel_id,
        text,
        request_id: Uuid::new_v4().to_string(),
        reply_to_message_id,
        attachment_ids: Vec::new(),
    };
    // The position comes first, so that a quick delivery is not missed.
    let feed = if args.wait_sent { Some(Feed::from_now(client).await?) } else { None };
    let call = || async { client.messages().send_message(request.clone()).await };
    let mut message = client.call(CALL_DEADLINE, call).await?;
    if let Some(feed) = feed {
        await_sent(feed, &mut message).await?;
    }
    let waits = args.wait_sent && !is_sent(&message);
    out.show(|| message.to_json(), || dim(&sent(&message)))?;
    Ok(if waits { Outcome::Pending } else { Outcome::Done })
}

/// Reads a channel.
///
/// # Errors
/// When the server refuses, or cannot be reached.
pub(super) async fn read(client: &Client, out: Output, args: Read) -> Result<Outcome, Failure> {
    let channel_id = resolve::channel(client, &args.channel).await?;
    if args.follow {
        follow::channel(client, out, &channel_id, args.limit).await?;
        return Ok(Outcome::Done);
    }
    let before = match args.before {
        Some(argument) => resolve::message(client, &channel_id, &argument).await?,
        None => String::new(),
    };
    let (messages, has_more) = listing::history(client, &channel_id, &before, args.limit).await?;
    let document = || json!({"messages": json::list(&messages), "has_more": has_more});
    if out.is_json() || !messages.is_empty() {
        let now = SystemTime::now();
        let text = || messages.iter().map(|message| line(message, now)).collect::<Vec<_>>().join("\n");
        out.show(document, text)?;
    } else {
        out.note("No messages.");
    }
    Ok(Outcome::Done)
}

/// A message for people, on one line and more when its text has more.
pub(super) fn line(message: &api::Message, now: SystemTime) -> String {
    let name_style = if message.mine { Style::new().green().bold() } else { Style::new().cyan().bold() };
    let text = if message.deleted { dim("(deleted)") } else { printable(&message.text) };
    let mut parts = vec![
        dim(&format!("{:>10}", ago(message.sent_at.as_ref(), now))),
        dim(&short(&message.message_id)),
        paint(&printable_line(&message.sender_display_name), name_style),
    ];
    if !message.reply_to_message_id.is_empty() {
        parts.push(dim(&format!("re {}", short(&message.reply_to_message_id))));
    }
    parts.push(text.replace('\n', "\n             "));
    if let Some(delivery) = message.delivery.as_ref().filter(|_| message.mine) {
        parts.push(dim(&progress(delivery)));
    }
    parts.join("  ")
}

/// How far a message has come, in words.
pub(super) fn progress(delivery: &api::Delivery) -> String {
    match delivery.state() {
        DeliveryState::Unspecified => String::new(),
        DeliveryState::Queued => "queued".to_owned(),
        DeliveryState::Sent => format!("sent, {} of {}", delivery.delivered_to, delivery.recipients),
        DeliveryState::Delivered => "delivered".to_owned(),
        DeliveryState::Read => "read".to_owned(),
        DeliveryState::Failed => format!("FAILED: {}", printable_line(&delivery.reason)),
    }
}

fn sent(message: &api::Message) -> String {
    let state = message.delivery.as_ref().map(progress).unwrap_or_default();
    format!("{}  {state}", short(&message.message_id))
}

fn text(words: Vec<String>) -> Result<String, Failure> {
    if words.iter().map(String::as_str).ne(["-"]) {
        return Ok(words.join(" "));
    }
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(TEXT_LIMIT + 2)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("standard input could not be read as text: {error}")))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    if text.len() as u64 > TEXT_LIMIT {
        return Err(Failure::usage("the text on standard input is over 32 KiB"));
    }
    Ok(text.to_owned())
}

fn is_sent(message: &api::Message) -> bool {
    message.delivery.as_ref().is_some_and(|delivery| {
        matches!(delivery.state(), DeliveryState::Sent | DeliveryState::Delivered | DeliveryState::Read)
    })
}

/// Updates `message` from the feed until it was sent, or the time is over.
async fn await_sent(mut feed: Feed, message: &mut api::Message) -> Result<(), Failure> {
    let watch = async {
        while !is_sent(message) {
            fail_if_undeliverable(message)?;
            if let Some(delivery) = delivery_of(feed.next().await?, &message.message_id) {
                message.delivery = Some(delivery);
            }
        }
        Ok(())
    };
    tokio::time::timeout(SENT_DEADLINE, watch).await.unwrap_or(Ok(()))
}

fn fail_if_undeliverable(message: &api::Message) -> Result<(), Failure> {
    match &message.delivery {
        Some(delivery) if delivery.state() == DeliveryState::Failed => {
            Err(Failure::ended("MESSAGE_FAILED", format!("it will not be delivered: {}", delivery.reason)))
        }
        _ => Ok(()),
    }
}

fn delivery_of(event: api::Event, message_id: &str) -> Option<api::Delivery> {
    match event.kind {
        Some(Kind::DeliveryChanged(change)) if change.message_id == message_id => change.delivery,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(state: DeliveryState) -> api::Message {
        let delivery =
            api::Delivery { state: state.into(), delivered_to: 1, recipients: 2, reason: "REMOVED".into() };
        api::Message {
            message_id: "0123456789".into(),
            sender_display_name: "Alice".into(),
            text: "one\ntwo \u{1b}[2J".into(),
            delivery: Some(delivery),
            mine: true,
            ..Default::default()
        }
    }

    #[test]
    fn a_message_shows_how_far_it_has_come() {
        let shown = line(&message(DeliveryState::Sent), SystemTime::now());
        assert!(shown.contains("Alice") && shown.contains("sent, 1 of 2") && shown.contains("01234567"));
        let theirs = api::Message { mine: false, ..message(DeliveryState::Sent) };
        assert!(!line(&theirs, SystemTime::now()).contains("sent"));
    }

    #[test]
    fn a_text_cannot_steer_the_terminal() {
        assert!(line(&message(DeliveryState::Sent), SystemTime::now()).contains("two \u{fffd}[2J"));
    }

    #[test]
    fn sent_is_what_a_member_stored() {
        assert!(!is_sent(&message(DeliveryState::Queued)));
        assert!(is_sent(&message(DeliveryState::Sent)));
        assert!(is_sent(&message(DeliveryState::Delivered)));
        assert!(!is_sent(&message(DeliveryState::Failed)));
        assert_eq!(
            fail_if_undeliverable(&message(DeliveryState::Failed)).unwrap_err().reason,
            "MESSAGE_FAILED"
        );
    }

    #[test]
    fn options_after_the_text_are_options() {
        use clap::{Args as _, FromArgMatches as _};
        let parsed = |line: &str| {
            let parser = Send::augment_args(clap::Command::new("send"));
            Send::from_arg_matches(&parser.try_get_matches_from(line.split(' ')).unwrap()).unwrap()
        };
        let send = parsed("send general hello there --reply-to abcd --wait-sent");
        assert_eq!((send.text.join(" ").as_str(), send.reply_to.as_deref()), ("hello there", Some("abcd")));
        assert!(send.wait_sent);
        assert_eq!(parsed("send general -").text, ["-"]);
        assert_eq!(parsed("send general -- --odd text").text, ["--odd", "text"]);
    }

    #[test]
    fn words_are_joined_by_spaces() {
        assert_eq!(text(vec!["a".into(), "-".into(), "b".into()]).unwrap(), "a - b");
    }
}
