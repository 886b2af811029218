//! The people of a simulated group and the group they start in.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc};

use ed25519_dalek::SigningKey;
use sha2::{Digest as _, Sha256};

use super::{disk::Disk, rows::Adoption, wire::Skeleton};
use crate::{
    certificate::Certificate,
    event::{Body, Event, SignedEvent},
    group::{
        authorize::{AddedLeaf, JoinProof, Justification, MAX_JOINS, plan, sign_join},
        commit::{Change, Committed},
        error::GroupError,
        identity::DeviceIdentity,
        key_package::FreshKeyPackage,
        policy::Policy,
        rows::Rows,
        testing::Hostile,
    },
    id::{AccountId, DeviceId, GroupId, InviteId, LogId, StateId},
    model::Role,
    mutant::Mutant,
};

/// The group.
pub(super) const GID: GroupId = GroupId([7; 16]);
const NONCE: [u8; 32] = [9; 32];
/// When the group was founded, by everyone's clock: when their world begins.
const FOUNDED_MS: u64 = 1_800_000_000_000;

/// One account with its one device.
pub struct Person {
    /// Who.
    pub account: AccountId,
    /// Its leaf.
    pub device: DeviceId,
    pub(super) identity: DeviceIdentity,
    pub(super) key: SigningKey,
}

impl Person {
    fn new(number: u16) -> Self {
        let secret = |what: &str| Sha256::new().chain_update(what).chain_update(number.to_be_bytes());
        let account = SigningKey::from_bytes(&secret("account").finalize().into());
        let key = SigningKey::from_bytes(&secret("device").finalize().into());
        let device = DeviceId(key.verifying_key().to_bytes());
        let letter_key = secret("letters").finalize().into();
        let certificate = Certificate::issue(&account, device, number.to_be_bytes().to_vec(), letter_key, 1);
        let account = certificate.account;
        Self { account, device, identity: DeviceIdentity::new(key.clone(), certificate), key }
    }
}

/// What a member can be made to do wrong, and by how much the worlds of one seed may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The age at which states lose their secrets, in milliseconds.
    pub window_ms: u64,
    /// The rule that some of them break.
    pub mutant: Option<Mutant>,
    /// Whether all of them do, or only every other one: who breaks a rule of agreement alone disagrees.
    pub everyone: bool,
}

impl Config {
    pub(super) fn mutant_of(&self, place: u16) -> Option<Mutant> {
        self.mutant.filter(|_| self.everyone || place % 2 == 1)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { window_ms: 72 * 3_600_000, mutant: None, everyone: true }
    }
}

/// What all members of a world share.
pub struct Setup<E> {
    /// Everyone, by their place in the world; those who are not in the group may join.
    pub people: Vec<Person>,
    pub(super) places: BTreeMap<DeviceId, u16>,
    pub(super) config: Config,
    pub(super) disks: Vec<Disk>,
    engine: PhantomData<fn() -> E>,
}

/// The invites that the founder makes first: for members and for administrators.
pub(super) const INVITES: [(InviteId, Role); 2] =
    [(InviteId([1; 16]), Role::Member), (InviteId([2; 16]), Role::Admin)];

/// The secret of an invite's link.
pub(super) fn invite_seed(invite: &InviteId) -> [u8; 32] {
    Sha256::new().chain_update("invite").chain_update(invite.as_bytes()).finalize().into()
}

/// An invite that many may use.
pub(super) fn invite_body(invite: InviteId, role: Role, epoch: u64) -> Body {
    let key = SigningKey::from_bytes(&invite_seed(&invite));
    let public_key = key.verifying_key().to_bytes();
    Body::Invite { invite, public_key, role, max_uses: 10_000, expires_at_ms: u64::MAX >> 1, epoch }
}

/// The first log of a device.
fn first_log(device: &DeviceId) -> LogId {
    let digest = Sha256::new().chain_update("log").chain_update(device.as_bytes()).finalize();
    LogId(digest.first_chunk().copied().unwrap_or_default())
}

impl<E: Hostile> Setup<E> {
    /// A group of most of so many people, one in four of them to join later.
    ///
    /// # Errors
    /// [`GroupError`] when the engine does not do what it must.
    pub fn found(members: u16, config: Config) -> Result<Self, GroupError> {
        let people: Vec<Person> = (0..members).map(Person::new).collect();
        let places = people.iter().zip(0..).map(|(person, place)| (person.device, place)).collect();
        let disks = people.iter().map(|person| Disk::outside(person.device, first_log(&person.device)));
        let mut setup = Self { places, config, disks: disks.collect(), people, engine: PhantomData };
        let inside = usize::from(members).saturating_sub(usize::from(members) / 4).max(2);
        setup.fill(inside)?;
        Ok(setup)
    }

