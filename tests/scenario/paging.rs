//! A long channel read page by page, in both directions: each message once, in order.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use spacepanda_proto::api::v1::{ListMessagesRequest, ListMessagesResponse, Message};

use crate::harness::{Person, Server, meet};

const MESSAGES: usize = 500;
const DEFAULT_PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn every_page_size_and_direction_gives_each_message_once() {
    let alice = Server::start("home").await.sign_up("alice").await;
    let place = meet(&alice, &[]).await;
    let sent = write(&alice, &place.channel).await;

    for size in [7, 50, 200] {
        assert_eq!(backwards(&alice, &place.channel, size).await, sent, "before, by {size}");
        assert_eq!(forwards(&alice, &place.channel, size, &sent[0]).await, sent[1..], "after, by {size}");
    }
    page_sizes(&alice, &place.channel, &sent).await;
    edges(&alice, &place.channel, &sent).await;
}

/// Texts in the order of their sending; ids tell them apart.
async fn write(person: &Person, channel: &str) -> Vec<String> {
    let mut messages: Vec<Message> = stream::iter(0..MESSAGES)
        .map(|number| async move { person.try_send(channel, &format!("{number}")).await })
        .buffered(16)
        .try_collect()
        .await
        .expect("accepted");
    messages.dedup_by(|a, b| a.message_id == b.message_id);
    assert_eq!(messages.len(), MESSAGES);
    // Concurrent requests may have been accepted in another order than they were made in.
    let shown = person.history(channel).await.expect("history");
    let mut texts: Vec<usize> = shown.iter().filter_map(|message| message.text.parse().ok()).collect();
    texts.sort_unstable();
    assert_eq!(texts, (0..MESSAGES).collect::<Vec<_>>(), "each once");
    ids(&shown)
}

async fn page_sizes(person: &Person, channel: &str, sent: &[String]) {
    for (asked, given) in [(0, DEFAULT_PAGE), (1, 1), (200, LARGEST_PAGE), (100_000, LARGEST_PAGE)] {
        let latest = page(person, ListMessagesRequest { page_size: asked, ..of(channel) }).await;
        assert_eq!(ids(&latest.messages), sent[MESSAGES - given..], "the latest page of {asked}");
        assert!(latest.has_more);
    }
}

async fn edges(person: &Person, channel: &str, sent: &[String]) {
    let before_first = ListMessagesRequest { before_message_id: sent[0].clone(), ..of(channel) };
    let after_last = ListMessagesRequest { after_message_id: sent[MESSAGES - 1].clone(), ..of(channel) };
    for request in [before_first, after_last] {
        let empty = page(person, request).await;
        assert!(empty.messages.is_empty() && !empty.has_more);
    }
    // Exactly the rest in one page: nothing more.
    let before = ListMessagesRequest { before_message_id: sent[50].clone(), page_size: 50, ..of(channel) };
    let whole = page(person, before.clone()).await;
    assert_eq!((ids(&whole.messages).as_slice(), whole.has_more), (&sent[..50], false));
    let one_less = page(person, ListMessagesRequest { page_size: 49, ..before }).await;
    assert_eq!((ids(&one_less.messages).as_slice(), one_less.has_more), (&sent[1..50], true));
    let after = ListMessagesRequest { after_message_id: sent[449].clone(), page_size: 50, ..of(channel) };
    let whole = page(person, after).await;
    assert_eq!((ids(&whole.messages).as_slice(), whole.has_more), (&sent[450..], false));
}

async fn backwards(person: &Person, channel: &str, page_size: u32) -> Vec<String> {
    let mut request = ListMessagesRequest { page_size, ..of(channel) };
    let mut pages = Vec::new();
    loop {
        let answer = page(person, request.clone()).await;
        request.before_message_id = answer.messages.first().expect("no empty page amid").message_id.clone();
        pages.push(ids(&answer.messages));
        if !answer.has_more {
            return pages.into_iter().rev().flatten().collect();
        }
    }
}

async fn forwards(person: &Person, channel: &str, page_size: u32, from: &str) -> Vec<String> {
    let mut request = ListMessagesRequest { page_size, after_message_id: from.into(), ..of(channel) };
    let mut all = Vec::new();
    loop {
        let answer = page(person, request.clone()).await;
        request.after_message_id = answer.messages.last().expect("no empty page amid").message_id.clone();
        all.extend(ids(&answer.messages));
        if !answer.has_more {
            return all;
        }
    }
}

fn of(channel: &str) -> ListMessagesRequest {
    ListMessagesRequest { channel_id: channel.into(), ..Default::default() }
}

async fn page(person: &Person, request: ListMessagesRequest) -> ListMessagesResponse {
    person.messages().list_messages(request).await.expect("a page").into_inner()
}

fn ids(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.message_id.clone()).collect()
}
