//! The MLS group (L2): states, commits, messages. No IO: rows come in and go out as values.

pub mod authorize;
pub mod policy;
