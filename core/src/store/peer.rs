//! Peers: who answers at which peer id, and where it was reached.

use sqlx::SqliteConnection;

use super::StoreError;
use crate::{
    certificate::Certificate,
    clock::time_from_ms,
    id::{AccountId, DeviceId},
    model::{Peer, PeerState},
    router::{Address, PeerId},
};

/// At most this many addresses are kept for a peer.
const MAX_ADDRESSES: i64 = 16;

/// A peer's certificate was checked on a connection.
///
/// # Errors
/// [`StoreError`]
pub async fn note_certificate(
    conn: &mut SqliteConnection,
    certificate: &Certificate,
    outbound: bool,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO peer (peer_id, account, device, certificate, outbound, last_seen_at) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT (peer_id) DO UPDATE SET account = excluded.account, device = excluded.device, \
         certificate = excluded.certificate, outbound = excluded.outbound, last_seen_at = excluded.last_seen_at",
    )
    .bind(&certificate.peer_id)
    .bind(certificate.account.as_bytes())
    .bind(certificate.device.as_bytes())
    .bind(certificate.encoded())
    .bind(outbound)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// A peer that a certificate names without a connection: a fellow member.
///
/// # Errors
/// [`StoreError`]
pub async fn note_member(conn: &mut SqliteConnection, certificate: &Certificate) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO peer (peer_id, account, device, certificate) VALUES (?, ?, ?, ?) \
         ON CONFLICT (peer_id) DO UPDATE SET account = excluded.account, device = excluded.device, \
         certificate = excluded.certificate",
    )
    .bind(&certificate.peer_id)
    .bind(certificate.account.as_bytes())
    .bind(certificate.device.as_bytes())
    .bind(certificate.encoded())
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks when the peer's last connection ended.
///
/// # Errors
/// [`StoreError`]
pub async fn note_seen(conn: &mut SqliteConnection, peer: &PeerId, now: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE peer SET last_seen_at = ? WHERE peer_id = ?")
        .bind(now)
        .bind(peer.to_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// Keeps redialling this peer (or not).
///
/// # Errors
/// [`StoreError`]
pub async fn pin(conn: &mut SqliteConnection, peer: &PeerId, pinned: bool) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO peer (peer_id, pinned) VALUES (?, ?) ON CONFLICT (peer_id) DO UPDATE SET pinned = excluded.pinned")
        .bind(peer.to_bytes())
        .bind(pinned)
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets a peer and its addresses.
///
/// # Errors
/// [`StoreError`]
pub async fn forget(conn: &mut SqliteConnection, peer: &PeerId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM peer_address WHERE peer_id = ?")
        .bind(peer.to_bytes())
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM peer WHERE peer_id = ?").bind(peer.to_bytes()).execute(conn).await?;
    Ok(())
}

/// Adds an address at which the peer was reached or is said to be; the newest 16 are kept.
///
/// # Errors
/// [`StoreError`]
pub async fn add_address(
    conn: &mut SqliteConnection,
    peer: &[u8],
    address: &Address,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO peer_address (peer_id, address, learnt_at) VALUES (?, ?, ?)")
        .bind(peer)
        .bind(address.to_bytes())
        .bind(now)
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "DELETE FROM peer_address WHERE peer_id = ?1 AND address NOT IN \
         (SELECT address FROM peer_address WHERE peer_id = ?1 ORDER BY learnt_at DESC, address LIMIT ?2)",
    )
    .bind(peer)
    .bind(MAX_ADDRESSES)
    .execute(conn)
    .await?;
    Ok(())
}

/// Replaces a peer's addresses by the ones it signed.
///
/// # Errors
/// [`StoreError`]
pub async fn set_addresses(
    conn: &mut SqliteConnection,
    peer: &[u8],
    addresses: &[Address],
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM peer_address WHERE peer_id = ?").bind(peer).execute(&mut *conn).await?;
    for address in addresses {
        add_address(conn, peer, address, now).await?;
    }
    Ok(())
}

/// A peer's addresses, newest first.
///
/// # Errors
/// [`StoreError`]
pub async fn addresses(conn: &mut SqliteConnection, peer: &[u8]) -> Result<Vec<Address>, StoreError> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT address FROM peer_address WHERE peer_id = ? ORDER BY learnt_at DESC, address",
    )
    .bind(peer)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|bytes| Address::from_bytes(bytes).map_err(|_| StoreError::Corrupt)).collect()
}

