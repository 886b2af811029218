//! What the protocol asks of MLS: one state of a group, and the ways from it to others.
//!
//! Two engines answer it. [`GroupState`] is the product's, openmls on rows. `fake` (feature `testing`)
//! gives the same answers by hashing, for simulations that take millions of steps. Both pass the same
//! tests; who may do what is decided for both by [`authorize`](super::authorize).

use super::{
    authorize::Standing,
    commit::{Change, Committed},
    error::{ApplicationError, CommitError, FrameError, GroupError},
    frame::{Frame, OpenedFrame},
    identity::DeviceIdentity,
    key_package::{CheckedKeyPackage, FreshKeyPackage, check_key_package, fresh_key_package},
    message::{Application, SealedFrame},
    policy::Policy,
    process::{Processed, sid_of_commit},
    rows::{RowChanges, Rows},
    state::{GroupState, StateFacts},
};
use crate::id::{GroupId, StateId};

/// One loaded state of a group, as this device holds it.
///
/// A state never becomes another one: commits give a child and leave their parent as it is, so that
/// rival children of one parent can be alive at the same time. What changes within a state are the
/// secrets of its messages. Whatever fails leaves the state usable, unless the method says that it must
/// be dropped and loaded again; nothing counts before its rows are stored.
pub trait Engine: Sized {
    /// Founds a group with this device as its only member.
    ///
    /// # Errors
    /// [`GroupError::Certificate`] when the identity's certificate is not of its key.
    fn create(identity: &DeviceIdentity, gid: GroupId, policy: Policy) -> Result<Self, GroupError>;

    /// Joins a group by a Welcome for the KeyPackage whose private keys are given. Who made the Welcome
    /// is not judged.
    ///
    /// # Errors
    /// [`GroupError::Welcome`] when it does not fit, [`GroupError::Certificate`] or
    /// [`GroupError::Context`] when the group is not one of ours.
    fn join(
        identity: &DeviceIdentity,
        gid: GroupId,
        key_package_rows: Rows,
        welcome: &[u8],
        route_secret: [u8; 32],
    ) -> Result<Self, GroupError>;

    /// Loads a state from the rows stored for its sid.
    ///
    /// # Errors
    /// [`GroupError::Damaged`] when rows are missing or unreadable.
    fn load(gid: GroupId, rows: Rows) -> Result<Self, GroupError>;

    /// Makes a KeyPackage, for one join.
    ///
    /// # Errors
    /// [`GroupError::Mls`] when the library fails.
    fn fresh_key_package(identity: &DeviceIdentity) -> Result<FreshKeyPackage, GroupError>;

    /// Checks a KeyPackage that someone sent.
    ///
    /// # Errors
    /// [`GroupError::KeyPackage`] or [`GroupError::Certificate`].
    fn check_key_package(key_package: &[u8]) -> Result<CheckedKeyPackage, GroupError>;

    /// The state that a commit leads to, from its bytes alone: nothing is verified.
    ///
    /// # Errors
    /// [`CommitError::Malformed`] or [`CommitError::WrongGroup`].
    fn sid_of_commit(gid: &GroupId, commit: &[u8]) -> Result<StateId, CommitError>;

    /// What others may know of the state.
    fn facts(&self) -> &StateFacts;

    /// What names the group's frames to routers; changes only when someone is removed.
    fn route_secret(&self) -> &[u8; 32];

    /// What to store under this state's sid: for a new state all of it, else what messages changed.
    ///
    /// # Errors
    /// [`GroupError`]: the state must be dropped and loaded again.
    fn take_changes(&mut self) -> Result<RowChanges, GroupError>;

    /// Commits a change. This state stays as it is.
    ///
    /// # Errors
    /// [`GroupError::Unauthorised`] when other members would refuse it.
    fn commit(
        &self,
        identity: &DeviceIdentity,
        change: Change,
        justification: Vec<u8>,
    ) -> Result<Committed<Self>, GroupError>;

    /// Checks a commit made on this state and says where it leads. This state stays as it is.
    ///
    /// # Errors
    /// [`CommitError`]; the bytes may come from anyone.
    fn process_commit(&self, commit: &[u8]) -> Result<Processed<Self>, CommitError>;

