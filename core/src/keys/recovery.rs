//! The recovery phrase: twelve words of the English BIP-39 list, from 16 bytes.
//!
//! The bytes follow from the vault key, so that a retried request to make an account shows the same
//! phrase again, and so that nothing has to be kept for it. BIP-39's seed function is not used.

use bip39::{Language, Mnemonic};
use zeroize::Zeroizing;

use super::{KeyError, VaultKey, derive};

/// What a recovery phrase stands for; wraps the vault key.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryEntropy(Zeroizing<[u8; 16]>);

const CONTEXT: &[u8] = b"sp/recovery/1";
const WORDS: usize = 12;
/// Twelve words of at most 8 letters take 107 characters; the rest is white space.
const MAX_PHRASE_BYTES: usize = 512;

impl RecoveryEntropy {
    /// The secret bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The entropy of an account's recovery phrase.
///
/// # Errors
/// [`KeyError::Derivation`], which does not happen in practice.
pub fn recovery_entropy(key: &VaultKey) -> Result<RecoveryEntropy, KeyError> {
    derive(None, key.as_bytes(), &[CONTEXT]).map(RecoveryEntropy)
}

/// The twelve words of an entropy.
///
/// # Errors
/// [`KeyError::Phrase`], which does not happen in practice.
pub fn recovery_phrase(entropy: &RecoveryEntropy) -> Result<Zeroizing<String>, KeyError> {
    let mnemonic = Mnemonic::from_entropy_in(Language::English, entropy.as_bytes());
    Ok(Zeroizing::new(mnemonic.map_err(|_| KeyError::Phrase)?.to_string()))
}

/// Reads a phrase as a person typed it, in any case and spacing.
///
/// # Errors
/// [`KeyError::Phrase`] for anything but twelve words of the list with their checksum.
pub fn parse_recovery_phrase(phrase: &str) -> Result<RecoveryEntropy, KeyError> {
    if phrase.len() > MAX_PHRASE_BYTES {
        return Err(KeyError::Phrase);
    }
    let phrase = Zeroizing::new(phrase.to_lowercase());
    let mnemonic =
        Mnemonic::parse_in_normalized(Language::English, phrase.as_str()).map_err(|_| KeyError::Phrase)?;
    if mnemonic.word_count() != WORDS {
        return Err(KeyError::Phrase);
    }
    let entropy = Zeroizing::new(mnemonic.to_entropy());
    let bytes = <[u8; 16]>::try_from(entropy.as_slice()).map_err(|_| KeyError::Phrase)?;
    Ok(RecoveryEntropy(Zeroizing::new(bytes)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entropy(bytes: [u8; 16]) -> RecoveryEntropy {
        RecoveryEntropy(Zeroizing::new(bytes))
    }

    fn phrase_of(byte: u8) -> Zeroizing<String> {
        recovery_phrase(&entropy([byte; 16])).unwrap()
    }

    #[test]
    fn phrases_are_those_of_bip_39() {
        let expected = "legal winner thank year wave sausage worth useful legal winner thank yellow";
        assert_eq!(*phrase_of(0x7f), expected);
    }

    #[test]
    fn a_vault_has_one_phrase() {
        let key = |byte| VaultKey::new(Zeroizing::new([byte; 32]));
        assert!(recovery_entropy(&key(1)) == recovery_entropy(&key(1)));
        assert!(recovery_entropy(&key(1)) != recovery_entropy(&key(2)));
    }

    #[test]
    fn phrases_read_back_however_typed() {
        let typed = format!("  {}\n", phrase_of(9).to_uppercase().replace(' ', " \t "));
        assert!(parse_recovery_phrase(&typed) == Ok(entropy([9; 16])));
    }

    #[test]
    fn other_words_are_refused() {
        let refused = |phrase: &str| parse_recovery_phrase(phrase) == Err(KeyError::Phrase);
        assert!(refused(""));
        assert!(refused(&"legal ".repeat(11)));
        assert!(refused(&phrase_of(0x7f).replace("yellow", "year")), "checksum");
        assert!(refused(&phrase_of(0x7f).replace("yellow", "panda!")));
        assert!(refused(&"x".repeat(MAX_PHRASE_BYTES + 1)));
        let longer = Mnemonic::from_entropy_in(Language::English, &[1; 32]).unwrap().to_string();
        assert!(refused(&longer), "24 words");
    }

    proptest! {
        #[test]
        fn every_entropy_reads_back(bytes: [u8; 16]) {
            let phrase = recovery_phrase(&entropy(bytes)).unwrap();
            prop_assert!(parse_recovery_phrase(&phrase) == Ok(entropy(bytes)));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,100}") {
            let _ = parse_recovery_phrase(&text);
        }
    }
}
