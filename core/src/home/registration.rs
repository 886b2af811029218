//! Registration tokens: what the operator hands to someone who may make an account.

use std::{path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{AccountError, directory::server_database};
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
/// [`AccountError::NoServer`] where no server has run; then nothing is made. [`AccountError::Store`].
pub async fn registration_token(
    data_dir: &Path,
    lifetime: Duration,
) -> Result<Zeroizing<String>, AccountError> {
    let database = server_database(data_dir);
    // A mistyped directory would else give a token that no server knows.
    if !database.is_file() {
        return Err(AccountError::NoServer);
    }
    let store = ServerStore::open(&database).await?;
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(random::<32>().as_slice()));
    let now = now_ms();
    let expires_at = now.saturating_add(duration_ms(lifetime));
    let inserted = store.insert_registration(&hash(&text), now, expires_at).await;
    store.close().await;
    inserted?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_without_a_server_stays_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        for place in [root.path().to_owned(), root.path().join("missing")] {
            let refused = registration_token(&place, Duration::from_secs(60)).await;
            assert!(matches!(refused, Err(AccountError::NoServer)));
        }
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
