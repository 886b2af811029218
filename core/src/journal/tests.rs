//! Logs of several devices meeting in one vault, without a network.

use std::sync::Arc;

use ed25519_dalek::SigningKey;

use super::*;
use crate::{
    certificate::Certificate,
    clock::random,
    dag::{Class, Held, Node, Roster},
    event::{Body, ChangeKind, SignedEvent},
    group::{authorize::Standing, policy::Policy, state::StateFacts},
    id::{ChannelId, CommitId, GroupId, LogId, StateId},
    keys::VaultKey,
    model::{Page, Role},
    store::{Vault, branch, logbook::LogBook, message, mls, role_change, space},
};

const GID: GroupId = GroupId([9; 16]);
const CHANNEL: ChannelId = ChannelId([8; 16]);
const HEAD: StateId = StateId([7; 32]);

/// Someone who writes: keys and a log.
struct Author {
    key: SigningKey,
    certificate: Certificate,
    log: LogId,
}

impl Author {
    fn new(n: u8) -> Self {
        let account = SigningKey::from_bytes(&[n; 32]);
        let key = SigningKey::from_bytes(&[n + 100; 32]);
        let device = DeviceId(key.verifying_key().to_bytes());
        let certificate = Certificate::issue(&account, device, vec![n; 38], [n; 32], 1);
        Self { key, certificate, log: LogId([n; 16]) }
    }

    fn own(&self, recipients: u32) -> Own<'_> {
        Own { key: &self.key, device: self.certificate.device, log: self.log, head: HEAD, recipients }
    }
}

/// A device's vault in a group of Alice (owner), Bob and Carol.
struct Device {
    vault: Vault,
    authors: std::sync::Arc<[Author; 3]>,
    me: usize,
    _directory: tempfile::TempDir,
}

impl Device {
    async fn new(me: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::create(
            &directory.path().join("v.db"),
            &VaultKey::new(random()),
            &crate::metrics::Metrics::default(),
        )
        .await
        .unwrap();
        let authors = std::sync::Arc::new([Author::new(1), Author::new(2), Author::new(3)]);
        let here = std::sync::Arc::clone(&authors);
        vault
            .write(move |tx| {
                Box::pin(async move {
                    for (n, author) in here.iter().enumerate() {
                        let role = if n == 0 { Role::Owner } else { Role::Member };
                        space::add_member(tx.conn(), GID, &author.certificate, role, 3 * u64::from(n > 0), 1)
                            .await?;
                    }
                    let channel = crate::model::Channel {
                        id: CHANNEL,
                        space: GID,
                        name: "general".into(),
                        topic: String::new(),
                    };
                    space::set_channel(tx.conn(), &channel, 1).await
                })
            })
            .await
            .unwrap_or_else(|error: StoreError| panic!("{error}"));
        Self { vault, authors, me, _directory: directory }
    }

    /// Runs a step with this device's view of the members.
    async fn write(&self, body: Body) -> SignedEvent {
        let (authors, me) = (std::sync::Arc::clone(&self.authors), self.me);
        self.vault
            .write(move |tx| {
                Box::pin(async move {
                    let members = Members::new(space::member_rows(tx.conn(), GID).await?);
                    let author = &authors[me];
                    let reading = Reading {
                        me: author.certificate.account,
                        members: &members,
                        loopback: true,
                        now: 50,
                    };
                    let mut book = LogBook::open(tx.conn(), GID).await?;
                    let (signed, _) = append(tx, &mut book, &author.own(2), &reading, body).await?;
                    book.close(tx, 60).await?;
                    Ok::<_, StoreError>(signed)
                })
            })
            .await
            .unwrap()
    }

    async fn say(&self, text: &str) -> SignedEvent {
        self.write(Body::Text { channel: CHANNEL, text: text.into(), reply_to: None }).await
    }

    async fn take(&self, signed: &SignedEvent) -> Applied {
        self.take_together(&[signed]).await[0]
    }

    async fn take_together(&self, events: &[&SignedEvent]) -> Vec<Applied> {
        self.take_at(60, events).await
    }

