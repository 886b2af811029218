//! The logins of this machine's user, in a file that only its owner can read.
//!
//! It never prints a token and never reads a file that others can read.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

/// Larger than hundreds of logins; a bigger file is not ours.
const FILE_LIMIT: u64 = 1024 * 1024;
const FORMAT: u32 = 1;

/// The stored logins could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// No platform directory and none given.
    #[error("there is no config directory; set SPACEPANDA_CONFIG_DIR")]
    NoDirectory,
    /// Group or others have access.
    #[error("{path} holds login tokens and others can access it; run: chmod 600 '{path}'")]
    Exposed {
        /// The file.
        path: String,
    },
    /// Not a file that this program wrote.
    #[error("{path} is not a credentials file of this version; move it away and log in again")]
    Malformed {
        /// The file.
        path: String,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A session token; never printed, wiped when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Token(String);

impl Token {
    /// The token itself.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// One stored login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Login {
    /// The server's URL.
    pub server: String,
    /// PEM file of the certificate authority, when a private one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The account's user name on that server.
    pub username: String,
    /// What others see.
    pub display_name: String,
    /// Lower-case hex.
    pub account_id: String,
    /// The bearer token.
    pub session_token: Token,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    version: u32,
    logins: BTreeMap<String, Login>,
}

/// The credentials file.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    directory: PathBuf,
}

impl Credentials {
    /// In `directory`, or in the platform's config directory.
    ///
    /// # Errors
    /// When the platform has none.
    pub(super) fn locate(directory: Option<&Path>) -> Result<Self, CredentialsError> {
        let platform = || directories::BaseDirs::new().map(|base| base.config_dir().join("spacepanda"));
        let directory =
            directory.map(Path::to_owned).or_else(platform).ok_or(CredentialsError::NoDirectory)?;
        Ok(Self { directory })
    }

    /// Where the logins are.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.join("credentials.json")
    }

    /// The login stored under a profile's name.
    ///
    /// # Errors
    /// When others can read the file, or it cannot be read.
    pub(super) fn load(&self, profile: &str) -> Result<Option<Login>, CredentialsError> {
        Ok(self.read()?.logins.remove(profile))
    }

    /// Stores a login under a profile's name, in place of an earlier one.
    ///
    /// # Errors
    /// When the file cannot be read or written; it is then as it was.
    pub(super) fn store(&self, profile: &str, login: Login) -> Result<(), CredentialsError> {
        self.change(|document| {
            document.logins.insert(profile.to_owned(), login);
        })
    }

    /// Forgets a profile's login.
    ///
    /// # Errors
    /// When the file cannot be read or written; it is then as it was.
    pub(super) fn forget(&self, profile: &str) -> Result<(), CredentialsError> {
        self.change(|document| {
            document.logins.remove(profile);
        })
    }

    fn change(&self, edit: impl FnOnce(&mut Document)) -> Result<(), CredentialsError> {
        create_private_directory(&self.directory).map_err(|source| io_error(&self.directory, source))?;
        // Two logins at the same moment must not drop one of them.
        let lock_path = self.directory.join("credentials.lock");
        let lock = private_file(&lock_path).map_err(|source| io_error(&lock_path, source))?;
        lock.lock().map_err(|source| io_error(&lock_path, source))?;
        let mut document = self.read()?;
        edit(&mut document);
        document.version = FORMAT;
        self.write(&document)
    }

    fn read(&self) -> Result<Document, CredentialsError> {
        let path = self.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Document::default()),
            Err(source) => return Err(io_error(&path, source)),
        };
        let metadata = file.metadata().map_err(|source| io_error(&path, source))?;
        if exposed(&metadata) {
            return Err(CredentialsError::Exposed { path: path.display().to_string() });
        }
        let mut text = String::new();
        let read = file.take(FILE_LIMIT).read_to_string(&mut text);
        let document = read.ok().and_then(|_| serde_json::from_str::<Document>(&text).ok());
        text.zeroize();
        document
            .filter(|document| document.version == FORMAT)
            .ok_or_else(|| CredentialsError::Malformed { path: path.display().to_string() })
    }

    fn write(&self, document: &Document) -> Result<(), CredentialsError> {
        let path = self.path();
        let failed = |source| io_error(&path, source);
        let mut text = serde_json::to_vec_pretty(document).map_err(|error| failed(error.into()))?;
        // A named temporary file is created with mode 0600.
        let mut file =
            tempfile::Builder::new().prefix(".credentials-").tempfile_in(&self.directory).map_err(failed)?;
        let written = file.write_all(&text).and_then(|()| file.as_file().sync_all());
        text.zeroize();
        written.map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

fn io_error(path: &Path, source: io::Error) -> CredentialsError {
    CredentialsError::Io { path: path.display().to_string(), source }
}

#[cfg(unix)]
fn create_private_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(not(unix))]
fn create_private_directory(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}

