//! All SQL of the project: sqlx goes no further than this module.
//!
//! [`Vault`] is an account's encrypted database, [`server::ServerStore`] the server's own. Blind to
//! the network.

pub mod branch;
pub mod commit;
mod connect;
mod error;
pub mod event;
#[cfg(feature = "testing")]
mod failpoint;
pub mod feed;
pub mod former;
pub mod frame;
pub mod frame_set;
pub mod health;
pub mod identity;
pub mod invite;
pub mod key_package;
pub mod logbook;
pub mod message;
mod migrate;
pub mod mls;
pub mod outbox;
pub mod peer;
pub mod register;
pub mod rejoin;
pub mod request;
pub mod restored;
pub mod role_change;
pub mod roster;
pub mod server;
pub mod skeleton;
pub mod space;
pub mod tip;
mod vault;
mod writer;

pub use connect::remove_database;
pub use error::StoreError;
#[cfg(feature = "testing")]
pub use failpoint::At;
pub use vault::{Reader, Vault};
pub use writer::{Notice, WriteTx};
