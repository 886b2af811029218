//! Counters and gauges of the server, for the Prometheus endpoint.
//!
//! One field a family. Labels come from the closed sets below: never an id, a name or an address.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry},
};

/// Which side of a peer request this server was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestDirection {
    /// Asked by a peer.
    Inbound,
    /// Asked by this server.
    Outbound,
}

/// How a peer request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestOutcome {
    /// Answered.
    Answered,
    /// Not taken: a queue was full.
    Refused,
    /// No answer in time.
    Timeout,
    /// The stream, the connection or the protocol broke.
    Failed,
}

/// What became of a frame from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameResult {
    /// Durable here.
    Stored,
    /// Known already.
    Duplicate,
    /// Of no group of ours.
    Foreign,
    /// Of a state whose secrets were deleted, or under a key that was.
    Stale,
    /// Of a state that is not known here yet: set aside.
    Future,
    /// Broken, forged or not allowed.
    Rejected,
    /// The limit of set-aside frames was reached.
    Busy,
}

/// Why input of a peer was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// Does not decode.
    Malformed,
    /// Over a size limit.
    Oversized,
    /// A certificate that is broken or someone else's.
    Certificate,
    /// A signature that does not verify.
    Signature,
    /// A commit that its author may not make.
    UnauthorisedCommit,
    /// A ratchet generation used twice.
    KeyReuse,
    /// The author named is not the MLS sender.
    WrongSender,
    /// Two events of one author in one place of its log.
    Equivocation,
    /// Too much at once.
    Flood,
}

macro_rules! label_text {
    ($($label:ident { $($variant:ident => $text:literal,)* })*) => {$(
        impl EncodeLabelValue for $label {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
                encoder.write_str(match self { $(Self::$variant => $text,)* })
            }
        }

        impl $label {
            const ALL: &[Self] = &[$(Self::$variant,)*];
        }
    )*};
}

label_text! {
    RequestDirection {
        Inbound => "inbound",
        Outbound => "outbound",
    }
    RequestOutcome {
        Answered => "answered",
        Refused => "refused",
        Timeout => "timeout",
        Failed => "failed",
    }
    FrameResult {
        Stored => "stored",
        Duplicate => "duplicate",
        Foreign => "foreign",
        Stale => "stale",
        Future => "future",
        Rejected => "rejected",
        Busy => "busy",
    }
    Rejection {
        Malformed => "malformed",
        Oversized => "oversized",
        Certificate => "certificate",
        Signature => "signature",
        UnauthorisedCommit => "unauthorised_commit",
        KeyReuse => "key_reuse",
        WrongSender => "wrong_sender",
        Equivocation => "equivocation",
        Flood => "flood",
    }
}

/// Labels of `spacepanda_peer_requests_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// Who asked.
    pub direction: RequestDirection,
    /// How it ended.
    pub outcome: RequestOutcome,
}

/// Labels of `spacepanda_frames_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FrameLabels {
    /// What became of it.
    pub outcome: FrameResult,
}

/// Labels of `spacepanda_peer_input_rejected_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RejectionLabels {
    /// Why.
    pub reason: Rejection,
}

/// All metrics of a server; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    /// Peers with a connection up, over all sessions.
    pub connections: Gauge,
    /// Requests between peers.
    pub requests: Family<RequestLabels, Counter>,
    /// Dials that ended without a connection.
    pub dial_failures: Counter,
    /// Peers refused for a while.
    pub peers_blocked: Counter,
    /// Frames from peers.
    pub frames: Family<FrameLabels, Counter>,
    /// Frames that were asked for and came.
    pub frames_fetched: Counter,
    /// Their bytes.
    pub fetched_bytes: Counter,
    /// Bytes of requests and answers read from peers.
    pub peer_bytes_read: Counter,
    /// Events sent again to members who lacked them.
    pub events_carried: Counter,
    /// Refused input of peers.
    pub rejected: Family<RejectionLabels, Counter>,
    /// Messages of this server's users made durable.
    pub messages_accepted: Counter,
    /// Events of others taken into their logs: messages, and what keeps a group going.
    pub events_processed: Counter,
    /// Heads that went to another branch.
    pub head_switches: Counter,
    /// Durable write transactions.
    pub write_transactions: Counter,
    /// Writes grouped into one transaction.
    pub write_batch_size: Histogram,
    /// Unlocked accounts.
    pub open_sessions: Gauge,
    /// Refused logins.
    pub login_failures: Counter,
    /// Open event streams.
    pub streams: Gauge,
    registry: Arc<Registry>,
}

