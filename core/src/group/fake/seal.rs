//! The fake's cipher: a short pad over and over, and a keyed hash. It hides content from whoever only looks
//! at bytes, and does not open without the key; one who computes breaks it.

use super::{Key, hash};
use crate::group::frame::{FrameCipher, HEADER_BYTES, NONCE_BYTES};

const TAG_BYTES: usize = 16;

/// Seals frames by hashing.
#[derive(Clone)]
pub(super) struct HashCipher;

impl FrameCipher for HashCipher {
    fn seal(
        key: &Key,
        nonce: &[u8; NONCE_BYTES],
        header: &[u8; HEADER_BYTES],
        content: &mut Vec<u8>,
    ) -> Option<()> {
        seal(key, nonce, header, content);
        Some(())
    }

    fn open(
        key: &Key,
        nonce: &[u8; NONCE_BYTES],
        header: &[u8; HEADER_BYTES],
        content: &mut Vec<u8>,
    ) -> Option<()> {
        open(key, nonce, header, content)
    }
}

/// Hides content in place and appends 16 bytes; a key that is used once needs no nonce.
pub(super) fn seal(key: &Key, nonce: &[u8], authenticated: &[u8], content: &mut Vec<u8>) {
    pad(key, nonce, content);
    content.extend(tag(key, nonce, authenticated, content));
}

/// Undoes [`seal`], if nothing was changed.
pub(super) fn open(key: &Key, nonce: &[u8], authenticated: &[u8], content: &mut Vec<u8>) -> Option<()> {
    let (sealed, found) = content.split_last_chunk()?;
    let sealed_bytes = sealed.len();
    (tag(key, nonce, authenticated, sealed) == *found).then_some(())?;
    content.truncate(sealed_bytes);
    pad(key, nonce, content);
    Some(())
}

fn pad(key: &Key, nonce: &[u8], content: &mut [u8]) {
    let pad = hash("pad", &[key, nonce]);
    for chunk in content.chunks_mut(pad.len()) {
        chunk.iter_mut().zip(pad).for_each(|(byte, pad)| *byte ^= pad);
    }
}

fn tag(key: &Key, nonce: &[u8], authenticated: &[u8], sealed: &[u8]) -> [u8; TAG_BYTES] {
    super::prefix(&hash("tag", &[key, nonce, authenticated, sealed]))
}
