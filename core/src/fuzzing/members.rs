//! What a member of a group reads: frames, commits, messages, Welcomes. The group is made anew in each process,
//! for its keys are random, and inputs are changes to what another member made: see [`edited`].

use std::sync::OnceLock;

use prost::Message as _;
use spacepanda_proto::peer::v1 as wire;

use super::{
    script::edited,
    wire::{GID, account, certificate, device, device_key, event},
    words::tips,
};
use crate::{
    event::Body,
    group::{
        authorize::{AddedLeaf, JoinProof, Justification, Standing, plan, sign_join},
        commit::{Change, Committed},
        error::GroupError,
        frame::{Frame, FrameKind, OpenedFrame},
        identity::DeviceIdentity,
        key_package::{FreshKeyPackage, check_key_package, fresh_key_package},
        message::Application,
        policy::Policy,
        rows::Rows,
        state::GroupState,
        testing::Hostile as _,
    },
    id::{ChannelId, InviteId},
    model::Role,
    network::foreign,
};

const INVITE_SEED: [u8; 32] = [200; 32];
const NONCE: [u8; 32] = [99; 32];

type StoredRows = Vec<(Vec<u8>, Vec<u8>)>;

/// A group of two as the second of them holds it, and what the first one sends it.
struct Group {
    rows: StoredRows,
    standing: Standing,
    /// The newcomer's KeyPackage with its private keys, and what let it in.
    key_package: FreshKeyPackage,
    welcome: Vec<u8>,
    route_secret: [u8; 32],
    commits: Vec<Vec<u8>>,
    message: OpenedFrame,
    frames: Vec<Vec<u8>>,
}

fn identity(number: u8) -> DeviceIdentity {
    DeviceIdentity::new(device_key(number), certificate(number))
}

/// The same for the whole process; `None` would be a defect, which the seeds show.
fn group() -> Option<&'static Group> {
    static GROUP: OnceLock<Option<Group>> = OnceLock::new();
    GROUP.get_or_init(|| found().ok()).as_ref()
}

/// The standing of the group's members.
pub(super) fn standing() -> Option<&'static Standing> {
    group().map(|group| &group.standing)
}

fn found() -> Result<Group, GroupError> {
    let owner = GroupState::create(&identity(0), GID, Policy::founding(account(0)))?;
    let key_package = fresh_key_package(&identity(1))?;
    let Committed { mut child, welcome, .. } = admit(&owner, &key_package)?;
    let welcome = welcome.ok_or(GroupError::Welcome)?;
    let route_secret = *child.route_secret();
    let key_rows = Rows::from_rows(key_package.rows.upserts.iter().cloned());
    let mut member = GroupState::join(&identity(1), GID, key_rows, &welcome, route_secret)?;
    let standing = member.facts().standing.clone();
    let rows = member.take_changes()?.upserts;

    let carol = fresh_key_package(&identity(2))?;
    let mut removal = Change { adds: vec![], removes: vec![device(1)], policy: standing.policy.clone() };
    removal.policy = removal.policy.with_removed(&account(1), standing.epoch + 1, true);
    let nothing = Change { adds: vec![], removes: vec![], policy: standing.policy.clone() };
    let empty = || Justification::empty(0).encode().unwrap_or_default();
    let forged = child.forge_commit(&identity(0), &removal, empty())?;
    let commits = [child.commit(&identity(0), nothing, empty())?, admit(&child, &carol)?];
    let text = Body::Text { channel: ChannelId([1; 16]), text: "hello".into(), reply_to: None };
    let events = event(0, text).iter().map(|event| event.encoded().to_vec()).collect();
    let kind = wire::application_plaintext::Kind::Fresh(wire::Fresh { events });
    let plaintext = wire::ApplicationPlaintext { kind: Some(kind) }.encode_to_vec();
    let message = child.seal_application(&identity(0), &plaintext)?.bytes;
    let tip = tips().first().map(|tip| tip.iter().skip(1).copied().collect::<Vec<u8>>()).unwrap_or_default();
    let sent = [message, child.seal_tip(&tip)?, forged];
    let frames = sent.into_iter().chain(commits.iter().map(|commit| commit.frame.clone()));
    let frames: Vec<_> = frames.collect();
    let open = |bytes: &Vec<u8>| Frame::decode(bytes).and_then(|frame| member.open_frame(&frame)).ok();
    let mut opened: Vec<_> = frames.iter().filter_map(open).collect();
    let message = opened.swap_remove(0);
    let commits = opened.into_iter().filter(|opened| opened.kind == FrameKind::Commit);
    let commits = commits.map(|opened| opened.body).collect();
    Ok(Group { rows, standing, key_package, welcome, route_secret, commits, message, frames })
}

fn admit(state: &GroupState, key_package: &FreshKeyPackage) -> Result<Committed, GroupError> {
    let standing = &state.facts().standing;
    let invite_key = ed25519_dalek::SigningKey::from_bytes(&INVITE_SEED).verifying_key().to_bytes();
    let invite = Body::Invite {
        invite: InviteId([50; 16]),
        public_key: invite_key,
        role: Role::Member,
        max_uses: 100,
        expires_at_ms: 1,
        epoch: standing.epoch,
    };
    let checked = check_key_package(&key_package.bytes)?;
    let leaf = AddedLeaf { certificate: checked.certificate, key_package_hash: checked.hash };
    let signature = sign_join(&INVITE_SEED, &GID, &NONCE, &checked.hash);
    let proof = |invite| JoinProof { invite, nonce: NONCE, key_package_hash: checked.hash, signature };
    let joins = event(0, invite).into_iter().map(proof).collect();
    let reasons = Justification { joins, ..Justification::empty(0) };
    let planned = plan(standing, &device(0), &[leaf], &reasons)?;
    let change = Change { adds: vec![key_package.bytes.clone()], removes: vec![], policy: planned.policy };
    state.commit(&identity(0), change, reasons.encode()?)
}

