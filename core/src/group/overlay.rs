//! What openmls runs on: its crypto, and [`Rows`] as its storage. In memory, CBOR; touches no database.

mod storage;

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use openmls_rust_crypto::RustCrypto;
use openmls_traits::{
    OpenMlsProvider,
    storage::{CURRENT_VERSION, Entity},
};
use serde::Serialize;

use super::rows::Rows;

const KEY_PACKAGE: &str = "key-package";
const ENCRYPTION_KEY: &str = "encryption-key";

/// Why a row could not be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum RowError {
    /// The stored bytes are not what was written.
    #[error("a stored row is damaged")]
    Damaged,
    /// A value could not be encoded.
    #[error("a row could not be encoded")]
    Encoding,
    /// openmls asked for something this protocol does not use.
    #[error("this protocol keeps no such row")]
    Unsupported,
}

/// Crypto, randomness and rows of one loaded state.
#[derive(Default)]
pub(super) struct Provider {
    crypto: RustCrypto,
    overlay: Overlay,
}

/// The rows, behind the lock that openmls's `&self` storage calls need.
#[derive(Default)]
pub(super) struct Overlay {
    rows: Mutex<Rows>,
    hold_message_secrets: AtomicBool,
    message_secrets_stale: AtomicBool,
}

impl Provider {
    pub(super) fn new(rows: Rows) -> Self {
        let overlay = Overlay { rows: Mutex::new(rows), ..Overlay::default() };
        Self { crypto: RustCrypto::default(), overlay }
    }

    pub(super) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.overlay.rows()
    }

    pub(super) fn into_rows(self) -> Rows {
        self.overlay.rows.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the message secrets row is only marked stale when openmls writes it.
    ///
    /// It grows with members and policy and changes with every message: encoding it once a batch
    /// instead of once a message is what makes batches cheap.
    pub(super) fn hold_message_secrets(&self, hold: bool) {
        self.overlay.hold_message_secrets.store(hold, Relaxed);
    }

    /// The message secrets changed since they were last encoded.
    pub(super) fn message_secrets_stale(&self) -> bool {
        self.overlay.message_secrets_stale.load(Relaxed)
    }
}

impl OpenMlsProvider for Provider {
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
    type StorageProvider = Overlay;

    fn storage(&self) -> &Overlay {
        &self.overlay
    }

    fn crypto(&self) -> &RustCrypto {
        &self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        &self.crypto
    }
}

/// Whether the key is of a KeyPackage or its private keys rather than of a group.
pub(super) fn is_key_package_row(key: &[u8]) -> bool {
    [KEY_PACKAGE, ENCRYPTION_KEY]
        .iter()
        .any(|label| key.strip_prefix(label.as_bytes()).and_then(<[u8]>::first) == Some(&0))
}

fn encode(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, RowError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).map_err(|_| RowError::Encoding)?;
    Ok(bytes)
}

fn row_key(label: &str, key: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, RowError> {
    // The zero byte keeps one label from being another's prefix.
    let mut bytes = [label.as_bytes(), &[0]].concat();
    ciborium::into_writer(key, &mut bytes).map_err(|_| RowError::Encoding)?;
    Ok(bytes)
}

impl Overlay {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        // A panic elsewhere cannot leave a map half changed.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(
        &self,
        label: &str,
        key: &(impl Serialize + ?Sized),
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), RowError> {
        let (key, value) = (row_key(label, key)?, encode(value)?);
        self.rows().put(key, value);
        Ok(())
    }

    fn read<T: Entity<CURRENT_VERSION>>(
        &self,
        label: &str,
        key: &(impl Serialize + ?Sized),
    ) -> Result<Option<T>, RowError> {
        let key = row_key(label, key)?;
        let rows = self.rows();
        rows.get(&key).map(|value| ciborium::from_reader(value).map_err(|_| RowError::Damaged)).transpose()
    }

    fn delete(&self, label: &str, key: &(impl Serialize + ?Sized)) -> Result<(), RowError> {
        let key = row_key(label, key)?;
        self.rows().remove(&key);
        Ok(())
    }
}
