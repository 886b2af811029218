//! The rule once more, as it is written and without a thought for speed, to compare with.

use std::{cmp::Ordering, collections::BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::{
    dag::{Class, Dag, Held, Node},
    id::{AccountId, DeviceId, StateId},
};

/// A number of votes, as a fraction.
#[derive(Clone, Copy, Default)]
pub(super) struct Fraction(u128, u128);

impl Fraction {
    pub(super) fn of(part: usize, whole: usize) -> Self {
        Self(part as u128, whole as u128)
    }

    fn plus(self, other: Self) -> Self {
        if self.1 == 0 {
            return other;
        }
        let sum = Self(self.0 * other.1 + other.0 * self.1, self.1 * other.1);
        let mut divisors = (sum.0, sum.1);
        while divisors.1 != 0 {
            divisors = (divisors.1, divisors.0 % divisors.1);
        }
        Self(sum.0 / divisors.0.max(1), sum.1 / divisors.0.max(1))
    }

    fn cmp(self, other: Self) -> Ordering {
        (self.0 * other.1.max(1)).cmp(&(other.0 * self.1.max(1)))
    }
}

pub(super) fn is_below(dag: &Dag, sid: &StateId, top: &StateId) -> bool {
    let mut at = dag.node(sid);
    while let Some(node) = at {
        if node.sid == *top {
            return true;
        }
        at = dag.undisputed_parent(&node.sid);
    }
    false
}

pub(super) fn children<'a>(dag: &'a Dag, parent: &Node) -> Vec<&'a Node> {
    dag.nodes().filter(|node| dag.parent(&node.sid).is_some_and(|up| up.sid == parent.sid)).collect()
}

/// Whether this device entered the child by a commit made in the parent, not by a Welcome that a claim
/// hangs there.
fn merged_in(child: &Node, parent: &Node) -> bool {
    child.held.is_merged() && child.parent == Some(parent.sid)
}

/// Accounts that a merged removal takes out, and account 0, whose device knows all this, where one that it
/// only checked does.
pub(super) fn removed(dag: &Dag, parent: &Node) -> BTreeSet<AccountId> {
    let mut removed = BTreeSet::new();
    for child in children(dag, parent) {
        let out = |account: &&AccountId| !child.roster.contains(account);
        if child.class != Class::Removal || child.parent != Some(parent.sid) {
            continue;
        }
        match child.held {
            Held::Live | Held::Pruned => removed.extend(parent.roster.accounts().filter(out)),
            Held::Opaque => {
                let own = super::story::account(0);
                removed.extend(parent.roster.accounts().filter(out).filter(|account| **account == own));
            }
            Held::Claimed => {}
        }
    }
    removed
}

/// Votes for a child: all, and those with eight commits behind them; but of some accounts.
fn weight(dag: &Dag, parent: &Node, child: &Node, removed: &BTreeSet<AccountId>) -> (Fraction, Fraction) {
    let (mut all, mut settled) = (Fraction::default(), Fraction::default());
    for account in parent.roster.accounts().filter(|account| !removed.contains(account)) {
        let devices: Vec<&DeviceId> = parent
            .roster
            .members()
            .filter(|(owner, _)| *owner == account)
            .map(|(_, device)| device)
            .collect();
        for device in &devices {
            let Some(sid) = dag.supports().latest(device) else { continue };
            if is_below(dag, sid, &child.sid) {
                all = all.plus(Fraction::of(1, devices.len()));
                let mut deep = dag.node(sid);
                for _ in 0..8 {
                    deep = deep.filter(|at| at.sid != parent.sid).and_then(|at| dag.parent(&at.sid));
                }
                if deep.is_some() {
                    settled = settled.plus(Fraction::of(1, devices.len()));
                }
            }
        }
    }
    (all, settled)
}

pub(super) fn has_majority_of_all(dag: &Dag, parent: &Node, child: &Node) -> bool {
    has_majority_without(dag, parent, child, &BTreeSet::new())
}

pub(super) fn has_majority(dag: &Dag, parent: &Node, child: &Node) -> bool {
    has_majority_without(dag, parent, child, &removed(dag, parent))
}

fn has_majority_without(dag: &Dag, parent: &Node, child: &Node, removed: &BTreeSet<AccountId>) -> bool {
    let voters = parent.roster.accounts().len() - removed.len();
    let all = weight(dag, parent, child, removed).0;
    all.plus(all).cmp(Fraction::of(voters, 1)).is_gt()
}

fn is_settled(dag: &Dag, parent: &Node, child: &Node) -> bool {
    let removed = removed(dag, parent);
    let rivals = children(dag, parent).into_iter().filter(|other| other.sid != child.sid);
    let rivals =
        rivals.map(|other| weight(dag, parent, other, &removed).0).fold(Fraction::default(), Fraction::plus);
    let settled = weight(dag, parent, child, &removed).1;
    settled.cmp(Fraction::of(2, 1)).is_ge() && settled.cmp(rivals).is_gt()
}

/// Position among the accounts, position among the account's devices.
fn rank(dag: &Dag, parent: &Node, device: &DeviceId) -> Option<(usize, usize)> {
    let own = *parent.roster.account_of(device)?;
    let hash = |account: &AccountId| {
        let bytes = [b"rank", dag.gid().as_bytes(), &parent.epoch.to_be_bytes(), account.as_bytes()].concat();
        Sha256::digest(bytes)
    };
    let mut accounts: Vec<AccountId> = parent.roster.accounts().copied().collect();
    accounts.sort_by_key(hash);
    let devices = parent.roster.members().filter(|(account, _)| **account == own);
    let mut devices: Vec<DeviceId> = devices.map(|(_, device)| *device).collect();
    devices.sort_by_key(|device| Sha256::digest(device.as_bytes()));
    Some((
        accounts.iter().position(|account| *account == own)?,
        devices.iter().position(|other| other == device)?,
    ))
}

pub(super) fn child(dag: &Dag, parent: &StateId) -> Option<StateId> {
    let parent = dag.node(parent)?;
    let children = children(dag, parent);
    if let Some(locked) = children.iter().find(|child| has_majority_of_all(dag, parent, child)) {
        return Some(locked.sid);
    }
    if let Some(locked) = children.iter().find(|child| has_majority(dag, parent, child)) {
        return Some(locked.sid);
    }
    if let Some(locked) = children.iter().find(|child| is_settled(dag, parent, child)) {
        return Some(locked.sid);
    }
    let mut best = None;
    for child in children.iter().filter(|child| merged_in(child, parent)) {
        let lesser_twin = children.iter().any(|other| {
            (other.held.is_checked() && other.parent == Some(parent.sid))
                && other.committer == child.committer
                && other.commit < child.commit
        });
        let Some(rank) = rank(dag, parent, &child.committer).filter(|_| !lesser_twin) else { continue };
        let key = (child.class as u8, rank, child.commit);
        if best.is_none_or(|(least, _)| key < least) {
            best = Some((key, child.sid));
        }
    }
    if let Some((_, sid)) = best {
        return Some(sid);
    }
    let own = super::story::account(0);
    let checked: Vec<_> =
        children.iter().filter(|child| child.held.is_checked() && child.parent == Some(parent.sid)).collect();
    match checked[..] {
        [only]
            if parent.roster.contains(&own)
                && only.class == Class::Removal
                && !only.roster.contains(&own) =>
        {
            Some(only.sid)
        }
        _ => None,
    }
}
