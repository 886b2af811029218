//! T4 for commits: checked against their parent's state, stored with the state that they lead to.

use std::sync::Arc;

use spacepanda_proto::peer::v1::FrameKind;

use super::{
    actor::{Cx, Member},
    ledger::Output,
    rows::Adoption,
    wire::{CommitFrame, Skeleton},
};
use crate::{
    group::{engine::Outcome, error::CommitError, frame::Frame, process::Processed, testing::Hostile},
    id::{CommitId, StateId},
    mutant::{self, Mutant},
};

/// Commits of unknown states that are kept.
const MOST_PARKED: usize = 512;

impl<E: Hostile> Member<E> {
    /// Takes in a commit and all those that waited for it.
    pub(super) fn follow(&mut self, commit: Arc<CommitFrame>, cx: &mut Cx<'_, E>) {
        let before = cx.disk().version;
        self.follow_one(&commit, cx);
        self.follow_parked(before, cx);
    }

    /// Takes in what waited for states that came since the disk had this version.
    pub(super) fn follow_parked(&mut self, before: u64, cx: &mut Cx<'_, E>) {
        while cx.disk().version != before && !cx.is_dead() {
            let tagged = |commit: &&Arc<CommitFrame>| {
                Frame::decode(&commit.bytes).is_ok_and(|it| cx.disk().tags.contains_key(&it.env_tag()))
            };
            let Some(next) = cx.disk().parked_commits.values().find(tagged).cloned() else { break };
            self.follow_one(&next, cx);
            let left = self.write(cx, "T3 park", |disk| disk.parked_commits.remove(&next.id));
            if left.is_err() {
                break;
            }
        }
        if cx.disk().version != before {
            self.unpark(cx);
        }
    }

    fn follow_one(&mut self, commit: &Arc<CommitFrame>, cx: &mut Cx<'_, E>) {
        if cx.disk().commits.contains_key(&commit.id) {
            return;
        }
        let Ok(frame) = Frame::decode(&commit.bytes) else { return cx.count("commits refused") };
        let Some(parent) = cx.disk().tags.get(&frame.env_tag()).copied() else {
            let room = cx.disk().parked_commits.len() < MOST_PARKED;
            let known = cx.disk().parked_commits.contains_key(&commit.id);
            if room && !known {
                let waiting = Arc::clone(commit);
                let _ = self.write(cx, "T3 park", |disk| disk.parked_commits.insert(waiting.id, waiting));
                cx.count("commits parked");
            }
            return;
        };
        let Some(state) = self.load(cx, &parent) else {
            cx.count("commits beyond the window");
            return self.set_aside(commit, cx);
        };
        let Ok(opened) = state.open_frame(&frame) else { return cx.count("commits refused") };
        if opened.kind != FrameKind::Commit {
            return cx.count("commits refused");
        }
        match state.process_commit(&opened.body) {
            Ok(processed) => self.enter(parent, commit, processed, cx),
            Err(CommitError::OwnCommit) if self.lies.doubles.contains(&CommitId::of(&opened.body)) => {
                self.set_aside(commit, cx);
            }
            Err(CommitError::OwnCommit) => {
                cx.output(Output::OwnCommitFromBytes(CommitId::of(&opened.body)));
                cx.count("own commits forgotten");
                let id = commit.id;
                let _ = self.write(cx, "T4 follow", |disk| {
                    disk.stale = true;
                    disk.commits.insert(id, None);
                });
            }
            Err(error) => {
                cx.count(match error {
                    CommitError::Unauthorised(_) => "commits unauthorised",
                    _ => "commits refused",
                });
                self.set_aside(commit, cx);
            }
        }
    }

    /// Remembers a commit that leads nowhere, so that nobody sends it again.
    fn set_aside(&mut self, commit: &CommitFrame, cx: &mut Cx<'_, E>) {
        let id = commit.id;
        let _ = self.write(cx, "T4 follow", |disk| disk.commits.insert(id, None));
    }

    fn enter(
        &mut self,
        parent: StateId,
        commit: &Arc<CommitFrame>,
        processed: Processed<E>,
        cx: &mut Cx<'_, E>,
    ) {
        let Processed { outcome, commit_id, committer, authorized, .. } = processed;
        let (child, sid, standing) = match outcome {
            Outcome::Child(child) => {
                let (sid, standing) = (child.facts().sid, child.facts().standing.clone());
                (Some(child), sid, standing)
            }
            Outcome::Removed(public) => (None, public.sid, public.standing),
            Outcome::Opaque(public) => {
                cx.count("opaque");
                (None, public.sid, public.standing)
            }
        };
        let true_skeleton = Skeleton {
            parent: Some(parent),
            sid,
            epoch: standing.epoch,
            class: authorized.class,
            committer,
            commit: commit_id,
            signature: commit.skeleton.signature,
        };
        let (env_tag, rows, child) = match child {
            Some(mut child) => {
                let Ok(rows) = child.take_changes() else { return };
                (child.facts().env_tag, Some(rows.upserts), Some(child))
            }
            None => ([0; 16], None, None),
        };
        let adoption = Adoption {
            skeleton: true_skeleton,
            standing: Arc::new(standing),
            env_tag,
            rows,
            included: authorized.included,
            own: false,
            at_ms: cx.wall_ms(),
        };
        let standing = Arc::clone(&adoption.standing);
        let rival = cx.disk().dag.children(&parent).any(|other| other.sid != sid);
        let (before, kept) = (cx.disk().stand(), Arc::clone(commit));
        let stored = self.write(cx, "T4 follow", |disk| {
            if mutant::on(Mutant::ParentRowsMutated) {
                disk.overwrite(&parent, adoption.rows.as_ref());
            }
            disk.adopt(adoption);
            disk.commits.insert(kept.id, Some(kept));
        });
        if stored.is_err() {
            return;
        }
        if let Some(child) = child {
            self.states.insert(sid, child);
        }
        cx.output(Output::Knows(sid, standing));
        if rival {
            cx.count("forks seen");
        }
        self.note_switch(before, cx);
    }

    /// Counts a head that moved to another branch.
    pub(super) fn note_switch(&self, before: Option<StateId>, cx: &mut Cx<'_, E>) {
        let after = cx.disk().stand();
        if let (Some(before), Some(after)) = (before, after)
            && before != after
            && !cx.disk().dag.is_below(&after, &before)
        {
            cx.count("heals");
        }
        if !cx.disk().dag.double_committers().is_empty() {
            cx.count("equivocations");
        }
    }
}
