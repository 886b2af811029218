//! The states of all branches of a group, and what members say they follow.

use std::{collections::HashMap, sync::Arc};

use sqlx::SqliteConnection;

use super::{
    StoreError,
    roster::{roster_bytes, roster_from},
};
use crate::{
    dag::{Class, Dag, Equivocation, Held, Node, Roster, Support},
    group::state::StateFacts,
    id::{CommitId, DeviceId, EventId, GroupId, StateId},
};

/// One root a membership: whoever comes back by a Welcome begins anew.
const FIRST_ENTRY: u64 = 1;
/// States this many commits behind the head are not looked at: what they lead to was chosen long ago, and
/// their secrets are gone.
const DEPTH: u64 = 128;

/// The epoch of the state in which this device founded the group or was last welcomed into it.
///
/// # Errors
/// [`StoreError`]
pub async fn entered(conn: &mut SqliteConnection, gid: GroupId) -> Result<Option<u64>, StoreError> {
    let epoch: Option<i64> = sqlx::query_scalar(
        "SELECT s.epoch FROM mls_group g JOIN mls_state s ON s.gid = g.gid AND s.sid = g.root_sid \
         WHERE g.gid = ?",
    )
    .bind(gid.as_bytes())
    .fetch_optional(conn)
    .await?;
    Ok(epoch.map(i64::cast_unsigned))
}

/// Everything the choice of a group's head is made from; `None` for a group that was never entered.
///
/// # Errors
/// [`StoreError`]
pub async fn load(
    conn: &mut SqliteConnection,
    gid: GroupId,
    own: DeviceId,
) -> Result<Option<Dag>, StoreError> {
    let found: Option<(Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT root_sid, head_sid FROM mls_group WHERE gid = ?")
            .bind(gid.as_bytes())
            .fetch_optional(&mut *conn)
            .await?;
    let Some((root, head)) = found else { return Ok(None) };
    let (root, head) = (StateId::try_from(&*root)?, StateId::try_from(&*head)?);
    let nodes = nodes(conn, gid, head, own).await?;
    let base = base(&nodes, root, head);
    let mut dag = Dag::new(gid, own);
    for node in nodes {
        // What hangs on a root of an earlier membership leads nowhere any more.
        if node.sid == base {
            dag.enter(Node { parent: None, ..node }, FIRST_ENTRY);
        } else {
            dag.insert(node);
        }
    }
    for proof in proofs(conn, gid).await? {
        dag.convict(proof);
    }
    for support in supports(conn, gid).await? {
        dag.support(support);
    }
    Ok(Some(dag))
}

/// The first state on the way to the head that is not too far behind it.
fn base(nodes: &[Node], root: StateId, head: StateId) -> StateId {
    let parents: HashMap<StateId, Option<StateId>> =
        nodes.iter().map(|node| (node.sid, node.parent.filter(|_| node.sid != root))).collect();
    let up = |sid: &StateId| parents.get(sid).copied().flatten().filter(|up| parents.contains_key(up));
    std::iter::successors(Some(head), up).last().unwrap_or(root)
}

async fn nodes(
    conn: &mut SqliteConnection,
    gid: GroupId,
    head: StateId,
    own: DeviceId,
) -> Result<Vec<Node>, StoreError> {
    type Row =
        (Vec<u8>, Option<Vec<u8>>, i64, Option<Vec<u8>>, Option<Vec<u8>>, u8, Vec<u8>, bool, Option<i64>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT sid, parent_sid, epoch, commit_id, committer, class, roster, opaque, pruned_at FROM mls_state \
         WHERE gid = ?1 AND epoch + ?3 >= (SELECT epoch FROM mls_state WHERE gid = ?1 AND sid = ?2)",
    )
    .bind(gid.as_bytes())
    .bind(head.as_bytes())
    .bind(DEPTH.cast_signed())
    .fetch_all(conn)
    .await?;
    // Most commits leave the members as they were.
    let mut rosters: HashMap<Vec<u8>, Arc<Roster>> = HashMap::new();
    rows.into_iter()
        .map(|(sid, parent, epoch, commit, committer, class, members, opaque, pruned)| {
            let roster = match rosters.get(&members) {
                Some(roster) => Arc::clone(roster),
                None => Arc::new(roster_from(&members)?),
            };
            rosters.insert(members, Arc::clone(&roster));
            Ok(Node {
                sid: StateId::try_from(&*sid)?,
                parent: parent.as_deref().map(StateId::try_from).transpose()?,
                epoch: epoch.cast_unsigned(),
                commit: commit.map_or(Ok(CommitId([0; 32])), |id| CommitId::try_from(&*id))?,
                committer: committer.map_or(Ok(own), |device| DeviceId::try_from(&*device))?,
                class: Class::try_from(class).map_err(|_| StoreError::Corrupt)?,
                roster,
                held: match (opaque, pruned) {
                    (true, _) => Held::Opaque,
                    (false, Some(_)) => Held::Pruned,
                    (false, None) => Held::Live,
                },
            })
        })
        .collect()
}

async fn supports(conn: &mut SqliteConnection, gid: GroupId) -> Result<Vec<Support>, StoreError> {
    type Row = (Vec<u8>, i64, Vec<u8>, Vec<u8>);
    let rows: Vec<Row> = sqlx::query_as("SELECT device, counter, sid, signature FROM support WHERE gid = ?")
        .bind(gid.as_bytes())
        .fetch_all(conn)
        .await?;
    rows.iter().map(|(device, counter, sid, signature)| support(device, *counter, sid, signature)).collect()
}

fn support(device: &[u8], counter: i64, sid: &[u8], signature: &[u8]) -> Result<Support, StoreError> {
    Ok(Support {
        device: DeviceId::try_from(device)?,
        counter: counter.cast_unsigned(),
        sid: StateId::try_from(sid)?,
        signature: signature.try_into().map_err(|_| StoreError::Corrupt)?,
    })
}

async fn proofs(conn: &mut SqliteConnection, gid: GroupId) -> Result<Vec<Equivocation>, StoreError> {
    type Row = (Vec<u8>, i64, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT device, counter, first_sid, first_signature, second_sid, second_signature \
         FROM equivocation WHERE gid = ?",
    )
    .bind(gid.as_bytes())
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|(device, counter, first, first_signature, second, second_signature)| {
            let first = support(device, *counter, first, first_signature)?;
            let second = support(device, *counter, second, second_signature)?;
            Equivocation::new(first, second).map_err(|_| StoreError::Corrupt)
        })
        .collect()
}

