//! The Prometheus endpoint: the core's metrics and those of gRPC calls.
//!
//! Labels are method names and codes; never who called or about what.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{Router, http::header, routing::get};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use spacepanda_core::metrics::Metrics;
use spacepanda_proto::api::v1::FILE_DESCRIPTOR_SET;
use tonic::Code;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The last line of an exposition.
const EOF: &str = "# EOF\n";

/// The label of calls to methods that are not of the client API.
const OTHER: &str = "other";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: String,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    method: String,
}

/// Metrics of gRPC calls; cheap to clone.
#[derive(Clone)]
pub struct CallMetrics {
    registry: Arc<Registry>,
    calls: Family<CallLabels, Counter>,
    latency: Family<MethodLabels, Histogram, fn() -> Histogram>,
    /// By path, so that a caller cannot make up labels.
    methods: Arc<HashMap<String, String>>,
}

impl Default for CallMetrics {
    fn default() -> Self {
        let calls = Family::<CallLabels, Counter>::default();
        let latency = Family::new_with_constructor(latency_histogram as fn() -> Histogram);
        let mut registry = Registry::with_prefix("spacepanda");
        registry.register("grpc_calls", "Calls answered, by method and code", calls.clone());
        registry.register_with_unit(
            "grpc_call_duration",
            "Time from request to answer; for streams, until they are open",
            Unit::Seconds,
            latency.clone(),
        );
        Self { registry: Arc::new(registry), calls, latency, methods: Arc::new(methods()) }
    }
}

impl CallMetrics {
    /// Counts a call. An unknown path counts as `other`.
    pub(crate) fn answered(&self, path: &str, code: Code, took: Duration) {
        let method = self.methods.get(path).map_or(OTHER, String::as_str);
        let labels = CallLabels { method: method.to_owned(), code: format!("{code:?}") };
        self.calls.get_or_create(&labels).inc();
        self.latency.get_or_create(&MethodLabels { method: labels.method }).observe(took.as_secs_f64());
    }

    fn encode(&self, core: &Metrics) -> String {
        let core = core.encode();
        let mut all = core.strip_suffix(EOF).unwrap_or(&core).to_owned();
        // Writing into a String cannot fail.
        let _ = text::encode(&mut all, &self.registry);
        all
    }
}

/// The endpoint `GET /metrics`.
pub(crate) fn router(core: Metrics, calls: CallMetrics) -> Router {
    let page = move || async move { ([(header::CONTENT_TYPE, CONTENT_TYPE)], calls.encode(&core)) };
    Router::new().route("/metrics", get(page))
}

/// From half a millisecond to eight seconds.
fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 2.0, 15))
}

/// Paths of the client API and what their methods are called in metrics.
fn methods() -> HashMap<String, String> {
    // Made by our own build; undecodable it would only cost the labels.
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
    let services = set.file.iter().flat_map(|file| file.service.iter().map(move |s| (file.package(), s)));
    services
        .flat_map(|(package, service)| {
            service.method.iter().map(move |method| {
                let path = format!("/{package}.{}/{}", service.name(), method.name());
                (path, format!("{}/{}", service.name(), method.name()))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The methods that clients outside the project call by name.
    const METHODS: [&str; 25] = [
        "AuthService/CreateProfile",
        "AuthService/Lock",
        "AuthService/Unlock",
        "EventService/Subscribe",
        "MessageService/GetMessage",
        "MessageService/ListMessages",
        "MessageService/SendMessage",
        "NetworkService/ConnectPeer",
        "NetworkService/DisconnectPeer",
        "NetworkService/GetNetworkStatus",
        "NetworkService/ListPeers",
        "SpaceService/CreateChannel",
        "SpaceService/CreateInvite",
        "SpaceService/CreateSpace",
        "SpaceService/GetSpace",
        "SpaceService/GetStateGraph",
        "SpaceService/JoinSpace",
        "SpaceService/LeaveSpace",
        "SpaceService/ListChannels",
        "SpaceService/ListMembers",
        "SpaceService/ListSpaces",
        "SpaceService/RemoveMember",
        "SpaceService/RevokeInvite",
        "SpaceService/SetMemberRole",
        "SpaceService/UpdateSpace",
    ];

    #[test]
    fn every_method_of_the_contract_is_there() {
        let known: BTreeSet<_> = methods().into_values().collect();
        for method in METHODS {
            assert!(known.contains(method), "{method}");
        }
        assert!(methods().contains_key("/spacepanda.api.v1.AuthService/Unlock"));
    }

    #[test]
    fn calls_are_counted_and_callers_cannot_make_up_labels() {
        let calls = CallMetrics::default();
        let took = Duration::from_millis(1);
        calls.answered("/spacepanda.api.v1.AuthService/Unlock", Code::Unauthenticated, took);
        calls.answered("/made/up", Code::Unimplemented, took);
        let page = calls.encode(&Metrics::default());
        assert!(
            page.contains(
                r#"spacepanda_grpc_calls_total{method="AuthService/Unlock",code="Unauthenticated"} 1"#
            ),
            "{page}"
        );
        assert!(page.contains(r#"spacepanda_grpc_call_duration_seconds_count{method="other"} 1"#), "{page}");
        assert!(!page.contains("made/up"));
        assert_eq!(page.matches(EOF).count(), 1);
        assert!(page.ends_with(EOF));
    }
}
