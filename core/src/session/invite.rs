//! Invites and joining.

use std::{sync::Arc, time::Duration};

use ed25519_dalek::SigningKey;
use uuid::Uuid;

use super::{
    Session, SpaceError,
    request::Request,
    space::{permitted, require_room, write_event},
};
use crate::{
    clock::{duration_ms, now_ms, random, time_from_ms},
    event::Body,
    group::key_package::{FreshKeyPackage, fresh_key_package},
    id::{GroupId, InviteId},
    invite::InviteLink,
    model::{Invite, InviteTerms, Join, JoinFailure, Role},
    network::{Network, SlotError},
    permission::Action,
    router::Address,
    store::{
        StoreError, WriteTx,
        invite::{self, InviteRow, JoinRow, JoinStatus},
        key_package,
        mls::{self, GroupStanding},
        request::Remembered,
    },
};

/// How long JoinSpace waits for the inviter before it answers PENDING.
const JOIN_PATIENCE: Duration = Duration::from_secs(12);

impl Session {
    /// Makes an invite link.
    ///
    /// # Errors
    /// [`SpaceError::NotPermitted`] where this account's role does not allow it, or not with that role.
    pub async fn create_invite(
        &self,
        request: Option<Uuid>,
        gid: GroupId,
        terms: InviteTerms,
    ) -> Result<Invite, SpaceError> {
        let InviteTerms { max_uses, expires_in, role } = terms;
        let life = duration_ms(expires_in);
        let fields = [gid.as_bytes(), &max_uses.to_be_bytes()[..], &life.to_be_bytes(), &[role as u8]];
        let request = Request::new(request, "CreateInvite", &fields);
        let epoch = {
            let mut slot = self.network.groups.lock(gid).await;
            match slot.head(&self.vault).await {
                Ok(head) => head.facts().epoch,
                Err(SlotError::NotAMember) => return Err(SpaceError::SpaceNotFound),
                Err(error) => return Err(error.into()),
            }
        };
        let addresses = self.network.own_addresses();
        let only_local_addresses = !addresses.iter().any(Address::is_public);
        let link = InviteLink {
            gid,
            seed: random(),
            invite: InviteId::random(),
            peer_id: self.network.keys.certificate().peer_id.clone(),
            addresses: addresses.iter().take(crate::router::MAX_ADDRESSES).map(Address::to_bytes).collect(),
            expires_at_ms: now_ms().saturating_add(life).unsigned_abs(),
            account: self.account(),
        };
        let network = Arc::clone(&self.network);
        let (id, row) = self
            .vault
            .write(move |tx| {
                Box::pin(async move { create(tx, &network, &link, (max_uses, role), epoch, &request).await })
            })
            .await?;
        let used = self.uses(gid, id).await?;
        Ok(Invite {
            id,
            link: row.link,
            expires_at: time_from_ms(row.expires_at),
            uses_left: row.max_uses.saturating_sub(used),
            only_local_addresses,
        })
    }

    /// Makes an invite unusable at once.
    ///
    /// # Errors
    /// [`SpaceError::InviteNotFound`] for one that this account did not make.
    pub async fn revoke_invite(&self, id: InviteId) -> Result<(), SpaceError> {
        let network = Arc::clone(&self.network);
        self.vault
            .write(move |tx| {
                Box::pin(async move {
                    let row = invite::get(tx.conn(), id).await?.ok_or(SpaceError::InviteNotFound)?;
                    let author = match permitted(tx, &network, row.gid, Action::Configure).await {
                        Err(SpaceError::SpaceNotFound) => return Err(SpaceError::InviteNotFound),
                        author => author?,
                    };
                    let body = Body::InviteRevoked { invite: id };
                    Ok(write_event(tx, &network, row.gid, &author, body).await?)
                })
            })
            .await
    }

    /// Joins by link: at once where the inviter answers, else PENDING and completed later by itself.
    ///
    /// # Errors
    /// [`SpaceError::Join`] when the link is no good, [`SpaceError::AlreadyMember`],
    /// [`SpaceError::LimitReached`]
    pub async fn join_space(&self, request: Option<Uuid>, link: &str) -> Result<Join, SpaceError> {
        let request = Request::new(request, "JoinSpace", &[link.trim().as_bytes()]);
        let Ok(parsed) = InviteLink::parse(link) else { return Err(self.refuse_link(request).await) };
        let gid = parsed.gid;
        let key_package = fresh_key_package(&self.network.keys.identity).map_err(SlotError::from)?;
        let (vault, network) = (self.vault.clone(), Arc::clone(&self.network));
        // On tasks of their own: whoever asked may hang up, the join goes on.
        let started = tokio::spawn(async move {
            let stored: Result<(), SpaceError> = vault
                .write(move |tx| Box::pin(async move { start(tx, &parsed, key_package, &request).await }))
                .await;
            network.join_soon();
            stored
        });
        started.await.map_err(|_| StoreError::Closed)??;
        let network = Arc::clone(&self.network);
        let attempt = tokio::spawn(async move { network.try_join(gid).await });
        if let Ok(Ok(Err(error))) = tokio::time::timeout(JOIN_PATIENCE, attempt).await {
            return Err(error.into());
        }
        let status = {
            let mut reader = self.vault.read().await?;
            invite::join(reader.conn(), gid).await?.map(|row| row.status)
        };
        match status {
            Some(JoinStatus::Joined) => Ok(Join::Joined(Box::new(self.space(gid).await?))),
            Some(JoinStatus::Failed(failure)) => Err(failure.into()),
            Some(JoinStatus::Pending) => Ok(Join::Pending(gid)),
            None => Err(SpaceError::Group),
        }
    }