fn member(group: &Group) -> Option<GroupState> {
    GroupState::load(GID, Rows::from_rows(group.rows.iter().cloned())).ok()
}

/// Each of several valid things as it is: the first byte of an input says which one is changed.
fn each(count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|which| vec![which]).collect()
}

fn changed(valid: &[Vec<u8>], input: &[u8]) -> Option<Vec<u8>> {
    let (which, script) = input.split_first()?;
    let which = usize::from(*which).checked_rem(valid.len())?;
    Some(edited(valid.get(which)?, script))
}

pub(super) fn frames() -> Vec<Vec<u8>> {
    each(3)
}

pub(super) fn takes_frame(input: &[u8]) -> bool {
    let Some(group) = group() else { return false };
    let Some(bytes) = changed(&group.frames, input) else { return false };
    let Ok(frame) = Frame::decode(&bytes) else { return false };
    member(group).is_some_and(|state| state.open_frame(&frame).is_ok())
}

/// A kind, and any body of it, sealed as a member can.
pub(super) fn bodies() -> Vec<Vec<u8>> {
    let tip = tips().into_iter().next().unwrap_or_default();
    let tip = tip.split_first().map(|(_, tip)| [&[3], tip].concat()).unwrap_or_default();
    vec![vec![1], vec![2, 1, 2, 3], tip]
}

pub(super) fn takes_body(input: &[u8]) -> bool {
    let Some((kind, body)) = input.split_first() else { return false };
    let kind = FrameKind::try_from(i32::from(kind % 4)).unwrap_or(FrameKind::Unspecified);
    let Some(mut state) = group().and_then(member) else { return false };
    let Ok(bytes) = state.forge_frame(kind, 0, 0, body) else { return false };
    let Ok(opened) = Frame::decode(&bytes).and_then(|frame| state.open_frame(&frame)) else { return false };
    let whole =
        [&opened.body[..], opened.skeleton_signature.as_ref().map_or(&[], |signature| &signature[..])];
    assert!(whole.concat() == body && opened.kind == kind, "what was sealed opens as something else");
    match opened.kind {
        FrameKind::Commit => state.process_commit(&opened.body).is_ok(),
        FrameKind::Application => state.open_application(&opened).is_ok(),
        FrameKind::Tip => foreign::reads_tip(GID, &opened.body),
        FrameKind::Unspecified => false,
    }
}

pub(super) fn commits() -> Vec<Vec<u8>> {
    each(3)
}

pub(super) fn takes_commit(input: &[u8]) -> bool {
    let Some(group) = group() else { return false };
    let Some(commit) = changed(&group.commits, input) else { return false };
    member(group).is_some_and(|state| state.process_commit(&commit).is_ok())
}

pub(super) fn applications() -> Vec<Vec<u8>> {
    each(1)
}

pub(super) fn takes_application(input: &[u8]) -> bool {
    let Some(group) = group() else { return false };
    let Some(body) = changed(std::slice::from_ref(&group.message.body), input) else { return false };
    let OpenedFrame { kind, leaf, counter, skeleton_signature, .. } = group.message;
    let opened = OpenedFrame { kind, leaf, counter, body, skeleton_signature };
    let Some(mut state) = member(group) else { return false };
    state.open_application(&opened).is_ok_and(|application| foreign::reads_plaintext(GID, &application))
}

pub(super) fn plaintexts() -> Vec<Vec<u8>> {
    use wire::{application_plaintext::Kind, carried_event::Kind as Carried};
    let text = Body::Text { channel: ChannelId([1; 16]), text: "hello".into(), reply_to: None };
    let events: Vec<_> = event(0, text).iter().map(|event| event.encoded().to_vec()).collect();
    let withheld = wire::WithheldEvent {
        log: vec![1; 16],
        seq: 1,
        event_id: vec![2; 32],
        lamport: 3,
        author: device(0).0.to_vec(),
    };
    let carried = events.iter().cloned().map(Carried::Event).chain([Carried::Withheld(withheld)]);
    let carried = carried.map(|kind| wire::CarriedEvent { kind: Some(kind) }).collect();
    let kinds = [Kind::Fresh(wire::Fresh { events }), Kind::Carry(wire::Carry { events: carried })];
    kinds.into_iter().map(|kind| wire::ApplicationPlaintext { kind: Some(kind) }.encode_to_vec()).collect()
}

/// What a member says, whose word reaches everyone: any bytes at all.
pub(super) fn takes_plaintext(input: &[u8]) -> bool {
    let Some(sender) = standing().and_then(|standing| standing.roster.first()) else { return false };
    let application = Application { sender: sender.clone(), leaf: 0, counter: 0, plaintext: input.to_vec() };
    foreign::reads_plaintext(GID, &application)
}

pub(super) fn welcomes() -> Vec<Vec<u8>> {
    each(1)
}

pub(super) fn takes_welcome(input: &[u8]) -> bool {
    let Some(group) = group() else { return false };
    let Some(welcome) = changed(std::slice::from_ref(&group.welcome), input) else { return false };
    let rows = Rows::from_rows(group.key_package.rows.upserts.iter().cloned());
    GroupState::join(&identity(1), GID, rows, &welcome, group.route_secret).is_ok()
}

pub(super) fn key_packages() -> Vec<Vec<u8>> {
    each(1)
}

pub(super) fn takes_key_package(input: &[u8]) -> bool {
    let Some(group) = group() else { return false };
    let valid = std::slice::from_ref(&group.key_package.bytes);
    changed(valid, input).is_some_and(|bytes| check_key_package(&bytes).is_ok())
}
