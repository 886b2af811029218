//! Assertions on refusals: the gRPC code and the reason of `google.rpc.ErrorInfo`.
//!
//! It must not look at the human sentence, which may change.

use std::fmt::Debug;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The reason in the error's details; empty when the server gave none.
pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// Whether the call never got an answer of the server's own.
pub(crate) fn never_answered(status: &Status) -> bool {
    status.get_details_error_info().is_none() || status.code() == Code::Unavailable
}

/// The call was refused with this code.
pub(crate) fn refused_with<T: Debug>(result: Result<T, Status>, code: Code) -> Status {
    let status = match result {
        Ok(answer) => panic!("expected {code:?}, but it was answered: {answer:?}"),
        Err(status) => status,
    };
    assert_eq!(status.code(), code, "{status:?}");
    status
}

/// The call was refused with this code and reason, in the product's own domain.
pub(crate) fn refused<T: Debug>(result: Result<T, Status>, code: Code, expected: &str) -> Status {
    let status = refused_with(result, code);
    let info = status.get_details_error_info().expect("every refusal carries ErrorInfo");
    assert_eq!((info.domain.as_str(), info.reason.as_str()), ("spacepanda", expected), "{status:?}");
    status
}
