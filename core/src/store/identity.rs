//! Who the account of a vault is: its keys, its names, and the names of its logins.
//!
//! Its secrets exist in the vault and in the session's memory, nowhere else.

use ed25519_dalek::SigningKey;
use sqlx::{Row as _, SqliteConnection, query, query_scalar};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize as _, Zeroizing};

use super::{StoreError, WriteTx};
use crate::{certificate::Certificate, clock::random, id::DeviceId};

/// What precedes an Ed25519 public key in a libp2p peer id: an identity multihash of a protobuf key.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// An account's keys and names. Prints nothing.
#[derive(Clone)]
pub struct Identity {
    /// The person's key: signs certificates only.
    pub account: SigningKey,
    /// The device's key: its MLS leaf and its events.
    pub device: SigningKey,
    /// Seed of the router's Ed25519 key.
    pub peer_secret: Zeroizing<[u8; 32]>,
    /// X25519 secret of the letter box.
    pub letter_secret: Zeroizing<[u8; 32]>,
    /// Ties the four together.
    pub certificate: Certificate,
    /// Folded user name.
    pub username: String,
    /// Shown name.
    pub display_name: String,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// The router's TCP port; 0 until it first listened.
    pub listen_port: u16,
}

impl Identity {
    /// New keys for a new account.
    pub fn generate(username: &str, display_name: &str, now_ms: i64) -> Self {
        let account = SigningKey::from_bytes(&random());
        let device = SigningKey::from_bytes(&random());
        let peer_secret = random();
        let letter_secret = random();
        let letter_key = PublicKey::from(&StaticSecret::from(*letter_secret)).to_bytes();
        let certificate = Certificate::issue(
            &account,
            DeviceId(device.verifying_key().to_bytes()),
            peer_id(&peer_secret),
            letter_key,
            now_ms.try_into().unwrap_or(0),
        );
        Self {
            account,
            device,
            peer_secret,
            letter_secret,
            certificate,
            username: username.to_owned(),
            display_name: display_name.to_owned(),
            created_at_ms: now_ms,
            listen_port: 0,
        }
    }

