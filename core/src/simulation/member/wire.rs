//! What members of a simulated group send each other. Where the product seals, the members here look at
//! the tag of the state that it would be sealed in; frames are the engine's own.

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc};

use ed25519_dalek::{Signer as _, SigningKey};

use super::person::GID;
use crate::{
    certificate::verify,
    dag::{Class, Equivocation, Support},
    event::SignedEvent,
    group::{authorize::Standing, commit::Committed, testing::Hostile},
    id::{AccountId, CommitId, DeviceId, EventId, FrameId, InviteId, LogId, StateId},
};

const SKELETON_CONTEXT: &[u8] = b"spacepanda/skeleton/1\0";

/// Where a commit leads, by its committer's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skeleton {
    /// The state that it was made in; none for the one that a group or a member starts with.
    pub parent: Option<StateId>,
    /// The state that it leads to.
    pub sid: StateId,
    /// That one's epoch.
    pub epoch: u64,
    /// What it does.
    pub class: Class,
    /// Whose it is.
    pub committer: DeviceId,
    /// The commit.
    pub commit: CommitId,
    /// Ed25519, by the committer's device.
    pub signature: [u8; 64],
}

impl Skeleton {
    pub(super) fn sign<E: Hostile>(key: &SigningKey, parent: &StateId, committed: &Committed<E>) -> Self {
        let facts = committed.child.facts();
        let skeleton = Self {
            parent: Some(*parent),
            sid: facts.sid,
            epoch: facts.epoch,
            class: committed.authorized.class,
            committer: committed.committer,
            commit: committed.commit_id,
            signature: [0; 64],
        };
        skeleton.signed(key)
    }

    pub(super) fn signed(self, key: &SigningKey) -> Self {
        Self { signature: key.sign(&self.signed_bytes()).to_bytes(), ..self }
    }

    /// That of the state which a group starts with.
    pub(super) fn founding(standing: &Standing, sid: StateId) -> Self {
        let first = standing.roster.first().map_or(DeviceId([0; 32]), |member| member.certificate.device);
        Self {
            parent: None,
            sid,
            epoch: standing.epoch,
            class: Class::Update,
            committer: first,
            commit: CommitId([0; 32]),
            signature: [0; 64],
        }
    }

    pub(super) fn is_signed(&self) -> bool {
        verify(&self.committer.0, &self.signed_bytes(), &self.signature).is_ok()
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let parent = self.parent.unwrap_or(StateId([0; 32]));
        let parts: [&[u8]; 7] = [
            SKELETON_CONTEXT,
            GID.as_bytes(),
            parent.as_bytes(),
            self.sid.as_bytes(),
            &self.epoch.to_be_bytes(),
            &[self.class as u8],
            self.commit.as_bytes(),
        ];
        parts.concat()
    }
}

/// A commit on its way.
pub struct CommitFrame {
    /// The frame's id.
    pub id: FrameId,
    /// The frame.
    pub bytes: Vec<u8>,
    /// Where it leads.
    pub skeleton: Skeleton,
}

/// What a device has, in two parts: the first for those who hold its head, the second for everyone on
/// the group's route.
pub struct Tip {
    /// Whose.
    pub device: DeviceId,
    /// Rises with whatever the device did that others rely on.
    pub counter: u64,
    /// Names the state that the sealed part is sealed in.
    pub env_tag: [u8; 16],
    /// Sealed: the state that the device stands on.
    pub head: StateId,
    /// Sealed: how far it has every log.
    pub acks: BTreeMap<LogId, u64>,
    /// Commits in frames that it need not be sent.
    pub have: Arc<BTreeSet<FrameId>>,
    /// It can follow no commit made in an earlier epoch.
    pub floor_epoch: u64,
    /// The votes that it knows.
    pub supports: Arc<Vec<Support>>,
    /// Proofs that it knows.
    pub proofs: Arc<Vec<Equivocation>>,
    /// Where commits lead that it followed.
    pub skeletons: Arc<Vec<Skeleton>>,
    /// It has not been told yet since its start what its own newest Tip is.
    pub asks: bool,
}

/// What the sender of a Tip knows of its receiver.
#[derive(Clone, Debug)]
pub struct Echo {
    /// The highest counter of a Tip by it.
    pub counter: u64,
    /// How far it is known to have written its logs.
    pub logs: Arc<[(LogId, u64)]>,
    /// Whether the sender is in its head, and knows who is.
    pub settled: bool,
    /// Whether it is out of the group, as far as it knows.
    pub out: bool,
    /// The HPKE key of its leaf in the sender's head.
    pub leaf_key: Option<[u8; 32]>,
}

/// One who wants to be added.
#[derive(Clone)]
pub struct JoinRequest {
    /// Who.
    pub account: AccountId,
    /// tls(KeyPackage)
    pub key_package: Vec<u8>,
    /// The invite.
    pub invite: InviteId,
    /// What was signed over.
    pub nonce: [u8; 32],
    /// With the invite's key.
    pub signature: [u8; 64],
}

/// Where a log stood when someone was added.
#[derive(Clone, Copy)]
pub struct Floor {
    /// Whose it is.
    pub device: DeviceId,
    /// Its last event that the newcomer does not get.
    pub seq: u64,
    /// That event.
    pub id: EventId,
    /// Its time.
    pub lamport: u64,
}

/// What a newcomer needs.
#[derive(Clone)]
pub struct JoinBundle {
    /// The commit that added it.
    pub skeleton: Skeleton,
    /// MLSMessage(Welcome)
    pub welcome: Vec<u8>,
    /// Of the state that it enters.
    pub route_secret: [u8; 32],
    /// Where the logs stand.
    pub floors: BTreeMap<LogId, Floor>,
    /// State events, the newest value of each register.
    pub events: Vec<SignedEvent>,
    /// SHA-256 of the KeyPackage that it answers.
    pub key_package_hash: [u8; 32],
}

/// Sealed to one device.
pub enum Letter {
    /// From outside.
    Join(JoinRequest),
    /// To a newcomer, or to one who rejoins.
    Bundle(JoinBundle),
    /// From one who lost the way.
    Rejoin(SignedEvent),
}

/// What goes from one member to another.
#[derive(Clone)]
pub enum Message {
    /// What a device has.
    Tip(Arc<Tip>, Echo),
    /// An application frame.
    Frame(Arc<[u8]>),
    /// A commit.
    Commit(Arc<CommitFrame>),
    /// A letter.
    Letter(Arc<Letter>),
}
