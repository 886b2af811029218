//! Sending and reading messages. Sends that wait at the same time share one step (T1).

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{MessageError, Session, author::Author, request::Request};
use crate::{
    clock::{now_ms, time_from_ms},
    event::Body,
    id::{ChannelId, EventId, GroupId},
    journal::{self, Reading},
    model::{Delivery, DeliveryState, Message, MessagePage, Page},
    network::Network,
    store::{StoreError, WriteTx, event::LogBook, message, request::Remembered, space},
};

/// Sends that wait to be accepted; more wait in their callers.
pub(super) const QUEUE: usize = 1_024;
/// Sends accepted in one step.
const MAX_BATCH: usize = 64;

/// A message to accept.
pub(super) struct Send {
    request: Request,
    channel: ChannelId,
    text: String,
    reply_to: Option<EventId>,
}

/// A message to accept, and who waits for the answer.
pub(super) type Waiting = (Send, oneshot::Sender<Result<Message, MessageError>>);

impl Session {
    /// Accepts a message for delivery. It is durable when this returns; works offline.
    ///
    /// # Errors
    /// [`MessageError`]
    pub async fn send_message(
        &self,
        request: Option<Uuid>,
        channel: ChannelId,
        text: &str,
        reply_to: Option<EventId>,
    ) -> Result<Message, MessageError> {
        let answered: &[u8] = reply_to.as_ref().map_or(&[], EventId::as_bytes);
        let request = Request::new(request, "SendMessage", &[channel.as_bytes(), text.as_bytes(), answered]);
        let (reply, answer) = oneshot::channel();
        let send = Send { request, channel, text: text.to_owned(), reply_to };
        self.sends.send((send, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// A page of a channel's history, oldest first. History stays readable after leaving.
    ///
    /// # Errors
    /// [`MessageError::ChannelNotFound`], [`MessageError::MessageNotFound`] for an unknown bound.
    pub async fn messages(
        &self,
        channel: ChannelId,
        page: Page,
        limit: u32,
    ) -> Result<MessagePage, MessageError> {
        let mut reader = self.vault.read().await?;
        if space::channel(reader.conn(), channel).await?.is_none() {
            return Err(MessageError::ChannelNotFound);
        }
        message::page(reader.conn(), channel, page, limit).await?.ok_or(MessageError::MessageNotFound)
    }

    /// One message.
    ///
    /// # Errors
    /// [`MessageError::MessageNotFound`]
    pub async fn message(&self, id: EventId) -> Result<Message, MessageError> {
        let mut reader = self.vault.read().await?;
        message::get(reader.conn(), id).await?.ok_or(MessageError::MessageNotFound)
    }
}

/// Accepts queued sends, as many as wait in one step, until the session ends.
pub(super) async fn accept_sends(network: Arc<Network>, mut sends: mpsc::Receiver<Waiting>) {
    loop {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        if sends.recv_many(&mut batch, MAX_BATCH).await == 0 {
            return;
        }
        let (batch, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let network_here = Arc::clone(&network);
        let done: Result<Vec<_>, StoreError> = network
            .vault
            .write(move |tx| Box::pin(async move { accept_batch(tx, &network_here, batch).await }))
            .await;
        match done {
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    if outcome.is_ok() {
                        network.metrics.messages_accepted.inc();
                    }
                    let _ = reply.send(outcome);
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.into()));
                }
            }
        }
    }
}

async fn accept_batch(
    tx: &mut WriteTx<'_>,
    network: &Network,
    batch: Vec<Send>,
) -> Result<Vec<Result<Message, MessageError>>, StoreError> {
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut open: Option<(LogBook, Author)> = None;
    for send in batch {
        outcomes.push(match accept(tx, network, &mut open, send).await {
            Err(MessageError::Store(error)) => return Err(error),
            outcome => outcome,
        });
    }
    if let Some((book, _)) = open {
        book.close(tx.conn()).await?;
    }
    Ok(outcomes)
}

/// Accepts one message: event, outbox and what people see, or the answer given before.
async fn accept(
    tx: &mut WriteTx<'_>,
    network: &Network,
    open: &mut Option<(LogBook, Author)>,
    send: Send,
) -> Result<Message, MessageError> {
    match send.request.recall(tx).await? {
        Remembered::New => {}
        Remembered::Answered(id) => {
            let id = EventId::try_from(&*id).map_err(StoreError::from)?;
            return Ok(message::get(tx.conn(), id).await?.ok_or(StoreError::Corrupt)?);
        }
        Remembered::Reused => return Err(MessageError::RequestIdReused),
    }
    let (book, author) = opened(tx, network, open, send.channel).await?;
    if let Some(id) = send.reply_to
        && !message::is_in_channel(tx.conn(), id, send.channel).await?
    {
        return Err(MessageError::MessageNotFound);
    }
    let now = now_ms();
    let reading = Reading { me: network.keys.account(), members: &author.members, loopback: false, now };
    let body = Body::Text { channel: send.channel, text: send.text.clone(), reply_to: send.reply_to };
    let (signed, _) = journal::append(tx, book, &author.own(network), &reading, body).await?;
    send.request.remember(tx, signed.id.as_bytes(), now).await?;
    let alone = author.recipients == 0;
    Ok(Message {
        id: signed.id,
        channel: send.channel,
        space: book.gid(),
        sender: reading.me,
        sender_display_name: author.display_name.clone(),
        text: send.text,
        sent_at: time_from_ms(now),
        received_at: time_from_ms(now),
        reply_to: send.reply_to,
        delivery: Some(Delivery {
            state: if alone { DeliveryState::Delivered } else { DeliveryState::Queued },
            delivered_to: 0,
            recipients: author.recipients,
            reason: String::new(),
        }),
    })
}

/// The logs of a channel's space, and this account as an author there; kept open from send to send.
async fn opened<'o>(
    tx: &mut WriteTx<'_>,
    network: &Network,
    open: &'o mut Option<(LogBook, Author)>,
    channel: ChannelId,
) -> Result<(&'o mut LogBook, &'o Author), MessageError> {
    let same = match open {
        Some((book, _)) => book.has_channel(tx.conn(), channel).await?,
        None => false,
    };
    if !same {
        if let Some((book, _)) = open.take() {
            book.close(tx.conn()).await?;
        }
        let gid = space_of(tx, channel).await?;
        let author = Author::load(tx, network, gid).await?.ok_or(MessageError::ChannelNotFound)?;
        *open = Some((LogBook::open(tx.conn(), gid).await?, author));
    }
    let (book, author) = open.as_mut().ok_or(MessageError::ChannelNotFound)?;
    Ok((book, author))
}

/// The space of a channel.
async fn space_of(tx: &mut WriteTx<'_>, channel: ChannelId) -> Result<GroupId, MessageError> {
    let channel = space::channel(tx.conn(), channel).await?.ok_or(MessageError::ChannelNotFound)?;
    Ok(channel.space)
}
