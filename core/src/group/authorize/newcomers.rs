//! The leaves that a commit adds, each with what speaks for it. Whether that is enough is the plan's.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::{AddedLeaf, JoinProof, Justification, Unauthorised};
use crate::event::{Body, ChangeKind, SignedEvent};

/// A leaf to add, and the proof that its holder was invited; whoever rejoins has none.
#[derive(Clone, Copy)]
pub(in crate::group) struct Newcomer<'a> {
    pub(in crate::group) leaf: &'a AddedLeaf,
    pub(in crate::group) proof: Option<&'a JoinProof>,
}

/// The leaves of a commit, by KeyPackage.
pub(super) struct Newcomers<'a> {
    adds: &'a [AddedLeaf],
    by_hash: HashMap<[u8; 32], Newcomer<'a>>,
}

impl<'a> Newcomers<'a> {
    /// Finds each leaf its one reason, and each reason its leaf.
    pub(super) fn pair(adds: &'a [AddedLeaf], reasons: &'a Justification) -> Result<Self, Unauthorised> {
        let mut proofs = HashMap::new();
        for proof in &reasons.joins {
            if proofs.insert(proof.key_package_hash, Some(proof)).is_some() {
                return Err(Unauthorised::Duplicate);
            }
        }
        for request in &reasons.requests {
            let Body::ChangeRequest { kind: ChangeKind::Rejoin { key_package, .. }, .. } =
                &request.event.body
            else {
                continue;
            };
            if proofs.insert(Sha256::digest(key_package).into(), None).is_some() {
                return Err(Unauthorised::Duplicate);
            }
        }
        let mut by_hash = HashMap::with_capacity(adds.len());
        for leaf in adds {
            let proof = proofs.remove(&leaf.key_package_hash).ok_or(Unauthorised::AddUnjustified)?;
            by_hash.insert(leaf.key_package_hash, Newcomer { leaf, proof });
        }
        if proofs.is_empty() { Ok(Self { adds, by_hash }) } else { Err(Unauthorised::Unused) }
    }

    /// The newcomer that a request asks for, once.
    pub(super) fn of(&mut self, request: &SignedEvent) -> Option<Newcomer<'a>> {
        let key_package = match &request.event.body {
            Body::ChangeRequest { kind, .. } => match kind {
                ChangeKind::Rejoin { key_package, .. } | ChangeKind::Add { key_package, .. } => key_package,
                ChangeKind::Remove | ChangeKind::Leave | ChangeKind::Role { .. } => return None,
            },
            _ => return None,
        };
        self.by_hash.remove(&<[u8; 32]>::from(Sha256::digest(key_package)))
    }

    /// Those whom no request asked for, in the order of the commit: the admitting server commits itself.
    pub(super) fn others(self) -> impl Iterator<Item = (&'a AddedLeaf, &'a JoinProof)> {
        let Self { adds, by_hash } = self;
        adds.iter().filter_map(move |leaf| Some((leaf, by_hash.get(&leaf.key_package_hash)?.proof?)))
    }
}