    /// Encrypts and seals an application message.
    ///
    /// # Errors
    /// [`GroupError::TooLarge`] before a key was used; else the state must be dropped and loaded again.
    fn seal_application(
        &mut self,
        identity: &DeviceIdentity,
        plaintext: &[u8],
    ) -> Result<SealedFrame, GroupError>;

    /// Seals a tip.
    ///
    /// # Errors
    /// [`GroupError::TooLarge`].
    fn seal_tip(&self, signed_tip: &[u8]) -> Result<Vec<u8>, GroupError>;

    /// Opens a frame's seal, no more: what is inside is still to be verified.
    ///
    /// # Errors
    /// [`FrameError`].
    fn open_frame(&self, frame: &Frame) -> Result<OpenedFrame, FrameError>;

    /// Decrypts and verifies an application message.
    ///
    /// # Errors
    /// [`ApplicationError`]; the state is as it was, but for a sender who lied about itself.
    fn open_application(&mut self, opened: &OpenedFrame) -> Result<Application, ApplicationError>;
}

/// Where a commit leads that everyone must accept who can check it.
pub enum Outcome<S> {
    /// Merged: the child state, all of it to be stored.
    Child(S),
    /// It takes this device's leaf away: who rejoins enters the child by its Welcome, others do not.
    Removed(PublicChild),
    /// Valid and authorised as far as anyone can see, but its secret does not open here: its committer
    /// sealed it wrongly, to this device at least, or this device's keys are damaged.
    Opaque(PublicChild),
}

/// What can be known without secrets of the state that a commit leads to.
#[derive(Clone)]
pub struct PublicChild {
    /// Which state of which branch, as the commit's confirmation tag says: nobody without the state's
    /// secret can check the tag.
    pub sid: StateId,
    /// Its epoch, roster and policy.
    pub standing: Standing,
}

impl Engine for GroupState {
    fn create(identity: &DeviceIdentity, gid: GroupId, policy: Policy) -> Result<Self, GroupError> {
        Self::create(identity, gid, policy)
    }

    fn join(
        identity: &DeviceIdentity,
        gid: GroupId,
        key_package_rows: Rows,
        welcome: &[u8],
        route_secret: [u8; 32],
    ) -> Result<Self, GroupError> {
        Self::join(identity, gid, key_package_rows, welcome, route_secret)
    }

    fn load(gid: GroupId, rows: Rows) -> Result<Self, GroupError> {
        Self::load(gid, rows)
    }

    fn fresh_key_package(identity: &DeviceIdentity) -> Result<FreshKeyPackage, GroupError> {
        fresh_key_package(identity)
    }

    fn check_key_package(key_package: &[u8]) -> Result<CheckedKeyPackage, GroupError> {
        check_key_package(key_package)
    }

    fn sid_of_commit(gid: &GroupId, commit: &[u8]) -> Result<StateId, CommitError> {
        sid_of_commit(gid, commit)
    }

    fn facts(&self) -> &StateFacts {
        self.facts()
    }

    fn route_secret(&self) -> &[u8; 32] {
        self.route_secret()
    }

    fn take_changes(&mut self) -> Result<RowChanges, GroupError> {
        self.take_changes()
    }

    fn commit(
        &self,
        identity: &DeviceIdentity,
        change: Change,
        justification: Vec<u8>,
    ) -> Result<Committed, GroupError> {
        self.commit(identity, change, justification)
    }

    fn process_commit(&self, commit: &[u8]) -> Result<Processed, CommitError> {
        self.process_commit(commit)
    }

    fn seal_application(
        &mut self,
        identity: &DeviceIdentity,
        plaintext: &[u8],
    ) -> Result<SealedFrame, GroupError> {
        self.seal_application(identity, plaintext)
    }

    fn seal_tip(&self, signed_tip: &[u8]) -> Result<Vec<u8>, GroupError> {
        self.seal_tip(signed_tip)
    }

    fn open_frame(&self, frame: &Frame) -> Result<OpenedFrame, FrameError> {
        self.open_frame(frame)
    }

    fn open_application(&mut self, opened: &OpenedFrame) -> Result<Application, ApplicationError> {
        self.open_application(opened)
    }
}
