//! Tests of whole sessions.

#[cfg(feature = "testing")]
mod crashes;
