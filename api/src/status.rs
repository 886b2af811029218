//! The one table from errors to gRPC statuses: code, reason, sentence, details.
//!
//! Every variant has a line, so that a new error does not compile until it has an answer here.

use std::{collections::HashMap, time::Duration};

use spacepanda_core::{
    home::AccountError,
    model::JoinFailure,
    session::{MessageError, PeerError, SpaceError},
    store::StoreError,
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The `domain` of every ErrorInfo.
const DOMAIN: &str = "spacepanda";

/// When to ask again after a limit that time alone does not lift.
const LONG_WAIT: Duration = Duration::from_secs(3600);
/// When to ask again after a shortage that may pass.
const SHORT_WAIT: Duration = Duration::from_secs(30);

/// A call that was refused, on its way to becoming a status.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: Code,
    reason: &'static str,
    message: String,
    field: Option<&'static str>,
    retry_after: Option<Duration>,
    resume_after_seq: Option<u64>,
}

impl Refusal {
    fn new(code: Code, reason: &'static str, message: impl ToString) -> Self {
        Self {
            code,
            reason,
            message: message.to_string(),
            field: None,
            retry_after: None,
            resume_after_seq: None,
        }
    }

    fn of_field(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// A field of the request cannot be taken.
    pub(crate) fn field(field: &'static str, what: impl Into<String>) -> Self {
        Self::bad_field("INVALID_FIELD", field, what)
    }

    /// A field of the request cannot be taken, with a reason of its own.
    pub(crate) fn bad_field(reason: &'static str, field: &'static str, what: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, reason, what.into()).of_field(field)
    }

    /// The call has no `authorization: Bearer` entry.
    pub(crate) fn token_missing() -> Self {
        let text = "this call needs the metadata entry `authorization: Bearer <session_token>`";
        Self::new(Code::Unauthenticated, "TOKEN_MISSING", text)
    }

    /// The token is unknown, expired or revoked.
    pub(crate) fn token_invalid() -> Self {
        Self::new(Code::Unauthenticated, "TOKEN_INVALID", "the session token is not valid")
    }

    /// The server is shutting down.
    pub(crate) fn stopping() -> Self {
        Self::new(Code::Unavailable, "SERVER_STOPPING", "the server is stopping")
    }

    /// The account's session ended under a stream, while its token still holds.
    pub(crate) fn session_ended() -> Self {
        Self::new(Code::Unavailable, "SESSION_ENDED", "the session ended; connect again")
    }

    /// Private channels are not there yet.
    pub(crate) fn private_channels() -> Self {
        Self::new(Code::Unimplemented, "PRIVATE_CHANNELS", "private channels are not supported yet")
    }

    /// The login has as many event streams as it may.
    pub(crate) fn too_many_streams(limit: usize) -> Self {
        let text = format!("a login can have {limit} event streams at a time");
        Self::new(Code::ResourceExhausted, "TOO_MANY_STREAMS", text).after(SHORT_WAIT)
    }

    /// The client stopped reading its stream.
    pub(crate) fn slow_consumer(resume_after_seq: u64) -> Self {
        let text = "the stream was not read for too long; resume after the given seq";
        let mut refusal =
            Self::new(Code::ResourceExhausted, "SLOW_CONSUMER", text).after(Duration::from_secs(1));
        refusal.resume_after_seq = Some(resume_after_seq);
        refusal
    }

    /// The request is larger than any may be.
    pub(crate) fn too_large() -> Self {
        Self::new(Code::InvalidArgument, "REQUEST_TOO_LARGE", "a request has at most 4 MiB")
    }

    /// The request is not the message that the method takes.
    pub(crate) fn malformed() -> Self {
        let text = "the request could not be decoded";
        Self::new(Code::InvalidArgument, "REQUEST_MALFORMED", text)
    }

    /// The request is compressed.
    pub(crate) fn compressed() -> Self {
        let text = "compressed requests are not supported";
        Self::new(Code::Unimplemented, "COMPRESSION_UNSUPPORTED", text)
    }

