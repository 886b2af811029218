//! What a device does that found itself to be an old copy of itself: it writes in another log, and gives way to a
//! copy that was let in before it.

use std::collections::HashMap;

use super::{Network, SlotError, health};
use crate::{
    clock::{now_ms, random},
    event::{Body, SignedEvent},
    group::key_package::check_key_package,
    id::{EventId, GroupId, LogId},
    journal::{self, Members, Own, Reading},
    model::GroupHealth,
    store::{
        StoreError, WriteTx,
        logbook::{Head, LogBook},
        mls, rejoin, restored, space,
    },
};

impl Network {
    /// Goes on in a new log, where what waits is written again: in the old one another copy may have written
    /// in the same places. Its events come from others.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(super) async fn begin_another_log(
        &self,
        tx: &mut WriteTx<'_>,
        gid: GroupId,
    ) -> Result<(), StoreError> {
        let group = mls::group(tx.conn(), gid).await?.ok_or(StoreError::Corrupt)?;
        let (former, log, me) = (group.own_log, LogId(*random()), self.keys.account());
        let unsent = restored::take_unsent(tx.conn(), gid, former).await?;
        rejoin::change_log(tx.conn(), gid, (former, log)).await?;
        let own = Own {
            key: &self.keys.device,
            device: self.keys.device_id(),
            log,
            head: group.head,
            recipients: space::recipients(tx.conn(), gid, me).await?,
        };
        let members = Members::new(space::member_rows(tx.conn(), gid).await?);
        let reading = Reading { me, members: &members, loopback: self.router.is_loopback(), now: now_ms() };
        let mut book = LogBook::open(tx.conn(), gid).await?;
        if let Some((seq, id, lamport)) = unsent.end {
            book.advance_heads(former, Head { seq, id, lamport }, std::iter::empty());
        }
        let read = |encoded: &Vec<u8>| SignedEvent::decode_stored(encoded).map_err(|_| StoreError::Corrupt);
        let unsent = unsent.events.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        for event in &unsent {
            see_again(tx, &mut book, (event, former)).await?;
        }
        let mut renamed = HashMap::new();
        for before in unsent {
            // Said when it was said.
            let now = i64::try_from(before.event.wall_ms).unwrap_or(reading.now);
            let body = replying_to(before.event.body, &renamed);
            let (after, _) = journal::append(tx, &mut book, &own, &Reading { now, ..reading }, body).await?;
            renamed.insert(before.id, after.id);
        }
        book.close(tx, reading.now).await?;
        for (before, after) in renamed {
            restored::rename(tx.conn(), before, after).await?;
        }
        Ok(())
    }

    /// A commit put a fresh leaf with this key in the place of this device's leaf: its own, or another copy's.
    ///
    /// # Errors
    /// [`SlotError`]
    pub(super) async fn is_succeeded(&self, gid: GroupId, leaf: [u8; 32]) -> Result<(), SlotError> {
        let wish = {
            let mut reader = self.vault.read().await?;
            rejoin::open(reader.conn(), gid).await?
        };
        let asked = wish.and_then(|wish| check_key_package(&wish.key_package).ok());
        if asked.is_some_and(|asked| asked.encryption_key == leaf) {
            return Ok(());
        }
        self.falls_silent(gid);
        let noted: Result<(), StoreError> = self
            .vault
            .write(move |tx| {
                Box::pin(async move {
                    restored::succeed(tx.conn(), gid, now_ms()).await?;
                    rejoin::end(tx.conn(), gid).await?;
                    health::set_of_copy(tx, gid, GroupHealth::Stalled, health::SUCCEEDED).await
                })
            })
            .await;
        tracing::warn!("a second copy of this vault was let into a group in place of this one");
        Ok(noted?)
    }
}

/// What an event refers to that is taken back is referred to by nothing any more.
async fn see_again(
    tx: &mut WriteTx<'_>,
    book: &mut LogBook,
    (taken, log): (&SignedEvent, LogId),
) -> Result<(), StoreError> {
    for dep in &taken.event.deps {
        let mut heads = book.heads_besides(log).into_iter();
        if heads.any(|(other, head)| other == dep.log && head.seq >= dep.seq) {
            continue;
        }
        if let Some((id, lamport)) = book.at(tx.conn(), dep.log, dep.seq).await? {
            book.advance_heads(dep.log, Head { seq: dep.seq, id, lamport }, std::iter::empty());
        }
    }
    Ok(())
}

fn replying_to(body: Body, renamed: &HashMap<EventId, EventId>) -> Body {
    match body {
        Body::Text { channel, text, reply_to } => {
            let reply_to = reply_to.map(|id| renamed.get(&id).copied().unwrap_or(id));
            Body::Text { channel, text, reply_to }
        }
        other => other,
    }
}
