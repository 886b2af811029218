//! Session tokens: what a client shows with each call.
//!
//! The server keeps a token's hash, to find its login by, and the vault key wrapped under the token.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::KeyError;

/// 32 bytes in base64url.
const TEXT_CHARS: usize = 43;

/// The secret of one login.
#[derive(Clone)]
pub struct SessionToken(Zeroizing<[u8; 32]>);

impl SessionToken {
    /// The token of these 32 random bytes.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// Reads a token's text form.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for anything but 43 characters of unpadded base64url.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.len() != TEXT_CHARS {
            return Err(KeyError::Malformed);
        }
        let decoded = URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Malformed)?;
        let decoded = Zeroizing::new(decoded);
        let bytes = <[u8; 32]>::try_from(decoded.as_slice()).map_err(|_| KeyError::Malformed)?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// The token's text form. Secret.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_slice()))
    }

    /// The token's bytes, to wrap the vault key under.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// SHA-256 of the token: what the server knows it by.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_slice()).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> SessionToken {
        SessionToken::new(Zeroizing::new([0xfb; 32]))
    }

    #[test]
    fn reads_back_and_is_known_by_its_hash() {
        let text = token().text();
        assert_eq!(text.len(), TEXT_CHARS);
        let read = SessionToken::parse(&text).unwrap();
        assert_eq!(read.as_bytes(), &[0xfb; 32]);
        assert_eq!(read.hash(), <[u8; 32]>::from(Sha256::digest([0xfb; 32])));
        assert_ne!(read.hash(), *read.as_bytes());
    }

    #[test]
    fn one_token_has_one_text() {
        let text = token().text();
        let standard_alphabet = text.replace('-', "+").replace('_', "/");
        // The last character has two bits over, which must be zero.
        let loose_end = format!("{}t", text.get(..42).unwrap());
        for other in [format!("{}=", *text), format!(" {}", *text), standard_alphabet, loose_end] {
            assert!(SessionToken::parse(&other).is_err(), "{other}");
        }
        assert!(SessionToken::parse("").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,60}") {
            let _ = SessionToken::parse(&text);
        }
    }
}
