//! Errors of the group engine, by who must act. None holds an id, a key or content.

use super::{authorize::Unauthorised, policy::PolicyError};
use crate::certificate::CertificateError;

/// Why this device's own operation on a group failed; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// Rows are missing or unreadable.
    #[error("the stored state is damaged")]
    Damaged,
    /// Longer than a frame can carry.
    #[error("too large for one frame")]
    TooLarge,
    /// The system gave no random bytes.
    #[error("no randomness available")]
    Randomness,
    /// The device to remove is not a member.
    #[error("no such device in the group")]
    UnknownDevice,
    /// A KeyPackage is malformed, expired, not signed by its device or lacks what the group needs.
    #[error("the KeyPackage is not usable")]
    KeyPackage,
    /// A leaf's credential is no certificate, or another device's.
    #[error("a leaf has no valid certificate")]
    Certificate,
    /// The GroupContext holds other extensions than the policy and what it requires.
    #[error("the group has a context of another kind")]
    Context,
    /// The policy is not one this version understands.
    #[error("the group's policy is malformed")]
    Policy(#[from] PolicyError),
    /// The Welcome is malformed, for another KeyPackage or for another group.
    #[error("the Welcome does not fit")]
    Welcome,
    /// Members would refuse the commit.
    #[error(transparent)]
    Unauthorised(#[from] Unauthorised),
    /// openmls refused for a reason of its own.
    #[error("the MLS library refused")]
    Mls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl GroupError {
    pub(super) fn mls(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Mls(Box::new(error))
    }
}

impl From<CertificateError> for GroupError {
    fn from(_: CertificateError) -> Self {
        Self::Certificate
    }
}

/// Why a received commit is not merged; the parent state is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Not a commit as MLS writes it, or larger than allowed.
    #[error("the commit is malformed")]
    Malformed,
    /// Another group's.
    #[error("the commit is of another group")]
    WrongGroup,
    /// Made on a state of another epoch.
    #[error("the commit is not for this state")]
    WrongEpoch,
    /// Made by this device: its child state was kept when it was made.
    #[error("the commit is this device's own")]
    OwnCommit,
    /// A proposal other than Add, Remove or the policy, by reference, or from outside the group.
    #[error("the commit changes what no commit may change")]
    Forbidden,
    /// A leaf's credential is no certificate, or another device's.
    #[error("a leaf has no valid certificate")]
    Certificate,
    /// The committer may not do this.
    #[error(transparent)]
    Unauthorised(#[from] Unauthorised),
    /// A signature, a tag or the tree is wrong. Wrong for everyone.
    #[error("the commit is invalid")]
    Invalid,
    /// The owner asks for a newer protocol than this release speaks.
    #[error("the commit needs a newer version of this software")]
    Newer,
    /// A KeyPackage's lifetime does not include this device's clock: may pass later or elsewhere.
    #[error("a KeyPackage in the commit is expired or not yet valid")]
    Lifetime,
    /// This device's own rows are missing or unreadable.
    #[error("the stored state is damaged")]
    Damaged,
}

/// Why bytes are not a frame, or a frame does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not a frame of this version, or not of a permitted length.
    #[error("the frame is malformed")]
    Malformed,
    /// Sealed in another state.
    #[error("the frame is of another state")]
    WrongState,
    /// The seal is broken.
    #[error("the frame does not open")]
    Seal,
    /// It opens, but its content is not laid out as it must be: its sender misbehaves.
    #[error("the frame's content is malformed")]
    Content,
}

/// Why an application message is not delivered. No key was used up, unless one of a sender who lied
/// about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApplicationError {
    /// Not an application message as MLS writes it.
    #[error("the message is malformed")]
    Malformed,
    /// The message is not by the leaf, or not with the counter, that its frame names.
    #[error("the message is not what its frame says")]
    WrongSender,
    /// This device's own: it is stored, not opened.
    #[error("the message is this device's own")]
    Own,
    /// Its key was used: it was opened before, or another message under the same key was.
    #[error("the message's key was used before")]
    Reused,
    /// Its key was thrown away: too many later messages of the sender were opened first.
    #[error("the message's key is gone")]
    TooOld,
    /// Too many messages of the sender are missing before it.
    #[error("the message is too far ahead")]
    TooFar,
    /// It does not decrypt, or its signature is wrong.
    #[error("the message is invalid")]
    Invalid,
}
