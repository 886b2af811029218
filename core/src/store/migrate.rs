//! Brings a database file to the newest schema. Forward only; what was released is never edited.

use std::sync::LazyLock;

use sqlx::{
    SqlStr, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
};

use super::StoreError;

type Script = (&'static str, &'static str);

const VAULT: &[Script] = &[
    ("0001_vault.sql", include_str!("../../../migrations/vault/0001_vault.sql")),
    ("0002_role_change.sql", include_str!("../../../migrations/vault/0002_role_change.sql")),
    ("0003_branches.sql", include_str!("../../../migrations/vault/0003_branches.sql")),
    ("0004_send_timing.sql", include_str!("../../../migrations/vault/0004_send_timing.sql")),
    ("0005_frame_set.sql", include_str!("../../../migrations/vault/0005_frame_set.sql")),
    ("0006_rejoin.sql", include_str!("../../../migrations/vault/0006_rejoin.sql")),
    ("0007_restored.sql", include_str!("../../../migrations/vault/0007_restored.sql")),
    ("0008_succeeded.sql", include_str!("../../../migrations/vault/0008_succeeded.sql")),
    ("0009_left_state.sql", include_str!("../../../migrations/vault/0009_left_state.sql")),
];
const SERVER: &[Script] = &[("0001_server.sql", include_str!("../../../migrations/server/0001_server.sql"))];

/// Migrations of vaults.
pub(super) static VAULT_MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| migrator(VAULT));
/// Migrations of the server database.
pub(super) static SERVER_MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| migrator(SERVER));

/// Runs what is pending, each migration in a transaction.
///
/// # Errors
/// [`StoreError::Database`] for a file of a newer program; else what the database says.
pub(super) async fn migrate(
    connection: &mut SqliteConnection,
    migrator: &Migrator,
) -> Result<(), StoreError> {
    Ok(migrator.run_direct(None, connection, false).await?)
}

fn migrator(scripts: &[Script]) -> Migrator {
    let migrations = scripts.iter().zip(1..).map(|((name, sql), version)| {
        Migration::new(version, (*name).into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    });
    Migrator::with_migrations(migrations.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_listed_in_order() {
        for (folder, scripts) in [("vault", VAULT), ("server", SERVER)] {
            let folder = format!("{}/../migrations/{folder}", env!("CARGO_MANIFEST_DIR"));
            let files = std::fs::read_dir(folder).unwrap();
            let mut files: Vec<_> =
                files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
            files.retain(|name| name.ends_with(".sql"));
            files.sort();
            let listed: Vec<_> = scripts.iter().map(|(name, _)| (*name).to_owned()).collect();
            assert_eq!(files, listed);
            for (name, version) in listed.iter().zip(1..) {
                assert!(name.starts_with(&format!("{version:04}_")), "{name}");
            }
        }
    }
}
