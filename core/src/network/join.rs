//! Joining by link: dial the inviter, prove the invite, open the letter, be in. One try of it.

use std::sync::Arc;

use spacepanda_proto::peer::v1::{
    JoinBundle, JoinChallengeRequest, JoinOutcome, JoinRequest, peer_request, peer_response,
};

use super::{
    Network, Slot, SlotError,
    adopt::{add_member, end_membership},
    head::Return,
    letters::Letter,
};
use crate::{
    certificate::Certificate,
    clock::{now_ms, random},
    event::{Body, SignedEvent},
    group::{authorize::sign_join, state::GroupState},
    id::{DeviceId, EventId, GroupId, LogId},
    invite::InviteLink,
    journal::{self, Members, Own, Reading, tell},
    model::JoinFailure,
    router::{Address, DialError, PeerId},
    store::{
        StoreError, WriteTx, branch,
        feed::Entry,
        former,
        invite::{self, JoinRow, JoinStatus},
        key_package,
        logbook::{Head, LogBook, LogRow},
        mls, peer, rejoin, space,
    },
};

/// State events of one JoinBundle.
const MAX_STATE_EVENTS: usize = 20_000;

/// How often an inviter is asked in one try whose letter is held back.
const MAX_QUESTIONS: usize = 4;

/// How one try ended.
enum Try {
    Joined,
    Ended(JoinFailure),
    /// The inviter has this device in the group, and did not let it in anew.
    Known,
    /// Nobody answered, or not sensibly: again later.
    Later,
}

impl Network {
    /// One try of a pending join; its end is stored and told.
    ///
    /// # Errors
    /// [`SlotError`] when this side failed; it stays pending.
    pub(crate) async fn try_join(self: &Arc<Self>, gid: GroupId) -> Result<(), SlotError> {
        let _turn = self.joining.turn(gid).await;
        let row = {
            let mut reader = self.vault.read().await?;
            invite::join(reader.conn(), gid).await?
        };
        let Some(row) = row.filter(|row| row.status == JoinStatus::Pending) else { return Ok(()) };
        let Ok(link) = InviteLink::parse(&row.link) else {
            return Ok(self.end_join(gid, JoinFailure::Invalid).await?);
        };
        match self.attempt(&link, &row).await? {
            Try::Joined | Try::Later => {}
            Try::Ended(failure) => self.end_join(gid, failure).await?,
            Try::Known if self.is_in(gid).await? => self.note_joined(gid).await?,
            // With a KeyPackage that is lost: only a removal helps.
            Try::Known => self.end_join(gid, JoinFailure::UsedUp).await?,
        }
        Ok(())
    }

    async fn attempt(self: &Arc<Self>, link: &InviteLink, row: &JoinRow) -> Result<Try, SlotError> {
        if link.expires_at_ms <= now_ms().unsigned_abs() {
            return Ok(Try::Ended(JoinFailure::Expired));
        }
        let Some((inviter, certificate)) = self.reach(link).await else { return Ok(Try::Later) };
        if certificate.account != link.account {
            return Ok(Try::Ended(JoinFailure::Invalid));
        }
        let mut reply = self.ask_to_join(&inviter, link, row).await;
        for _ in 0..MAX_QUESTIONS {
            if reply.as_ref().is_none_or(|reply| reply.outcome() != JoinOutcome::Pending) {
                break;
            }
            // Each answer takes as long as the letter, or a few seconds.
            reply = self.ask_to_join(&inviter, link, row).await;
        }
        let Some(reply) = reply else { return Ok(Try::Later) };
        match reply.outcome() {
            JoinOutcome::Accepted => {
                // Another group's letter is no answer, and its turn is not ours.
                let letter = self.open_bundle(&reply.letter).filter(|letter| letter.gid == row.gid);
                let Some(letter) = letter else { return Ok(Try::Later) };
                Ok(if self.take_bundle(letter).await? { Try::Joined } else { Try::Later })
            }
            JoinOutcome::Unknown => Ok(Try::Ended(JoinFailure::Invalid)),
            JoinOutcome::Expired => Ok(Try::Ended(JoinFailure::Expired)),
            JoinOutcome::UsedUp => Ok(Try::Ended(JoinFailure::UsedUp)),
            JoinOutcome::Revoked => Ok(Try::Ended(JoinFailure::Revoked)),
            JoinOutcome::AlreadyMember => Ok(Try::Known),
            // The letter follows.
            JoinOutcome::Pending | JoinOutcome::Unspecified => Ok(Try::Later),
        }
    }