    async fn take_at(&self, now: i64, events: &[&SignedEvent]) -> Vec<Applied> {
        let events: Vec<SignedEvent> = events.iter().map(|signed| (*signed).clone()).collect();
        let me = self.authors[self.me].certificate.account;
        self.vault
            .write(move |tx| {
                Box::pin(async move {
                    let members = Members::new(space::member_rows(tx.conn(), GID).await?);
                    let reading = Reading { me, members: &members, loopback: true, now };
                    let mut book = LogBook::open(tx.conn(), GID).await?;
                    let mut applied = Vec::new();
                    for signed in &events {
                        applied.push(apply(tx, &mut book, &reading, signed, None).await?);
                    }
                    drain_parked(tx, &mut book, &reading).await?;
                    book.close(tx, now).await?;
                    Ok::<_, StoreError>(applied)
                })
            })
            .await
            .unwrap()
    }

    async fn withhold(&self, of: &SignedEvent, lamport: u64) -> bool {
        let (of, me) = (of.clone(), self.authors[self.me].certificate.account);
        self.vault
            .write(move |tx| {
                Box::pin(async move {
                    let members = Members::new(space::member_rows(tx.conn(), GID).await?);
                    let reading = Reading { me, members: &members, loopback: true, now: 60 };
                    let mut book = LogBook::open(tx.conn(), GID).await?;
                    let withheld = Withheld {
                        log: of.event.log,
                        seq: of.event.seq,
                        id: of.id,
                        lamport,
                        author: of.event.author,
                    };
                    let taken = apply_withheld(tx, &mut book, &reading, &withheld).await?;
                    drain_parked(tx, &mut book, &reading).await?;
                    book.close(tx, 60).await?;
                    Ok::<_, StoreError>(taken)
                })
            })
            .await
            .unwrap()
    }

    async fn texts(&self) -> Vec<String> {
        let mut reader = self.vault.read().await.unwrap();
        let page = message::page(reader.conn(), CHANNEL, Page::Latest, 200).await.unwrap().unwrap();
        page.messages.into_iter().map(|message| message.text).collect()
    }

    /// Has been in this state; its secrets are pruned.
    async fn knows(&self, sid: StateId, epoch: u64) {
        self.knows_child(sid, None, epoch).await;
    }

    async fn knows_child(&self, sid: StateId, parent: Option<StateId>, epoch: u64) {
        self.knows_with(sid, parent, epoch, &[0, 1, 2]).await;
    }

    async fn knows_with(&self, sid: StateId, parent: Option<StateId>, epoch: u64, members: &[usize]) {
        let roster = members.iter().map(|member| &self.authors[*member].certificate);
        let roster: Roster = roster.map(|certificate| (certificate.account, certificate.device)).collect();
        let owner = self.authors[0].certificate.account;
        let facts = StateFacts {
            gid: GID,
            sid,
            epoch,
            check: [0; 8],
            env_tag: [0; 16],
            own_leaf: 0,
            standing: Standing { gid: GID, epoch, roster: Vec::new(), policy: Policy::founding(owner) },
        };
        self.vault
            .write(move |tx| {
                Box::pin(async move {
                    let node = Node {
                        sid: facts.sid,
                        parent,
                        epoch: facts.epoch,
                        commit: CommitId([0; 32]),
                        committer: DeviceId([0; 32]),
                        class: Class::Change,
                        roster: Arc::new(roster),
                        held: Held::Live,
                    };
                    branch::insert_child(tx.conn(), GID, &node, Some(&facts), 1).await?;
                    mls::forget_secrets(tx.conn(), GID, 2).await
                })
            })
            .await
            .unwrap_or_else(|error: StoreError| panic!("{error}"));
    }

    /// Merged a commit that leads to this state and gives someone another role.
    async fn sees_become(&self, member: usize, role: Role, sid: StateId, parent: StateId, epoch: u64) {
        self.knows_child(sid, Some(parent), epoch).await;
        let account = self.authors[member].certificate.account;
        let set = self.vault.write(move |tx| {
            Box::pin(async move { role_change::set(tx.conn(), GID, account, sid, role).await })
        });
        assert!(set.await.unwrap_or_else(|error: StoreError| panic!("{error}")));
    }

