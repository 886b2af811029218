//! Messages whose key is gone: the one that was opened with it, come again, or another one.
//!
//! What the leaf and the counter are is only claimed here. Nothing of such a message is taken.

use std::sync::Arc;

use spacepanda_proto::peer::v1::FrameOutcome;

use super::{Batch, Taking};
use crate::{
    group::error::ApplicationError,
    id::FrameId,
    network::{Network, SlotError, misbehaviour::Offence},
    store::frame::{self, Generation},
};

impl Taking<'_> {
    /// Whose message it says it is, and which.
    pub(super) fn generation(&self) -> Generation {
        Generation { sid: self.state.sid, leaf: self.opened.leaf, counter: self.opened.counter }
    }
}

impl Batch {
    /// A frame of what is stored here, or was written here.
    pub(super) fn repeated(&mut self, (frame, env_tag): (FrameId, [u8; 16])) -> FrameOutcome {
        self.spent.push((frame, env_tag));
        self.duplicates.insert(frame);
        FrameOutcome::Duplicate
    }

    /// The hash of the message that was opened as this one a moment ago.
    fn just_opened(&self, generation: Generation) -> Option<[u8; 32]> {
        let opened = self.opened.iter().find(|opened| opened.generation == generation);
        opened.map(|opened| opened.message_hash)
    }
}

impl Network {
    /// What becomes of a message whose key was used or thrown away. Only what was opened here counts as
    /// stored: else its sender would call a message sent that nobody has.
    pub(super) async fn without_key(
        self: &Arc<Self>,
        taking: &Taking<'_>,
        error: ApplicationError,
        batch: &mut Batch,
    ) -> Result<FrameOutcome, SlotError> {
        let Taking { carrier, frame, opened, .. } = taking;
        let generation = taking.generation();
        let before = match batch.just_opened(generation) {
            Some(hash) => Some(hash),
            None => {
                let mut reader = self.vault.read().await?;
                frame::opened_message(reader.conn(), generation).await?
            }
        };
        if before.is_some_and(|hash| hash == opened.body_hash()) {
            return Ok(batch.repeated((frame.id(), frame.env_tag())));
        }
        if before.is_none() && error == ApplicationError::TooOld {
            // Its events come again on a later state, carried by someone who has them.
            return Ok(FrameOutcome::Foreign);
        }
        tracing::warn!("a message key was used twice: a copy of a vault may have been put back somewhere");
        self.blame(*carrier, Offence::KeyReuse);
        Ok(FrameOutcome::Rejected)
    }
}
