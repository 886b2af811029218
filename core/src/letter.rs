//! Sealed one-shot letters to a device: `Noise_X_25519_ChaChaPoly_BLAKE2s`.
//!
//! Whoever carries a letter learns neither sender nor content. A letter has no freshness: it can be
//! carried again, and to know it again is the reader's duty. Nothing is kept between letters.
//!
//! On the wire: a version byte, then Noise messages of 65,535 bytes each, the last one shorter. The
//! first holds the body's length before the body's first part, so that a cut letter is noticed.

use ed25519_dalek::{Signer as _, SigningKey};
use prost::Message as _;
use snow::{Builder, HandshakeState};
use spacepanda_proto::peer::v1 as wire;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::certificate::{Certificate, CertificateError, verify};

/// Longest body of a letter, bytes.
pub const MAX_LETTER_BODY_BYTES: usize = 4 << 20;
/// Longest sealed letter, bytes.
pub const MAX_LETTER_BYTES: usize = 1
    + HANDSHAKE_OVERHEAD
    + LENGTH_BYTES
    + MAX_LETTER_BODY_BYTES
    + TAG_BYTES * MAX_LETTER_BODY_BYTES.div_ceil(CHUNK_BYTES);

const PATTERN: &str = "Noise_X_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"spacepanda/letter/1";
const SIGNED_CONTEXT: &[u8] = b"spacepanda/letter/1\0";
const VERSION: u8 = 1;
/// Longest Noise message.
const MESSAGE_BYTES: usize = 65_535;
const TAG_BYTES: usize = 16;
/// Ephemeral key, sealed static key, tag.
const HANDSHAKE_OVERHEAD: usize = 32 + 32 + TAG_BYTES + TAG_BYTES;
const LENGTH_BYTES: usize = 4;
/// Body bytes in the first message.
const FIRST_BYTES: usize = MESSAGE_BYTES - HANDSHAKE_OVERHEAD - LENGTH_BYTES;
/// Body bytes in each later one.
const CHUNK_BYTES: usize = MESSAGE_BYTES - TAG_BYTES;

/// Why a letter was not sealed or not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    /// Longer than a letter may be.
    #[error("the letter is too large")]
    TooLarge,
    /// Of a newer version.
    #[error("the letter's version is unknown")]
    Version,
    /// For someone else, changed, or cut.
    #[error("the letter cannot be opened")]
    Unreadable,
    /// An X25519 key that keeps no secret.
    #[error("a letter key is weak")]
    WeakKey,
    /// It opened, but holds no signed letter.
    #[error("the letter's content is malformed")]
    Malformed,
    /// The sender's certificate is refused.
    #[error("the sender's certificate is refused: {0}")]
    Certificate(#[from] CertificateError),
    /// The sender's device did not sign the body.
    #[error("the letter's signature is wrong")]
    Signature,
    /// The keys used are not those of the sender's certificate.
    #[error("the letter's keys are not of its sender's certificate")]
    Sender,
}

/// An opened letter.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenedLetter {
    /// X25519 key that the sender proved to hold.
    pub sender_letter_key: [u8; 32],
    /// What it says.
    pub body: Vec<u8>,
}

/// The public letter key of a secret.
pub fn letter_key(letter_secret: &[u8; 32]) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(*letter_secret)).to_bytes()
}

