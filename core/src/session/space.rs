//! Spaces, channels and members.

use std::sync::Arc;

use uuid::Uuid;

use super::{Session, SpaceError, author::Author, request::Request};
use crate::{
    clock::{now_ms, random},
    dag::graph::{Picture, picture},
    event::Body,
    group::{policy::Policy, state::GroupState},
    id::{ChannelId, GroupId, LogId},
    journal::{self, Members, Own, Reading, tell},
    model::{Channel, Member, SendTiming, Space, SpaceChanges},
    network::{Network, SlotError, add_member},
    permission::{Action, may},
    router::Address,
    store::{StoreError, WriteTx, branch, feed::Entry, identity, invite, logbook::LogBook, mls, space},
};

/// Spaces of one account.
const MAX_SPACES: u32 = 1_000;
/// Channels of one space.
const MAX_CHANNELS: u32 = 1_000;
/// The channel that every space starts with.
const FIRST_CHANNEL: &str = "general";

impl Session {
    /// Creates a space with a channel `general`.
    ///
    /// # Errors
    /// [`SpaceError`]
    pub async fn create_space(
        &self,
        request: Option<Uuid>,
        name: &str,
        description: &str,
        timing: SendTiming,
    ) -> Result<Space, SpaceError> {
        let fields = [name.as_bytes(), description.as_bytes(), &[timing as u8]];
        let request = Request::new(request, "CreateSpace", &fields);
        let gid = GroupId::random();
        let owner = self.network.keys.account();
        let mut state = GroupState::create(&self.network.keys.identity, gid, Policy::founding(owner))
            .map_err(SlotError::from)?;
        let rows = state.take_changes().map_err(SlotError::from)?;
        let founding = Founding {
            facts: state.facts().clone(),
            rows,
            name: name.to_owned(),
            description: description.to_owned(),
            timing,
            addresses: self.network.own_addresses(),
        };
        let network = Arc::clone(&self.network);
        let gid = self
            .vault
            .write(move |tx| Box::pin(async move { found(tx, &network, founding, &request).await }))
            .await?;
        self.space(gid).await
    }

    /// One space.
    ///
    /// # Errors
    /// [`SpaceError::SpaceNotFound`] also for one that this account is no longer in.
    pub async fn space(&self, gid: GroupId) -> Result<Space, SpaceError> {
        let mut reader = self.vault.read().await?;
        space::space(reader.conn(), self.account(), gid).await?.ok_or(SpaceError::SpaceNotFound)
    }

    /// The newest states of a space's group, at most `most`, as a picture without ids, names or secrets.
    ///
    /// # Errors
    /// [`SpaceError::SpaceNotFound`]
    pub async fn state_graph(&self, gid: GroupId, most: usize) -> Result<Picture, SpaceError> {
        self.space(gid).await?;
        let mut slot = self.network.groups.lock(gid).await;
        let dag = slot.dag(&self.vault, self.network.keys.device_id()).await?;
        Ok(picture(dag, most))
    }

    /// All spaces, oldest first.
    ///
    /// # Errors
    /// [`SpaceError::Store`]
    pub async fn spaces(&self) -> Result<Vec<Space>, SpaceError> {
        let mut reader = self.vault.read().await?;
        let mut spaces = Vec::new();
        for gid in space::spaces(reader.conn()).await? {
            spaces.extend(space::space(reader.conn(), self.account(), gid).await?);
        }
        Ok(spaces)
    }

    /// Changes a space: what all members see of it, and how long what this account writes waits.
    ///
    /// # Errors
    /// [`SpaceError::NotPermitted`] where name or description are to change and this account's role does
    /// not allow it.
    pub async fn update_space(
        &self,
        request: Option<Uuid>,
        gid: GroupId,
        changes: SpaceChanges,
    ) -> Result<Space, SpaceError> {
        let optional =
            |text: &Option<String>| text.as_ref().map_or(vec![0], |text| [&[1], text.as_bytes()].concat());
        let timing = changes.send_timing.map_or(0, |timing| timing as u8 + 1);
        let fields = [gid.as_bytes(), &*optional(&changes.name), &*optional(&changes.description), &[timing]];
        let request = Request::new(request, "UpdateSpace", &fields);
        let network = Arc::clone(&self.network);
        self.vault
            .write(move |tx| Box::pin(async move { update(tx, &network, gid, changes, &request).await }))
            .await?;
        self.network.look_at_outbox();
        self.space(gid).await
    }

