//! The MLS group (L2): states, commits, messages. No IO: rows come in and go out as values.

pub mod authorize;
pub mod commit;
mod effect;
pub mod engine;
pub mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub mod frame;
pub mod identity;
mod join;
pub mod key_package;
pub mod message;
mod overlay;
pub mod policy;
pub mod process;
pub mod requests;
pub mod rows;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use join::MAX_WELCOME_BYTES;
