//! Why a command failed, as people, scripts and the shell see it.
//!
//! The one table from gRPC status to exit code. It prints nothing itself.

use std::{error::Error as _, fmt, process::ExitCode};

use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// What the exit codes mean; for the end of the help.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage: an argument is missing, malformed or ambiguous
  3  not logged in, or wrong credentials
  4  not found
  5  the server cannot be reached
  6  refused as things stand: it exists already, expired, or is not allowed to you or in this state
  7  accepted but not complete yet: a join that waits for the inviter, a message not sent yet
 64  wrong usage or configuration of the server's commands, or an unknown command";

/// The domain of the server's own error details.
const ERROR_DOMAIN: &str = "spacepanda";

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is done.
    Done,
    /// Accepted; the server completes it later.
    Pending,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => ExitCode::SUCCESS,
            Outcome::Pending => ExitCode::from(7),
        }
    }
}

/// The kinds of failure that a script can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Anything not named below.
    Failed,
    /// The arguments are wrong.
    Usage,
    /// Not logged in, or wrong credentials.
    NotLoggedIn,
    /// No such thing.
    NotFound,
    /// No server answers.
    Unreachable,
    /// Refused as things stand.
    Refused,
}

impl FailureKind {
    /// The process exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            FailureKind::Failed => 1,
            FailureKind::Usage => 2,
            FailureKind::NotLoggedIn => 3,
            FailureKind::NotFound => 4,
            FailureKind::Unreachable => 5,
            FailureKind::Refused => 6,
        }
    }
}

/// A command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What scripts tell apart.
    pub kind: FailureKind,
    /// The gRPC code's name, such as `NOT_FOUND`.
    pub code: &'static str,
    /// `UPPER_SNAKE`, as in the API's errors; empty when the server gave none.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl Failure {
    fn local(kind: FailureKind, code: Code, reason: &str, message: impl Into<String>) -> Self {
        Self { kind, code: code_name(code), reason: reason.to_owned(), message: message.into() }
    }

    /// The arguments are wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::local(FailureKind::Usage, Code::InvalidArgument, "USAGE", message)
    }

    /// No login is stored.
    pub fn not_logged_in(message: impl Into<String>) -> Self {
        Self::local(FailureKind::NotLoggedIn, Code::Unauthenticated, "NOT_LOGGED_IN", message)
    }

    /// Nothing matches an argument.
    pub fn not_found(reason: &str, message: impl Into<String>) -> Self {
        Self::local(FailureKind::NotFound, Code::NotFound, reason, message)
    }

    /// No server answers at this address.
    pub fn unreachable(server: &str, detail: impl fmt::Display) -> Self {
        let message = format!("no server answers at {server}; start one with `spacepanda serve` ({detail})");
        Self::local(FailureKind::Unreachable, Code::Unavailable, "SERVER_UNREACHABLE", message)
    }

    /// The server did not answer in time.
    pub fn deadline(server: &str, seconds: u64) -> Self {
        let message = format!("the server at {server} did not answer within {seconds} s");
        Self::local(FailureKind::Unreachable, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message)
    }

    /// Something on this machine failed.
    pub fn local_fault(reason: &str, message: impl Into<String>) -> Self {
        Self::local(FailureKind::Failed, Code::Internal, reason, message)
    }

    /// A join or a message ended with this reason.
    pub fn ended(reason: &str, message: impl Into<String>) -> Self {
        Self::local(FailureKind::Refused, Code::FailedPrecondition, reason, message)
    }

    /// What a call on `server` answered.
    pub fn from_status(status: &Status, server: &str) -> Self {
        if is_broken_link(status) {
            return Self::unreachable(server, link_detail(status));
        }
        let info = status.get_details_error_info().filter(|info| info.domain == ERROR_DOMAIN);
        Self {
            kind: kind_of(status.code()),
            code: code_name(status.code()),
            reason: info.map(|info| info.reason).unwrap_or_default(),
            message: sentence(status),
        }
    }

    /// The document that `--json` prints on standard error.
    pub fn to_json(&self) -> Value {
        json!({"error": {"code": self.code, "reason": self.reason, "message": self.message}})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> Self {
        ExitCode::from(failure.kind.exit_code())
    }
}