    async fn reach(self: &Arc<Self>, link: &InviteLink) -> Option<(PeerId, Certificate)> {
        let inviter = PeerId::from_bytes(&link.peer_id).ok()?;
        let mut addresses: Vec<_> =
            link.addresses.iter().filter_map(|bytes| Address::from_bytes(bytes).ok()).collect();
        if let Ok(mut reader) = self.vault.read().await {
            for known in peer::addresses(reader.conn(), &link.peer_id).await.unwrap_or_default() {
                if !addresses.contains(&known) {
                    addresses.push(known);
                }
            }
        }
        let dialled = self.router.dial(&inviter, addresses).await;
        let link = dialled
            .inspect_err(|error: &DialError| tracing::debug!(%error, "the inviter is not reached"))
            .ok()?;
        let certificate = self.introduce(&inviter, link.outbound).await.ok()?;
        Some((inviter, certificate))
    }

    async fn ask_to_join(
        &self,
        inviter: &PeerId,
        link: &InviteLink,
        row: &JoinRow,
    ) -> Option<spacepanda_proto::peer::v1::JoinReply> {
        let (gid, invite_key) = (link.gid.0.to_vec(), link.public_key().to_vec());
        let peer_response::Kind::JoinChallenge(challenge) =
            self.ask(inviter, peer_request::Kind::JoinChallenge(JoinChallengeRequest {})).await?
        else {
            return None;
        };
        let nonce = <[u8; 32]>::try_from(&*challenge.nonce).ok()?;
        let request = JoinRequest {
            gid,
            invite_key,
            nonce: nonce.to_vec(),
            key_package: row.key_package.clone(),
            signature: sign_join(&link.seed, &link.gid, &nonce, &row.key_package_hash).to_vec(),
        };
        match self.ask(inviter, peer_request::Kind::Join(request)).await? {
            peer_response::Kind::Join(reply) => Some(reply),
            _ => None,
        }
    }

    async fn is_in(&self, gid: GroupId) -> Result<bool, StoreError> {
        let mut reader = self.vault.read().await?;
        let group = mls::group(reader.conn(), gid).await?;
        Ok(group.is_some_and(|group| group.standing == mls::GroupStanding::Active))
    }

    /// A member that took itself for forgotten is not.
    async fn note_joined(&self, gid: GroupId) -> Result<(), StoreError> {
        self.vault
            .write(move |tx| Box::pin(async move { invite::end_join(tx.conn(), gid, None).await }))
            .await
    }

    async fn end_join(&self, gid: GroupId, failure: JoinFailure) -> Result<(), StoreError> {
        let me = self.keys.account();
        self.vault
            .write(move |tx| {
                Box::pin(async move {
                    invite::end_join(tx.conn(), gid, Some(failure)).await?;
                    key_package::drop_all(tx.conn(), gid).await?;
                    let group = mls::group(tx.conn(), gid).await?;
                    if group.is_some_and(|group| group.standing == mls::GroupStanding::Active) {
                        // It was in on a branch that lost, and is not let in again.
                        return end_membership(tx, gid, me, false).await;
                    }
                    tell(tx, &Entry::Join(gid, Some(failure)), now_ms()).await
                })
            })
            .await
    }

