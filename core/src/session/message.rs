//! Sending and reading messages. Sends that wait at the same time share one step (T1).

use std::{collections::HashMap, sync::Arc};

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{MessageError, Session, author::Author, request::Request};
use crate::{
    clock::{now_ms, time_from_ms},
    event::Body,
    id::{AccountId, ChannelId, EventId, GroupId},
    journal::{self, Reading},
    model::{Delivery, DeliveryState, Message, MessagePage, Page, SendTiming},
    network::{Ahead, Network, Sealed},
    store::{
        StoreError, WriteTx,
        logbook::LogBook,
        message, mls,
        request::{Remembered, RequestKey, recall, remember},
        space,
    },
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
        // Asleep it takes no room.
        let mut batch = Vec::new();
        if sends.recv_many(&mut batch, MAX_BATCH).await == 0 {
            return;
        }
        let (batch, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let network_here = Arc::clone(&network);
        let done: Result<_, StoreError> = network
            .vault
            .write(move |tx| Box::pin(async move { accept_batch(tx, &network_here, batch).await }))
            .await;
        match done {
            Ok((outcomes, sealed)) => {
                if let Some((sealed, slot)) = sealed {
                    // Held meanwhile, so that frames leave in the order of their keys.
                    network.push_sealed(sealed);
                    slot.settled();
                }
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
) -> Result<(Vec<Result<Message, MessageError>>, Option<(Sealed, Ahead)>), StoreError> {
    let mut accepting = Accepting {
        known: recall(tx.conn(), batch.iter().filter_map(|send| send.request.key())).await?,
        open: None,
        accepted: HashMap::new(),
        answers: Vec::new(),
        now: now_ms(),
    };
    let mut outcomes = Vec::with_capacity(batch.len());
    for send in batch {
        outcomes.push(match accepting.accept(tx, network, send).await {
            Err(MessageError::Store(error)) => return Err(error),
            outcome => outcome,
        });
    }
    remember(tx.conn(), &accepting.answers, accepting.now).await?;
    let Some((book, author)) = accepting.open else { return Ok((outcomes, None)) };
    let gid = book.gid();
    book.close(tx, accepting.now).await?;
    let sealed = match author.timing {
        SendTiming::Fast => network.seal_at_once(tx, gid).await?,
        // Whoever seals the outbox gives it its time.
        SendTiming::Balanced | SendTiming::Strict => None,
    };
    Ok((outcomes, sealed))
}

/// One step that accepts messages.
struct Accepting {
    /// What was known of the requests before it.
    known: HashMap<Uuid, Remembered>,
    /// The space that is written to, kept open from send to send.
    open: Option<(LogBook, Author)>,
    /// By the request that asked: the same one may come twice in one step.
    accepted: HashMap<Uuid, (RequestKey, Message)>,
    answers: Vec<(RequestKey, Vec<u8>)>,
    now: i64,
}

impl Accepting {
    /// Accepts one message: event, outbox and what people see, or the answer given before.
    async fn accept(
        &mut self,
        tx: &mut WriteTx<'_>,
        network: &Network,
        send: Send,
    ) -> Result<Message, MessageError> {
        if let Some(answer) = self.answered(tx, &send.request).await? {
            return Ok(answer);
        }
        self.open(tx, network, send.channel).await?;
        if let Some(id) = send.reply_to
            && !message::is_in_channel(tx.conn(), id, send.channel).await?
        {
            return Err(MessageError::MessageNotFound);
        }
        let now = self.now;
        let (book, author) = self.open(tx, network, send.channel).await?;
        let reading = Reading { me: network.keys.account(), members: &author.members, loopback: false, now };
        let body = Body::Text { channel: send.channel, text: send.text.clone(), reply_to: send.reply_to };
        let (signed, _) = journal::append(tx, book, &author.own(network), &reading, body).await?;
        let message = fresh(&send, signed.id, book.gid(), author, reading.me, now);
        if let Some(key) = send.request.key() {
            self.answers.push((*key, signed.id.0.to_vec()));
            self.accepted.insert(key.id, (*key, message.clone()));
        }
        Ok(message)
    }

    /// The answer that this request was given before.
    async fn answered(
        &self,
        tx: &mut WriteTx<'_>,
        request: &Request,
    ) -> Result<Option<Message>, MessageError> {
        let Some(key) = request.key() else { return Ok(None) };
        match self.accepted.get(&key.id) {
            Some((same, message)) if same == key => return Ok(Some(message.clone())),
            Some(_) => return Err(MessageError::RequestIdReused),
            None => {}
        }
        match self.known.get(&key.id) {
            None | Some(Remembered::New) => Ok(None),
            Some(Remembered::Reused) => Err(MessageError::RequestIdReused),
            Some(Remembered::Answered(id)) => {
                let id = EventId::try_from(&**id).map_err(StoreError::from)?;
                Ok(Some(message::get(tx.conn(), id).await?.ok_or(StoreError::Corrupt)?))
            }
        }
    }

    /// The logs of a channel's space, and this account as an author there.
    async fn open(
        &mut self,
        tx: &mut WriteTx<'_>,
        network: &Network,
        channel: ChannelId,
    ) -> Result<(&mut LogBook, &Author), MessageError> {
        let same = match &mut self.open {
            Some((book, _)) => book.has_channel(tx.conn(), channel).await?,
            None => false,
        };
        if !same {
            if let Some((book, _)) = self.open.take() {
                book.close(tx, self.now).await?;
            }
            let found = mls::group_of_channel(tx.conn(), channel).await?;
            let (gid, group) = found.ok_or(MessageError::ChannelNotFound)?;
            let author = Author::of(tx, network, gid, group).await?.ok_or(MessageError::ChannelNotFound)?;
            let mut book = LogBook::open(tx.conn(), gid).await?;
            book.note_channel(channel);
            self.open = Some((book, author));
        }
        let (book, author) = self.open.as_mut().ok_or(MessageError::ChannelNotFound)?;
        Ok((book, author))
    }
}

/// A message that was accepted just now.
fn fresh(send: &Send, id: EventId, space: GroupId, author: &Author, me: AccountId, now: i64) -> Message {
    let alone = author.recipients == 0;
    Message {
        id,
        channel: send.channel,
        space,
        sender: me,
        sender_display_name: author.display_name.clone(),
        text: send.text.clone(),
        sent_at: time_from_ms(now),
        received_at: time_from_ms(now),
        reply_to: send.reply_to,
        delivery: Some(Delivery {
            state: if alone { DeliveryState::Delivered } else { DeliveryState::Queued },
            delivered_to: 0,
            recipients: author.recipients,
            reason: String::new(),
        }),
    }
}
