//! Who a router is, by its public key. Says nothing of accounts.

use std::{fmt, str::FromStr};

use libp2p::identity::Keypair;
use zeroize::Zeroizing;

/// The bytes or the text do not name a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a peer id")]
pub struct InvalidPeerId;

/// A router's identity. It says nothing about the account behind it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub(super) libp2p::PeerId);

impl PeerId {
    /// Reads the binary form, a multihash.
    ///
    /// # Errors
    /// When the bytes are not one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidPeerId> {
        libp2p::PeerId::from_bytes(bytes).map(Self).map_err(|_| InvalidPeerId)
    }

    /// The binary form; 38 bytes for an Ed25519 key.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// Reads the text form, `12D3Koo...`.
    ///
    /// # Errors
    /// When the text is not one.
    pub fn parse(text: &str) -> Result<Self, InvalidPeerId> {
        libp2p::PeerId::from_str(text).map(Self).map_err(|_| InvalidPeerId)
    }

    /// The identity of the router with this Ed25519 seed.
    ///
    /// # Errors
    /// Never in practice: any 32 bytes are a seed.
    pub fn of_secret(secret: &[u8; 32]) -> Result<Self, InvalidPeerId> {
        keypair(secret).map(|key| Self(key.public().to_peer_id()))
    }
}

/// The libp2p key pair of an Ed25519 seed.
pub(super) fn keypair(secret: &[u8; 32]) -> Result<Keypair, InvalidPeerId> {
    let mut copy = Zeroizing::new(*secret);
    Keypair::ed25519_from_bytes(copy.as_mut_slice()).map_err(|_| InvalidPeerId)
}

/// libp2p's text form.
impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Eight characters of the text form, taken from its end: all Ed25519 ids begin alike.
impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_base58();
        let from = text.len().saturating_sub(8);
        write!(f, "…{}", text.get(from..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_round_trip_and_debug_is_short() {
        let peer = PeerId::of_secret(&[7; 32]).unwrap();
        assert_eq!(PeerId::from_bytes(&peer.to_bytes()), Ok(peer));
        assert_eq!(PeerId::parse(&peer.to_string()), Ok(peer));
        assert!(peer.to_string().starts_with("12D3Koo"));
        assert_eq!(format!("{peer:?}").chars().count(), 9);
        assert_ne!(peer, PeerId::of_secret(&[8; 32]).unwrap());
    }

    #[test]
    fn garbage_is_refused() {
        assert!(PeerId::from_bytes(&[]).is_err());
        assert!(PeerId::from_bytes(&[0xff; 38]).is_err());
        assert!(PeerId::parse("12D3KooW").is_err());
        assert!(PeerId::parse("").is_err());
    }
}
