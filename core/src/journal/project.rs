//! What an event in its place changes for people: messages, names, channels, addresses, requests.
//!
//! An event that its author had no right to, or that makes no sense, stays in its log and changes nothing.

use super::{Effects, Reading, tell};
use crate::{
    event::{Body, ChangeKind, SignedEvent},
    model::{Channel, MemberChange, Role},
    permission::{Action, may},
    router::{Address, acceptable},
    store::{
        StoreError, WriteTx,
        feed::Entry,
        invite,
        logbook::LogBook,
        message, peer,
        register::{self, Candidate},
        role_change,
        space::{self, MemberRow},
    },
};

/// Projects an event. `own_recipients` is set for events of this device.
pub(super) async fn project(
    tx: &mut WriteTx<'_>,
    book: &mut LogBook,
    reading: &Reading<'_>,
    signed: &SignedEvent,
    own_recipients: Option<u32>,
) -> Result<Effects, StoreError> {
    let Some(author) = reading.members.get(&signed.event.author) else { return Ok(Effects::default()) };
    match &signed.event.body {
        Body::Text { .. } => {
            text(tx, book, reading, author, signed, own_recipients).await?;
            Ok(Effects::default())
        }
        Body::ChangeRequest { .. } => request(tx, author, signed).await,
        _ => state(tx, reading, author, signed).await,
    }
}

async fn text(
    tx: &mut WriteTx<'_>,
    book: &mut LogBook,
    reading: &Reading<'_>,
    author: &MemberRow,
    signed: &SignedEvent,
    own_recipients: Option<u32>,
) -> Result<(), StoreError> {
    let event = &signed.event;
    let Body::Text { channel, text, reply_to } = &event.body else { return Ok(()) };
    if !book.has_channel(tx.conn(), *channel).await? {
        return Ok(());
    }
    let new = message::NewMessage {
        id: signed.id,
        channel: *channel,
        lamport: event.lamport,
        log: event.log,
        seq: event.seq,
        account: author.account,
        text: text.clone(),
        reply_to: *reply_to,
        sent_at: i64::try_from(event.wall_ms).unwrap_or(i64::MAX),
        received_at: reading.now,
        recipients: own_recipients,
    };
    book.take_message(new);
    Ok(())
}

async fn request(
    tx: &mut WriteTx<'_>,
    author: &MemberRow,
    signed: &SignedEvent,
) -> Result<Effects, StoreError> {
    let Body::ChangeRequest { kind, target, generation } = &signed.event.body else {
        return Ok(Effects::default());
    };
    // The state it is to be committed on decides; here it is only what cannot be right that is left out.
    let (name, allowed) = match kind {
        ChangeKind::Leave => ("leave", *target == author.account),
        ChangeKind::Remove => ("remove", may(author.role, Action::Remove { target: Role::Member })),
        ChangeKind::Role { was, to, .. } => {
            ("role", may(author.role, Action::SetRole { target: *was, to: *to }))
        }
        // Their newcomers need a letter as well, which only the server they asked can write so far.
        ChangeKind::Add { .. } | ChangeKind::Rejoin { .. } => return Ok(Effects::default()),
    };
    if !allowed {
        return Ok(Effects::default());
    }
    let (gid, device) = (signed.event.gid, signed.event.author);
    invite::open_request(tx.conn(), gid, signed.id, device, name, *target, *generation).await?;
    Ok(Effects { request_opened: true, ..Effects::default() })
}

async fn state(
    tx: &mut WriteTx<'_>,
    reading: &Reading<'_>,
    author: &MemberRow,
    signed: &SignedEvent,
) -> Result<Effects, StoreError> {
    let event = &signed.event;
    let action = match event.body {
        Body::Space { .. } | Body::Channel { .. } | Body::InviteRevoked { .. } => Some(Action::Configure),
        Body::Invite { role, .. } => Some(Action::Invite { to: role }),
        _ => None,
    };
    if let Some(action) = action {
        // By what its author was when it wrote: the same verdict early and late.
        let then = role_change::at(tx.conn(), event.gid, author.account, event.seen_sid).await?;
        if !may(then.unwrap_or(author.role), action) {
            return Ok(Effects::default());
        }
    }
    let Some(key) = event.body.register(&author.account, &event.author) else {
        return Ok(Effects::default());
    };
    let candidate = Candidate {
        kind: event.body.kind(),
        key: &key,
        id: signed.id,
        lamport: event.lamport,
        log: event.log,
        seq: event.seq,
    };
    if !register::claim(tx.conn(), event.gid, &candidate).await? {
        return Ok(Effects::default());
    }
    won(tx, reading, author, signed).await
}

/// The event is the newest of its register.
async fn won(
    tx: &mut WriteTx<'_>,
    reading: &Reading<'_>,
    author: &MemberRow,
    signed: &SignedEvent,
) -> Result<Effects, StoreError> {
    let event = &signed.event;
    let wall = i64::try_from(event.wall_ms).unwrap_or(i64::MAX).min(reading.now);
    match &event.body {
        Body::Space { name, description } => {
            space::set_space(tx.conn(), event.gid, name, description, wall).await?;
            tell(tx, &Entry::Space(event.gid), reading.now).await?;
        }
        Body::Channel { channel, name, topic } => {
            let row = Channel { id: *channel, space: event.gid, name: name.clone(), topic: topic.clone() };
            space::set_channel(tx.conn(), &row, wall).await?;
            tell(tx, &Entry::Channel(*channel), reading.now).await?;
        }
        Body::Profile { display_name } => {
            space::set_display_name(tx.conn(), event.gid, author.account, display_name).await?;
            let entry = Entry::Member(event.gid, author.account, MemberChange::Updated);
            tell(tx, &entry, reading.now).await?;
        }
        Body::Addresses { peer_id, addresses }
            if *peer_id == author.certificate.peer_id && author.account != reading.me =>
        {
            let addresses: Vec<_> =
                addresses.iter().filter_map(|bytes| Address::from_bytes(bytes).ok()).collect();
            let addresses = acceptable(&addresses, reading.loopback);
            peer::note_member(tx.conn(), &author.certificate).await?;
            // None that would work from here: what is known so far may still.
            if !addresses.is_empty() {
                peer::set_addresses(tx.conn(), peer_id, &addresses, reading.now).await?;
            }
            return Ok(Effects { addresses_changed: true, ..Effects::default() });
        }
        _ => {}
    }
    Ok(Effects::default())
}
