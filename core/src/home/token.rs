//! Which session a token belongs to, without asking the database on every call.
//!
//! Entries are added only while the account's session slot is held, and removed so before the row
//! is: a revoked token never comes back. Pure: the time is an argument.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use crate::{clock::duration_ms, store::server::VaultId};

/// The longest that the use of a token goes unwritten.
const WRITE_USE_EVERY_MS: i64 = 3_600_000;

struct Entry<S> {
    vault: VaultId,
    session: Weak<S>,
    last_used_ms: i64,
    written_ms: i64,
}

/// A token that is good, and whether its use is due to be written.
pub(super) struct Hit<S> {
    pub(super) session: Arc<S>,
    pub(super) write_use: bool,
}

/// Tokens in use, by hash.
pub(super) struct TokenCache<S> {
    entries: Mutex<HashMap<[u8; 32], Entry<S>>>,
    idle_ms: i64,
    write_use_every_ms: i64,
}

impl<S> TokenCache<S> {
    pub(super) fn new(idle: Duration) -> Self {
        let idle_ms = duration_ms(idle);
        let write_use_every_ms = WRITE_USE_EVERY_MS.min(idle_ms / 20);
        Self { entries: Mutex::default(), idle_ms, write_use_every_ms }
    }

    /// Tokens last used then, or before, have expired.
    pub(super) fn idle_since(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.idle_ms)
    }

    /// The session of a known token.
    pub(super) fn lookup(&self, hash: &[u8; 32], now_ms: i64) -> Option<Hit<S>> {
        let idle_since = self.idle_since(now_ms);
        let mut entries = self.entries();
        let entry = entries.get_mut(hash)?;
        let session = entry.session.upgrade().filter(|_| entry.last_used_ms > idle_since);
        let Some(session) = session else {
            entries.remove(hash);
            return None;
        };
        entry.last_used_ms = entry.last_used_ms.max(now_ms);
        let write_use = now_ms.saturating_sub(entry.written_ms) >= self.write_use_every_ms;
        if write_use {
            entry.written_ms = now_ms;
        }
        Some(Hit { session, write_use })
    }

    /// Remembers a token whose use was written just now.
    pub(super) fn insert(&self, hash: [u8; 32], vault: VaultId, session: &Arc<S>, now_ms: i64) {
        let session = Arc::downgrade(session);
        self.entries().insert(hash, Entry { vault, session, last_used_ms: now_ms, written_ms: now_ms });
    }

    /// Forgets one token.
    pub(super) fn forget(&self, hash: &[u8; 32]) {
        self.entries().remove(hash);
    }

    /// Forgets all tokens of an account.
    pub(super) fn forget_account(&self, vault: VaultId) {
        self.entries().retain(|_, entry| entry.vault != vault);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<[u8; 32], Entry<S>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: VaultId = VaultId([1; 16]);
    const BEN: VaultId = VaultId([2; 16]);

    fn cache() -> (TokenCache<u8>, Arc<u8>) {
        let (cache, session) = (TokenCache::new(Duration::from_millis(1_000)), Arc::new(7));
        cache.insert([1; 32], ANN, &session, 0);
        cache.insert([2; 32], ANN, &session, 0);
        cache.insert([3; 32], BEN, &session, 0);
        (cache, session)
    }

    fn knows(cache: &TokenCache<u8>, token: u8, now_ms: i64) -> bool {
        cache.lookup(&[token; 32], now_ms).is_some()
    }

    #[test]
    fn use_keeps_a_token_and_idleness_ends_it() {
        let (cache, _session) = cache();
        assert!(knows(&cache, 1, 900));
        assert!(knows(&cache, 1, 1_800));
        assert!(!knows(&cache, 2, 1_000));
        assert!(!knows(&cache, 1, 2_800));
        // Not even when the clock is set back.
        assert!(!knows(&cache, 1, 1_900));
    }

    #[test]
    fn use_is_written_now_and_then() {
        let (cache, _session) = cache();
        let due = |now_ms| cache.lookup(&[1; 32], now_ms).unwrap().write_use;
        assert_eq!([49, 50, 51, 99, 100].map(due), [false, true, false, false, true]);
    }

    #[test]
    fn forgotten_tokens_and_ended_sessions_are_unknown() {
        let (cache, session) = cache();
        cache.forget(&[1; 32]);
        assert!(!knows(&cache, 1, 1) && knows(&cache, 2, 1));
        cache.forget_account(ANN);
        assert!(!knows(&cache, 2, 1) && knows(&cache, 3, 1));
        drop(session);
        assert!(!knows(&cache, 3, 1));
    }
}
