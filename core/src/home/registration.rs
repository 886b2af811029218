//! Registration tokens: what the operator hands to someone who may make an account.

use std::{path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    AccountError,
    directory::{make_private_directory, server_database},
};
use crate::{
    clock::{duration_ms, now_ms, random},
    store::server::ServerStore,
};

/// What the server keeps of a token; of anything else, a hash that it has not.
pub(super) fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// Makes a token that admits one account. Works beside a running server: the token is one row.
///
/// # Errors
/// [`AccountError::Store`]
pub async fn registration_token(
    data_dir: &Path,
    lifetime: Duration,
) -> Result<Zeroizing<String>, AccountError> {
    make_private_directory(data_dir)?;
    let store = ServerStore::open(&server_database(data_dir)).await?;
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(random::<32>().as_slice()));
    let now = now_ms();
    let expires_at = now.saturating_add(duration_ms(lifetime));
    let inserted = store.insert_registration(&hash(&text), now, expires_at).await;
    store.close().await;
    inserted?;
    Ok(text)
}
