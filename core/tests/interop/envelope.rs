//! Frames, sealed and opened as docs/protocol.md describes them. Knows nothing of the product's.

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305,
    aead::{Aead as _, Payload},
};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

pub(crate) const COMMIT: u8 = 1;
pub(crate) const APPLICATION: u8 = 2;

const BUCKETS: [usize; 5] = [512, 1024, 4096, 16_384, 61_440];
const LARGE_BUCKET: usize = 65_536;
const HEADER_BYTES: usize = 33;
const NONCE_BYTES: usize = 24;
const SEAL_BYTES: usize = 16;

/// What seals and opens the frames of one state.
#[derive(Clone)]
pub(crate) struct Envelope {
    pub(crate) route_secret: [u8; 32],
    /// Exported as `sp/envtag`.
    pub(crate) tag: [u8; 16],
    /// Exported as `sp/env`.
    pub(crate) key: [u8; 32],
}

/// What is in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) kind: u8,
    pub(crate) leaf: u32,
    pub(crate) counter: u32,
    pub(crate) body: Vec<u8>,
}

impl Content {
    /// The authenticated data of an application message.
    pub(crate) fn binding(leaf: u32, counter: u32) -> Vec<u8> {
        [leaf.to_be_bytes(), counter.to_be_bytes()].concat()
    }
}

impl Envelope {
    /// Version, route_tag and env_tag.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&self.route_secret).unwrap();
        let route_tag = mac.chain_update(b"sp/route-tag/1").finalize().into_bytes();
        [&[1], &route_tag[..16], &self.tag].concat()
    }

    pub(crate) fn seal(&self, content: &Content) -> Vec<u8> {
        let mut plain = vec![content.kind];
        plain.extend(Content::binding(content.leaf, content.counter));
        plain.extend(u32::try_from(content.body.len()).unwrap().to_be_bytes());
        plain.extend(&content.body);
        let around = HEADER_BYTES + NONCE_BYTES + SEAL_BYTES;
        let least = plain.len() + around;
        let small = BUCKETS.into_iter().find(|bucket| least <= *bucket);
        plain.resize(small.unwrap_or_else(|| least.next_multiple_of(LARGE_BUCKET)) - around, 0);

        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).unwrap();
        let header = self.header();
        let payload = Payload { msg: &plain, aad: &header };
        let sealed = self.cipher().encrypt(&nonce.into(), payload).unwrap();
        [&header[..], &nonce, &sealed].concat()
    }

    /// Opens a frame with this state's key, whatever state its header names.
    pub(crate) fn open(&self, frame: &[u8]) -> Option<Content> {
        let (header, rest) = frame.split_at(HEADER_BYTES);
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().unwrap();
        let payload = Payload { msg: sealed, aad: header };
        let plain = self.cipher().decrypt(nonce.into(), payload).ok()?;
        let number = |at: usize| u32::from_be_bytes(plain[at..at + 4].try_into().unwrap());
        let (body, padding) = plain[13..].split_at(number(9) as usize);
        assert!(padding.iter().all(|byte| *byte == 0));
        Some(Content { kind: plain[0], leaf: number(1), counter: number(5), body: body.to_vec() })
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.key.into())
    }
}
