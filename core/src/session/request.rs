//! Requests that clients repeat: what identifies their payload.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::store::{
    StoreError, WriteTx,
    request::{Remembered, recall, remember},
};

/// A client's request, if it carries a `request_id`.
#[derive(Clone)]
pub(super) struct Request {
    id: Option<Uuid>,
    method: &'static str,
    payload_hash: [u8; 32],
}

impl Request {
    /// A request with this payload; fields are length-prefixed, so that no two payloads look alike.
    pub(super) fn new(id: Option<Uuid>, method: &'static str, fields: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for field in fields {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        Self { id, method, payload_hash: hash.finalize().into() }
    }

    /// What is known of it.
    pub(super) async fn recall(&self, tx: &mut WriteTx<'_>) -> Result<Remembered, StoreError> {
        match self.id {
            None => Ok(Remembered::New),
            Some(id) => recall(tx.conn(), id, self.method, &self.payload_hash).await,
        }
    }

    /// Remembers its answer, in the transaction of its effect.
    pub(super) async fn remember(
        &self,
        tx: &mut WriteTx<'_>,
        answer: &[u8],
        now: i64,
    ) -> Result<(), StoreError> {
        match self.id {
            None => Ok(()),
            Some(id) => remember(tx.conn(), id, self.method, &self.payload_hash, answer, now).await,
        }
    }
}
