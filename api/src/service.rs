//! The gRPC services: authenticate, read the request, one call on the core, write the answer.
//!
//! No decisions here: what is allowed and what happens is the core's, how it looks is `wire`'s.

mod auth;
mod event;
mod message;
mod network;
mod space;
mod stream;

use std::sync::Arc;

use spacepanda_core::{home::Home, metrics::Metrics, session::Session};
use spacepanda_proto::api::v1::{
    auth_service_server::AuthServiceServer, event_service_server::EventServiceServer,
    message_service_server::MessageServiceServer, network_service_server::NetworkServiceServer,
    space_service_server::SpaceServiceServer,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, metadata::MetadataMap, server::NamedService as _, service::Routes};

use crate::status::Refusal;
use stream::Streams;

/// The largest request, in bytes.
const MAX_REQUEST: usize = 4 * 1024 * 1024;

/// The longest thing that could be a token, in bytes; real ones have 43.
const MAX_TOKEN: usize = 128;

/// The services' full names, as health and reflection have them.
pub(crate) const NAMES: [&str; 5] = [
    AuthServiceServer::<Api>::NAME,
    SpaceServiceServer::<Api>::NAME,
    MessageServiceServer::<Api>::NAME,
    EventServiceServer::<Api>::NAME,
    NetworkServiceServer::<Api>::NAME,
];

type Answer<T> = Result<Response<T>, Status>;

/// What every service works with; cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    home: Arc<Home>,
    streams: Streams,
    stopping: CancellationToken,
    tasks: TaskTracker,
    registration_open: bool,
}

impl Api {
    /// The services over a home. Streams run on `tasks` and end when `stopping` does.
    pub(crate) fn new(
        home: Arc<Home>,
        metrics: Metrics,
        stopping: CancellationToken,
        tasks: TaskTracker,
        registration_open: bool,
    ) -> Self {
        Self { home, streams: Streams::new(metrics), stopping, tasks, registration_open }
    }

    /// All services of the client API.
    pub(crate) fn routes(self) -> Routes {
        Routes::new(AuthServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(SpaceServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(MessageServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(EventServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(NetworkServiceServer::new(self).max_decoding_message_size(MAX_REQUEST))
    }

    /// Refuses new calls once the server is stopping.
    fn admit(&self) -> Result<(), Refusal> {
        if self.stopping.is_cancelled() { Err(Refusal::stopping()) } else { Ok(()) }
    }

    /// The session of the caller's token.
    async fn session<T>(&self, request: &Request<T>) -> Result<Arc<Session>, Refusal> {
        self.admit()?;
        Ok(self.home.authenticate(bearer(request.metadata())?).await?)
    }
}

/// The token of `authorization: Bearer <token>`.
fn bearer(metadata: &MetadataMap) -> Result<&str, Refusal> {
    let value = metadata.get("authorization").ok_or_else(Refusal::token_missing)?;
    let text = value.to_str().map_err(|_| Refusal::token_invalid())?;
    let token = match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => return Err(Refusal::token_missing()),
    };
    if (1..=MAX_TOKEN).contains(&token.len()) { Ok(token) } else { Err(Refusal::token_invalid()) }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    fn read(value: Option<&str>) -> Result<String, String> {
        let mut metadata = MetadataMap::new();
        if let Some(value) = value {
            metadata.insert("authorization", value.parse().unwrap());
        }
        bearer(&metadata).map(str::to_owned).map_err(|refusal| {
            let status = Status::from(refusal);
            assert_eq!(status.code(), tonic::Code::Unauthenticated);
            status.get_error_details().error_info().unwrap().reason.clone()
        })
    }

    #[test]
    fn tokens_are_read_from_the_bearer_scheme() {
        assert_eq!(read(Some("Bearer abc")), Ok("abc".into()));
        assert_eq!(read(Some("bearer  abc ")), Ok("abc".into()));
    }

    #[test]
    fn a_missing_token_differs_from_a_wrong_one() {
        for missing in [None, Some("abc"), Some("Basic abc"), Some("")] {
            assert_eq!(read(missing), Err("TOKEN_MISSING".into()), "{missing:?}");
        }
        for wrong in ["Bearer ", &format!("Bearer {}", "a".repeat(129))] {
            assert_eq!(read(Some(wrong)), Err("TOKEN_INVALID".into()), "{wrong}");
        }
    }
}