/// Whether a status tells of the connection and not of the server's decision.
///
/// Only statuses made on this side carry a source; UNAVAILABLE without the
/// server's own details comes from a proxy or a closing connection.
pub(super) fn is_broken_link(status: &Status) -> bool {
    status.source().is_some()
        || (status.code() == Code::Unavailable && status.get_details_error_info().is_none())
}

fn link_detail(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = status.source();
    let mut last = status.message().to_owned();
    while let Some(error) = cause {
        last = error.to_string();
        cause = error.source();
    }
    last
}

fn sentence(status: &Status) -> String {
    let fields: Vec<String> = status
        .get_details_bad_request()
        .map(|bad| bad.field_violations)
        .unwrap_or_default()
        .into_iter()
        .filter(|violation| !status.message().contains(&violation.description))
        .map(|violation| format!("{}: {}", violation.field, violation.description))
        .collect();
    match (status.message(), fields.is_empty()) {
        ("", true) => status.code().description().to_owned(),
        (message, true) => message.to_owned(),
        ("", false) => fields.join("; "),
        (message, false) => format!("{message} ({})", fields.join("; ")),
    }
}

fn kind_of(code: Code) -> FailureKind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => FailureKind::Usage,
        Code::Unauthenticated => FailureKind::NotLoggedIn,
        Code::NotFound => FailureKind::NotFound,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted | Code::PermissionDenied => {
            FailureKind::Refused
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => FailureKind::Failed,
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(code: Code, reason: &str) -> Status {
        let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, [("k".to_owned(), "v".to_owned())]);
        Status::with_error_details(code, "no", details)
    }

    fn exit(status: &Status) -> u8 {
        Failure::from_status(status, "http://x").kind.exit_code()
    }

    #[test]
    fn each_status_has_its_exit_code() {
        let table = [
            (Code::InvalidArgument, 2),
            (Code::Unauthenticated, 3),
            (Code::NotFound, 4),
            (Code::AlreadyExists, 6),
            (Code::FailedPrecondition, 6),
            (Code::Internal, 1),
            (Code::PermissionDenied, 6),
            (Code::ResourceExhausted, 1),
        ];
        for (code, expected) in table {
            assert_eq!(exit(&refused(code, "R")), expected, "{code:?}");
        }
    }

    #[test]
    fn an_unreachable_peer_is_not_an_unreachable_server() {
        assert_eq!(exit(&refused(Code::Unavailable, "PEER_UNREACHABLE")), 1);
        assert_eq!(exit(&Status::unavailable("connection closed")), 5);
        assert_eq!(exit(&Status::from_error("broken pipe".into())), 5);
    }

    #[test]
    fn the_json_error_has_code_reason_and_message() {
        let failure = Failure::from_status(&refused(Code::NotFound, "SPACE_NOT_FOUND"), "http://x");
        let expected = json!({"error": {"code": "NOT_FOUND", "reason": "SPACE_NOT_FOUND", "message": "no"}});
        assert_eq!(failure.to_json(), expected);
    }

    #[test]
    fn the_bad_field_is_named() {
        let details = ErrorDetails::with_bad_request_violation("username", "too short");
        let status = Status::with_error_details(Code::InvalidArgument, "bad request", details);
        assert_eq!(Failure::from_status(&status, "x").message, "bad request (username: too short)");
    }

    #[test]
    fn an_unreachable_server_says_how_to_start_one() {
        let failure = Failure::unreachable("http://127.0.0.1:1", "refused");
        assert!(failure.message.starts_with("no server answers at http://127.0.0.1:1; start one with"));
    }
}
