//! Device certificates: the account key's word that a device, a router and a letter box are its own.
//!
//! Three things never confused: a libp2p peer id (a router), an account, and an MLS leaf (a device).
//! The credential of every leaf is one of these certificates.

#[cfg(any(test, feature = "testing"))]
mod memory;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use prost::Message as _;
use spacepanda_proto::peer::v1 as wire;

#[cfg(any(test, feature = "testing"))]
pub use memory::remember_signatures;

use crate::id::{AccountId, DeviceId};

/// Longest accepted encoding of a [`SignedCertificate`](wire::SignedCertificate), bytes.
pub const MAX_CERTIFICATE_BYTES: usize = 512;
/// Longest accepted peer id, bytes. An Ed25519 one has 38.
const MAX_PEER_ID_BYTES: usize = 64;
const CONTEXT: &[u8] = b"spacepanda/certificate/1\0";

/// Why a certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Too long, not protobuf, or a field of the wrong size.
    #[error("the certificate is malformed")]
    Malformed,
    /// The account key did not sign it.
    #[error("the certificate's signature is wrong")]
    Signature,
}

/// A certificate whose signature was checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose device it is.
    pub account: AccountId,
    /// The device, by its signature key.
    pub device: DeviceId,
    /// The device's router: libp2p peer id bytes.
    pub peer_id: Vec<u8>,
    /// The device's letter box: an X25519 public key.
    pub letter_key: [u8; 32],
    /// Milliseconds since the Unix epoch, by the account's clock.
    pub issued_at_ms: u64,
    encoded: Vec<u8>,
}

impl Certificate {
    /// Signs a certificate for a device of this account.
    pub fn issue(
        account: &SigningKey,
        device: DeviceId,
        peer_id: Vec<u8>,
        letter_key: [u8; 32],
        issued_at_ms: u64,
    ) -> Self {
        let account_id = AccountId(account.verifying_key().to_bytes());
        let certificate = wire::DeviceCertificate {
            account_key: account_id.0.to_vec(),
            device_key: device.0.to_vec(),
            peer_id: peer_id.clone(),
            letter_key: letter_key.to_vec(),
            issued_at_ms,
        }
        .encode_to_vec();
        let signature = account.sign(&signed_bytes(&certificate)).to_bytes().to_vec();
        let encoded = wire::SignedCertificate { certificate, signature }.encode_to_vec();
        Self { account: account_id, device, peer_id, letter_key, issued_at_ms, encoded }
    }

    /// Reads a certificate and checks its signature.
    ///
    /// # Errors
    /// [`CertificateError`]; the bytes may come from anyone.
    pub fn decode(encoded: &[u8]) -> Result<Self, CertificateError> {
        let certificate = Self::decode_stored(encoded)?;
        let signed = wire::SignedCertificate::decode(encoded).map_err(|_| CertificateError::Malformed)?;
        verify(&certificate.account.0, &signed_bytes(&signed.certificate), &signed.signature)
            .map_err(|()| CertificateError::Signature)?;
        Ok(certificate)
    }

    /// Reads a certificate of the vault: its signature was checked before it was stored.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`]
    pub fn decode_stored(encoded: &[u8]) -> Result<Self, CertificateError> {
        use CertificateError::Malformed;
        if encoded.len() > MAX_CERTIFICATE_BYTES {
            return Err(Malformed);
        }
        let signed = wire::SignedCertificate::decode(encoded).map_err(|_| Malformed)?;
        let body = wire::DeviceCertificate::decode(&*signed.certificate).map_err(|_| Malformed)?;
        let account = AccountId::try_from(&*body.account_key).map_err(|_| Malformed)?;
        let device = DeviceId::try_from(&*body.device_key).map_err(|_| Malformed)?;
        let letter_key = <[u8; 32]>::try_from(&*body.letter_key).map_err(|_| Malformed)?;
        if body.peer_id.is_empty() || body.peer_id.len() > MAX_PEER_ID_BYTES {
            return Err(Malformed);
        }
        Ok(Self {
            account,
            device,
            peer_id: body.peer_id,
            letter_key,
            issued_at_ms: body.issued_at_ms,
            encoded: encoded.to_vec(),
        })
    }

    /// The signed bytes as they travel.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

/// Checks an Ed25519 signature strictly: no small-order keys, no malleable signatures.
pub(crate) fn verify(public_key: &[u8; 32], message: &[u8], signature: &[u8]) -> Result<(), ()> {
    #[cfg(any(test, feature = "testing"))]
    return memory::once(public_key, message, signature, || verify_strictly(public_key, message, signature));
    #[cfg(not(any(test, feature = "testing")))]
    verify_strictly(public_key, message, signature)
}

fn verify_strictly(public_key: &[u8; 32], message: &[u8], signature: &[u8]) -> Result<(), ()> {
    let key = VerifyingKey::from_bytes(public_key).map_err(|_| ())?;
    let signature = Signature::from_slice(signature).map_err(|_| ())?;
    key.verify_strict(message, &signature).map_err(|_| ())
}

fn signed_bytes(certificate: &[u8]) -> Vec<u8> {
    [CONTEXT, certificate].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> (SigningKey, Certificate) {
        let account = SigningKey::from_bytes(&[7; 32]);
        let certificate = Certificate::issue(&account, DeviceId([1; 32]), vec![2; 38], [3; 32], 4);
        (account, certificate)
    }

    #[test]
    fn round_trips() {
        let (_, certificate) = certificate();
        assert!(Certificate::decode(certificate.encoded()) == Ok(certificate));
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let (_, certificate) = certificate();
        for index in 0..certificate.encoded().len() {
            let mut bytes = certificate.encoded().to_vec();
            bytes[index] ^= 1;
            assert!(Certificate::decode(&bytes).is_err(), "byte {index}");
        }
    }

    #[test]
    fn oversized_is_refused_before_decoding() {
        assert!(Certificate::decode(&[0; MAX_CERTIFICATE_BYTES + 1]) == Err(CertificateError::Malformed));
    }
}
