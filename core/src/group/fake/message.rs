//! Frames and application messages of the fake: keys of (leaf, counter) that open once, within the same
//! window as in MLS.
//!
//! A message is `2 | gid 16 | epoch u64 | leaf u32 | counter u32 | ChaCha20-Poly1305(plaintext)`, all of
//! it before the ciphertext authenticated.

use std::collections::BTreeMap;

use super::{FakeState, Key, chance, hash, seal};
use crate::{
    group::{
        effect::member_at,
        error::{ApplicationError, GroupError},
        frame::{FrameKind, OpenedFrame},
        message::{Application, MAX_PLAINTEXT_BYTES, SealedFrame},
        state::{FORWARD_MESSAGES, OUT_OF_ORDER_MESSAGES, SEND_COUNTER_ROW},
    },
    id::{DeviceId, FrameId},
};

const MESSAGE: u8 = 2;
const HEAD_BYTES: usize = 1 + 16 + 8 + 4 + 4;
const WINDOW_WORDS: usize = OUT_OF_ORDER_MESSAGES as usize / 64;
const RATCHET_BYTES: usize = 4 + 4 + WINDOW_WORDS * 8;

/// How far one sender was heard.
#[derive(Clone, Copy, Default)]
pub(super) struct Ratchet {
    /// One more than the highest counter opened.
    head: u32,
    /// Bit n, from the lowest of the first word: whether counter `head - 1 - n` was opened.
    opened: [u64; WINDOW_WORDS],
}

impl Ratchet {
    fn check(&self, counter: u32) -> Result<(), ApplicationError> {
        match self.head.checked_sub(counter) {
            None | Some(0) if counter - self.head > FORWARD_MESSAGES => Err(ApplicationError::TooFar),
            None | Some(0) => Ok(()),
            Some(back) if back > OUT_OF_ORDER_MESSAGES => Err(ApplicationError::TooOld),
            Some(back) if self.bit(back - 1) => Err(ApplicationError::Reused),
            Some(_) => Ok(()),
        }
    }

    /// Uses up a counter that passed the check.
    fn take(&mut self, counter: u32) {
        if counter >= self.head {
            self.shift(counter - self.head + 1);
            self.head = counter.saturating_add(1);
        }
        let back = self.head.saturating_sub(counter).saturating_sub(1);
        if let Some(word) = self.opened.get_mut(back as usize / 64) {
            *word |= 1 << (back % 64);
        }
    }

    fn bit(&self, back: u32) -> bool {
        self.opened.get(back as usize / 64).is_some_and(|word| word >> (back % 64) & 1 == 1)
    }

    fn shift(&mut self, by: u32) {
        let (words, bits) = (by as usize / 64, by % 64);
        let before = self.opened;
        let word = |at: Option<usize>| at.and_then(|at| before.get(at)).copied().unwrap_or(0);
        for (at, to) in self.opened.iter_mut().enumerate() {
            let from = at.checked_sub(words);
            let carried =
                if bits == 0 { 0 } else { word(from.and_then(|at| at.checked_sub(1))) >> (64 - bits) };
            *to = word(from) << bits | carried;
        }
    }
}

pub(super) fn write_ratchets(ratchets: &BTreeMap<u32, Ratchet>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ratchets.len() * RATCHET_BYTES);
    for (leaf, ratchet) in ratchets {
        bytes.extend(leaf.to_be_bytes());
        bytes.extend(ratchet.head.to_be_bytes());
        ratchet.opened.iter().for_each(|word| bytes.extend(word.to_be_bytes()));
    }
    bytes
}

pub(super) fn read_ratchets(bytes: &[u8]) -> Option<BTreeMap<u32, Ratchet>> {
    let (chunks, rest) = bytes.as_chunks::<RATCHET_BYTES>();
    let read = |chunk: &[u8; RATCHET_BYTES]| {
        let (leaf, rest) = chunk.split_first_chunk()?;
        let (head, rest) = rest.split_first_chunk()?;
        let mut opened = [0; WINDOW_WORDS];
        let (words, _) = rest.as_chunks();
        opened.iter_mut().zip(words).for_each(|(to, word)| *to = u64::from_be_bytes(*word));
        Some((u32::from_be_bytes(*leaf), Ratchet { head: u32::from_be_bytes(*head), opened }))
    };
    if rest.is_empty() { chunks.iter().map(read).collect() } else { None }
}

