//! Who is in a space and as what: leaving, removing, roles. Each is asked for by a signed request, and
//! committed by whichever member's device has its turn.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    Session, SpaceError,
    author::Author,
    request::Request,
    space::{is_permitted, permitted, write_event},
};
use crate::{
    clock::now_ms,
    event::{Body, ChangeKind},
    group::policy::PolicyAccount,
    id::{AccountId, GroupId},
    journal::tell,
    model::{Member, Role},
    network::{Ahead, Network, Pending, end_membership},
    permission::Action,
    store::{
        StoreError, WriteTx,
        feed::Entry,
        mls::{self, GroupStanding},
        space::MemberRow,
    },
};

/// A caller waits this long for a change that others may be about to commit.
const PATIENCE: Duration = Duration::from_secs(10);
/// Whether someone else committed it meanwhile is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The life of an account in a group that a request acts on.
#[derive(Clone, Copy, Default)]
struct Life {
    generation: u64,
    role_changes: u64,
    role: Option<Role>,
}

impl Session {
    /// Leaves a space: gone here at once, from the group when another member's device has committed it.
    ///
    /// # Errors
    /// [`SpaceError::OwnerCannotLeave`] unless alone: an owner makes someone else owner and gives the role
    /// up first.
    pub async fn leave_space(&self, request: Option<Uuid>, gid: GroupId) -> Result<(), SpaceError> {
        let request = Request::new(request, "LeaveSpace", &[gid.as_bytes()]);
        let life = self.life(gid, self.account()).await;
        let network = Arc::clone(&self.network);
        // Nobody is let in meanwhile, and nothing that was loaded outlives the membership, even where whoever asked
        // does not wait for the answer.
        let _emptied = Ahead::of(self.network.groups.lock(gid).await);
        self.vault
            .write(move |tx| Box::pin(async move { leave(tx, &network, gid, life, &request).await }))
            .await
    }

    /// Removes an account: nothing sent after this returns opens for it.
    ///
    /// # Errors
    /// [`SpaceError::NotPermitted`] where this account's role does not allow it, and for removing oneself.
    pub async fn remove_member(
        &self,
        request: Option<Uuid>,
        gid: GroupId,
        account: AccountId,
    ) -> Result<(), SpaceError> {
        let request = Request::new(request, "RemoveMember", &[gid.as_bytes(), account.as_bytes()]);
        let life = self.life(gid, account).await;
        let network = Arc::clone(&self.network);
        self.vault
            .write(move |tx| {
                Box::pin(async move { ask_to_remove(tx, &network, gid, account, life, &request).await })
            })
            .await?;
        self.await_commit(gid).await
    }

    /// Gives a member another role, and answers the member as it is then: with the role it had while the
    /// change still waits for others, and with another one where a rival change of the same role won.
    ///
    /// # Errors
    /// [`SpaceError::NotPermitted`] where this account's role does not allow it;
    /// [`SpaceError::LastOwner`] when nobody would be owner.
    pub async fn set_member_role(
        &self,
        request: Option<Uuid>,
        gid: GroupId,
        account: AccountId,
        to: Role,
    ) -> Result<Member, SpaceError> {
        let fields = [gid.as_bytes(), account.as_bytes(), &[to as u8][..]];
        let request = Request::new(request, "SetMemberRole", &fields);
        let life = self.life(gid, account).await;
        let network = Arc::clone(&self.network);
        self.vault
            .write(move |tx| {
                Box::pin(async move { ask_for_role(tx, &network, (gid, account, to), life, &request).await })
            })
            .await?;
        self.await_commit(gid).await?;
        let members = self.members(gid).await?;
        members.into_iter().find(|member| member.account == account).ok_or(SpaceError::MemberNotFound)
    }

