//! Finding the way to where the others went: peers are asked what is followed and where it hangs, and when that
//! leads nowhere a fresh leaf is asked for.
//!
//! What is remembered here is only about peers that are connected, and lost with the session: whoever is still
//! astray then hears so again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Network, Slot, SlotError, branches::Telling};
use crate::{
    dag::{Astray, Head},
    id::{AccountId, DeviceId, GroupId, StateId},
    invite::InviteLink,
    router::PeerId,
    store::{
        invite,
        restored::{self, Standing},
    },
};

/// Between two rounds of asking, at first.
const ROUND: Duration = Duration::from_secs(3);
/// Between two requests for a fresh leaf, at most.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Rounds in which the head must not have moved before commits are believed not to come.
const ROUNDS: u32 = 3;

/// What is known of the ways of groups that went where this device cannot follow.
#[derive(Default)]
pub(super) struct Ways(Mutex<HashMap<GroupId, Way>>);

#[derive(Default)]
struct Way {
    /// A task is looking for it.
    looking: bool,
    /// The key of this device's leaf in each peer's head; none where it has no leaf.
    leaves: HashMap<PeerId, Option<[u8; 32]>>,
}

impl Ways {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<GroupId, Way>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A member said which leaf this device has where it is.
    pub(super) fn said(&self, gid: GroupId, peer: &PeerId, leaf: Option<[u8; 32]>) {
        self.with(|ways| ways.entry(gid).or_default().leaves.insert(*peer, leaf));
    }

    /// True for the one who is to look.
    fn begin(&self, gid: GroupId) -> bool {
        self.with(|ways| !std::mem::replace(&mut ways.entry(gid).or_default().looking, true))
    }

    fn end(&self, gid: GroupId) {
        self.with(|ways| ways.remove(&gid));
    }

    fn leaf(&self, gid: GroupId, peer: &PeerId) -> Option<Option<[u8; 32]>> {
        self.with(|ways| ways.get(&gid)?.leaves.get(peer).copied())
    }
}

/// Where a device stands that may have lost its way.
pub(super) struct Lookout {
    stand: StateId,
    astray: Astray,
    /// Connected members.
    peers: Vec<PeerId>,
    /// Those of them who are where the others went, with the leaf that this device has there.
    guides: Vec<(PeerId, [u8; 32])>,
    /// Those who are there know of no leaf of this device: more than half of the other accounts, or the one who
    /// let it in.
    forgotten: bool,
}

impl Network {
    /// Looks for the way to where the others are, unless that is being done.
    pub(super) fn look_for_the_way(self: &Arc<Self>, gid: GroupId) {
        if self.ways.begin(gid) {
            let network = Arc::clone(self);
            self.spawn("way", async move {
                if let Err(error) = Box::pin(network.find_the_way(gid)).await
                    && !matches!(error, SlotError::NotAMember)
                {
                    tracing::warn!(%error, "the way to the others could not be looked for");
                }
                network.ways.end(gid);
            });
        }
    }

    async fn find_the_way(self: &Arc<Self>, gid: GroupId) -> Result<(), SlotError> {
        let (mut rounds, mut asked, mut stood) = (0_u32, 0_usize, None);
        loop {
            let lookout = self.look_around(gid).await?;
            // Whoever moves on has found commits that lead there.
            if stood.replace(lookout.stand).is_some_and(|stood| stood != lookout.stand) {
                rounds = 0;
            }
            let done = match lookout.astray {
                Astray::No => true,
                Astray::Unsure => rounds >= ROUNDS,
                Astray::Yes => lookout.peers.is_empty(),
            };
            if done {
                return Ok(());
            }
            if lookout.astray == Astray::Yes && rounds >= ROUNDS {
                let turn = asked.checked_rem(lookout.guides.len()).and_then(|turn| lookout.guides.get(turn));
                if let Some((guide, leaf)) = turn {
                    self.ask_for_a_leaf(gid, lookout.stand, guide, *leaf).await?;
                } else if lookout.forgotten {
                    return self.begin_anew(gid).await;
                }
                asked += 1;
            }
            let telling = Telling { skeletons: true, pull: true };
            for peer in &lookout.peers {
                self.tell_supports(gid, peer, telling).await?;
            }
            rounds = rounds.saturating_add(1);
            let wait =
                ROUND * 2_u32.saturating_pow(u32::try_from(asked.saturating_sub(1)).unwrap_or(u32::MAX));
            tokio::time::sleep(wait.min(LONGEST_WAIT)).await;
        }
    }

