//! A group made up for a test: accounts by number, commits one by one.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::{
    dag::{Class, Dag, Head, Held, Node, Roster, Support},
    id::{AccountId, CommitId, DeviceId, GroupId, StateId},
};

pub(super) const GID: GroupId = GroupId([7; 16]);

pub(super) fn account(number: usize) -> AccountId {
    AccountId(bytes("account", number, 0))
}

pub(super) fn device(account: usize, number: usize) -> DeviceId {
    DeviceId(bytes("device", account, number))
}

pub(super) fn state(number: usize) -> StateId {
    StateId(bytes("state", number, 0))
}

/// The first state of a group.
pub(super) fn founding(roster: Roster) -> Node {
    Node {
        sid: state(0),
        parent: None,
        epoch: 1,
        commit: commit(0),
        committer: device(0, 0),
        class: Class::Change,
        roster: Arc::new(roster),
        held: Held::Live,
    }
}

pub(super) fn commit(number: usize) -> CommitId {
    CommitId(bytes("commit", number, 0))
}

fn bytes(what: &str, number: usize, part: usize) -> [u8; 32] {
    Sha256::digest(format!("{what} {number} {part}")).into()
}

pub(super) fn support(device: DeviceId, counter: u64, sid: StateId) -> Support {
    Support { device, counter, sid, signature: [0; 64] }
}

/// What account 0's first device knows.
#[derive(Clone)]
pub(super) struct Story {
    pub(super) dag: Dag,
    pub(super) root: StateId,
    states: usize,
    votes: u64,
}

impl Story {
    /// A group of so many accounts with one device each.
    pub(super) fn of(accounts: usize) -> Self {
        Self::with_devices(&vec![1; accounts])
    }

    /// A group whose accounts have so many devices.
    pub(super) fn with_devices(devices: &[usize]) -> Self {
        let members = devices.iter().enumerate();
        let members = members.flat_map(|(a, count)| (0..*count).map(move |d| (account(a), device(a, d))));
        let root = Node {
            sid: state(0),
            parent: None,
            epoch: 10,
            commit: commit(0),
            committer: device(0, 0),
            class: Class::Change,
            roster: Arc::new(members.collect()),
            held: Held::Live,
        };
        let mut dag = Dag::new(GID, device(0, 0));
        dag.enter(root, 0);
        Self { dag, root: state(0), states: 0, votes: 0 }
    }

    fn node(&mut self, parent: StateId, by: usize, class: Class) -> Node {
        self.states += 1;
        let parent = self.dag.node(&parent).unwrap();
        Node {
            sid: state(self.states),
            parent: Some(parent.sid),
            epoch: parent.epoch + 1,
            commit: commit(self.states),
            committer: device(by, 0),
            class,
            roster: Arc::clone(&parent.roster),
            held: Held::Live,
        }
    }

    fn add(&mut self, node: Node) -> StateId {
        let sid = node.sid;
        self.dag.insert(node);
        sid
    }

    pub(super) fn update(&mut self, parent: StateId, by: usize) -> StateId {
        let node = self.node(parent, by, Class::Update);
        self.add(node)
    }

    pub(super) fn change(&mut self, parent: StateId, by: usize) -> StateId {
        let node = self.node(parent, by, Class::Change);
        self.add(node)
    }

    pub(super) fn removal(&mut self, parent: StateId, by: usize, removed: &[usize]) -> StateId {
        let node = self.removing(parent, by, removed);
        self.add(node)
    }

    /// A removal of `removed` that this device only checked.
    pub(super) fn opaque(&mut self, parent: StateId, by: usize, removed: &[usize]) -> StateId {
        let node = self.removing(parent, by, removed);
        self.add(Node { held: Held::Opaque, ..node })
    }

    fn removing(&mut self, parent: StateId, by: usize, removed: &[usize]) -> Node {
        let node = self.node(parent, by, Class::Removal);
        let removed: Vec<_> = removed.iter().map(|number| account(*number)).collect();
        let stays = node.roster.members().filter(|(account, _)| !removed.contains(account));
        let roster = Arc::new(stays.map(|(account, device)| (*account, *device)).collect());
        Node { roster, ..node }
    }

    pub(super) fn claimed(&mut self, parent: StateId, by: usize, class: Class) -> StateId {
        let node = self.node(parent, by, class);
        self.add(Node { held: Held::Claimed, roster: Arc::new(Roster::default()), ..node })
    }

    /// A state that this device was welcomed into; nothing says after which.
    pub(super) fn welcome(&mut self, epoch: u64, by: usize, like: StateId) -> StateId {
        let node = self.node(like, by, Class::Change);
        let sid = node.sid;
        self.dag.enter(Node { parent: None, epoch, ..node }, u64::try_from(self.states).unwrap());
        sid
    }

    pub(super) fn chain(&mut self, parent: StateId, by: usize, commits: usize) -> Vec<StateId> {
        let mut last = parent;
        let mut next = || {
            last = self.update(last, by);
            last
        };
        (0..commits).map(|_| next()).collect()
    }

    /// Every device of the account in the root's roster supports a state.
    pub(super) fn votes(&mut self, account_number: usize, sid: StateId) {
        let root = self.dag.node(&self.root).unwrap().roster.clone();
        let account = account(account_number);
        for (_, device) in root.members().filter(|(owner, _)| **owner == account) {
            self.device_votes(*device, sid);
        }
    }

    pub(super) fn device_votes(&mut self, device: DeviceId, sid: StateId) {
        self.votes += 1;
        self.dag.support(support(device, self.votes, sid));
    }

    pub(super) fn child(&self) -> StateId {
        self.dag.child(&self.root).unwrap()
    }

    pub(super) fn head(&self) -> Head {
        self.dag.head().unwrap()
    }
}