/// Stores the state that this device founded the group with, or was welcomed into.
///
/// # Errors
/// [`StoreError`]
pub async fn insert_root(
    conn: &mut SqliteConnection,
    facts: &StateFacts,
    now: i64,
) -> Result<(), StoreError> {
    let row = Inserted {
        gid: facts.gid,
        sid: facts.sid,
        parent: None,
        epoch: facts.epoch,
        commit: None,
        class: Class::Update,
        roster: &facts.standing.members(),
        secrets: Some(facts),
    };
    insert(conn, &row, now).await
}

/// Stores a state that a checked commit led to; `facts` unless its secret does not open here.
///
/// # Errors
/// [`StoreError`]
pub async fn insert_child(
    conn: &mut SqliteConnection,
    gid: GroupId,
    node: &Node,
    facts: Option<&StateFacts>,
    now: i64,
) -> Result<(), StoreError> {
    let row = Inserted {
        gid,
        sid: node.sid,
        parent: node.parent,
        epoch: node.epoch,
        commit: Some((node.commit, node.committer)),
        class: node.class,
        roster: &node.roster,
        secrets: facts,
    };
    insert(conn, &row, now).await
}

struct Inserted<'a> {
    gid: GroupId,
    sid: StateId,
    parent: Option<StateId>,
    epoch: u64,
    commit: Option<(CommitId, DeviceId)>,
    class: Class,
    roster: &'a Roster,
    secrets: Option<&'a StateFacts>,
}

async fn insert(conn: &mut SqliteConnection, row: &Inserted<'_>, now: i64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO mls_state (gid, sid, parent_sid, epoch, commit_id, committer, class, roster, opaque, \
         env_tag, check_value, adopted_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (gid, sid) DO UPDATE SET opaque = 0, env_tag = excluded.env_tag, \
         check_value = excluded.check_value, adopted_at = excluded.adopted_at \
         WHERE mls_state.opaque AND NOT excluded.opaque",
    )
    .bind(row.gid.as_bytes())
    .bind(row.sid.as_bytes())
    .bind(row.parent.as_ref().map(StateId::as_bytes))
    .bind(row.epoch.cast_signed())
    .bind(row.commit.as_ref().map(|(id, _)| id.as_bytes()))
    .bind(row.commit.as_ref().map(|(_, device)| device.as_bytes()))
    .bind(row.class as u8)
    .bind(roster_bytes(row.roster))
    .bind(row.secrets.is_none())
    // Frames of a state without secrets cannot be named.
    .bind(row.secrets.map(|facts| facts.env_tag.as_slice()).unwrap_or_default())
    .bind(row.secrets.map(|facts| facts.check.as_slice()).unwrap_or_default())
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// Stores a device's newest Support.
///
/// # Errors
/// [`StoreError`]
pub async fn hear(conn: &mut SqliteConnection, gid: GroupId, support: &Support) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO support (gid, device, counter, sid, signature) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (gid, device) DO UPDATE SET counter = excluded.counter, sid = excluded.sid, \
         signature = excluded.signature WHERE excluded.counter > support.counter",
    )
    .bind(gid.as_bytes())
    .bind(support.device.as_bytes())
    .bind(support.counter.cast_signed())
    .bind(support.sid.as_bytes())
    .bind(support.signature.as_slice())
    .execute(conn)
    .await?;
    Ok(())
}