/// Peers that something here needs: pinned ones, fellow members, and devices that something waits for.
macro_rules! needed {
    ($select:literal, $tail:literal) => {
        concat!(
            $select,
            " (p.pinned = 1 \
             OR EXISTS (SELECT 1 FROM outbox o WHERE o.kind IN ('letter', 'farewell') AND o.ref = p.device) \
             OR EXISTS (SELECT 1 FROM member m JOIN mls_group g USING (gid) WHERE m.device = p.device AND m.account = p.account \
                        AND m.left_epoch IS NULL AND g.status IN ('active', 'leaving'))) ",
            $tail
        )
    };
}

/// The peers to keep connections to: all that something here needs.
///
/// # Errors
/// [`StoreError`]
pub async fn wanted(conn: &mut SqliteConnection, own_device: DeviceId) -> Result<Vec<PeerId>, StoreError> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(needed!(
        "SELECT p.peer_id FROM peer p WHERE",
        "AND p.device IS NOT ? ORDER BY p.peer_id"
    ))
    .bind(own_device.as_bytes())
    .fetch_all(conn)
    .await?;
    rows.iter().map(|bytes| PeerId::from_bytes(bytes).map_err(|_| StoreError::Corrupt)).collect()
}

/// Whether nobody here asked for this peer: it dialled in, and nothing needs it.
///
/// # Errors
/// [`StoreError`]
pub async fn is_stranger(conn: &mut SqliteConnection, peer: &[u8]) -> Result<bool, StoreError> {
    let known: Option<i64> =
        sqlx::query_scalar(needed!("SELECT 1 FROM peer p WHERE p.peer_id = ? AND (p.outbound = 1 OR", ")"))
            .bind(peer)
            .fetch_optional(conn)
            .await?;
    Ok(known.is_none())
}

/// Forgets the peers that nothing needs, but the `keep` last seen.
///
/// # Errors
/// [`StoreError`]
pub async fn drop_strangers(conn: &mut SqliteConnection, keep: u32) -> Result<(), StoreError> {
    let gone: Vec<Vec<u8>> = sqlx::query_scalar(needed!(
        "DELETE FROM peer WHERE peer_id IN (SELECT p.peer_id FROM peer p WHERE NOT",
        "ORDER BY COALESCE(p.last_seen_at, 0) DESC, p.peer_id LIMIT -1 OFFSET ?) RETURNING peer_id"
    ))
    .bind(keep)
    .fetch_all(&mut *conn)
    .await?;
    for peer in gone {
        sqlx::query("DELETE FROM peer_address WHERE peer_id = ?").bind(peer).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Whether a shared space needs this peer.
///
/// # Errors
/// [`StoreError`]
pub async fn is_fellow_member(conn: &mut SqliteConnection, peer: &PeerId) -> Result<bool, StoreError> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM peer p JOIN member m ON m.device = p.device AND m.account = p.account \
         JOIN mls_group g USING (gid) WHERE p.peer_id = ? AND m.left_epoch IS NULL AND g.status IN ('active', 'leaving') LIMIT 1",
    )
    .bind(peer.to_bytes())
    .fetch_optional(conn)
    .await?;
    Ok(found.is_some())
}

/// Whether a certificate names a device that is or was a member for another account: its account's word
/// alone does not make it that member.
///
/// # Errors
/// [`StoreError`]
pub async fn is_anothers_device(
    conn: &mut SqliteConnection,
    certificate: &Certificate,
) -> Result<bool, StoreError> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM member WHERE device = ? AND account <> ? LIMIT 1")
            .bind(certificate.device.as_bytes())
            .bind(certificate.account.as_bytes())
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// Groups that a certificate's device is a current member of for its account, besides this one.
///
/// # Errors
/// [`StoreError`]
pub async fn shared_groups(
    conn: &mut SqliteConnection,
    certificate: &Certificate,
) -> Result<Vec<crate::id::GroupId>, StoreError> {
    groups(conn, certificate, false).await
}

