//! T5: whose turn it is commits what members asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    actor::{Cx, Member},
    disk::Disk,
    ledger::{Made, Output},
    rows::{Adoption, Bundle},
    wire::{CommitFrame, JoinBundle, Message, Skeleton},
};
use crate::{
    dag::{
        Roster,
        renewal::due_after,
        turn::{ONLINE, Outlook, Sake, Turn, turn},
    },
    event::{Body, ChangeKind, SignedEvent},
    group::{
        authorize::{AddedLeaf, Justification, Plan, Standing, plan},
        commit::{Change, Committed},
        frame::Frame,
        requests::{Batch, Candidate, Path, Status, batch, status},
        testing::Hostile,
    },
    id::{DeviceId, EventId, StateId},
    mutant::{self, Mutant},
};

/// Requests with what has become of them, as long as nothing changes.
pub(super) type Open = (u64, Option<StateId>, Arc<Vec<(Candidate, Status)>>);

/// A commit that could be made.
pub(super) struct Draft {
    batch: Batch,
    reasons: Justification,
    plan: Plan,
    before: Roster,
    after: Roster,
    pub(super) sake: Sake,
    waited: Duration,
    own: bool,
}

impl<E: Hostile> Member<E> {
    /// The requests that are here and what has become of them at the head.
    pub(super) fn open_requests(&mut self, cx: &Cx<'_, E>) -> Arc<Vec<(Candidate, Status)>> {
        let (version, head) = (cx.disk().version, cx.disk().at());
        if let Some((of, at, open)) = &self.open
            && (*of, *at) == (version, head)
        {
            return Arc::clone(open);
        }
        let mut all = Vec::new();
        if let Some(head) = head
            && let Some(row) = cx.disk().states.get(&head)
        {
            let included = cx.disk().included_before(&head);
            for request in cx.disk().requests() {
                let mut on_path = included.get(&request.id).copied();
                if mutant::on(Mutant::ReopenSkipped) {
                    let mut rows = cx.disk().states.iter();
                    on_path = rows.find(|(_, row)| row.included.contains(&request.id)).map(|(sid, _)| *sid);
                }
                let candidate = candidate_on::<E>(cx.disk(), request);
                let path = Path { included: on_path, has_seen: cx.disk().has_seen(&head, request) };
                let status = status(&candidate, &row.standing, path);
                all.push((candidate, status));
            }
        }
        let all = Arc::new(all);
        self.open = Some((version, head, Arc::clone(&all)));
        all
    }

    /// Commits if there is something to commit and it is this device's turn; whether it did.
    pub(super) fn commit(&mut self, cx: &mut Cx<'_, E>) -> bool {
        let Some(head) = cx.disk().safe_at() else { return false };
        let ready = self.confirmed || mutant::on(Mutant::SealBeforeEcho);
        if !ready {
            return false;
        }
        let open = self.open_requests(cx);
        let is_open =
            |(candidate, status): &(Candidate, Status)| (*status == Status::Open).then(|| candidate.clone());
        let open: Vec<Candidate> = open.iter().filter_map(is_open).collect();
        let now_ms = cx.monotonic_ms();
        for candidate in &open {
            self.request_since.entry(candidate.request.id).or_insert(now_ms);
        }
        if open.is_empty() && self.update_since.is_none() {
            return false;
        }
        let Some((draft, turn)) = self.draft(head, open, cx) else { return false };
        match turn {
            Turn::Now => self.make(head, draft, &[], cx).is_some(),
            Turn::In(wait) => {
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                self.turn_in(wait_ms + 1, cx);
                false
            }
            Turn::Apart => false,
        }
    }

    /// What this device would commit, and when: what its own user asked for, if it sees nobody.
    fn draft(&self, head: StateId, open: Vec<Candidate>, cx: &Cx<'_, E>) -> Option<(Draft, Turn)> {
        let draft = self.draft_of(head, open.clone(), cx)?;
        let turn = self.turn(head, &draft, cx)?;
        if turn != Turn::Apart || draft.batch.requests.is_empty() {
            return Some((draft, turn));
        }
        let own = cx.disk().device;
        let asked = open.into_iter().filter(|candidate| candidate.request.event.author == own).collect();
        let draft = self.draft_of(head, asked, cx).filter(|draft| draft.own)?;
        let turn = self.turn(head, &draft, cx)?;
        Some((draft, turn))
    }

