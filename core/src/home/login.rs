//! What a session token is good for: its session, until it is revoked or expires.

use std::{collections::HashSet, sync::Arc};

use super::{
    AccountError, Inner,
    sessions::{Open, forget_other_logins, stop},
};
use crate::{
    clock::now_ms,
    keys::{SessionToken, TOKEN, VaultKey, unwrap_with_key},
    session::Session,
    store::server::VaultId,
};

/// Reads a token as a client sent it.
pub(super) fn parse(text: &str) -> Result<SessionToken, AccountError> {
    SessionToken::parse(text).map_err(|_| AccountError::TokenInvalid)
}

impl Inner {
    /// The running session of a token that was used before: no key derivation, and as a rule no database.
    pub(super) async fn session_of(
        &self,
        token: &SessionToken,
    ) -> Result<Option<Arc<Session>>, AccountError> {
        if self.stopping.is_cancelled() {
            return Err(AccountError::Stopping);
        }
        let (hash, now) = (token.hash(), now_ms());
        let Some(hit) = self.tokens.lookup(&hash, now) else { return Ok(None) };
        if hit.session.stopped().is_cancelled() {
            return Ok(None);
        }
        if hit.write_use {
            self.write_use(&hash, now).await;
        }
        Ok(Some(hit.session))
    }

    /// The session of a token, opened if it does not run.
    pub(super) async fn resume(&self, token: &SessionToken, now: i64) -> Result<Arc<Session>, AccountError> {
        let hash = token.hash();
        let idle_since = self.tokens.idle_since(now);
        let invalid = AccountError::TokenInvalid;
        let Some(found) = self.store.token(&hash, idle_since).await? else { return Err(invalid) };
        let slot = self.sessions.slot(found.vault);
        let mut slot = slot.lock().await;
        // Once more, now that no Lock can be under way.
        let Some(found) = self.store.token(&hash, idle_since).await? else { return Err(invalid) };
        let key = unwrap_with_key(&found.wrap, TOKEN, token.as_bytes()).map_err(|_| invalid)?;
        let session = self.open_session(&mut slot, found.vault, &key).await?;
        self.write_use(&hash, now).await;
        if let Err(error) = self.cover(found.vault, &key).await {
            tracing::warn!(cause = %error, "an account will not come back by the unlock key alone");
        }
        self.tokens.insert(hash, found.vault, &session, now);
        Ok(session)
    }

    /// Revokes a token, or all of its account.
    pub(super) async fn lock(&self, token: &SessionToken, everywhere: bool) -> Result<(), AccountError> {
        let hash = token.hash();
        let idle_since = self.tokens.idle_since(now_ms());
        let found = self.store.token(&hash, idle_since).await?.ok_or(AccountError::TokenInvalid)?;
        let slot = self.sessions.slot(found.vault);
        let mut slot = slot.lock().await;
        if everywhere {
            self.tokens.forget_account(found.vault);
            self.store.delete_tokens(found.vault).await?;
        } else {
            self.tokens.forget(&hash);
            self.store.delete_token(&hash).await?;
        }
        let left = self.store.sessions(found.vault).await?;
        if left.is_empty() {
            self.store.set_machine_wrap(found.vault, None).await?;
        }
        self.settle(&mut slot, left).await;
        Ok(())
    }

    /// Removes expired logins, and stops sessions that nothing can reach any more.
    pub(super) async fn sweep(&self) -> Result<(), AccountError> {
        let idle_since = self.tokens.idle_since(now_ms());
        let expired: HashSet<VaultId> = self.store.sweep_tokens(idle_since).await?.into_iter().collect();
        if expired.is_empty() {
            return Ok(());
        }
        let machine: HashSet<VaultId> =
            self.store.machine_wraps().await?.into_iter().map(|(vault, _)| vault).collect();
        for vault in expired {
            let slot = self.sessions.slot(vault);
            let mut slot = slot.lock().await;
            let left = self.store.sessions(vault).await?;
            let machine_keeps_it = self.unlock_key.is_some() && machine.contains(&vault);
            if !left.is_empty() || !machine_keeps_it {
                self.settle(&mut slot, left).await;
            }
        }
        Ok(())
    }

    /// Opens an account's session, while its slot is held.
    pub(super) async fn open_session(
        &self,
        slot: &mut Option<Open>,
        vault: VaultId,
        key: &VaultKey,
    ) -> Result<Arc<Session>, AccountError> {
        let logins = self.store.sessions(vault).await?;
        self.sessions.open(slot, &self.directory.vault(vault), key, logins).await
    }

    /// Makes a running session agree with the logins that are left.
    async fn settle(&self, slot: &mut Option<Open>, left: Vec<[u8; 16]>) {
        if left.is_empty() {
            stop(slot).await;
        } else if let Some(Open { vault, .. }) = slot {
            forget_other_logins(vault, left).await;
        }
    }

    /// Puts an open account under the unlock key, if there is one that does not open it yet: it may have
    /// been given, or changed, since the last login.
    pub(super) async fn cover(&self, vault: VaultId, key: &VaultKey) -> Result<(), AccountError> {
        let Some(unlock_key) = &self.unlock_key else { return Ok(()) };
        let wrap = self.store.machine_wrap(vault).await?;
        if wrap.is_some_and(|wrap| unlock_key.unwrap(&wrap).is_some()) {
            return Ok(());
        }
        Ok(self.store.set_machine_wrap(vault, Some(&unlock_key.wrap(key)?)).await?)
    }

    /// A disk that is full must not lock people out of what is on it.
    async fn write_use(&self, hash: &[u8; 32], now: i64) {
        if let Err(error) = self.store.touch_token(hash, now).await {
            tracing::warn!(cause = %error, "the use of a login was not written");
        }
    }
}
