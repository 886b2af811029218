//! Making commits: open requests, answered in one batch by the device whose turn it is (T5).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{Network, RETRY, Slot, SlotError, head::Learnt, link::Outgoing, rejoin::is_rejoin, until};
use crate::{
    clock::now_ms,
    dag::{
        Held, Node, Skeleton,
        turn::{Outlook, Sake, Turn, turn},
    },
    event::SignedEvent,
    group::{
        authorize::{AddedLeaf, JoinProof, Justification, MAX_REQUESTS, Standing, plan},
        commit::{Change, Committed},
        error::GroupError,
        frame::Frame,
        requests::{self, Batch, Candidate, Path, Status, batch},
        state::GroupState,
    },
    id::{AccountId, DeviceId, EventId, GroupId, StateId},
    store::{StoreError, event, invite, rejoin},
};

/// What a commit is asked to do.
#[derive(Default)]
pub(super) struct Wish {
    /// tls(KeyPackage), what it adds, and why it may; a fresh leaf is asked for by one of the requests.
    pub(super) adds: Vec<(Vec<u8>, AddedLeaf, Option<JoinProof>)>,
    /// Signed requests.
    pub(super) requests: Vec<SignedEvent>,
}

/// What becomes of a group's open requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pending {
    /// None is left that this device could commit.
    Nothing,
    /// This device commits them after this time, if nobody else does.
    For(Duration),
    /// Nobody else is there to share a commit with.
    Apart,
}

/// Since when each request of a group has been open in the state that is the head, or fresh keys due.
#[derive(Default)]
pub(super) struct Waits(Mutex<HashMap<GroupId, Waiting>>);

struct Waiting {
    head: StateId,
    since: HashMap<Option<EventId>, Instant>,
}

impl Waits {
    /// How long the one that waits the longest of these has waited in this state.
    fn longest(&self, gid: GroupId, head: StateId, open: &[Option<EventId>], now: Instant) -> Duration {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = groups.entry(gid).or_insert_with(|| Waiting { head, since: HashMap::new() });
        if waiting.head != head {
            *waiting = Waiting { head, since: HashMap::new() };
        }
        waiting.since.retain(|request, _| open.contains(request));
        let waited = open.iter().map(|request| now - *waiting.since.entry(*request).or_insert(now));
        waited.max().unwrap_or_default()
    }
}

/// Until a member may have told that this vault is the newest, or what it lacks.
const ECHO_WAIT: Duration = Duration::from_millis(200);

impl Network {
    /// Answers open requests whenever some may be there and it is this device's turn.
    pub(super) async fn commit_requests(self: Arc<Self>) {
        loop {
            let next = self.answer_all().await;
            tokio::select! {
                () = self.wake.commit.notified() => {}
                () = until(next.map(|wait| Instant::now() + wait)) => {}
            }
        }
    }

    /// Gives the time until a turn comes that depends on nothing else.
    async fn answer_all(self: &Arc<Self>) -> Option<Duration> {
        let groups = match self.live_groups().await {
            Ok(groups) => groups,
            Err(error) => {
                tracing::warn!(%error, "groups cannot be read");
                return Some(RETRY);
            }
        };
        let mut next: Option<Duration> = None;
        for gid in groups {
            let mut pending = Box::pin(self.answer_requests(gid)).await;
            if matches!(pending, Ok(Pending::Nothing)) {
                pending = Box::pin(self.renew_keys(gid)).await;
            }
            let wait = match pending {
                Ok(Pending::For(wait)) => Some(wait),
                // Whoever comes wakes this.
                Ok(Pending::Nothing | Pending::Apart) | Err(SlotError::NotAMember) => None,
                Err(error) => {
                    tracing::warn!(%error, "open requests could not be answered");
                    Some(RETRY)
                }
            };
            next = next.into_iter().chain(wait).min();
        }
        next
    }