impl FakeState {
    pub(super) fn seal_frame(
        &self,
        kind: FrameKind,
        leaf: u32,
        counter: u32,
        body: &[u8],
    ) -> Result<Vec<u8>, GroupError> {
        self.seal_frame_of(&self.own_member()?.certificate.device, kind, leaf, counter, body)
    }

    pub(super) fn seal_frame_of(
        &self,
        device: &DeviceId,
        kind: FrameKind,
        leaf: u32,
        counter: u32,
        body: &[u8],
    ) -> Result<Vec<u8>, GroupError> {
        self.keys.seal_with(super::prefix(&chance::draw(device)), kind, leaf, counter, body)
    }

    pub(super) fn seal_message(
        &mut self,
        device: &DeviceId,
        plaintext: &[u8],
    ) -> Result<SealedFrame, GroupError> {
        if plaintext.len() > MAX_PLAINTEXT_BYTES {
            return Err(GroupError::TooLarge);
        }
        let (leaf, counter) = (self.facts.own_leaf, self.send_counter);
        let next = counter.checked_add(1).ok_or(GroupError::TooLarge)?;
        let head = self.message_head(leaf, counter);
        let mut sealed = plaintext.to_vec();
        seal::seal(&self.message_key(leaf, counter), &[], &head, &mut sealed);
        let message = [&head[..], &sealed].concat();
        let bytes = self.seal_frame_of(device, FrameKind::Application, leaf, counter, &message)?;
        self.send_counter = next;
        self.rows.put(SEND_COUNTER_ROW.to_vec(), next.to_be_bytes().to_vec());
        self.use_up(leaf, counter);
        Ok(SealedFrame { id: FrameId::of(&bytes), bytes, counter })
    }

    pub(super) fn open_message(&mut self, opened: &OpenedFrame) -> Result<Application, ApplicationError> {
        let OpenedFrame { kind, leaf, counter, body, .. } = opened;
        let (head, sealed) = body.split_first_chunk::<HEAD_BYTES>().ok_or(ApplicationError::Malformed)?;
        if *kind != FrameKind::Application || head.first() != Some(&MESSAGE) {
            return Err(ApplicationError::Malformed);
        }
        let expected = self.message_head(*leaf, *counter);
        let state = ..HEAD_BYTES - 8;
        if head.get(state) != expected.get(state) {
            return Err(ApplicationError::Invalid);
        }
        if *head != expected {
            return Err(ApplicationError::WrongSender);
        }
        if *leaf == self.facts.own_leaf {
            return Err(ApplicationError::Own);
        }
        let sender = member_at(&self.facts.standing, *leaf).ok_or(ApplicationError::WrongSender)?.clone();
        self.ratchets.get(leaf).copied().unwrap_or_default().check(*counter)?;
        let mut plaintext = sealed.to_vec();
        seal::open(&self.message_key(*leaf, *counter), &[], head, &mut plaintext)
            .ok_or(ApplicationError::Invalid)?;
        self.use_up(*leaf, *counter);
        Ok(Application { sender, leaf: *leaf, counter: *counter, plaintext })
    }

    fn use_up(&mut self, leaf: u32, counter: u32) {
        self.ratchets.entry(leaf).or_default().take(counter);
        self.ratchets_moved = true;
    }

    fn message_head(&self, leaf: u32, counter: u32) -> [u8; HEAD_BYTES] {
        let mut head = [MESSAGE; HEAD_BYTES];
        let fields = self.facts.gid.0.into_iter();
        let fields = fields.chain(self.facts.epoch.to_be_bytes());
        let fields = fields.chain(leaf.to_be_bytes()).chain(counter.to_be_bytes());
        head.iter_mut().skip(1).zip(fields).for_each(|(to, from)| *to = from);
        head
    }

    fn message_key(&self, leaf: u32, counter: u32) -> Key {
        hash("message", &[&self.secrets.state, &leaf.to_be_bytes(), &counter.to_be_bytes()])
    }
}