    /// Joins by a letter, in the group's turn; false when it does not answer a pending join of ours.
    pub(super) async fn take_bundle(self: &Arc<Self>, letter: Letter) -> Result<bool, SlotError> {
        let Letter { gid, sender, bundle } = letter;
        let (row, wish, rows, group) = {
            let mut reader = self.vault.read().await?;
            let conn = reader.conn();
            let row = invite::join(conn, gid).await?;
            let wish = rejoin::open(conn, gid).await?;
            (row, wish, key_package::load(conn, gid).await?, mls::group(conn, gid).await?)
        };
        let is_member = group.is_some_and(|group| {
            matches!(group.standing, mls::GroupStanding::Active | mls::GroupStanding::Leaving)
        });
        let wished = wish.is_some_and(|wish| bundle.key_package_hash == wish.key_package_hash) && is_member;
        if !wished {
            // Of a member's that asks for nothing, it was taken before.
            let Some(row) = row.filter(|row| row.status == JoinStatus::Pending) else { return Ok(is_member) };
            let expected = InviteLink::parse(&row.link).is_ok_and(|link| link.account == sender.account)
                && bundle.key_package_hash == row.key_package_hash;
            if !expected {
                return Ok(false);
            }
        }
        let Ok(route_secret) = <[u8; 32]>::try_from(&*bundle.route_secret) else { return Ok(false) };
        if bundle.state_events.len() > MAX_STATE_EVENTS {
            return Ok(false);
        }
        let mut slot = self.groups.lock(gid).await;
        if !is_member {
            slot.forget();
        }
        let Ok(mut state) = GroupState::join(&self.keys.identity, gid, rows, &bundle.welcome, route_secret)
        else {
            return Ok(false);
        };
        // Whoever answers must be in the group it answers for.
        if state.facts().standing.member(&sender.device).is_none() {
            return Ok(false);
        }
        if is_member && !self.is_of_the_group(&mut slot, &state, &sender).await? {
            return Ok(false);
        }
        let Some(arrival) = self.arrival(&mut state, &bundle)? else { return Ok(false) };
        if is_member {
            // Where the logs stood says something only to whom the others did not know.
            let floors = if wished { Vec::new() } else { arrival.floors };
            let brought = Return { rows: arrival.rows, former: arrival.former, floors };
            let done = self.come_back(&mut slot, state, brought).await;
            if done.is_err() {
                slot.forget();
            }
            return done.map(|()| true);
        }
        let network = Arc::clone(self);
        self.vault.write(move |tx| Box::pin(async move { network.arrive(tx, arrival).await })).await?;
        self.repairs.forget(gid);
        tracing::info!("joined a space");
        self.enter(&mut slot, state).await?;
        Ok(true)
    }

    /// Whether a member of the last state here lets this device into a state that is new to it, and with those
    /// who said that they have a leaf of its: not into a group of one member's making.
    async fn is_of_the_group(
        &self,
        slot: &mut Slot,
        state: &GroupState,
        sender: &Certificate,
    ) -> Result<bool, SlotError> {
        let head = slot.head_id(&self.vault).await?;
        let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
        let known = dag.node(&head).is_some_and(|node| node.roster.contains(&sender.account));
        let entered = dag.node(&state.facts().sid).is_some_and(|node| node.held.is_merged());
        let guides = self.guides(slot.gid()).into_iter().filter_map(|peer| self.links.certificate(&peer));
        let standing = &state.facts().standing;
        let all =
            guides.map(|certificate| certificate.device).all(|device| standing.member(&device).is_some());
        Ok(known && all && !entered)
    }

    fn arrival(&self, state: &mut GroupState, bundle: &JoinBundle) -> Result<Option<Arrival>, SlotError> {
        let gid = state.facts().gid;
        let events = bundle
            .state_events
            .iter()
            .map(|bytes| SignedEvent::decode(bytes).ok().filter(|signed| signed.event.gid == gid))
            .collect::<Option<Vec<_>>>();
        let former = bundle
            .former_certificates
            .iter()
            .map(|bytes| Certificate::decode(bytes).ok())
            .collect::<Option<Vec<_>>>();
        let floors = bundle.floors.iter().map(floor).collect::<Option<Vec<_>>>();
        let (Some(events), Some(former), Some(floors)) = (events, former, floors) else { return Ok(None) };
        Ok(Some(Arrival {
            facts: state.facts().clone(),
            rows: state.take_changes()?,
            floors,
            events,
            former,
            addresses: self.own_addresses().iter().map(Address::to_bytes).collect(),
            loopback: self.router.is_loopback(),
        }))
    }