    /// The last event of a log.
    async fn log_of(&self, log: LogId) -> Option<crate::id::EventId> {
        let mut reader = self.vault.read().await.unwrap();
        let mut book = LogBook::open(reader.conn(), GID).await.unwrap();
        book.log(reader.conn(), log).await.unwrap().map(|row| row.hash_there)
    }

    async fn has_channel(&self, id: ChannelId) -> bool {
        let mut reader = self.vault.read().await.unwrap();
        space::channel(reader.conn(), id).await.unwrap().is_some()
    }

    /// Is welcomed into a state, having been a member before.
    async fn comes_back(&self, epoch: u64) {
        let root = StateId([9; 32]);
        self.knows(root, epoch).await;
        self.vault
            .write(move |tx| {
                Box::pin(async move { mls::insert_group(tx.conn(), GID, root, LogId([8; 16]), 1).await })
            })
            .await
            .unwrap_or_else(|error: StoreError| panic!("{error}"));
    }

    async fn end(&self, member: usize, epoch: u64) {
        let device = self.authors[member].certificate.device;
        self.vault
            .write(move |tx| Box::pin(async move { space::end_member(tx.conn(), GID, device, epoch).await }))
            .await
            .unwrap_or_else(|error: StoreError| panic!("{error}"));
    }
}

/// The same event, changed and signed anew by its author.
fn forged(
    author: &Author,
    signed: &SignedEvent,
    change: impl FnOnce(&mut crate::event::Event),
) -> SignedEvent {
    let mut event = signed.event.clone();
    change(&mut event);
    SignedEvent::sign(&author.key, event).unwrap()
}

#[tokio::test]
async fn whatever_order_events_come_in_everyone_shows_the_same() {
    let (alice, bob, carol) = (Device::new(0).await, Device::new(1).await, Device::new(2).await);
    let hello = alice.say("hello").await;
    bob.take(&hello).await;
    let hi = bob.say("hi").await;
    let how = bob.say("how are you").await;
    alice.take(&hi).await;
    alice.take(&how).await;
    let fine = alice.say("fine").await;
    bob.take(&fine).await;
    // Carol gets everything backwards: each waits for what it refers to.
    for event in [&fine, &how, &hi] {
        assert_eq!(carol.take(event).await, Applied::Parked);
    }
    assert!(carol.texts().await.is_empty());
    carol.take(&hello).await;
    assert_eq!(carol.texts().await, ["hello", "hi", "how are you", "fine"]);
    assert_eq!(alice.texts().await, carol.texts().await);
    assert_eq!(bob.texts().await, carol.texts().await);
}

#[tokio::test]
async fn an_event_is_taken_once() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    let hello = alice.say("hello").await;
    assert!(matches!(bob.take(&hello).await, Applied::Processed(_)));
    assert_eq!(bob.take(&hello).await, Applied::Duplicate);
    assert_eq!(bob.texts().await, ["hello"]);
}