    pub(super) fn draft_of(&self, head: StateId, open: Vec<Candidate>, cx: &Cx<'_, E>) -> Option<Draft> {
        let disk = cx.disk();
        let standing = &disk.states.get(&head)?.standing;
        let batch = batch(open, standing, &disk.device);
        if batch.requests.is_empty() && self.update_since.is_none() {
            return None;
        }
        let reasons = Justification {
            requests: batch.requests.clone(),
            joins: batch.joins.clone(),
            ..Justification::empty(cx.wall_ms())
        };
        let plan = plan(standing, &disk.device, &batch.adds, &reasons).ok()?;
        let before = roster(standing, &[], &[]);
        let after = roster(standing, &plan.removes, &batch.adds);
        let now_ms = cx.monotonic_ms();
        let since = |id: &EventId| self.request_since.get(id).copied().unwrap_or(now_ms);
        let own: Vec<_> = batch.requests.iter().filter(|it| it.event.author == disk.device).collect();
        let sake = match own.iter().map(|it| since(&it.id)).min() {
            Some(asked_ms) => Sake::OwnUser(ms(now_ms - asked_ms)),
            None if batch.requests.is_empty() => Sake::Update,
            None => Sake::Others,
        };
        let reason_ms = batch.requests.iter().map(|it| since(&it.id)).min().or(self.update_since)?;
        let waited = ms(now_ms.saturating_sub(reason_ms.max(self.head_since.1)));
        Some(Draft { own: !own.is_empty(), batch, reasons, plan, before, after, sake, waited })
    }

    fn turn(&self, head: StateId, draft: &Draft, cx: &Cx<'_, E>) -> Option<Turn> {
        let disk = cx.disk();
        let person = self.person(cx)?;
        let ranked = disk.dag.ranked(disk.dag.node(&head)?);
        let online = self.online(cx);
        Some(turn(&Outlook {
            own: disk.device,
            account: person.account,
            ranked: &ranked,
            before: &draft.before,
            after: &draft.after,
            online: &online,
            removal: !draft.plan.removed_accounts.is_empty(),
            sake: draft.sake,
            waited: draft.waited,
        }))
    }

    /// Notes when this device's keys have become old.
    pub(super) fn look_at_keys(&mut self, cx: &Cx<'_, E>) {
        let disk = cx.disk();
        let Some(head) = disk.safe_at().filter(|_| self.update_since.is_none()) else { return };
        let Some(last) = disk.dag.last_renewal(&head) else { return };
        let (Some(row), Some(standing)) = (disk.states.get(&last), disk.standing()) else { return };
        let age = ms(cx.wall_ms().saturating_sub(row.adopted_ms));
        if age >= due_after(&disk.device, &last, standing.roster.len()) {
            self.update_since = Some(cx.monotonic_ms());
        }
    }

    /// Other devices that were heard of late.
    pub(super) fn online(&self, cx: &Cx<'_, E>) -> BTreeSet<DeviceId> {
        let limit_ms = u64::try_from(ONLINE.as_millis()).unwrap_or(u64::MAX);
        let since = cx.monotonic_ms().saturating_sub(limit_ms);
        self.heard_ms.iter().filter(|(_, at)| **at >= since).map(|(device, _)| *device).collect()
    }

