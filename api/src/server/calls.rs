//! A layer around all calls: counts them, and gives the framework's own refusals a reason.
//!
//! What it refuses before a handler runs (requests too large, not decodable, of unknown methods)
//! would otherwise have codes and texts of its own, without details.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use axum::http::{HeaderMap, Request, Response};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use crate::{metrics::CallMetrics, status::Refusal};

/// The header that lists what a server decompresses.
const ACCEPTED: &str = "grpc-accept-encoding";

/// Makes [`Calls`].
#[derive(Clone)]
pub(super) struct CallsLayer {
    metrics: CallMetrics,
}

impl CallsLayer {
    pub(super) fn new(metrics: CallMetrics) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for CallsLayer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        Calls { inner, metrics: self.metrics.clone() }
    }
}

/// Counts the calls of the service inside.
#[derive(Clone)]
pub(super) struct Calls<S> {
    inner: S,
    metrics: CallMetrics,
}

impl<S> Service<Request<Body>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let started = Instant::now();
        let uri = request.uri().clone();
        let metrics = self.metrics.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = with_reason(answer.await?);
            metrics.answered(uri.path(), code(response.headers()), started.elapsed());
            Ok(response)
        })
    }
}

/// The code of an answer; those that did not fail at once have none in their headers.
fn code(headers: &HeaderMap) -> Code {
    headers.get(Status::GRPC_STATUS).map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()))
}

fn with_reason(mut response: Response<Body>) -> Response<Body> {
    let Some(refusal) = framework_refusal(response.headers()) else { return response };
    let mut told: Response<Body> = Status::from(refusal).into_http();
    // What the client may use instead.
    if let Some(accepted) = response.headers_mut().remove(ACCEPTED) {
        told.headers_mut().insert(ACCEPTED, accepted);
    }
    told
}

/// Our own refusals always have details, the framework's never.
fn framework_refusal(headers: &HeaderMap) -> Option<Refusal> {
    if headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return None;
    }
    let status = Status::from_header_map(headers)?;
    match status.code() {
        Code::OutOfRange => Some(Refusal::too_large()),
        Code::Unimplemented if status.message().is_empty() => Some(Refusal::unknown_method()),
        // Nothing else is refused with it and a text.
        Code::Unimplemented => Some(Refusal::compressed()),
        // Before a handler runs it means a request cut short, wrongly framed or not decodable.
        Code::Internal => Some(Refusal::malformed()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    fn reason(status: Status) -> Option<String> {
        let response = with_reason(status.into_http());
        let status = Status::from_header_map(response.headers()).unwrap();
        status.get_error_details().error_info().map(|info| info.reason.clone())
    }

    #[test]
    fn the_framework_s_refusals_get_a_reason() {
        let large = Status::out_of_range("Error, decoded message length too large");
        assert_eq!(reason(large).as_deref(), Some("REQUEST_TOO_LARGE"));
        assert_eq!(reason(Status::unimplemented("")).as_deref(), Some("METHOD_UNKNOWN"));
        let compressed = Status::unimplemented("Content is compressed with `gzip` which isn't supported");
        assert_eq!(reason(compressed).as_deref(), Some("COMPRESSION_UNSUPPORTED"));
        let garbage = Status::internal("failed to decode Protobuf message: invalid tag");
        assert_eq!(reason(garbage).as_deref(), Some("REQUEST_MALFORMED"));
    }

    #[test]
    fn our_own_stay_as_they_are() {
        let ours = Refusal::from(spacepanda_core::store::StoreError::Database);
        assert_eq!(reason(ours.into()).as_deref(), Some("INTERNAL"));
        assert_eq!(reason(Refusal::private_channels().into()).as_deref(), Some("PRIVATE_CHANNELS"));
        assert_eq!(code(Status::not_found("x").into_http::<Body>().headers()), Code::NotFound);
        assert_eq!(code(&HeaderMap::new()), Code::Ok);
    }
}
