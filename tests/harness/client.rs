//! A person: an account on a server, and what people do with it through the API.
//!
//! Methods that a story relies on panic when refused; the plain clients (`spaces()`, `messages()`,
//! ...) are there for stories about refusals.

use spacepanda_proto::api::v1::{
    Channel as SpaceChannel, ConnectPeerRequest, CreateChannelRequest, CreateInviteRequest,
    CreateProfileRequest, CreateSpaceRequest, GetMessageRequest, GetNetworkStatusRequest, GetSpaceRequest,
    Invite, JoinSpaceRequest, JoinState, LeaveSpaceRequest, ListChannelsRequest, ListMembersRequest,
    ListMessagesRequest, ListPeersRequest, ListSpacesRequest, LockRequest, Member, Message, NetworkStatus,
    Peer, RemoveMemberRequest, SendMessageRequest, Session, Space, UnlockRequest,
    auth_service_client::AuthServiceClient, event_service_client::EventServiceClient,
    message_service_client::MessageServiceClient, network_service_client::NetworkServiceClient,
    space_service_client::SpaceServiceClient,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use uuid::Uuid;

use super::{
    feed::Feed,
    refusal::never_answered,
    server::Server,
    wait::{wait_until, when},
};

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

    /// Creates a space.
    pub(crate) async fn create_space(&self, name: &str) -> Space {
        let request =
            CreateSpaceRequest { name: name.into(), request_id: request_id(), ..Default::default() };
        self.spaces().create_space(request).await.expect("create a space").into_inner()
    }

    /// The space as this person sees it.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn space(&self, space_id: &str) -> Result<Space, Status> {
        let request = GetSpaceRequest { space_id: space_id.into() };
        Ok(self.spaces().get_space(request).await?.into_inner())
    }

    /// All spaces of this person, through all pages.
    pub(crate) async fn all_spaces(&self) -> Vec<Space> {
        let mut request = ListSpacesRequest { page_size: 2, ..Default::default() };
        let mut spaces = Vec::new();
        loop {
            let page = self.spaces().list_spaces(request.clone()).await.expect("spaces").into_inner();
            spaces.extend(page.spaces);
            if page.next_page_token.is_empty() {
                return spaces;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Creates a channel.
    pub(crate) async fn create_channel(&self, space_id: &str, name: &str) -> SpaceChannel {
        let request = CreateChannelRequest {
            space_id: space_id.into(),
            name: name.into(),
            request_id: request_id(),
            ..Default::default()
        };
        self.spaces().create_channel(request).await.expect("create a channel").into_inner()
    }

    /// The channels of a space.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn channels(&self, space_id: &str) -> Result<Vec<SpaceChannel>, Status> {
        let request =
            ListChannelsRequest { space_id: space_id.into(), page_size: PAGE, ..Default::default() };
        Ok(self.spaces().list_channels(request).await?.into_inner().channels)
    }

    /// The id of the channel `general`.
    pub(crate) async fn general(&self, space_id: &str) -> String {
        wait_until("a channel general", async || {
            let channels = self.channels(space_id).await.map_err(|status| status.to_string())?;
            let general = channels.iter().find(|channel| channel.name == "general");
            general.map(|channel| channel.channel_id.clone()).ok_or_else(|| format!("{channels:?}"))
        })
        .await
    }

    /// The members of a space.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn members(&self, space_id: &str) -> Result<Vec<Member>, Status> {
        let request = ListMembersRequest { space_id: space_id.into(), page_size: PAGE, ..Default::default() };
        Ok(self.spaces().list_members(request).await?.into_inner().members)
    }

    /// An invite that this many can use.
    pub(crate) async fn invite_for(&self, space_id: &str, max_uses: u32) -> Invite {
        let request = CreateInviteRequest {
            space_id: space_id.into(),
            max_uses,
            request_id: request_id(),
            ..Default::default()
        };
        self.spaces().create_invite(request).await.expect("invite").into_inner()
    }

    /// The link of an invite for one.
    pub(crate) async fn invite(&self, space_id: &str) -> String {
        self.invite_for(space_id, 1).await.link
    }

    /// Asks to join by link.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn try_join(&self, link: &str) -> Result<(JoinState, Option<Space>), Status> {
        let request = JoinSpaceRequest { invite_link: link.into(), request_id: request_id() };
        let answer = self.spaces().join_space(request).await?.into_inner();
        Ok((answer.state(), answer.space))
    }

    /// Joins by link, at once.
    pub(crate) async fn join(&self, link: &str) -> Space {
        let (state, space) = self.try_join(link).await.expect("join");
        assert_eq!(state, JoinState::Joined, "{} joins at once", self.name());
        space.expect("a join at once answers the space")
    }

    /// Removes a member.
    pub(crate) async fn remove(&self, space_id: &str, account_id: &str) {
        let request = RemoveMemberRequest {
            space_id: space_id.into(),
            account_id: account_id.into(),
            request_id: request_id(),
        };
        self.spaces().remove_member(request).await.expect("remove a member");
    }

    /// Leaves a space.
    pub(crate) async fn leave(&self, space_id: &str) {
        let request = LeaveSpaceRequest { space_id: space_id.into(), request_id: request_id() };
        self.spaces().leave_space(request).await.expect("leave");
    }

    /// Sends a text.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn try_send(&self, channel_id: &str, text: &str) -> Result<Message, Status> {
        self.send_as(channel_id, text, &request_id()).await
    }

    /// Sends a text under a request id of the caller's.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn send_as(
        &self,
        channel_id: &str,
        text: &str,
        request_id: &str,
    ) -> Result<Message, Status> {
        let request = SendMessageRequest {
            channel_id: channel_id.into(),
            text: text.into(),
            request_id: request_id.into(),
            ..Default::default()
        };
        Ok(self.messages().send_message(request).await?.into_inner())
    }

    /// Sends a text.
    pub(crate) async fn send(&self, channel_id: &str, text: &str) -> Message {
        self.try_send(channel_id, text).await.expect("send")
    }

    /// Sends a text, asking again under the same request id while the server does not answer.
    pub(crate) async fn send_whatever_happens(&self, channel_id: &str, text: &str) -> Message {
        let request_id = request_id();
        let what = format!("{} to get {text:?} accepted", self.name());
        wait_until(&what, async || match self.send_as(channel_id, text, &request_id).await {
            Ok(message) => Ok(message),
            Err(status) if never_answered(&status) => Err(status.to_string()),
            Err(status) => panic!("{} may not send: {status:?}", self.name()),
        })
        .await
    }

    /// One message.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn message(&self, message_id: &str) -> Result<Message, Status> {
        let request = GetMessageRequest { message_id: message_id.into() };
        Ok(self.messages().get_message(request).await?.into_inner())
    }

    /// The whole history of a channel, oldest first, read backwards from the latest page.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn history(&self, channel_id: &str) -> Result<Vec<Message>, Status> {
        let mut request =
            ListMessagesRequest { channel_id: channel_id.into(), page_size: PAGE, ..Default::default() };
        let mut pages = Vec::new();
        loop {
            let page = self.messages().list_messages(request.clone()).await?.into_inner();
            if let Some(oldest) = page.messages.first() {
                request.before_message_id = oldest.message_id.clone();
            }
            pages.push(page.messages);
            if !page.has_more {
                return Ok(pages.into_iter().rev().flatten().collect());
            }
        }
    }

    /// The texts of a channel, oldest first.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn texts(&self, channel_id: &str) -> Result<Vec<String>, Status> {
        Ok(self.history(channel_id).await?.into_iter().map(|message| message.text).collect())
    }

    /// For conditions: this many messages are in the channel.
    pub(crate) async fn has(&self, channel_id: &str, count: usize) -> Result<Vec<Message>, String> {
        let history = self.history(channel_id).await.map_err(|status| status.to_string())?;
        when(history.len() == count, format!("{} has {} of {count}", self.name(), history.len()))?;
        Ok(history)
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
