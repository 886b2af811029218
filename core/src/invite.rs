//! The invite link: what one person gives another so that they can join.
//!
//! Reads and writes the text form only. Whoever holds a link can join, so it has no `Debug` and its
//! seed is wiped from memory.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::SigningKey;
use prost::Message as _;
use spacepanda_proto::peer::v1 as wire;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    event::{MAX_ADDRESS_BYTES, MAX_ADDRESSES, MAX_PEER_ID_BYTES, MAX_STORED},
    id::{AccountId, GroupId, InviteId},
};

/// Longest accepted link, characters. Sixteen addresses of 256 bytes take 5,800.
pub const MAX_LINK_CHARS: usize = 8192;
const SCHEME: &str = "spacepanda";
const VERSION: u8 = 1;

/// Why a link is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InviteLinkError {
    /// Longer than any link.
    #[error("the invite link is too long")]
    TooLong,
    /// Does not begin with `spacepanda:`.
    #[error("this is not an invite link")]
    NotALink,
    /// Made by a newer release.
    #[error("the invite link needs a newer version of this software")]
    Version,
    /// Cut off or changed on its way.
    #[error("the invite link is damaged")]
    Malformed,
}

/// What a link holds.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteLink {
    /// The group to join.
    pub gid: GroupId,
    /// Ed25519 seed of the invite's key; never sent to anyone.
    pub seed: Zeroizing<[u8; 32]>,
    /// The invite.
    pub invite: InviteId,
    /// The inviter's router: libp2p peer id bytes.
    pub peer_id: Vec<u8>,
    /// Where it listens: multiaddr bytes without `/p2p`, at most [`MAX_ADDRESSES`].
    pub addresses: Vec<Vec<u8>>,
    /// When it stops working, Unix milliseconds.
    pub expires_at_ms: u64,
    /// The inviter, who must sign the Welcome.
    pub account: AccountId,
}

impl InviteLink {
    /// The link's text: `spacepanda:` and base64url. Secret.
    pub fn encode(&self) -> String {
        let mut link = wire::InviteLink {
            gid: self.gid.0.to_vec(),
            seed: self.seed.to_vec(),
            invite_id: self.invite.0.to_vec(),
            peer_id: self.peer_id.clone(),
            addresses: self.addresses.clone(),
            expires_at_ms: self.expires_at_ms,
            account_key: self.account.0.to_vec(),
        };
        let encoded = Zeroizing::new(link.encode_to_vec());
        link.seed.zeroize();
        let bytes = Zeroizing::new([&[VERSION], encoded.as_slice()].concat());
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
        format!("{SCHEME}:{}", text.as_str())
    }