/// Opens a file that only its owner may read, made if it is missing.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(unix)]
fn exposed(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn exposed(_: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(name: &str) -> Login {
        Login {
            server: "http://127.0.0.1:50051".into(),
            ca: None,
            username: name.into(),
            display_name: name.to_uppercase(),
            account_id: "ab".repeat(32),
            session_token: Token::from(format!("secret-{name}")),
        }
    }

    fn place() -> (tempfile::TempDir, Credentials) {
        let root = tempfile::tempdir().unwrap();
        let credentials = Credentials::locate(Some(&root.path().join("deep/spacepanda"))).unwrap();
        (root, credentials)
    }

    #[test]
    fn profiles_are_kept_apart_and_forgotten_alone() {
        let (_root, credentials) = place();
        assert_eq!(credentials.load("default").unwrap(), None);
        credentials.store("default", login("alice")).unwrap();
        credentials.store("work", login("bob")).unwrap();
        credentials.forget("default").unwrap();
        assert_eq!(credentials.load("default").unwrap(), None);
        assert_eq!(credentials.load("work").unwrap(), Some(login("bob")));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_file_and_directory() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_root, credentials) = place();
        credentials.store("default", login("alice")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&credentials.path()), 0o600);
        assert_eq!(mode(&credentials.directory), 0o700);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_remedy() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_root, credentials) = place();
        credentials.store("default", login("alice")).unwrap();
        fs::set_permissions(credentials.path(), fs::Permissions::from_mode(0o640)).unwrap();
        let error = credentials.load("default").unwrap_err();
        assert!(matches!(error, CredentialsError::Exposed { .. }));
        assert!(error.to_string().contains("chmod 600"));
        assert!(credentials.store("default", login("bob")).is_err(), "nor is it replaced unseen");
    }

    #[cfg(unix)]
    #[test]
    fn a_write_replaces_the_file_and_leaves_no_other() {
        use std::os::unix::fs::MetadataExt as _;
        let (_root, credentials) = place();
        credentials.store("default", login("alice")).unwrap();
        let mut before = File::open(credentials.path()).unwrap();
        let inode = before.metadata().unwrap().ino();
        credentials.store("default", login("bob")).unwrap();
        assert_ne!(fs::metadata(credentials.path()).unwrap().ino(), inode);
        let mut old = String::new();
        before.read_to_string(&mut old).unwrap();
        assert!(old.contains("secret-alice"), "a reader of the old file sees all of it");
        let mut names: Vec<_> =
            fs::read_dir(&credentials.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["credentials.json", "credentials.lock"]);
    }

    #[test]
    fn a_damaged_file_is_reported_and_kept() {
        let (_root, credentials) = place();
        credentials.store("default", login("alice")).unwrap();
        let file = fs::OpenOptions::new().write(true).open(credentials.path()).unwrap();
        file.set_len(20).unwrap();
        assert!(matches!(credentials.load("default"), Err(CredentialsError::Malformed { .. })));
        assert!(credentials.store("default", login("bob")).is_err());
        assert_eq!(fs::metadata(credentials.path()).unwrap().len(), 20);
    }

    #[test]
    fn a_token_is_never_printed() {
        assert!(!format!("{:?}", login("alice")).contains("secret"));
    }
}
