//! How long the group engine takes, on a group that it makes for the purpose. No IO; nothing is kept.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use ed25519_dalek::SigningKey;

use crate::{
    certificate::Certificate,
    clock::{now_ms, random},
    dag::{Class, Dag, Held, Node},
    event::{Body, Event, SignedEvent},
    group::{
        authorize::{AddedLeaf, JoinProof, Justification, MAX_JOINS, plan, sign_join},
        commit::{Change, Committed},
        engine::Outcome,
        error::GroupError,
        identity::DeviceIdentity,
        key_package::{FreshKeyPackage, check_key_package, fresh_key_package},
        policy::Policy,
        rows::{RowChanges, Rows},
        state::{GroupState, StateFacts},
    },
    id::{CommitId, DeviceId, GroupId, InviteId, LogId, StateId},
    model::Role,
};

/// The median time of the commit that adds one member to a group of `members`, of `rounds`: authorised,
/// committed and sealed, but not stored.
///
/// # Errors
/// [`GroupError`]
pub fn add_one(members: usize, rounds: usize) -> Result<Duration, GroupError> {
    let space = Space::of(members)?;
    median(rounds, || {
        let packages = newcomers(1)?;
        let start = Instant::now();
        space.add(packages)?;
        Ok(start.elapsed())
    })
}

/// The median time, of `rounds`, in which a member of a group of `members` goes from its own branch of
/// `commits` commits to the end of another as long: each is checked and merged, its rows are encoded, the
/// head is chosen and loaded. Nothing is stored.
///
/// # Errors
/// [`GroupError`]
pub fn switch(members: usize, commits: u32, rounds: usize) -> Result<Duration, GroupError> {
    let (space, follower, root) = Space::with_follower(members)?;
    let mut dag = Dag::new(root.facts().gid, follower.identity.device());
    dag.enter(entered(&root, None, CommitId::of(&[]), Class::Change), 0);
    let mut own: Option<GroupState> = None;
    for _ in 0..commits {
        let parent = own.as_ref().unwrap_or(&root);
        let committed = update(&follower, parent)?;
        let class = committed.authorized.class;
        dag.insert(entered(&committed.child, Some(parent.facts().sid), committed.commit_id, class));
        own = Some(committed.child);
    }
    let mut theirs = Vec::new();
    let mut tip = space.state;
    for _ in 0..commits {
        let committed = update(&space.owner, &tip)?;
        theirs.push(committed.commit);
        tip = committed.child;
    }
    median(rounds, || follow(&root, dag.clone(), &theirs))
}