    /// Commits the open requests of a group if it is this device's turn, and closes those without a future.
    ///
    /// # Errors
    /// [`SlotError`]
    pub(crate) async fn answer_requests(self: &Arc<Self>, gid: GroupId) -> Result<Pending, SlotError> {
        let mut open = self.open_requests(gid).await?;
        open.extend(self.rejoin_candidates(gid).await?);
        if open.is_empty() {
            return Ok(Pending::Nothing);
        }
        let mut slot = self.groups.lock(gid).await;
        let own = self.keys.device_id();
        if !self.is_on_the_way(&mut slot).await? {
            // What is committed where the others are not would only be in their way.
            return Ok(Pending::Nothing);
        }
        let head = slot.head(&self.vault).await?;
        let (sid, standing) = (head.facts().sid, head.facts().standing.clone());
        let dag = slot.dag(&self.vault, own).await?;
        let judged = open.into_iter().map(|candidate| {
            let seen = &candidate.request.event.seen_sid;
            let path = Path { included: None, has_seen: dag.is_below(&sid, seen) };
            (requests::status(&candidate, &standing, path), candidate)
        });
        let (open, closed): (Vec<_>, Vec<_>) = judged.partition(|(status, _)| *status == Status::Open);
        if !closed.is_empty() {
            let closed = closed.into_iter();
            let closed = closed.map(|(status, closed)| (closed.request, status == Status::Ahead));
            self.close_requests(gid, closed.collect()).await?;
            // What waited for a removal need not any more.
            self.wake.outbox.notify_one();
        }
        let open = open.into_iter().map(|(_, candidate)| candidate).collect();
        let batch = batch(open, &standing, &own);
        if batch.requests.is_empty() {
            return Ok(Pending::Nothing);
        }
        if let Some(pending) = self.unconfirmed(&mut slot).await? {
            return Ok(pending);
        }
        match self.turn_to_commit(&mut slot, sid, &standing, &batch).await? {
            Turn::Now => {}
            Turn::In(wait) => return Ok(Pending::For(wait)),
            Turn::Apart => return Ok(Pending::Apart),
        }
        let committed = self.commit_batch(&mut slot, batch).await;
        if committed.is_err() {
            slot.forget();
        }
        committed.map(|()| Pending::Nothing)
    }

    /// What to wait for while nobody has said that this vault is the newest, or what happened since it was
    /// last in touch: nothing is to be committed on a state that an old copy of it, or whoever was away, takes
    /// for the head.
    pub(super) async fn unconfirmed(self: &Arc<Self>, slot: &mut Slot) -> Result<Option<Pending>, SlotError> {
        let (gid, peers) = (slot.gid(), self.connected_members(slot).await?);
        if peers.is_empty() {
            return Ok(None);
        }
        if self.greetings.are_all_new(gid, peers.iter().map(|(_, peer)| *peer)) {
            return Ok(Some(Pending::For(ECHO_WAIT)));
        }
        if self.echoes.is_confirmed(gid) {
            return Ok(None);
        }
        self.need_echo(gid, peers.into_iter().map(|(_, peer)| peer).collect());
        Ok(Some(if self.echoes.is_refused(gid) { Pending::Apart } else { Pending::For(ECHO_WAIT) }))
    }

    /// Whether to commit these requests, or fresh keys if there are none.
    pub(super) async fn turn_to_commit(
        &self,
        slot: &mut Slot,
        sid: StateId,
        standing: &Standing,
        batch: &Batch,
    ) -> Result<Turn, SlotError> {
        let (own, account, requests) = (self.keys.device_id(), self.keys.account(), &batch.requests);
        let reasons =
            Justification { requests: requests.clone(), ..Justification::empty(now_ms().unsigned_abs()) };
        let planned = plan(standing, &own, &batch.adds, &reasons).map_err(GroupError::from)?;
        let before = standing.members();
        let goes = |device: &DeviceId| planned.removes.contains(device) && !planned.rejoined.contains(device);
        let stays = |(_, device): &(&AccountId, &DeviceId)| !goes(device);
        let after = before.members().filter(stays).map(|(account, device)| (*account, *device)).collect();
        let members = self.connected_members(slot).await?;
        let online = members.into_iter().map(|(device, _)| device).collect();
        let mut ids: Vec<_> = requests.iter().map(|request| Some(request.id)).collect();
        if ids.is_empty() {
            ids.push(None);
        }
        let waited = self.waits.longest(slot.gid(), sid, &ids, Instant::now());
        let asked = requests.iter().filter(|request| request.event.author == own);
        let asked = asked.map(|request| now_ms().unsigned_abs().saturating_sub(request.event.wall_ms)).max();
        let dag = slot.dag(&self.vault, own).await?;
        let mut ranked = dag.node(&sid).map(|node| dag.ranked(node)).unwrap_or_default();
        // Whoever lost its way makes no commit here.
        ranked.retain(|device| !planned.rejoined.contains(device));
        Ok(turn(&Outlook {
            own,
            account,
            ranked: &ranked,
            before: &before,
            after: &after,
            online: &online,
            removal: !planned.removed_accounts.is_empty(),
            sake: match asked {
                Some(ms) => Sake::OwnUser(Duration::from_millis(ms)),
                None if requests.is_empty() => Sake::Update,
                None => Sake::Others,
            },
            waited,
        }))
    }

