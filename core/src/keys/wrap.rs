//! The vault key, wrapped under another secret with XChaCha20-Poly1305.
//!
//! Key and nonce both follow from the secret and a salt, so each wrap needs a fresh salt and then
//! has a cipher of its own. All that decides the derivation is authenticated with the wrap.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, aead::Aead as _, aead::Payload};
use zeroize::Zeroizing;

use super::{KeyError, VaultKey, derive};

/// 32 fresh random bytes for each wrap; never used twice.
pub type Salt = [u8; 32];

/// Purpose of a wrap under a session token.
pub const TOKEN: &str = "token";
/// Purpose of a wrap under the entropy of a recovery phrase.
pub const RECOVERY: &str = "recovery";
/// Purpose of a wrap under the machine's unlock key.
pub const MACHINE: &str = "machine";
const PASSWORD: &str = "password";

const CONTEXT: &[u8] = b"spacepanda/wrap/1\0";
const VERSION: u8 = 1;
/// Sealed vault key with its tag.
const SEALED_BYTES: usize = 32 + 16;
/// Version, memory, passes, lanes.
const PASSWORD_HEADER_BYTES: usize = 1 + 3 * 4;

/// What a password costs to try.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// 64 MiB: tens of milliseconds here, and expensive on a graphics card.
const COST: Cost = Cost { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
/// A wrap from a changed disk must not cost more than this.
const MOST: Cost = Cost { memory_kib: 256 * 1024, passes: 10, lanes: 4 };

/// Wraps the vault key under a password with Argon2id (RFC 9106).
///
/// # Errors
/// [`KeyError::Derivation`] without enough memory.
pub fn wrap_with_password(key: &VaultKey, password: &str, salt: &Salt) -> Result<Vec<u8>, KeyError> {
    wrap_at(COST, key, password, salt)
}

/// Unwraps what [`wrap_with_password`] made, at the cost it was made with.
///
/// # Errors
/// [`KeyError::Wrong`] for another password; [`KeyError::Malformed`], [`KeyError::Cost`] and
/// [`KeyError::Derivation`].
pub fn unwrap_with_password(wrapped: &[u8], password: &str) -> Result<VaultKey, KeyError> {
    let (header, rest) = wrapped.split_first_chunk::<PASSWORD_HEADER_BYTES>().ok_or(KeyError::Malformed)?;
    let cost = Cost::read(header)?;
    let (salt, sealed) = rest.split_first_chunk::<32>().ok_or(KeyError::Malformed)?;
    let derived = cost.derive(password, salt)?;
    Cipher::new(derived.as_slice(), PASSWORD, salt)?.open(header, sealed)
}

/// Wraps the vault key under a strong secret: a token, recovery entropy or the machine's key.
///
/// # Errors
/// [`KeyError::Derivation`], which does not happen in practice.
pub fn wrap_with_key(key: &VaultKey, purpose: &str, secret: &[u8], salt: &Salt) -> Result<Vec<u8>, KeyError> {
    let sealed = Cipher::new(secret, purpose, salt)?.seal(&[VERSION], key)?;
    Ok([&[VERSION], salt.as_slice(), &sealed].concat())
}

/// Unwraps what [`wrap_with_key`] made for the same purpose.
///
/// # Errors
/// [`KeyError::Wrong`] for another secret or purpose; [`KeyError::Malformed`].
pub fn unwrap_with_key(wrapped: &[u8], purpose: &str, secret: &[u8]) -> Result<VaultKey, KeyError> {
    let (&version, rest) = wrapped.split_first().ok_or(KeyError::Malformed)?;
    let (salt, sealed) = rest.split_first_chunk::<32>().ok_or(KeyError::Malformed)?;
    if version != VERSION {
        return Err(KeyError::Malformed);
    }
    Cipher::new(secret, purpose, salt)?.open(&[VERSION], sealed)
}

fn wrap_at(cost: Cost, key: &VaultKey, password: &str, salt: &Salt) -> Result<Vec<u8>, KeyError> {
    let header = cost.header();
    let derived = cost.derive(password, salt)?;
    let sealed = Cipher::new(derived.as_slice(), PASSWORD, salt)?.seal(&header, key)?;
    Ok([header.as_slice(), salt, &sealed].concat())
}

impl Cost {
    fn header(self) -> Vec<u8> {
        let costs = [self.memory_kib, self.passes, self.lanes].map(u32::to_be_bytes);
        [&[VERSION], costs.as_flattened()].concat()
    }

    fn read(header: &[u8; PASSWORD_HEADER_BYTES]) -> Result<Self, KeyError> {
        let [version, m0, m1, m2, m3, p0, p1, p2, p3, l0, l1, l2, l3] = *header;
        if version != VERSION {
            return Err(KeyError::Malformed);
        }
        let cost = Self {
            memory_kib: u32::from_be_bytes([m0, m1, m2, m3]),
            passes: u32::from_be_bytes([p0, p1, p2, p3]),
            lanes: u32::from_be_bytes([l0, l1, l2, l3]),
        };
        let bearable =
            cost.memory_kib <= MOST.memory_kib && cost.passes <= MOST.passes && cost.lanes <= MOST.lanes;
        if bearable { Ok(cost) } else { Err(KeyError::Cost) }
    }

    fn derive(self, password: &str, salt: &Salt) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        let mut derived = Zeroizing::new([0; 32]);
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(derived.len()))
            .map_err(|_| KeyError::Malformed)?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), salt, derived.as_mut_slice())
            .map_err(|_| KeyError::Derivation)?;
        Ok(derived)
    }
}

