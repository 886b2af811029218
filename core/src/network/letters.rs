//! Letters that peers bring: who wrote them, and what they ask for or bring.

use std::sync::Arc;

use prost::Message as _;
use spacepanda_proto::peer::v1::{
    FrameOutcome, JoinBundle, Letter as WireLetter, PushLetter, PushLetterReply, RejoinRequest, letter,
};

use super::{Network, misbehaviour::Offence};
use crate::{certificate::Certificate, id::GroupId, letter::open_signed, router::PeerId};

/// A letter that opened; what is in it is not checked.
pub(super) struct Letter {
    pub(super) gid: GroupId,
    pub(super) sender: Certificate,
    pub(super) bundle: JoinBundle,
}

enum Content {
    Join(Letter),
    Rejoin(Certificate, RejoinRequest),
}

impl Network {
    /// A letter that a peer brought.
    pub(super) async fn take_letter(self: &Arc<Self>, peer: &PeerId, push: PushLetter) -> PushLetterReply {
        let taken = match self.read_letter(&push.letter) {
            Some(Content::Join(letter)) => {
                let _turn = self.joining.turn(letter.gid).await;
                let taken = self.take_bundle(letter).await;
                taken.map(|taken| if taken { FrameOutcome::Stored } else { FrameOutcome::Rejected })
            }
            Some(Content::Rejoin(sender, request)) => self.take_rejoin_request(&sender, &request).await,
            None => Ok(FrameOutcome::Rejected),
        };
        let outcome = taken.unwrap_or_else(|error| {
            tracing::warn!(%error, "a letter could not be taken");
            FrameOutcome::Busy
        });
        if outcome == FrameOutcome::Rejected {
            self.offend(peer, Offence::Malformed);
        }
        PushLetterReply { outcome: outcome.into() }
    }

    /// The letter in an answer to a join.
    pub(super) fn open_bundle(&self, letter: &[u8]) -> Option<Letter> {
        match self.read_letter(letter)? {
            Content::Join(letter) => Some(letter),
            Content::Rejoin(..) => None,
        }
    }

    fn read_letter(&self, letter: &[u8]) -> Option<Content> {
        let (sender, body) = open_signed(&self.keys.letter, letter).ok()?;
        match WireLetter::decode(&*body).ok()?.kind? {
            letter::Kind::Join(bundle) => {
                let gid = GroupId::try_from(&*bundle.gid).ok()?;
                Some(Content::Join(Letter { gid, sender, bundle }))
            }
            letter::Kind::Rejoin(request) => Some(Content::Rejoin(sender, request)),
        }
    }
}