    async fn open_requests(&self, gid: GroupId) -> Result<Vec<Candidate>, StoreError> {
        let mut reader = self.vault.read().await?;
        let conn = reader.conn();
        let limit = u32::try_from(MAX_REQUESTS).unwrap_or(u32::MAX);
        let mut open = Vec::new();
        for request in invite::open_requests(conn, gid, limit).await? {
            let signed = event::signed(conn, request.event).await?.ok_or(StoreError::Corrupt)?;
            let request = SignedEvent::decode_stored(&signed).map_err(|_| StoreError::Corrupt)?;
            open.push(Candidate::plain(request));
        }
        Ok(open)
    }

    /// Nobody can act on these in this head; on those that lie ahead perhaps in a later one.
    async fn close_requests(&self, gid: GroupId, closed: Vec<(SignedEvent, bool)>) -> Result<(), StoreError> {
        self.vault
            .write(move |tx| {
                Box::pin(async move {
                    for (request, is_ahead) in closed {
                        let is_rejoin = is_rejoin(&request);
                        invite::close_request(tx.conn(), gid, request.id, is_ahead).await?;
                        // Whoever still wants one asks again.
                        if is_rejoin {
                            rejoin::drop_request(tx.conn(), gid, request.event.author).await?;
                        }
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Commits on the head, stores it with the letters that `letters` makes of it, and only then tells others.
    pub(super) async fn commit(
        self: &Arc<Self>,
        slot: &mut Slot,
        wish: Wish,
        letters: impl FnOnce(&Committed, &GroupState) -> Result<Vec<super::admit::Letter>, SlotError>,
    ) -> Result<(), SlotError> {
        let before = self.connected_members(slot).await?;
        let head = slot.head(&self.vault).await?;
        let (parent, env_tag) = (head.facts().sid, head.facts().env_tag);
        let mut committed = self.make_commit(head, wish)?;
        let letters = letters(&committed, &committed.child)?;
        let frame = Frame::decode(&committed.frame).map_err(|_| GroupError::TooLarge)?;
        let bytes: Arc<[u8]> = std::mem::take(&mut committed.frame).into();
        let facts = committed.child.facts().clone();
        let node = Node {
            sid: facts.sid,
            parent: Some(parent),
            epoch: facts.epoch,
            commit: committed.commit_id,
            committer: committed.committer,
            class: committed.authorized.class,
            roster: Arc::new(facts.standing.members()),
            held: Held::Live,
        };
        let skeleton = Skeleton::of(&node).ok_or(GroupError::Damaged)?;
        let learnt = Learnt {
            node,
            skeleton_signature: self.keys.identity.sign(&skeleton.signed_bytes(&slot.gid())),
            secrets: Some((facts, committed.child.take_changes()?)),
            frame: frame.id(),
            frame_bytes: Arc::clone(&bytes),
            env_tag,
            authorized: committed.authorized,
        };
        self.learn(slot, learnt, Some(committed.child), letters).await?;
        // Those it removes hear it like everyone else; the farewell covers those who are away.
        for (_, peer) in before {
            self.links.push(&peer, Outgoing { bytes: Arc::clone(&bytes), custody: None });
        }
        Ok(())
    }

    fn make_commit(&self, head: &GroupState, wish: Wish) -> Result<Committed, SlotError> {
        let mut key_packages = Vec::with_capacity(wish.adds.len());
        let mut adds = Vec::with_capacity(wish.adds.len());
        let mut reasons =
            Justification { requests: wish.requests, ..Justification::empty(now_ms().unsigned_abs()) };
        for (key_package, leaf, proof) in wish.adds {
            key_packages.push(key_package);
            adds.push(leaf);
            reasons.joins.extend(proof);
        }
        let planned = plan(&head.facts().standing, &self.keys.device_id(), &adds, &reasons)
            .map_err(GroupError::from)?;
        let encoded = reasons.encode().map_err(GroupError::from)?;
        let change = Change { adds: key_packages, removes: planned.removes, policy: planned.policy };
        Ok(head.commit(&self.keys.identity, change, encoded)?)
    }
}
