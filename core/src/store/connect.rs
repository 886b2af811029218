//! How database files are reached: keys, pragmas, modes.
//!
//! sqlx logs statements, the one with the key among them, and its options print the key: statement
//! logging is off, and the options never leave this file. No SQL of a subject belongs here.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use zeroize::Zeroizing;

use super::StoreError;
use crate::keys::VaultKey;

/// The writing connection is closed after this time without work: it is a thread and a page cache.
pub(super) const IDLE_CLOSE: Duration = Duration::from_secs(30);
/// The pool looks for idle readers this often, and so closes them after at most twice this.
const IDLE_READER: Duration = Duration::from_secs(15);
/// Lists of messages while another query runs: more would only wait for the same disk.
const MAX_READERS: u32 = 2;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const STATEMENT_CACHE: usize = 256;
/// Pages of 4 KiB after which a commit moves the log into the database file.
const CHECKPOINT_PAGES: &str = "1000";
/// Cache of a writer, in KiB as SQLite takes it: a page that is not there is read and decrypted anew.
/// Only as much as is used is taken, and given back when the connection closes.
const WRITER_CACHE: &str = "-16000";

/// A database file and, for a vault, its key. Prints nothing.
#[derive(Clone)]
pub(super) struct Database {
    path: PathBuf,
    key: Option<Zeroizing<String>>,
}

impl Database {
    pub(super) fn vault(path: &Path, key: &VaultKey) -> Self {
        Self { path: path.to_owned(), key: Some(key.hex()) }
    }

    pub(super) fn plain(path: &Path) -> Self {
        Self { path: path.to_owned(), key: None }
    }

    /// A connection that may write; the file must exist.
    pub(super) async fn connect(&self) -> Result<SqliteConnection, StoreError> {
        Ok(self.writing().connect().await?)
    }

    /// Connections that only read, opened when needed.
    pub(super) fn readers(&self) -> SqlitePool {
        pool(MAX_READERS, self.options().pragma("query_only", "ON"))
    }

    /// One connection that may write, opened when needed.
    pub(super) fn single(&self) -> SqlitePool {
        pool(1, self.writing())
    }

    fn writing(&self) -> SqliteConnectOptions {
        self.options()
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("secure_delete", "ON")
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .pragma("cache_size", WRITER_CACHE)
    }

    fn options(&self) -> SqliteConnectOptions {
        let mut options = SqliteConnectOptions::new();
        if let Some(key) = &self.key {
            // A raw key: SQLCipher derives nothing from it. sqlx runs this pragma first, and pragmas it
            // does not know last: too late for SQLCipher's log, which would go to stderr past ours.
            let key = format!("\"x'{}'\"; PRAGMA cipher_log_level = NONE", key.as_str());
            options = options.pragma("key", key);
        }
        options
            .filename(&self.path)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(STATEMENT_CACHE)
            .pragma("temp_store", "MEMORY")
            .disable_statement_logging()
    }
}

fn pool(connections: u32, options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(0)
        .idle_timeout(IDLE_READER)
        .max_lifetime(None)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

/// Makes an empty file that only its owner reads; SQLite gives its log files the same mode.
///
/// # Errors
/// When the file exists or cannot be made.
pub(super) fn create_file(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?;
    Ok(())
}

/// Deletes a closed database with its journal and log files; what is already gone is fine.
///
/// # Errors
/// [`StoreError::Database`] when a file cannot be deleted.
pub fn remove_database(path: &Path) -> Result<(), StoreError> {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match fs::remove_file(Path::new(&file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