    /// Creates a public channel.
    ///
    /// # Errors
    /// [`SpaceError`]
    pub async fn create_channel(
        &self,
        request: Option<Uuid>,
        gid: GroupId,
        name: &str,
        topic: &str,
    ) -> Result<Channel, SpaceError> {
        let fields = [gid.as_bytes(), name.as_bytes(), topic.as_bytes()];
        let request = Request::new(request, "CreateChannel", &fields);
        let new = Channel { id: ChannelId::random(), space: gid, name: name.into(), topic: topic.into() };
        let network = Arc::clone(&self.network);
        self.vault
            .write(move |tx| Box::pin(async move { create_channel(tx, &network, new, &request).await }))
            .await
    }

    /// Channels of a space, oldest first.
    ///
    /// # Errors
    /// [`SpaceError::SpaceNotFound`]
    pub async fn channels(&self, gid: GroupId) -> Result<Vec<Channel>, SpaceError> {
        self.space(gid).await?;
        let mut reader = self.vault.read().await?;
        Ok(space::channels(reader.conn(), gid).await?)
    }

    /// Members of a space, in order of joining.
    ///
    /// # Errors
    /// [`SpaceError::SpaceNotFound`]
    pub async fn members(&self, gid: GroupId) -> Result<Vec<Member>, SpaceError> {
        self.space(gid).await?;
        let members = {
            let mut reader = self.vault.read().await?;
            space::members(reader.conn(), gid).await?
        };
        let online = self.network.connected_accounts();
        let seen = |account| account == self.account() || online.contains(&account);
        Ok(members.into_iter().map(|member| Member { online: seen(member.account), ..member }).collect())
    }
}

struct Founding {
    facts: crate::group::state::StateFacts,
    rows: crate::group::rows::RowChanges,
    name: String,
    description: String,
    timing: SendTiming,
    addresses: Vec<Address>,
}

/// Whether the account may have one more space; a join that waits takes its place already.
///
/// # Errors
/// [`SpaceError::LimitReached`]
pub(super) async fn require_room(tx: &mut WriteTx<'_>, joining: Option<GroupId>) -> Result<(), SpaceError> {
    let waiting = invite::pending_joins(tx.conn()).await?;
    let waiting = waiting.into_iter().filter(|gid| Some(*gid) != joining).count();
    if space::spaces(tx.conn()).await?.len() + waiting >= MAX_SPACES as usize {
        return Err(SpaceError::LimitReached(MAX_SPACES));
    }
    Ok(())
}

async fn found(
    tx: &mut WriteTx<'_>,
    network: &Network,
    founding: Founding,
    request: &Request,
) -> Result<GroupId, SpaceError> {
    if let Some(gid) = request.answered(tx).await? {
        return Ok(GroupId::try_from(&*gid).map_err(StoreError::from)?);
    }
    require_room(tx, None).await?;
    let (gid, sid, now) = (founding.facts.gid, founding.facts.sid, now_ms());
    let (me, log) = (network.keys.account(), LogId(*random()));
    mls::store_rows(tx.conn(), gid, sid, &founding.rows).await?;
    branch::insert_root(tx.conn(), &founding.facts, now).await?;
    mls::insert_group(tx.conn(), gid, sid, log, now).await?;
    network.enters(gid);
    mls::set_timing(tx.conn(), gid, founding.timing).await?;
    add_member(tx, &founding.facts, network.keys.certificate(), founding.facts.epoch, now).await?;
    let members = Members::new(space::member_rows(tx.conn(), gid).await?);
    let reading = Reading { me, members: &members, loopback: false, now };
    let own =
        Own { key: &network.keys.device, device: network.keys.device_id(), log, head: sid, recipients: 0 };
    let mut book = LogBook::open(tx.conn(), gid).await?;
    let bodies = [
        Body::Space { name: founding.name, description: founding.description },
        Body::Channel { channel: ChannelId::random(), name: FIRST_CHANNEL.into(), topic: String::new() },
        Body::Profile { display_name: identity::display_name(tx.conn()).await? },
        Body::Addresses {
            peer_id: network.keys.certificate().peer_id.clone(),
            addresses: founding.addresses.iter().map(Address::to_bytes).collect(),
        },
    ];
    for body in bodies {
        journal::append(tx, &mut book, &own, &reading, body).await?;
    }
    book.close(tx, now).await?;
    request.remember(tx, gid.as_bytes(), now).await?;
    Ok(gid)
}