    fn fill(&mut self, inside: usize) -> Result<(), GroupError> {
        let Some(founder) = self.people.first() else { return Ok(()) };
        let mut head = E::create(&founder.identity, GID, Policy::founding(founder.account))?;
        let invites = Self::invites(founder, head.facts().sid)?;
        let mut joined: Vec<(usize, E)> = Vec::new();
        Self::put(self.disks.first_mut(), &mut head, None)?;
        let newcomers: Vec<usize> = (1..inside).collect();
        for chunk in newcomers.chunks(MAX_JOINS) {
            let (mut committed, fresh) = self.admission(&head, chunk, &invites)?;
            let skeleton = Skeleton::sign(&founder_key(&self.people)?, &head.facts().sid, &committed);
            let welcome = committed.welcome.take().ok_or(GroupError::Welcome)?;
            for (place, state) in &mut joined {
                let processed = state.process_commit(&committed.commit).map_err(|_| GroupError::Damaged)?;
                *state = processed.child().ok_or(GroupError::Damaged)?;
                Self::put(self.disks.get_mut(*place), state, Some(&skeleton))?;
            }
            for (place, fresh) in chunk.iter().zip(fresh) {
                let person = self.people.get(*place).ok_or(GroupError::UnknownDevice)?;
                let rows = Rows::from_rows(fresh.rows.upserts);
                let secret = *committed.child.route_secret();
                let mut state = E::join(&person.identity, GID, rows, &welcome, secret)?;
                let root = Skeleton { parent: None, ..skeleton.clone() };
                Self::put(self.disks.get_mut(*place), &mut state, Some(&root))?;
                joined.push((*place, state));
            }
            head = committed.child;
            Self::put(self.disks.first_mut(), &mut head, Some(&skeleton))?;
        }
        for disk in self.disks.iter_mut().take(inside) {
            disk.remember(&invites, &head.facts().sid);
        }
        Ok(())
    }

    fn admission(
        &self,
        head: &E,
        chunk: &[usize],
        invites: &[SignedEvent],
    ) -> Result<(Committed<E>, Vec<FreshKeyPackage>), GroupError> {
        let founder = self.people.first().ok_or(GroupError::UnknownDevice)?;
        let mut reasons = Justification::empty(0);
        let (mut leaves, mut fresh) = (Vec::new(), Vec::new());
        for place in chunk {
            let person = self.people.get(*place).ok_or(GroupError::UnknownDevice)?;
            let package = E::fresh_key_package(&person.identity)?;
            // Every other one administers.
            let invite = invites.get(place % 2).ok_or(GroupError::Damaged)?;
            let (id, _) = INVITES.get(place % 2).ok_or(GroupError::Damaged)?;
            reasons.joins.push(JoinProof {
                invite: invite.clone(),
                nonce: NONCE,
                key_package_hash: package.hash,
                signature: sign_join(&invite_seed(id), &GID, &NONCE, &package.hash),
            });
            let certificate = person.identity.certificate().clone();
            leaves.push(AddedLeaf { certificate, key_package_hash: package.hash });
            fresh.push(package);
        }
        let planned = plan(&head.facts().standing, &founder.device, &leaves, &reasons)?;
        let adds = fresh.iter().map(|package| package.bytes.clone()).collect();
        let change = Change { adds, removes: planned.removes, policy: planned.policy };
        Ok((head.commit(&founder.identity, change, reasons.encode()?)?, fresh))
    }

    /// Stores a state that a device starts with.
    fn put(disk: Option<&mut Disk>, state: &mut E, skeleton: Option<&Skeleton>) -> Result<(), GroupError> {
        let rows = state.take_changes()?.upserts;
        let facts = state.facts();
        let adoption = Adoption {
            skeleton: skeleton.cloned().unwrap_or_else(|| Skeleton::founding(&facts.standing, facts.sid)),
            standing: Arc::new(facts.standing.clone()),
            env_tag: facts.env_tag,
            rows: Some(rows),
            included: Vec::new(),
            own: false,
            at_ms: FOUNDED_MS,
        };
        if let Some(disk) = disk {
            disk.adopt(adoption);
        }
        Ok(())
    }

    fn invites(founder: &Person, seen_sid: StateId) -> Result<Vec<SignedEvent>, GroupError> {
        let mut prev = None;
        let mut events = Vec::new();
        for ((invite, role), seq) in INVITES.into_iter().zip(1..) {
            let event = Event {
                gid: GID,
                log: first_log(&founder.device),
                seq,
                prev,
                lamport: seq,
                deps: Vec::new(),
                seen_sid,
                wall_ms: 0,
                author: founder.device,
                body: invite_body(invite, role, 0),
            };
            let signed = SignedEvent::sign(&founder.key, event).map_err(|_| GroupError::Damaged)?;
            prev = Some(signed.id);
            events.push(signed);
        }
        Ok(events)
    }
}

fn founder_key(people: &[Person]) -> Result<SigningKey, GroupError> {
    people.first().map(|person| person.key.clone()).ok_or(GroupError::UnknownDevice)
}

impl<E> Setup<E> {
    /// A world with nobody in it, which breaks rules.
    pub(super) fn empty(config: Config) -> Self {
        let (people, places) = (Vec::new(), BTreeMap::new());
        Self { people, places, config, disks: Vec::new(), engine: PhantomData }
    }

    /// A member's first disk.
    pub(super) fn disk(&self, place: u16) -> Disk {
        let nobody = || Disk::outside(DeviceId([0; 32]), LogId([0; 16]));
        self.disks.get(usize::from(place)).cloned().unwrap_or_else(nobody)
    }

    pub(super) fn person(&self, place: u16) -> Option<&Person> {
        self.people.get(usize::from(place))
    }
}
