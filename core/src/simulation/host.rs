//! A member's machine: the process that runs on it, if one does, and what outlives that.

use std::collections::BTreeMap;

use super::{
    actor::{Actor, Context, Effects, MemberId},
    disk::Writes,
    draw::{Draw, Stream},
    scenario::Standing,
};

/// What every wall clock showed when the world began, in milliseconds since 1970.
const BEGINNING_WALL_MS: u64 = 1_800_000_000_000;

pub(super) struct Host<A: Actor> {
    process: Option<A>,
    pub(super) disk: A::Disk,
    pub(super) writes: Writes,
    pub(super) draw: Draw,
    /// How often the process was started; what belongs to an earlier life is void.
    pub(super) life: u32,
    /// When the process starts again, if it is down.
    pub(super) back_ms: u64,
    pub(super) skew_ms: i64,
    pub(super) honest: bool,
    pub(super) snapshots: BTreeMap<u64, A::Disk>,
    pub(super) withheld_until_ms: u64,
    pub(super) flood_until_ms: u64,
    pub(super) flood_copies: u32,
}

/// What a step needs of the world.
pub(super) struct Surroundings<'a, A: Actor> {
    pub(super) now_ms: u64,
    pub(super) member: MemberId,
    pub(super) setup: &'a A::Setup,
    pub(super) effects: &'a mut Effects<A>,
}

impl<A: Actor> Host<A> {
    pub(super) fn new(draw: Draw, disk: A::Disk) -> Self {
        Self {
            process: None,
            disk,
            writes: Writes::default(),
            draw,
            life: 0,
            back_ms: 0,
            skew_ms: 0,
            honest: true,
            snapshots: BTreeMap::new(),
            withheld_until_ms: 0,
            flood_until_ms: 0,
            flood_copies: 0,
        }
    }

    /// The dice of a member.
    pub(super) fn dice(seed: u64, member: MemberId) -> Draw {
        Draw::new(seed, Stream::Member(member.0))
    }

    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Starts a process; the caller has made sure that none runs.
    pub(super) fn start(&mut self, around: Surroundings<'_, A>) {
        self.life += 1;
        let (_, mut cx) = self.split(around);
        let process = A::start(&mut cx);
        self.process = Some(process);
    }

    /// One step of the process: false if there is none.
    pub(super) fn step(
        &mut self,
        around: Surroundings<'_, A>,
        act: impl FnOnce(&mut A, &mut Context<'_, A>),
    ) -> bool {
        let (process, mut cx) = self.split(around);
        process.as_mut().map(|process| act(process, &mut cx)).is_some()
    }

    pub(super) fn kill(&mut self, back_ms: u64) {
        self.process = None;
        self.back_ms = back_ms;
    }

    pub(super) fn standing(&self, member: MemberId) -> Standing<'_, A> {
        Standing {
            member,
            process: self.process.as_ref(),
            disk: &self.disk,
            honest: self.honest,
            life: self.life,
        }
    }

    fn split<'a>(&'a mut self, around: Surroundings<'a, A>) -> (&'a mut Option<A>, Context<'a, A>) {
        let Surroundings { now_ms, member, setup, effects } = around;
        let cx = Context {
            member,
            now_ms,
            wall_ms: (BEGINNING_WALL_MS + now_ms).saturating_add_signed(self.skew_ms),
            setup,
            disk: &mut self.disk,
            writes: &mut self.writes,
            draw: &mut self.draw,
            effects,
        };
        (&mut self.process, cx)
    }
}
