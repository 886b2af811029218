//! The rules that what others send is fed to: which state is the head, whose turn it is, what goes, and what
//! becomes of requests. An input is a series of small choices among few states, devices and votes.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    members::standing,
    script::Script,
    wire::{account, device, event},
};
use crate::{
    dag::{
        Class, Dag, Equivocation, Held, Node, Roster, Support, graph,
        turn::{Outlook, Sake, turn},
        window::leaving,
    },
    event::{Body, ChangeKind},
    group::{
        policy::Policy,
        requests::{Candidate, Path, batch, status},
    },
    id::{AccountId, CommitId, DeviceId, GroupId, StateId},
    model::Role,
};

const GID: GroupId = GroupId([7; 16]);
const STATES: u8 = 24;
const ACCOUNTS: u8 = 7;
/// Choices of one story; the rest of the input is left out.
const MAX_STEPS: usize = 400;

fn sid(number: u8) -> StateId {
    StateId([number; 32])
}

fn member(number: u8) -> (AccountId, DeviceId) {
    // Two devices of each second account.
    (AccountId([number / 2; 32]), DeviceId([number; 32]))
}

fn node(script: &mut Script<'_>) -> Node {
    let number = script.below(STATES);
    let parent = script.below(STATES);
    let shape = script.next().unwrap_or(0);
    let who = script.next().unwrap_or(0);
    let roster: Roster = (0..ACCOUNTS).filter(|member| who & (1 << member) != 0).map(member).collect();
    Node {
        sid: sid(number),
        parent: (shape & 0x80 == 0).then(|| sid(parent)),
        epoch: u64::from(shape & 0x40 == 0) * u64::from(number) + u64::from(shape & 0x0c),
        commit: CommitId([number; 32]),
        committer: member(script.below(ACCOUNTS)).1,
        class: Class::try_from(shape & 3).unwrap_or(Class::Update),
        roster: Arc::new(roster),
        held: match (shape >> 4) & 3 {
            0 => Held::Live,
            1 => Held::Pruned,
            2 => Held::Opaque,
            _ => Held::Claimed,
        },
    }
}

fn support(script: &mut Script<'_>) -> Support {
    let device = member(script.below(ACCOUNTS)).1;
    let counter = u64::from(script.below(6));
    Support { device, counter, sid: sid(script.below(STATES)), signature: [0; 64] }
}

/// A chain with a fork, and votes.
pub(super) fn stories() -> Vec<Vec<u8>> {
    let root = [4, 0, 0, 0x80, 0x7f, 0];
    let child = |number: u8, parent: u8, class: u8| [0, number, parent, class, 0x7f, number];
    let vote = |who: u8, state: u8| [5, who, 1, state];
    let fork = [&root[..], &child(1, 0, 2), &child(2, 0, 0), &vote(1, 1), &vote(2, 1), &vote(4, 2)].concat();
    let chain: Vec<u8> = (1..12).flat_map(|number| child(number, number - 1, 2)).collect();
    let removed = [6, 3, 1, 4, 3, 1, 5, 7, 2];
    vec![fork.clone(), [&root[..], &chain, &removed].concat(), [fork, chain].concat()]
}

pub(super) fn takes_story(input: &[u8]) -> bool {
    let mut script = Script(input);
    let mut dag = Dag::new(GID, member(0).1);
    for nth in 0..MAX_STEPS {
        let Some(step) = script.next() else { break };
        match step % 8 {
            0..=3 => {
                dag.insert(node(&mut script));
            }
            4 => {
                dag.enter(node(&mut script), u64::from(step) + nth as u64);
            }
            5 => {
                dag.support(support(&mut script));
            }
            6 => {
                let (one, mut other) = (support(&mut script), support(&mut script));
                (other.device, other.counter) = (one.device, one.counter);
                if let Ok(proof) = Equivocation::new(one, other) {
                    dag.convict(proof);
                }
            }
            _ => dag.prune(&sid(script.below(STATES))),
        }
        if step & 0x80 != 0 {
            judge(&dag);
        }
    }
    judge(&dag)
}

/// Whatever is known, there is one answer, it is of what is known, and asking changes nothing.
fn judge(dag: &Dag) -> bool {
    let head = dag.head();
    assert!(head == dag.head() && head == dag.clone().head(), "asked again, the head is another");
    let Some(head) = head else { return false };
    let stand = head.stand();
    assert!(
        dag.node(&stand).is_some_and(|node| node.held.is_merged()),
        "nobody stands where they never were"
    );
    let all: Vec<_> = dag.nodes().map(|node| node.sid).collect();
    for from in &all {
        let _ = (dag.route(from, &stand), dag.canonical(from, &stand), dag.child(from));
    }
    for node in dag.nodes() {
        let locked = dag.votes(node).locked();
        let is_child = |child: StateId| dag.children(&node.sid).any(|node| node.sid == child);
        assert!(locked.is_none_or(is_child), "a state is locked that is no child");
    }
    let held = all.iter().map(|sid| (*sid, 0));
    let gone = leaving(dag, &stand, held, i64::MAX, Duration::ZERO);
    assert!(!gone.contains(&stand), "the head's secrets go");
    let _ = graph::dot(&graph::picture(dag, usize::from(STATES)));
    if let Some(parent) = dag.node(&stand) {
        let online = parent.roster.devices().copied().collect::<BTreeSet<_>>();
        let (account, own) = member(0);
        let _ = turn(&Outlook {
            own,
            account,
            ranked: &dag.ranked(parent),
            before: &parent.roster,
            after: &parent.roster,
            online: &online,
            removal: true,
            sake: Sake::Others,
            waited: Duration::from_secs(1),
        });
    }
    true
}

pub(super) fn wishes() -> Vec<Vec<u8>> {
    vec![vec![0, 0, 1, 0, 0], vec![1, 1, 1, 0, 0], vec![0, 2, 1, 0, 3, 0, 0, 1, 0, 0, 1, 1, 1, 0, 1]]
}

pub(super) fn takes_wishes(input: &[u8]) -> bool {
    let Some(standing) = standing() else { return false };
    let mut script = Script(input);
    let mut open = Vec::new();
    let mut taken = false;
    while open.len() < 40 {
        let Some(author) = script.next() else { break };
        let kind = match script.below(4) {
            0 => ChangeKind::Remove,
            1 => ChangeKind::Leave,
            2 => ChangeKind::Role { was: role(&mut script), to: role(&mut script), role_changes: 0 },
            _ => ChangeKind::Rejoin { key_package: vec![1; 64], old_encryption_key: [1; 32] },
        };
        let target = account(script.below(4));
        let generation = u64::from(script.below(3));
        let has_seen = script.below(2) == 1;
        let body = Body::ChangeRequest { kind, target, generation };
        let Some(request) = event(author % 4, body) else { continue };
        let candidate = Candidate::plain(request);
        let _ = status(&candidate, standing, Path { included: None, has_seen });
        open.push(candidate);
    }
    let asked = open.len();
    let answered = batch(open, standing, &device(0));
    assert!(answered.requests.len() <= asked, "more is answered than was asked");
    let read = Policy::decode(&standing.policy.encode());
    assert!(read.is_ok_and(|read| read == standing.policy), "the policy does not read back");
    taken |= !answered.requests.is_empty();
    taken
}

fn role(script: &mut Script<'_>) -> Role {
    match script.below(4) {
        0 => Role::Owner,
        1 => Role::Admin,
        2 => Role::Moderator,
        _ => Role::Member,
    }
}
