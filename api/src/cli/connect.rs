//! The connection to the home server: address, certificate, token, deadline, retry.
//!
//! It decides nothing about what is called.

use std::{
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable as _};
use spacepanda_proto::api::v1::{
    auth_service_client::AuthServiceClient, event_service_client::EventServiceClient,
    message_service_client::MessageServiceClient, network_service_client::NetworkServiceClient,
    space_service_client::SpaceServiceClient,
};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::{
    credentials::{Credentials, CredentialsError, Login, Token},
    failure::{Failure, is_broken_link},
    options::ClientOptions,
};

/// The server when nothing else is said.
pub(super) const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";
/// How long an ordinary call may take.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// For calls that derive keys from a password or dial a peer.
pub(super) const SLOW_CALL_DEADLINE: Duration = Duration::from_secs(30);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Two pings missed in this time end a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// A page of 200 messages of 32 KiB, with room for the rest of their fields.
const RESPONSE_LIMIT: usize = 8 * 1024 * 1024;
const TRIES: usize = 3;
/// Where systems keep the certificates they trust, in the order tried.
const SYSTEM_CERTIFICATES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A channel that adds the token to each call.
pub(super) type Link = InterceptedService<Channel, Bearer>;

/// Adds the session token to each call.
#[derive(Debug, Clone)]
pub(super) struct Bearer {
    header: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.header {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

/// A connection to one server, with or without a login.
#[derive(Debug, Clone)]
pub(super) struct Client {
    channel: Channel,
    bearer: Bearer,
    server: String,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When the address is malformed, no server answers, or the token is damaged.
    pub(super) async fn open(
        server: &str,
        ca: Option<&Path>,
        token: Option<&Token>,
    ) -> Result<Self, Failure> {
        let endpoint = endpoint(server, ca)?;
        let channel =
            endpoint.connect().await.map_err(|error| Failure::unreachable(server, root_cause(&error)))?;
        Ok(Self { channel, bearer: bearer(token)?, server: server.to_owned() })
    }

    /// The same connection with a login.
    ///
    /// # Errors
    /// When the token is damaged.
    pub(super) fn with_token(&self, token: &Token) -> Result<Self, Failure> {
        let (channel, server) = (self.channel.clone(), self.server.clone());
        Ok(Self { channel, bearer: bearer(Some(token))?, server })
    }

    fn link(&self) -> Link {
        InterceptedService::new(self.channel.clone(), self.bearer.clone())
    }

    /// The server's URL.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Accounts and logins.
    pub(super) fn auth(&self) -> AuthServiceClient<Link> {
        AuthServiceClient::new(self.link())
    }

    /// Spaces, channels, members, invites.
    pub(super) fn spaces(&self) -> SpaceServiceClient<Link> {
        SpaceServiceClient::new(self.link())
    }

    /// Messages.
    pub(super) fn messages(&self) -> MessageServiceClient<Link> {
        MessageServiceClient::new(self.link()).max_decoding_message_size(RESPONSE_LIMIT)
    }

    /// The event feed.
    pub(super) fn events(&self) -> EventServiceClient<Link> {
        EventServiceClient::new(self.link())
    }

    /// Peers and the router.
    pub(super) fn network(&self) -> NetworkServiceClient<Link> {
        NetworkServiceClient::new(self.link())
    }

    /// Makes a call that may be repeated: again when the connection broke, at most three times.
    ///
    /// # Errors
    /// What the server answered, or that it did not.
    pub(super) async fn call<T, F, Fut>(&self, deadline: Duration, call: F) -> Result<T, Failure>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_jitter()
            .with_max_times(TRIES - 1);
        let tries = call.retry(backoff).sleep(tokio::time::sleep).when(is_broken_link);
        self.within(deadline, tries.into_future()).await
    }

    /// Makes a call that must not be repeated.
    ///
    /// # Errors
    /// What the server answered, or that it did not.
    pub(super) async fn call_once<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        self.within(deadline, call).await
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(deadline, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Failure::from_status(&status, &self.server)),
            Err(_) => Err(Failure::deadline(&self.server, deadline.as_secs())),
        }
    }
}

/// The user's place to call from: options, stored logins, and the login in use.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The stored logins.
    pub credentials: Credentials,
    /// The profile in use.
    pub profile: String,
    /// The login of this profile, if there is one.
    pub login: Option<Login>,
    /// The server to call.
    pub server: String,
    /// The private certificate authority to trust.
    pub ca: Option<PathBuf>,
}

impl Caller {
    /// From the options and the stored logins.
    ///
    /// # Errors
    /// When the stored logins cannot be read.
    pub(super) fn new(options: &ClientOptions) -> Result<Self, Failure> {
        let credentials = Credentials::locate(options.config_dir.as_deref())?;
        let login = credentials.load(&options.profile)?;
        let stored = login.as_ref();
        let server = options.server.clone().or_else(|| stored.map(|login| login.server.clone()));
        Ok(Self {
            server: normalised(server.as_deref().unwrap_or(DEFAULT_SERVER)),
            ca: options.ca.clone().or_else(|| stored.and_then(|login| login.ca.clone())),
            profile: options.profile.clone(),
            credentials,
            login,
        })
    }

