//! Members that flood numbers to each other: the smallest actor with everything that the world offers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::simulation::{
    Action, Actor, Context, Draw, MemberId, Profile, Rule, Scenario, Schedule, Sight, View, When,
};

const GOSSIP_EVERY_MS: u64 = 10_000;

/// What is wrong with a member, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// Tells the user that a number was accepted before it is on the disk.
    ToldBeforeWritten,
    /// Does not look at its disk when it starts.
    ForgetsWhatItHeld,
    /// Never offers what it holds to those who were away.
    NoRepair,
    /// Cannot bear to get a number twice.
    PanicsAtTheKnown,
    /// Takes a number for the next one.
    MisreadsNumbers,
    /// Sets an alarm for now, again and again.
    WakesForEver,
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    Number(u64),
    All(Arc<BTreeSet<u64>>),
    Digest(u64),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    Say(u64),
    TellTheTime,
}

#[derive(Clone, Debug)]
pub(super) enum Output {
    Accepted(u64),
    Delivered(u64),
    WallAhead(i64),
}

pub(super) struct Gossip;

pub(super) struct Toy {
    up: BTreeSet<MemberId>,
    known: BTreeSet<u64>,
}

type Cx<'a> = Context<'a, Toy>;

impl Toy {
    fn take(&mut self, number: u64, from: MemberId, cx: &mut Cx<'_>) {
        if self.known.contains(&number) {
            assert!(*cx.setup() != Some(Bug::PanicsAtTheKnown), "{number} again");
            return;
        }
        let stored = cx.commit("take", |disk| disk.insert(number));
        if stored.is_ok() {
            self.known.insert(number);
            cx.output(Output::Delivered(number));
            self.tell(number, Some(from), cx);
        }
    }

    fn say(&mut self, number: u64, cx: &mut Cx<'_>) {
        let hasty = *cx.setup() == Some(Bug::ToldBeforeWritten);
        if hasty {
            cx.output(Output::Accepted(number));
        }
        if cx.commit("say", |disk| disk.insert(number)).is_ok() && self.known.insert(number) {
            cx.output(Output::Accepted(number));
            self.tell(number, None, cx);
        }
    }

    fn tell(&self, number: u64, but: Option<MemberId>, cx: &mut Cx<'_>) {
        for peer in self.up.iter().filter(|peer| Some(**peer) != but) {
            cx.send(*peer, Message::Number(number));
        }
    }

    fn offer(&self, peer: MemberId, cx: &mut Cx<'_>) {
        if *cx.setup() != Some(Bug::NoRepair) {
            cx.count("repairs");
            cx.send(peer, Message::All(Arc::new(self.known.clone())));
        }
    }

    fn digest(&self) -> u64 {
        self.known.iter().fold(0, |sum, number| (sum ^ number).wrapping_mul(0x100_0000_01b3))
    }
}

impl Actor for Toy {
    type Setup = Option<Bug>;
    type Disk = BTreeSet<u64>;
    type Message = Message;
    type Timer = Gossip;
    type Command = Command;
    type Output = Output;

    fn start(cx: &mut Cx<'_>) -> Self {
        let forgets = *cx.setup() == Some(Bug::ForgetsWhatItHeld);
        let known = if forgets { BTreeSet::new() } else { cx.disk().clone() };
        cx.wake_in(GOSSIP_EVERY_MS, Gossip);
        Self { up: BTreeSet::new(), known }
    }

    fn up(&mut self, peer: MemberId, cx: &mut Cx<'_>) {
        self.up.insert(peer);
        self.offer(peer, cx);
    }

    fn down(&mut self, peer: MemberId, _cx: &mut Cx<'_>) {
        self.up.remove(&peer);
    }

    fn receive(&mut self, from: MemberId, message: Message, cx: &mut Cx<'_>) {
        match message {
            Message::Number(number) => {
                let misread = *cx.setup() == Some(Bug::MisreadsNumbers);
                self.take(number + u64::from(misread), from, cx);
            }
            Message::Digest(digest) if digest != self.digest() => self.offer(from, cx),
            Message::Digest(_) => {}
            Message::All(numbers) => {
                for number in numbers.difference(&self.known.clone()) {
                    self.take(*number, from, cx);
                }
                if self.known.len() > numbers.len() {
                    self.offer(from, cx);
                }
            }
        }
    }

    fn wake(&mut self, Gossip: Gossip, cx: &mut Cx<'_>) {
        let peers: Vec<MemberId> = self.up.iter().copied().collect();
        if let Some(peer) = cx.draw().pick(&peers) {
            cx.send(*peer, Message::Digest(self.digest()));
        }
        let forever = *cx.setup() == Some(Bug::WakesForEver) && !self.known.is_empty();
        cx.wake_in(if forever { 0 } else { GOSSIP_EVERY_MS }, Gossip);
    }

    fn command(&mut self, command: Command, cx: &mut Cx<'_>) {
        match command {
            Command::Say(number) => self.say(number, cx),
            Command::TellTheTime => {
                let ahead = cx.wall_ms().cast_signed() - cx.monotonic_ms().cast_signed();
                cx.output(Output::WallAhead(ahead));
            }
        }
    }

