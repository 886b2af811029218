//! Why a database refused, in words that someone can act on.
//!
//! The variants carry no cause, so that no value can leak through one; the cause is logged here.

use std::io::{self, ErrorKind};

use sqlx::migrate::MigrateError;

use crate::id::WrongLength;

/// Why a database refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full; nothing was changed.
    #[error("the disk is full")]
    DiskFull,
    /// The file is damaged or not ours; it was left as it is.
    #[error("the database file is damaged")]
    Corrupt,
    /// The store is closed or closing.
    #[error("the store is closed")]
    Closed,
    /// Anything else.
    #[error("the database failed")]
    Database,
}

// https://www.sqlite.org/rescode.html; the low byte is the primary code.
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_NOTADB: i32 = 26;
const SQLITE_IOERR_WRITE: i32 = 778;
// The shared memory file could not grow.
const SQLITE_IOERR_SHMSIZE: i32 = 4874;

impl StoreError {
    fn from_code(code: i32) -> Self {
        match (code, code & 0xff) {
            (SQLITE_IOERR_WRITE | SQLITE_IOERR_SHMSIZE, _) | (_, SQLITE_FULL) => Self::DiskFull,
            (_, SQLITE_CORRUPT | SQLITE_NOTADB) => Self::Corrupt,
            _ => Self::Database,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolClosed => Self::Closed,
            sqlx::Error::Io(error) => error.into(),
            sqlx::Error::Database(error) => {
                let code = error.code().and_then(|code| code.parse().ok()).unwrap_or_default();
                // SQLite's messages name tables and columns, never values.
                tracing::warn!(code, cause = error.message(), "a database refused");
                Self::from_code(code)
            }
            sqlx::Error::ColumnDecode { index, .. } => {
                tracing::error!(column = index, "a stored value is not of its column's type");
                Self::Corrupt
            }
            other => {
                tracing::error!(cause = cause(&other), "a database failed");
                Self::Database
            }
        }
    }
}

impl From<WrongLength> for StoreError {
    fn from(_: WrongLength) -> Self {
        Self::Corrupt
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            other => {
                tracing::error!(cause = %other, "the database is of another version of the program");
                Self::Database
            }
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull,
            kind => {
                tracing::warn!(cause = %kind, "a file operation failed");
                Self::Database
            }
        }
    }
}

/// A cause without values.
fn cause(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::PoolTimedOut => "no connection became free in time",
        sqlx::Error::WorkerCrashed => "the connection's thread ended",
        sqlx::Error::RowNotFound => "a row is missing",
        sqlx::Error::ColumnNotFound(_) | sqlx::Error::ColumnIndexOutOfBounds { .. } => "a column is missing",
        _ => "unexpected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_who_must_act() {
        assert_eq!(StoreError::from_code(13), StoreError::DiskFull);
        assert_eq!(StoreError::from_code(778), StoreError::DiskFull);
        assert_eq!(StoreError::from_code(10), StoreError::Database);
        assert_eq!(StoreError::from_code(11), StoreError::Corrupt);
        assert_eq!(StoreError::from_code(11 | (1 << 8)), StoreError::Corrupt);
        assert_eq!(StoreError::from_code(26), StoreError::Corrupt);
        assert_eq!(StoreError::from_code(2067), StoreError::Database);
    }

    #[test]
    fn other_sources() {
        assert_eq!(StoreError::from(sqlx::Error::PoolClosed), StoreError::Closed);
        assert_eq!(StoreError::from(io::Error::from(ErrorKind::StorageFull)), StoreError::DiskFull);
        assert_eq!(StoreError::from(io::Error::from(ErrorKind::NotFound)), StoreError::Database);
        assert_eq!(StoreError::from(MigrateError::VersionMissing(9)), StoreError::Database);
    }
}