    /// A link that is none; a request id that was spent on a real one is the graver mistake.
    async fn refuse_link(&self, request: Request) -> SpaceError {
        let seen = self.vault.write(move |tx| Box::pin(async move { request.recall(tx).await })).await;
        match seen {
            Ok(Remembered::New) => JoinFailure::Invalid.into(),
            Ok(Remembered::Answered(_) | Remembered::Reused) => SpaceError::RequestIdReused,
            Err(error) => error.into(),
        }
    }

    async fn uses(&self, gid: GroupId, id: InviteId) -> Result<u32, SpaceError> {
        let mut slot = self.network.groups.lock(gid).await;
        Ok(slot.head(&self.vault).await?.facts().standing.policy.uses_of(&id))
    }
}

async fn create(
    tx: &mut WriteTx<'_>,
    network: &Network,
    link: &InviteLink,
    (max_uses, role): (u32, Role),
    epoch: u64,
    request: &Request,
) -> Result<(InviteId, InviteRow), SpaceError> {
    if let Some(id) = request.answered(tx).await? {
        let id = InviteId::try_from(&*id).map_err(StoreError::from)?;
        return Ok((id, invite::get(tx.conn(), id).await?.ok_or(SpaceError::InviteNotFound)?));
    }
    let author = permitted(tx, network, link.gid, Action::Invite { to: role }).await?;
    let body = Body::Invite {
        invite: link.invite,
        public_key: SigningKey::from_bytes(&link.seed).verifying_key().to_bytes(),
        role,
        max_uses,
        expires_at_ms: link.expires_at_ms,
        epoch,
    };
    write_event(tx, network, link.gid, &author, body).await?;
    let expires_at = i64::try_from(link.expires_at_ms).unwrap_or(i64::MAX);
    let row = InviteRow { gid: link.gid, link: link.encode(), expires_at, max_uses };
    invite::insert(tx.conn(), link.invite, &row).await?;
    request.remember(tx, link.invite.as_bytes(), now_ms()).await?;
    Ok((link.invite, row))
}

/// Notes the join, unless this very request did before.
async fn start(
    tx: &mut WriteTx<'_>,
    link: &InviteLink,
    key_package: FreshKeyPackage,
    request: &Request,
) -> Result<(), SpaceError> {
    let gid = link.gid;
    if request.answered(tx).await?.is_some() {
        return Ok(());
    }
    let group = mls::group(tx.conn(), gid).await?;
    if group.is_some_and(|group| matches!(group.standing, GroupStanding::Active | GroupStanding::Leaving)) {
        return Err(SpaceError::AlreadyMember);
    }
    if link.expires_at_ms <= now_ms().unsigned_abs() {
        return Err(JoinFailure::Expired.into());
    }
    require_room(tx, Some(gid)).await?;
    // A pending join keeps its KeyPackage: the inviter may have added it already.
    let pending = invite::join(tx.conn(), gid).await?.filter(|row| row.status == JoinStatus::Pending);
    let (bytes, hash) = match pending {
        Some(row) => (row.key_package, row.key_package_hash),
        None => {
            key_package::drop_all(tx.conn(), gid).await?;
            key_package::store(tx.conn(), gid, &key_package.rows).await?;
            (key_package.bytes, key_package.hash)
        }
    };
    let row = JoinRow {
        gid,
        link: link.encode(),
        key_package: bytes,
        key_package_hash: hash,
        status: JoinStatus::Pending,
    };
    invite::start_join(tx.conn(), &row, now_ms()).await?;
    Ok(request.remember(tx, gid.as_bytes(), now_ms()).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        group::identity::DeviceIdentity,
        id::{LogId, StateId},
        keys::VaultKey,
        metrics::Metrics,
        store::{Vault, identity::Identity},
    };

    const MOST: u16 = 1_000;

    #[tokio::test]
    async fn spaces_and_joins_that_wait_share_one_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v.db");
        let vault = Vault::create(&path, &VaultKey::new(random()), &Metrics::default()).await.unwrap();
        let me = Identity::generate("ann", "Ann", now_ms());
        let device = DeviceIdentity::new(me.device.clone(), me.certificate.clone());
        let link = |number: u8| InviteLink {
            gid: GroupId([number; 16]),
            seed: random(),
            invite: InviteId::random(),
            peer_id: me.certificate.peer_id.clone(),
            addresses: Vec::new(),
            expires_at_ms: now_ms().unsigned_abs() + 60_000,
            account: me.certificate.account,
        };
        let joins = [201, 202, 203, 202].map(|number| (link(number), fresh_key_package(&device).unwrap()));
        let done: Result<(), SpaceError> = vault
            .write(|tx| {
                Box::pin(async move {
                    for number in 0..MOST - 2 {
                        let mut gid = [0; 16];
                        gid[..2].copy_from_slice(&number.to_be_bytes());
                        mls::insert_group(tx.conn(), GroupId(gid), StateId([1; 32]), LogId([2; 16]), 1)
                            .await?;
                    }
                    let request = Request::new(None, "JoinSpace", &[]);
                    let [first, last, too_many, again] = joins;
                    start(tx, &first.0, first.1, &request).await?;
                    require_room(tx, None).await?;
                    start(tx, &last.0, last.1, &request).await?;
                    let refused = start(tx, &too_many.0, too_many.1, &request).await;
                    assert!(matches!(refused, Err(SpaceError::LimitReached(1_000))), "{refused:?}");
                    assert!(require_room(tx, None).await.is_err(), "nor may a space be founded");
                    start(tx, &again.0, again.1, &request).await
                })
            })
            .await;
        done.unwrap();
    }
}
