//! What the world remembers of a simulated group, whatever becomes of the disks: what users were told,
//! what was sealed and sent, and what of it broke a rule when it happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    retell::MOST_RETOLD,
    wire::{Message, Skeleton},
};
use crate::{
    dag::turn::{ALONE, ONLINE, Sake},
    event::{Body, ChangeKind, SignedEvent},
    group::{
        authorize::Standing,
        frame::Frame,
        requests::{Candidate, Path, Status, status},
    },
    id::{AccountId, CommitId, EventId, FrameId, LogId, StateId},
    simulation::{MemberId, Sight},
};

/// The longest way of a message, milliseconds.
const SLACK_MS: u64 = 1_000;

/// A commit that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// It.
    pub skeleton: Skeleton,
    /// For whom.
    pub sake: Sake,
    /// The requests that it acts on.
    pub included: Vec<EventId>,
}

/// What a member tells its user, or the judge.
pub enum Output {
    /// A wish became an event.
    Accepted {
        /// The wish.
        number: u64,
        /// The event.
        event: EventId,
        /// Whose.
        place: u16,
    },
    /// An accepted event reached nobody and never will: its author was removed first.
    Failed(EventId),
    /// An event that stands for others which a lost disk had numbered already.
    Reissued(EventId, EventId),
    /// An event came.
    Delivered {
        /// It.
        event: EventId,
    },
    /// A request to remove someone is known.
    Learned(Arc<SignedEvent>),
    /// An event was sealed for the first time.
    Fresh {
        /// It.
        event: EventId,
        /// In this state.
        sid: StateId,
    },
    /// A message was encrypted.
    Sealed {
        /// In this state,
        sid: StateId,
        /// by this leaf,
        leaf: u32,
        /// with this counter,
        counter: u32,
        /// as this frame.
        frame: FrameId,
    },
    /// An event was sent again.
    Carried {
        /// It.
        event: EventId,
        /// What its author had seen.
        seen_sid: StateId,
        /// Whether everyone may have it.
        is_state: bool,
        /// To whom.
        to: AccountId,
    },
    /// A state is known.
    Knows(StateId, Arc<Standing>),
    /// A commit was made.
    Committed(Made),
    /// A device met a commit of its own that it does not have.
    OwnCommitFromBytes(CommitId),
}

/// The world's memory.
#[derive(Default)]
pub struct Ledger {
    /// Accepted events: when, and by whom.
    pub accepted: BTreeMap<EventId, (u64, u16)>,
    /// Events whose authors were told that they failed.
    pub failed: BTreeSet<EventId>,
    /// Who is in each state.
    pub standings: BTreeMap<StateId, Arc<Standing>>,
    /// Commits that were made.
    pub made: BTreeMap<StateId, Made>,
    /// Members whose disks were set back.
    pub restored: BTreeSet<MemberId>,
    /// The first thing that broke each rule.
    pub broken: BTreeMap<&'static str, String>,
    /// How far members said that they have the logs.
    pub told: BTreeMap<MemberId, Arc<super::wire::Tip>>,
    /// Members to whom someone has said since they started what is known of them, or who were alone.
    echoed: BTreeSet<MemberId>,
    delivered: BTreeSet<(MemberId, EventId)>,
    fresh: BTreeMap<EventId, BTreeSet<StateId>>,
    sealed: BTreeMap<(StateId, u32, u32), FrameId>,
    removals: BTreeMap<MemberId, Vec<Candidate>>,
    tips: BTreeMap<(MemberId, MemberId), u64>,
    sent: BTreeMap<MemberId, Vec<Message>>,
}

impl Ledger {
    /// Commits and messages that were sent to a member, whether they arrived or not.
    pub(super) fn sent_to(&self, member: MemberId) -> &[Message] {
        self.sent.get(&member).map_or(&[], Vec::as_slice)
    }

    pub(super) fn witness(&mut self, at_ms: u64, member: MemberId, sight: Sight<Output>) {
        match sight {
            Sight::Output(output) => self.output(at_ms, member, output),
            Sight::Restored { taken_ms } => {
                self.accepted.retain(|_, (at_ms, by)| *by != member.0 || *at_ms < taken_ms);
                self.delivered.retain(|(to, _)| *to != member);
                self.told.remove(&member);
                self.removals.remove(&member);
                self.restored.insert(member);
            }
            Sight::Started => drop(self.echoed.remove(&member)),
            Sight::Crashed => {}
        }
    }

    pub(super) fn tap(&mut self, at_ms: u64, from: MemberId, to: MemberId, message: &Message) {
        let bytes: &[u8] = match message {
            Message::Tip(tip, _) => {
                self.tips.insert((from, to), at_ms);
                self.echoed.insert(to);
                self.told.insert(from, Arc::clone(tip));
                return;
            }
            Message::Frame(bytes) => bytes,
            Message::Commit(commit) => &commit.bytes,
            Message::Letter(_) => return,
        };
        let sent = self.sent.entry(to).or_default();
        if sent.len() <= MOST_RETOLD {
            sent.push(message.clone());
        }
        if Frame::decode(bytes).is_err() {
            self.break_rule("i17_lengths_in_buckets", || format!("{from} sends {} bytes", bytes.len()));
        }
    }

    fn break_rule(&mut self, rule: &'static str, what: impl FnOnce() -> String) {
        self.broken.entry(rule).or_insert_with(what);
    }

