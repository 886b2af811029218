//! Members who do not run our engine: what another implementation of MLS (RFC 9420) makes of our groups.
//!
//! The others are made of `mls-rs`, with its encryption options at their defaults. What surrounds MLS,
//! that is frames, state ids, join proofs, justifications and the policy, is written here a second time,
//! from docs/protocol.md and the proto files. Of the core they use the issuing of certificates alone.

#[cfg(test)]
mod envelope;
#[cfg(test)]
mod member;
#[cfg(test)]
mod other;
#[cfg(test)]
mod ours;
#[cfg(test)]
mod paper;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod story;
