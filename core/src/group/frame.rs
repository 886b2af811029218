//! Frames: what travels between servers. Sealed, padded, and naming nobody to those without the key.
//!
//! `version 1 | route_tag 16 | env_tag 16 | nonce 24 | XChaCha20-Poly1305(padded)`, where the first 33
//! bytes are authenticated and padded is `kind u8 | leaf u32 | counter u32 | length u32 | body | zeros`
//! (big endian). The whole frame has the length of a bucket. MLS bytes are opaque here.

use std::{fmt, marker::PhantomData};

use chacha20poly1305::{AeadInPlace, KeyInit, XChaCha20Poly1305};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
pub use spacepanda_proto::peer::v1::FrameKind;
use zeroize::Zeroizing;

use super::error::{FrameError, GroupError};
use crate::id::{FrameId, GroupId, StateId};

/// Longest frame, bytes.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

const VERSION: u8 = 1;
const TAG_BYTES: usize = 16;
pub(super) const HEADER_BYTES: usize = 1 + 2 * TAG_BYTES;
pub(super) const NONCE_BYTES: usize = 24;
const SEAL_BYTES: usize = 16;
const PREFIX_BYTES: usize = 1 + 4 + 4 + 4;
const SMALL_BUCKETS: [usize; 5] = [512, 1024, 4096, 16_384, 61_440];
/// Above the small buckets a frame's length is a multiple of this.
const LARGE_BUCKET: usize = 65_536;

/// Longest body of a frame, bytes.
pub const MAX_BODY_BYTES: usize = MAX_FRAME_BYTES - HEADER_BYTES - NONCE_BYTES - SEAL_BYTES - PREFIX_BYTES;

/// The id of a state: `SHA-256("sid/1" ‖ gid ‖ u64be(epoch) ‖ tls(confirmation_tag))`.
pub fn state_id(gid: &GroupId, epoch: u64, confirmation_tag_tls: &[u8]) -> StateId {
    let digest = Sha256::new()
        .chain_update(b"sid/1")
        .chain_update(gid.as_bytes())
        .chain_update(epoch.to_be_bytes())
        .chain_update(confirmation_tag_tls);
    StateId(digest.finalize().into())
}

/// A frame as it travels: its lengths and version are checked, its seal is not.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    id: FrameId,
    header: [u8; HEADER_BYTES],
    nonce: [u8; NONCE_BYTES],
    sealed: Vec<u8>,
}

/// What was in a frame. Whoever holds the state's key could have written it.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenedFrame {
    /// What the body is.
    pub kind: FrameKind,
    /// The sender's leaf, as the frame claims.
    pub leaf: u32,
    /// How many application messages of the leaf in this state came before; 0 on other kinds.
    pub counter: u32,
    /// The object that the kind names.
    pub body: Vec<u8>,
    /// After a commit: its committer's signature of the skeleton, not checked.
    pub skeleton_signature: Option<[u8; 64]>,
}

impl OpenedFrame {
    /// SHA-256 of the body: the same in whatever frame it comes.
    pub fn body_hash(&self) -> [u8; 32] {
        Sha256::digest(&self.body).into()
    }
}