#[tokio::test]
async fn a_parked_event_that_comes_again_in_its_turn_stays() {
    let (alice, bob, carol) = (Device::new(0).await, Device::new(1).await, Device::new(2).await);
    let hello = alice.say("hello").await;
    let more = alice.say("more").await;
    assert_eq!(bob.take(&more).await, Applied::Parked);
    // Both come in one step, so that the second is not parked any more when it comes.
    bob.take_together(&[&hello, &more]).await;
    assert_eq!(bob.texts().await, ["hello", "more"]);
    // It is still there to refer to, and for those who lack it.
    let answer = bob.say("yes").await;
    for event in [&hello, &more, &answer] {
        assert!(matches!(carol.take(event).await, Applied::Processed(_)));
    }
    let mut reader = bob.vault.read().await.unwrap();
    assert!(crate::store::event::signed(reader.conn(), more.id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_second_event_in_the_same_place_is_equivocation() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    let hello = alice.say("hello").await;
    let other = forged(&alice.authors[0], &hello, |event| event.wall_ms += 1);
    bob.take(&hello).await;
    assert_eq!(bob.take(&other).await, Applied::Rejected(Rejection::Equivocation));
    assert_eq!(bob.texts().await, ["hello"]);
}

#[tokio::test]
async fn who_refers_to_the_other_half_of_a_fork_is_heard() {
    let (alice, bob, carol) = (Device::new(0).await, Device::new(1).await, Device::new(2).await);
    let to_alice = carol.say("to one of you").await;
    let more = carol.say("and more").await;
    let to_bob = forged(&carol.authors[2], &to_alice, |event| event.wall_ms += 1);
    bob.take(&to_bob).await;
    alice.take(&to_alice).await;
    let hi = bob.say("hi").await;
    assert!(matches!(alice.take(&hi).await, Applied::Processed(_)), "another event in that place");

    // Alice goes on to refer to what Bob can never have, which he learns from the next event there.
    alice.take(&more).await;
    let after = alice.say("after it").await;
    assert_eq!(bob.take(&after).await, Applied::Parked);
    assert_eq!(bob.take(&more).await, Applied::Rejected(Rejection::Equivocation));
    assert_eq!(bob.texts().await, ["to one of you", "hi", "after it"]);
    // Nothing is waited for there any more.
    let last = carol.say("and last").await;
    assert_eq!(bob.take(&last).await, Applied::Rejected(Rejection::Equivocation));
}

#[tokio::test]
async fn a_broken_event_in_anothers_log_does_not_break_it() {
    let (alice, bob, carol) = (Device::new(0).await, Device::new(1).await, Device::new(2).await);
    let hello = alice.say("hello").await;
    let stolen =
        forged(&carol.authors[2], &hello, |event| event.author = carol.authors[2].certificate.device);
    bob.take(&hello).await;
    assert_eq!(bob.take(&stolen).await, Applied::Rejected(Rejection::Equivocation));
    // Hers is still waited for.
    let (more, most) = (alice.say("more").await, alice.say("most").await);
    assert_eq!(bob.take(&most).await, Applied::Parked);
    bob.take(&more).await;
    assert_eq!(bob.texts().await, ["hello", "more", "most"]);
}

#[tokio::test]
async fn a_log_belongs_to_the_device_that_began_it() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    bob.take(&alice.say("hello").await).await;
    let next = alice.say("more").await;
    let stolen = forged(&bob.authors[1], &next, |event| event.author = bob.authors[1].certificate.device);
    assert_eq!(bob.take(&stolen).await, Applied::Rejected(Rejection::Equivocation));
}

#[tokio::test]
async fn a_lamport_time_that_cannot_be_is_refused() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    let hello = alice.say("hello").await;
    let late = forged(&alice.authors[0], &hello, |event| event.lamport += 5);
    assert_eq!(bob.take(&late).await, Applied::Rejected(Rejection::Order));
    assert!(matches!(bob.take(&hello).await, Applied::Processed(_)));
}

#[tokio::test]
async fn a_stranger_writes_nothing() {
    let bob = Device::new(1).await;
    let alice = Device::new(0).await;
    let hello = alice.say("hello").await;
    let stranger = Author::new(77);
    let intruding = forged(&stranger, &hello, |event| {
        event.author = stranger.certificate.device;
        event.log = stranger.log;
    });
    assert_eq!(bob.take(&intruding).await, Applied::Parked, "a lost branch may have let it in");
    let wrong = forged(&stranger, &hello, |event| {
        event.author = stranger.certificate.device;
        event.log = LogId([78; 16]);
        event.lamport += 5;
    });
    assert_eq!(bob.take(&wrong).await, Applied::Rejected(Rejection::Order));
    let strangers = {
        let mut reader = bob.vault.read().await.unwrap();
        crate::store::event::logs_of_strangers(reader.conn(), GID).await.unwrap()
    };
    assert_eq!(strangers, 0, "anyone can make such logs");
    let later = bob.take_at(60 + 60_000, &[&hello]).await;
    assert!(matches!(later[..], [Applied::Processed(_)]));
    assert_eq!(bob.texts().await, ["hello"]);
    assert_eq!(bob.take(&intruding).await, Applied::Duplicate, "its place is all that was kept");
}

