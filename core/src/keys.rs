//! Keys of a vault and the ways they are wrapped.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce, aead::Aead as _};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Why a key could not be wrapped or unwrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The secret is wrong, or the bytes were changed.
    #[error("the secret does not open this key")]
    Wrong,
    /// Not of the expected form.
    #[error("malformed")]
    Malformed,
}

/// The key of a vault file.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct VaultKey([u8; 32]);

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes);
    bytes
}

impl VaultKey {
    /// A new key.
    pub fn random() -> Self {
        Self(random())
    }
    /// From its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
    /// Lower-case hex.
    pub fn hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0))
    }
}

fn seal(key: &[u8; 32], vault: &VaultKey) -> Result<Vec<u8>, KeyError> {
    let nonce = random::<24>();
    let sealed = XChaCha20Poly1305::new(key.into())
        .encrypt(XNonce::from_slice(&nonce), vault.0.as_slice())
        .map_err(|_| KeyError::Malformed)?;
    Ok([nonce.as_slice(), &sealed].concat())
}

fn unseal(key: &[u8; 32], blob: &[u8]) -> Result<VaultKey, KeyError> {
    let (nonce, sealed) = blob.split_at_checked(24).ok_or(KeyError::Malformed)?;
    let plain = Zeroizing::new(
        XChaCha20Poly1305::new(key.into())
            .decrypt(XNonce::from_slice(nonce), sealed)
            .map_err(|_| KeyError::Wrong)?,
    );
    Ok(VaultKey(plain.as_slice().try_into().map_err(|_| KeyError::Malformed)?))
}

fn from_password(password: &str, salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let params = Params::new(64 * 1024, 3, 1, None).map_err(|_| KeyError::Malformed)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, key.as_mut_slice())
        .map_err(|_| KeyError::Malformed)?;
    Ok(key)
}

fn expand(secret: &[u8], info: &[&[u8]], out: &mut [u8]) -> Result<(), KeyError> {
    Hkdf::<Sha256>::new(None, secret).expand_multi_info(info, out).map_err(|_| KeyError::Malformed)
}

/// Wraps under a password.
pub fn wrap_with_password(key: &VaultKey, password: &str) -> Result<Vec<u8>, KeyError> {
    let salt = random::<16>();
    Ok([salt.as_slice(), &seal(&*from_password(password, &salt)?, key)?].concat())
}

/// Opens what [`wrap_with_password`] made.
pub fn unwrap_with_password(blob: &[u8], password: &str) -> Result<VaultKey, KeyError> {
    let (salt, sealed) = blob.split_at_checked(16).ok_or(KeyError::Malformed)?;
    unseal(&*from_password(password, salt)?, sealed)
}

/// Wraps under a strong secret.
pub fn wrap_with_key(key: &VaultKey, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut wrapping = Zeroizing::new([0; 32]);
    expand(secret, &[b"sp/wrap/1", purpose.as_bytes()], wrapping.as_mut_slice())?;
    seal(&wrapping, key)
}

/// Opens what [`wrap_with_key`] made.
pub fn unwrap_with_key(blob: &[u8], purpose: &str, secret: &[u8]) -> Result<VaultKey, KeyError> {
    let mut wrapping = Zeroizing::new([0; 32]);
    expand(secret, &[b"sp/wrap/1", purpose.as_bytes()], wrapping.as_mut_slice())?;
    unseal(&wrapping, blob)
}

/// 16 bytes that the recovery phrase spells.
pub fn recovery_entropy(key: &VaultKey) -> Zeroizing<[u8; 16]> {
    let mut entropy = Zeroizing::new([0; 16]);
    let _ = expand(&key.0, &[b"sp/recovery/1"], entropy.as_mut_slice());
    entropy
}

/// Twelve words.
pub fn recovery_phrase(key: &VaultKey) -> Zeroizing<String> {
    let words = bip39::Mnemonic::from_entropy(recovery_entropy(key).as_slice());
    Zeroizing::new(words.map(|words| words.to_string()).unwrap_or_default())
}

/// A login's secret.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SessionToken([u8; 32]);

impl SessionToken {
    /// A new token.
    pub fn random() -> Self {
        Self(random())
    }
    /// The token that answers a creation request, the same each time.
    pub fn derive(key: &VaultKey, request: &Uuid) -> Self {
        let mut token = Self([0; 32]);
        let _ = expand(&key.0, &[b"sp/first-token/1", request.as_bytes()], &mut token.0);
        token
    }
    /// From its text form.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut token = Self([0; 32]);
        match URL_SAFE_NO_PAD.decode_slice(text, &mut token.0) {
            Ok(32) => Ok(token),
            _ => Err(KeyError::Malformed),
        }
    }
    /// base64url.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0))
    }
    /// SHA-256 of the token's bytes.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
    /// The token's bytes.
    pub fn secret(&self) -> &[u8; 32] {
        &self.0
    }
}
