//! The NetworkLayer: joins the router, the groups and the vault in background tasks.
//!
//! What goes between servers is decided here and in the pure modules; sockets belong to the router,
//! SQL to the store. Each step is one transaction; nothing leaves before it is durable.

mod addresses;
mod admit;
mod adopt;
mod astray;
mod branches;
mod commit;
mod config;
mod copies;
mod custody;
mod departure;
mod dial;
mod echo;
mod farewell;
#[cfg(feature = "testing")]
pub mod foreign;
mod greeting;
mod groups;
mod handover;
mod handshake;
mod head;
mod health;
mod housekeeping;
mod intake;
mod join;
mod joining;
mod letters;
mod link;
mod misbehaviour;
mod pump;
mod reconcile;
mod rejoin;
mod renewal;
mod repair;
mod seal;
mod strangers;
mod tip;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

pub(crate) use self::adopt::{add_member, end_membership};
pub(crate) use commit::Pending;
pub use config::NetworkConfig;
use ed25519_dalek::SigningKey;
pub(crate) use groups::Ahead;
pub use groups::{Slot, SlotError};
pub use handshake::IntroductionError;
pub(crate) use seal::Sealed;
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zeroize::Zeroizing;

use crate::{
    certificate::Certificate,
    group::identity::DeviceIdentity,
    id::{AccountId, DeviceId, GroupId},
    journal::Members,
    metrics::Metrics,
    model::PeerState,
    router::{Address, PeerId, Router, RouterEvent, told},
    store::{
        StoreError, Vault,
        mls::{self, TaggedState},
    },
};

/// Requests of peers that are served at a time; more are refused as busy.
const MAX_SERVED_REQUESTS: usize = 64;

/// What a task could not do, as with a full disk, it tries again after this long, when nothing calls for it
/// before.
const RETRY: Duration = Duration::from_secs(10);

/// The keys of an unlocked account.
pub struct Keys {
    /// This device's.
    pub device: SigningKey,
    /// Opens letters.
    pub letter: Zeroizing<[u8; 32]>,
    /// The device as MLS knows it.
    pub identity: DeviceIdentity,
}

impl Keys {
    /// The device's certificate.
    pub fn certificate(&self) -> &Certificate {
        self.identity.certificate()
    }

    /// The account.
    pub fn account(&self) -> AccountId {
        self.certificate().account
    }

    /// The device.
    pub fn device_id(&self) -> DeviceId {
        self.identity.device()
    }
}

/// The running NetworkLayer of a session.
pub struct Network {
    pub(crate) keys: Keys,
    pub(crate) vault: Vault,
    pub(crate) router: Router,
    pub(crate) metrics: Metrics,
    pub(crate) groups: groups::Groups,
    links: link::Links,
    tips: tip::Tips,
    repairs: repair::Repairs,
    greetings: greeting::Greetings,
    reconciling: reconcile::Reconciling,
    echoes: echo::Echoes,
    waits: commit::Waits,
    renewals: renewal::Renewals,
    branches: branches::Shown,
    farewells: farewell::Farewells,
    pulls: branches::Shown,
    ways: astray::Ways,
    strikes: misbehaviour::Strikes,
    strangers: strangers::Strangers,
    nonces: admit::Nonces,
    dialling: dial::Dialling,
    joining: joining::Joining,
    wake: Wake,
    served: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// The state of the newest frame taken: the next one is usually of the same.
    last_state: Mutex<Option<TaggedState>>,
    round_trips: Mutex<HashMap<PeerId, Duration>>,
}

/// Reasons for a background task to look again.
#[derive(Default)]
struct Wake {
    outbox: Notify,
    dial: Notify,
    join: Notify,
    addresses: Notify,
    commit: Notify,
    /// Someone follows another state, or a group went on.
    votes: Notify,
}

impl Network {
    /// Starts the background tasks.
    pub fn start(
        keys: Keys,
        vault: Vault,
        router: Router,
        events: mpsc::Receiver<RouterEvent>,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let network = Arc::new(Self {
            keys,
            vault,
            router,
            metrics,
            groups: groups::Groups::default(),
            links: link::Links::default(),
            tips: tip::Tips::default(),
            waits: commit::Waits::default(),
            renewals: renewal::Renewals::default(),
            branches: branches::Shown::default(),
            farewells: farewell::Farewells::default(),
            pulls: branches::Shown::default(),
            ways: astray::Ways::default(),
            repairs: repair::Repairs::default(),
            greetings: greeting::Greetings::default(),
            reconciling: reconcile::Reconciling::default(),
            echoes: echo::Echoes::default(),
            strikes: misbehaviour::Strikes::default(),
            strangers: strangers::Strangers::default(),
            nonces: admit::Nonces::default(),
            dialling: dial::Dialling::default(),
            joining: joining::Joining::default(),
            wake: Wake::default(),
            served: Arc::new(Semaphore::new(MAX_SERVED_REQUESTS)),
            tasks: TaskTracker::new(),
            stop,
            last_state: Mutex::new(None),
            round_trips: Mutex::new(HashMap::new()),
        });
        network.spawn("peers", Arc::clone(&network).pump(events));
        network.spawn("outbox", Arc::clone(&network).seal_outbox());
        network.spawn("dialler", Arc::clone(&network).keep_connected());
        network.spawn("tips", Arc::clone(&network).send_tips());
        network.spawn("repairs", Arc::clone(&network).make_repairs());
        network.spawn("joins", Arc::clone(&network).finish_joins());
        network.spawn("commits", Arc::clone(&network).commit_requests());
        network.spawn("addresses", Arc::clone(&network).keep_addresses_told());
        network.spawn("unpark", Arc::clone(&network).unpark_what_is_explained());
        network.spawn("housekeeping", Arc::clone(&network).keep_house());
        network
    }