impl Metrics {
    /// All families, at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("spacepanda");
        let mut families = Families(&mut registry);
        let mut metrics = Self {
            connections: families.add("peer_connections", "Peers with a connection up"),
            requests: families.add("peer_requests", "Requests between peers"),
            dial_failures: families.add("dial_failures", "Dials that ended without a connection"),
            peers_blocked: families.add("peers_blocked", "Peers refused for a while"),
            frames: families.add("frames", "Frames from peers"),
            frames_fetched: families.add("frames_fetched", "Missing frames fetched from peers"),
            fetched_bytes: families.add("fetched_bytes", "Bytes of missing frames fetched from peers"),
            peer_bytes_read: families.add("peer_bytes_read", "Bytes of requests and answers read from peers"),
            events_carried: families.add("events_carried", "Events sent again to members who lacked them"),
            rejected: families.add("peer_input_rejected", "Refused input of peers"),
            messages_accepted: families.add("messages_accepted", "Own messages made durable"),
            events_processed: families.add("events_processed", "Events of others taken into their logs"),
            head_switches: families.add("head_switches", "Groups that went to another branch"),
            write_transactions: families.add("write_transactions", "Durable write transactions"),
            write_batch_size: families.register(
                "write_batch_size",
                "Writes grouped into one transaction",
                Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            ),
            open_sessions: families.add("open_sessions", "Unlocked accounts"),
            login_failures: families.add("login_failures", "Refused logins"),
            streams: families.add("event_streams", "Open event streams"),
            registry: Arc::default(),
        };
        metrics.registry = Arc::new(registry);
        metrics.show_all_labels();
        metrics
    }

    /// What has not happened yet stands at zero: an alert on a line that is missing never fires.
    fn show_all_labels(&self) {
        for reason in Rejection::ALL {
            self.rejected.get_or_create(&RejectionLabels { reason: *reason }).inc_by(0);
        }
        for outcome in FrameResult::ALL {
            self.frames.get_or_create(&FrameLabels { outcome: *outcome }).inc_by(0);
        }
        for direction in RequestDirection::ALL {
            for outcome in RequestOutcome::ALL {
                let labels = RequestLabels { direction: *direction, outcome: *outcome };
                self.requests.get_or_create(&labels).inc_by(0);
            }
        }
    }

    /// Counts a request between peers.
    pub fn request(&self, direction: RequestDirection, outcome: RequestOutcome) {
        self.requests.get_or_create(&RequestLabels { direction, outcome }).inc();
    }

    /// Counts a frame from a peer.
    pub fn frame(&self, outcome: FrameResult) {
        self.frames.get_or_create(&FrameLabels { outcome }).inc();
    }

    /// Counts refused input of a peer.
    pub fn reject(&self, reason: Rejection) {
        self.rejected.get_or_create(&RejectionLabels { reason }).inc();
    }

    /// The Prometheus text exposition of everything.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

struct Families<'a>(&'a mut Registry);

impl Families<'_> {
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.register(name, help, M::default())
    }

    fn register<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_shown_as_zero() {
        let text = Metrics::new().encode();
        for line in [
            "spacepanda_peer_input_rejected_total{reason=\"key_reuse\"} 0",
            "spacepanda_frames_total{outcome=\"busy\"} 0",
            "spacepanda_peer_requests_total{direction=\"outbound\",outcome=\"timeout\"} 0",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
    }

    #[test]
    fn clones_count_into_one_exposition() {
        let metrics = Metrics::default();
        metrics.clone().frame(FrameResult::Stored);
        metrics.frame(FrameResult::Stored);
        metrics.reject(Rejection::UnauthorisedCommit);
        metrics.request(RequestDirection::Inbound, RequestOutcome::Refused);
        metrics.connections.set(3);
        metrics.write_batch_size.observe(5.0);
        let text = metrics.encode();
        for line in [
            "spacepanda_frames_total{outcome=\"stored\"} 2",
            "spacepanda_peer_input_rejected_total{reason=\"unauthorised_commit\"} 1",
            "spacepanda_peer_requests_total{direction=\"inbound\",outcome=\"refused\"} 1",
            "spacepanda_peer_connections 3",
            "spacepanda_write_batch_size_count 1",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
    }
}
