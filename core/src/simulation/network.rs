//! Who reaches whom: presence, cuts, sessions, and what each side believes of its sessions.
//!
//! A cut takes effect at once; the two sides learn of it later, each at its own time, and what they send in
//! the meantime is lost. A session that begins while one side still believes in the former ends that first.

use super::{
    actor::MemberId,
    link::{Arrivals, Link, Quality},
};

/// What separates members.
pub(super) enum Cut {
    /// The group of each member; those of different ones do not reach each other.
    Groups(Vec<u16>),
    Island(MemberId),
    OneWay(MemberId, MemberId),
}

impl Cut {
    pub(super) fn groups(members: u16, groups: &[Vec<MemberId>]) -> Self {
        let group_of = |member| {
            let found = groups.iter().position(|group| group.contains(&MemberId(member)));
            found.and_then(|group| u16::try_from(group).ok()).unwrap_or(u16::MAX)
        };
        Self::Groups((0..members).map(group_of).collect())
    }

    fn severs(&self, one: MemberId, other: MemberId) -> bool {
        match self {
            Self::Groups(group) => group.get(one.index()) != group.get(other.index()),
            Self::Island(member) => *member == one || *member == other,
            Self::OneWay(..) => false,
        }
    }

    fn silences(&self, sender: MemberId, receiver: MemberId) -> bool {
        matches!(self, Self::OneWay(from, to) if (*from, *to) == (sender, receiver))
    }
}

/// What becomes of a message on its way.
pub(super) enum Crossing {
    /// The sender knew that there was no session.
    Unconnected,
    Cut,
    Lost,
    Arrives {
        session: u32,
        number: u64,
        arrivals: Arrivals,
    },
}

/// What has to happen later because of who reaches whom now.
pub(super) enum Change {
    Dial { at_ms: u64, one: MemberId, other: MemberId },
    Notice { at_ms: u64, viewer: MemberId, peer: MemberId, session: u32 },
}

struct Direction {
    link: Link,
    /// The session that the sender believes in.
    believed: Option<u32>,
    silenced: bool,
}

#[derive(Clone, Copy, Default)]
struct Pair {
    session: u32,
    open: bool,
    dialling: bool,
    severed: bool,
}

pub(super) struct Network {
    pub(super) quality: Quality,
    present: Vec<bool>,
    directions: Vec<Direction>,
    pairs: Vec<Pair>,
    cuts: Vec<(u64, Cut)>,
    cuts_made: u64,
}

impl Network {
    pub(super) fn new(seed: u64, members: u16, quality: Quality) -> Self {
        let every = (0..members).flat_map(|from| (0..members).map(move |to| (from, to)));
        let direction =
            |(from, to)| Direction { link: Link::new(seed, from, to), believed: None, silenced: false };
        let size = usize::from(members);
        Self {
            quality,
            present: vec![false; size],
            directions: every.map(direction).collect(),
            pairs: vec![Pair::default(); size * size],
            cuts: Vec::new(),
            cuts_made: 0,
        }
    }

    fn at(&self, from: MemberId, to: MemberId) -> usize {
        from.index() * self.present.len() + to.index()
    }

    fn direction(&mut self, from: MemberId, to: MemberId) -> Option<&mut Direction> {
        let at = self.at(from, to);
        if to.index() >= self.present.len() || from == to {
            return None;
        }
        self.directions.get_mut(at)
    }

    fn pair(&mut self, one: MemberId, other: MemberId) -> Option<&mut Pair> {
        let at = self.at(one.min(other), one.max(other));
        self.pairs.get_mut(at)
    }

    fn open_session(&mut self, one: MemberId, other: MemberId) -> Option<u32> {
        self.pair(one, other).filter(|pair| pair.open).map(|pair| pair.session)
    }

    /// Puts a message on its way.
    pub(super) fn send(&mut self, now_ms: u64, from: MemberId, to: MemberId) -> Crossing {
        let open = self.open_session(from, to);
        let quality = self.quality;
        let Some(direction) = self.direction(from, to) else { return Crossing::Unconnected };
        let Some(session) = direction.believed else { return Crossing::Unconnected };
        if open != Some(session) || direction.silenced {
            return Crossing::Cut;
        }
        match direction.link.carry(now_ms, &quality) {
            (_, None) => Crossing::Lost,
            (number, Some(arrivals)) => Crossing::Arrives { session, number, arrivals },
        }
    }

    /// Whether a message still arrives, and if so whether it was overtaken.
    pub(super) fn arrive(&mut self, from: MemberId, to: MemberId, session: u32, number: u64) -> Option<bool> {
        let open = self.open_session(from, to);
        let direction = self.direction(from, to)?;
        (open == Some(session) && !direction.silenced).then(|| direction.link.arrived(number))
    }

