//! Roles that changed: what an account may do now, and what it might do in an earlier state.

use sqlx::SqliteConnection;

use super::{StoreError, space::role_from};
use crate::{
    id::{AccountId, GroupId, StateId},
    model::Role,
};

/// Sets the role that an account, member or former one, has from a state on. False when it is no change,
/// or the account was never there.
///
/// # Errors
/// [`StoreError`]
pub async fn set(
    conn: &mut SqliteConnection,
    gid: GroupId,
    account: AccountId,
    sid: StateId,
    role: Role,
) -> Result<bool, StoreError> {
    let was: Option<i64> = sqlx::query_scalar(
        "SELECT role FROM member WHERE gid = ? AND account = ? \
         ORDER BY left_epoch IS NOT NULL, joined_epoch DESC LIMIT 1",
    )
    .bind(gid.as_bytes())
    .bind(account.as_bytes())
    .fetch_optional(&mut *conn)
    .await?;
    let Some(was) = was.filter(|was| *was != role as i64) else { return Ok(false) };
    sqlx::query("INSERT OR REPLACE INTO role_change (gid, account, sid, was, role) VALUES (?, ?, ?, ?, ?)")
        .bind(gid.as_bytes())
        .bind(account.as_bytes())
        .bind(sid.as_bytes())
        .bind(was)
        .bind(role as i64)
        .execute(&mut *conn)
        .await?;
    sqlx::query("UPDATE member SET role = ? WHERE gid = ? AND account = ?")
        .bind(role as i64)
        .bind(gid.as_bytes())
        .bind(account.as_bytes())
        .execute(conn)
        .await?;
    Ok(true)
}

/// The role of an account in a state; `None` where it never changed or the state is not known here.
///
/// # Errors
/// [`StoreError`]
pub async fn at(
    conn: &mut SqliteConnection,
    gid: GroupId,
    account: AccountId,
    sid: StateId,
) -> Result<Option<Role>, StoreError> {
    let first: Option<i64> = sqlx::query_scalar(
        "SELECT was FROM role_change JOIN mls_state USING (gid, sid) WHERE gid = ? AND account = ? \
         ORDER BY epoch LIMIT 1",
    )
    .bind(gid.as_bytes())
    .bind(account.as_bytes())
    .fetch_optional(&mut *conn)
    .await?;
    let Some(first) = first else { return Ok(None) };
    // Up from the state to the latest change that led to it.
    let path: Vec<Option<i64>> = sqlx::query_scalar(
        "WITH RECURSIVE path (sid, parent, depth) AS ( \
           SELECT sid, parent_sid, 0 FROM mls_state WHERE gid = ?1 AND sid = ?3 \
           UNION ALL \
           SELECT s.sid, s.parent_sid, path.depth + 1 FROM path \
             JOIN mls_state s ON s.gid = ?1 AND s.sid = path.parent) \
         SELECT role FROM path LEFT JOIN role_change r \
           ON r.gid = ?1 AND r.account = ?2 AND r.sid = path.sid \
         ORDER BY role IS NULL, depth LIMIT 1",
    )
    .bind(gid.as_bytes())
    .bind(account.as_bytes())
    .bind(sid.as_bytes())
    .fetch_all(conn)
    .await?;
    path.first().map(|latest| role_from(latest.unwrap_or(first))).transpose()
}