    /// No service has this method.
    pub(crate) fn unknown_method() -> Self {
        Self::new(Code::Unimplemented, "METHOD_UNKNOWN", "this server has no such method")
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut details = ErrorDetails::new();
        let resume = refusal.resume_after_seq.map(|seq| ("resume_after_seq".to_owned(), seq.to_string()));
        details.set_error_info(refusal.reason, DOMAIN, resume.into_iter().collect::<HashMap<_, _>>());
        if let Some(field) = refusal.field {
            details.add_bad_request_violation(field, refusal.message.clone());
        }
        if refusal.retry_after.is_some() {
            details.set_retry_info(refusal.retry_after);
        }
        Status::with_error_details(refusal.code, refusal.message, details)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull => {
                Self::new(Code::ResourceExhausted, "DISK_FULL", "the server's disk is full").after(SHORT_WAIT)
            }
            StoreError::Corrupt => Self::new(Code::DataLoss, "VAULT_DAMAGED", "the vault is damaged"),
            StoreError::Closed => Self::stopping(),
            StoreError::Database => Self::new(Code::Internal, "INTERNAL", "the database failed"),
        }
    }
}

impl From<JoinFailure> for Refusal {
    fn from(failure: JoinFailure) -> Self {
        let reason = join_failure_reason(failure);
        match failure {
            JoinFailure::Invalid => Self::bad_field(reason, "invite_link", failure.to_string()),
            JoinFailure::Expired | JoinFailure::UsedUp | JoinFailure::Revoked => {
                Self::new(Code::FailedPrecondition, reason, failure)
            }
        }
    }
}

/// The reason of a join that failed, in errors and in the event stream alike.
pub(crate) fn join_failure_reason(failure: JoinFailure) -> &'static str {
    match failure {
        JoinFailure::Invalid => "INVITE_INVALID",
        JoinFailure::Expired => "INVITE_EXPIRED",
        JoinFailure::UsedUp => "INVITE_USED_UP",
        JoinFailure::Revoked => "INVITE_REVOKED",
    }
}

impl From<SpaceError> for Refusal {
    fn from(error: SpaceError) -> Self {
        let (code, reason) = match error {
            SpaceError::Join(failure) => return failure.into(),
            SpaceError::Store(error) => return error.into(),
            SpaceError::LimitReached(_) => {
                return Self::new(Code::ResourceExhausted, "LIMIT_REACHED", error).after(LONG_WAIT);
            }
            SpaceError::SpaceNotFound => (Code::NotFound, "SPACE_NOT_FOUND"),
            SpaceError::MemberNotFound => (Code::NotFound, "MEMBER_NOT_FOUND"),
            SpaceError::InviteNotFound => (Code::NotFound, "INVITE_NOT_FOUND"),
            SpaceError::NotPermitted => (Code::PermissionDenied, "NOT_PERMITTED"),
            SpaceError::OwnerCannotLeave => (Code::FailedPrecondition, "OWNER_CANNOT_LEAVE"),
            SpaceError::LastOwner => (Code::FailedPrecondition, "LAST_OWNER"),
            SpaceError::ChannelNameTaken => (Code::AlreadyExists, "CHANNEL_NAME_TAKEN"),
            SpaceError::AlreadyMember => (Code::AlreadyExists, "ALREADY_MEMBER"),
            SpaceError::RequestIdReused => (Code::FailedPrecondition, "REQUEST_ID_REUSED"),
            SpaceError::Group => (Code::Internal, "GROUP_FAILED"),
        };
        Self::new(code, reason, error)
    }
}

impl From<MessageError> for Refusal {
    fn from(error: MessageError) -> Self {
        let (code, reason) = match error {
            MessageError::Store(error) => return error.into(),
            MessageError::ChannelNotFound => (Code::NotFound, "CHANNEL_NOT_FOUND"),
            MessageError::MessageNotFound => (Code::NotFound, "MESSAGE_NOT_FOUND"),
            MessageError::RequestIdReused => (Code::FailedPrecondition, "REQUEST_ID_REUSED"),
        };
        Self::new(code, reason, error)
    }
}