/// Stores the proof that a device supported two states at once.
///
/// # Errors
/// [`StoreError`]
pub async fn convict(
    conn: &mut SqliteConnection,
    gid: GroupId,
    proof: &Equivocation,
) -> Result<(), StoreError> {
    let [first, second] = proof.supports();
    sqlx::query(
        "INSERT OR IGNORE INTO equivocation \
         (gid, device, counter, first_sid, first_signature, second_sid, second_signature) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(gid.as_bytes())
    .bind(first.device.as_bytes())
    .bind(first.counter.cast_signed())
    .bind(first.sid.as_bytes())
    .bind(first.signature.as_slice())
    .bind(second.sid.as_bytes())
    .bind(second.signature.as_slice())
    .execute(conn)
    .await?;
    Ok(())
}

/// The commit that led to a state acted on these requests.
///
/// # Errors
/// [`StoreError`]
pub async fn include(
    conn: &mut SqliteConnection,
    gid: GroupId,
    sid: StateId,
    requests: &[EventId],
) -> Result<(), StoreError> {
    for request in requests {
        sqlx::query("INSERT OR IGNORE INTO inclusion (gid, sid, request_id) VALUES (?, ?, ?)")
            .bind(gid.as_bytes())
            .bind(sid.as_bytes())
            .bind(request.as_bytes())
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// The head left `abandoned` and leads over `taken` now: what was only asked for there is open again, what
/// was done here is settled. A request that could not be acted on may be possible here.
///
/// # Errors
/// [`StoreError`]
pub async fn reopen_and_settle(
    conn: &mut SqliteConnection,
    gid: GroupId,
    abandoned: &[StateId],
    taken: &[StateId],
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE change_request SET status = 'open' WHERE gid = ?1 \
         AND (status = 'ahead' OR (status = 'stale' AND ?2))",
    )
    .bind(gid.as_bytes())
    .bind(!abandoned.is_empty())
    .execute(&mut *conn)
    .await?;
    for (states, status) in [(abandoned, "open"), (taken, "settled")] {
        for sid in states {
            sqlx::query(
                "UPDATE change_request SET status = ?1 WHERE gid = ?2 AND request_id IN \
                 (SELECT request_id FROM inclusion WHERE gid = ?2 AND sid = ?3)",
            )
            .bind(status)
            .bind(gid.as_bytes())
            .bind(sid.as_bytes())
            .execute(&mut *conn)
            .await?;
        }
    }
    Ok(())
}

/// States whose secrets are here, and since when each could have been pruned: when the head left it, or else
/// when it came; milliseconds.
///
/// # Errors
/// [`StoreError`]
pub async fn held(conn: &mut SqliteConnection, gid: GroupId) -> Result<Vec<(StateId, i64)>, StoreError> {
    let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(
        "SELECT sid, MAX(adopted_at, COALESCE(left_at, 0)) FROM mls_state \
         WHERE gid = ? AND pruned_at IS NULL AND opaque = 0",
    )
    .bind(gid.as_bytes())
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(|(sid, since)| Ok((StateId::try_from(&*sid)?, since))).collect()
}

/// Deletes the secrets of states; their skeletons stay.
///
/// # Errors
/// [`StoreError`]
pub async fn prune(
    conn: &mut SqliteConnection,
    gid: GroupId,
    states: &[StateId],
    now: i64,
) -> Result<(), StoreError> {
    for sid in states {
        sqlx::query("UPDATE mls_state SET pruned_at = ? WHERE gid = ? AND sid = ?")
            .bind(now)
            .bind(gid.as_bytes())
            .bind(sid.as_bytes())
            .execute(&mut *conn)
            .await?;
        sqlx::query("DELETE FROM mls_row WHERE gid = ? AND sid = ?")
            .bind(gid.as_bytes())
            .bind(sid.as_bytes())
            .execute(&mut *conn)
            .await?;
        sqlx::query("DELETE FROM opened_generation WHERE sid = ?")
            .bind(sid.as_bytes())
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::{
        clock::random,
        dag::Head,
        id::{AccountId, LogId},
        keys::VaultKey,
        metrics::Metrics,
        store::{Vault, mls},
    };

    const GID: GroupId = GroupId([1; 16]);
    const OWN: DeviceId = DeviceId([2; 32]);

    fn sid(number: u64) -> StateId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        StateId(bytes)
    }

    fn state(number: u64, parent: Option<u64>, epoch: u64, committer: DeviceId) -> Node {
        Node {
            sid: sid(number),
            parent: parent.map(sid),
            epoch,
            commit: CommitId(sid(number).0),
            committer,
            class: Class::Update,
            roster: Arc::new(
                [(AccountId([3; 32]), OWN), (AccountId([4; 32]), committer)].into_iter().collect(),
            ),
            held: Held::Live,
        }
    }

    struct Fixture {
        vault: Vault,
        _directory: tempfile::TempDir,
    }

    impl Fixture {
        /// States, the first of which is the root, and the head.
        async fn with(nodes: Vec<Node>, head: u64) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("v.db");
            let vault = Vault::create(&path, &VaultKey::new(random()), &Metrics::default()).await.unwrap();
            let stored: Result<(), StoreError> = vault
                .write(move |tx| {
                    Box::pin(async move {
                        let root = nodes[0].sid;
                        mls::insert_group(tx.conn(), GID, root, LogId([5; 16]), 1).await?;
                        for node in &nodes {
                            // Of what the secrets tell nothing is needed here: stored as one without.
                            insert_child(tx.conn(), GID, node, None, 1).await?;
                        }
                        sqlx::query("UPDATE mls_state SET opaque = 0").execute(tx.conn()).await?;
                        mls::set_head(tx.conn(), GID, sid(head), 1).await
                    })
                })
                .await;
            stored.unwrap();
            Self { vault, _directory: directory }
        }

        async fn dag(&self) -> Dag {
            let mut reader = self.vault.read().await.unwrap();
            load(reader.conn(), GID, OWN).await.unwrap().unwrap()
        }
    }

    #[tokio::test]
    async fn a_long_history_is_not_loaded_and_does_not_change_the_head() {
        let other = DeviceId([9; 32]);
        let chain = (0..300).map(|number| {
            let parent = (number > 0).then(|| number - 1);
            state(number, parent, number + 1, other)
        });
        let fixture = Fixture::with(chain.collect(), 299).await;
        let dag = fixture.dag().await;
        assert_eq!(dag.nodes().len() as u64, DEPTH + 1);
        assert_eq!(dag.head(), Some(Head::At(sid(299))));
    }

    #[tokio::test]
    async fn a_state_is_of_the_past_since_the_head_left_it() {
        let fixture = Fixture::with(vec![state(0, None, 1, OWN), state(1, Some(0), 2, OWN)], 0).await;
        let held = async || held(fixture.vault.read().await.unwrap().conn(), GID).await.unwrap();
        assert_eq!(held().await, [(sid(0), 1), (sid(1), 1)]);
        let moved: Result<(), StoreError> = fixture
            .vault
            .write(|tx| Box::pin(async { mls::set_head(tx.conn(), GID, sid(1), 70).await }))
            .await;
        moved.unwrap();
        assert_eq!(held().await, [(sid(0), 70), (sid(1), 1)]);
    }

    #[tokio::test]
    async fn branches_votes_and_proofs_come_back() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let other = DeviceId(key.verifying_key().to_bytes());
        let nodes = vec![state(0, None, 1, other), state(1, Some(0), 2, OWN), state(2, Some(0), 2, other)];
        let fixture = Fixture::with(nodes, 1).await;
        let support = Support::sign(&GID, &key, 1, sid(2));
        let again = Support::sign(&GID, &key, 1, sid(1));
        let heard: Result<(), StoreError> = fixture
            .vault
            .write(move |tx| Box::pin(async move { hear(tx.conn(), GID, &support).await }))
            .await;
        heard.unwrap();
        let dag = fixture.dag().await;
        assert_eq!(dag.children(&sid(0)).count(), 2);
        assert_eq!(dag.supports().latest(&other), Some(&sid(2)));

        let proof = Equivocation::new(support, again).unwrap();
        let convicted: Result<(), StoreError> = fixture
            .vault
            .write(move |tx| Box::pin(async move { convict(tx.conn(), GID, &proof).await }))
            .await;
        convicted.unwrap();
        assert_eq!(fixture.dag().await.supports().latest(&other), None, "a vote for two is none");
    }
}
