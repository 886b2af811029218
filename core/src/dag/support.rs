//! Supports: which state each device says it follows.
//!
//! A Support is a device's signed vote. Only its latest counts, by the counter that it signed, so that
//! repeats and delays change nothing. Who signs two states under one counter votes differently before
//! different members; the two Supports together prove it to everyone, and the vote is lost for good.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::{Signer as _, SigningKey};

use crate::{
    certificate::verify,
    id::{DeviceId, GroupId, StateId},
    mutant::{self, Mutant},
};

const CONTEXT: &[u8] = b"spacepanda/support/1\0";

/// Devices whose Supports are kept although they are in no state that was checked here. A Support may come
/// before the state that its device is in; but anyone can make devices.
pub const MAX_STRANGERS: usize = 1024;

/// The signature is not the device's, or two Supports prove nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a support is not what it is said to be")]
pub struct InvalidSupport;

/// A device's word that a state is its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Support {
    /// Whose word.
    pub device: DeviceId,
    /// Rises with every other state that the device supports.
    pub counter: u64,
    /// The state.
    pub sid: StateId,
    /// Ed25519, by the device, over
    /// `"spacepanda/support/1\0" ‖ gid ‖ device ‖ u64be(counter) ‖ sid`.
    pub signature: [u8; 64],
}

impl Support {
    /// Signs one's own support.
    pub fn sign(gid: &GroupId, key: &SigningKey, counter: u64, sid: StateId) -> Self {
        let device = DeviceId(key.verifying_key().to_bytes());
        let signature = key.sign(&signed_bytes(gid, &device, counter, &sid)).to_bytes();
        Self { device, counter, sid, signature }
    }

    /// Checks the signature. That the device is a member is for the choice to see: who is not in a
    /// state's roster has no vote on its children.
    ///
    /// # Errors
    /// [`InvalidSupport`]; the bytes may come from anyone.
    pub fn verify(&self, gid: &GroupId) -> Result<(), InvalidSupport> {
        let signed = signed_bytes(gid, &self.device, self.counter, &self.sid);
        verify(&self.device.0, &signed, &self.signature).map_err(|()| InvalidSupport)
    }
}

fn signed_bytes(gid: &GroupId, device: &DeviceId, counter: u64, sid: &StateId) -> Vec<u8> {
    [CONTEXT, gid.as_bytes(), device.as_bytes(), &counter.to_be_bytes(), sid.as_bytes()].concat()
}

/// The proof that a device supported two states under one counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Equivocation {
    first: Support,
    second: Support,
}

impl Equivocation {
    /// Two Supports as a proof, if they are one.
    ///
    /// # Errors
    /// [`InvalidSupport`] unless device and counter are the same and the states are not.
    pub fn new(one: Support, other: Support) -> Result<Self, InvalidSupport> {
        if (one.device, one.counter) != (other.device, other.counter) || one.sid == other.sid {
            return Err(InvalidSupport);
        }
        let (first, second) = if one.sid < other.sid { (one, other) } else { (other, one) };
        Ok(Self { first, second })
    }

    /// Whose it is.
    pub fn device(&self) -> DeviceId {
        self.first.device
    }

    /// The two Supports, the lesser state first.
    pub fn supports(&self) -> [&Support; 2] {
        [&self.first, &self.second]
    }

    /// Checks both signatures.
    ///
    /// # Errors
    /// [`InvalidSupport`]; the bytes may come from anyone.
    pub fn verify(&self, gid: &GroupId) -> Result<(), InvalidSupport> {
        self.first.verify(gid)?;
        self.second.verify(gid)
    }
}

/// What a Support changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is the device's latest.
    Latest,
    /// Nothing: it is known, a later one is, or the device has lost its vote.
    Nothing,
    /// The device supports two states at once; [`Supports::equivocation`] is the proof, to be stored and
    /// passed on.
    Equivocation,
    /// Nothing: the device is in no roster known here, and [`MAX_STRANGERS`] such are heard already. It may
    /// be told again once a state with the device is known.
    TooMany,
}

/// The latest Support of each device, and who lost its vote.
///
/// Of earlier Supports nothing is kept, so a conflict with one of them goes unnoticed here. Whoever
/// holds both has the proof, and passes it on: once everyone has the same latest Supports and proofs,
/// everyone counts the same votes.
#[derive(Debug, Clone, Default)]
pub struct Supports {
    latest: BTreeMap<DeviceId, Support>,
    equivocations: BTreeMap<DeviceId, Equivocation>,
    /// Devices of all rosters known here.
    members: BTreeSet<DeviceId>,
    /// Other devices of which something is kept.
    strangers: BTreeSet<DeviceId>,
}

impl Supports {
    /// Learns who is in a state.
    pub(super) fn meet<'a>(&mut self, devices: impl Iterator<Item = &'a DeviceId>) {
        for device in devices {
            if self.members.insert(*device) {
                self.strangers.remove(device);
            }
        }
    }

    /// Whether something of a device may be kept.
    fn admits(&mut self, device: DeviceId) -> bool {
        let known = self.members.contains(&device) || self.strangers.contains(&device);
        known || (self.strangers.len() < MAX_STRANGERS && self.strangers.insert(device))
    }

    /// Takes in a Support whose signature was checked.
    pub(super) fn insert(&mut self, support: Support) -> Heard {
        if !self.admits(support.device) {
            return Heard::TooMany;
        }
        match self.latest.get(&support.device) {
            Some(known) if known.counter > support.counter => Heard::Nothing,
            Some(known) if known.counter == support.counter => match Equivocation::new(*known, support) {
                Ok(proof) => self.convict(proof),
                Err(InvalidSupport) => Heard::Nothing,
            },
            _ => {
                self.latest.insert(support.device, support);
                if self.equivocations.contains_key(&support.device) { Heard::Nothing } else { Heard::Latest }
            }
        }
    }

    /// Takes in a proof whose signatures were checked; only the first against a device changes anything.
    pub(super) fn convict(&mut self, proof: Equivocation) -> Heard {
        let device = proof.device();
        if self.equivocations.contains_key(&device) {
            return Heard::Nothing;
        }
        if !self.admits(device) {
            return Heard::TooMany;
        }
        self.equivocations.insert(device, proof);
        Heard::Equivocation
    }

    /// The latest Support of a device, also of one without a vote.
    pub fn of(&self, device: &DeviceId) -> Option<&Support> {
        self.latest.get(device)
    }

    /// What a device's vote is for, if it has one.
    pub fn latest(&self, device: &DeviceId) -> Option<&StateId> {
        if self.equivocations.contains_key(device) && !mutant::on(Mutant::EquivocatorCounted) {
            return None;
        }
        self.latest.get(device).map(|support| &support.sid)
    }

    /// The latest Support of every device, also of those without a vote.
    pub fn all(&self) -> impl Iterator<Item = &Support> {
        self.latest.values()
    }

    /// Why a device has no vote.
    pub fn equivocation(&self, device: &DeviceId) -> Option<&Equivocation> {
        self.equivocations.get(device)
    }

    /// The proofs, one a device.
    pub fn equivocations(&self) -> impl Iterator<Item = &Equivocation> {
        self.equivocations.values()
    }
}