    /// Reads a link as a person pasted it, with white space around it.
    ///
    /// # Errors
    /// [`InviteLinkError`]; the text may be anything.
    pub fn parse(text: &str) -> Result<Self, InviteLinkError> {
        if text.len() > MAX_LINK_CHARS {
            return Err(InviteLinkError::TooLong);
        }
        let (scheme, rest) = text.trim().split_once(':').ok_or(InviteLinkError::NotALink)?;
        // Schemes have no case (RFC 3986 §3.1).
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(InviteLinkError::NotALink);
        }
        let bytes = URL_SAFE_NO_PAD.decode(rest).map_err(|_| InviteLinkError::Malformed)?;
        let bytes = Zeroizing::new(bytes);
        match bytes.split_first() {
            Some((&VERSION, link)) => Self::decode(link),
            Some(_) => Err(InviteLinkError::Version),
            None => Err(InviteLinkError::Malformed),
        }
    }

    /// The invite's Ed25519 key, by which the inviter's server knows it.
    pub fn public_key(&self) -> [u8; 32] {
        SigningKey::from_bytes(&self.seed).verifying_key().to_bytes()
    }

    fn decode(link: &[u8]) -> Result<Self, InviteLinkError> {
        use InviteLinkError::Malformed;
        let link = wire::InviteLink::decode(link).map_err(|_| Malformed)?;
        let seed = Zeroizing::new(link.seed);
        let addresses_fit = link.addresses.len() <= MAX_ADDRESSES
            && link.addresses.iter().all(|address| address.len() <= MAX_ADDRESS_BYTES);
        let peer_id_fits = !link.peer_id.is_empty() && link.peer_id.len() <= MAX_PEER_ID_BYTES;
        if !addresses_fit || !peer_id_fits || link.expires_at_ms > MAX_STORED {
            return Err(Malformed);
        }
        Ok(Self {
            gid: GroupId::try_from(&*link.gid).map_err(|_| Malformed)?,
            seed: Zeroizing::new(<[u8; 32]>::try_from(seed.as_slice()).map_err(|_| Malformed)?),
            invite: InviteId::try_from(&*link.invite_id).map_err(|_| Malformed)?,
            peer_id: link.peer_id,
            addresses: link.addresses,
            expires_at_ms: link.expires_at_ms,
            account: AccountId::try_from(&*link.account_key).map_err(|_| Malformed)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn link() -> InviteLink {
        InviteLink {
            gid: GroupId([1; 16]),
            seed: Zeroizing::new([2; 32]),
            invite: InviteId([3; 16]),
            peer_id: vec![4; 38],
            addresses: vec![vec![5; 8], vec![6; 20]],
            expires_at_ms: 7,
            account: AccountId([8; 32]),
        }
    }

    fn refusal(change: impl FnOnce(&mut InviteLink)) -> Option<InviteLinkError> {
        let mut link = link();
        change(&mut link);
        InviteLink::parse(&link.encode()).err()
    }

    fn written(bytes: &[u8]) -> String {
        format!("spacepanda:{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    #[test]
    fn reads_back_as_pasted() {
        let text = link().encode();
        assert!(text.starts_with("spacepanda:AQ"));
        assert!(InviteLink::parse(&text) == Ok(link()));
        assert!(InviteLink::parse(&format!(" \n{text}\r\n")) == Ok(link()));
        assert!(InviteLink::parse(&text.replace("spacepanda", "SpacePanda")) == Ok(link()));
    }

    #[test]
    fn the_seed_is_the_key_that_signs_joins() {
        let key = SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes();
        assert_eq!(link().public_key(), key);
    }

    #[test]
    fn the_longest_link_fits() {
        let longest = InviteLink {
            peer_id: vec![1; MAX_PEER_ID_BYTES],
            addresses: vec![vec![1; MAX_ADDRESS_BYTES]; MAX_ADDRESSES],
            expires_at_ms: MAX_STORED,
            ..link()
        };
        let text = longest.encode();
        assert!(text.len() <= 5900, "{}", text.len());
        assert!(InviteLink::parse(&text) == Ok(longest));
    }

    #[test]
    fn content_beyond_its_limits_is_refused() {
        assert_eq!(refusal(|l| l.addresses = vec![vec![1]; 17]), Some(InviteLinkError::Malformed));
        assert_eq!(refusal(|l| l.addresses[0] = vec![1; 257]), Some(InviteLinkError::Malformed));
        assert_eq!(refusal(|l| l.peer_id = vec![1; 65]), Some(InviteLinkError::Malformed));
        assert_eq!(refusal(|l| l.peer_id.clear()), Some(InviteLinkError::Malformed));
        assert_eq!(refusal(|l| l.expires_at_ms = u64::MAX), Some(InviteLinkError::Malformed));
    }

    #[test]
    fn other_texts_are_refused() {
        let refusal = |text: &str| InviteLink::parse(text).err();
        assert_eq!(refusal(""), Some(InviteLinkError::NotALink));
        assert_eq!(refusal("https://example.org/"), Some(InviteLinkError::NotALink));
        assert_eq!(refusal("spacepanda:"), Some(InviteLinkError::Malformed));
        assert_eq!(refusal("spacepanda:!!"), Some(InviteLinkError::Malformed));
        assert_eq!(refusal(&written(&[VERSION])), Some(InviteLinkError::Malformed));
        assert_eq!(refusal(&written(&[2, 0])), Some(InviteLinkError::Version));
        assert_eq!(refusal(&"x".repeat(MAX_LINK_CHARS + 1)), Some(InviteLinkError::TooLong));
    }

    #[test]
    fn a_cut_link_is_refused() {
        let text = link().encode();
        for length in 0..text.len() {
            assert!(InviteLink::parse(text.get(..length).unwrap()).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = InviteLink::parse(&text);
            let _ = InviteLink::parse(&format!("spacepanda:{text}"));
            let _ = InviteLink::parse(&written(&[&[VERSION], &bytes[..]].concat()));
        }
    }
}