impl From<PeerError> for Refusal {
    fn from(error: PeerError) -> Self {
        let (code, reason) = match error {
            PeerError::Store(error) => return error.into(),
            PeerError::Stopping => return Self::stopping(),
            PeerError::AddressInvalid(_) => {
                return Self::bad_field("ADDRESS_INVALID", "peer_address", error.to_string());
            }
            PeerError::Unreachable => (Code::Unavailable, "PEER_UNREACHABLE"),
            PeerError::KeyMismatch => (Code::FailedPrecondition, "PEER_KEY_MISMATCH"),
            PeerError::IsSelf => (Code::FailedPrecondition, "PEER_IS_SELF"),
            PeerError::CertificateInvalid => (Code::FailedPrecondition, "PEER_CERTIFICATE_INVALID"),
            PeerError::PeerNotFound => (Code::NotFound, "PEER_NOT_FOUND"),
        };
        Self::new(code, reason, error)
    }
}

impl From<AccountError> for Refusal {
    fn from(error: AccountError) -> Self {
        let (code, reason) = match error {
            AccountError::Store(error) => return error.into(),
            AccountError::Stopping => return Self::stopping(),
            AccountError::TokenInvalid => return Self::token_invalid(),
            AccountError::UsernameInvalid => return Self::field("username", error.to_string()),
            AccountError::PasswordWeak => return Self::field("password", error.to_string()),
            AccountError::TooManyAttempts { retry_after } => {
                return Self::new(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS", error).after(retry_after);
            }
            // What the router says may hold addresses.
            AccountError::Router(_) => {
                return Self::new(Code::Unavailable, "ROUTER_FAILED", "the account's router could not start");
            }
            AccountError::UsernameTaken => (Code::AlreadyExists, "USERNAME_TAKEN"),
            AccountError::RegistrationClosed => (Code::PermissionDenied, "REGISTRATION_CLOSED"),
            AccountError::WrongCredentials => (Code::Unauthenticated, "WRONG_CREDENTIALS"),
            AccountError::RequestIdReused => (Code::FailedPrecondition, "REQUEST_ID_REUSED"),
            // Told at start, on the operator's terminal; no call meets them.
            AccountError::DataDirInUse | AccountError::NoServer | AccountError::UnlockKeyFile(_) => {
                (Code::Unavailable, "DATA_DIR")
            }
        };
        Self::new(code, reason, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(refusal: impl Into<Refusal>, code: Code, reason: &str) {
        let status = Status::from(refusal.into());
        let details = status.get_error_details();
        let info = details.error_info().expect("ErrorInfo");
        assert_eq!((status.code(), info.reason.as_str(), info.domain.as_str()), (code, reason, "spacepanda"));
        assert!(!status.message().is_empty());
        assert!(reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{reason}");
        assert_eq!(details.retry_info().is_some(), code == Code::ResourceExhausted, "{reason}");
    }

    #[test]
    fn space_errors() {
        check(SpaceError::SpaceNotFound, Code::NotFound, "SPACE_NOT_FOUND");
        check(SpaceError::MemberNotFound, Code::NotFound, "MEMBER_NOT_FOUND");
        check(SpaceError::InviteNotFound, Code::NotFound, "INVITE_NOT_FOUND");
        check(SpaceError::NotPermitted, Code::PermissionDenied, "NOT_PERMITTED");
        check(SpaceError::OwnerCannotLeave, Code::FailedPrecondition, "OWNER_CANNOT_LEAVE");
        check(SpaceError::LastOwner, Code::FailedPrecondition, "LAST_OWNER");
        check(SpaceError::ChannelNameTaken, Code::AlreadyExists, "CHANNEL_NAME_TAKEN");
        check(SpaceError::LimitReached(5), Code::ResourceExhausted, "LIMIT_REACHED");
        check(SpaceError::AlreadyMember, Code::AlreadyExists, "ALREADY_MEMBER");
        check(SpaceError::RequestIdReused, Code::FailedPrecondition, "REQUEST_ID_REUSED");
        check(SpaceError::Group, Code::Internal, "GROUP_FAILED");
        check(SpaceError::Join(JoinFailure::Invalid), Code::InvalidArgument, "INVITE_INVALID");
        check(SpaceError::Join(JoinFailure::Expired), Code::FailedPrecondition, "INVITE_EXPIRED");
        check(SpaceError::Join(JoinFailure::UsedUp), Code::FailedPrecondition, "INVITE_USED_UP");
        check(SpaceError::Join(JoinFailure::Revoked), Code::FailedPrecondition, "INVITE_REVOKED");
        check(SpaceError::Store(StoreError::DiskFull), Code::ResourceExhausted, "DISK_FULL");
    }

    #[test]
    fn message_and_store_errors() {
        check(MessageError::ChannelNotFound, Code::NotFound, "CHANNEL_NOT_FOUND");
        check(MessageError::MessageNotFound, Code::NotFound, "MESSAGE_NOT_FOUND");
        check(MessageError::RequestIdReused, Code::FailedPrecondition, "REQUEST_ID_REUSED");
        check(MessageError::Store(StoreError::Corrupt), Code::DataLoss, "VAULT_DAMAGED");
        check(StoreError::Closed, Code::Unavailable, "SERVER_STOPPING");
        check(StoreError::Database, Code::Internal, "INTERNAL");
    }

    #[test]
    fn peer_errors() {
        check(PeerError::AddressInvalid("no peer id"), Code::InvalidArgument, "ADDRESS_INVALID");
        check(PeerError::Unreachable, Code::Unavailable, "PEER_UNREACHABLE");
        check(PeerError::KeyMismatch, Code::FailedPrecondition, "PEER_KEY_MISMATCH");
        check(PeerError::IsSelf, Code::FailedPrecondition, "PEER_IS_SELF");
        check(PeerError::CertificateInvalid, Code::FailedPrecondition, "PEER_CERTIFICATE_INVALID");
        check(PeerError::PeerNotFound, Code::NotFound, "PEER_NOT_FOUND");
        check(PeerError::Stopping, Code::Unavailable, "SERVER_STOPPING");
        check(PeerError::Store(StoreError::Database), Code::Internal, "INTERNAL");
    }

    #[test]
    fn account_errors() {
        check(AccountError::UsernameInvalid, Code::InvalidArgument, "INVALID_FIELD");
        check(AccountError::PasswordWeak, Code::InvalidArgument, "INVALID_FIELD");
        check(AccountError::UsernameTaken, Code::AlreadyExists, "USERNAME_TAKEN");
        check(AccountError::RegistrationClosed, Code::PermissionDenied, "REGISTRATION_CLOSED");
        check(AccountError::WrongCredentials, Code::Unauthenticated, "WRONG_CREDENTIALS");
        check(AccountError::TokenInvalid, Code::Unauthenticated, "TOKEN_INVALID");
        check(
            AccountError::TooManyAttempts { retry_after: Duration::from_secs(7) },
            Code::ResourceExhausted,
            "TOO_MANY_ATTEMPTS",
        );
        check(AccountError::RequestIdReused, Code::FailedPrecondition, "REQUEST_ID_REUSED");
        check(AccountError::Stopping, Code::Unavailable, "SERVER_STOPPING");
        check(AccountError::Store(StoreError::Closed), Code::Unavailable, "SERVER_STOPPING");
    }

    #[test]
    fn the_server_s_own_refusals() {
        check(Refusal::token_missing(), Code::Unauthenticated, "TOKEN_MISSING");
        check(Refusal::session_ended(), Code::Unavailable, "SESSION_ENDED");
        check(Refusal::private_channels(), Code::Unimplemented, "PRIVATE_CHANNELS");
        check(Refusal::too_many_streams(16), Code::ResourceExhausted, "TOO_MANY_STREAMS");
        check(Refusal::too_large(), Code::InvalidArgument, "REQUEST_TOO_LARGE");
        check(Refusal::malformed(), Code::InvalidArgument, "REQUEST_MALFORMED");
        check(Refusal::unknown_method(), Code::Unimplemented, "METHOD_UNKNOWN");
    }

    #[test]
    fn what_the_router_says_stays_here() {
        let refusal = Refusal::from(AccountError::Router("/ip4/10.1.2.3/tcp/4001 in use".into()));
        let status = Status::from(refusal);
        assert_eq!(status.code(), Code::Unavailable);
        assert!(!format!("{status:?}").contains("10.1.2.3"));
    }

    #[test]
    fn waits_fields_and_resume_points_are_told() {
        let status = Status::from(Refusal::from(AccountError::TooManyAttempts {
            retry_after: Duration::from_secs(7),
        }));
        let wait = status.get_error_details().retry_info().unwrap().retry_delay;
        assert_eq!(wait, Some(Duration::from_secs(7)));

        let status = Status::from(Refusal::from(AccountError::PasswordWeak));
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "password");

        let status = Status::from(Refusal::slow_consumer(41));
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().metadata["resume_after_seq"], "41");
    }
}