    /// Commits; a hostile member so that `victims` cannot follow.
    pub(super) fn make(
        &mut self,
        head: StateId,
        draft: Draft,
        victims: &[DeviceId],
        cx: &mut Cx<'_, E>,
    ) -> Option<()> {
        let (identity, key) = {
            let person = self.person(cx)?;
            (person.identity.clone(), person.key.clone())
        };
        let Draft { batch, reasons, plan, sake, .. } = draft;
        let change = Change { adds: batch.key_packages.clone(), removes: plan.removes, policy: plan.policy };
        let peers = self.reachable(cx);
        let (state, justification) = (self.load(cx, &head)?, reasons.encode().ok()?);
        let committed = match victims {
            [] => state.commit(&identity, change, justification),
            victims => state.commit_against(&identity, &change, justification, victims),
        };
        let Ok(committed) = committed else {
            cx.count("commits that failed");
            return None;
        };
        let skeleton = Skeleton::sign(&key, &head, &committed);
        let id = Frame::decode(&committed.frame).ok()?.id();
        let bundles = self.bundles(&skeleton, &committed, &batch, cx);
        let Committed { mut child, frame, authorized, .. } = committed;
        let commit = Arc::new(CommitFrame { id, bytes: frame, skeleton: skeleton.clone() });
        let standing = Arc::new(child.facts().standing.clone());
        let included = authorized.included.clone();
        let rows = child.take_changes().ok()?.upserts;
        let adoption = Adoption {
            skeleton: skeleton.clone(),
            standing: Arc::clone(&standing),
            env_tag: child.facts().env_tag,
            rows: (!mutant::on(Mutant::OwnChildNotStored)).then_some(rows),
            included: included.clone(),
            own: true,
            at_ms: cx.wall_ms(),
        };
        let rival = cx.disk().dag.children(&head).next().is_some();
        let (before, stored) = (cx.disk().stand(), Arc::clone(&commit));
        self.write(cx, "T5 commit", |disk| {
            disk.adopt(adoption);
            disk.commits.insert(id, Some(stored));
            disk.bundles.extend(bundles);
            disk.counter += 1;
        })
        .ok()?;
        self.states.insert(skeleton.sid, child);
        // Every commit renews its committer's keys.
        self.update_since = None;
        cx.count("commits");
        if rival {
            cx.count("forks seen");
        }
        cx.output(Output::Knows(skeleton.sid, standing));
        cx.output(Output::Committed(Made { skeleton, sake, included }));
        self.note_switch(before, cx);
        for peer in peers {
            cx.send(peer, Message::Commit(Arc::clone(&commit)));
        }
        Some(())
    }

    /// Letters to those whom a commit adds, or gives fresh leaves.
    fn bundles(
        &self,
        skeleton: &Skeleton,
        committed: &Committed<E>,
        batch: &Batch,
        cx: &Cx<'_, E>,
    ) -> Vec<Bundle> {
        let Some(welcome) = &committed.welcome else { return Vec::new() };
        let logs = &cx.disk().logs;
        let state = logs.events().filter(|event| event.event.body.is_state());
        let events: Vec<SignedEvent> = state.cloned().collect();
        let bundle = |leaf: &AddedLeaf| Bundle {
            to: leaf.certificate.device,
            made_ms: cx.monotonic_ms(),
            bundle: JoinBundle {
                skeleton: skeleton.clone(),
                welcome: welcome.clone(),
                route_secret: *committed.child.route_secret(),
                floors: logs.floors(),
                events: events.clone(),
                key_package_hash: leaf.key_package_hash,
            },
        };
        batch.adds.iter().map(bundle).collect()
    }
}

/// A request with its KeyPackage and its invite.
pub(super) fn candidate_on<E: Hostile>(disk: &Disk, request: &SignedEvent) -> Candidate {
    let mut candidate = Candidate::plain(request.clone());
    if let Body::ChangeRequest { kind, .. } = &request.event.body {
        let key_package = match kind {
            ChangeKind::Rejoin { key_package, .. } => Some(key_package),
            ChangeKind::Add { key_package, invite, .. } => {
                candidate.invite = disk.invite(invite).cloned();
                Some(key_package)
            }
            ChangeKind::Remove | ChangeKind::Leave | ChangeKind::Role { .. } => None,
        };
        let checked = key_package.and_then(|bytes| E::check_key_package(bytes).ok());
        candidate.leaf = checked
            .map(|checked| AddedLeaf { certificate: checked.certificate, key_package_hash: checked.hash });
    }
    candidate
}

fn roster(standing: &Standing, removes: &[DeviceId], adds: &[AddedLeaf]) -> Roster {
    let stay = standing.roster.iter().map(|member| &member.certificate);
    let stay = stay.filter(|certificate| !removes.contains(&certificate.device));
    let members: BTreeMap<_, _> = stay
        .chain(adds.iter().map(|leaf| &leaf.certificate))
        .map(|certificate| (certificate.device, certificate.account))
        .collect();
    members.into_iter().map(|(device, account)| (account, device)).collect()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
