//! KeyPackages: what a device hands out to be added, and the check of those it is handed.

use openmls::prelude::{
    Capabilities, Ciphersuite, CredentialType, ExtensionType, KeyPackage, KeyPackageIn, Lifetime,
    ProtocolVersion, VerifiableCiphersuite,
    tls_codec::{Deserialize as _, Serialize as _},
};
use openmls_rust_crypto::RustCrypto;
use sha2::{Digest as _, Sha256};

use super::{
    error::GroupError,
    identity::{DeviceIdentity, leaf_certificate},
    overlay::Provider,
    policy::POLICY_EXTENSION,
    rows::{RowChanges, Rows},
};
pub use crate::event::MAX_KEY_PACKAGE_BYTES;

use crate::certificate::Certificate;

/// The one ciphersuite, 0x0001 (RFC 9420 §17.1).
pub(super) const CIPHERSUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
/// The GroupContext extension that every member must know.
pub(super) const POLICY_TYPE: ExtensionType = ExtensionType::Unknown(POLICY_EXTENSION);

const DAY_SECONDS: u64 = 24 * 60 * 60;
/// Usable this long before it was made, for clocks that are behind.
const LIFETIME_BEFORE_SECONDS: u64 = DAY_SECONDS;
/// With the day before, the 84 days that openmls allows at most.
const LIFETIME_AFTER_SECONDS: u64 = 83 * DAY_SECONDS;

/// A KeyPackage of this device.
pub struct FreshKeyPackage {
    /// tls(KeyPackage)
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes.
    pub hash: [u8; 32],
    /// Its private keys: to be stored before the bytes are sent, and given to
    /// [`GroupState::join`](super::state::GroupState::join).
    pub rows: RowChanges,
}

/// Someone's KeyPackage, fit to be added.
#[derive(Clone)]
pub struct CheckedKeyPackage {
    /// Whose it is.
    pub certificate: Certificate,
    /// SHA-256 of the bytes.
    pub hash: [u8; 32],
    /// The key of its leaf.
    pub encryption_key: [u8; 32],
}

/// Makes a KeyPackage, for one join.
///
/// # Errors
/// [`GroupError::Mls`] when openmls fails.
pub fn fresh_key_package(identity: &DeviceIdentity) -> Result<FreshKeyPackage, GroupError> {
    let provider = Provider::new(Rows::new());
    let bundle = KeyPackage::builder()
        .key_package_lifetime(lifetime())
        .leaf_node_capabilities(capabilities())
        .build(CIPHERSUITE, &provider, identity, identity.credential())
        .map_err(GroupError::mls)?;
    let bytes = bundle.key_package().tls_serialize_detached().map_err(GroupError::mls)?;
    let hash = Sha256::digest(&bytes).into();
    Ok(FreshKeyPackage { bytes, hash, rows: provider.into_rows().take_changes() })
}

/// Checks a KeyPackage that someone sent: signatures, lifetime, capabilities and certificate.
///
/// # Errors
/// [`GroupError::KeyPackage`] or [`GroupError::Certificate`].
pub fn check_key_package(bytes: &[u8]) -> Result<CheckedKeyPackage, GroupError> {
    let key_package = read_key_package(bytes)?;
    let leaf = key_package.leaf_node();
    let certificate = leaf_certificate(leaf.credential(), leaf.signature_key().as_slice())?;
    // After its length.
    let encoded = leaf.encryption_key().tls_serialize_detached().map_err(GroupError::mls)?;
    let encryption_key = *encoded.last_chunk().ok_or(GroupError::KeyPackage)?;
    Ok(CheckedKeyPackage { certificate, hash: Sha256::digest(bytes).into(), encryption_key })
}

pub(super) fn read_key_package(bytes: &[u8]) -> Result<KeyPackage, GroupError> {
    if bytes.len() > MAX_KEY_PACKAGE_BYTES {
        return Err(GroupError::KeyPackage);
    }
    // From a reader: tls_codec panics on short slices in debug builds.
    let key_package = KeyPackageIn::tls_deserialize_exact(bytes)
        .ok()
        .and_then(|received| received.validate(&RustCrypto::default(), ProtocolVersion::Mls10).ok())
        .ok_or(GroupError::KeyPackage)?;
    // Its hash is signed over by the joiner and computed again from the commit: one encoding only.
    let encoded = key_package.tls_serialize_detached().map_err(|_| GroupError::KeyPackage)?;
    let usable = encoded == bytes
        && key_package.ciphersuite() == CIPHERSUITE
        && key_package.life_time().has_acceptable_range()
        && is_capable(key_package.leaf_node().capabilities());
    usable.then_some(key_package).ok_or(GroupError::KeyPackage)
}

