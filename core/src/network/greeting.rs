//! What waits for a peer that has just come: letters, and what either side does not know yet.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{Network, handover::PATIENCE};
use crate::{
    certificate::Certificate,
    id::{DeviceId, GroupId},
    router::PeerId,
    store::{StoreError, outbox, peer},
};

/// Groups that are caught up in at the same time with one peer.
const GROUPS_AT_ONCE: usize = 8;

/// A peer in one of the groups shared with it, or in whichever these are.
type Guest = (PeerId, Option<GroupId>);

/// The peers that have just come, as long as it is not known what they know of a group.
#[derive(Default)]
pub(super) struct Greetings(Arc<Mutex<HashMap<Guest, usize>>>);

/// While it is there, the peer is being greeted.
pub(super) struct Greeting {
    greetings: Arc<Mutex<HashMap<Guest, usize>>>,
    guest: Guest,
}

impl Greetings {
    pub(super) fn begin(&self, peer: PeerId, gid: Option<GroupId>) -> Greeting {
        let guest = (peer, gid);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(guest).or_default() += 1;
        Greeting { greetings: Arc::clone(&self.0), guest }
    }

    /// Whether all of these have just come, so that nobody could say yet what happened in a group meanwhile.
    pub(super) fn are_all_new(&self, gid: GroupId, peers: impl IntoIterator<Item = PeerId>) -> bool {
        let guests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = |peer| guests.contains_key(&(peer, None)) || guests.contains_key(&(peer, Some(gid)));
        peers.into_iter().all(is_new)
    }
}

impl Drop for Greeting {
    fn drop(&mut self) {
        let mut guests = self.greetings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = guests.get_mut(&self.guest) {
            *count -= 1;
            if *count == 0 {
                guests.remove(&self.guest);
            }
        }
    }
}

impl Network {
    /// Everything that waited for this peer.
    pub(super) async fn greet(
        self: &Arc<Self>,
        peer: &PeerId,
        certificate: &Certificate,
        greeting: Greeting,
    ) -> Result<(), StoreError> {
        let device = certificate.device;
        let (shared, letters, farewells) = {
            let mut reader = self.vault.read().await?;
            let conn = reader.conn();
            if peer::is_anothers_device(conn, certificate).await? {
                return Ok(());
            }
            let shared = peer::shared_groups(conn, certificate).await?;
            let letters = outbox::letters_for(conn, device).await?;
            (shared, letters, outbox::farewells_for(conn, device).await?)
        };
        for letter in letters {
            self.hand_over(letter.gid, device, PATIENCE);
        }
        for gid in farewells {
            self.say_farewell(gid, *peer, device);
        }
        let each = shared.into_iter().map(|gid| (gid, self.greetings.begin(*peer, Some(gid))));
        let each: Vec<_> = each.collect();
        drop(greeting);
        let groups = each.into_iter().map(|(gid, greeting)| self.greet_in(gid, peer, device, greeting));
        stream::iter(groups).buffer_unordered(GROUPS_AT_ONCE).try_collect::<()>().await?;
        self.wake.outbox.notify_one();
        self.wake.join.notify_one();
        self.wake.commit.notify_one();
        Ok(())
    }

    /// Catches up in a group with a peer that has just come, and only then tells it how far that is: what is
    /// fetched it need not send.
    async fn greet_in(
        self: &Arc<Self>,
        gid: GroupId,
        peer: &PeerId,
        device: DeviceId,
        greeting: Greeting,
    ) -> Result<(), StoreError> {
        self.repairs.meet(gid, device);
        tokio::join!(self.listen_for_echo(gid, peer), self.reconcile(gid, peer));
        drop(greeting);
        self.tip_to(gid, peer).await;
        if self.echoes.is_confirmed(gid) {
            self.push_unstored(gid, peer).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GID: GroupId = GroupId([1; 16]);
    const OTHER: GroupId = GroupId([2; 16]);

    #[test]
    fn a_peer_is_new_until_it_was_greeted_in_the_group() {
        let greetings = Greetings::default();
        let [one, other] = [[1; 32], [2; 32]].map(|secret| PeerId::of_secret(&secret).unwrap());
        assert!(!greetings.are_all_new(GID, [one]));
        let whole = greetings.begin(one, None);
        assert!(greetings.are_all_new(GID, [one]) && greetings.are_all_new(OTHER, [one]));
        assert!(!greetings.are_all_new(GID, [one, other]), "the other one has been here");
        let [first, again] = [greetings.begin(one, Some(GID)), greetings.begin(one, Some(GID))];
        drop(whole);
        assert!(greetings.are_all_new(GID, [one]) && !greetings.are_all_new(OTHER, [one]));
        drop(first);
        assert!(greetings.are_all_new(GID, [one]));
        drop(again);
        assert!(!greetings.are_all_new(GID, [one]));
    }
}