/// The cipher of one wrap.
struct Cipher {
    cipher: XChaCha20Poly1305,
    nonce: Zeroizing<[u8; 24]>,
}

impl Cipher {
    fn new(secret: &[u8], purpose: &str, salt: &Salt) -> Result<Self, KeyError> {
        let purpose = purpose.as_bytes();
        let key = derive::<32>(Some(salt), secret, &[CONTEXT, b"key\0", purpose])?;
        let nonce = derive::<24>(Some(salt), secret, &[CONTEXT, b"nonce\0", purpose])?;
        Ok(Self { cipher: XChaCha20Poly1305::new((&*key).into()), nonce })
    }

    fn seal(&self, header: &[u8], key: &VaultKey) -> Result<Vec<u8>, KeyError> {
        let payload = Payload { msg: key.as_bytes(), aad: header };
        self.cipher.encrypt((&*self.nonce).into(), payload).map_err(|_| KeyError::Derivation)
    }

    fn open(&self, header: &[u8], sealed: &[u8]) -> Result<VaultKey, KeyError> {
        if sealed.len() != SEALED_BYTES {
            return Err(KeyError::Malformed);
        }
        let payload = Payload { msg: sealed, aad: header };
        let opened = self.cipher.decrypt((&*self.nonce).into(), payload).map_err(|_| KeyError::Wrong)?;
        let opened = Zeroizing::new(opened);
        let bytes = <[u8; 32]>::try_from(opened.as_slice()).map_err(|_| KeyError::Malformed)?;
        Ok(VaultKey::new(Zeroizing::new(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: Salt = [3; 32];
    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn key() -> VaultKey {
        VaultKey::new(Zeroizing::new([7; 32]))
    }

    #[test]
    fn a_password_opens_its_wrap_only() {
        let wrapped = wrap_with_password(&key(), "correct horse", &SALT).unwrap();
        assert_eq!(wrapped.get(..13).unwrap(), [1, 0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1], "64 MiB, t=3, p=1");
        assert!(unwrap_with_password(&wrapped, "correct horse") == Ok(key()));
        assert!(unwrap_with_password(&wrapped, "correct horse ") == Err(KeyError::Wrong));
        assert!(!wrapped.windows(8).any(|part| part == [7; 8]));
    }

    #[test]
    fn any_changed_byte_of_a_password_wrap_is_refused() {
        let wrapped = wrap_at(CHEAP, &key(), "password", &SALT).unwrap();
        assert!(unwrap_with_password(&wrapped, "password") == Ok(key()));
        for index in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[index] ^= 1;
            assert!(unwrap_with_password(&changed, "password").is_err(), "byte {index}");
        }
    }

    #[test]
    fn excessive_costs_are_refused_before_any_work() {
        let refusal = |cost: Cost| {
            let blob = [cost.header().as_slice(), &SALT, &[0; SEALED_BYTES]].concat();
            unwrap_with_password(&blob, "password").err()
        };
        assert_eq!(refusal(Cost { memory_kib: 256 * 1024 + 1, ..CHEAP }), Some(KeyError::Cost));
        assert_eq!(refusal(Cost { passes: 11, ..CHEAP }), Some(KeyError::Cost));
        assert_eq!(refusal(Cost { lanes: 5, ..CHEAP }), Some(KeyError::Cost));
        assert_eq!(refusal(Cost { memory_kib: 0, ..CHEAP }), Some(KeyError::Malformed));
        assert_eq!(refusal(Cost { passes: 0, ..CHEAP }), Some(KeyError::Malformed));
        assert_eq!(refusal(CHEAP), Some(KeyError::Wrong));
    }

    #[test]
    fn a_key_opens_its_wrap_for_its_purpose_only() {
        let wrapped = wrap_with_key(&key(), TOKEN, &[9; 32], &SALT).unwrap();
        assert!(unwrap_with_key(&wrapped, TOKEN, &[9; 32]) == Ok(key()));
        assert!(unwrap_with_key(&wrapped, MACHINE, &[9; 32]) == Err(KeyError::Wrong));
        assert!(unwrap_with_key(&wrapped, TOKEN, &[8; 32]) == Err(KeyError::Wrong));
    }

    #[test]
    fn any_flipped_bit_of_a_key_wrap_is_refused() {
        let wrapped = wrap_with_key(&key(), RECOVERY, &[9; 16], &SALT).unwrap();
        for bit in 0..wrapped.len() * 8 {
            let mut changed = wrapped.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(unwrap_with_key(&changed, RECOVERY, &[9; 16]).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_salt_gives_another_wrap() {
        let one = wrap_with_key(&key(), TOKEN, &[9; 32], &SALT).unwrap();
        let two = wrap_with_key(&key(), TOKEN, &[9; 32], &[4; 32]).unwrap();
        assert_ne!(one[33..], two[33..]);
    }

    proptest! {
        #[test]
        fn arbitrary_wraps_never_open(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            prop_assert!(unwrap_with_key(&bytes, TOKEN, &[9; 32]).is_err());
            // Under a cheap header: random costs would be paid in full.
            let costly = [CHEAP.header(), bytes].concat();
            prop_assert!(unwrap_with_password(&costly, "password").is_err());
        }
    }
}