    /// Waits until every task has ended; the stop token must be cancelled.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Runs a task until it ends or the session stops. What a task does when woken is boxed there: asleep,
    /// nine tasks a session are to cost little. A panic ends the session: half a NetworkLayer lies.
    fn spawn(self: &Arc<Self>, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        // What a future is made of and what it becomes both have room in it: boxed, that is a pointer.
        let task = Box::pin(task);
        let work: JoinHandle<()> = self.tasks.spawn({
            let stop = stop.clone();
            async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = task => {}
                }
            }
        });
        self.tasks.spawn(async move {
            if work.await.is_err_and(|error| error.is_panic()) {
                tracing::error!(task = name, "a background task panicked; the session stops");
                stop.cancel();
            }
        });
    }

    /// Runs a task of the session beside the network's own.
    pub(crate) fn run(self: &Arc<Self>, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, task);
    }

    /// Waits for the router's own task when stopping.
    pub(crate) fn track_router(&self, running: JoinHandle<()>) {
        self.tasks.spawn(async move {
            let _ = running.await;
        });
    }

    /// The addresses others should dial, at most 16: announced ones instead of the listening ones.
    pub fn own_addresses(&self) -> Vec<Address> {
        let announced = self.router.announced();
        told(if announced.is_empty() { self.router.listen_addresses() } else { announced.to_vec() })
    }

    /// The round trip to a peer, as last measured.
    pub fn round_trip(&self, peer: &PeerId) -> Option<Duration> {
        self.round_trips.lock().unwrap_or_else(PoisonError::into_inner).get(peer).copied()
    }

    /// Accounts with a verified connection.
    pub(crate) fn connected_accounts(&self) -> HashSet<AccountId> {
        self.links.accounts()
    }

    /// How many verified peers are connected.
    pub(crate) fn connected_peers(&self) -> usize {
        self.links.count()
    }

    /// The verified peers with a connection up.
    pub(crate) fn linked(&self) -> Vec<PeerId> {
        self.links.verified().into_iter().map(|(peer, ..)| peer).collect()
    }

    /// Whose device a connected peer is.
    pub(crate) fn linked_account(&self, peer: &PeerId) -> Option<AccountId> {
        self.links.certificate(peer).map(|certificate| certificate.account)
    }

    /// The state of the link to a peer.
    pub(crate) async fn link_state(&self, peer: &PeerId) -> PeerState {
        if self.links.certificate(peer).is_some() {
            PeerState::Connected
        } else if self.router.is_blocked(peer).await {
            PeerState::Blocked
        } else if self.dialling.is_dialling(peer) {
            PeerState::Connecting
        } else {
            PeerState::Disconnected
        }
    }

    /// Forgets any wait before the next dial of a peer, and looks whom to dial.
    pub(crate) fn dial_at_once(&self, peer: &PeerId) {
        self.dialling.at_once(peer);
        self.wake.dial.notify_one();
    }

    /// What waits to leave may leave sooner, or has to wait longer.
    pub(crate) fn look_at_outbox(&self) {
        self.wake.outbox.notify_one();
    }

    /// Groups whose frames this device still takes part in.
    async fn live_groups(&self) -> Result<Vec<GroupId>, StoreError> {
        self.vault.peek(|conn| Box::pin(mls::live_groups(conn))).await
    }

    /// The connected devices that are members of a group now.
    async fn connected_members(&self, slot: &mut Slot) -> Result<Vec<(DeviceId, PeerId)>, SlotError> {
        let members = slot.members(&self.vault).await?;
        Ok(self.linked_members(&members).collect())
    }

    fn linked_members(&self, members: &Members) -> impl Iterator<Item = (DeviceId, PeerId)> {
        let is_member = |(_, account, device): &(PeerId, AccountId, DeviceId)| {
            members.current(device).is_some_and(|row| row.account == *account)
        };
        self.links.verified().into_iter().filter(is_member).map(|(peer, _, device)| (device, peer))
    }

    fn last_state(&self) -> Option<TaggedState> {
        *self.last_state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// States are pruned when a group moves on and when time passes: then nothing is taken for granted.
    pub(super) fn set_last_state(&self, state: Option<TaggedState>) {
        *self.last_state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Events and Tips of a group changed: others are to be told.
    fn group_changed(&self, gid: GroupId) {
        self.tips.soon(gid);
    }
}

/// Sleeps until then; for ever where nothing is due.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
