//! Members who commit on both sides of cut networks, with nothing but the rule between them.
//!
//! No MLS, no frames, no window: a member can enter whatever follows from where it is and still has it
//! as a member. What is shown is that the rule converges, and how many rounds of talk it takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::story::{GID, account, commit, device, founding, state, support};
use crate::{
    dag::{Class, Dag, Head, Held, Node},
    id::{AccountId, DeviceId, StateId},
    mutant::{self, Mutant},
};

/// Enough seeds for every rare case, few enough for every run of the tests.
const SEEDS: u64 = 500;
/// Rounds after which a group that still talks is broken.
const MAX_ROUNDS: u32 = 80;

struct Member {
    account: AccountId,
    device: DeviceId,
    dag: Dag,
    counter: u64,
    head: Option<Head>,
    /// Times that the head went to a state that does not follow from the one before.
    flips: u32,
}

impl Member {
    fn learn(&mut self, node: &Node, roster: &Arc<crate::dag::Roster>) {
        let enters =
            node.parent.is_none_or(|parent| self.dag.node(&parent).is_some_and(|p| p.held == Held::Live));
        let held = if enters && roster.contains(&self.account) { Held::Live } else { Held::Opaque };
        self.dag.insert(Node { held, ..node.clone() });
    }

    /// Follows the rule and says so; whether the head is another one.
    fn decide(&mut self) -> bool {
        let head = self.dag.head();
        if head == self.head {
            return false;
        }
        if let (Some(Head::At(old)), Some(Head::At(new))) = (self.head, head)
            && !self.dag.is_below(&new, &old)
        {
            self.flips += 1;
        }
        self.head = head;
        if let Some(Head::At(sid)) = head {
            self.counter += 1;
            self.dag.support(support(self.device, self.counter, sid));
        }
        true
    }

    fn at(&self) -> Option<StateId> {
        match self.head {
            Some(Head::At(sid)) => Some(sid),
            _ => None,
        }
    }
}

struct Network {
    rng: StdRng,
    members: Vec<Member>,
    awake: Vec<usize>,
    /// Commits made.
    made: usize,
}

/// What a seed showed.
#[derive(Debug, Default)]
struct Outcome {
    rounds: u32,
    forks: usize,
    flips: u32,
    removals: usize,
    depth: u64,
    parted: bool,
    /// What decided the forks in the end: majority locks, settled locks, neither.
    lines: [u64; 3],
}

