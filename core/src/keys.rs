//! The keys of an account: the vault key, what wraps it, and the tokens of its logins.
//!
//! Pure: random bytes are handed in. Nothing here implements `Debug`, and secrets are wiped from
//! memory. Password work takes tens of milliseconds and 64 MiB: never call it on an async thread.

mod recovery;
mod token;
mod wrap;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

pub use recovery::{RecoveryEntropy, parse_recovery_phrase, recovery_entropy, recovery_phrase};
pub use token::SessionToken;
pub use wrap::{
    MACHINE, RECOVERY, Salt, TOKEN, unwrap_with_key, unwrap_with_password, wrap_with_key, wrap_with_password,
};

/// Why a key was not unwrapped or a secret not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not what it should be, or of a newer version.
    #[error("the key material is malformed")]
    Malformed,
    /// Made with costs that this release does not take on.
    #[error("the password wrap asks for too much work")]
    Cost,
    /// The wrong password, phrase, token or key; or the wrap was changed.
    #[error("the secret does not fit")]
    Wrong,
    /// Not twelve words of the list, or the check word is wrong.
    #[error("this is not a recovery phrase")]
    Phrase,
    /// The key derivation could not run: no memory.
    #[error("the key could not be derived")]
    Derivation,
}

/// The key of an account's vault database.
#[derive(Clone, PartialEq, Eq)]
pub struct VaultKey(Zeroizing<[u8; 32]>);

impl VaultKey {
    /// The key of these 32 random bytes.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lower-case hex digits, as SQLCipher wants a raw key.
    pub fn hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0.as_slice()))
    }
}

/// HKDF-SHA256 (RFC 5869) into a secret of fixed length.
fn derive<const N: usize>(
    salt: Option<&[u8]>,
    secret: &[u8],
    info: &[&[u8]],
) -> Result<Zeroizing<[u8; N]>, KeyError> {
    let mut derived = Zeroizing::new([0; N]);
    Hkdf::<Sha256>::new(salt, secret)
        .expand_multi_info(info, derived.as_mut_slice())
        .map_err(|_| KeyError::Derivation)?;
    Ok(derived)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_gets_its_key_in_hex() {
        let mut bytes = [0; 32];
        bytes[0] = 0xab;
        let key = VaultKey::new(Zeroizing::new(bytes));
        assert_eq!(*key.hex(), format!("ab{}", "0".repeat(62)));
        assert_eq!(key.as_bytes(), &bytes);
    }

    #[test]
    fn derivation_is_that_of_rfc_5869() {
        // Appendix A, test case 1, first 32 bytes.
        let salt: Vec<u8> = (0..13).collect();
        let (first, second): (Vec<u8>, Vec<u8>) = ((0xf0..0xf5).collect(), (0xf5..0xfa).collect());
        let derived = derive::<32>(Some(&salt), &[0x0b; 22], &[&first, &second]).unwrap();
        let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
        assert_eq!(hex::encode(*derived), expected);
    }
}