impl Frame {
    /// Reads a frame from anyone's bytes.
    ///
    /// # Errors
    /// [`FrameError::Malformed`] for another version or a length that is no bucket.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        if bytes.len() > MAX_FRAME_BYTES || bucket(bytes.len()) != Some(bytes.len()) {
            return Err(FrameError::Malformed);
        }
        let (header, rest) = bytes.split_first_chunk().ok_or(FrameError::Malformed)?;
        let (nonce, sealed) = rest.split_first_chunk().ok_or(FrameError::Malformed)?;
        if header.first() != Some(&VERSION) {
            return Err(FrameError::Malformed);
        }
        Ok(Self { id: FrameId::of(bytes), header: *header, nonce: *nonce, sealed: sealed.to_vec() })
    }

    /// SHA-256 of the frame.
    pub fn id(&self) -> FrameId {
        self.id
    }

    /// Names the route it belongs to.
    pub fn route_tag(&self) -> [u8; 16] {
        let [_, rest @ ..] = &self.header;
        rest.first_chunk().copied().unwrap_or_default()
    }

    /// Names the state whose key opens it.
    pub fn env_tag(&self) -> [u8; 16] {
        self.header.last_chunk().copied().unwrap_or_default()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How the content of frames is sealed in place. The wire knows [`XChaCha`] alone.
pub(super) trait FrameCipher {
    /// Encrypts, and appends [`SEAL_BYTES`]; `None` for more than the cipher can take.
    fn seal(
        key: &[u8; 32],
        nonce: &[u8; NONCE_BYTES],
        header: &[u8; HEADER_BYTES],
        content: &mut Vec<u8>,
    ) -> Option<()>;

    /// Undoes it, if key, nonce, header and content are those that were sealed.
    fn open(
        key: &[u8; 32],
        nonce: &[u8; NONCE_BYTES],
        header: &[u8; HEADER_BYTES],
        content: &mut Vec<u8>,
    ) -> Option<()>;
}

/// XChaCha20-Poly1305.
#[derive(Clone)]
pub(super) struct XChaCha;

impl FrameCipher for XChaCha {
    fn seal(
        key: &[u8; 32],
        nonce: &[u8; NONCE_BYTES],
        header: &[u8; HEADER_BYTES],
        content: &mut Vec<u8>,
    ) -> Option<()> {
        XChaCha20Poly1305::new(key.into()).encrypt_in_place(nonce.into(), header, content).ok()
    }

    fn open(
        key: &[u8; 32],
        nonce: &[u8; NONCE_BYTES],
        header: &[u8; HEADER_BYTES],
        content: &mut Vec<u8>,
    ) -> Option<()> {
        XChaCha20Poly1305::new(key.into()).decrypt_in_place(nonce.into(), header, content).ok()
    }
}

/// What seals and opens the frames of one state.
#[derive(Clone)]
pub(super) struct FrameKeys<C = XChaCha> {
    header: [u8; HEADER_BYTES],
    env_key: Zeroizing<[u8; 32]>,
    cipher: PhantomData<C>,
}

impl<C: FrameCipher> FrameKeys<C> {
    pub(super) fn new(route_secret: &[u8; 32], env_tag: [u8; 16], env_key: Zeroizing<[u8; 32]>) -> Self {
        let route_tag = route_tag(route_secret);
        let mut header = [VERSION; HEADER_BYTES];
        for (to, from) in header.iter_mut().skip(1).zip(route_tag.iter().chain(&env_tag)) {
            *to = *from;
        }
        Self { header, env_key, cipher: PhantomData }
    }

    pub(super) fn seal(
        &self,
        kind: FrameKind,
        leaf: u32,
        counter: u32,
        body: &[u8],
    ) -> Result<Vec<u8>, GroupError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| GroupError::Randomness)?;
        self.seal_with(nonce, kind, leaf, counter, body)
    }

    /// Seals with a nonce that was never used with this key.
    pub(super) fn seal_with(
        &self,
        nonce: [u8; NONCE_BYTES],
        kind: FrameKind,
        leaf: u32,
        counter: u32,
        body: &[u8],
    ) -> Result<Vec<u8>, GroupError> {
        let unpadded = HEADER_BYTES + NONCE_BYTES + PREFIX_BYTES + body.len() + SEAL_BYTES;
        let length = bucket(unpadded).ok_or(GroupError::TooLarge)?;
        let body_length = u32::try_from(body.len()).map_err(|_| GroupError::TooLarge)?;
        let mut padded = Vec::with_capacity(length - HEADER_BYTES - NONCE_BYTES);
        padded.push(kind as u8);
        padded.extend(leaf.to_be_bytes());
        padded.extend(counter.to_be_bytes());
        padded.extend(body_length.to_be_bytes());
        padded.extend(body);
        padded.resize(length - HEADER_BYTES - NONCE_BYTES - SEAL_BYTES, 0);

        C::seal(&self.env_key, &nonce, &self.header, &mut padded).ok_or(GroupError::TooLarge)?;
        Ok([&self.header[..], &nonce, &padded].concat())
    }

    pub(super) fn open(&self, frame: &Frame) -> Result<OpenedFrame, FrameError> {
        if frame.header != self.header {
            return Err(FrameError::WrongState);
        }
        parse_padded(&self.unseal(frame)?).ok_or(FrameError::Content)
    }

    /// Whether the key fits, whatever state the header names.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn key_opens(&self, frame: &Frame) -> bool {
        self.unseal(frame).is_ok()
    }

    fn unseal(&self, frame: &Frame) -> Result<Vec<u8>, FrameError> {
        let mut padded = frame.sealed.clone();
        C::open(&self.env_key, &frame.nonce, &frame.header, &mut padded).ok_or(FrameError::Seal)?;
        Ok(padded)
    }
}

fn route_tag(route_secret: &[u8; 32]) -> [u8; TAG_BYTES] {
    // HMAC pads a short key with zeros to a block (RFC 2104); done here, it cannot fail.
    let mut block = [0; 64];
    block.iter_mut().zip(route_secret).for_each(|(to, from)| *to = *from);
    let mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
    let mac: [u8; 32] = mac.chain_update(b"sp/route-tag/1").finalize().into_bytes().into();
    mac.first_chunk().copied().unwrap_or_default()
}

