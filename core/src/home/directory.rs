//! The data directory: its layout, its lock, and what a crash left behind.
//!
//! `server.db`, `vaults/<vault id>.db` and `lock`. Knows no content of any database.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::AccountError;
use crate::store::{StoreError, remove_database, server::VaultId};

/// Stands beside a vault that is being made; see [`DataDirectory::unfinished`].
const UNFINISHED: &str = "creating";

/// Where the server's own database is.
pub(super) fn server_database(root: &Path) -> PathBuf {
    root.join("server.db")
}

/// A data directory that this process alone uses.
pub(super) struct DataDirectory {
    root: PathBuf,
    lock: File,
}

impl DataDirectory {
    /// Makes what is missing and takes the lock.
    pub(super) fn open(root: &Path) -> Result<Self, AccountError> {
        make_private_directory(root)?;
        if is_open_to_others(root)? {
            tracing::warn!("other users of this machine may look into the data directory: make it mode 0700");
        }
        let lock = private_file(&root.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(AccountError::DataDirInUse),
            Err(TryLockError::Error(error)) => return Err(StoreError::from(error).into()),
        }
        make_private_directory(&root.join("vaults"))?;
        Ok(Self { root: root.to_owned(), lock })
    }

    /// Lets another process in.
    pub(super) fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(cause = %error.kind(), "the data directory's lock was not released");
        }
    }

    pub(super) fn server_database(&self) -> PathBuf {
        server_database(&self.root)
    }

    pub(super) fn vault(&self, vault: VaultId) -> PathBuf {
        self.vault_file(vault, "db")
    }

    /// Notes that a vault is being made: until [`Self::keep`], a restart removes it.
    pub(super) fn begin(&self, vault: VaultId) -> Result<(), StoreError> {
        private_file(&self.vault_file(vault, UNFINISHED))?;
        Ok(())
    }

    /// The vault belongs to an account now.
    pub(super) fn keep(&self, vault: VaultId) -> Result<(), StoreError> {
        Ok(fs::remove_file(self.vault_file(vault, UNFINISHED))?)
    }

    /// Removes a closed vault that never became an account's.
    pub(super) fn discard(&self, vault: VaultId) -> Result<(), StoreError> {
        remove_database(&self.vault(vault))?;
        self.keep(vault)
    }

    /// Vaults that were being made when the server last stopped. Others are never removed, even
    /// without an account: an old `server.db` put back in place must not cost anyone their vault.
    pub(super) fn unfinished(&self) -> Result<Vec<VaultId>, StoreError> {
        let mut found = Vec::new();
        for file in fs::read_dir(self.root.join("vaults")).map_err(StoreError::from)? {
            let path = file.map_err(StoreError::from)?.path();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                found.extend(path.file_stem().and_then(|name| vault_id(name.to_str()?)));
            }
        }
        Ok(found)
    }

    fn vault_file(&self, vault: VaultId, extension: &str) -> PathBuf {
        self.root.join("vaults").join(format!("{}.{extension}", hex::encode(vault.0)))
    }
}

fn vault_id(name: &str) -> Option<VaultId> {
    let mut id = [0; 16];
    hex::decode_to_slice(name, &mut id).ok().map(|()| VaultId(id))
}

/// What exists is left as its owner made it.
pub(super) fn make_private_directory(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    Ok(builder.create(path)?)
}

/// Whether the machine's other users have any right to it.
#[cfg(unix)]
fn is_open_to_others(path: &Path) -> Result<bool, StoreError> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::metadata(path).map_err(StoreError::from)?.permissions().mode() & 0o077 != 0)
}

/// Such rights are not looked at here.
#[cfg(not(unix))]
fn is_open_to_others(_: &Path) -> Result<bool, StoreError> {
    Ok(false)
}

fn private_file(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error: io::Error| error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(root.path()).unwrap();
        assert!(matches!(DataDirectory::open(root.path()), Err(AccountError::DataDirInUse)));
        directory.unlock();
        assert!(DataDirectory::open(root.path()).is_ok());
    }

    #[test]
    fn unfinished_vaults_are_found_and_others_left() {
        let root = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(root.path()).unwrap();
        let (kept, lost) = (VaultId([1; 16]), VaultId([2; 16]));
        for vault in [kept, lost] {
            directory.begin(vault).unwrap();
            fs::write(directory.vault(vault), b"x").unwrap();
        }
        directory.keep(kept).unwrap();
        fs::write(root.path().join("vaults/not-an-id.creating"), b"").unwrap();
        assert!(directory.unfinished().unwrap() == [lost]);
        directory.discard(lost).unwrap();
        assert!(directory.unfinished().unwrap().is_empty());
        assert!(directory.vault(kept).exists() && !directory.vault(lost).exists());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_look() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("deep/data");
        let _directory = DataDirectory::open(&root).unwrap();
        let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("vaults"), mode("lock")), (0o700, 0o700, 0o600));
        assert!(!is_open_to_others(&root).unwrap());
        for open in [0o755, 0o710, 0o701] {
            fs::set_permissions(&root, fs::Permissions::from_mode(open)).unwrap();
            assert!(is_open_to_others(&root).unwrap(), "{open:o}");
        }
    }
}