    /// A process starts or ends; one that ends forgets its sessions.
    pub(super) fn set_present(&mut self, now_ms: u64, member: MemberId, present: bool) -> Vec<Change> {
        if let Some(slot) = self.present.get_mut(member.index()) {
            *slot = present;
        }
        for peer in self.everyone() {
            if let Some(direction) = self.direction(member, peer) {
                direction.believed = None;
            }
        }
        self.refresh(now_ms)
    }

    /// Begins a cut and names it.
    pub(super) fn cut(&mut self, now_ms: u64, cut: Cut) -> (u64, Vec<Change>) {
        self.cuts_made += 1;
        self.cuts.push((self.cuts_made, cut));
        (self.cuts_made, self.redraw(now_ms))
    }

    /// Ends a cut, or all of them.
    pub(super) fn mend(&mut self, now_ms: u64, only: Option<u64>) -> Vec<Change> {
        self.cuts.retain(|(name, _)| only.is_some_and(|ended| ended != *name));
        self.redraw(now_ms)
    }

    /// The dialling of two members ends: the new session, if there is one now.
    pub(super) fn dialled(&mut self, one: MemberId, other: MemberId) -> Option<u32> {
        let possible = self.can_dial(one, other);
        let pair = self.pair(one, other)?;
        pair.dialling = false;
        if !possible || pair.open {
            return None;
        }
        pair.open = true;
        pair.session += 1;
        Some(pair.session)
    }

    /// Makes a side believe in a session, and says whether it has to give up an older one for it; none if
    /// the session is over by now.
    pub(super) fn believe(&mut self, viewer: MemberId, peer: MemberId, session: u32) -> Option<bool> {
        let open = self.open_session(viewer, peer) == Some(session);
        let direction = self.direction(viewer, peer).filter(|_| open)?;
        Some(direction.believed.replace(session).is_some())
    }

    /// A side learns that a session is over; false if it is not news.
    pub(super) fn noticed(&mut self, viewer: MemberId, peer: MemberId, session: u32) -> bool {
        let news = self.direction(viewer, peer).filter(|direction| direction.believed == Some(session));
        news.is_some_and(|direction| direction.believed.take().is_some())
    }

    /// A handshake needs both directions; a session that exists survives the silence of one.
    fn can_dial(&mut self, one: MemberId, other: MemberId) -> bool {
        let hears =
            |direction: Option<&mut Direction>| direction.is_some_and(|direction| !direction.silenced);
        self.is_reachable(one, other)
            && hears(self.direction(one, other))
            && hears(self.direction(other, one))
    }

    fn is_reachable(&mut self, one: MemberId, other: MemberId) -> bool {
        let both = self.is_present(one) && self.is_present(other);
        both && self.pair(one, other).is_some_and(|pair| !pair.severed)
    }

    fn is_present(&self, member: MemberId) -> bool {
        self.present.get(member.index()).copied().unwrap_or_default()
    }

    fn everyone(&self) -> impl Iterator<Item = MemberId> + use<> {
        (0..u16::try_from(self.present.len()).unwrap_or(u16::MAX)).map(MemberId)
    }

    fn redraw(&mut self, now_ms: u64) -> Vec<Change> {
        for from in self.everyone() {
            for to in self.everyone() {
                let silenced = self.cuts.iter().any(|(_, cut)| cut.silences(from, to));
                let severed = self.cuts.iter().any(|(_, cut)| cut.severs(from, to));
                if let Some(direction) = self.direction(from, to) {
                    direction.silenced = silenced;
                }
                if let Some(pair) = self.pair(from, to) {
                    pair.severed = severed;
                }
            }
        }
        self.refresh(now_ms)
    }

    /// Ends the sessions that can no longer be, and dials where there could be one.
    fn refresh(&mut self, now_ms: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        for one in self.everyone() {
            for other in self.everyone().filter(|other| *other > one) {
                let reachable = self.is_reachable(one, other);
                let can_dial = self.can_dial(one, other);
                let Some(pair) = self.pair(one, other) else { continue };
                if pair.open && !reachable {
                    pair.open = false;
                    let session = pair.session;
                    changes.extend(self.notice(now_ms, one, other, session));
                    changes.extend(self.notice(now_ms, other, one, session));
                } else if !pair.open && !pair.dialling && can_dial {
                    pair.dialling = true;
                    changes.extend(self.dial(now_ms, one, other));
                }
            }
        }
        changes
    }

    fn notice(&mut self, now_ms: u64, viewer: MemberId, peer: MemberId, session: u32) -> Option<Change> {
        let Quality { notice_ms, .. } = self.quality;
        let direction = self.direction(viewer, peer).filter(|direction| direction.believed.is_some())?;
        let at_ms = now_ms.saturating_add(direction.link.draw(notice_ms));
        Some(Change::Notice { at_ms, viewer, peer, session })
    }

    fn dial(&mut self, now_ms: u64, one: MemberId, other: MemberId) -> Option<Change> {
        let Quality { dial_ms, .. } = self.quality;
        let at_ms = now_ms.saturating_add(self.direction(one, other)?.link.draw(dial_ms));
        Some(Change::Dial { at_ms, one, other })
    }
}
