//! Loaded group states, one slot a group: whoever changes a group's MLS state holds its slot.
//!
//! A slot is only a cache of what the vault holds. After a failed transaction its holder empties it.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use lru::LruCache;
use tokio::sync::OwnedMutexGuard;

use super::head::MAX_WAIT_FOR_MORE;
use crate::{
    dag::{Dag, Equivocation, Support},
    group::{error::GroupError, state::GroupState},
    id::{DeviceId, GroupId, StateId},
    journal::Members,
    store::{StoreError, Vault, branch, mls, space},
};

/// States of one group kept loaded: the head and a few parents whose late messages still come.
const LOADED_STATES: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// Why a group's state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// This account is not in the group.
    #[error("not a member")]
    NotAMember,
    /// The state's secrets are gone.
    #[error("the state was pruned")]
    Pruned,
    /// The vault failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored rows do not load.
    #[error(transparent)]
    Group(#[from] GroupError),
}

/// The groups of a session.
#[derive(Default)]
pub(crate) struct Groups {
    slots: Mutex<HashMap<GroupId, Arc<tokio::sync::Mutex<Slot>>>>,
}

impl Groups {
    /// The group's slot, exclusively.
    pub(crate) async fn lock(&self, gid: GroupId) -> OwnedMutexGuard<Slot> {
        self.slot(gid).lock_owned().await
    }

    /// The group's slot if nobody holds it.
    pub(crate) fn try_lock(&self, gid: GroupId) -> Option<OwnedMutexGuard<Slot>> {
        self.slot(gid).try_lock_owned().ok()
    }

    fn slot(&self, gid: GroupId) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(gid).or_insert_with(|| Arc::new(tokio::sync::Mutex::new(Slot::new(gid)))))
    }

    /// Unloads every group that nobody is using.
    pub(crate) fn unload_idle(&self) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| Arc::strong_count(slot) > 1);
    }
}

/// A slot whose memory may be ahead of the vault: dropped before both are known to agree, it is emptied.
pub(crate) struct Ahead(Option<OwnedMutexGuard<Slot>>);

impl Ahead {
    /// Takes a slot that is about to change.
    pub(crate) fn of(slot: OwnedMutexGuard<Slot>) -> Self {
        Self(Some(slot))
    }

    /// The slot.
    pub(crate) fn slot(&mut self) -> Option<&mut Slot> {
        self.0.as_deref_mut()
    }

    /// What was done is in the vault, or nothing was.
    pub(crate) fn settled(mut self) {
        self.0 = None;
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(slot) = &mut self.0 {
            slot.forget();
        }
    }
}

/// One group's loaded states.
pub struct Slot {
    gid: GroupId,
    head: Option<StateId>,
    states: LruCache<StateId, GroupState>,
    members: Option<Arc<Members>>,
    dag: Option<Dag>,
    /// Since when the head stays although another branch would be chosen.
    waits_since: Option<Instant>,
}

impl Slot {
    fn new(gid: GroupId) -> Self {
        Self {
            gid,
            head: None,
            states: LruCache::new(LOADED_STATES),
            members: None,
            dag: None,
            waits_since: None,
        }
    }

    /// The group.
    pub(crate) fn gid(&self) -> GroupId {
        self.gid
    }

    /// The id of the head state.
    ///
    /// # Errors
    /// [`SlotError`]
    pub(crate) async fn head_id(&mut self, vault: &Vault) -> Result<StateId, SlotError> {
        if let Some(head) = self.head {
            return Ok(head);
        }
        let mut reader = vault.read().await?;
        let group = mls::group(reader.conn(), self.gid).await?.ok_or(SlotError::NotAMember)?;
        match group.standing {
            mls::GroupStanding::Active | mls::GroupStanding::Leaving => {}
            mls::GroupStanding::Left | mls::GroupStanding::Removed => return Err(SlotError::NotAMember),
        }
        self.head = Some(group.head);
        Ok(group.head)
    }

    /// The head state.
    ///
    /// # Errors
    /// [`SlotError`]
    pub(crate) async fn head(&mut self, vault: &Vault) -> Result<&mut GroupState, SlotError> {
        let head = self.head_id(vault).await?;
        self.state(vault, head).await
    }

    /// One state, loaded if it is not.
    ///
    /// # Errors
    /// [`SlotError`]
    pub(crate) async fn state(&mut self, vault: &Vault, sid: StateId) -> Result<&mut GroupState, SlotError> {
        if !self.states.contains(&sid) {
            let mut reader = vault.read().await?;
            let rows = mls::load_rows(reader.conn(), self.gid, sid).await?;
            if rows.all().next().is_none() {
                return Err(SlotError::Pruned);
            }
            self.states.put(sid, GroupState::load(self.gid, rows)?);
        }
        self.states.get_mut(&sid).ok_or(SlotError::Pruned)
    }

    /// Everyone who is or was a member.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(crate) async fn members(&mut self, vault: &Vault) -> Result<Arc<Members>, StoreError> {
        if let Some(members) = &self.members {
            return Ok(Arc::clone(members));
        }
        let mut reader = vault.read().await?;
        let members = Arc::new(Members::new(space::member_rows(reader.conn(), self.gid).await?));
        self.members = Some(Arc::clone(&members));
        Ok(members)
    }

    /// The head state and the members, when both are at hand.
    pub(crate) fn loaded(&mut self) -> Option<(&mut GroupState, &Members)> {
        Some((self.states.get_mut(&self.head?)?, self.members.as_deref()?))
    }

    /// The states of all branches, and what members follow.
    ///
    /// # Errors
    /// [`SlotError`]
    pub(crate) async fn dag(&mut self, vault: &Vault, own: DeviceId) -> Result<&mut Dag, SlotError> {
        let dag = match self.dag.take() {
            Some(dag) => dag,
            None => {
                let mut reader = vault.read().await?;
                branch::load(reader.conn(), self.gid, own).await?.ok_or(SlotError::NotAMember)?
            }
        };
        Ok(self.dag.insert(dag))
    }

    /// The proofs that these votes completed against their devices.
    pub(super) fn proofs_against(&self, heard: &[Support]) -> Vec<Equivocation> {
        let supports = self.dag.as_ref().map(Dag::supports);
        let proof = |vote: &Support| supports.and_then(|supports| supports.equivocation(&vote.device));
        heard.iter().filter_map(proof).copied().collect()
    }

    /// Keeps a state loaded that is stored, or is about to be.
    pub(super) fn keep(&mut self, state: GroupState) {
        self.states.put(state.facts().sid, state);
    }

    /// Whether the head is to stay a little longer where it is, `there_is_more` being on the way.
    pub(super) fn waits_for_more(&mut self, there_is_more: bool) -> bool {
        if !there_is_more {
            self.waits_since = None;
            return false;
        }
        self.waits_since.get_or_insert_with(Instant::now).elapsed() < MAX_WAIT_FOR_MORE
    }

    /// The head is this state now.
    pub(super) fn stand_on(&mut self, head: StateId) {
        self.head = Some(head);
        self.members = None;
    }

    /// Someone who was not known is being stored.
    pub(super) fn meet(&mut self) {
        self.members = None;
    }

    /// The secrets of these states are gone.
    pub(super) fn drop_states(&mut self, states: &[StateId]) {
        for sid in states {
            self.states.pop(sid);
            if let Some(dag) = &mut self.dag {
                dag.prune(sid);
            }
        }
    }

    /// Drops everything loaded: a transaction failed, and memory may be ahead of the vault.
    pub(crate) fn forget(&mut self) {
        self.head = None;
        self.states.clear();
        self.members = None;
        self.dag = None;
    }
}
