//! A person: an account on a server, and what people do with it through the API.
//!
//! Methods that a story relies on panic when refused; the plain clients (`spaces()`, `messages()`,
//! ...) are there for stories about refusals.

mod message;
mod space;

use spacepanda_proto::api::v1::{
    ConnectPeerRequest, CreateProfileRequest, GetNetworkStatusRequest, ListPeersRequest, LockRequest,
    NetworkStatus, Peer, Session, UnlockRequest, auth_service_client::AuthServiceClient,
    event_service_client::EventServiceClient, message_service_client::MessageServiceClient,
    network_service_client::NetworkServiceClient, space_service_client::SpaceServiceClient,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use uuid::Uuid;

use super::{feed::Feed, server::Server, wait::wait_until};

/// Everyone's password.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// The largest page the API gives.
const PAGE: u32 = 200;
/// A page of the longest texts is larger than tonic's default.
const LARGEST_ANSWER: usize = 16 << 20;

/// A connection that carries the session token.
pub(crate) type Authed = InterceptedService<Channel, Bearer>;

/// Adds `authorization: Bearer <token>`.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    /// For this session token.
    pub(crate) fn new(token: &str) -> Self {
        Self(format!("Bearer {token}").parse().expect("a token is ASCII"))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A login of an account; clones share the token.
#[derive(Clone)]
pub(crate) struct Person {
    /// What the server answered to the login.
    pub(crate) session: Session,
    /// The home server.
    pub(crate) server: Server,
    /// The port others should dial instead of the router's own.
    pub(crate) proxy_port: Option<u16>,
    channel: Channel,
}

impl Server {
    /// The account service, without a token.
    pub(crate) fn accounts(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel())
    }

    /// Creates an account, displayed with a capital letter.
    pub(crate) async fn sign_up(&self, username: &str) -> Person {
        let (first, rest) = username.split_at(1);
        let profile = CreateProfileRequest {
            username: username.into(),
            password: PASSWORD.into(),
            display_name: first.to_uppercase() + rest,
            device_name: "phone".into(),
            request_id: request_id(),
            ..Default::default()
        };
        let session = self.accounts().create_profile(profile).await.expect("sign up").into_inner();
        self.person(session)
    }

    /// Logs in once more.
    pub(crate) async fn log_in(&self, username: &str, device: &str) -> Person {
        let credentials = UnlockRequest {
            username: username.into(),
            password: PASSWORD.into(),
            device_name: device.into(),
        };
        let session = self.accounts().unlock(credentials).await.expect("log in").into_inner();
        self.person(session)
    }

    /// The person behind a session that a story made itself.
    pub(crate) fn person(&self, session: Session) -> Person {
        Person { session, server: self.clone(), proxy_port: None, channel: self.channel() }
    }
}

/// A fresh id for a request that may be retried.
pub(crate) fn request_id() -> String {
    Uuid::new_v4().to_string()
}

impl Person {
    /// The user name.
    pub(crate) fn name(&self) -> &str {
        &self.session.username
    }

    /// The account id.
    pub(crate) fn account(&self) -> &str {
        &self.session.account_id
    }

    /// The router's peer id.
    pub(crate) fn peer_id(&self) -> &str {
        &self.session.peer_id
    }

    /// Another login of the same account, with a connection of its own.
    pub(crate) async fn another_device(&self, device: &str) -> Self {
        self.server.log_in(self.name(), device).await
    }

    /// AuthService with this login's token.
    pub(crate) fn auth(&self) -> AuthServiceClient<Authed> {
        AuthServiceClient::with_interceptor(self.channel.clone(), self.bearer())
    }

    /// SpaceService.
    pub(crate) fn spaces(&self) -> SpaceServiceClient<Authed> {
        SpaceServiceClient::with_interceptor(self.channel.clone(), self.bearer())
    }

    /// MessageService.
    pub(crate) fn messages(&self) -> MessageServiceClient<Authed> {
        MessageServiceClient::with_interceptor(self.channel.clone(), self.bearer())
            .max_decoding_message_size(LARGEST_ANSWER)
    }

    /// NetworkService.
    pub(crate) fn network(&self) -> NetworkServiceClient<Authed> {
        NetworkServiceClient::with_interceptor(self.channel.clone(), self.bearer())
    }

    /// EventService.
    pub(crate) fn feed_service(&self) -> EventServiceClient<Authed> {
        EventServiceClient::with_interceptor(self.channel.clone(), self.bearer())
    }

    fn bearer(&self) -> Bearer {
        Bearer::new(&self.session.session_token)
    }

    /// Subscribes to everything after `seq`; `None`: from now.
    pub(crate) async fn events(&self, after: Option<u64>) -> Feed {
        Feed::open(self, after).await.expect("subscribe")
    }

    /// Any call: brings the account back after its server restarted.
    pub(crate) async fn wake(&self) {
        let what = format!("{} to be answered after a restart", self.name());
        wait_until(&what, async || self.try_status().await.map(drop).map_err(|status| status.to_string()))
            .await;
    }

    /// Logs this device out, or all of them.
    pub(crate) async fn lock(&self, everywhere: bool) {
        self.auth().lock(LockRequest { everywhere }).await.expect("lock");
    }

    /// The network status.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn try_status(&self) -> Result<NetworkStatus, Status> {
        Ok(self.network().get_network_status(GetNetworkStatusRequest {}).await?.into_inner())
    }

    /// The network status.
    pub(crate) async fn status(&self) -> NetworkStatus {
        self.try_status().await.expect("network status")
    }

    /// The multiaddr that others dial: through the proxy where there is one.
    pub(crate) async fn peer_address(&self) -> String {
        match self.proxy_port {
            Some(port) => format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", self.peer_id()),
            None => self.status().await.listen_addresses.first().expect("it listens").clone(),
        }
    }

    /// Connects to an address.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn try_connect(&self, peer_address: &str) -> Result<f64, Status> {
        let request = ConnectPeerRequest { peer_address: peer_address.into() };
        Ok(self.network().connect_peer(request).await?.into_inner().round_trip_ms)
    }

    /// Connects to another person's router.
    pub(crate) async fn connect(&self, other: &Person) {
        self.try_connect(&other.peer_address().await).await.expect("connect");
    }

    /// The known peers.
    pub(crate) async fn peers(&self) -> Vec<Peer> {
        let request = ListPeersRequest { page_size: PAGE, ..Default::default() };
        self.network().list_peers(request).await.expect("peers").into_inner().peers
    }

    /// What is known of another person's router.
    pub(crate) async fn peer(&self, other: &Person) -> Option<Peer> {
        self.peers().await.into_iter().find(|peer| peer.peer_id == other.peer_id())
    }
}
