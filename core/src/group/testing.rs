//! What a hostile member makes with the library it runs: frames and commits that nobody checked.
//!
//! Only for tests of this crate's users (feature `testing`); the product never calls it.

use super::{
    commit::{Change, Messages},
    error::GroupError,
    frame::{Frame, FrameKind},
    identity::DeviceIdentity,
    state::GroupState,
};

impl GroupState {
    /// Makes a commit without asking whether it is allowed, sealed as a frame; this state stays.
    ///
    /// # Errors
    /// [`GroupError`]
    pub fn forge_commit(
        &self,
        identity: &DeviceIdentity,
        change: &Change,
        justification: Vec<u8>,
    ) -> Result<Vec<u8>, GroupError> {
        let (mut group, provider) = self.fork()?;
        group.set_aad(justification);
        let Messages { commit, .. } = self.stage(identity, change, &mut group, &provider)?;
        self.forge_frame(FrameKind::Commit, self.facts.own_leaf, 0, &commit)
    }

    /// Seals any body as any kind, in the name of any leaf.
    ///
    /// # Errors
    /// [`GroupError::TooLarge`]
    pub fn forge_frame(
        &self,
        kind: FrameKind,
        leaf: u32,
        counter: u32,
        body: &[u8],
    ) -> Result<Vec<u8>, GroupError> {
        self.keys.seal(kind, leaf, counter, body)
    }

    /// Whether the state's key opens a frame's seal, whatever state the frame names.
    pub fn key_opens(&self, frame: &Frame) -> bool {
        self.keys.key_opens(frame)
    }
}