    fn kind(message: &Message) -> &'static str {
        match message {
            Message::Number(_) => "a number",
            Message::All(_) => "all numbers",
            Message::Digest(_) => "a digest",
        }
    }

    fn fingerprint(message: &Message) -> u64 {
        match message {
            Message::Number(number) | Message::Digest(number) => *number,
            Message::All(numbers) => numbers.len() as u64,
        }
    }

    fn may_be_withheld(message: &Message) -> bool {
        matches!(message, Message::Number(_))
    }
}

/// What users were told.
#[derive(Default)]
pub(super) struct Ledger {
    /// When each accepted number was, and by whom.
    accepted: BTreeMap<u64, (u64, MemberId)>,
    delivered: BTreeSet<(MemberId, u64)>,
    delivered_twice: Option<(MemberId, u64)>,
    /// What was seen on some wire.
    sent: BTreeSet<u64>,
    delivered_unsent: Option<(MemberId, u64)>,
    wall_ahead: Vec<(MemberId, i64)>,
}

/// A world of toys.
#[derive(Clone, Copy)]
pub(super) struct Toys {
    pub(super) profile: Profile,
    pub(super) bug: Option<Bug>,
}

impl Toys {
    pub(super) fn new(profile: Profile) -> Self {
        Self { profile, bug: None }
    }

    pub(super) fn with(self, bug: Bug) -> Self {
        Self { bug: Some(bug), ..self }
    }
}

impl Scenario for Toys {
    type Actor = Toy;
    type Ledger = Ledger;

    fn schedule(&self, seed: u64) -> Schedule<Command> {
        let mut number = 0;
        self.profile.schedule(seed, |draw, members, _| {
            number += 1;
            let member = MemberId(u16::try_from(draw.below(u64::from(members))).unwrap());
            Action::Command(member, Command::Say(number))
        })
    }

    fn setup(&self, _seed: u64, _members: u16) -> Option<Bug> {
        self.bug
    }

    fn disk(&self, _member: MemberId, _setup: &Option<Bug>, _draw: &mut Draw) -> BTreeSet<u64> {
        BTreeSet::new()
    }

    fn witness(&self, ledger: &mut Ledger, at_ms: u64, member: MemberId, sight: Sight<Output>) {
        match sight {
            Sight::Output(Output::Accepted(number)) => {
                ledger.accepted.entry(number).or_insert((at_ms, member));
            }
            Sight::Output(Output::Delivered(number)) => {
                if !ledger.sent.contains(&number) {
                    ledger.delivered_unsent.get_or_insert((member, number));
                }
                if !ledger.delivered.insert((member, number)) {
                    ledger.delivered_twice.get_or_insert((member, number));
                }
            }
            Sight::Output(Output::WallAhead(ahead)) => ledger.wall_ahead.push((member, ahead)),
            // Nothing keeps what only the lost disk held, and what comes back is news to the old one.
            Sight::Restored { taken_ms } => {
                ledger.accepted.retain(|_, (at_ms, by)| *by != member || *at_ms < taken_ms);
                ledger.delivered.retain(|(to, _)| *to != member);
            }
            Sight::Started | Sight::Crashed => {}
        }
    }

    fn tap(&self, ledger: &mut Ledger, _at_ms: u64, _from: MemberId, _to: MemberId, message: &Message) {
        match message {
            Message::Number(number) => drop(ledger.sent.insert(*number)),
            Message::All(numbers) => ledger.sent.extend(numbers.iter()),
            Message::Digest(_) => {}
        }
    }

    fn rules(&self) -> Vec<Rule<Self>> {
        vec![
            Rule { name: "i01_no_loss", when: When::AtRest, check: i01_no_loss },
            Rule { name: "i02_no_duplicate", when: When::EveryStep, check: i02_no_duplicate },
            Rule { name: "i03_authorship", when: When::EveryStep, check: i03_authorship },
        ]
    }

    fn is_settled(&self, view: &View<'_, Self>) -> bool {
        view.members().all(|it| it.disk.len() >= view.ledger.accepted.len())
    }

    fn outcome(&self, view: &View<'_, Self>) -> String {
        let honest = view.members().filter(|it| it.honest);
        let held: Vec<String> = honest.map(|it| format!("{:?}", it.disk)).collect();
        format!("{held:?}; clocks {:?}", view.ledger.wall_ahead)
    }

    fn replay_command(&self, seed: u64) -> String {
        format!("simulate --seeds {seed}..{} --profile {}", seed + 1, self.profile.name)
    }
}

fn i01_no_loss(view: &View<'_, Toys>) -> Result<(), String> {
    for (number, (_, author)) in &view.ledger.accepted {
        if let Some(without) = view.members().find(|it| !it.disk.contains(number)) {
            return Err(format!("{author} accepted {number}, and {} does not have it", without.member));
        }
    }
    Ok(())
}

fn i02_no_duplicate(view: &View<'_, Toys>) -> Result<(), String> {
    view.ledger.delivered_twice.map_or(Ok(()), |(to, number)| Err(format!("{to} was given {number} twice")))
}

fn i03_authorship(view: &View<'_, Toys>) -> Result<(), String> {
    view.ledger.delivered_unsent.map_or(Ok(()), |(to, number)| Err(format!("nobody sent {to} {number}")))
}
