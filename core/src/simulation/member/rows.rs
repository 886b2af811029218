//! The rows on a simulated disk: states, what waits to be sent, and letters that wait.

use std::{collections::BTreeMap, sync::Arc};

use sha2::{Digest as _, Sha256};

use super::wire::{JoinBundle, Skeleton};
use crate::{
    group::authorize::Standing,
    id::{DeviceId, EventId, StateId},
};

/// The rows of one state, by key.
pub(super) type StoredRows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Rows that messages change.
const MESSAGE_ROWS: [&[u8]; 2] = [b"message-secrets", b"sp/send-counter"];

/// A state whose commit was checked.
#[derive(Clone)]
pub struct StateRow {
    /// Its secrets, while they are kept.
    pub rows: Option<StoredRows>,
    /// Who is in it.
    pub standing: Arc<Standing>,
    /// Names its frames; all zero where the secrets never were here.
    pub env_tag: [u8; 16],
    /// Whether this device made the commit.
    pub own: bool,
    /// When it came here, by the device's clock, milliseconds.
    pub adopted_ms: u64,
    /// When the head last left it.
    pub left_ms: Option<u64>,
    /// The how many-th entry of this device it was, if it was one.
    pub entry: Option<u64>,
    /// What its rows were at first, where this device made the commit: it cannot be told of it again.
    pub born: Option<Arc<StoredRows>>,
    /// Requests that its commit acted on.
    pub included: Vec<EventId>,
    /// The fingerprint of the rows that no message changes.
    pub stable: [u8; 32],
    /// The commit.
    pub skeleton: Skeleton,
}

impl StateRow {
    /// Since when it is a state of the past, by the device's clock, milliseconds.
    pub(super) fn past_since_ms(&self) -> u64 {
        self.adopted_ms.max(self.left_ms.unwrap_or_default())
    }
}

/// A state to be stored.
pub(super) struct Adoption {
    pub(super) skeleton: Skeleton,
    pub(super) standing: Arc<Standing>,
    pub(super) env_tag: [u8; 16],
    /// None for a state that cannot be entered.
    pub(super) rows: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    pub(super) included: Vec<EventId>,
    pub(super) own: bool,
    pub(super) at_ms: u64,
}

/// An event of this device that others lack.
#[derive(Clone)]
pub struct Outgoing {
    /// The frame it was first sealed in, and the state that this was in.
    pub sealed: Option<(StateId, Arc<[u8]>)>,
    /// Whether another device said that it has it.
    pub custody: bool,
    /// Whether it was written before this device knew that its disk is the newest one.
    pub unsure: bool,
}

/// A KeyPackage that a Welcome may use.
#[derive(Clone)]
pub struct OpenJoin {
    /// SHA-256 of tls(KeyPackage).
    pub hash: [u8; 32],
    /// tls(KeyPackage)
    pub key_package: Vec<u8>,
    /// Its private keys.
    pub rows: StoredRows,
    /// Whether a Welcome came.
    pub answered: bool,
}

/// A letter that waits for its commit to be safe, and for its addressee.
#[derive(Clone)]
pub struct Bundle {
    /// Whom it is for.
    pub to: DeviceId,
    /// When the commit was made, by the monotonic clock, milliseconds.
    pub made_ms: u64,
    /// What it says.
    pub bundle: JoinBundle,
}

/// The fingerprint of the rows that no message changes.
pub(super) fn stable_fingerprint(rows: &StoredRows) -> [u8; 32] {
    let mut digest = Sha256::new();
    for (key, value) in rows.iter().filter(|(key, _)| !is_message_row(key)) {
        digest.update((key.len() as u64).to_be_bytes());
        digest.update(key);
        digest.update((value.len() as u64).to_be_bytes());
        digest.update(value);
    }
    digest.finalize().into()
}

fn is_message_row(key: &[u8]) -> bool {
    MESSAGE_ROWS.iter().any(|row| key.windows(row.len()).any(|window| window == *row))
}
