//! What has become of a request at a head, and which open ones go into one commit. Pure: the same
//! requests on the same state give the same answers, in whatever order they came.
//!
//! The answer is a projection: on another head it may be another, also for a request that was rejected.

use sha2::{Digest as _, Sha256};

use super::authorize::{
    AddedLeaf, JoinProof, MAX_JUSTIFICATION_BYTES, MAX_REQUESTS, Newcomer, Plan, Standing, Unauthorised,
};
use crate::{
    dag::Class,
    event::{Body, ChangeKind, SignedEvent},
    id::{DeviceId, EventId, StateId},
    mutant::{self, Mutant},
};

/// Bytes of a justification that are not of one request: its version and time.
const FRAME_BYTES: usize = 32;
/// Bytes that a request or join proof takes beyond the events in it.
const PIECE_BYTES: usize = 160;

/// What has become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Waits for a commit, or for the invite that it names.
    Open,
    /// Its author may ask for it, but it acts on a standing that this head has not reached. Nobody can
    /// commit it now. It becomes something else with a head that has, and [`Stale`](Self::Stale) with a
    /// head that comes after the state it was made in.
    Ahead,
    /// Acted on by the commit that led to this state.
    Included(StateId),
    /// What it asks for is so by another commit.
    Settled,
    /// It acts on a standing that is no more, or that never was.
    Stale,
    /// It may not be acted on.
    Rejected(Unauthorised),
}

/// A request, with what belongs to it.
#[derive(Clone)]
pub struct Candidate {
    /// The request.
    pub request: SignedEvent,
    /// The leaf in its KeyPackage; `None` where there is none, or it is of no use.
    pub leaf: Option<AddedLeaf>,
    /// The invite's event that an Add names, once it is here.
    pub invite: Option<SignedEvent>,
}

/// What goes into one commit.
#[derive(Clone, Default)]
pub struct Batch {
    /// tls(KeyPackage) of each leaf to add.
    pub key_packages: Vec<Vec<u8>>,
    /// The leaves to add.
    pub adds: Vec<AddedLeaf>,
    /// The requests.
    pub requests: Vec<SignedEvent>,
    /// Proofs of those whom a request asks to add.
    pub joins: Vec<JoinProof>,
}

impl Candidate {
    /// A request that brings no KeyPackage.
    pub fn plain(request: SignedEvent) -> Self {
        Self { request, leaf: None, invite: None }
    }

    fn key_package(&self) -> Option<&[u8]> {
        match &self.request.event.body {
            Body::ChangeRequest { kind, .. } => match kind {
                ChangeKind::Rejoin { key_package, .. } | ChangeKind::Add { key_package, .. } => {
                    Some(key_package)
                }
                ChangeKind::Remove | ChangeKind::Leave | ChangeKind::Role { .. } => None,
            },
            _ => None,
        }
    }

    fn key_package_hash(&self) -> Option<[u8; 32]> {
        self.key_package().map(|bytes| Sha256::digest(bytes).into())
    }

    fn proof(&self) -> Option<JoinProof> {
        let Body::ChangeRequest { kind: ChangeKind::Add { nonce, signature, .. }, .. } =
            &self.request.event.body
        else {
            return None;
        };
        Some(JoinProof {
            invite: self.invite.clone()?,
            nonce: *nonce,
            key_package_hash: self.key_package_hash()?,
            signature: *signature,
        })
    }

    /// What makes a commit win over rivals goes first; within that, an order that nobody chooses.
    fn order(&self) -> (Class, EventId) {
        let class = if self.key_package().is_some() { Class::Change } else { Class::Removal };
        (class, self.request.id)
    }

    /// How much it adds to a justification, bytes.
    fn size(&self) -> usize {
        let invite = self.invite.as_ref().map_or(0, |invite| invite.encoded().len() + PIECE_BYTES);
        self.request.encoded().len() + PIECE_BYTES + invite
    }
}