fn parse_padded(padded: &[u8]) -> Option<OpenedFrame> {
    let (&kind, rest) = padded.split_first()?;
    let (leaf, rest) = rest.split_first_chunk()?;
    let (counter, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (body, padding) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let kind = FrameKind::try_from(i32::from(kind)).ok().filter(|kind| *kind != FrameKind::Unspecified)?;
    let (body, skeleton_signature) = match kind {
        FrameKind::Commit => body.split_last_chunk().map(|(commit, signature)| (commit, Some(*signature)))?,
        _ => (body, None),
    };
    padding.iter().all(|byte| *byte == 0).then(|| OpenedFrame {
        kind,
        leaf: u32::from_be_bytes(*leaf),
        counter: u32::from_be_bytes(*counter),
        body: body.to_vec(),
        skeleton_signature,
    })
}

/// The shortest permitted length that is at least `length`.
fn bucket(length: usize) -> Option<usize> {
    let small = SMALL_BUCKETS.into_iter().find(|bucket| length <= *bucket);
    small
        .or_else(|| length.checked_next_multiple_of(LARGE_BUCKET))
        .filter(|bucket| *bucket <= MAX_FRAME_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> FrameKeys {
        FrameKeys::new(&[1; 32], [2; 16], Zeroizing::new([3; 32]))
    }

    fn seal(body: &[u8]) -> Vec<u8> {
        keys().seal(FrameKind::Tip, 4, 5, body).unwrap()
    }

    fn open(bytes: &[u8]) -> Result<OpenedFrame, FrameError> {
        keys().open(&Frame::decode(bytes)?)
    }

    #[test]
    fn opens_what_was_sealed() {
        let opened = open(&seal(b"tip")).unwrap();
        assert!(
            opened
                == OpenedFrame {
                    kind: FrameKind::Tip,
                    leaf: 4,
                    counter: 5,
                    body: b"tip".to_vec(),
                    skeleton_signature: None
                }
        );
        assert_ne!(seal(b"tip"), seal(b"tip"), "the nonce must be fresh");
    }

    #[test]
    fn tags_are_where_routers_look() {
        let frame = Frame::decode(&seal(b"")).unwrap();
        assert_eq!(frame.env_tag(), [2; 16]);
        assert_eq!(frame.route_tag(), route_tag(&[1; 32]));
        assert_ne!(frame.route_tag(), route_tag(&[9; 32]));
    }

    #[test]
    fn every_length_is_a_bucket() {
        let overhead = HEADER_BYTES + NONCE_BYTES + PREFIX_BYTES + SEAL_BYTES;
        let cases = [
            (0, 512),
            (512 - overhead, 512),
            (513 - overhead, 1024),
            (1025 - overhead, 4096),
            (4097 - overhead, 16_384),
            (16_385 - overhead, 61_440),
            (61_441 - overhead, 65_536),
            (65_537 - overhead, 131_072),
            (MAX_BODY_BYTES, MAX_FRAME_BYTES),
        ];
        for (body, length) in cases {
            let sealed = seal(&vec![7; body]);
            assert_eq!(sealed.len(), length, "body of {body}");
            assert_eq!(open(&sealed).unwrap().body.len(), body);
        }
        let too_long = keys().seal(FrameKind::Tip, 0, 0, &vec![7; MAX_BODY_BYTES + 1]);
        assert!(matches!(too_long, Err(GroupError::TooLarge)));
    }

    #[test]
    fn other_lengths_are_refused() {
        let sealed = seal(b"x");
        for length in [0, 1, 57, 511] {
            assert_eq!(Frame::decode(&sealed[..length]), Err(FrameError::Malformed));
        }
        assert_eq!(Frame::decode(&[&sealed[..], &[0]].concat()), Err(FrameError::Malformed));
        assert_eq!(Frame::decode(&vec![1; MAX_FRAME_BYTES + LARGE_BUCKET]), Err(FrameError::Malformed));
    }

    #[test]
    fn no_flipped_bit_opens() {
        let sealed = seal(b"a body");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_members_malformed_content_is_refused() {
        let parse = |bytes: &[u8]| parse_padded(bytes).is_some();
        assert!(parse(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9, 0]));
        assert!(!parse(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9, 1]), "padding not zero");
        assert!(!parse(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 9, 0]), "body longer than the frame");
        assert!(!parse(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 9]), "length near overflow");
        assert!(!parse(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "kind unspecified");
        assert!(!parse(&[9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "kind unknown");
        assert!(!parse(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "prefix cut");
    }
}