/// Seals a letter. The ephemeral key comes from the operating system.
///
/// # Errors
/// [`LetterError::TooLarge`], [`LetterError::WeakKey`].
pub fn seal(
    sender_letter_secret: &[u8; 32],
    recipient_letter_key: &[u8; 32],
    body: &[u8],
) -> Result<Vec<u8>, LetterError> {
    if body.len() > MAX_LETTER_BODY_BYTES {
        return Err(LetterError::TooLarge);
    }
    let length = u32::try_from(body.len()).map_err(|_| LetterError::TooLarge)?;
    refuse_weak(sender_letter_secret, recipient_letter_key)?;
    let (first, rest) = body.split_at(body.len().min(FIRST_BYTES));
    let first = Zeroizing::new([&length.to_be_bytes(), first].concat());

    let mut noise = noise(|builder| {
        builder
            .local_private_key(sender_letter_secret)?
            .remote_public_key(recipient_letter_key)?
            .build_initiator()
    })?;
    let mut letter = vec![VERSION];
    let mut message = vec![0; MESSAGE_BYTES];
    let written = noise.write_message(&first, &mut message).map_err(unreadable)?;
    letter.extend(message.iter().take(written));
    let mut noise = noise.into_transport_mode().map_err(unreadable)?;
    for chunk in rest.chunks(CHUNK_BYTES) {
        let written = noise.write_message(chunk, &mut message).map_err(unreadable)?;
        letter.extend(message.iter().take(written));
    }
    Ok(letter)
}

/// Opens a letter to this device.
///
/// # Errors
/// [`LetterError`]; the bytes may come from anyone.
pub fn open(letter_secret: &[u8; 32], letter: &[u8]) -> Result<OpenedLetter, LetterError> {
    if letter.len() > MAX_LETTER_BYTES {
        return Err(LetterError::TooLarge);
    }
    let (version, messages) = letter.split_first().ok_or(LetterError::Unreadable)?;
    if *version != VERSION {
        return Err(LetterError::Version);
    }
    let mut messages = messages.chunks(MESSAGE_BYTES);
    let first = messages.next().ok_or(LetterError::Unreadable)?;

    let mut noise = noise(|builder| builder.local_private_key(letter_secret)?.build_responder())?;
    let mut plain = Zeroizing::new(vec![0; MESSAGE_BYTES]);
    let read = noise.read_message(first, &mut plain).map_err(unreadable)?;
    let remote = noise.get_remote_static().ok_or(LetterError::Unreadable)?;
    let sender_letter_key = <[u8; 32]>::try_from(remote).map_err(|_| LetterError::Unreadable)?;
    refuse_weak(letter_secret, &sender_letter_key)?;

    let start = plain.get(..read).ok_or(LetterError::Unreadable)?;
    let (length, start) = start.split_first_chunk::<LENGTH_BYTES>().ok_or(LetterError::Unreadable)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| LetterError::TooLarge)?;
    // Never longer than what came, which is capped.
    let mut body = Vec::with_capacity(length.min(letter.len()));
    body.extend_from_slice(start);
    let mut noise = noise.into_transport_mode().map_err(unreadable)?;
    for message in messages {
        let read = noise.read_message(message, &mut plain).map_err(unreadable)?;
        body.extend(plain.iter().take(read));
    }
    if body.len() != length || length > MAX_LETTER_BODY_BYTES {
        return Err(LetterError::Unreadable);
    }
    Ok(OpenedLetter { sender_letter_key, body })
}

/// Seals a letter signed by this device.
///
/// # Errors
/// [`LetterError::Sender`] when device or secret are not the certificate's; as [`seal`].
pub fn seal_signed(
    device: &SigningKey,
    certificate: &Certificate,
    letter_secret: &[u8; 32],
    recipient_letter_key: &[u8; 32],
    body: Vec<u8>,
) -> Result<Vec<u8>, LetterError> {
    let own_device = certificate.device.0 == device.verifying_key().to_bytes();
    if !own_device || certificate.letter_key != letter_key(letter_secret) {
        return Err(LetterError::Sender);
    }
    let signature = device.sign(&signed_bytes(&body)).to_bytes().to_vec();
    let certificate = certificate.encoded().to_vec();
    let signed = Zeroizing::new(wire::SignedLetter { certificate, body, signature }.encode_to_vec());
    seal(letter_secret, recipient_letter_key, &signed)
}