fn is_capable(capabilities: &Capabilities) -> bool {
    capabilities.versions().contains(&ProtocolVersion::Mls10)
        && capabilities.ciphersuites().contains(&VerifiableCiphersuite::from(CIPHERSUITE))
        && capabilities.extensions().contains(&POLICY_TYPE)
        && capabilities.credentials().contains(&CredentialType::Basic)
}

pub(super) fn capabilities() -> Capabilities {
    Capabilities::builder()
        .versions(vec![ProtocolVersion::Mls10])
        .ciphersuites(vec![CIPHERSUITE])
        .extensions(vec![POLICY_TYPE])
        .credentials(vec![CredentialType::Basic])
        .build()
}

pub(super) fn lifetime() -> Lifetime {
    // Ends now by openmls's own clock, the one that everyone's openmls will check it with.
    let now = Lifetime::new(0).not_after();
    Lifetime::init(now.saturating_sub(LIFETIME_BEFORE_SECONDS), now.saturating_add(LIFETIME_AFTER_SECONDS))
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::id::DeviceId;

    /// The device with key 2, with a certificate that says its key is `certified`.
    fn identity(certified: u8) -> DeviceIdentity {
        let device = DeviceId(SigningKey::from_bytes(&[certified; 32]).verifying_key().to_bytes());
        let account = SigningKey::from_bytes(&[1; 32]);
        let certificate = Certificate::issue(&account, device, vec![1; 38], [1; 32], 1);
        DeviceIdentity::new(SigningKey::from_bytes(&[2; 32]), certificate)
    }

    fn built(lifetime: Lifetime, capabilities: Capabilities) -> Vec<u8> {
        let (provider, identity) = (Provider::default(), identity(2));
        KeyPackage::builder()
            .key_package_lifetime(lifetime)
            .leaf_node_capabilities(capabilities)
            .build(CIPHERSUITE, &provider, &identity, identity.credential())
            .unwrap()
            .key_package()
            .tls_serialize_detached()
            .unwrap()
    }

    #[test]
    fn a_fresh_one_is_usable() {
        let fresh = fresh_key_package(&identity(2)).unwrap();
        let checked = check_key_package(&fresh.bytes).unwrap();
        assert_eq!(checked.hash, fresh.hash);
        assert!(checked.certificate == *identity(2).certificate());
        assert!(!fresh.rows.upserts.is_empty());
        assert_ne!(fresh_key_package(&identity(2)).unwrap().hash, fresh.hash);
    }

    #[test]
    fn another_devices_certificate_is_refused() {
        let fresh = fresh_key_package(&identity(3)).unwrap();
        assert!(matches!(check_key_package(&fresh.bytes), Err(GroupError::Certificate)));
    }

    #[test]
    fn lifetimes_are_kept_to() {
        let now = Lifetime::new(0).not_after();
        let year = 365 * DAY_SECONDS;
        let refused = [(now - 20, now - 10), (now + 600, now + 1200), (now - 10, now + year)];
        for (from, to) in refused {
            let bytes = built(Lifetime::init(from, to), capabilities());
            assert!(matches!(check_key_package(&bytes), Err(GroupError::KeyPackage)));
        }
        assert!(check_key_package(&built(lifetime(), capabilities())).is_ok());
    }

    #[test]
    fn one_that_does_not_know_the_policy_is_refused() {
        let bytes = built(lifetime(), Capabilities::default());
        assert!(matches!(check_key_package(&bytes), Err(GroupError::KeyPackage)));
    }

    #[test]
    fn any_changed_or_missing_byte_is_refused() {
        let bytes = fresh_key_package(&identity(2)).unwrap().bytes;
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1 << (index % 8);
            assert!(check_key_package(&changed).is_err(), "byte {index}");
            assert!(check_key_package(&bytes[..index]).is_err(), "length {index}");
        }
        assert!(check_key_package(&[&bytes[..], &[0]].concat()).is_err());
        assert!(check_key_package(&vec![0; MAX_KEY_PACKAGE_BYTES + 1]).is_err());
    }
}
