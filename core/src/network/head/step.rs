//! The step in which a group goes on, all or nothing: a state that became known (T5), the way to another branch
//! (T6), or votes.

use super::{Learnt, Verdict};
use crate::{
    certificate::Certificate,
    clock::now_ms,
    dag::{Equivocation, Support},
    id::{AccountId, GroupId},
    network::{Network, admit::Letter, adopt::end_membership, health},
    reconcile::place_of_commit,
    store::{
        StoreError, WriteTx, branch, commit, frame, frame_set,
        mls::{self, GroupStanding},
        skeleton, space,
    },
};

/// What is to be stored at once.
pub(super) struct Step {
    pub(super) gid: GroupId,
    /// Where what became known leads.
    pub(super) verdict: Verdict,
    pub(super) learnt: Option<Learnt>,
    /// Who is in that state and never was a member here.
    pub(super) newcomers: Vec<Certificate>,
    /// What lets in those whom the commit adds.
    pub(super) letters: Vec<Letter>,
    pub(super) heard: Vec<Support>,
    /// What the votes complete against their devices.
    pub(super) proofs: Vec<Equivocation>,
}

impl Network {
    /// Stores it; gives the verdict back. Each kind has a function of its own, whose name is the step's: that is how
    /// a test tells beside which step a device dies.
    pub(super) async fn take_step(&self, step: Step) -> Result<Verdict, StoreError> {
        match (&step.verdict, &step.learnt) {
            (Verdict::Move(moved), _) if !moved.route.abandoned.is_empty() => self.store_switch(step).await,
            (_, Some(_)) => self.store_commit(step).await,
            (_, None) => self.store_votes(step).await,
        }
    }

    async fn store_switch(&self, step: Step) -> Result<Verdict, StoreError> {
        let me = self.keys.account();
        self.vault.write(move |tx| Box::pin(step.store(tx, me))).await
    }

    async fn store_commit(&self, step: Step) -> Result<Verdict, StoreError> {
        let me = self.keys.account();
        self.vault.write(move |tx| Box::pin(step.store(tx, me))).await
    }

    async fn store_votes(&self, step: Step) -> Result<Verdict, StoreError> {
        let me = self.keys.account();
        self.vault.write(move |tx| Box::pin(step.store(tx, me))).await
    }
}

impl Step {
    async fn store(self, tx: &mut WriteTx<'_>, me: AccountId) -> Result<Verdict, StoreError> {
        let (gid, now) = (self.gid, now_ms());
        if let Some(learnt) = &self.learnt {
            learnt.store(tx, gid, now).await?;
            for certificate in &self.newcomers {
                space::note_elsewhere(tx.conn(), gid, certificate, learnt.node.epoch, now).await?;
            }
        }
        for support in &self.heard {
            branch::hear(tx.conn(), gid, support).await?;
        }
        for proof in &self.proofs {
            branch::convict(tx.conn(), gid, proof).await?;
        }
        match &self.verdict {
            Verdict::Stay => {}
            Verdict::Move(moved) => moved.store(tx, now).await?,
            Verdict::Beyond => health::beyond(tx, gid).await?,
            Verdict::Out => {
                let group = mls::group(tx.conn(), gid).await?;
                let asked = group.is_some_and(|group| group.standing == GroupStanding::Leaving);
                end_membership(tx, gid, me, asked).await?;
            }
        }
        for letter in &self.letters {
            letter.queue(tx, gid).await?;
        }
        Ok(self.verdict)
    }
}

impl Learnt {
    async fn store(&self, tx: &mut WriteTx<'_>, gid: GroupId, now: i64) -> Result<(), StoreError> {
        let (conn, sid) = (tx.conn(), self.node.sid);
        if let Some((facts, rows)) = &self.secrets {
            mls::store_rows(conn, gid, sid, rows).await?;
            frame_set::forget_unusable(conn, gid, &facts.env_tag).await?;
        }
        let facts = self.secrets.as_ref().map(|(facts, _)| facts);
        branch::insert_child(conn, gid, &self.node, facts, now).await?;
        skeleton::keep(conn, gid, sid, &self.skeleton_signature).await?;
        branch::include(conn, gid, sid, &self.authorized.included).await?;
        commit::insert_commit(conn, gid, &self.node, self.frame).await?;
        // Sealed in the state before.
        let place = place_of_commit(self.node.epoch.saturating_sub(1), self.frame);
        frame::keep_commit(conn, (self.frame, place), gid, &self.env_tag, &self.frame_bytes, now).await
    }
}
