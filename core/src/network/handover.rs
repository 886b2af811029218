//! Handing letters to those who were let in: held back until it is known that the commit stands.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use spacepanda_proto::peer::v1::{PushLetter, peer_request};

use super::{Network, SlotError};
use crate::{
    clock::now_ms,
    dag::handover::Handover,
    id::{DeviceId, GroupId},
    router::PeerId,
    store::outbox::{self, LetterRow},
};

/// A letter whose turn does not come is looked at again on the device's next connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// Whoever asked to join waits so long for the answer itself; then the letter follows.
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(4);

impl Network {
    /// The letter that lets a device in, once it may leave; nothing when that is not within `patience`, or
    /// there is none.
    pub(super) async fn letter_in_time(
        &self,
        gid: GroupId,
        device: DeviceId,
        patience: Duration,
    ) -> Result<Option<Vec<u8>>, SlotError> {
        let end = Instant::now() + patience;
        loop {
            // Listens before it looks: a vote that comes in between is not missed.
            let mut voted = std::pin::pin!(self.wake.votes.notified());
            voted.as_mut().enable();
            let Some(row) = self.waiting_letter(gid, device).await? else { return Ok(None) };
            let wait = match self.may_be_handed_over(&row, device).await? {
                Handover::Now => return Ok(Some(row.letter)),
                Handover::Never => return Ok(None),
                Handover::In(wait) => wait,
                Handover::Undecided => patience,
            };
            let next = (Instant::now() + wait).min(end);
            tokio::select! {
                () = voted => {}
                () = tokio::time::sleep_until(next.into()) => if next == end { return Ok(None) },
            }
        }
    }

    async fn may_be_handed_over(&self, row: &LetterRow, to: DeviceId) -> Result<Handover, SlotError> {
        let mut slot = self.groups.lock(row.gid).await;
        let head = slot.head_id(&self.vault).await?;
        let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
        let waited = Duration::from_millis(u64::try_from(now_ms() - row.created_at).unwrap_or_default());
        Ok(dag.handover(&head, &row.sid, &to, waited))
    }

    pub(super) async fn waiting_letter(
        &self,
        gid: GroupId,
        device: DeviceId,
    ) -> Result<Option<LetterRow>, SlotError> {
        let mut reader = self.vault.read().await?;
        let letters = outbox::letters_for(reader.conn(), device).await?;
        Ok(letters.into_iter().find(|row| row.gid == gid))
    }

    /// Hands a device its letter as soon as it may leave, at most so much later, if the device is connected then;
    /// the letter stays in the outbox until that device's first Tip.
    pub(super) fn hand_over(self: &Arc<Self>, gid: GroupId, device: DeviceId, patience: Duration) {
        let network = Arc::clone(self);
        self.spawn("letter", async move {
            match network.letter_in_time(gid, device, patience).await {
                Ok(Some(letter)) => {
                    if let Some(peer) = network.peer_with(device) {
                        // The peer may not have checked our certificate yet; the next connection tries again.
                        let push = peer_request::Kind::PushLetter(PushLetter { letter });
                        let _ = network.ask(&peer, push).await;
                    }
                }
                Ok(None) | Err(SlotError::NotAMember) => {}
                Err(error) => tracing::warn!(%error, "a letter could not be handed over"),
            }
        });
    }

    fn peer_with(&self, device: DeviceId) -> Option<PeerId> {
        let mut links = self.links.verified().into_iter();
        links.find(|(_, _, linked)| *linked == device).map(|(peer, ..)| peer)
    }
}