    /// Waits for whoever's turn it is to commit what was asked for. It is durable and goes on without this;
    /// while someone is to be removed, nothing is sealed until then.
    async fn await_commit(&self, gid: GroupId) -> Result<(), SpaceError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let network = Arc::clone(&self.network);
            // On a task of its own: whoever asked may hang up in the middle of a commit.
            let answered = tokio::spawn(async move { network.answer_requests(gid).await });
            match answered.await.map_err(|_| StoreError::Closed)?? {
                Pending::For(wait) if Instant::now() < end => {
                    tokio::time::sleep(wait.min(LOOK_AGAIN)).await;
                }
                Pending::For(_) | Pending::Nothing | Pending::Apart => return Ok(()),
            }
        }
    }

    /// The life of an account that a request made now acts on.
    async fn life(&self, gid: GroupId, account: AccountId) -> Life {
        let mut slot = self.network.groups.lock(gid).await;
        let head = slot.head(&self.vault).await.ok();
        let standing = head.and_then(|head| head.facts().standing.policy.standing_of(&account).cloned());
        standing.as_ref().map(Life::of).unwrap_or_default()
    }
}

impl Life {
    fn of(entry: &PolicyAccount) -> Self {
        Self { generation: entry.generation, role_changes: entry.role_changes, role: entry.role }
    }
}

async fn leave(
    tx: &mut WriteTx<'_>,
    network: &Network,
    gid: GroupId,
    life: Life,
    request: &Request,
) -> Result<(), SpaceError> {
    if request.answered(tx).await?.is_some() {
        return Ok(());
    }
    let author = Author::load(tx, network, gid).await?.ok_or(SpaceError::SpaceNotFound)?;
    let me = network.keys.account();
    let others = author.members.all_current().any(|member| member.account != me);
    let owner = author.members.current(&network.keys.device_id()).is_some_and(|m| m.role == Role::Owner);
    if owner && others {
        return Err(SpaceError::OwnerCannotLeave);
    }
    if others {
        let body = Body::ChangeRequest { kind: ChangeKind::Leave, target: me, generation: life.generation };
        write_event(tx, network, gid, &author, body).await?;
        mls::set_standing(tx.conn(), gid, GroupStanding::Leaving).await?;
        tell(tx, &Entry::SpaceGone(gid), now_ms()).await?;
    } else {
        end_membership(tx, gid, me, true).await?;
    }
    Ok(request.remember(tx, &[], now_ms()).await?)
}

async fn ask_to_remove(
    tx: &mut WriteTx<'_>,
    network: &Network,
    gid: GroupId,
    account: AccountId,
    life: Life,
    request: &Request,
) -> Result<(), SpaceError> {
    if request.answered(tx).await?.is_some() {
        return Ok(());
    }
    let author = permitted(tx, network, gid, Action::Remove { target: Role::Member }).await?;
    let target = author.members.of(&account).ok_or(SpaceError::MemberNotFound)?.role;
    // Whoever wants to go leaves: a removal would bar them from the invites there are.
    if account == network.keys.account() || !is_permitted(&author, network, Action::Remove { target }) {
        return Err(SpaceError::NotPermitted);
    }
    let kind = ChangeKind::Remove;
    let body = Body::ChangeRequest { kind, target: account, generation: life.generation };
    write_event(tx, network, gid, &author, body).await?;
    Ok(request.remember(tx, &[], now_ms()).await?)
}

async fn ask_for_role(
    tx: &mut WriteTx<'_>,
    network: &Network,
    (gid, account, to): (GroupId, AccountId, Role),
    life: Life,
    request: &Request,
) -> Result<(), SpaceError> {
    if request.answered(tx).await?.is_some() {
        return Ok(());
    }
    let author =
        permitted(tx, network, gid, Action::SetRole { target: Role::Member, to: Role::Member }).await?;
    let was = life.role.filter(|_| author.members.of(&account).is_some());
    let was = was.ok_or(SpaceError::MemberNotFound)?;
    if !is_permitted(&author, network, Action::SetRole { target: was, to }) {
        return Err(SpaceError::NotPermitted);
    }
    let other_owner = |member: &MemberRow| member.role == Role::Owner && member.account != account;
    if was == Role::Owner && to != was && !author.members.all_current().any(other_owner) {
        return Err(SpaceError::LastOwner);
    }
    if to != was {
        let kind = ChangeKind::Role { was, to, role_changes: life.role_changes };
        let body = Body::ChangeRequest { kind, target: account, generation: life.generation };
        write_event(tx, network, gid, &author, body).await?;
    }
    Ok(request.remember(tx, &[], now_ms()).await?)
}
