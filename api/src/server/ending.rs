//! Ends the streams of others' services when the server stops.
//!
//! Health's Watch and reflection have no end of their own: a client that keeps one open would hold up the
//! stop for as long as it may take.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Bytes,
    http::{HeaderMap, Request, Response},
};
use http_body::Frame;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body};
use tower::{
    Layer, Service,
    util::{MapRequest, MapResponse},
};

use crate::status::Refusal;

/// Puts an end to what the services inside hear and say, once `stopping` is cancelled.
pub(super) fn layer<S>(
    stopping: CancellationToken,
) -> impl Layer<
    S,
    Service: Service<Request<Body>, Response = Response<Body>, Error = S::Error, Future: Send>
                 + Clone
                 + Send
                 + Sync,
>
where
    S: Service<Request<Body>, Response = Response<Body>, Future: Send> + Clone + Send + Sync,
{
    tower::layer::layer_fn(move |service: S| {
        let (heard, said) = (stopping.clone(), stopping.clone());
        let service = MapRequest::new(service, move |request: Request<Body>| {
            request.map(|body| Body::new(Ending::new(body, &heard, Last::Silence)))
        });
        MapResponse::new(service, move |answer: Response<Body>| {
            answer.map(|body| Body::new(Ending::new(body, &said, Last::Refusal)))
        })
    })
}

/// What a body that is cut short ends with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Nothing, as if all had been said.
    Silence,
    /// That the server stops, in the trailers.
    Refusal,
}

/// A body that goes on until the server stops.
struct Ending {
    body: Body,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    last: Last,
    ended: bool,
}

impl Ending {
    fn new(body: Body, stopping: &CancellationToken, last: Last) -> Self {
        Self { body, stopping: Box::pin(stopping.clone().cancelled_owned()), last, ended: false }
    }
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // Before the body: a service that hears no more may end its answer as if all had been said.
        if self.stopping.as_mut().poll(context).is_pending() {
            return Pin::new(&mut self.body).poll_frame(context);
        }
        self.ended = true;
        if self.last == Last::Silence {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::new();
        Status::from(Refusal::stopping()).add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}