#[tokio::test]
async fn members_do_not_rename_a_space_or_make_channels() {
    let (bob, carol) = (Device::new(1).await, Device::new(2).await);
    let rename = bob.write(Body::Space { name: "mine".into(), description: String::new() }).await;
    let id = ChannelId([77; 16]);
    let channel = bob.write(Body::Channel { channel: id, name: "mine".into(), topic: String::new() }).await;
    carol.take(&rename).await;
    carol.take(&channel).await;
    let mut reader = carol.vault.read().await.unwrap();
    assert!(space::channel(reader.conn(), id).await.unwrap().is_none());
    drop(reader);
    // The log goes on all the same.
    carol.take(&bob.say("oh well").await).await;
    assert_eq!(carol.texts().await, ["oh well"]);
}

#[tokio::test]
async fn a_state_event_counts_by_the_role_its_author_had_in_the_state_it_saw() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    let [root, promoted, later, demoted, rival] = [10, 11, 12, 13, 14].map(|n| StateId([n; 32]));
    alice.knows(root, 3).await;
    alice.sees_become(1, Role::Admin, promoted, root, 4).await;
    alice.knows_child(later, Some(promoted), 5).await;
    alice.sees_become(1, Role::Member, demoted, later, 6).await;
    alice.knows_child(rival, Some(root), 4).await;

    // All of it comes when Bob is an admin no more.
    for (n, seen, counts) in [
        (1, root, false),
        (2, promoted, true),
        (3, later, true),
        (4, demoted, false),
        (5, rival, false),
        (6, StateId([99; 32]), false),
    ] {
        let id = ChannelId([100 + n; 16]);
        let body = Body::Channel { channel: id, name: format!("channel {n}"), topic: String::new() };
        let written = bob.write(body).await;
        let bobs = &bob.authors[1];
        let last = alice.log_of(bobs.log).await;
        let event = forged(bobs, &written, |event| {
            event.seen_sid = seen;
            event.prev = last.filter(|_| n > 1);
        });
        assert!(matches!(alice.take(&event).await, Applied::Processed(_)), "event {n}");
        assert_eq!(alice.has_channel(id).await, counts, "event {n}");
    }
}

#[tokio::test]
async fn only_what_an_author_might_ever_ask_for_becomes_a_request() {
    let (alice, bob, carol) = (Device::new(0).await, Device::new(1).await, Device::new(2).await);
    let target = alice.authors[2].certificate.account;
    let opened = async |author: &Device, kind: ChangeKind| {
        let request = author.write(Body::ChangeRequest { kind, target, generation: 0 }).await;
        match carol.take(&request).await {
            Applied::Processed(effects) => effects.request_opened,
            other => panic!("{other:?}"),
        }
    };
    let role = ChangeKind::Role { was: Role::Member, to: Role::Admin, role_changes: 0 };
    assert!(opened(&alice, ChangeKind::Remove).await);
    assert!(opened(&alice, role.clone()).await);
    assert!(!opened(&alice, ChangeKind::Leave).await, "of another");
    assert!(!opened(&bob, ChangeKind::Remove).await);
    assert!(!opened(&bob, role).await);
}

#[tokio::test]
async fn the_later_of_two_names_wins_in_any_order() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    let name = |name: &str| Body::Profile { display_name: name.into() };
    let (first, second) = (alice.write(name("Al")).await, alice.write(name("Alice")).await);
    bob.take(&second).await;
    bob.take(&first).await;
    let mut reader = bob.vault.read().await.unwrap();
    let account = alice.authors[0].certificate.account;
    let member = space::member(reader.conn(), GID, account).await.unwrap().unwrap();
    assert_eq!(member.display_name, "Alice");
}

#[tokio::test]
async fn a_message_to_a_channel_that_is_not_there_shows_nowhere() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    let lost = Body::Text { channel: ChannelId([1; 16]), text: "lost".into(), reply_to: None };
    let lost = alice.write(lost).await;
    assert!(matches!(bob.take(&lost).await, Applied::Processed(_)));
    assert!(bob.texts().await.is_empty());
}

#[tokio::test]
async fn a_withheld_place_lets_the_log_go_on() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    let secret = alice.say("before you came").await;
    let open = alice.say("welcome").await;
    assert_eq!(bob.take(&open).await, Applied::Parked);
    assert!(!bob.withhold(&open, open.event.lamport).await, "not its turn");
    assert!(bob.withhold(&secret, secret.event.lamport).await);
    assert_eq!(bob.texts().await, ["welcome"]);
}

