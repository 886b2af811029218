//! What is simulated and what must hold: the actors, their fate, and the rules that judge them.

use super::{
    actor::{Actor, MemberId},
    draw::Draw,
    host::Host,
    schedule::Schedule,
};

/// Something that happened to a member, told to the ledger when it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight<O> {
    /// The user saw something.
    Output(O),
    /// The process started, on a new disk or another.
    Started,
    /// The process died.
    Crashed,
    /// The disk is now a copy made at that time of the world's clock, in milliseconds.
    Restored {
        /// When the copy was made.
        taken_ms: u64,
    },
}

/// A world's cast, its fate and its laws. Seeds are independent of each other, and run on several threads.
pub trait Scenario: Sized {
    /// Who acts.
    type Actor: Actor;
    /// What the world remembers of what users saw, whatever becomes of the members.
    type Ledger: Default;

    /// Everything that a seed decides beforehand.
    fn schedule(&self, seed: u64) -> Schedule<<Self::Actor as Actor>::Command>;

    /// What the members of a world share.
    fn setup(&self, seed: u64, members: u16) -> <Self::Actor as Actor>::Setup;

    /// A member's new disk.
    fn disk(
        &self,
        member: MemberId,
        setup: &<Self::Actor as Actor>::Setup,
        draw: &mut Draw,
    ) -> <Self::Actor as Actor>::Disk;

    /// Writes into the ledger what happened to a member.
    fn witness(
        &self,
        ledger: &mut Self::Ledger,
        at_ms: u64,
        member: MemberId,
        sight: Sight<<Self::Actor as Actor>::Output>,
    );

    /// Looks at a message as it leaves, as whoever watches the wire does.
    fn tap(
        &self,
        _ledger: &mut Self::Ledger,
        _at_ms: u64,
        _from: MemberId,
        _to: MemberId,
        _message: &<Self::Actor as Actor>::Message,
    ) {
    }

    /// What must hold, in the order in which it is checked.
    fn rules(&self) -> Vec<Rule<Self>>;

    /// Whether a healed world has found together again; asked after each step until it rests.
    fn is_settled(&self, _view: &View<'_, Self>) -> bool {
        true
    }

    /// What can only be counted from outside.
    fn counts(&self, _view: &View<'_, Self>) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// How the world ended, for comparing runs that must end alike.
    fn outcome(&self, _view: &View<'_, Self>) -> String {
        String::new()
    }

    /// The command that runs one seed again.
    fn replay_command(&self, seed: u64) -> String;
}

/// When a rule is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// After every step of every member. It should look at [`View::stepped`] first, or the run is slow.
    EveryStep,
    /// Once, at the end: all is healed and has been left alone.
    AtRest,
}

/// A law of the world.
pub struct Rule<S: Scenario> {
    /// The name of its function.
    pub name: &'static str,
    /// When it is checked.
    pub when: When,
    /// What is wrong, if something is.
    pub check: fn(&View<'_, S>) -> Result<(), String>,
}

/// What a rule sees.
pub struct View<'a, S: Scenario> {
    /// Milliseconds from the start of the world.
    pub now_ms: u64,
    /// Milliseconds since all cuts ended and all processes ran; none while the world is busy.
    pub healed_for_ms: Option<u64>,
    /// Who acted last.
    pub stepped: MemberId,
    /// What users saw.
    pub ledger: &'a S::Ledger,
    /// What all members share.
    pub setup: &'a <S::Actor as Actor>::Setup,
    pub(super) hosts: &'a [Host<S::Actor>],
}

/// One member, seen from outside.
pub struct Standing<'a, A: Actor> {
    /// Who.
    pub member: MemberId,
    /// Its process, if it runs.
    pub process: Option<&'a A>,
    /// Its disk.
    pub disk: &'a A::Disk,
    /// Whether it never was made to break the protocol.
    pub honest: bool,
    /// The how many-th life of its process it is, from 1.
    pub life: u32,
}

impl<'a, S: Scenario> View<'a, S> {
    /// All members, in their order.
    pub fn members(&self) -> impl Iterator<Item = Standing<'a, S::Actor>> + use<'a, S> {
        (0..).map(MemberId).zip(self.hosts).map(|(member, host)| host.standing(member))
    }

    /// One member.
    #[must_use]
    pub fn member(&self, member: MemberId) -> Option<Standing<'a, S::Actor>> {
        self.hosts.get(member.index()).map(|host| host.standing(member))
    }
}