    fn output(&mut self, at_ms: u64, member: MemberId, output: Output) {
        match output {
            Output::Accepted { event, place, .. } => {
                self.accepted.entry(event).or_insert((at_ms, place));
            }
            Output::Failed(event) => drop(self.failed.insert(event)),
            Output::Reissued(before, after) => {
                if let Some(accepted) = self.accepted.remove(&before) {
                    self.accepted.insert(after, accepted);
                }
            }
            Output::Delivered { event } => {
                if !self.delivered.insert((member, event)) {
                    self.break_rule("i02_no_duplicate", || format!("{member} was given {event:?} twice"));
                }
            }
            Output::Learned(request) => {
                let known = self.removals.entry(member).or_default();
                known.push(Candidate::plain(SignedEvent::clone(&request)));
            }
            Output::Fresh { event, sid } => drop(self.fresh.entry(event).or_default().insert(sid)),
            Output::Sealed { sid, leaf, counter, frame } => {
                self.check_removals(member, &sid);
                if !self.echoed.contains(&member) {
                    self.break_rule("i12_sealed_once", || {
                        format!("{member} seals in {sid:?} before it can know that its disk is the newest")
                    });
                }
                let first = *self.sealed.entry((sid, leaf, counter)).or_insert(frame);
                // What a disk that was lost had sealed may be known to nobody who could warn its copy.
                if first != frame && !self.restored.contains(&member) {
                    self.break_rule("i12_sealed_once", || {
                        format!("{member} seals twice with counter {counter} in {sid:?}")
                    });
                }
            }
            Output::Carried { event, seen_sid, is_state, to } => {
                let sealed_in = self.fresh.get(&event).into_iter().flatten().chain([&seen_sid]);
                let standings = sealed_in.filter_map(|sid| self.standings.get(sid));
                let was_in = |standing: &Arc<Standing>| standing.devices_of(&to).next().is_some();
                if !is_state && !standings.into_iter().any(was_in) {
                    self.break_rule("i18_carry_to_the_entitled", || {
                        format!("{member} carries {event:?} to {to:?}, who was no member then")
                    });
                }
            }
            Output::Knows(sid, standing) => drop(self.standings.entry(sid).or_insert(standing)),
            Output::Committed(made) => self.committed(at_ms, member, made),
            Output::OwnCommitFromBytes(commit) => {
                if !self.restored.contains(&member) {
                    self.break_rule("i20_own_branch_is_kept", || {
                        format!("{member} does not have the child of its own {commit:?}")
                    });
                }
            }
        }
    }

    /// Nothing is sealed for someone whom the sealing device knows to be removed soon.
    fn check_removals(&mut self, member: MemberId, sid: &StateId) {
        let Some(standing) = self.standings.get(sid) else { return };
        let mut known = self.removals.get(&member).into_iter().flatten();
        if known.any(|removal| status(removal, standing, Path::default()) == Status::Open) {
            self.break_rule("i08_nothing_to_the_removed", || {
                format!("{member} seals in {sid:?} and knows of a removal there")
            });
        }
    }

    fn committed(&mut self, at_ms: u64, member: MemberId, made: Made) {
        if !self.may_commit(at_ms, member, &made) {
            self.break_rule("i16_isolation", || {
                format!("{member} commits {:?} though it hears nobody", made.skeleton.sid)
            });
        }
        let first = made.skeleton.parent.and_then(|parent| self.made.get(&parent));
        let up = |it: &&Made| it.skeleton.parent.and_then(|parent| self.made.get(&parent));
        let before = std::iter::successors(first, up).flat_map(|it| &it.included);
        if let Some(twice) = before.into_iter().find(|request| made.included.contains(request)).copied() {
            self.break_rule("i09_no_resurrection", || format!("{member} acts on {twice:?} once more"));
        }
        let parent = made.skeleton.parent.and_then(|parent| self.standings.get(&parent));
        if parent.is_some_and(|standing| standing.roster.len() == 1) {
            self.echoed.insert(member);
        }
        self.made.insert(made.skeleton.sid, made);
    }

    /// The rule of isolation, from what really was sent.
    fn may_commit(&self, at_ms: u64, member: MemberId, made: &Made) -> bool {
        if matches!(made.sake, Sake::OwnUser(ago) if ago >= ALONE) {
            return true;
        }
        let others = |sid: &StateId| {
            let roster = self.standings.get(sid).map(|standing| standing.roster.as_slice());
            let places = roster.unwrap_or_default().iter().map(|it| it.certificate.peer_id.as_slice());
            let places = places.filter_map(|bytes| bytes.try_into().ok().map(u16::from_be_bytes));
            places.map(MemberId).filter(|place| *place != member).collect::<Vec<_>>()
        };
        let before = made.skeleton.parent.map(|parent| others(&parent)).unwrap_or_default();
        let after = others(&made.skeleton.sid);
        let limit_ms = u64::try_from(ONLINE.as_millis()).unwrap_or(u64::MAX) + SLACK_MS;
        let heard = |other: &MemberId| {
            self.tips.get(&(*other, member)).is_some_and(|sent_ms| sent_ms + limit_ms >= at_ms)
        };
        before.is_empty() || after.is_empty() || after.iter().any(heard)
    }
}

/// The log positions that a Tip tells of.
pub(super) fn told(tip: &super::wire::Tip) -> &BTreeMap<LogId, u64> {
    &tip.acks
}

/// Whether an event asks for someone's removal by someone else.
pub(super) fn is_removal(event: &SignedEvent) -> bool {
    matches!(&event.event.body, Body::ChangeRequest { kind: ChangeKind::Remove, .. })
}
