//! Between the wire's messages and the core's values.
//!
//! `FromWire` checks what clients send and names the field that is wrong; `IntoWire` cannot fail.
//! Nothing here calls the core.

pub(crate) mod auth;
pub(crate) mod event;
pub(crate) mod field;
mod graph;
mod group;
pub(crate) mod message;
pub(crate) mod network;
pub(crate) mod page;
pub(crate) mod space;

use crate::status::Refusal;

/// A checked value made from a request.
pub(crate) trait FromWire<Wire>: Sized {
    /// Checks the request.
    ///
    /// # Errors
    /// A [`Refusal`] that names the first field that cannot be taken.
    fn from_wire(wire: Wire) -> Result<Self, Refusal>;
}

/// A value of the core that has a form on the wire.
pub(crate) trait IntoWire {
    /// Its message.
    type Wire;

    /// Makes the message.
    fn into_wire(self) -> Self::Wire;
}
