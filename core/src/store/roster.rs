//! Who was in a state: kept with it for good.

use sqlx::SqliteConnection;

use super::StoreError;
use crate::{
    dag::Roster,
    id::{AccountId, DeviceId, GroupId, StateId},
};

/// Whether a device was in a state; nothing of a state that is not known here.
///
/// # Errors
/// [`StoreError`]
pub async fn is_in_roster(
    conn: &mut SqliteConnection,
    gid: GroupId,
    sid: StateId,
    device: DeviceId,
) -> Result<Option<bool>, StoreError> {
    let roster: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT roster FROM mls_state WHERE gid = ? AND sid = ?")
            .bind(gid.as_bytes())
            .bind(sid.as_bytes())
            .fetch_optional(conn)
            .await?;
    roster.map(|roster| Ok(roster_from(&roster)?.devices().any(|member| *member == device))).transpose()
}

/// The stored form: account and device key of every leaf, 64 bytes each.
pub(super) fn roster_bytes(roster: &Roster) -> Vec<u8> {
    roster.members().flat_map(|(account, device)| [account.0, device.0].concat()).collect()
}

/// From the stored form.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub(super) fn roster_from(bytes: &[u8]) -> Result<Roster, StoreError> {
    let (members, rest) = bytes.as_chunks::<64>();
    if !rest.is_empty() {
        return Err(StoreError::Corrupt);
    }
    members
        .iter()
        .map(|member| {
            let (account, device) = member.split_at(32);
            Ok((AccountId::try_from(account)?, DeviceId::try_from(device)?))
        })
        .collect()
}
