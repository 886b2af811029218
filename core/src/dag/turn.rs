//! Whose turn it is to commit, so that rivals are rare; and when a device that sees nobody waits.
//!
//! Nothing here keeps two devices from committing on the same state: [`Dag::head`](super::Dag::head)
//! decides between their commits. Turns only make it seldom necessary, without any clock in common.

use std::{collections::BTreeSet, time::Duration};

use super::roster::Roster;
use crate::{
    id::{AccountId, DeviceId},
    mutant::{self, Mutant},
};

/// What each device leaves to the one whose turn is before its own: a commit has reached everyone by then.
pub const SLOT: Duration = Duration::from_secs(2);
/// Who sent a Tip within this time is believed to be online. Three Tips are due in it.
pub const ONLINE: Duration = Duration::from_secs(90);
/// A removal waits for so many turns and hardly longer: meanwhile nobody's messages leave.
pub const TURNS_BEFORE_REMOVAL: u32 = 3;
/// What those of later turns leave to each other then: enough to keep them from committing all at once.
pub const SHORT_SLOT: Duration = Duration::from_millis(200);
/// What those who only renew their keys leave to each other, and to all that others ask for: whoever is first
/// may do it at once, since the same device would commit a request that is on its way. Anyone else's renewal
/// would now and then meet such a commit, the more often the less time it leaves.
pub const RENEWAL_SLOT: Duration = Duration::from_secs(60);
/// A user whose device sees nobody waits this long before the device commits alone: a commit made apart
/// may lose against those who are together.
pub const ALONE: Duration = Duration::from_secs(15 * 60);

/// For whom a commit would be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sake {
    /// This device's own user asked, this long ago.
    OwnUser(Duration),
    /// Others asked.
    Others,
    /// Nobody asked: fresh keys are due ([`due_after`](super::renewal::due_after)).
    Update,
}

/// What a device knows when it thinks of committing.
#[derive(Debug, Clone, Copy)]
pub struct Outlook<'a> {
    /// This device.
    pub own: DeviceId,
    /// Its account.
    pub account: AccountId,
    /// The parent's devices in their rank: [`Dag::ranked`](super::Dag::ranked).
    pub ranked: &'a [DeviceId],
    /// Who is in the parent.
    pub before: &'a Roster,
    /// Who would be in the child.
    pub after: &'a Roster,
    /// Other devices believed to be [`ONLINE`].
    pub online: &'a BTreeSet<DeviceId>,
    /// Whether someone is to be removed.
    pub removal: bool,
    /// For whom it is.
    pub sake: Sake,
    /// For how long, on a monotonic clock, both the parent and the reason to commit have been here.
    pub waited: Duration,
}

/// Whether to commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Now.
    Now,
    /// When nothing has changed by then.
    In(Duration),
    /// Not before someone is seen.
    Apart,
}

/// Whether it is this device's turn. Ask again whenever the outlook changes.
pub fn turn(outlook: &Outlook<'_>) -> Turn {
    if sees_someone_of_the_child(outlook) || mutant::on(Mutant::IsolationIgnored) {
        return after(own_slot(outlook), outlook.waited);
    }
    let others = |roster: &Roster| roster.accounts().any(|account| *account != outlook.account);
    if !others(outlook.before) || !others(outlook.after) {
        // There is nobody to part from.
        return Turn::Now;
    }
    match outlook.sake {
        Sake::OwnUser(asked) => after(ALONE, asked),
        Sake::Others | Sake::Update => Turn::Apart,
    }
}

/// A device of another account, online, that the commit does not remove.
fn sees_someone_of_the_child(outlook: &Outlook<'_>) -> bool {
    let members = outlook.after.members();
    let mut others = members.filter(|(account, _)| **account != outlook.account).map(|(_, device)| device);
    others.any(|device| outlook.online.contains(device))
}

/// What to leave to those who are online, stay in the group, and come first.
fn own_slot(outlook: &Outlook<'_>) -> Duration {
    let stays = |device: &DeviceId| outlook.after.devices().any(|after| after == device);
    let first = outlook.ranked.iter().take_while(|device| **device != outlook.own);
    let before = first.filter(|device| outlook.online.contains(device) && stays(device)).count();
    let turns = if mutant::on(Mutant::SlotsOff) { 0 } else { u32::try_from(before).unwrap_or(u32::MAX) };
    if outlook.sake == Sake::Update {
        return RENEWAL_SLOT.saturating_mul(turns);
    }
    let whole = if outlook.removal { turns.min(TURNS_BEFORE_REMOVAL) } else { turns };
    SLOT.saturating_mul(whole).saturating_add(SHORT_SLOT.saturating_mul(turns - whole))
}

