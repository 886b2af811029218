//! What a group looks like from its new head: who came, who went, who may do what, and what is still asked for.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    dag::{Dag, Roster, Route},
    group::{authorize::Authorized, state::StateFacts},
    id::{AccountId, DeviceId, GroupId, StateId},
    journal::{Members, tell},
    model::MemberChange,
    network::{adopt::add_member, health},
    store::{
        StoreError, WriteTx, branch, feed::Entry, invite, message, mls, outbox, role_change, space, tip,
    },
};

/// The head goes from one state to another.
pub(super) struct Move {
    pub(super) gid: GroupId,
    /// Of the new head.
    pub(super) facts: StateFacts,
    pub(super) route: Route,
    /// Who was in the old head.
    pub(super) before: Arc<Roster>,
    /// Since which epoch each device is in the new head, as far as the way there tells.
    pub(super) since: Vec<(DeviceId, u64)>,
    /// Who is in the last state common to both ways.
    pub(super) kept: Arc<Roster>,
    pub(super) members: Arc<Members>,
    pub(super) me: AccountId,
    /// What the only commit on the way does; nothing when the head changes branch.
    pub(super) authorized: Option<Authorized>,
    pub(super) farewell: bool,
}

impl Move {
    pub(super) async fn store(&self, tx: &mut WriteTx<'_>, now: i64) -> Result<(), StoreError> {
        let gid = self.gid;
        mls::set_head(tx.conn(), gid, self.facts.sid, now).await?;
        self.go(tx, now).await?;
        self.come(tx, now).await?;
        self.change_roles(tx, now).await?;
        branch::reopen_and_settle(tx.conn(), gid, &self.route.abandoned, &self.route.taken).await?;
        outbox::cancel_letters(tx.conn(), gid, &self.route.abandoned).await?;
        tell(tx, &Entry::Space(gid), now).await?;
        health::recover(tx, gid).await
    }

    /// Devices that are not in the new head.
    pub(super) fn gone(&self) -> Vec<DeviceId> {
        let standing = &self.facts.standing;
        let stay: BTreeSet<_> = standing.roster.iter().map(|leaf| leaf.certificate.device).collect();
        self.before.devices().filter(|device| !stay.contains(device)).copied().collect()
    }

    async fn go(&self, tx: &mut WriteTx<'_>, now: i64) -> Result<(), StoreError> {
        let (gid, gone) = (self.gid, self.gone());
        for device in &gone {
            let Some(member) = self.members.get(device) else { continue };
            space::end_member(tx.conn(), gid, *device, self.facts.epoch).await?;
            invite::settle_requests(tx.conn(), gid, member.account).await?;
            let own_log = mls::group(tx.conn(), gid).await?.ok_or(StoreError::Corrupt)?.own_log;
            let cursor = tip::cursor(tx.conn(), gid, *device, own_log).await?;
            message::recipient_left(tx.conn(), gid, own_log, cursor, member.joined_epoch, now).await?;
            outbox::letter_done(tx.conn(), gid, *device).await?;
            if self.farewell && member.account != self.me {
                outbox::queue_farewell(tx.conn(), gid, *device, now).await?;
            }
            let change = if self.by_own_wish(device) { MemberChange::Left } else { MemberChange::Removed };
            tell(tx, &Entry::Member(gid, member.account, change), now).await?;
        }
        if !gone.is_empty() && space::recipients(tx.conn(), gid, self.me).await? == 0 {
            message::nobody_left(tx.conn(), gid, now).await?;
            outbox::drop_events(tx.conn(), gid).await?;
        }
        Ok(())
    }

    fn by_own_wish(&self, device: &DeviceId) -> bool {
        let removed = self.authorized.iter().flat_map(|authorized| &authorized.removed);
        removed.into_iter().any(|(gone, wish)| gone == device && *wish)
    }

    /// Those who are in the new head and were not in the old one.
    async fn come(&self, tx: &mut WriteTx<'_>, now: i64) -> Result<(), StoreError> {
        let before: BTreeSet<_> = self.before.devices().collect();
        for leaf in &self.facts.standing.roster {
            let certificate = &leaf.certificate;
            if before.contains(&certificate.device) {
                continue;
            }
            // Whoever only the abandoned branch had removed was there all the time.
            if self.kept.devices().any(|device| *device == certificate.device) {
                space::revive_member(tx.conn(), self.gid, certificate.device).await?;
            } else {
                let since = self.since.iter().find(|(device, _)| *device == certificate.device);
                let epoch = since.map_or(self.facts.epoch, |(_, epoch)| *epoch);
                add_member(tx, &self.facts, certificate, epoch, self.joined_at(now)).await?;
            }
            tell(tx, &Entry::Member(self.gid, certificate.account, MemberChange::Joined), now).await?;
        }
        Ok(())
    }

    fn joined_at(&self, now: i64) -> i64 {
        let said = self.authorized.as_ref().and_then(|authorized| i64::try_from(authorized.wall_ms).ok());
        said.unwrap_or(now).min(now)
    }

    async fn change_roles(&self, tx: &mut WriteTx<'_>, now: i64) -> Result<(), StoreError> {
        let policy = &self.facts.standing.policy;
        for member in self.members.all_current() {
            let Some(role) = policy.role_of(&member.account).filter(|role| *role != member.role) else {
                continue;
            };
            if role_change::set(tx.conn(), self.gid, member.account, self.facts.sid, role).await? {
                tell(tx, &Entry::Member(self.gid, member.account, MemberChange::Updated), now).await?;
            }
        }
        Ok(())
    }
}

/// The epoch of the first state on the way that each device of its end is in without a break.
pub(super) fn since(dag: &Dag, taken: &[StateId]) -> Vec<(DeviceId, u64)> {
    let mut since: Vec<(DeviceId, u64)> = Vec::new();
    for node in taken.iter().filter_map(|sid| dag.node(sid)) {
        let here: BTreeSet<_> = node.roster.devices().collect();
        since.retain(|(device, _)| here.contains(device));
        let known: BTreeSet<_> = since.iter().map(|(device, _)| *device).collect();
        since.extend(
            here.into_iter().filter(|device| !known.contains(device)).map(|device| (*device, node.epoch)),
        );
    }
    since
}