impl Network {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let accounts = rng.random_range(3..=12_usize);
        let devices: Vec<_> =
            (0..accounts).flat_map(|a| (0..1 + usize::from(a % 4 == 3)).map(move |d| (a, d))).collect();
        let root = founding(devices.iter().map(|(a, d)| (account(*a), device(*a, *d))).collect());
        let member = |(a, d): &(usize, usize)| {
            let mut dag = Dag::new(GID, device(*a, *d));
            dag.enter(root.clone(), 0);
            Member { account: account(*a), device: device(*a, *d), dag, counter: 0, head: None, flips: 0 }
        };
        let mut members: Vec<_> = devices.iter().map(member).collect();
        // Up to 70 % sleep all the time, and all of them said once where they were.
        let dormant = rng.random_range(0..=70_u32);
        let awake: Vec<_> = (0..members.len()).filter(|_| rng.random_range(0..100) >= dormant).collect();
        let awake = if awake.len() < 2 { vec![0, 1] } else { awake };
        members.iter_mut().for_each(|member| {
            member.decide();
        });
        let mut network = Self { rng, members, awake, made: 0 };
        for from in 0..network.members.len() {
            for to in 0..network.members.len() {
                network.tell(from, to);
            }
        }
        network
    }

    /// Tells everything; whether anything was new.
    fn tell(&mut self, from: usize, to: usize) -> bool {
        let (mut nodes, supports, proofs) = {
            let (dag, other) = (&self.members[from].dag, &self.members[to].dag);
            let nodes: Vec<Node> = dag.nodes().filter(|n| other.node(&n.sid).is_none()).cloned().collect();
            let supports: Vec<_> = dag.supports().all().copied().collect();
            (nodes, supports, dag.supports().equivocations().copied().collect::<Vec<_>>())
        };
        nodes.sort_by_key(|node| node.epoch);
        let member = &mut self.members[to];
        let mut new = !nodes.is_empty();
        for node in &nodes {
            member.learn(node, &node.roster);
        }
        for heard in supports {
            new |= member.dag.support(heard) == crate::dag::Heard::Latest;
        }
        for proof in proofs {
            new |= member.dag.convict(proof) == crate::dag::Heard::Equivocation;
        }
        if new {
            member.decide();
        }
        new
    }

    fn commits(&mut self, at: usize) -> Option<Node> {
        let member = &self.members[at];
        let parent = member.dag.node(&member.at()?)?;
        let others: Vec<_> = parent.roster.accounts().filter(|a| **a != member.account).copied().collect();
        let all = parent.roster.members().map(|(account, device)| (*account, *device));
        self.made += 1;
        let (class, roster) = match self.rng.random_range(0..10) {
            0..2 => {
                let out = others.choose(&mut self.rng).copied();
                (Class::Removal, Arc::new(all.filter(|(account, _)| Some(*account) != out).collect()))
            }
            2..4 => {
                let newcomer = (account(100 + self.made), device(100 + self.made, 0));
                (Class::Change, Arc::new(all.chain([newcomer]).collect()))
            }
            _ => (Class::Update, Arc::clone(&parent.roster)),
        };
        Some(Node {
            sid: state(self.made),
            parent: Some(parent.sid),
            epoch: parent.epoch + 1,
            commit: commit(self.made),
            committer: member.device,
            class,
            roster,
            held: Held::Live,
        })
    }

    /// Everyone awake may commit, and talks to someone on the same side.
    fn partitioned_round(&mut self, sides: &[u32], withheld: &mut Vec<(usize, Node)>) {
        for index in 0..self.awake.len() {
            let at = self.awake[index];
            if self.rng.random_bool(0.35)
                && let Some(node) = self.commits(at)
            {
                if self.rng.random_bool(0.03) {
                    // Made and kept to oneself; to be told when it does most harm.
                    withheld.push((at, node));
                    continue;
                }
                self.members[at].dag.insert(node);
                self.members[at].decide();
            }
        }
        for index in 0..self.awake.len() {
            let from = self.awake[index];
            let side: Vec<_> = self.awake.iter().copied().filter(|to| sides[*to] == sides[from]).collect();
            if let Some(to) = side.choose(&mut self.rng).copied().filter(|to| *to != from)
                && self.rng.random_bool(0.9)
            {
                self.tell(from, to);
                self.tell(to, from);
            }
        }
    }

    /// Talk without commits until nobody has anything new; the last round that moved a head.
    fn heal(&mut self) -> Option<u32> {
        let mut moved = 0;
        for round in 1..=MAX_ROUNDS {
            let before: Vec<_> = self.awake.iter().map(|at| self.members[*at].head).collect();
            let mut new = false;
            for index in 0..self.awake.len() {
                let from = self.awake[index];
                if let Some(to) = self.awake.choose(&mut self.rng).copied().filter(|to| *to != from) {
                    new |= self.tell(from, to);
                    new |= self.tell(to, from);
                }
            }
            if before != self.awake.iter().map(|at| self.members[*at].head).collect::<Vec<_>>() {
                moved = round;
            }
            if !new && self.know_the_same() {
                return Some(moved);
            }
        }
        None
    }

    fn know_the_same(&self) -> bool {
        let known = |at: &usize| {
            let dag = &self.members[*at].dag;
            let nodes: BTreeSet<_> = dag.nodes().map(|node| node.sid).collect();
            let supports: BTreeMap<_, _> = dag.supports().all().map(|s| (s.device, s.counter)).collect();
            (nodes, supports)
        };
        let mut all = self.awake.iter().map(known);
        let first = all.next();
        all.all(|other| Some(other) == first)
    }

    /// Whether every honest member who is awake is at a head that all of its members are at, or was removed from
    /// such a one. There are several only where each removed the members of the others.
    ///
    /// Who was removed does not always learn it: see [`two_admins_remove_each_other`].
    ///
    /// [`two_admins_remove_each_other`]: super::choice
    fn agreed(&self) -> Option<BTreeMap<StateId, usize>> {
        let doubled = self.members[self.awake[0]].dag.double_committers();
        let awake = || self.awake.iter().map(|at| &self.members[*at]);
        let honest = || awake().filter(|member| !doubled.contains(&member.account));
        let mut heads = BTreeMap::new();
        for sid in awake().filter_map(Member::at) {
            *heads.entry(sid).or_default() += 1;
        }
        let roster = |sid: &StateId| {
            let known = awake().find_map(|member| member.dag.node(sid));
            known.map(|node| Arc::clone(&node.roster)).unwrap_or_default()
        };
        heads.retain(|sid, _| {
            let roster = roster(sid);
            honest().all(|member| member.at() == Some(*sid) || !roster.contains(&member.account))
        });
        let removed = |member: &Member| heads.keys().any(|sid| !roster(sid).contains(&member.account));
        let settled = |member: &Member| member.at().is_some_and(|sid| heads.contains_key(&sid));
        honest().all(|member| settled(member) || removed(member)).then_some(heads)
    }
}