fn after(due: Duration, waited: Duration) -> Turn {
    match due.saturating_sub(waited) {
        Duration::ZERO => Turn::Now,
        rest => Turn::In(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_TIME: Duration = Duration::ZERO;

    fn account(n: u8) -> AccountId {
        AccountId([n; 32])
    }

    fn device(n: u8) -> DeviceId {
        DeviceId([n; 32])
    }

    /// Accounts of one device each.
    fn roster(members: impl IntoIterator<Item = u8>) -> Roster {
        members.into_iter().map(|n| (account(n), device(n))).collect()
    }

    /// A group of six in which device 1 to 6 have this rank, seen by one of them.
    struct Story {
        own: u8,
        online: BTreeSet<DeviceId>,
        after: Roster,
        removal: bool,
        sake: Sake,
        waited: Duration,
    }

    fn story(own: u8, online: &[u8]) -> Story {
        Story {
            own,
            online: online.iter().map(|n| device(*n)).collect(),
            after: roster(1..=7),
            removal: false,
            sake: Sake::Others,
            waited: NO_TIME,
        }
    }

    impl Story {
        fn turn_in(&self, before: &Roster) -> Turn {
            let ranked: Vec<_> = (1..=6).map(device).collect();
            turn(&Outlook {
                own: device(self.own),
                account: account(self.own),
                ranked: &ranked,
                before,
                after: &self.after,
                online: &self.online,
                removal: self.removal,
                sake: self.sake,
                waited: self.waited,
            })
        }

        fn turn(&self) -> Turn {
            self.turn_in(&roster(1..=6))
        }
    }

    #[test]
    fn those_online_take_turns_in_their_rank() {
        assert_eq!(story(1, &[2, 3]).turn(), Turn::Now);
        assert_eq!(story(3, &[1, 2]).turn(), Turn::In(2 * SLOT));
        assert_eq!(story(3, &[2, 4]).turn(), Turn::In(SLOT), "who is away is not waited for");
        assert_eq!(Story { waited: SLOT / 2, ..story(3, &[2]) }.turn(), Turn::In(SLOT / 2));
        assert_eq!(Story { waited: SLOT, ..story(3, &[2]) }.turn(), Turn::Now);
    }

    #[test]
    fn at_any_moment_one_of_those_who_see_each_other_has_its_turn() {
        let all = [1, 2, 3, 4, 5, 6];
        let turns =
            all.map(|own| story(own, &all.into_iter().filter(|n| *n != own).collect::<Vec<_>>()).turn());
        assert_eq!(turns.iter().filter(|turn| **turn == Turn::Now).count(), 1);
        let waits: BTreeSet<_> = turns.iter().map(|turn| format!("{turn:?}")).collect();
        assert_eq!(waits.len(), all.len(), "no two at once");
    }

    #[test]
    fn renewals_leave_time_to_whose_turn_it_is() {
        assert_eq!(Story { sake: Sake::Update, ..story(1, &[2, 3]) }.turn(), Turn::Now);
        let third = Story { sake: Sake::Update, ..story(3, &[1, 2]) };
        assert_eq!(third.turn(), Turn::In(2 * RENEWAL_SLOT));
        assert_eq!(Story { waited: 2 * RENEWAL_SLOT, ..third }.turn(), Turn::Now);
    }

    #[test]
    fn a_removal_waits_for_three_turns_and_a_little_and_for_no_turn_of_the_removed() {
        let others = [1, 2, 3, 4, 5];
        let late = Story { after: roster([2, 3, 4, 5, 6]), ..story(6, &others) };
        assert_eq!(late.turn(), Turn::In(4 * SLOT));
        assert_eq!(Story { removal: true, ..late }.turn(), Turn::In(3 * SLOT + SHORT_SLOT));
        let first = Story { after: roster([2, 3, 4, 5, 6]), ..story(2, &others) };
        assert_eq!(first.turn(), Turn::Now);
    }

    #[test]
    fn a_device_that_sees_nobody_else_of_the_child_waits() {
        assert_eq!(story(1, &[]).turn(), Turn::Apart);
        assert_eq!(Story { sake: Sake::Update, ..story(1, &[]) }.turn(), Turn::Apart);
        let only_the_removed = Story { after: roster([1, 3, 4, 5, 6]), removal: true, ..story(1, &[2]) };
        assert_eq!(only_the_removed.turn(), Turn::Apart);
        let asked = |ago| Story { sake: Sake::OwnUser(ago), ..story(1, &[]) }.turn();
        assert_eq!(asked(NO_TIME), Turn::In(ALONE));
        assert_eq!(asked(ALONE), Turn::Now);
    }

    #[test]
    fn a_sister_device_is_nobody_else() {
        let mut story = story(1, &[9]);
        story.after =
            [(account(1), device(1)), (account(1), device(9)), (account(2), device(2))].into_iter().collect();
        assert_eq!(story.turn(), Turn::Apart);
    }

    #[test]
    fn who_is_alone_in_the_group_or_will_be_parts_from_nobody() {
        assert_eq!(Story { after: roster([1, 2]), ..story(1, &[]) }.turn_in(&roster([1])), Turn::Now);
        let last = Story { after: roster([1]), removal: true, ..story(1, &[]) };
        assert_eq!(last.turn_in(&roster([1, 2])), Turn::Now);
    }

    #[test]
    fn a_device_that_does_not_wait_apart_is_noticed() {
        let alone = mutant::with(Mutant::IsolationIgnored, || story(1, &[]).turn());
        assert_ne!(alone, Turn::Apart);
    }
}
