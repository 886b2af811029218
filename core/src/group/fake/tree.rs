//! The leaves of a state: where MLS has a ratchet tree, the fake has the roster.

use super::{Key, join::KeyPackage, wire};
use crate::{
    certificate::{Certificate, CertificateError},
    group::{authorize::RosterMember, error::CommitError},
};

/// Leaves in the order of their indices.
#[derive(Clone)]
pub(super) struct Tree(pub(super) Vec<RosterMember>);

impl Tree {
    pub(super) fn founding(certificate: Certificate, encryption_key: Key) -> Self {
        Self(vec![RosterMember { leaf: 0, certificate, encryption_key }])
    }

    /// That of a stored row, whose certificates were checked before.
    pub(super) fn from_row(tree: &wire::Tree) -> Option<Self> {
        Self::read(tree, Certificate::decode_stored).ok()
    }

    /// That of a Welcome, whose certificates anyone may have made up.
    pub(super) fn from_welcome(tree: &wire::Tree) -> Result<Self, CertificateError> {
        Self::read(tree, Certificate::decode)
    }

    fn read(
        tree: &wire::Tree,
        decode: impl Fn(&[u8]) -> Result<Certificate, CertificateError>,
    ) -> Result<Self, CertificateError> {
        let member = |read: &wire::Leaf| {
            let encryption_key =
                Key::try_from(&*read.encryption_key).map_err(|_| CertificateError::Malformed)?;
            Ok(RosterMember { leaf: read.leaf, certificate: decode(&read.certificate)?, encryption_key })
        };
        Ok(Self(tree.leaves.iter().map(member).collect::<Result<_, _>>()?))
    }

    pub(super) fn to_wire(&self) -> wire::Tree {
        let leaf = |member: &RosterMember| wire::Leaf {
            leaf: member.leaf,
            certificate: member.certificate.encoded().to_vec(),
            encryption_key: member.encryption_key.to_vec(),
        };
        wire::Tree { leaves: self.0.iter().map(leaf).collect() }
    }

    /// The leaf that has a public key.
    pub(super) fn leaf_of(&self, key: &Key) -> Option<u32> {
        self.0.iter().find(|member| member.encryption_key == *key).map(|member| member.leaf)
    }

    /// Takes leaves away and gives the committer, who must stay, its new key.
    pub(super) fn update(&mut self, committer: u32, key: Key, removes: &[u32]) -> Result<(), CommitError> {
        for remove in removes {
            let place = self.place(*remove).map_err(|_| CommitError::Invalid)?;
            self.0.remove(place);
        }
        let committer = self.place(committer).ok().and_then(|place| self.0.get_mut(place));
        committer.ok_or(CommitError::Invalid)?.encryption_key = key;
        Ok(())
    }

    /// Puts a device in the leftmost free place, as MLS does (RFC 9420 §7.7).
    pub(super) fn add(&mut self, added: &KeyPackage, certificate: Certificate) -> Result<(), CommitError> {
        let known = |member: &RosterMember| {
            member.certificate.device == certificate.device || member.encryption_key == added.leaf_key
        };
        if self.0.iter().any(known) {
            return Err(CommitError::Invalid);
        }
        let place = self.0.iter().zip(0..).take_while(|(member, place)| member.leaf == *place).count();
        let leaf = u32::try_from(place).map_err(|_| CommitError::Invalid)?;
        self.0.insert(place, RosterMember { leaf, certificate, encryption_key: added.leaf_key });
        Ok(())
    }

    fn place(&self, leaf: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&leaf, |member| member.leaf)
    }
}
