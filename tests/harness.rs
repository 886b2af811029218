//! What the stories are told with: servers as processes, people as clients, faults, and waiting.
//!
//! It must not know how the server works inside: everything goes through its command line, its
//! ports, its files and its signals. The exceptions are the hostile parties (`hostile`) and the thief
//! (`stolen`), who have the library as any attacker has; they never run inside a server.

pub(crate) mod chaos;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod fault;
pub(crate) mod feed;
pub(crate) mod hostile;
pub(crate) mod http;
pub(crate) mod insist;
pub(crate) mod owner;
pub(crate) mod raw;
pub(crate) mod reflection;
pub(crate) mod refusal;
pub(crate) mod secrets;
pub(crate) mod server;
pub(crate) mod stolen;
pub(crate) mod terminal;
pub(crate) mod wait;
pub(crate) mod world;

pub(crate) use self::{
    client::{PASSWORD, Person},
    cluster::Cluster,
    refusal::{refused, refused_with},
    server::Server,
    wait::{comes_true, wait_until},
    world::{Place, meet, same_world},
};
