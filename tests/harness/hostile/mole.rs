//! A hostile member: it joined as anyone may, and from then on says what it wants.

use prost::Message as _;
use spacepanda_core::{
    clock::{now_ms, random},
    dag::Support,
    event::{Body, Event, SignedEvent},
    group::{
        authorize::Justification,
        commit::Change,
        frame::{Frame, FrameKind},
        key_package::FreshKeyPackage,
        process::Processed,
        rows::Rows,
        state::GroupState,
        testing::Hostile as _,
    },
    id::{ChannelId, EventId, GroupId, LogId},
    invite::InviteLink,
    letter::open_signed,
};
use spacepanda_proto::peer::v1::{
    self as wire, ApplicationPlaintext, Carry, FrameOutcome, Fresh, JoinBundle, Letter, LogPosition,
    SignedTip, Tip, application_plaintext, carried_event, letter,
};

use super::Intruder;
use crate::harness::{
    client::Person,
    wait::{wait_until, when},
};

/// A frame that a member pushed to the mole, opened.
pub(crate) struct Heard {
    /// As it came.
    pub(crate) bytes: Vec<u8>,
    /// Epoch of the state that sealed it.
    pub(crate) epoch: u64,
    /// What it is.
    pub(crate) kind: FrameKind,
    /// The events in it.
    pub(crate) events: Vec<SignedEvent>,
}

/// A member of a group that plays by no rules but MLS's.
pub(crate) struct Mole {
    /// Its router and keys.
    pub(crate) intruder: Intruder,
    /// The group.
    pub(crate) gid: GroupId,
    /// The letter that let it in, as it came.
    pub(crate) letter: Vec<u8>,
    /// What it came with.
    pub(crate) bundle: JoinBundle,
    /// Everything it heard and could open, in order.
    pub(crate) heard: Vec<Heard>,
    /// Oldest first; the last is the head.
    states: Vec<GroupState>,
    /// The private keys of its KeyPackage.
    key_rows: Vec<(Vec<u8>, Vec<u8>)>,
    unread: Vec<Vec<u8>>,
    taken: usize,
    log: LogId,
    last: Option<(u64, EventId)>,
    counter: u64,
}

impl Mole {
    pub(super) fn enter(
        intruder: Intruder,
        link: &InviteLink,
        key_package: FreshKeyPackage,
        letter: &[u8],
    ) -> Self {
        let (_, body) = open_signed(&intruder.identity.letter_secret, letter).expect("a letter to it");
        let Some(letter::Kind::Join(bundle)) = Letter::decode(&*body).expect("a letter").kind else {
            panic!("no bundle")
        };
        let key_rows = key_package.rows.upserts;
        let state = joined(&intruder, link.gid, &key_rows, &bundle);
        Self {
            intruder,
            gid: link.gid,
            letter: letter.to_vec(),
            bundle,
            heard: Vec::new(),
            states: vec![state],
            key_rows,
            unread: Vec::new(),
            taken: 0,
            log: LogId(*random()),
            last: None,
            counter: 0,
        }
    }

    /// The state it is in.
    pub(crate) fn head(&mut self) -> &mut GroupState {
        self.states.last_mut().expect("a state")
    }

    /// The state it joined in as it was then: in it, every key of its own is as good as new.
    pub(crate) fn as_it_joined(&self) -> GroupState {
        joined(&self.intruder, self.gid, &self.key_rows, &self.bundle)
    }

    /// An event in the next place of its own log.
    pub(crate) fn next_event(&mut self, body: Body) -> Event {
        let (gid, seen_sid) = (self.gid, self.head().facts().sid);
        let (seq, prev) = self.last.map_or((0, None), |(seq, id)| (seq, Some(id)));
        Event {
            gid,
            log: self.log,
            seq: seq + 1,
            prev,
            // It refers to its own log only, where time and place run together.
            lamport: seq + 1,
            deps: Vec::new(),
            seen_sid,
            wall_ms: now_ms().unsigned_abs(),
            author: self.intruder.identity.certificate.device,
            body,
        }
    }

    /// Signs an event as it is, and remembers nothing of it.
    pub(crate) fn sign(&self, event: Event) -> SignedEvent {
        SignedEvent::sign(&self.intruder.identity.device, event).expect("signed")
    }

    /// Signs the next event of its log and takes its place.
    pub(crate) fn append(&mut self, body: Body) -> Vec<u8> {
        let event = self.next_event(body);
        let signed = self.sign(event);
        self.last = Some((signed.event.seq, signed.id));
        signed.encoded().to_vec()
    }

    /// Seals events as its own new ones.
    pub(crate) fn fresh(&mut self, events: &[Vec<u8>]) -> Vec<u8> {
        self.seal(application_plaintext::Kind::Fresh(Fresh { events: events.to_vec() }))
    }

