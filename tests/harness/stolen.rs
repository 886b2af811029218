//! A thief with a copy of a data directory and a session token: everything an account ever held.
//!
//! Works on copies, or on files of a stopped server; it must never open those of a running one.

use std::{fs, path::Path};

use spacepanda_core::{
    group::{identity::DeviceIdentity, state::GroupState},
    id::GroupId,
    keys::{SessionToken, TOKEN, unwrap_with_key},
    metrics::Metrics,
    reconcile::first_place,
    store::{StoreError, Vault, frame_set, identity::Identity, key_package, mls, server::ServerStore},
};
use tempfile::TempDir;

use super::client::Person;

/// Copies a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("readable").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.path().is_file() {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// A copy of a stopped server's data directory, with one account's vault open.
pub(crate) struct Stolen {
    vault: Vault,
    _directory: TempDir,
}

impl Stolen {
    /// Copies and opens it; the person's server must be stopped.
    pub(crate) async fn from(person: &Person) -> Self {
        let directory = TempDir::with_prefix("spacepanda-stolen-").expect("a directory");
        copy(&person.server.data_dir(), directory.path());
        Self { vault: open(person, directory.path()).await, _directory: directory }
    }

    /// Every key of the account's device.
    pub(crate) async fn identity(&self) -> Identity {
        let mut reader = self.vault.read().await.expect("a reader");
        Identity::load(reader.conn()).await.expect("an identity")
    }

    /// The device as MLS knows it.
    pub(crate) async fn device(&self) -> DeviceIdentity {
        let identity = self.identity().await;
        DeviceIdentity::new(identity.device, identity.certificate)
    }

    /// How many private keys of KeyPackages it holds.
    pub(crate) async fn key_package_rows(&self, gid: GroupId) -> usize {
        let mut reader = self.vault.read().await.expect("a reader");
        key_package::load(reader.conn(), gid).await.expect("rows").all().count()
    }

    /// How many frames of a space it keeps, or kept.
    pub(crate) async fn kept_frames(&self, space: &str) -> usize {
        let gid = GroupId(uuid::Uuid::parse_str(space).expect("a space id").into_bytes());
        let mut reader = self.vault.read().await.expect("a reader");
        let places = frame_set::places(reader.conn(), gid, first_place(0), usize::MAX).await;
        places.expect("places").len()
    }

    /// Every group state that can be made of its rows.
    pub(crate) async fn states(&self) -> Vec<GroupState> {
        let mut reader = self.vault.read().await.expect("a reader");
        let mut states = Vec::new();
        for (gid, sid) in mls::states_with_rows(reader.conn()).await.expect("states") {
            let rows = mls::load_rows(reader.conn(), gid, sid).await.expect("rows");
            states.push(GroupState::load(gid, rows).unwrap_or_else(|error| panic!("a state: {error}")));
        }
        states
    }
}

/// Opens a person's vault in a data directory that no server uses.
async fn open(person: &Person, directory: &Path) -> Vault {
    let token = SessionToken::parse(&person.session.session_token).expect("a token");
    let server = ServerStore::open(&directory.join("server.db")).await.expect("server.db");
    let login = server.token(&token.hash(), 0).await.expect("read").expect("the login");
    server.close().await;
    let key = unwrap_with_key(&login.wrap, TOKEN, token.as_bytes())
        .unwrap_or_else(|error| panic!("the vault's key: {error}"));
    let path = directory.join("vaults").join(format!("{}.db", hex::encode(login.vault.0)));
    Vault::open(&path, &key, &Metrics::default()).await.unwrap_or_else(|error| panic!("the vault: {error}"))
}

/// Takes from a stopped server all frames that it keeps for others, as if they had grown old: what people
/// wrote stays.
pub(crate) async fn drop_kept_frames(person: &Person) {
    let vault = open(person, &person.server.data_dir()).await;
    let dropped: Result<(), StoreError> = vault
        .write(|tx| Box::pin(async move { frame_set::drop_old(tx.conn(), i64::MAX, i64::MIN).await }))
        .await;
    dropped.expect("dropped");
    vault.close().await;
}
