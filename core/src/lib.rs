//! The core of a SpacePanda home server: groups, delivery, storage and peer networking.
//!
//! Layers, each knowing only those before it: [`id`] and [`model`]; the pure modules; `store` and
//! `router`, blind to each other; [`network`]; [`session`]; [`home`], which is what the API holds.

pub mod certificate;
pub mod clock;
pub mod dag;
pub mod delivery;
pub mod event;
#[cfg(feature = "testing")]
pub mod fuzzing;
pub mod group;
pub mod home;
pub mod id;
pub mod invite;
pub mod journal;
pub mod keys;
pub mod letter;
pub mod measure;
pub mod metrics;
pub mod model;
pub mod mutant;
pub mod network;
pub mod permission;
pub mod reconcile;
pub mod router;
pub mod session;
#[cfg(feature = "testing")]
pub mod simulation;
pub mod store;
