//! The core of a SpacePanda home server: groups, delivery, storage and peer networking.
//!
//! Layers, each knowing only those before it: [`id`] and [`model`]; the pure modules; `store` and
//! `router`, blind to each other; [`network`]; [`session`]; [`home`], which is what the API holds.

pub mod certificate;
pub mod clock;
pub mod group;
pub mod home;
pub mod id;
pub mod keys;
pub mod metrics;
pub mod model;
pub mod network;
pub mod session;
pub mod store;
