//! What members say of the group, outside of messages: Tips, Supports, skeletons, echoes, and which frames they hold.

use ed25519_dalek::Signer as _;
use prost::Message as _;
use spacepanda_proto::peer::v1 as wire;

use super::wire::{GID, device, device_key, whole_and_inner};
use crate::{
    dag::{Class, Skeleton, Support},
    id::{CommitId, FrameId, StateId},
    network::foreign,
    reconcile::{FrameSet, place_of_commit, place_of_events},
};

/// Places of either side of a comparison, most of them in common.
const PLACES: u64 = 60;

pub(super) fn tips() -> Vec<Vec<u8>> {
    let tip = wire::Tip {
        device_key: device(0).0.to_vec(),
        counter: 1,
        head_sid: vec![1; 32],
        epoch: 1,
        positions: vec![wire::LogPosition { log: vec![1; 16], contiguous: 3 }],
        pull: true,
        support_counter: 1,
        support_signature: vec![1; 64],
    }
    .encode_to_vec();
    whole_and_inner(&signed_tip(tip.clone()), &tip)
}

fn signed_tip(tip: Vec<u8>) -> Vec<u8> {
    let signed = [b"spacepanda/tip/1\0", GID.as_bytes(), &*tip].concat();
    let signature = device_key(0).sign(&signed).to_bytes().to_vec();
    wire::SignedTip { tip, signature }.encode_to_vec()
}

pub(super) fn takes_tip(input: &[u8]) -> bool {
    let Some((mode, rest)) = input.split_first() else { return false };
    let encoded = match (mode % 2, wire::Tip::decode(rest)) {
        (1, Ok(tip)) => signed_tip(wire::Tip { device_key: device(0).0.to_vec(), ..tip }.encode_to_vec()),
        _ => rest.to_vec(),
    };
    foreign::reads_tip(GID, &encoded)
}

pub(super) fn supports() -> Vec<Vec<u8>> {
    let Support { device, counter, sid, signature } =
        Support::sign(&GID, &device_key(0), 1, StateId([1; 32]));
    let signature = signature.to_vec();
    vec![
        wire::Support { device_key: device.0.to_vec(), counter, sid: sid.0.to_vec(), signature }
            .encode_to_vec(),
    ]
}

pub(super) fn takes_support(input: &[u8]) -> bool {
    foreign::reads_support(GID, input)
}

/// Where a commit leads, by a committer whose signature is made for whatever is said.
pub(super) fn skeletons() -> Vec<Vec<u8>> {
    let skeleton = Skeleton {
        parent: StateId([1; 32]),
        sid: StateId([2; 32]),
        epoch: 3,
        class: Class::Removal,
        committer: device(0),
        commit: CommitId([4; 32]),
    };
    let signed = signed_skeleton(wire_skeleton(&skeleton));
    vec![[&[0], &*signed].concat(), [&[1], &*wire_skeleton(&skeleton).encode_to_vec()].concat()]
}

fn wire_skeleton(skeleton: &Skeleton) -> wire::Skeleton {
    wire::Skeleton {
        parent_sid: skeleton.parent.0.to_vec(),
        sid: skeleton.sid.0.to_vec(),
        epoch: skeleton.epoch,
        class: skeleton.class as u32,
        committer: skeleton.committer.0.to_vec(),
        commit_id: skeleton.commit.0.to_vec(),
        signature: Vec::new(),
    }
}

fn signed_skeleton(said: wire::Skeleton) -> Vec<u8> {
    let parts: [&[u8]; 7] = [
        b"spacepanda/skeleton/1\0",
        GID.as_bytes(),
        &said.parent_sid,
        &said.sid,
        &said.epoch.to_be_bytes(),
        &[u8::try_from(said.class).unwrap_or(u8::MAX)],
        &said.commit_id,
    ];
    let signature = device_key(0).sign(&parts.concat()).to_bytes().to_vec();
    wire::Skeleton { signature, committer: device(0).0.to_vec(), ..said }.encode_to_vec()
}

pub(super) fn takes_skeleton(input: &[u8]) -> bool {
    let Some((mode, rest)) = input.split_first() else { return false };
    let encoded = match (mode % 2, wire::Skeleton::decode(rest)) {
        (1, Ok(said)) => signed_skeleton(said),
        _ => rest.to_vec(),
    };
    foreign::reads_skeleton(GID, &encoded)
}

/// What a member says that it holds of this device: everything, nothing.
pub(super) fn echoes() -> Vec<Vec<u8>> {
    let all = wire::EchoReply {
        tip_counter: 7,
        tip_state: vec![1; 32],
        messages: 2,
        log_seq: 3,
        log_event_id: vec![4; 32],
    };
    vec![all.encode_to_vec(), wire::EchoReply::default().encode_to_vec()]
}

pub(super) fn takes_echo(input: &[u8]) -> bool {
    foreign::reads_echo(input)
}

/// Frames numbered from 0, or some beside them.
fn frame_set(but: u64) -> Option<FrameSet> {
    let frame = |number: u64| FrameId::of(&number.to_be_bytes());
    let numbers = (0..PLACES).filter(|number| number % 7 != but);
    let place = |number| match number % 5 {
        0 => place_of_commit(number / 5, frame(number)),
        _ => place_of_events(number / 5, number, frame(number)),
    };
    FrameSet::new(&numbers.map(place).collect::<Vec<_>>()).ok()
}

/// The words of two that compare what they hold: who asks says 0 before its own, who answers 1.
pub(super) fn comparisons() -> Vec<Vec<u8>> {
    let (Some(ours), Some(theirs)) = (frame_set(1), frame_set(2)) else { return Vec::new() };
    let Ok((_, first)) = ours.compare() else { return Vec::new() };
    let answer = theirs.answer(&first).unwrap_or_default();
    vec![[&[0], &*first].concat(), [&[1], &*answer].concat()]
}

pub(super) fn takes_comparison(input: &[u8]) -> bool {
    let (Some((mode, message)), Some(ours)) = (input.split_first(), frame_set(1)) else { return false };
    if mode % 2 == 0 {
        return ours.answer(message).is_ok();
    }
    let Ok((mut comparison, _)) = ours.compare() else { return false };
    let heard = comparison.hear(message).is_ok();
    let lacking = comparison.lacking();
    assert!(lacking.is_sorted(), "places are not in the order to take frames in");
    heard
}
