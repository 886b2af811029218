//! Registration tokens: what the operator hands to someone who may make an account.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{AccountError, Inner};
use crate::clock::{duration_ms, now_ms, random};

/// What the server keeps of a token; of anything else, a hash that it has not.
pub(super) fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

impl Inner {
    pub(super) async fn make_registration_token(
        &self,
        lifetime: Duration,
    ) -> Result<Zeroizing<String>, AccountError> {
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(random::<32>().as_slice()));
        let now = now_ms();
        self.store.insert_registration(&hash(&text), now, now.saturating_add(duration_ms(lifetime))).await?;
        Ok(text)
    }
}
