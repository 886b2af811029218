//! This account as the author of events in one group, as it stands inside a step.

use crate::{
    id::{GroupId, LogId, StateId},
    journal::{Members, Own},
    model::SendTiming,
    network::Network,
    store::{
        StoreError, WriteTx,
        mls::{self, GroupRow, GroupStanding},
        space,
    },
};

/// What own events of a group are written with.
pub(super) struct Author {
    /// Everyone who is or was there.
    pub(super) members: Members,
    /// One's own name there.
    pub(super) display_name: String,
    log: LogId,
    head: StateId,
    /// How long what is written waits before it leaves.
    pub(super) timing: SendTiming,
    /// Accounts other than one's own.
    pub(super) recipients: u32,
}

impl Author {
    /// Loads it; `None` when this account is not an active member.
    pub(super) async fn load(
        tx: &mut WriteTx<'_>,
        network: &Network,
        gid: GroupId,
    ) -> Result<Option<Self>, StoreError> {
        match mls::group(tx.conn(), gid).await? {
            Some(group) => Self::of(tx, network, gid, group).await,
            None => Ok(None),
        }
    }

    /// Loads it for a group that was looked up; `None` when this account is not an active member.
    pub(super) async fn of(
        tx: &mut WriteTx<'_>,
        network: &Network,
        gid: GroupId,
        group: GroupRow,
    ) -> Result<Option<Self>, StoreError> {
        if group.standing != GroupStanding::Active {
            return Ok(None);
        }
        let members = Members::new(space::member_rows(tx.conn(), gid).await?);
        let me = network.keys.account();
        let recipients = members.others(&me);
        let display_name = members.of(&me).map(|row| row.display_name.clone()).unwrap_or_default();
        Ok(Some(Self {
            members,
            display_name,
            log: group.own_log,
            head: group.head,
            timing: group.timing,
            recipients,
        }))
    }

    /// As the journal wants it.
    pub(super) fn own<'a>(&self, network: &'a Network) -> Own<'a> {
        Own {
            key: &network.keys.device,
            device: network.keys.device_id(),
            log: self.log,
            head: self.head,
            recipients: self.recipients,
        }
    }
}