/// Appends one own event to a group that this account is in.
pub(super) async fn write_event(
    tx: &mut WriteTx<'_>,
    network: &Network,
    gid: GroupId,
    author: &Author,
    body: Body,
) -> Result<(), StoreError> {
    let reading =
        Reading { me: network.keys.account(), members: &author.members, loopback: false, now: now_ms() };
    let mut book = LogBook::open(tx.conn(), gid).await?;
    journal::append(tx, &mut book, &author.own(network), &reading, body).await?;
    book.close(tx, reading.now).await
}

/// This account as author in a space where its role has to allow something.
pub(super) async fn permitted(
    tx: &mut WriteTx<'_>,
    network: &Network,
    gid: GroupId,
    action: Action,
) -> Result<Author, SpaceError> {
    let author = Author::load(tx, network, gid).await?.ok_or(SpaceError::SpaceNotFound)?;
    if is_permitted(&author, network, action) { Ok(author) } else { Err(SpaceError::NotPermitted) }
}

pub(super) fn is_permitted(author: &Author, network: &Network, action: Action) -> bool {
    author.members.current(&network.keys.device_id()).is_some_and(|me| may(me.role, action))
}

async fn update(
    tx: &mut WriteTx<'_>,
    network: &Network,
    gid: GroupId,
    changes: SpaceChanges,
    request: &Request,
) -> Result<(), SpaceError> {
    if request.answered(tx).await?.is_some() {
        return Ok(());
    }
    let me = network.keys.account();
    let author = Author::load(tx, network, gid).await?.ok_or(SpaceError::SpaceNotFound)?;
    let now = space::space(tx.conn(), me, gid).await?.ok_or(SpaceError::SpaceNotFound)?;
    if changes.name.is_some() || changes.description.is_some() {
        if !is_permitted(&author, network, Action::Configure) {
            return Err(SpaceError::NotPermitted);
        }
        let name = changes.name.unwrap_or_else(|| now.name.clone());
        let description = changes.description.unwrap_or_else(|| now.description.clone());
        if (&name, &description) != (&now.name, &now.description) {
            write_event(tx, network, gid, &author, Body::Space { name, description }).await?;
        }
    }
    if let Some(timing) = changes.send_timing.filter(|timing| *timing != now.send_timing) {
        mls::set_timing(tx.conn(), gid, timing).await?;
        tell(tx, &Entry::Space(gid), now_ms()).await?;
    }
    Ok(request.remember(tx, &[], now_ms()).await?)
}

async fn create_channel(
    tx: &mut WriteTx<'_>,
    network: &Network,
    new: Channel,
    request: &Request,
) -> Result<Channel, SpaceError> {
    if let Some(id) = request.answered(tx).await? {
        let id = ChannelId::try_from(&*id).map_err(StoreError::from)?;
        return space::channel(tx.conn(), id).await?.ok_or(SpaceError::SpaceNotFound);
    }
    let author = permitted(tx, network, new.space, Action::Configure).await?;
    let channels = space::channels(tx.conn(), new.space).await?;
    if channels.iter().any(|channel| channel.name == new.name) {
        return Err(SpaceError::ChannelNameTaken);
    }
    if channels.len() >= MAX_CHANNELS as usize {
        return Err(SpaceError::LimitReached(MAX_CHANNELS));
    }
    let body = Body::Channel { channel: new.id, name: new.name.clone(), topic: new.topic.clone() };
    write_event(tx, network, new.space, &author, body).await?;
    request.remember(tx, new.id.as_bytes(), now_ms()).await?;
    Ok(new)
}