#[tokio::test]
async fn a_withheld_place_cannot_leap_through_time() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    let secret = alice.say("before you came").await;
    assert!(!bob.withhold(&secret, 1 << 40).await);
}

#[tokio::test]
async fn a_former_member_still_wrote_what_it_wrote_before() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    let before = alice.say("written before I left").await;
    bob.end(0, 5).await;
    assert!(matches!(bob.take(&before).await, Applied::Processed(_)));
}

#[tokio::test]
async fn what_a_former_member_writes_from_nowhere_is_not_shown_and_keeps_nobody_waiting() {
    let (alice, bob, carol) = (Device::new(0).await, Device::new(1).await, Device::new(2).await);
    let late = bob.say("I was never gone").await;
    carol.take(&late).await;
    let answer = carol.say("yes, you were").await;
    alice.end(1, 5).await;
    // Alice was there all the time: a state she has never heard of is of a branch that lost, or none.
    assert_eq!(alice.take_together(&[&late, &answer]).await, [Applied::Parked, Applied::Parked]);
    assert_eq!(alice.take_at(60 + 59_000, &[&late]).await, [Applied::Duplicate]);
    assert!(alice.texts().await.is_empty());
    alice.take_at(60 + 60_000, &[]).await;
    assert_eq!(alice.texts().await, ["yes, you were"]);
}

#[tokio::test]
async fn what_a_former_member_writes_after_its_end_is_refused() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    let late = bob.say("I was never gone").await;
    alice.end(1, 5).await;
    alice.knows_with(HEAD, None, 5, &[0, 2]).await;
    assert_eq!(alice.take(&late).await, Applied::Rejected(Rejection::UnknownAuthor));
    assert!(alice.texts().await.is_empty());
}

#[tokio::test]
async fn whoever_came_twice_wrote_what_it_wrote_each_time() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    let text = bob.say("between two removals").await;
    // As it looks after the head was on a branch where Bob had gone long before.
    alice.end(1, 2).await;
    alice.knows_with(HEAD, None, 20, &[0, 1, 2]).await;
    assert!(matches!(alice.take(&text).await, Applied::Processed(_)));
}

#[tokio::test]
async fn what_a_former_member_wrote_in_a_pruned_state_is_taken() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    let before = bob.say("written before I left").await;
    alice.end(1, 5).await;
    alice.knows(HEAD, 4).await;
    assert!(matches!(alice.take(&before).await, Applied::Processed(_)));
    assert_eq!(alice.texts().await, ["written before I left"]);
}

#[tokio::test]
async fn who_came_back_takes_what_former_members_wrote_in_the_states_it_missed() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    let text = bob.say("while you were away").await;
    // Of Bob, who went and came again meanwhile, she knows that he had gone before.
    alice.end(1, 5).await;
    alice.comes_back(20).await;
    assert!(matches!(alice.take(&text).await, Applied::Processed(_)));
    assert_eq!(alice.texts().await, ["while you were away"]);
}

#[tokio::test]
async fn of_those_who_left_before_only_state_is_taken() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    let name = alice.write(Body::Profile { display_name: "Al".into() }).await;
    // Bob came in epoch 3.
    bob.end(0, 3).await;
    assert!(matches!(bob.take(&name).await, Applied::Processed(_)));
    let old = alice.say("not for Bob either").await;
    assert_eq!(bob.take(&old).await, Applied::Rejected(Rejection::UnknownAuthor));
}

#[tokio::test]
async fn content_of_those_who_came_later_is_never_withheld() {
    let (alice, bob, carol) = (Device::new(0).await, Device::new(1).await, Device::new(2).await);
    let fresh = bob.say("I am new").await;
    assert!(!alice.withhold(&fresh, fresh.event.lamport).await, "Alice was there before Bob");
    assert!(!carol.withhold(&fresh, fresh.event.lamport).await, "Carol came with Bob");
}

#[tokio::test]
async fn nothing_is_withheld_after_what_was_given() {
    let (alice, bob) = (Device::new(0).await, Device::new(1).await);
    bob.take(&alice.say("welcome").await).await;
    let next = alice.say("something a third wants to hide").await;
    assert!(!bob.withhold(&next, next.event.lamport).await);
}
