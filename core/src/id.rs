//! Identifiers as types of their own, so that one is never taken for another.
//!
//! `Debug` prints at most eight hex digits: logs and errors never hold an id in full.

use std::fmt;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The bytes do not have the length of this identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an identifier has the wrong length")]
pub struct WrongLength;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            /// The identifier's bytes.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let [a, b, c, d, ..] = self.0;
                write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}…")
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = WrongLength;
            fn try_from(bytes: &[u8]) -> Result<Self, WrongLength> {
                Ok(Self(bytes.try_into().map_err(|_| WrongLength)?))
            }
        }
    };
}

identifier!(
    /// An MLS group; a space's UUID.
    GroupId, 16
);
identifier!(
    /// One state of one branch of a group:
    /// `SHA-256("sid/1" ‖ gid ‖ u64be(epoch) ‖ tls(confirmation_tag))`.
    StateId, 32
);
identifier!(
    /// SHA-256 of a commit's MLSMessage bytes.
    CommitId, 32
);
identifier!(
    /// A person: the Ed25519 public account key.
    AccountId, 32
);
identifier!(
    /// One MLS leaf: the Ed25519 public key it signs with.
    DeviceId, 32
);
identifier!(
    /// A device's event log in a group: 16 random bytes drawn when its leaf entered.
    LogId, 16
);
identifier!(
    /// SHA-256 of an event's bytes; also the id of the message it carries.
    EventId, 32
);
identifier!(
    /// SHA-256 of a sealed frame's bytes.
    FrameId, 32
);
identifier!(
    /// Where a frame stands among those of its group; see [`crate::reconcile`].
    FramePlace, 32
);
identifier!(
    /// A channel of a space; a UUID.
    ChannelId, 16
);
identifier!(
    /// An invite; a UUID.
    InviteId, 16
);

macro_rules! uuid_text {
    ($($name:ident)*) => {$(
        impl $name {
            /// A new random (version 4) id.
            pub fn random() -> Self {
                Self(*Uuid::new_v4().as_bytes())
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(*uuid.as_bytes())
            }
        }

        /// The UUID's text form.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", Uuid::from_bytes(self.0))
            }
        }
    )*};
}

macro_rules! hex_text {
    ($($name:ident)*) => {$(
        /// Lower-case hex.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
    )*};
}

uuid_text!(GroupId ChannelId InviteId);
hex_text!(StateId AccountId EventId);

impl EventId {
    /// The id of an event with these bytes.
    pub fn of(event: &[u8]) -> Self {
        Self(Sha256::digest(event).into())
    }
}

impl FrameId {
    /// The id of a frame with these bytes.
    pub fn of(frame: &[u8]) -> Self {
        Self(Sha256::digest(frame).into())
    }
}

impl CommitId {
    /// The id of a commit with these MLSMessage bytes.
    pub fn of(commit: &[u8]) -> Self {
        Self(Sha256::digest(commit).into())
    }
}