/// Opens a signed letter: who sent it, by a checked certificate, and what it says.
///
/// # Errors
/// [`LetterError`]; the bytes may come from anyone. Whether the sender may say such a thing remains
/// to be checked.
pub fn open_signed(letter_secret: &[u8; 32], letter: &[u8]) -> Result<(Certificate, Vec<u8>), LetterError> {
    let opened = open(letter_secret, letter)?;
    let signed = wire::SignedLetter::decode(&*opened.body).map_err(|_| LetterError::Malformed)?;
    let certificate = Certificate::decode(&signed.certificate)?;
    if certificate.letter_key != opened.sender_letter_key {
        return Err(LetterError::Sender);
    }
    verify(&certificate.device.0, &signed_bytes(&signed.body), &signed.signature)
        .map_err(|()| LetterError::Signature)?;
    Ok((certificate, signed.body))
}

fn signed_bytes(body: &[u8]) -> Vec<u8> {
    [SIGNED_CONTEXT, body].concat()
}

fn noise<'k>(
    build: impl FnOnce(Builder<'k>) -> Result<HandshakeState, snow::Error>,
) -> Result<HandshakeState, LetterError> {
    let params = PATTERN.parse().map_err(unreadable)?;
    Builder::new(params).prologue(PROLOGUE).and_then(build).map_err(unreadable)
}

/// snow takes keys of small order, with which everybody shares the same secret.
fn refuse_weak(secret: &[u8; 32], public: &[u8; 32]) -> Result<(), LetterError> {
    let shared = StaticSecret::from(*secret).diffie_hellman(&PublicKey::from(*public));
    if shared.was_contributory() { Ok(()) } else { Err(LetterError::WeakKey) }
}

