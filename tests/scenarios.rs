//! Scenarios over real server processes: real gRPC, real libp2p sockets, real files, real `kill -9`.
//!
//! Only modules here. A story belongs in `scenario/`, what it is told with in `harness/`.

#[cfg(test)]
mod harness;
#[cfg(test)]
mod scenario;
