//! The device as a signer: its Ed25519 key and the certificate that says whose it is.
//! The key never leaves and is never printed.

use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use openmls::prelude::{BasicCredential, Credential, CredentialType, CredentialWithKey, SignatureScheme};
use openmls_traits::signatures::{Signer, SignerError};

use crate::{
    certificate::{Certificate, CertificateError},
    id::DeviceId,
};

/// This device's signing key and certificate; cheap to clone.
#[derive(Clone)]
pub struct DeviceIdentity {
    inner: Arc<Inner>,
}

struct Inner {
    key: SigningKey,
    certificate: Certificate,
}

impl DeviceIdentity {
    /// The identity of the device that owns `device`, which `certificate` must name.
    pub fn new(device: SigningKey, certificate: Certificate) -> Self {
        Self { inner: Arc::new(Inner { key: device, certificate }) }
    }

    /// Whose device it is.
    pub fn certificate(&self) -> &Certificate {
        &self.inner.certificate
    }

    /// The device, by its public key.
    pub fn device(&self) -> DeviceId {
        DeviceId(self.inner.key.verifying_key().to_bytes())
    }

    /// Signs a message as it stands: the caller adds the context.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.inner.key.sign(message).to_bytes()
    }

    pub(super) fn credential(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(self.certificate().encoded().to_vec()).into(),
            signature_key: self.device().as_bytes().into(),
        }
    }
}

impl Signer for DeviceIdentity {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(DeviceIdentity::sign(self, payload).to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// The certificate in a leaf, if it is valid and of the leaf's own signature key.
pub(super) fn leaf_certificate(
    credential: &Credential,
    signature_key: &[u8],
) -> Result<Certificate, CertificateError> {
    if credential.credential_type() != CredentialType::Basic {
        return Err(CertificateError::Malformed);
    }
    let certificate = Certificate::decode(credential.serialized_content())?;
    if certificate.device.as_bytes() != signature_key {
        return Err(CertificateError::Signature);
    }
    Ok(certificate)
}
