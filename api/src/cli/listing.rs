//! Whole lists from the API's pages.
//!
//! Nothing is interpreted here; a server that never ends its pages is cut off.

use std::future::Future;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use spacepanda_proto::api::v1 as api;

use super::{
    connect::{CALL_DEADLINE, Client},
    failure::Failure,
};

const PAGE_SIZE: u32 = 200;
/// 200,000 rows; a longer list is a server that repeats itself.
const PAGES_LIMIT: usize = 1_000;
/// Spaces whose channels are asked for at the same time.
const SPACES_IN_FLIGHT: usize = 8;

/// Every space of the account, oldest first.
///
/// # Errors
/// When a call fails.
pub(super) async fn spaces(client: &Client) -> Result<Vec<api::Space>, Failure> {
    pages(|page_token| async move {
        let request = api::ListSpacesRequest { page_size: PAGE_SIZE, page_token };
        let call = || async { client.spaces().list_spaces(request.clone()).await };
        let page = client.call(CALL_DEADLINE, call).await?;
        Ok((page.spaces, page.next_page_token))
    })
    .await
}

/// Every channel of a space.
///
/// # Errors
/// When a call fails.
pub(super) async fn channels(client: &Client, space_id: &str) -> Result<Vec<api::Channel>, Failure> {
    pages(|page_token| async move {
        let request =
            api::ListChannelsRequest { space_id: space_id.to_owned(), page_size: PAGE_SIZE, page_token };
        let call = || async { client.spaces().list_channels(request.clone()).await };
        let page = client.call(CALL_DEADLINE, call).await?;
        Ok((page.channels, page.next_page_token))
    })
    .await
}

/// Every channel of these spaces, each with its space.
///
/// # Errors
/// When a call fails.
pub(super) async fn channels_of(
    client: &Client,
    spaces: Vec<api::Space>,
) -> Result<Vec<(api::Space, api::Channel)>, Failure> {
    let lists: Vec<Vec<_>> = stream::iter(spaces)
        .map(|space| async move {
            let channels = channels(client, &space.space_id).await?;
            Ok::<_, Failure>(channels.into_iter().map(|channel| (space.clone(), channel)).collect())
        })
        .buffered(SPACES_IN_FLIGHT)
        .try_collect()
        .await?;
    Ok(lists.into_iter().flatten().collect())
}

/// Every member of a space.
///
/// # Errors
/// When a call fails.
pub(super) async fn members(client: &Client, space_id: &str) -> Result<Vec<api::Member>, Failure> {
    pages(|page_token| async move {
        let request =
            api::ListMembersRequest { space_id: space_id.to_owned(), page_size: PAGE_SIZE, page_token };
        let call = || async { client.spaces().list_members(request.clone()).await };
        let page = client.call(CALL_DEADLINE, call).await?;
        Ok((page.members, page.next_page_token))
    })
    .await
}

/// Every peer that the account's router knows.
///
/// # Errors
/// When a call fails.
pub(super) async fn peers(client: &Client) -> Result<Vec<api::Peer>, Failure> {
    pages(|page_token| async move {
        let request = api::ListPeersRequest { page_size: PAGE_SIZE, page_token };
        let call = || async { client.network().list_peers(request.clone()).await };
        let page = client.call(CALL_DEADLINE, call).await?;
        Ok((page.peers, page.next_page_token))
    })
    .await
}

/// The latest messages of a channel (or those before one), oldest first, and whether there are older ones.
///
/// # Errors
/// When a call fails.
pub(super) async fn history(
    client: &Client,
    channel_id: &str,
    before: &str,
    limit: usize,
) -> Result<(Vec<api::Message>, bool), Failure> {
    let mut newest_first: Vec<api::Message> = Vec::new();
    let mut before_message_id = before.to_owned();
    loop {
        let wanted = u32::try_from(limit.saturating_sub(newest_first.len())).unwrap_or(PAGE_SIZE);
        let request = api::ListMessagesRequest {
            channel_id: channel_id.to_owned(),
            page_size: wanted.clamp(1, PAGE_SIZE),
            before_message_id,
            after_message_id: String::new(),
        };
        let call = || async { client.messages().list_messages(request.clone()).await };
        let page = client.call(CALL_DEADLINE, call).await?;
        before_message_id = page.messages.first().map(|m| m.message_id.clone()).unwrap_or_default();
        newest_first.extend(page.messages.into_iter().rev());
        let complete = newest_first.len() >= limit || before_message_id.is_empty();
        if complete || !page.has_more {
            newest_first.truncate(limit);
            newest_first.reverse();
            return Ok((newest_first, page.has_more));
        }
    }
}

/// The messages of a channel after one, oldest first; all of them without one.
///
/// # Errors
/// When a call fails.
pub(super) async fn messages_after(
    client: &Client,
    channel_id: &str,
    after: &str,
) -> Result<Vec<api::Message>, Failure> {
    if after.is_empty() {
        return Ok(history(client, channel_id, "", usize::MAX).await?.0);
    }
    pages_from(after.to_owned(), |after_message_id| async move {
        let request = api::ListMessagesRequest {
            channel_id: channel_id.to_owned(),
            page_size: PAGE_SIZE,
            before_message_id: String::new(),
            after_message_id,
        };
        let call = || async { client.messages().list_messages(request.clone()).await };
        let page = client.call(CALL_DEADLINE, call).await?;
        let last = page.messages.last().map(|message| message.message_id.clone());
        let next = last.filter(|_| page.has_more).unwrap_or_default();
        Ok((page.messages, next))
    })
    .await
}

async fn pages<T, F, Fut>(page: F) -> Result<Vec<T>, Failure>
where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Result<(Vec<T>, String), Failure>>,
{
    pages_from(String::new(), page).await
}

async fn pages_from<T, F, Fut>(first: String, page: F) -> Result<Vec<T>, Failure>
where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Result<(Vec<T>, String), Failure>>,
{
    let mut all = Vec::new();
    let mut token = first;
    for _ in 0..PAGES_LIMIT {
        let (rows, next) = page(token).await?;
        all.extend(rows);
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
    Err(Failure::local_fault("ENDLESS_LIST", "the server's list does not end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_are_joined_in_order_until_the_last() {
        let page = |token: String| async move {
            Ok(match token.as_str() {
                "" => (vec![1, 2], "a".to_owned()),
                "a" => (vec![3], "b".to_owned()),
                _ => (vec![4], String::new()),
            })
        };
        assert_eq!(pages(page).await.unwrap(), [1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn a_list_without_end_is_an_error() {
        let failure = pages(|token| async move { Ok((vec![0], format!("{token}x"))) }).await.unwrap_err();
        assert_eq!(failure.reason, "ENDLESS_LIST");
    }
}