    /// Connects without a login.
    ///
    /// # Errors
    /// When no server answers.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        Client::open(&self.server, self.ca.as_deref(), None).await
    }

    /// Connects with the stored login.
    ///
    /// # Errors
    /// When there is none, or no server answers.
    pub(super) async fn connect_logged_in(&self) -> Result<Client, Failure> {
        let login = self.logged_in()?;
        Client::open(&self.server, self.ca.as_deref(), Some(&login.session_token)).await
    }

    /// The stored login, if it belongs to the server in use.
    ///
    /// # Errors
    /// When there is none; a token is never sent to another server than its own.
    pub(super) fn logged_in(&self) -> Result<&Login, Failure> {
        let login = self.login.as_ref().ok_or_else(|| {
            Failure::not_logged_in("not logged in; use `spacepanda login NAME` or `spacepanda signup NAME`")
        })?;
        if normalised(&login.server) != self.server {
            let message = format!(
                "the stored login is for {}, not {}; log in there, with --profile to keep both",
                login.server, self.server
            );
            return Err(Failure::not_logged_in(message));
        }
        Ok(login)
    }
}

impl From<CredentialsError> for Failure {
    fn from(error: CredentialsError) -> Self {
        Failure::local_fault("CREDENTIALS_UNUSABLE", error.to_string())
    }
}

fn bearer(token: Option<&Token>) -> Result<Bearer, Failure> {
    let Some(token) = token else { return Ok(Bearer { header: None }) };
    let mut header: MetadataValue<Ascii> = format!("Bearer {}", token.expose())
        .parse()
        .map_err(|_| Failure::not_logged_in("the stored login is damaged; log in again"))?;
    header.set_sensitive(true);
    Ok(Bearer { header: Some(header) })
}

/// With a scheme and without a trailing slash.
fn normalised(server: &str) -> String {
    let server = server.trim().trim_end_matches('/');
    if server.contains("://") { server.to_owned() } else { format!("http://{server}") }
}

fn endpoint(server: &str, ca: Option<&Path>) -> Result<Endpoint, Failure> {
    let malformed = || Failure::usage(format!("{server} is not a server address like {DEFAULT_SERVER}"));
    let endpoint = Endpoint::from_shared(server.to_owned()).map_err(|_| malformed())?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_DEADLINE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    if endpoint.uri().host().is_none() {
        return Err(malformed());
    }
    match endpoint.uri().scheme_str() {
        Some("http") => Ok(endpoint),
        Some("https") => {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority(ca)?));
            endpoint.tls_config(tls).map_err(|error| Failure::usage(root_cause(&error)))
        }
        _ => Err(malformed()),
    }
}

fn authority(ca: Option<&Path>) -> Result<Vec<u8>, Failure> {
    if let Some(path) = ca {
        return std::fs::read(path)
            .map_err(|error| Failure::usage(format!("--ca {}: {error}", path.display())));
    }
    SYSTEM_CERTIFICATES.iter().find_map(|path| std::fs::read(path).ok()).ok_or_else(|| {
        Failure::usage("this system keeps no certificates where they are expected; name one with --ca FILE")
    })
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::FailureKind;

    fn options(server: Option<&str>, directory: &Path) -> ClientOptions {
        ClientOptions {
            server: server.map(str::to_owned),
            config_dir: Some(directory.to_owned()),
            profile: "default".into(),
            ..Default::default()
        }
    }

    fn login(server: &str) -> Login {
        Login {
            server: server.into(),
            ca: None,
            username: "alice".into(),
            display_name: "Alice".into(),
            account_id: "ab".repeat(32),
            session_token: Token::from("00ff".to_owned()),
        }
    }

    #[test]
    fn the_server_is_the_option_then_the_login_then_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let caller = |server| Caller::new(&options(server, directory.path())).unwrap();
        assert_eq!(caller(None).server, DEFAULT_SERVER);
        let stored = caller(None).credentials;
        stored.store("default", login("http://home:1")).unwrap();
        assert_eq!(caller(None).server, "http://home:1");
        assert_eq!(caller(Some("other:2/")).server, "http://other:2");
    }

    #[test]
    fn a_token_is_not_sent_to_another_server() {
        let directory = tempfile::tempdir().unwrap();
        let caller = |server| Caller::new(&options(server, directory.path())).unwrap();
        assert_eq!(caller(None).logged_in().unwrap_err().kind, FailureKind::NotLoggedIn);
        caller(None).credentials.store("default", login("http://home:1")).unwrap();
        assert!(caller(None).logged_in().is_ok());
        assert!(caller(Some("http://home:1/")).logged_in().is_ok());
        assert_eq!(caller(Some("http://evil:1")).logged_in().unwrap_err().kind, FailureKind::NotLoggedIn);
    }

    #[test]
    fn the_token_is_hidden_in_debug_output() {
        let bearer = bearer(Some(&Token::from("c0ffee".to_owned()))).unwrap();
        assert!(!format!("{bearer:?}").contains("c0ffee"));
    }

    #[test]
    fn malformed_addresses_are_usage_errors() {
        for server in ["ftp://x", "http://", "http://a b"] {
            assert_eq!(endpoint(server, None).unwrap_err().kind, FailureKind::Usage, "{server}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let failure = Client::open(&server, None, None).await.unwrap_err();
        assert_eq!(failure.kind.exit_code(), 5);
    }
}