    async fn look_around(&self, gid: GroupId) -> Result<Lookout, SlotError> {
        let (inviter, copy) = {
            let mut reader = self.vault.read().await?;
            let row = invite::join(reader.conn(), gid).await?;
            let inviter = row.and_then(|row| InviteLink::parse(&row.link).ok()).map(|link| link.account);
            (inviter, restored::standing(reader.conn(), gid).await?)
        };
        let mut slot = self.groups.lock(gid).await;
        let stand = slot.head_id(&self.vault).await?;
        let linked = self.linked_devices(&mut slot).await?;
        let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
        let wanted = match dag.head() {
            Some(Head::Beyond { wanted, .. }) => Some(wanted),
            _ => None,
        };
        let astray = dag.astray(&stand);
        let is_there = |sid: &StateId| match wanted {
            Some(wanted) => dag.is_below(sid, &wanted),
            // An old copy is where the others are, and needs a fresh leaf all the same.
            None if copy.is_some() && astray != Astray::Yes => true,
            None => dag.node(sid).is_none_or(|node| !node.held.is_merged()),
        };
        let (mut guides, mut strangers) = (Vec::new(), HashSet::<AccountId>::new());
        for (peer, account, device) in &linked {
            if !dag.supports().latest(device).is_some_and(is_there) {
                continue;
            }
            match self.ways.leaf(gid, peer) {
                Some(Some(leaf)) => guides.push((*peer, leaf)),
                Some(None) => drop(strangers.insert(*account)),
                None => {}
            }
        }
        let others = dag.node(&stand).map_or(0, |node| node.roster.accounts().len().saturating_sub(1));
        let by_inviter = inviter.is_some_and(|account| strangers.contains(&account));
        let forgotten = by_inviter || strangers.len() * 2 > others;
        let peers = linked.into_iter().map(|(peer, ..)| peer).collect();
        let astray = match copy {
            // Two copies that ask in turns would never end.
            Some(Standing::Succeeded) => Astray::No,
            Some(Standing::Returning) => Astray::Yes,
            None => astray,
        };
        Ok(Lookout { stand, astray, peers, guides, forgotten })
    }

    /// The connected members of this device's head, by peer.
    async fn linked_devices(&self, slot: &mut Slot) -> Result<Vec<(PeerId, AccountId, DeviceId)>, SlotError> {
        let members = slot.members(&self.vault).await?;
        let mut linked: Vec<_> = self
            .linked_members(&members)
            .filter_map(|(device, peer)| Some((peer, members.get(&device)?.account, device)))
            .collect();
        linked.sort_by_key(|(_, _, device)| *device);
        Ok(linked)
    }

    /// Whether this device is in the state that the group is in, as far as it can tell.
    pub(super) async fn is_on_the_way(&self, slot: &mut Slot) -> Result<bool, SlotError> {
        let head = slot.head_id(&self.vault).await?;
        let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
        Ok(dag.head() == Some(Head::At(head)))
    }

    /// Members that have this device's old leaf where the others went: whoever lets it in again lets it in
    /// among them.
    pub(super) fn guides(&self, gid: GroupId) -> Vec<PeerId> {
        self.ways.with(|ways| {
            let leaves = ways.get(&gid).into_iter().flat_map(|way| &way.leaves);
            leaves.filter(|(_, leaf)| leaf.is_some()).map(|(peer, _)| *peer).collect()
        })
    }
}
