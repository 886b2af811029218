//! Skeletons: where commits lead, told without secrets to those who cannot open them.
//!
//! A skeleton is its committer's signed word, no more: what it says of the commit's class and of the place
//! of its state is a claim, which wins by members' votes alone.

use std::sync::Arc;

use super::{
    node::{Class, Held, Node},
    roster::Roster,
};
use crate::{
    certificate::verify,
    id::{CommitId, DeviceId, GroupId, StateId},
};

const CONTEXT: &[u8] = b"spacepanda/skeleton/1\0";
/// Greatest epoch that a skeleton may name: SQLite's integers are signed.
const MAX_EPOCH: u64 = 1 << 48;

/// The signature is not the committer's, or the epoch cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a skeleton is not its committer's word")]
pub struct InvalidSkeleton;

/// Where a commit leads, by its committer's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skeleton {
    /// The state that the commit was made in.
    pub parent: StateId,
    /// The state that it leads to.
    pub sid: StateId,
    /// That one's epoch.
    pub epoch: u64,
    /// What the commit does.
    pub class: Class,
    /// Whose it is.
    pub committer: DeviceId,
    /// The commit.
    pub commit: CommitId,
}

/// A skeleton with its committer's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedSkeleton {
    /// What is said.
    pub skeleton: Skeleton,
    /// Ed25519, by the committer's device, over [`Skeleton::signed_bytes`].
    pub signature: [u8; 64],
}

impl Skeleton {
    /// That of a state whose commit is known here; none of one that has no parent.
    pub fn of(node: &Node) -> Option<Self> {
        let Node { sid, epoch, class, committer, commit, .. } = *node;
        Some(Self { parent: node.parent?, sid, epoch, class, committer, commit })
    }

    /// `"spacepanda/skeleton/1\0" ‖ gid ‖ parent ‖ sid ‖ u64be(epoch) ‖ class ‖ commit id`.
    pub fn signed_bytes(&self, gid: &GroupId) -> Vec<u8> {
        let parts: [&[u8]; 7] = [
            CONTEXT,
            gid.as_bytes(),
            self.parent.as_bytes(),
            self.sid.as_bytes(),
            &self.epoch.to_be_bytes(),
            &[self.class as u8],
            self.commit.as_bytes(),
        ];
        parts.concat()
    }

    /// Checks its committer's signature.
    ///
    /// # Errors
    /// [`InvalidSkeleton`]; the bytes may come from anyone.
    pub fn signed(self, gid: &GroupId, signature: [u8; 64]) -> Result<SignedSkeleton, InvalidSkeleton> {
        if self.epoch > MAX_EPOCH {
            return Err(InvalidSkeleton);
        }
        verify(&self.committer.0, &self.signed_bytes(gid), &signature).map_err(|()| InvalidSkeleton)?;
        Ok(SignedSkeleton { skeleton: self, signature })
    }
}

impl SignedSkeleton {
    /// The state as hearsay.
    pub fn claim(&self) -> Node {
        let Skeleton { parent, sid, epoch, class, committer, commit } = self.skeleton;
        let roster = Arc::new(Roster::default());
        Node { sid, parent: Some(parent), epoch, commit, committer, class, roster, held: Held::Claimed }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    const GID: GroupId = GroupId([1; 16]);

    #[test]
    fn a_skeleton_is_its_committer_s_word_and_nobody_else_s() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let skeleton = Skeleton {
            parent: StateId([2; 32]),
            sid: StateId([3; 32]),
            epoch: 4,
            class: Class::Change,
            committer: DeviceId(key.verifying_key().to_bytes()),
            commit: CommitId([5; 32]),
        };
        let signature = key.sign(&skeleton.signed_bytes(&GID)).to_bytes();
        let signed = skeleton.signed(&GID, signature).unwrap();
        assert_eq!(Skeleton::of(&signed.claim()), Some(skeleton));
        assert_eq!(signed.claim().held, Held::Claimed);

        assert!(skeleton.signed(&GroupId([9; 16]), signature).is_err(), "of another group");
        let altered = [
            Skeleton { parent: StateId([8; 32]), ..skeleton },
            Skeleton { sid: StateId([8; 32]), ..skeleton },
            Skeleton { epoch: 5, ..skeleton },
            Skeleton { class: Class::Removal, ..skeleton },
            Skeleton { committer: DeviceId([8; 32]), ..skeleton },
            Skeleton { commit: CommitId([8; 32]), ..skeleton },
        ];
        for other in altered {
            assert_eq!(other.signed(&GID, signature), Err(InvalidSkeleton));
        }
        let far = Skeleton { epoch: u64::MAX, ..skeleton };
        assert!(far.signed(&GID, key.sign(&far.signed_bytes(&GID)).to_bytes()).is_err());
    }
}