/// What the states on a head's path say of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Path {
    /// The one whose commit acted on it, if one did.
    pub included: Option<StateId>,
    /// Whether one of them, or the head, is the state in which its author made it
    /// ([`Event::seen_sid`](crate::event::Event::seen_sid)).
    pub has_seen: bool,
}

/// What has become of a request at a head.
///
/// Who asks names the standing in the state they are in, so a request can lie ahead only of a head that
/// does not come after that state: it is not known here yet, or on another branch, and the head may still
/// get there. Where it is on the head's path, its author named what was not so.
pub fn status(candidate: &Candidate, head: &Standing, path: Path) -> Status {
    if let Some(sid) = path.included.filter(|_| !mutant::on(Mutant::OldRequestReplayed)) {
        return Status::Included(sid);
    }
    let Body::ChangeRequest { kind, target, .. } = &candidate.request.event.body else {
        return Status::Rejected(Unauthorised::NotARequest);
    };
    let proof = candidate.proof();
    if matches!(kind, ChangeKind::Add { .. }) && proof.is_none() {
        return Status::Open;
    }
    let refusal = match act(&mut Plan::unchanged(head), head, candidate, proof.as_ref()) {
        Ok(()) => return Status::Open,
        Err(Unauthorised::Early) if path.has_seen => return Status::Stale,
        Err(Unauthorised::Early) => return Status::Ahead,
        Err(refusal) => refusal,
    };
    match (kind, refusal) {
        // Only a removal ends a generation.
        (ChangeKind::Remove | ChangeKind::Leave, Unauthorised::Stale)
        | (ChangeKind::Role { .. }, Unauthorised::RoleUnchanged)
        | (ChangeKind::Add { .. }, Unauthorised::AlreadyMember)
        // Its device has another leaf, so it is back.
        | (ChangeKind::Rejoin { .. }, Unauthorised::Stale) => Status::Settled,
        (ChangeKind::Role { to, .. }, Unauthorised::Stale) if head.policy.role_of(target) == Some(*to) => {
            Status::Settled
        }
        // Whoever left and has no leaf to sign for any more is out, as was asked.
        (ChangeKind::Leave, Unauthorised::AuthorUnknown) => Status::Settled,
        (_, Unauthorised::Stale) => Status::Stale,
        (_, refusal) => Status::Rejected(refusal),
    }
}

/// Chooses among open requests what this committer can commit on a state together: those of class 0
/// first, then by event id; one that does not go with those before it is left for a later commit.
pub fn batch(mut open: Vec<Candidate>, parent: &Standing, committer: &DeviceId) -> Batch {
    let mut chosen = Batch::default();
    let Some(committer) = parent.member(committer) else { return chosen };
    open.sort_by_key(Candidate::order);
    open.dedup_by_key(|candidate| candidate.request.id);
    let mut plan = Plan::unchanged(parent);
    let mut bytes = FRAME_BYTES;
    for candidate in open {
        if chosen.requests.len() >= MAX_REQUESTS {
            break;
        }
        let proof = candidate.proof();
        let mut next = plan.clone();
        let fits = bytes.saturating_add(candidate.size()) <= MAX_JUSTIFICATION_BYTES;
        if !fits
            || act(&mut next, parent, &candidate, proof.as_ref()).is_err()
            || next.require_spared(committer).is_err()
        {
            continue;
        }
        plan = next;
        bytes = bytes.saturating_add(candidate.size());
        chosen.key_packages.extend(candidate.key_package().map(<[u8]>::to_vec));
        chosen.adds.extend(candidate.leaf);
        chosen.joins.extend(proof);
        chosen.requests.push(candidate.request);
    }
    chosen
}

fn act(
    plan: &mut Plan,
    parent: &Standing,
    candidate: &Candidate,
    proof: Option<&JoinProof>,
) -> Result<(), Unauthorised> {
    let leaf =
        candidate.leaf.as_ref().filter(|leaf| Some(leaf.key_package_hash) == candidate.key_package_hash());
    let newcomer = leaf.map(|leaf| Newcomer { leaf, proof });
    plan.act_on(parent, &candidate.request, newcomer)
}
