//! What a hostile member makes with the fake.

use super::FakeState;
use crate::{
    group::{
        commit::{Change, Committed},
        engine::Engine as _,
        error::GroupError,
        frame::{Frame, FrameKind},
        identity::DeviceIdentity,
        testing::Hostile,
    },
    id::DeviceId,
};

impl Hostile for FakeState {
    fn forge_commit(
        &self,
        identity: &DeviceIdentity,
        change: &Change,
        justification: Vec<u8>,
    ) -> Result<Vec<u8>, GroupError> {
        let commit = self.commit_unasked(identity, change, justification)?;
        self.forge_frame(FrameKind::Commit, self.facts().own_leaf, 0, &[&commit[..], &[0; 64]].concat())
    }

    fn commit_against(
        &self,
        identity: &DeviceIdentity,
        change: &Change,
        justification: Vec<u8>,
        victims: &[DeviceId],
    ) -> Result<Committed<Self>, GroupError> {
        self.commit_for_all_but(victims, identity, change, justification)
    }

    fn forge_frame(
        &self,
        kind: FrameKind,
        leaf: u32,
        counter: u32,
        body: &[u8],
    ) -> Result<Vec<u8>, GroupError> {
        self.seal_frame(kind, leaf, counter, body)
    }

    fn key_opens(&self, frame: &Frame) -> bool {
        self.keys.key_opens(frame)
    }
}
