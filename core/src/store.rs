//! All SQL of the project: sqlx goes no further than this module.
//!
//! [`Vault`] is an account's encrypted database, [`server::ServerStore`] the server's own. Blind to
//! the network.

mod connect;
mod error;
pub mod identity;
mod migrate;
pub mod server;
mod vault;
mod writer;

pub use connect::remove_database;
pub use error::StoreError;
pub use vault::{Reader, Vault};
pub use writer::{Notice, WriteTx};