fn median(
    rounds: usize,
    mut measure: impl FnMut() -> Result<Duration, GroupError>,
) -> Result<Duration, GroupError> {
    let mut times = (0..rounds).map(|_| measure()).collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

/// Takes the time from the branch's first commit to the loaded head.
fn follow(root: &GroupState, mut dag: Dag, commits: &[Vec<u8>]) -> Result<Duration, GroupError> {
    let start = Instant::now();
    let mut rows = RowChanges::default();
    let mut state: Option<GroupState> = None;
    for commit in commits {
        let parent = state.as_ref().unwrap_or(root);
        let processed = parent.process_commit(commit).map_err(|_| GroupError::Damaged)?;
        let Outcome::Child(mut child) = processed.outcome else { return Err(GroupError::Damaged) };
        rows = child.take_changes()?;
        let class = processed.authorized.class;
        dag.insert(entered(&child, Some(parent.facts().sid), processed.commit_id, class));
        state = Some(child);
    }
    black_box(dag.head());
    GroupState::load(root.facts().gid, Rows::from_rows(rows.upserts))?;
    Ok(start.elapsed())
}

fn entered(state: &GroupState, parent: Option<StateId>, commit: CommitId, class: Class) -> Node {
    let StateFacts { sid, epoch, standing, .. } = state.facts().clone();
    let roster = Arc::new(standing.members());
    let committer = roster.devices().next().copied().unwrap_or(DeviceId([0; 32]));
    Node { sid, parent, epoch, commit, committer, class, roster, held: Held::Live }
}

/// Only the committer's keys are new.
fn update(device: &Device, state: &GroupState) -> Result<Committed, GroupError> {
    let policy = state.facts().standing.policy.clone();
    let change = Change { adds: Vec::new(), removes: Vec::new(), policy };
    state.commit(&device.identity, change, Justification::empty(now_ms().unsigned_abs()).encode()?)
}

fn newcomers(count: usize) -> Result<Vec<FreshKeyPackage>, GroupError> {
    (0..count).map(|_| fresh_key_package(&Device::new().identity)).collect()
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

/// A group as its owner's device has it, and an invite into it.
struct Space {
    owner: Device,
    state: GroupState,
    seed: [u8; 32],
    invite: SignedEvent,
}

impl Space {
    /// A space of so many members.
    fn of(members: usize) -> Result<Self, GroupError> {
        let owner = Device::new();
        let gid = GroupId::random();
        let policy = Policy::founding(owner.identity.certificate().account);
        let state = GroupState::create(&owner.identity, gid, policy)?;
        let seed = *random();
        let invite = invite(&owner, gid, &seed)?;
        let mut space = Self { owner, state, seed, invite };
        while space.size() < members {
            let missing = members - space.size();
            space.state = space.add(newcomers(missing.min(MAX_JOINS))?)?.child;
        }
        Ok(space)
    }

    /// A space of so many, with the last to come and the state in which they came.
    fn with_follower(members: usize) -> Result<(Self, Device, GroupState), GroupError> {
        let mut space = Self::of(members.saturating_sub(1))?;
        let follower = Device::new();
        let package = fresh_key_package(&follower.identity)?;
        let keys = Rows::from_rows(package.rows.upserts.clone());
        let committed = space.add(vec![package])?;
        let welcome = committed.welcome.ok_or(GroupError::Welcome)?;
        space.state = committed.child;
        let (gid, route) = (space.state.facts().gid, *space.state.route_secret());
        let root = GroupState::join(&follower.identity, gid, keys, &welcome, route)?;
        Ok((space, follower, root))
    }

    fn size(&self) -> usize {
        self.state.facts().standing.roster.len()
    }

    /// Adds new devices in one commit.
    fn add(&self, packages: Vec<FreshKeyPackage>) -> Result<Committed, GroupError> {
        let mut key_packages = Vec::with_capacity(packages.len());
        let mut adds = Vec::with_capacity(packages.len());
        let mut reasons = Justification::empty(now_ms().unsigned_abs());
        for package in packages {
            let checked = check_key_package(&package.bytes)?;
            let nonce = *random();
            let proof = JoinProof {
                invite: self.invite.clone(),
                nonce,
                key_package_hash: checked.hash,
                signature: sign_join(&self.seed, &self.state.facts().gid, &nonce, &checked.hash),
            };
            adds.push(AddedLeaf { certificate: checked.certificate, key_package_hash: checked.hash });
            key_packages.push(package.bytes);
            reasons.joins.push(proof);
        }
        let owner = &self.owner.identity;
        let planned = plan(&self.state.facts().standing, &owner.device(), &adds, &reasons)?;
        let change = Change { adds: key_packages, removes: planned.removes, policy: planned.policy };
        self.state.commit(owner, change, reasons.encode()?)
    }
}

fn invite(owner: &Device, gid: GroupId, seed: &[u8; 32]) -> Result<SignedEvent, GroupError> {
    let body = Body::Invite {
        invite: InviteId::random(),
        public_key: SigningKey::from_bytes(seed).verifying_key().to_bytes(),
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
    SignedEvent::sign(&owner.key, event).map_err(|_| GroupError::TooLarge)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_group_is_made_and_one_is_added() {
        assert!(!super::add_one(5, 3).unwrap().is_zero());
    }

    #[test]
    fn a_member_goes_over_to_another_branch() {
        assert!(!super::switch(5, 3, 3).unwrap().is_zero());
    }
}
