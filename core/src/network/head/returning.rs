//! Coming back into a group by a Welcome: the head goes to a new root, and what was before stays (T6).

use std::sync::Arc;

use super::moving::Move;
use crate::{
    certificate::Certificate,
    clock::{now_ms, random},
    dag::{Dag, Head, Route},
    group::{
        rows::RowChanges,
        state::{GroupState, StateFacts},
    },
    id::{LogId, StateId},
    journal::Members,
    network::{Network, Slot, SlotError, adopt::add_member},
    store::{
        StoreError, WriteTx, branch, frame_set, invite, key_package,
        logbook::{LogBook, LogRow},
        mls, rejoin, restored, space,
    },
};

/// What a returning member is brought.
pub(in crate::network) struct Return {
    /// Rows of the state that it enters.
    pub(in crate::network) rows: RowChanges,
    /// Those who came and went meanwhile.
    pub(in crate::network) former: Vec<Certificate>,
    /// Where the logs stand; for one who was no member before its invite was used anew.
    pub(in crate::network) floors: Vec<(LogId, LogRow)>,
}

impl Network {
    /// Stands in a state that this device was welcomed into, being a member already.
    ///
    /// # Errors
    /// [`SlotError`]: the slot must be emptied.
    pub(in crate::network) async fn come_back(
        self: &Arc<Self>,
        slot: &mut Slot,
        state: GroupState,
        brought: Return,
    ) -> Result<(), SlotError> {
        let gid = slot.gid();
        let from = slot.head_id(&self.vault).await?;
        let members = slot.members(&self.vault).await?;
        let facts = state.facts().clone();
        let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
        let route = left_behind(dag, &from, &facts.sid);
        let roster = |sid: &StateId| dag.node(sid).map(|node| Arc::clone(&node.roster));
        let before = roster(&from).unwrap_or_default();
        let kept = route.fork.as_ref().and_then(roster).unwrap_or_else(|| Arc::clone(&before));
        let moved = Move {
            gid,
            facts,
            route,
            before,
            since: Vec::new(),
            kept,
            members: Arc::clone(&members),
            me: self.keys.account(),
            authorized: None,
            farewell: false,
        };
        let stored: Result<(), StoreError> = self
            .vault
            .write(move |tx| Box::pin(async move { brought.store(tx, &moved, &members).await }))
            .await;
        stored?;
        self.metrics.head_switches.inc();
        self.repairs.forget(gid);
        tracing::info!("back in a group");
        self.enter(slot, state).await
    }
}

/// What a device leaves that comes to `to` from `from`, as far as is known where that hangs.
fn left_behind(dag: &Dag, from: &StateId, to: &StateId) -> Route {
    let wanted = match dag.head() {
        Some(Head::Beyond { wanted, .. }) => wanted,
        _ => *to,
    };
    let known = if dag.node(to).is_some() { to } else { &wanted };
    // What leads there was not entered.
    Route { taken: Vec::new(), ..dag.route(from, known) }
}

impl Return {
    async fn store(self, tx: &mut WriteTx<'_>, moved: &Move, members: &Members) -> Result<(), StoreError> {
        let (gid, now) = (moved.gid, now_ms());
        let facts: &StateFacts = &moved.facts;
        restored::entered(tx.conn(), gid).await?;
        mls::store_rows(tx.conn(), gid, facts.sid, &self.rows).await?;
        frame_set::forget_unusable(tx.conn(), gid, &facts.env_tag).await?;
        branch::insert_root(tx.conn(), facts, now).await?;
        let unknown = self.former.iter().filter(|certificate| members.get(&certificate.device).is_none());
        for certificate in unknown {
            add_member(tx, facts, certificate, 0, now).await?;
            space::end_member(tx.conn(), gid, certificate.device, facts.epoch).await?;
        }
        moved.store(tx, now).await?;
        let former = mls::group(tx.conn(), gid).await?.ok_or(StoreError::Corrupt)?.own_log;
        rejoin::enter(tx.conn(), gid, facts.sid, (former, LogId(*random()))).await?;
        let mut book = LogBook::open(tx.conn(), gid).await?;
        for (log, row) in self.floors {
            let held = book.log(tx.conn(), log).await?;
            if held.is_none_or(|held| held.contiguous < row.contiguous) {
                book.set_log(log, row);
            }
        }
        book.close(tx, now).await?;
        rejoin::end(tx.conn(), gid).await?;
        invite::end_join(tx.conn(), gid, None).await?;
        key_package::drop_all(tx.conn(), gid).await
    }
}