    /// Seals events as anyone's, sent again.
    pub(crate) fn carry(&mut self, events: Vec<carried_event::Kind>) -> Vec<u8> {
        let events = events.into_iter().map(|kind| wire::CarriedEvent { kind: Some(kind) }).collect();
        self.seal(application_plaintext::Kind::Carry(Carry { events }))
    }

    /// Seals any plaintext.
    pub(crate) fn seal(&mut self, kind: application_plaintext::Kind) -> Vec<u8> {
        let plaintext = ApplicationPlaintext { kind: Some(kind) }.encode_to_vec();
        let device = self.intruder.device();
        let sealed = self.head().seal_application(&device, &plaintext);
        sealed.unwrap_or_else(|error| panic!("sealing: {error}")).bytes
    }

    /// Seals a commit that nobody asked whether it is allowed.
    pub(crate) fn forge_commit(&mut self, change: &Change, justification: Vec<u8>) -> Vec<u8> {
        let device = self.intruder.device();
        let forged = self.head().forge_commit(&device, change, justification);
        forged.unwrap_or_else(|error| panic!("the commit cannot even be made: {error}"))
    }

    /// Commits fresh keys in the state it joined in, and so many times more one after the other; gives the
    /// frames, and follows none of them.
    pub(crate) fn branch(&self, commits: usize) -> Vec<Vec<u8>> {
        let (device, mut state) = (self.intruder.device(), self.as_it_joined());
        let mut frames = Vec::with_capacity(commits);
        for _ in 0..commits {
            let committed = state.commit(&device, nothing(&state), no_reasons()).expect("fresh keys");
            frames.push(committed.frame);
            state = committed.child;
        }
        frames
    }

    /// Commits fresh keys so that one member cannot open the commit, and follows it.
    pub(crate) fn commit_against(&mut self, victim: &Person) -> Vec<u8> {
        let device = self.intruder.device();
        let account = victim.account();
        let head = self.head();
        let mut roster = head.facts().standing.roster.iter().map(|member| &member.certificate);
        let its = roster.find(|certificate| hex::encode(certificate.account.0) == account);
        let its = its.expect("a member").device;
        let change = nothing(head);
        let committed = head.commit_against(&device, &change, no_reasons(), &[its]).expect("a commit");
        self.states.push(committed.child);
        committed.frame
    }

    /// Makes a commit as an honest member would, and goes on from it; gives the frame.
    pub(crate) fn commit(&mut self, change: Change, justification: Vec<u8>) -> Vec<u8> {
        let device = self.intruder.device();
        let committed = self.head().commit(&device, change, justification);
        let committed = committed.unwrap_or_else(|error| panic!("the commit: {error}"));
        self.states.push(committed.child);
        committed.frame
    }

    /// A Tip that is as it should be, with the next counter.
    pub(crate) fn tip(&mut self) -> Tip {
        self.counter += 1;
        let counter = self.counter;
        let facts = self.head().facts().clone();
        let contiguous = self.last.map_or(0, |(seq, _)| seq);
        let support = Support::sign(&self.gid, &self.intruder.identity.device, counter, facts.sid);
        Tip {
            device_key: self.intruder.identity.certificate.device.0.to_vec(),
            counter,
            head_sid: facts.sid.0.to_vec(),
            epoch: facts.epoch,
            positions: vec![LogPosition { log: self.log.0.to_vec(), contiguous }],
            pull: false,
            support_counter: support.counter,
            support_signature: support.signature.to_vec(),
        }
    }

    /// Signs a Tip with its own key and seals it on its head.
    pub(crate) fn seal_tip(&mut self, tip: &Tip) -> Vec<u8> {
        let tip = tip.encode_to_vec();
        let signed = [b"spacepanda/tip/1\0", self.gid.as_bytes(), &tip].concat();
        let signature = self.intruder.device().sign(&signed).to_vec();
        let sealed = self.head().seal_tip(&SignedTip { tip, signature }.encode_to_vec());
        sealed.unwrap_or_else(|error| panic!("sealing: {error}"))
    }

    /// Pushes one frame.
    pub(crate) async fn push(&self, victim: &Person, frame: &[u8]) -> FrameOutcome {
        self.intruder.push(victim, &[frame.to_vec()]).await[0]
    }

    /// Says a text as an honest member would, to all of them.
    pub(crate) async fn say(&mut self, victims: &[&Person], channel: &str, text: &str) {
        let event = self.append(text_in(channel, text));
        let frame = self.fresh(&[event]);
        for victim in victims {
            assert_eq!(self.push(victim, &frame).await, FrameOutcome::Stored);
        }
    }

