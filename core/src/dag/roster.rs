//! Who is in a state: accounts and their devices.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{AccountId, DeviceId};

/// The devices of an account that have a say; of more than these the first by id.
pub const MAX_VOTING_DEVICES: usize = 8;

/// The members of one state. Empty where they are not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Roster(BTreeMap<AccountId, BTreeSet<DeviceId>>);

impl Roster {
    /// The accounts, by id.
    pub fn accounts(&self) -> impl ExactSizeIterator<Item = &AccountId> {
        self.0.keys()
    }

    /// All devices, account by account.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.0.values().flatten()
    }

    /// Every device with its account.
    pub fn members(&self) -> impl Iterator<Item = (&AccountId, &DeviceId)> {
        self.0.iter().flat_map(|(account, devices)| devices.iter().map(move |device| (account, device)))
    }

    /// Whether an account has a device in the state.
    pub fn contains(&self, account: &AccountId) -> bool {
        self.0.contains_key(account)
    }

    /// Whose device it is; looks at every account.
    pub fn account_of(&self, device: &DeviceId) -> Option<&AccountId> {
        self.0.iter().find(|(_, devices)| devices.contains(device)).map(|(account, _)| account)
    }

    /// The accounts and those of their devices that have a say.
    pub(super) fn voters(&self) -> impl Iterator<Item = (&AccountId, Vec<&DeviceId>)> {
        self.0.iter().map(|(account, devices)| (account, devices.iter().take(MAX_VOTING_DEVICES).collect()))
    }
}

impl FromIterator<(AccountId, DeviceId)> for Roster {
    fn from_iter<I: IntoIterator<Item = (AccountId, DeviceId)>>(members: I) -> Self {
        let mut roster = BTreeMap::<_, BTreeSet<_>>::new();
        for (account, device) in members {
            roster.entry(account).or_default().insert(device);
        }
        Self(roster)
    }
}