fn run(seed: u64) -> Result<Outcome, String> {
    let mut network = Network::new(seed);
    let mut withheld = Vec::new();
    for _ in 0..network.rng.random_range(1..=3) {
        let count = network.rng.random_range(1..=4_u32);
        let sides: Vec<u32> =
            (0..network.members.len()).map(|_| network.rng.random_range(0..count)).collect();
        for _ in 0..network.rng.random_range(1..=20) {
            network.partitioned_round(&sides, &mut withheld);
        }
    }
    for (at, node) in withheld {
        network.members[at].dag.insert(node);
        network.members[at].decide();
    }
    let rounds = network.heal().ok_or_else(|| format!("seed {seed}: no end of talk"))?;
    let heads = network.agreed().ok_or_else(|| format!("seed {seed}: members of one state differ"))?;
    let dag = &network.members[network.awake[0]].dag;
    let forks: Vec<_> = dag.nodes().filter(|node| dag.children(&node.sid).count() > 1).collect();
    let line = |fork: &&Node| {
        let votes = dag.votes(fork);
        if votes.majority().is_some() { 0 } else { 2 - usize::from(votes.settled().is_some()) }
    };
    let lines = [0, 1, 2].map(|wanted| forks.iter().filter(|fork| line(fork) == wanted).count() as u64);
    Ok(Outcome {
        rounds,
        forks: forks.len(),
        lines,
        flips: network.awake.iter().map(|at| network.members[*at].flips).sum(),
        removals: dag.nodes().filter(|node| node.class == Class::Removal).count(),
        depth: heads.keys().filter_map(|sid| dag.node(sid)).map(|node| node.epoch).max().unwrap_or(0),
        parted: heads.len() > 1,
    })
}

/// Runs and prints what the seeds below `seeds` showed; which of them did not converge.
fn measure(seeds: u64) -> (Vec<Outcome>, Vec<String>) {
    let (mut outcomes, mut failures) = (Vec::new(), Vec::new());
    for seed in 0..seeds {
        match run(seed) {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => failures.push(error),
        }
    }
    let sum = |count: fn(&Outcome) -> u64| outcomes.iter().map(count).sum::<u64>();
    let lines = [0, 1, 2].map(|line| outcomes.iter().map(|outcome| outcome.lines[line]).sum::<u64>());
    println!(
        "{seeds} seeds: rounds p50 {} p99 {} max {}; {} forks (decided by majority, settled votes, rank: \
         {lines:?}), {} flips, {} removals, {} seeds parted by removals, depth {} on average; did not \
         converge: {failures:?}",
        percentile(&outcomes, 50),
        percentile(&outcomes, 99),
        percentile(&outcomes, 100),
        sum(|o| o.forks as u64),
        sum(|o| u64::from(o.flips)),
        sum(|o| o.removals as u64),
        sum(|o| u64::from(o.parted)),
        sum(|o| o.depth) / seeds,
    );
    (outcomes, failures)
}

/// Rounds that so many percent of the networks needed at most.
fn percentile(outcomes: &[Outcome], percent: usize) -> u32 {
    let mut rounds: Vec<_> = outcomes.iter().map(|outcome| outcome.rounds).collect();
    rounds.sort_unstable();
    rounds[(rounds.len() - 1) * percent / 100]
}

/// `cargo test --workspace --lib dag::tests::partition -- --nocapture` prints the distribution.
#[test]
fn cut_networks_heal() {
    let (outcomes, failures) = measure(SEEDS);
    assert_eq!(failures, [""; 0]);
    // A network that never forks shows nothing.
    let forks: usize = outcomes.iter().map(|outcome| outcome.forks).sum();
    let flips: u32 = outcomes.iter().map(|outcome| outcome.flips).sum();
    assert!(forks as u64 > SEEDS && u64::from(flips) > SEEDS, "{forks} forks, {flips} flips");
    assert!(percentile(&outcomes, 99) <= 15, "p99 {}", percentile(&outcomes, 99));
}

/// The numbers in the rule's documentation.
#[test]
#[ignore = "prints a measurement"]
fn many_cut_networks() {
    let _ = measure(15_000);
    for mutant in [Mutant::MajorityOfAllOff, Mutant::OwnRemovalHereVoteCounted] {
        println!("{mutant:?}:");
        let _ = mutant::with(mutant, || measure(15_000));
    }
}