/// The same, and those that it was a member of before.
///
/// # Errors
/// [`StoreError`]
pub async fn common_groups(
    conn: &mut SqliteConnection,
    certificate: &Certificate,
) -> Result<Vec<crate::id::GroupId>, StoreError> {
    groups(conn, certificate, true).await
}

async fn groups(
    conn: &mut SqliteConnection,
    certificate: &Certificate,
    with_former: bool,
) -> Result<Vec<crate::id::GroupId>, StoreError> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT m.gid FROM member m JOIN mls_group g USING (gid) \
         WHERE m.device = ? AND m.account = ? AND (m.left_epoch IS NULL OR ?) \
         AND g.status IN ('active', 'leaving')",
    )
    .bind(certificate.device.as_bytes())
    .bind(certificate.account.as_bytes())
    .bind(with_former)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|gid| Ok(crate::id::GroupId::try_from(&**gid)?)).collect()
}

/// A known peer; the state of the link is filled in by whoever knows it.
///
/// # Errors
/// [`StoreError`]
pub async fn peer(conn: &mut SqliteConnection, peer: &[u8]) -> Result<Option<Peer>, StoreError> {
    let row: Option<(Option<Vec<u8>>, bool, Option<i64>)> =
        sqlx::query_as("SELECT account, outbound, last_seen_at FROM peer WHERE peer_id = ?")
            .bind(peer)
            .fetch_optional(&mut *conn)
            .await?;
    let Some((account, outbound, last_seen_at)) = row else { return Ok(None) };
    let addresses = addresses(conn, peer).await?;
    let peer_id = PeerId::from_bytes(peer).map_err(|_| StoreError::Corrupt)?;
    Ok(Some(Peer {
        peer_id: peer_id.to_string(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        state: PeerState::Disconnected,
        outbound,
        round_trip_ms: None,
        account: account.map(|bytes| AccountId::try_from(&*bytes)).transpose()?,
        last_seen_at: last_seen_at.map(time_from_ms),
    }))
}

/// All known peers, in a fixed order.
///
/// # Errors
/// [`StoreError`]
pub async fn peers(conn: &mut SqliteConnection) -> Result<Vec<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar("SELECT peer_id FROM peer ORDER BY peer_id").fetch_all(conn).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::random, keys::VaultKey, metrics::Metrics, store::Vault};

    fn id(n: u8) -> PeerId {
        PeerId::of_secret(&[n; 32]).unwrap()
    }

    #[tokio::test]
    async fn strangers_are_few_and_the_last_seen_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v.db");
        let vault = Vault::create(&path, &VaultKey::new(random()), &Metrics::default()).await.unwrap();
        let done: Result<(), StoreError> = vault
            .write(|tx| {
                Box::pin(async move {
                    let conn = tx.conn();
                    for n in 0..6 {
                        pin(conn, &id(n), n == 0).await?;
                        note_seen(conn, &id(n), i64::from(n)).await?;
                        add_address(conn, &id(n).to_bytes(), &Address::tcp([10, 0, 0, n].into(), 1), 1)
                            .await?;
                    }
                    drop_strangers(conn, 2).await?;
                    for (n, stays) in [(0, true), (1, false), (3, false), (4, true), (5, true)] {
                        let bytes = id(n).to_bytes();
                        assert_eq!(peer(conn, &bytes).await?.is_some(), stays, "{n}");
                        assert_eq!(addresses(conn, &bytes).await?.len(), usize::from(stays), "{n}");
                    }
                    assert!(!is_stranger(conn, &id(0).to_bytes()).await?, "pinned");
                    assert!(is_stranger(conn, &id(5).to_bytes()).await?);
                    assert!(is_stranger(conn, &id(99).to_bytes()).await?, "never heard of");
                    Ok(())
                })
            })
            .await;
        done.unwrap();
    }
}
