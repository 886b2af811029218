//! A device, its disk, and its process, that dies where it is told to and is started again.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::{
    clock::now_ms,
    id::GroupId,
    keys::VaultKey,
    metrics::Metrics,
    network::NetworkConfig,
    router::Address,
    session::Session,
    store::{At, StoreError, Vault, identity::Identity, mls},
};

const KEY: [u8; 32] = [7; 32];
const CLOSING: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Where a device dies: beside the step that this function asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death {
    pub(super) step: &'static str,
    pub(super) at: At,
    /// Steps of the kind that pass before.
    pub(super) passing: u32,
}

pub(super) struct House {
    pub(super) name: &'static str,
    pub(super) session: Arc<Session>,
    pub(super) deaths: usize,
    metrics: Metrics,
    directory: TempDir,
}

impl House {
    pub(super) async fn new(name: &'static str) -> Self {
        let (directory, metrics) = (TempDir::new().unwrap(), Metrics::default());
        let path = directory.path().join("vault.db");
        let vault = Vault::create(&path, &key(), &metrics).await.unwrap();
        let identity = Identity::generate(name, name, now_ms());
        let written: Result<(), StoreError> =
            vault.write(move |tx| Box::pin(async move { identity.insert(tx).await })).await;
        written.unwrap();
        let session = Session::start(vault, config(), metrics.clone()).await.unwrap();
        Self { name, metrics, session, deaths: 0, directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("vault.db")
    }

    /// Its vault, while it is stopped. Of a process that dies nothing is left; here the connections of the one
    /// before may take a moment to close.
    pub(super) async fn open(&self) -> Vault {
        let end = Instant::now() + CLOSING;
        loop {
            match Vault::open(&self.path(), &key(), &self.metrics).await {
                Ok(vault) => return vault,
                Err(StoreError::Database) if Instant::now() < end => tokio::time::sleep(LOOK_EVERY).await,
                Err(error) => panic!("{}: {error}", self.name),
            }
        }
    }

    pub(super) async fn stop(&self) {
        self.session.stop().await;
    }

    pub(super) async fn start(&mut self) {
        self.session = Session::start(self.open().await, config(), self.metrics.clone()).await.unwrap();
    }

    pub(super) fn dies(&self, death: Death) {
        self.session.vault.die_at(death.step, death.at, death.passing);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.session.vault.is_dead()
    }

    /// Starts it again if it has died.
    pub(super) async fn revive(&mut self) {
        if self.is_dead() {
            self.deaths += 1;
            self.stop().await;
            self.start().await;
        }
    }

    /// As if it had been asleep for so long.
    pub(super) async fn ages(&self, space: GroupId, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap();
        let aged: Result<(), StoreError> = self
            .session
            .vault
            .write(move |tx| Box::pin(async move { mls::age_states(tx.conn(), space, by).await }))
            .await;
        aged.unwrap();
    }

    /// What it held against others: nobody here does anything wrong.
    pub(super) fn offences(&self) -> Vec<String> {
        let text = self.metrics.encode();
        let counts = text.lines().filter(|line| line.starts_with("spacepanda_peer_input_rejected_total"));
        counts.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect()
    }
}

fn key() -> VaultKey {
    VaultKey::new(Zeroizing::new(KEY))
}

fn config() -> NetworkConfig {
    NetworkConfig { listen: Address::parse("/ip4/127.0.0.1/tcp/0").unwrap(), announce: Vec::new() }
}
