//! The steps that write event logs: own events appended, others' taken in their place, both projected.
//!
//! Runs inside one write transaction; decides nothing about the network.

mod append;
mod apply;
mod authorship;
mod project;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

pub use append::{Own, append};
pub use apply::{Applied, Rejection, Withheld, apply, apply_state, apply_withheld, drain_parked};

use crate::{
    certificate::Certificate,
    id::{AccountId, DeviceId},
    store::{
        Notice, StoreError, WriteTx,
        feed::{self, Entry},
        space::MemberRow,
    },
};

/// Everyone who is or was a member of a group, by device.
#[derive(Default)]
pub struct Members(HashMap<DeviceId, MemberRow>);

impl Members {
    /// From the stored rows.
    pub fn new(rows: Vec<MemberRow>) -> Self {
        Self(rows.into_iter().map(|row| (row.device, row)).collect())
    }

    /// A current or former member.
    pub fn get(&self, device: &DeviceId) -> Option<&MemberRow> {
        self.0.get(device)
    }

    /// A device that is a member now.
    pub fn current(&self, device: &DeviceId) -> Option<&MemberRow> {
        self.0.get(device).filter(|row| row.left_epoch.is_none())
    }

    /// An account's device that is a member now.
    pub fn of(&self, account: &AccountId) -> Option<&MemberRow> {
        self.all_current().find(|row| row.account == *account)
    }

    /// How many accounts besides this one are members now.
    pub fn others(&self, account: &AccountId) -> u32 {
        let others: HashSet<_> = self.all_current().map(|row| row.account).filter(|a| a != account).collect();
        u32::try_from(others.len()).unwrap_or(u32::MAX)
    }

    /// All devices that are members now.
    pub fn all_current(&self) -> impl Iterator<Item = &MemberRow> {
        self.0.values().filter(|row| row.left_epoch.is_none())
    }

    /// Certificates of former members.
    pub fn former(&self) -> impl Iterator<Item = &Certificate> {
        self.0.values().filter(|row| row.left_epoch.is_some()).map(|row| &row.certificate)
    }
}

/// Who reads: the vault's own account, and what its router makes of addresses.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// The vault's account.
    pub me: AccountId,
    /// Everyone who may have written.
    pub members: &'a Members,
    /// Own router listens on loopback: loopback addresses of others make sense.
    pub loopback: bool,
    /// Now, milliseconds.
    pub now: i64,
}

/// What a step did besides writing rows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Effects {
    /// A request to change the membership is open.
    pub request_opened: bool,
    /// Addresses of peers changed.
    pub addresses_changed: bool,
}

impl Effects {
    /// Adds what another step did.
    pub fn merge(&mut self, other: Self) {
        self.request_opened |= other.request_opened;
        self.addresses_changed |= other.addresses_changed;
    }
}

/// Tells the account's feed.
///
/// # Errors
/// [`StoreError`]
pub async fn tell(tx: &mut WriteTx<'_>, entry: &Entry, now: i64) -> Result<(), StoreError> {
    let seq = feed::append(tx.conn(), entry, now).await?;
    tx.notify(Notice::Feed(seq));
    Ok(())
}
