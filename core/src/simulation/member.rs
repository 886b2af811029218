//! The protocol's member in the simulated world: one device of one group, by the product's own rules.
//!
//! The rules are not here: which state is the head, whose turn it is, what becomes of a request, what may
//! be committed and when secrets go are asked of `dag` and `group`. What is here is what a server does
//! around them, as steps on a disk, and the invariants that must hold whatever goes wrong.
//!
//! Where servers would seal a Tip or a letter, members look at the tag of its state, or at its addressee.

mod accept;
mod actor;
mod commit;
mod disk;
mod follow;
mod intake;
mod join;
mod ledger;
mod log;
mod misdeed;
mod person;
mod retell;
mod rows;
mod rules;
mod scenario;
mod seal;
mod tip;
mod wire;
mod world;

#[cfg(test)]
mod tests;

pub use actor::{Command, Member, Timer, Wish};
pub use disk::{Disk, Membership};
pub use ledger::{Ledger, Made, Output};
pub use misdeed::Misdeed;
pub use person::{Config, Person, Setup};
pub use scenario::Members;
pub use wire::Message;
pub use world::{World, world};
