//! All SQL of the project.

/// Why a database refused.
#[derive(Debug, thiserror::Error)]
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
