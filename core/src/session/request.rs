//! Requests that clients repeat: what identifies their payload.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::SpaceError;
use crate::store::{
    StoreError, WriteTx,
    request::{Remembered, RequestKey, recall, remember},
};

/// A client's request, if it carries a `request_id`.
#[derive(Clone, Copy)]
pub(super) struct Request(Option<RequestKey>);

impl Request {
    /// A request with this payload; fields are length-prefixed, so that no two payloads look alike.
    pub(super) fn new(id: Option<Uuid>, method: &'static str, fields: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for field in fields {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        Self(id.map(|id| RequestKey { id, method, payload_hash: hash.finalize().into() }))
    }

    /// What identifies it.
    pub(super) fn key(&self) -> Option<&RequestKey> {
        self.0.as_ref()
    }

    /// What is known of it.
    pub(super) async fn recall(&self, tx: &mut WriteTx<'_>) -> Result<Remembered, StoreError> {
        let known = recall(tx.conn(), &self.0).await?;
        Ok(known.into_values().next().unwrap_or(Remembered::New))
    }

    /// The answer it was given before, if it was.
    ///
    /// # Errors
    /// [`SpaceError::RequestIdReused`] when the id came with another payload, or what the vault says.
    pub(super) async fn answered(&self, tx: &mut WriteTx<'_>) -> Result<Option<Vec<u8>>, SpaceError> {
        match self.recall(tx).await? {
            Remembered::New => Ok(None),
            Remembered::Answered(answer) => Ok(Some(answer)),
            Remembered::Reused => Err(SpaceError::RequestIdReused),
        }
    }

    /// Remembers its answer, in the transaction of its effect.
    pub(super) async fn remember(
        &self,
        tx: &mut WriteTx<'_>,
        answer: &[u8],
        now: i64,
    ) -> Result<(), StoreError> {
        match self.0 {
            None => Ok(()),
            Some(key) => remember(tx.conn(), &[(key, answer.to_vec())], now).await,
        }
    }
}
