//! What people do with messages: send, ask again, read it all.
//!
//! It must not hide a refusal: only an answer that never came is asked for again.

use spacepanda_proto::api::v1::{GetMessageRequest, ListMessagesRequest, Message, SendMessageRequest};
use tonic::Status;

use super::{PAGE, Person, request_id};
use crate::harness::{
    refusal::never_answered,
    wait::{wait_until, when},
};

impl Person {
    /// Sends a text.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn try_send(&self, channel_id: &str, text: &str) -> Result<Message, Status> {
        self.send_as(channel_id, text, &request_id()).await
    }

    /// Sends a text under a request id of the caller's.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn send_as(
        &self,
        channel_id: &str,
        text: &str,
        request_id: &str,
    ) -> Result<Message, Status> {
        let request = SendMessageRequest {
            channel_id: channel_id.into(),
            text: text.into(),
            request_id: request_id.into(),
            ..Default::default()
        };
        Ok(self.messages().send_message(request).await?.into_inner())
    }

    /// Sends a text.
    pub(crate) async fn send(&self, channel_id: &str, text: &str) -> Message {
        self.try_send(channel_id, text).await.expect("send")
    }

    /// Sends a text, asking again under the same request id while the server does not answer.
    pub(crate) async fn send_whatever_happens(&self, channel_id: &str, text: &str) -> Message {
        let request_id = request_id();
        let what = format!("{} to get {text:?} accepted", self.name());
        wait_until(&what, async || match self.send_as(channel_id, text, &request_id).await {
            Ok(message) => Ok(message),
            Err(status) if never_answered(&status) => Err(status.to_string()),
            Err(status) => panic!("{} may not send: {status:?}", self.name()),
        })
        .await
    }

    /// One message.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn message(&self, message_id: &str) -> Result<Message, Status> {
        let request = GetMessageRequest { message_id: message_id.into() };
        Ok(self.messages().get_message(request).await?.into_inner())
    }

    /// The whole history of a channel, oldest first, read backwards from the latest page.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn history(&self, channel_id: &str) -> Result<Vec<Message>, Status> {
        let mut request =
            ListMessagesRequest { channel_id: channel_id.into(), page_size: PAGE, ..Default::default() };
        let mut pages = Vec::new();
        loop {
            let page = self.messages().list_messages(request.clone()).await?.into_inner();
            if let Some(oldest) = page.messages.first() {
                request.before_message_id = oldest.message_id.clone();
            }
            pages.push(page.messages);
            if !page.has_more {
                return Ok(pages.into_iter().rev().flatten().collect());
            }
        }
    }

    /// The texts of a channel, oldest first.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn texts(&self, channel_id: &str) -> Result<Vec<String>, Status> {
        Ok(self.history(channel_id).await?.into_iter().map(|message| message.text).collect())
    }

    /// For conditions: this many messages are in the channel.
    pub(crate) async fn has(&self, channel_id: &str, count: usize) -> Result<Vec<Message>, String> {
        let history = self.history(channel_id).await.map_err(|status| status.to_string())?;
        when(history.len() == count, format!("{} has {} of {count}", self.name(), history.len()))?;
        Ok(history)
    }
}
