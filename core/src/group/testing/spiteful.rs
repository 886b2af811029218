//! Crypto that seals nonsense for some keys and is otherwise openmls's own: signatures and tags are made
//! over the nonsense, so that only those it is sealed for find out.

use openmls::prelude::{LeafNodeIndex, PublicGroup, tls_codec};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::{
    crypto::OpenMlsCrypto,
    types::{
        AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig,
        HpkeKeyPair, KemOutput, SignatureScheme,
    },
};
use tls_codec::{Deserialize as _, SecretVLBytes, Serialize as _, VLByteVec};

use crate::group::error::GroupError;

pub(super) struct SpitefulCrypto {
    crypto: RustCrypto,
    /// Public keys.
    victims: Vec<Vec<u8>>,
}

impl SpitefulCrypto {
    /// Spites every key that these leaves have the private part of.
    pub(super) fn towards(group: &PublicGroup, leaves: &[LeafNodeIndex]) -> Result<Self, GroupError> {
        let of_leaves = group.members().filter(|member| leaves.contains(&member.index));
        let mut victims: Vec<_> = of_leaves.map(|member| member.encryption_key).collect();
        for (parent, node) in group.treesync().full_parents() {
            if leaves.iter().any(|leaf| is_above(parent.u32(), leaf.u32())) {
                // A node's first field is its key; openmls shows it only so.
                let encoded = node.tls_serialize_detached().map_err(GroupError::mls)?;
                let key = VLByteVec::tls_deserialize(&mut &*encoded).map_err(GroupError::mls)?;
                victims.push(key.as_slice().to_vec());
            }
        }
        Ok(Self { crypto: RustCrypto::default(), victims })
    }
}

/// Whether a parent node is on a leaf's direct path: node `2 leaf` lies under the subtree whose root is
/// node `2 parent + 1` (RFC 9420 appendix C).
fn is_above(parent: u32, leaf: u32) -> bool {
    let (node, leaf) = (2 * u64::from(parent) + 1, 2 * u64::from(leaf));
    let reach = (1 << node.trailing_ones()) - 1;
    leaf.abs_diff(node) <= reach
}

impl OpenMlsCrypto for SpitefulCrypto {
    fn hpke_seal(
        &self,
        config: HpkeConfig,
        public_key: &[u8],
        info: &[u8],
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        if self.victims.iter().any(|victim| victim == public_key) {
            return self.crypto.hpke_seal(config, public_key, info, aad, &vec![0; plaintext.len()]);
        }
        self.crypto.hpke_seal(config, public_key, info, aad, plaintext)
    }

    fn supports(&self, ciphersuite: Ciphersuite) -> Result<(), CryptoError> {
        self.crypto.supports(ciphersuite)
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        self.crypto.supported_ciphersuites()
    }

    fn hkdf_extract(&self, hash: HashType, salt: &[u8], ikm: &[u8]) -> Result<SecretVLBytes, CryptoError> {
        self.crypto.hkdf_extract(hash, salt, ikm)
    }

    fn hmac(&self, hash: HashType, key: &[u8], message: &[u8]) -> Result<SecretVLBytes, CryptoError> {
        self.crypto.hmac(hash, key, message)
    }

    fn hkdf_expand(
        &self,
        hash: HashType,
        prk: &[u8],
        info: &[u8],
        length: usize,
    ) -> Result<SecretVLBytes, CryptoError> {
        self.crypto.hkdf_expand(hash, prk, info, length)
    }

    fn hash(&self, hash: HashType, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.crypto.hash(hash, data)
    }

    fn aead_encrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.crypto.aead_encrypt(alg, key, data, nonce, aad)
    }

    fn aead_decrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        sealed: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.crypto.aead_decrypt(alg, key, sealed, nonce, aad)
    }

    fn signature_key_gen(&self, alg: SignatureScheme) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        self.crypto.signature_key_gen(alg)
    }

    fn verify_signature(
        &self,
        alg: SignatureScheme,
        data: &[u8],
        key: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        self.crypto.verify_signature(alg, data, key, signature)
    }

    fn sign(&self, alg: SignatureScheme, data: &[u8], key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.crypto.sign(alg, data, key)
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        input: &HpkeCiphertext,
        private_key: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.crypto.hpke_open(config, input, private_key, info, aad)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        public_key: &[u8],
        info: &[u8],
        context: &[u8],
        length: usize,
    ) -> Result<(KemOutput, ExporterSecret), CryptoError> {
        self.crypto.hpke_setup_sender_and_export(config, public_key, info, context, length)
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        enc: &[u8],
        private_key: &[u8],
        info: &[u8],
        context: &[u8],
        length: usize,
    ) -> Result<ExporterSecret, CryptoError> {
        self.crypto.hpke_setup_receiver_and_export(config, enc, private_key, info, context, length)
    }

    fn derive_hpke_keypair(&self, config: HpkeConfig, ikm: &[u8]) -> Result<HpkeKeyPair, CryptoError> {
        self.crypto.derive_hpke_keypair(config, ikm)
    }
}

#[cfg(test)]
mod tests {
    use super::is_above;

    #[test]
    fn parents_are_above_their_leaves_only() {
        // Parents of eight leaves, by their place among parents: 0, 2, 4, 6 are lowest, 3 is the root.
        let above = |parent| (0..8).filter(|leaf| is_above(parent, *leaf)).collect::<Vec<_>>();
        assert_eq!(above(0), [0, 1]);
        assert_eq!(above(2), [2, 3]);
        assert_eq!(above(4), [4, 5]);
        assert_eq!(above(1), [0, 1, 2, 3]);
        assert_eq!(above(5), [4, 5, 6, 7]);
        assert_eq!(above(3), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