    /// One transaction: the state, who is there, where every log begins, what is named how, and hello.
    async fn arrive(&self, tx: &mut WriteTx<'_>, arrival: Arrival) -> Result<(), StoreError> {
        let (gid, now) = (arrival.facts.gid, now_ms());
        let own_log = LogId(*random());
        let sid = arrival.facts.sid;
        if let Some(before) = mls::group(tx.conn(), gid).await? {
            former::begin_anew(tx.conn(), gid, before.own_log, arrival.facts.epoch).await?;
        }
        mls::store_rows(tx.conn(), gid, sid, &arrival.rows).await?;
        branch::insert_root(tx.conn(), &arrival.facts, now).await?;
        mls::insert_group(tx.conn(), gid, sid, own_log, now).await?;
        self.meet_members(tx, &arrival, now).await?;
        let members = Members::new(space::member_rows(tx.conn(), gid).await?);
        let reading = Reading { me: self.keys.account(), members: &members, loopback: arrival.loopback, now };
        let mut book = LogBook::open(tx.conn(), gid).await?;
        for (log, row) in &arrival.floors {
            let head = Head { seq: row.contiguous, id: row.hash_there, lamport: row.lamport_there };
            // Who was here before may hold more than the inviter did; what is processed stays so.
            let ahead =
                book.log(tx.conn(), *log).await?.is_some_and(|held| held.contiguous >= row.contiguous);
            if !ahead {
                book.set_log(*log, row.clone());
            }
            if head.seq > 0 {
                book.advance_heads(*log, head, std::iter::empty());
            }
        }
        for signed in &arrival.events {
            journal::apply_state(tx, &mut book, &reading, signed).await?;
        }
        let recipients = space::recipients(tx.conn(), gid, self.keys.account()).await?;
        let own = Own {
            key: &self.keys.device,
            device: self.keys.device_id(),
            log: own_log,
            head: sid,
            recipients,
        };
        let peer_id = self.keys.certificate().peer_id.clone();
        let display_name = crate::store::identity::display_name(tx.conn()).await?;
        journal::append(tx, &mut book, &own, &reading, Body::Profile { display_name }).await?;
        let addresses = Body::Addresses { peer_id, addresses: arrival.addresses };
        journal::append(tx, &mut book, &own, &reading, addresses).await?;
        book.close(tx, now).await?;
        invite::end_join(tx.conn(), gid, None).await?;
        key_package::drop_all(tx.conn(), gid).await?;
        tell(tx, &Entry::Space(gid), now).await?;
        tell(tx, &Entry::Join(gid, None), now).await
    }

    async fn meet_members(
        &self,
        tx: &mut WriteTx<'_>,
        arrival: &Arrival,
        now: i64,
    ) -> Result<(), StoreError> {
        let (gid, epoch) = (arrival.facts.gid, arrival.facts.epoch);
        for certificate in &arrival.former {
            add_member(tx, &arrival.facts, certificate, 0, now).await?;
            space::end_member(tx.conn(), gid, certificate.device, epoch).await?;
        }
        for leaf in &arrival.facts.standing.roster {
            // Others were there before; since when exactly, no one needs to tell.
            let joined = if leaf.certificate.device == self.keys.device_id() { epoch } else { 0 };
            add_member(tx, &arrival.facts, &leaf.certificate, joined, now).await?;
        }
        Ok(())
    }
}

/// What a JoinBundle brings, checked.
struct Arrival {
    facts: crate::group::state::StateFacts,
    rows: crate::group::rows::RowChanges,
    floors: Vec<(LogId, LogRow)>,
    events: Vec<SignedEvent>,
    former: Vec<Certificate>,
    addresses: Vec<Vec<u8>>,
    loopback: bool,
}

fn floor(floor: &spacepanda_proto::peer::v1::LogFloor) -> Option<(LogId, LogRow)> {
    let row = LogRow {
        device: DeviceId::try_from(&*floor.device_key).ok()?,
        contiguous: floor.seq,
        hash_there: EventId::try_from(&*floor.event_id).ok()?,
        lamport_there: floor.lamport,
        floor: floor.seq,
        floor_lamport: floor.lamport,
        broken: false,
    };
    // SQLite's integers are signed.
    let fits = floor.seq <= crate::event::MAX_COUNTER && floor.lamport <= crate::event::MAX_COUNTER;
    Some((LogId::try_from(&*floor.log).ok()?, row)).filter(|_| fits)
}