    /// Opens whatever came since, following commits.
    pub(crate) fn catch_up(&mut self) {
        let received = self.intruder.received();
        self.unread.extend(received.iter().skip(self.taken).cloned());
        self.taken = received.len();
        loop {
            let before = self.unread.len();
            for bytes in std::mem::take(&mut self.unread) {
                match self.open(&bytes) {
                    Some(heard) => self.heard.push(heard),
                    None => self.unread.push(bytes),
                }
            }
            if self.unread.is_empty() || self.unread.len() == before {
                return;
            }
        }
    }

    /// How many of the frames after the first `known` it cannot open.
    pub(crate) fn unopened(&mut self, known: usize) -> usize {
        self.catch_up();
        let received = self.intruder.received();
        received.iter().skip(known).filter(|bytes| self.unread.contains(bytes)).count()
    }

    /// Waits until what it heard satisfies a condition; gives the answer.
    pub(crate) async fn hears<T>(&mut self, what: &str, pick: impl Fn(&[Heard]) -> Option<T>) -> T {
        wait_until(what, async || {
            self.catch_up();
            pick(&self.heard).ok_or_else(|| format!("{} frames heard", self.heard.len()))
        })
        .await
    }

    /// Waits until it is in this epoch.
    pub(crate) async fn follows_to(&mut self, epoch: u64) {
        wait_until("the mole to follow the commits", async || {
            self.catch_up();
            let now = self.head().facts().epoch;
            when(now == epoch, format!("epoch {now}"))
        })
        .await;
    }

    /// The text event of this text, as its author sealed it.
    pub(crate) async fn hears_text(&mut self, text: &str) -> (Vec<u8>, SignedEvent) {
        self.hears(text, |heard| {
            heard.iter().find_map(|heard| {
                let event = heard.events.iter().find(|event| says(event, text))?;
                Some((heard.bytes.clone(), event.clone()))
            })
        })
        .await
    }

    fn open(&mut self, bytes: &[u8]) -> Option<Heard> {
        let frame = Frame::decode(bytes).expect("an honest frame");
        let state = self.states.iter_mut().find(|state| state.facts().env_tag == frame.env_tag())?;
        let epoch = state.facts().epoch;
        let opened = state.open_frame(&frame).expect("its own group's frame");
        let mut heard = Heard { bytes: bytes.to_vec(), epoch, kind: opened.kind, events: Vec::new() };
        match opened.kind {
            FrameKind::Application => {
                // Opened before, when it came twice.
                if let Ok(application) = state.open_application(&opened) {
                    heard.events = read(&application.plaintext);
                }
            }
            FrameKind::Commit => {
                let processed = state.process_commit(&opened.body);
                let child = processed.ok().and_then(Processed::child);
                let known = |child: &GroupState| {
                    self.states.iter().any(|state| state.facts().sid == child.facts().sid)
                };
                self.states.extend(child.filter(|child| !known(child)));
            }
            FrameKind::Tip | FrameKind::Unspecified => {}
        }
        Some(heard)
    }
}

fn nothing(state: &GroupState) -> Change {
    Change { adds: vec![], removes: vec![], policy: state.facts().standing.policy.clone() }
}

fn no_reasons() -> Vec<u8> {
    Justification::empty(now_ms().unsigned_abs()).encode().expect("nothing is not too much")
}

fn joined(
    intruder: &Intruder,
    gid: GroupId,
    key_rows: &[(Vec<u8>, Vec<u8>)],
    bundle: &JoinBundle,
) -> GroupState {
    let secret = bundle.route_secret.as_slice().try_into().expect("32 bytes");
    let rows = Rows::from_rows(key_rows.iter().cloned());
    let state = GroupState::join(&intruder.device(), gid, rows, &bundle.welcome, secret);
    state.unwrap_or_else(|error| panic!("the Welcome: {error}"))
}

/// A text for a channel named by its API id.
pub(crate) fn text_in(channel: &str, text: &str) -> Body {
    let channel = uuid::Uuid::parse_str(channel).expect("a channel id");
    Body::Text { channel: ChannelId(channel.into_bytes()), text: text.into(), reply_to: None }
}

fn says(event: &SignedEvent, wanted: &str) -> bool {
    matches!(&event.event.body, Body::Text { text, .. } if text == wanted)
}

fn read(plaintext: &[u8]) -> Vec<SignedEvent> {
    let events: Vec<Vec<u8>> = match ApplicationPlaintext::decode(plaintext).expect("protobuf").kind {
        Some(application_plaintext::Kind::Fresh(fresh)) => fresh.events,
        Some(application_plaintext::Kind::Carry(carry)) => carry
            .events
            .into_iter()
            .filter_map(|carried| match carried.kind {
                Some(carried_event::Kind::Event(bytes)) => Some(bytes),
                _ => None,
            })
            .collect(),
        None => Vec::new(),
    };
    events.iter().map(|bytes| SignedEvent::decode(bytes).expect("an honest event")).collect()
}
