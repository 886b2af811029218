//! The step that stores a batch of opened frames (T4).

use super::{
    Batch, Opened,
    read::{By, Taken},
};
use crate::{
    group::rows::RowChanges,
    id::{GroupId, StateId},
    journal::{self, Applied, Effects, Reading, Rejection},
    network::misbehaviour::Offence,
    store::{
        StoreError, WriteTx,
        frame::{self, NewFrame},
        logbook::LogBook,
        mls,
    },
};

/// What a step found besides what it stored.
#[derive(Default)]
pub(super) struct Verdict {
    pub(super) processed: u64,
    pub(super) parked: bool,
    /// Something was new, or is held already.
    pub(super) taken: bool,
    /// Something was not what it must be.
    pub(super) refused: bool,
    /// What the carrying peer did itself.
    pub(super) offences: Vec<Offence>,
    /// What others did, whose events it carried in good faith.
    pub(super) others: Vec<Offence>,
}

/// Stores what was opened: ratchets, frames, events, what people see.
pub(super) async fn store_batch(
    tx: &mut WriteTx<'_>,
    gid: GroupId,
    reading: &Reading<'_>,
    changes: Vec<(StateId, RowChanges)>,
    batch: Batch,
) -> Result<(Effects, Verdict), StoreError> {
    for (sid, rows) in &changes {
        mls::store_rows(tx.conn(), gid, *sid, rows).await?;
    }
    for (id, tag) in &batch.spent {
        frame::insert(tx.conn(), &NewFrame::done(*id, gid, tag), reading.now).await?;
        frame::unpark(tx.conn(), *id).await?;
    }
    let mut book = LogBook::open(tx.conn(), gid).await?;
    let (mut effects, mut verdict) = (Effects::default(), Verdict::default());
    for opened in batch.opened {
        keep(tx, gid, &opened, reading.now).await?;
        // It opened, so its key was not used: its author counts wrongly.
        if !frame::note_opened(tx.conn(), opened.generation, &opened.message_hash).await? {
            verdict.offences.push(Offence::KeyReuse);
        }
        for taken in opened.events {
            apply_one(tx, &mut book, reading, taken, opened.epoch, (&mut effects, &mut verdict)).await?;
        }
    }
    effects.merge(journal::drain_parked(tx, &mut book, reading).await?);
    book.close(tx, reading.now).await?;
    Ok((effects, verdict))
}

/// What its author sealed for everyone stays for those who missed it. What was carried was meant for one.
async fn keep(tx: &mut WriteTx<'_>, gid: GroupId, opened: &Opened, now: i64) -> Result<(), StoreError> {
    let done = NewFrame::done(opened.frame, gid, &opened.env_tag);
    let Some((place, bytes)) = &opened.kept else {
        if !frame::insert(tx.conn(), &done, now).await? {
            frame::unpark(tx.conn(), opened.frame).await?;
        }
        return Ok(());
    };
    let kept = NewFrame { bytes: Some(bytes), place: Some(*place), ..done };
    if !frame::insert(tx.conn(), &kept, now).await? {
        frame::keep_parked(tx.conn(), opened.frame, gid, *place).await?;
    }
    Ok(())
}

async fn apply_one(
    tx: &mut WriteTx<'_>,
    book: &mut LogBook,
    reading: &Reading<'_>,
    taken: Taken,
    epoch: u64,
    (effects, verdict): (&mut Effects, &mut Verdict),
) -> Result<(), StoreError> {
    match taken {
        Taken::Withheld(withheld) => {
            verdict.taken |= journal::apply_withheld(tx, book, reading, &withheld).await?;
        }
        Taken::Event { signed, by } => {
            let seen = signed.event.seen_sid;
            let sealed_here = match by {
                By::Fresh => true,
                // Then only where nothing else says for whom it was.
                By::Author => mls::epoch_of(tx.conn(), book.gid(), seen).await?.is_none(),
                By::Carrier => false,
            };
            match journal::apply(tx, book, reading, &signed, sealed_here.then_some(epoch)).await? {
                Applied::Processed(more) => {
                    effects.merge(more);
                    verdict.processed += 1;
                    verdict.taken = true;
                }
                Applied::Parked => (verdict.parked, verdict.taken) = (true, true),
                Applied::Duplicate => verdict.taken = true,
                Applied::Rejected(rejection) => {
                    let offence = match rejection {
                        Rejection::UnknownAuthor => Offence::WrongSender,
                        Rejection::Equivocation => Offence::Equivocation,
                        Rejection::Order => Offence::Malformed,
                        Rejection::Flood => Offence::Flood,
                    };
                    verdict.refused = true;
                    if by == By::Fresh {
                        verdict.offences.push(offence);
                    } else {
                        verdict.others.push(offence);
                    }
                }
            }
        }
    }
    Ok(())
}
