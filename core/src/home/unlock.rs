//! The machine's unlock key: lets accounts come back after a reboot without anyone calling.
//!
//! Off unless the operator names a file. Whoever holds the file and the disk opens the vaults, so a
//! file that others may read is refused.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    path::Path,
};

use zeroize::Zeroizing;

use super::AccountError;
use crate::{
    clock::random,
    keys::{MACHINE, VaultKey, unwrap_with_key, wrap_with_key},
    store::StoreError,
};

/// 64 hex digits and some white space.
const MAX_FILE_BYTES: u64 = 128;

/// The unlock key. Prints nothing.
pub(super) struct UnlockKey {
    secret: Zeroizing<[u8; 32]>,
}

impl UnlockKey {
    /// Reads the file, or makes it with a fresh key. Files under `credentials` were put there for this
    /// process alone, whatever their mode says.
    pub(super) fn load(path: &Path, credentials: Option<&Path>) -> Result<Self, AccountError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::make(path),
            Err(_) => return Err(AccountError::UnlockKeyFile("it cannot be read")),
        };
        if !credentials.is_some_and(|directory| path.starts_with(directory)) {
            check_mode(&file)?;
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_FILE_BYTES)
            .read_to_string(&mut text)
            .map_err(|_| AccountError::UnlockKeyFile("it cannot be read"))?;
        let mut secret = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), secret.as_mut_slice())
            .map_err(|_| AccountError::UnlockKeyFile("it does not hold 64 hex digits"))?;
        Ok(Self { secret })
    }

    fn make(path: &Path) -> Result<Self, AccountError> {
        let secret = random();
        let text = Zeroizing::new(hex::encode(secret.as_slice()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(|_| AccountError::UnlockKeyFile("it cannot be made"))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(StoreError::from)?;
        tracing::info!("made a new unlock key file");
        Ok(Self { secret })
    }

    /// A vault key under this key.
    pub(super) fn wrap(&self, key: &VaultKey) -> Result<Vec<u8>, AccountError> {
        wrap_with_key(key, MACHINE, self.secret.as_slice(), &random()).map_err(AccountError::from)
    }

    /// The vault key, if it was wrapped under this key.
    pub(super) fn unwrap(&self, wrap: &[u8]) -> Option<VaultKey> {
        unwrap_with_key(wrap, MACHINE, self.secret.as_slice()).ok()
    }
}

#[cfg(unix)]
fn check_mode(file: &File) -> Result<(), AccountError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata().map_err(StoreError::from)?.permissions().mode();
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(AccountError::UnlockKeyFile("others than its owner may read it (chmod 600)"))
    }
}

#[cfg(not(unix))]
fn check_mode(_file: &File) -> Result<(), AccountError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn made_once_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let made = UnlockKey::load(&path, None).unwrap();
        let read = UnlockKey::load(&path, None).unwrap();
        let key = VaultKey::new(random());
        let wrap = made.wrap(&key).unwrap();
        assert!(read.unwrap(&wrap).unwrap() == key);
        let other = UnlockKey::load(&directory.path().join("other"), None).unwrap();
        assert!(other.unwrap(&wrap).is_none());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        UnlockKey::load(&path, None).unwrap();
        for (mode, accepted) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(UnlockKey::load(&path, None).is_ok(), accepted, "{mode:o}");
            assert!(UnlockKey::load(&path, Some(directory.path())).is_ok(), "{mode:o}");
        }
    }

    #[test]
    fn other_content_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        UnlockKey::load(&path, None).unwrap();
        for content in [String::new(), "ab".repeat(31), "zz".repeat(32), "ab".repeat(1_000)] {
            fs::write(&path, &content).unwrap();
            assert!(matches!(UnlockKey::load(&path, None), Err(AccountError::UnlockKeyFile(_))));
        }
    }
}
