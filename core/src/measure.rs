//! How long the group engine takes, on a group that it makes for the purpose. No IO; nothing is kept.

use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;

use crate::{
    certificate::Certificate,
    clock::{now_ms, random},
    event::{Body, Event, SignedEvent},
    group::{
        authorize::{AddedLeaf, JoinProof, Justification, MAX_JOINS, plan, sign_join},
        commit::Change,
        error::GroupError,
        identity::DeviceIdentity,
        key_package::{check_key_package, fresh_key_package},
        policy::Policy,
        state::GroupState,
    },
    id::{DeviceId, GroupId, InviteId, LogId, StateId},
    model::Role,
};

/// The median time of the commit that adds one member to a group of `members`, of `rounds`: authorised,
/// committed and sealed, but not stored.
///
/// # Errors
/// [`GroupError`]
pub fn add_one(members: usize, rounds: usize) -> Result<Duration, GroupError> {
    let owner = Device::new();
    let gid = GroupId::random();
    let policy = Policy::founding(owner.identity.certificate().account);
    let mut state = GroupState::create(&owner.identity, gid, policy)?;
    let invite = Invite::new(&owner, gid)?;
    while state.facts().standing.roster.len() < members {
        let missing = members - state.facts().standing.roster.len();
        state = invite.add(&owner, &state, missing.min(MAX_JOINS))?.0;
    }
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        times.push(invite.add(&owner, &state, 1)?.1);
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

struct Device {
    key: SigningKey,
    identity: DeviceIdentity,
}

impl Device {
    fn new() -> Self {
        let (account, key) = (SigningKey::from_bytes(&random()), SigningKey::from_bytes(&random()));
        let device = DeviceId(key.verifying_key().to_bytes());
        let certificate = Certificate::issue(&account, device, vec![1; 38], *random(), 1);
        Self { identity: DeviceIdentity::new(key.clone(), certificate), key }
    }
}

struct Invite {
    seed: [u8; 32],
    signed: SignedEvent,
}

impl Invite {
    fn new(owner: &Device, gid: GroupId) -> Result<Self, GroupError> {
        let seed = *random();
        let body = Body::Invite {
            invite: InviteId::random(),
            public_key: SigningKey::from_bytes(&seed).verifying_key().to_bytes(),
            role: Role::Member,
            max_uses: u32::MAX,
            expires_at_ms: 1 << 50,
            epoch: 0,
        };
        let event = Event {
            gid,
            log: LogId(*random()),
            seq: 1,
            prev: None,
            lamport: 1,
            deps: Vec::new(),
            seen_sid: StateId([0; 32]),
            wall_ms: 1,
            author: owner.identity.device(),
            body,
        };
        let signed = SignedEvent::sign(&owner.key, event).map_err(|_| GroupError::TooLarge)?;
        Ok(Self { seed, signed })
    }

    /// Adds new devices in one commit; the time counts from their KeyPackages to the sealed commit.
    fn add(
        &self,
        owner: &Device,
        state: &GroupState,
        count: usize,
    ) -> Result<(GroupState, Duration), GroupError> {
        let packages: Vec<_> =
            (0..count).map(|_| fresh_key_package(&Device::new().identity)).collect::<Result<_, _>>()?;
        let start = Instant::now();
        let mut key_packages = Vec::with_capacity(count);
        let mut adds = Vec::with_capacity(count);
        let mut reasons = Justification::empty(now_ms().unsigned_abs());
        for package in packages {
            let checked = check_key_package(&package.bytes)?;
            let nonce = *random();
            let proof = JoinProof {
                invite: self.signed.clone(),
                nonce,
                key_package_hash: checked.hash,
                signature: sign_join(&self.seed, &state.facts().gid, &nonce, &checked.hash),
            };
            adds.push(AddedLeaf { certificate: checked.certificate, key_package_hash: checked.hash });
            key_packages.push(package.bytes);
            reasons.joins.push(proof);
        }
        let planned = plan(&state.facts().standing, &owner.identity.device(), &adds, &reasons)?;
        let change = Change { adds: key_packages, removes: planned.removes, policy: planned.policy };
        let committed = state.commit(&owner.identity, change, reasons.encode()?)?;
        Ok((committed.child, start.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_group_is_made_and_one_is_added() {
        assert!(!super::add_one(5, 3).unwrap().is_zero());
    }
}