    /// Writes it into a new vault.
    ///
    /// # Errors
    /// [`StoreError`]; the vault has one already.
    pub async fn insert(&self, tx: &mut WriteTx<'_>) -> Result<(), StoreError> {
        query(
            "INSERT INTO identity (id, account_secret, device_secret, peer_secret, letter_secret,
                                   certificate, username, display_name, created_at, listen_port)
             VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(self.account.as_bytes().as_slice())
        .bind(self.device.as_bytes().as_slice())
        .bind(self.peer_secret.as_slice())
        .bind(self.letter_secret.as_slice())
        .bind(self.certificate.encoded())
        .bind(&self.username)
        .bind(&self.display_name)
        .bind(self.created_at_ms)
        .bind(self.listen_port)
        .execute(tx.conn())
        .await?;
        Ok(())
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is missing or not what was written.
    pub async fn load(connection: &mut SqliteConnection) -> Result<Self, StoreError> {
        let row = query(
            "SELECT account_secret, device_secret, peer_secret, letter_secret, certificate, username,
                    display_name, created_at, listen_port FROM identity WHERE id = 1",
        )
        .fetch_optional(connection)
        .await?
        .ok_or(StoreError::Corrupt)?;
        let certificate =
            Certificate::decode(row.try_get("certificate")?).map_err(|_| StoreError::Corrupt)?;
        Ok(Self {
            account: SigningKey::from_bytes(&*secret(row.try_get("account_secret")?)?),
            device: SigningKey::from_bytes(&*secret(row.try_get("device_secret")?)?),
            peer_secret: secret(row.try_get("peer_secret")?)?,
            letter_secret: secret(row.try_get("letter_secret")?)?,
            certificate,
            username: row.try_get("username")?,
            display_name: row.try_get("display_name")?,
            created_at_ms: row.try_get("created_at")?,
            listen_port: row.try_get("listen_port")?,
        })
    }
}

/// The account's shown name.
///
/// # Errors
/// [`StoreError`].
pub async fn display_name(connection: &mut SqliteConnection) -> Result<String, StoreError> {
    Ok(query_scalar("SELECT display_name FROM identity WHERE id = 1").fetch_one(connection).await?)
}

/// Keeps the port that the router got, for the next start.
///
/// # Errors
/// [`StoreError`].
pub async fn set_listen_port(tx: &mut WriteTx<'_>, port: u16) -> Result<(), StoreError> {
    query("UPDATE identity SET listen_port = ? WHERE id = 1").bind(port).execute(tx.conn()).await?;
    Ok(())
}

/// Remembers what a login is called.
///
/// # Errors
/// [`StoreError`].
pub async fn insert_login(
    tx: &mut WriteTx<'_>,
    session: [u8; 16],
    device_name: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    query("INSERT INTO login (session_id, device_name, created_at) VALUES (?, ?, ?)")
        .bind(session.as_slice())
        .bind(device_name)
        .bind(now_ms)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Forgets the names of all logins but these.
///
/// # Errors
/// [`StoreError`].
pub async fn retain_logins(tx: &mut WriteTx<'_>, sessions: &[[u8; 16]]) -> Result<(), StoreError> {
    let known: Vec<Vec<u8>> = query_scalar("SELECT session_id FROM login").fetch_all(tx.conn()).await?;
    for gone in known.iter().filter(|known| !sessions.iter().any(|kept| kept == known.as_slice())) {
        query("DELETE FROM login WHERE session_id = ?").bind(gone).execute(tx.conn()).await?;
    }
    Ok(())
}

fn secret(mut stored: Vec<u8>) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let secret = <[u8; 32]>::try_from(stored.as_slice()).map(Zeroizing::new);
    stored.zeroize();
    secret.map_err(|_| StoreError::Corrupt)
}

fn peer_id(peer_secret: &[u8; 32]) -> Vec<u8> {
    let public = SigningKey::from_bytes(peer_secret).verifying_key();
    [PEER_ID_PREFIX.as_slice(), public.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::VaultKey, store::Vault};

    async fn vault() -> (tempfile::TempDir, Vault) {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::create(
            &directory.path().join("a.db"),
            &VaultKey::new(random()),
            &crate::metrics::Metrics::default(),
        )
        .await
        .unwrap();
        (directory, vault)
    }

    async fn logins(vault: &Vault) -> Vec<String> {
        let mut reader = vault.read().await.unwrap();
        query_scalar("SELECT device_name FROM login ORDER BY device_name")
            .fetch_all(reader.conn())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn an_identity_is_read_as_it_was_written() {
        let (_directory, vault) = vault().await;
        let written = Identity::generate("ann", "Ann", 5);
        let stored = written.clone();
        let step = vault.write(|tx| {
            Box::pin(async move {
                stored.insert(tx).await?;
                set_listen_port(tx, 4_001).await
            })
        });
        step.await.unwrap();
        let read = Identity::load(vault.read().await.unwrap().conn()).await.unwrap();
        assert!(read.account == written.account && read.device == written.device);
        assert!(read.peer_secret == written.peer_secret && read.letter_secret == written.letter_secret);
        assert!(read.certificate == written.certificate);
        assert_eq!((read.username.as_str(), read.display_name.as_str()), ("ann", "Ann"));
        assert_eq!((read.created_at_ms, read.listen_port), (5, 4_001));
    }

    #[tokio::test]
    async fn a_vault_without_an_identity_is_corrupt() {
        let (_directory, vault) = vault().await;
        let loaded = Identity::load(vault.read().await.unwrap().conn()).await;
        assert_eq!(loaded.err(), Some(StoreError::Corrupt));
    }

    #[test]
    fn the_certificate_names_the_router_and_the_letter_box() {
        let identity = Identity::generate("ann", "Ann", 5);
        let router = libp2p::identity::Keypair::ed25519_from_bytes(*identity.peer_secret).unwrap();
        assert_eq!(identity.certificate.peer_id, router.public().to_peer_id().to_bytes());
        let letter_box = StaticSecret::from(*identity.letter_secret);
        assert_eq!(identity.certificate.letter_key, PublicKey::from(&letter_box).to_bytes());
        assert_eq!(identity.certificate.device.0, identity.device.verifying_key().to_bytes());
        assert_eq!(identity.certificate.account.0, identity.account.verifying_key().to_bytes());
    }

    #[tokio::test]
    async fn logins_that_ended_are_forgotten() {
        let (_directory, vault) = vault().await;
        let step = vault.write(|tx| {
            Box::pin(async move {
                insert_login(tx, [1; 16], "phone", 1).await?;
                insert_login(tx, [2; 16], "laptop", 2).await?;
                retain_logins(tx, &[[2; 16], [3; 16]]).await
            })
        });
        step.await.unwrap();
        assert_eq!(logins(&vault).await, ["laptop"]);
    }
}
