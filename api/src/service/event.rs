//! EventService: opens a stream of the account's feed; `stream` feeds it.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _};
use spacepanda_core::{home::Home, model::FeedPage, session::Session};
use spacepanda_proto::api::v1::{self as wire, event_service_server::EventService};
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};
use zeroize::Zeroizing;

use super::{
    Answer, Api, bearer,
    stream::{Feeder, Pace, Source},
};
use crate::status::Refusal;

/// A login's view of its account's feed.
struct Subscription {
    home: Arc<Home>,
    session: Arc<Session>,
    token: Zeroizing<String>,
}

impl Source for Subscription {
    fn newest(&self) -> watch::Receiver<u64> {
        self.session.feed_seq()
    }

    fn stopped(&self) -> CancellationToken {
        self.session.stopped()
    }

    async fn page(&self, after: u64, limit: u32) -> Result<FeedPage, Refusal> {
        Ok(self.session.feed(after, limit).await?)
    }

    async fn check_token(&self) -> Result<(), Refusal> {
        self.home.authenticate(&self.token).await?;
        Ok(())
    }
}

#[async_trait]
impl EventService for Api {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<wire::Event, Status>> + Send>>;

    async fn subscribe(&self, request: Request<wire::SubscribeRequest>) -> Answer<Self::SubscribeStream> {
        let session = self.session(&request).await?;
        let token = Zeroizing::new(bearer(request.metadata())?.to_owned());
        let slot = self.streams.open(&token)?;
        let source = Subscription { home: Arc::clone(&self.home), session, token };
        let (feeder, events) = Feeder::new(
            source,
            request.get_ref().after_seq,
            self.streams.token_checks(),
            self.stopping.clone(),
            Pace::default(),
        );
        self.tasks.spawn(feeder.run());
        // The slot is held for as long as the client holds the stream.
        let events = ReceiverStream::new(events).map(move |event| {
            let _held = &slot;
            event
        });
        Ok(Response::new(Box::pin(events)))
    }
}
