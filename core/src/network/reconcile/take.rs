//! Fetched frames: taken in as pushed ones are, in the order of their places.

use std::sync::Arc;

use spacepanda_proto::peer::v1::FrameOutcome;

use super::Failed;
use crate::{
    certificate::Certificate,
    clock::now_ms,
    group::frame::Frame,
    id::{FrameId, FramePlace, GroupId},
    network::{Network, SlotError, intake::Arrived, misbehaviour::Carrier},
    router::PeerId,
    store::{
        StoreError, frame_set,
        mls::{self, TaggedState},
    },
};

/// Frames of one page that may be refused before the peer is taken for a liar: what it holds it has checked.
const MAX_REFUSED: usize = 8;

/// A fetched frame and where the peer says it stands.
struct Fetched {
    place: FramePlace,
    id: FrameId,
    env_tag: [u8; 16],
    arrived: Arrived,
}

/// A frame that is of no use here.
type Unusable = (FramePlace, FrameId, [u8; 16]);

impl Network {
    /// Takes a page of frames that were asked for by these places.
    pub(super) async fn take_page(
        self: &Arc<Self>,
        gid: GroupId,
        certificate: &Certificate,
        asked: &[FramePlace],
        page: Vec<Vec<u8>>,
    ) -> Result<(), Failed> {
        self.metrics.frames_fetched.inc_by(page.len() as u64);
        self.metrics.fetched_bytes.inc_by(page.iter().map(|frame| frame.len() as u64).sum());
        let peer = PeerId::from_bytes(&certificate.peer_id).map_err(|_| Failed::Nonsense)?;
        let (mut places, mut refused) = (asked.iter(), 0);
        // Frames up to the next one whose state is not known: a commit among them may lead there.
        let mut run: Vec<Fetched> = Vec::new();
        let mut unusable: Vec<Unusable> = Vec::new();
        for bytes in page {
            let frame = Frame::decode(&bytes).map_err(|_| Failed::Nonsense)?;
            let id = frame.id();
            let is_it = |place: &&FramePlace| (place.frame_ids().0..=place.frame_ids().1).contains(&id);
            let place = *places.find(is_it).ok_or(Failed::Nonsense)?;
            let env_tag = frame.env_tag();
            let state = match run.last().filter(|last| last.env_tag == env_tag) {
                Some(last) => Some(last.arrived.state),
                None => match self.state_of(&env_tag).await? {
                    Some(state) => Some(state),
                    None => {
                        refused += self.take_run(gid, &peer, &mut run, &mut unusable).await?;
                        self.state_of(&env_tag).await?
                    }
                },
            };
            match state {
                Some(state) if state.gid != gid => return Err(Failed::Nonsense),
                Some(state) if !state.pruned => {
                    run.push(Fetched { place, id, env_tag, arrived: Arrived { state, bytes } });
                }
                // Pruned, or of a branch whose commit does not lead this device there: as one that removed it.
                _ => unusable.push((place, id, env_tag)),
            }
        }
        refused += self.take_run(gid, &peer, &mut run, &mut unusable).await?;
        self.note_unusable(gid, unusable).await?;
        if refused > MAX_REFUSED { Err(Failed::Nonsense) } else { Ok(()) }
    }

    async fn state_of(&self, env_tag: &[u8; 16]) -> Result<Option<TaggedState>, SlotError> {
        let mut reader = self.vault.read().await?;
        Ok(mls::state_by_tag(reader.conn(), env_tag).await?)
    }

    /// Takes frames of known states; gives how many were refused.
    async fn take_run(
        self: &Arc<Self>,
        gid: GroupId,
        peer: &PeerId,
        run: &mut Vec<Fetched>,
        unusable: &mut Vec<Unusable>,
    ) -> Result<usize, Failed> {
        if run.is_empty() {
            return Ok(0);
        }
        let (mut named, mut frames) = (Vec::with_capacity(run.len()), Vec::with_capacity(run.len()));
        for Fetched { place, id, env_tag, arrived } in run.drain(..) {
            named.push((place, id, env_tag));
            frames.push(arrived);
        }
        let mut slot = self.groups.lock(gid).await;
        let taken = self.take_frames(&mut slot, Carrier { peer, asked: true }, frames).await;
        let outcomes = taken.inspect_err(|_| slot.forget())?;
        drop(slot);
        let mut refused = 0;
        for (named, outcome) in named.into_iter().zip(outcomes) {
            self.metrics.frame(super::super::intake::result(outcome));
            match outcome {
                FrameOutcome::Stored | FrameOutcome::Duplicate | FrameOutcome::Busy => {}
                FrameOutcome::Foreign => unusable.push(named),
                FrameOutcome::Rejected | FrameOutcome::Unspecified => {
                    refused += 1;
                    unusable.push(named);
                }
            }
        }
        Ok(refused)
    }

    async fn note_unusable(&self, gid: GroupId, unusable: Vec<Unusable>) -> Result<(), StoreError> {
        if unusable.is_empty() {
            return Ok(());
        }
        self.vault
            .write(move |tx| {
                Box::pin(async move { frame_set::note_unusable(tx.conn(), gid, &unusable, now_ms()).await })
            })
            .await
    }
}
