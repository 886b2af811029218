//! Live output: a channel as it goes on, and the raw event feed.
//!
//! A message is shown once, however often the connection is lost.

use std::{collections::HashSet, time::SystemTime};

use spacepanda_proto::api::v1::{self as api, event::Kind};

use super::{
    connect::Client,
    failure::{Failure, Outcome},
    feed::Feed,
    json::ToJson as _,
    listing, message,
    output::Output,
};

/// Prints the latest messages of a channel, then each new one, until stopped.
///
/// # Errors
/// When the server refuses, or standard output is closed.
pub(super) async fn channel(
    client: &Client,
    out: Output,
    channel_id: &str,
    limit: usize,
) -> Result<(), Failure> {
    // The position comes before the history: what arrives between the two is in both, and shown once.
    let mut feed = Feed::from_now(client).await?;
    let mut shown = Shown::default();
    let (history, _) = listing::history(client, channel_id, "", limit.max(1)).await?;
    for message in shown.fresh(history) {
        print(out, &message)?;
    }
    loop {
        let arrived = match feed.next().await?.kind {
            Some(Kind::MessageAdded(api::MessageAdded { message: Some(message) })) => vec![message],
            // The feed does not go back to our position: the history fills the hole.
            Some(Kind::FeedReset(_)) => listing::messages_after(client, channel_id, &shown.last).await?,
            _ => continue,
        };
        let here = arrived.into_iter().filter(|message| message.channel_id == channel_id).collect();
        for message in shown.fresh(here) {
            print(out, &message)?;
        }
    }
}

/// Prints the feed as JSON lines, until stopped.
///
/// # Errors
/// When the server refuses, or standard output is closed.
pub(super) async fn events(client: &Client, out: Output, after: Option<u64>) -> Result<Outcome, Failure> {
    let mut feed = match after {
        Some(seq) => Feed::after(client, seq),
        None => Feed::from_now(client).await?,
    };
    loop {
        out.line(&feed.next().await?.to_json().to_string())?;
    }
}

fn print(out: Output, message: &api::Message) -> Result<(), Failure> {
    out.show(|| message.to_json(), || message::line(message, SystemTime::now()))
}

/// Which messages were shown, of those that both the history and the feed can hold.
#[derive(Debug, Default)]
struct Shown {
    ids: HashSet<String>,
    last: String,
}

impl Shown {
    fn fresh(&mut self, messages: Vec<api::Message>) -> Vec<api::Message> {
        let fresh: Vec<_> =
            messages.into_iter().filter(|message| self.ids.insert(message.message_id.clone())).collect();
        if let Some(message) = fresh.last() {
            self.last.clone_from(&message.message_id);
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(ids: &[&str]) -> Vec<api::Message> {
        ids.iter().map(|id| api::Message { message_id: (*id).into(), ..Default::default() }).collect()
    }

    fn ids(messages: &[api::Message]) -> Vec<&str> {
        messages.iter().map(|message| message.message_id.as_str()).collect()
    }

    #[test]
    fn what_history_and_feed_both_hold_is_shown_once() {
        let mut shown = Shown::default();
        assert_eq!(ids(&shown.fresh(messages(&["a", "b"]))), ["a", "b"]);
        assert_eq!(ids(&shown.fresh(messages(&["b", "c"]))), ["c"]);
        assert_eq!(shown.last, "c");
        assert!(shown.fresh(messages(&["a"])).is_empty());
        assert_eq!(shown.last, "c");
    }
}
