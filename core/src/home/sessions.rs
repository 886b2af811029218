//! Open sessions: one an account, however many tokens and calls it has.
//!
//! A session is opened, stopped and given its tokens while its slot is held. Holds no key.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{AccountError, HomeConfig};
use crate::{
    keys::VaultKey,
    metrics::Metrics,
    network::NetworkConfig,
    session::{Session, SessionError},
    store::{StoreError, Vault, identity, server::VaultId},
};

/// A running session and its vault.
pub(super) struct Open {
    pub(super) session: Arc<Session>,
    pub(super) vault: Vault,
    counted: Counted,
}

/// One of the open sessions, for as long as it lives.
struct Counted(Metrics);

impl Counted {
    fn new(metrics: &Metrics) -> Self {
        metrics.open_sessions.inc();
        Self(metrics.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open_sessions.dec();
    }
}

/// Where an account's session is, if it runs.
pub(super) type Slot = tokio::sync::Mutex<Option<Open>>;

/// All accounts' slots.
pub(super) struct Sessions {
    slots: Mutex<HashMap<VaultId, Arc<Slot>>>,
    network: NetworkConfig,
    metrics: Metrics,
    stopping: CancellationToken,
}

impl Sessions {
    pub(super) fn new(config: &HomeConfig, metrics: Metrics, stopping: CancellationToken) -> Self {
        Self { slots: Mutex::default(), network: config.network.clone(), metrics, stopping }
    }

    /// The account's slot.
    pub(super) fn slot(&self, vault: VaultId) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(vault).or_default())
    }

    /// All slots there are now.
    pub(super) fn all(&self) -> Vec<(VaultId, Arc<Slot>)> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.iter().map(|(vault, slot)| (*vault, Arc::clone(slot))).collect()
    }

    /// The account's session; started if it does not run. `logins` are those that exist.
    pub(super) async fn open(
        &self,
        slot: &mut Option<Open>,
        path: &Path,
        key: &VaultKey,
        logins: Vec<[u8; 16]>,
    ) -> Result<Arc<Session>, AccountError> {
        match slot {
            Some(open) if !open.session.stopped().is_cancelled() => return Ok(Arc::clone(&open.session)),
            // It ended by itself; what it still holds must be let go first.
            Some(_) => stop(slot).await,
            None => {}
        }
        self.check_running()?;
        let vault = Vault::open(path, key, &self.metrics).await?;
        forget_other_logins(&vault, logins).await;
        self.start(slot, vault).await
    }

    /// Starts the session of an open vault; closes the vault when that fails.
    pub(super) async fn start(
        &self,
        slot: &mut Option<Open>,
        vault: Vault,
    ) -> Result<Arc<Session>, AccountError> {
        let started = match self.check_running() {
            Ok(()) => Session::start(vault.clone(), self.network.clone(), self.metrics.clone())
                .await
                .map_err(AccountError::from),
            Err(stopping) => Err(stopping),
        };
        match started {
            Ok(session) => {
                let counted = Counted::new(&self.metrics);
                *slot = Some(Open { session: Arc::clone(&session), vault, counted });
                Ok(session)
            }
            Err(error) => {
                vault.close().await;
                Err(error)
            }
        }
    }

    /// Stops all of them, together; none starts any more.
    pub(super) async fn stop_all(&self) {
        self.stopping.cancel();
        let slots = self.all();
        join_all(slots.iter().map(|(_, slot)| async { stop(&mut *slot.lock().await).await })).await;
    }

    fn check_running(&self) -> Result<(), AccountError> {
        if self.stopping.is_cancelled() { Err(AccountError::Stopping) } else { Ok(()) }
    }
}

/// Stops the slot's session, if there is one: its keys leave memory, its router stops.
pub(super) async fn stop(slot: &mut Option<Open>) {
    if let Some(Open { session, vault, counted }) = slot.take() {
        session.stop().await;
        vault.close().await;
        drop(counted);
    }
}

/// The vault's names of logins that ended are forgotten; failing that is no reason to fail a login.
pub(super) async fn forget_other_logins(vault: &Vault, logins: Vec<[u8; 16]>) {
    let forgotten: Result<(), StoreError> =
        vault.write(|tx| Box::pin(async move { identity::retain_logins(tx, &logins).await })).await;
    if let Err(error) = forgotten {
        tracing::warn!(cause = %error, "the names of ended logins were not removed");
    }
}

impl From<SessionError> for AccountError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Router(cause) => Self::Router(cause),
            SessionError::Store(error) => Self::Store(error),
        }
    }
}