fn unreadable(_: snow::Error) -> LetterError {
    LetterError::Unreadable
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::DeviceId;

    const SENDER: [u8; 32] = [1; 32];
    const RECIPIENT: [u8; 32] = [2; 32];
    const OTHER: [u8; 32] = [3; 32];

    fn sealed(body: &[u8]) -> Vec<u8> {
        seal(&SENDER, &letter_key(&RECIPIENT), body).unwrap()
    }

    fn device() -> SigningKey {
        SigningKey::from_bytes(&[4; 32])
    }

    fn certificate(letter_secret: &[u8; 32]) -> Certificate {
        let device = DeviceId(device().verifying_key().to_bytes());
        let account = SigningKey::from_bytes(&[5; 32]);
        Certificate::issue(&account, device, vec![6; 38], letter_key(letter_secret), 0)
    }

    #[test]
    fn letters_of_every_length_open() {
        let lengths = [
            0,
            1,
            FIRST_BYTES - 1,
            FIRST_BYTES,
            FIRST_BYTES + 1,
            FIRST_BYTES + CHUNK_BYTES,
            FIRST_BYTES + CHUNK_BYTES + 1,
            MAX_LETTER_BODY_BYTES,
        ];
        for length in lengths {
            let body: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let letter = sealed(&body);
            assert!(letter.len() <= MAX_LETTER_BYTES);
            let opened = open(&RECIPIENT, &letter).unwrap_or_else(|e| panic!("{length}: {e}"));
            assert!(opened.body == body, "{length}");
            assert_eq!(opened.sender_letter_key, letter_key(&SENDER));
        }
    }

    #[test]
    fn only_the_recipient_opens() {
        assert!(open(&OTHER, &sealed(b"hi")).err() == Some(LetterError::Unreadable));
        assert!(open(&SENDER, &sealed(b"hi")).err() == Some(LetterError::Unreadable));
    }

    #[test]
    fn two_letters_of_one_body_share_nothing() {
        let (one, two) = (sealed(&[7; 64]), sealed(&[7; 64]));
        assert!(one.windows(16).all(|part| !two.windows(16).any(|other| part == other)));
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let letter = sealed(b"hello");
        for bit in 0..letter.len() * 8 {
            let mut bytes = letter.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // The top bit of an X25519 key has no meaning (RFC 7748 §5), but Noise hashes it.
            assert!(open(&RECIPIENT, &bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn cut_extended_and_reordered_letters_are_refused() {
        let letter = sealed(&vec![9; FIRST_BYTES + 2 * CHUNK_BYTES]);
        let (second, third) = (1 + MESSAGE_BYTES, 1 + 2 * MESSAGE_BYTES);
        for cut in [0, 1, 90, second - 1, second, second + 5, third, letter.len() - 1] {
            assert!(open(&RECIPIENT, &letter[..cut]).err() == Some(LetterError::Unreadable), "{cut}");
        }
        let reordered = [&letter[..second], &letter[third..], &letter[second..third]].concat();
        assert!(open(&RECIPIENT, &reordered).err() == Some(LetterError::Unreadable));
        let repeated = [&letter[..], &letter[third..]].concat();
        assert!(open(&RECIPIENT, &repeated).err() == Some(LetterError::Unreadable));
        assert!(open(&RECIPIENT, &[&letter[..], &[0]].concat()).is_err());
    }

    #[test]
    fn sizes_and_versions_are_checked_first() {
        let large = vec![0; MAX_LETTER_BODY_BYTES + 1];
        assert_eq!(seal(&SENDER, &letter_key(&RECIPIENT), &large), Err(LetterError::TooLarge));
        assert!(open(&RECIPIENT, &vec![1; MAX_LETTER_BYTES + 1]).err() == Some(LetterError::TooLarge));
        let mut newer = sealed(b"hi");
        newer[0] = 2;
        assert!(open(&RECIPIENT, &newer).err() == Some(LetterError::Version));
    }

    #[test]
    fn keys_of_small_order_are_refused() {
        assert_eq!(seal(&SENDER, &[0; 32], b"hi"), Err(LetterError::WeakKey));
        let mut one = [0; 32];
        one[0] = 1;
        assert_eq!(seal(&SENDER, &one, b"hi"), Err(LetterError::WeakKey));
    }

    #[test]
    fn a_signed_letter_names_its_sender() {
        let recipient = letter_key(&RECIPIENT);
        let letter =
            seal_signed(&device(), &certificate(&SENDER), &SENDER, &recipient, b"hello".to_vec()).unwrap();
        let (sender, body) = open_signed(&RECIPIENT, &letter).unwrap();
        assert!(sender == certificate(&SENDER));
        assert_eq!(body, b"hello");
    }

    #[test]
    fn nobody_seals_with_a_foreign_certificate() {
        let recipient = letter_key(&RECIPIENT);
        let foreign_box = seal_signed(&device(), &certificate(&OTHER), &SENDER, &recipient, vec![]);
        assert_eq!(foreign_box, Err(LetterError::Sender));
        let other_device = SigningKey::from_bytes(&[9; 32]);
        let foreign_device = seal_signed(&other_device, &certificate(&SENDER), &SENDER, &recipient, vec![]);
        assert_eq!(foreign_device, Err(LetterError::Sender));
    }

    #[test]
    fn forged_senders_are_refused() {
        let signed = |certificate: &Certificate, key: &SigningKey| {
            let signature = key.sign(&signed_bytes(b"hi")).to_bytes().to_vec();
            let certificate = certificate.encoded().to_vec();
            wire::SignedLetter { certificate, body: b"hi".to_vec(), signature }.encode_to_vec()
        };
        let refusal = |content: &[u8]| open_signed(&RECIPIENT, &sealed(content)).err();

        // A signed body that its recipient seals again, with another letter key.
        assert_eq!(refusal(&signed(&certificate(&OTHER), &device())), Some(LetterError::Sender));
        let other_device = SigningKey::from_bytes(&[9; 32]);
        assert_eq!(refusal(&signed(&certificate(&SENDER), &other_device)), Some(LetterError::Signature));
        assert_eq!(refusal(b"\xff"), Some(LetterError::Malformed));
        assert_eq!(refusal(b""), Some(LetterError::Certificate(CertificateError::Malformed)));
        assert_eq!(refusal(&signed(&certificate(&SENDER), &device())), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(open(&RECIPIENT, &bytes).is_err());
            prop_assert!(open(&RECIPIENT, &[&[VERSION], &bytes[..]].concat()).is_err());
            let _ = open_signed(&RECIPIENT, &sealed(&bytes));
        }
    }
}
