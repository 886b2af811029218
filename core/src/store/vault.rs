//! An account's encrypted database: one writer, a few readers.
//!
//! Holds no subject's SQL: that is in the files beside this one.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use sqlx::{Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection, query_scalar};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    StoreError,
    connect::{Database, IDLE_CLOSE, create_file, remove_database},
    migrate::{VAULT_MIGRATIONS, migrate},
    writer::{Command, Notice, Outlets, Pending, WriteTx, Writer},
};
use crate::{keys::VaultKey, metrics::Metrics};

/// Steps that wait for the writer; callers of more wait to queue.
const QUEUE: usize = 1_024;
/// Notices kept for a slow listener; one that lags further is told that it missed some.
const NOTICES: usize = 128;
/// Closing waits this long for readers to come back.
const READERS_GRACE: Duration = Duration::from_secs(5);

/// An open vault; cheap to clone. Closes when the last clone is gone, or by [`Vault::close`].
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Inner>,
}

struct Inner {
    /// Steps that were queued since the vault was opened.
    steps: AtomicU64,
    queue: mpsc::Sender<Command>,
    readers: SqlitePool,
    feed: watch::Receiver<u64>,
    notices: broadcast::Sender<Notice>,
    #[cfg(feature = "testing")]
    failpoint: super::failpoint::Failpoint,
}

/// A connection that cannot write; given back when dropped.
pub struct Reader {
    connection: PoolConnection<Sqlite>,
}

impl Reader {
    /// The connection.
    pub fn conn(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

impl Vault {
    /// Makes a new vault file with an empty schema.
    ///
    /// # Errors
    /// [`StoreError::Database`] when the file exists; a failed attempt leaves no file.
    pub async fn create(path: &Path, key: &VaultKey, metrics: &Metrics) -> Result<Self, StoreError> {
        create_file(path)?;
        let vault = Self::start(Database::vault(path, key), IDLE_CLOSE, metrics).await;
        if vault.is_err() {
            remove_database(path)?;
        }
        vault
    }

    /// Opens a vault file and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the key is wrong or the file missing or damaged; it is left as it is.
    pub async fn open(path: &Path, key: &VaultKey, metrics: &Metrics) -> Result<Self, StoreError> {
        // SQLite would take an empty file for a new database and the wrong key for its key.
        let length = tokio::fs::metadata(path).await.map(|file| file.len()).unwrap_or(0);
        if length == 0 {
            return Err(StoreError::Corrupt);
        }
        Self::start(Database::vault(path, key), IDLE_CLOSE, metrics).await
    }

    async fn start(database: Database, idle: Duration, metrics: &Metrics) -> Result<Self, StoreError> {
        let mut connection = database.connect().await?;
        migrate(&mut connection, &VAULT_MIGRATIONS).await?;
        let (feed_sender, feed) = watch::channel(newest_feed_seq(&mut connection).await?);
        let (queue, commands) = mpsc::channel(QUEUE);
        let (notices, _) = broadcast::channel(NOTICES);
        let readers = database.readers();
        let outlets = Outlets { feed: feed_sender, notices: notices.clone(), metrics: metrics.clone() };
        let writer = Writer::new(database, connection, idle, commands, outlets);
        tokio::spawn(writer.run());
        Ok(Self {
            inner: Arc::new(Inner {
                steps: AtomicU64::new(0),
                queue,
                readers,
                feed,
                notices,
                #[cfg(feature = "testing")]
                failpoint: super::failpoint::Failpoint::default(),
            }),
        })
    }

    /// Runs `step` in the next durable transaction; returns when that is on the disk.
    ///
    /// Steps of concurrent callers share one commit. An error rolls back this step only. A step that
    /// was queued runs, even when its caller stops waiting.
    ///
    /// # Errors
    /// The step's own, or [`StoreError`] when the transaction failed as a whole: then nothing of it holds.
    pub async fn write<T, E, F>(&self, step: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'t> FnOnce(&'t mut WriteTx<'_>) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    {
        #[cfg(feature = "testing")]
        let fate = self.inner.failpoint.meets(std::any::type_name::<F>());
        #[cfg(feature = "testing")]
        if fate == Some(super::At::Before) {
            return self.die().await;
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Step(Box::new(Pending { step, reply }));
        self.inner.queue.send(command).await.map_err(|_| StoreError::Closed)?;
        self.inner.steps.fetch_add(1, Ordering::Relaxed);
        let answer = answer.await;
        #[cfg(feature = "testing")]
        if fate == Some(super::At::After) {
            return self.die().await;
        }
        answer.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// Dies beside the step of this kind that comes after `passing` others of it. A kind is part of the path of
    /// the code that asks for the step.
    #[cfg(feature = "testing")]
    pub fn die_at(&self, step: &'static str, at: super::At, passing: u32) {
        self.inner.failpoint.arm(step, at, passing);
    }

    /// Takes back what [`Self::die_at`] asked for, where that has not happened yet.
    #[cfg(feature = "testing")]
    pub fn live_on(&self) {
        self.inner.failpoint.disarm();
    }

    /// Whether it died.
    #[cfg(feature = "testing")]
    pub fn is_dead(&self) -> bool {
        self.inner.failpoint.is_dead()
    }

    /// The writer stops where it is; whoever asked for the step never hears of it, and does not keep it from
    /// stopping by going away.
    #[cfg(feature = "testing")]
    async fn die<T>(&self) -> T {
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let (dead, died) = oneshot::channel();
            let _ = inner.queue.send(Command::Die(dead)).await;
            // What was on its way to the disk is there before anyone opens the vault anew.
            let _ = died.await;
            inner.failpoint.die();
        });
        std::future::pending().await
    }

    /// How many steps were queued since the vault was opened: while it stays, nothing changes.
    pub fn steps(&self) -> u64 {
        self.inner.steps.load(Ordering::Relaxed)
    }

    /// A connection for reading what is committed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(&self) -> Result<Reader, StoreError> {
        // Waiting for a connection takes 3 KiB, in every sleeping task that may ever read.
        Ok(Reader { connection: Box::pin(self.inner.readers.acquire()).await? })
    }

    /// Reads what is committed, with little delay: over the writing connection while nobody waits for it.
    /// There what was just written is still at hand, while a reader fetches and decrypts it anew.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn peek<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut SqliteConnection) -> BoxFuture<'t, Result<T, StoreError>> + Send + 'static,
    {
        if self.inner.queue.capacity() < self.inner.queue.max_capacity() {
            return read(self.read().await?.conn()).await;
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Peek(Box::new(Pending { step: read, reply }));
        self.inner.queue.send(command).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// The newest seq of the feed; changes after a commit that added rows.
    pub fn feed_seq(&self) -> watch::Receiver<u64> {
        self.inner.feed.clone()
    }

    /// What commits change from now on. A receiver that lags must look at everything.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.inner.notices.subscribe()
    }

    /// Moves the log into the file and empties it, so that what was deleted is gone; false when a reader
    /// was in the way.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn empty_log(&self) -> Result<bool, StoreError> {
        let (done, emptied) = oneshot::channel();
        self.inner.queue.send(Command::EmptyLog(done)).await.map_err(|_| StoreError::Closed)?;
        emptied.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Finishes what is queued, empties the log into the file, and closes it.
    pub async fn close(&self) {
        if timeout(READERS_GRACE, self.inner.readers.close()).await.is_err() {
            tracing::warn!("a vault was closed under a reader");
        }
        let (done, closed) = oneshot::channel();
        if self.inner.queue.send(Command::Close(done)).await.is_ok() {
            // An error means that the writer is gone: closed as well.
            let _ = closed.await;
        }
    }
}

async fn newest_feed_seq(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    // Not max(seq): the newest rows may be pruned, and seq never goes back.
    let seq: Option<i64> = query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'feed'")
        .fetch_optional(connection)
        .await?;
    Ok(seq.and_then(|seq| seq.try_into().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{self, Write},
        sync::Mutex,
    };

    use futures::future::join_all;
    use sqlx::{ConnectOptions as _, query, sqlite::SqliteConnectOptions};
    use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

    use super::*;
    use crate::{clock::random, id::GroupId};

    const CANARY: &str = "a-sentence-that-must-not-be-found";

    struct Fixture {
        directory: tempfile::TempDir,
        key: VaultKey,
        vault: Vault,
        metrics: Metrics,
    }

    impl Fixture {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let key = VaultKey::new(random());
            let metrics = Metrics::default();
            let vault = Vault::create(&directory.path().join("a.db"), &key, &metrics).await.unwrap();
            Self { directory, key, vault, metrics }
        }

        fn path(&self) -> std::path::PathBuf {
            self.directory.path().join("a.db")
        }

        async fn add(&self, name: &str) -> Result<(), StoreError> {
            add(&self.vault, name.to_owned()).await
        }

        async fn names(&self) -> Vec<String> {
            let mut reader = self.vault.read().await.unwrap();
            query_scalar("SELECT device_name FROM login ORDER BY device_name")
                .fetch_all(reader.conn())
                .await
                .unwrap()
        }
    }

    async fn insert(tx: &mut WriteTx<'_>, name: String) -> Result<(), StoreError> {
        query("INSERT INTO login (session_id, device_name, created_at) VALUES (?, ?, 0)")
            .bind(rand::random::<[u8; 16]>().to_vec())
            .bind(name)
            .execute(tx.conn())
            .await?;
        Ok(())
    }

    async fn add(vault: &Vault, name: String) -> Result<(), StoreError> {
        vault.write(|tx| Box::pin(async move { insert(tx, name).await })).await
    }

    /// Commits in the log since it was last emptied: a frame of a commit tells the database's size.
    fn commits_in_log(database: &Path) -> usize {
        let log = fs::read(database.with_extension("db-wal")).unwrap();
        log[32..].chunks(24 + 4096).filter(|frame| frame[4..8] != [0; 4]).count()
    }

    #[tokio::test]
    async fn opens_with_its_key_only_and_stays_untouched_otherwise() {
        let fixture = Fixture::new().await;
        fixture.add(CANARY).await.unwrap();
        fixture.vault.close().await;
        let before = fs::read(fixture.path()).unwrap();

        let refused = Vault::open(&fixture.path(), &VaultKey::new(random()), &Metrics::default()).await;
        assert_eq!(refused.err(), Some(StoreError::Corrupt));
        assert!(fs::read(fixture.path()).unwrap() == before);

        let vault = Vault::open(&fixture.path(), &fixture.key, &Metrics::default()).await.unwrap();
        let mut reader = vault.read().await.unwrap();
        let name: String =
            query_scalar("SELECT device_name FROM login").fetch_one(reader.conn()).await.unwrap();
        assert_eq!(name, CANARY);
    }

    #[tokio::test]
    async fn nothing_in_the_directory_is_plaintext() {
        let fixture = Fixture::new().await;
        fixture.add(CANARY).await.unwrap();
        // While open, so that the log is looked at as well.
        let mut files = 0;
        for file in fs::read_dir(fixture.directory.path()).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            for needle in [CANARY.as_bytes(), b"SQLite format 3", b"CREATE TABLE", fixture.key.as_bytes()] {
                assert!(!bytes.windows(needle.len()).any(|window| window == needle));
            }
            files += 1;
        }
        assert!(files >= 2);
    }

    #[tokio::test]
    async fn missing_empty_and_damaged_files_are_corrupt() {
        let fixture = Fixture::new().await;
        fixture.vault.close().await;
        let empty = fixture.directory.path().join("empty.db");
        fs::write(&empty, []).unwrap();
        let damaged = fixture.directory.path().join("damaged.db");
        let mut bytes = fs::read(fixture.path()).unwrap();
        bytes[100] ^= 1;
        fs::write(&damaged, &bytes).unwrap();
        for path in [empty.clone(), fixture.directory.path().join("missing.db"), damaged.clone()] {
            assert_eq!(
                Vault::open(&path, &fixture.key, &Metrics::default()).await.err(),
                Some(StoreError::Corrupt)
            );
        }
        assert!(fs::read(&damaged).unwrap() == bytes);
        assert!(fs::read(&empty).unwrap().is_empty());
    }

    #[tokio::test]
    async fn create_refuses_an_existing_file() {
        let fixture = Fixture::new().await;
        let before = fs::read(fixture.path()).unwrap();
        assert!(Vault::create(&fixture.path(), &fixture.key, &Metrics::default()).await.is_err());
        assert!(fs::read(fixture.path()).unwrap() == before);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn files_are_for_the_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let fixture = Fixture::new().await;
        for file in fs::read_dir(fixture.directory.path()).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[tokio::test]
    async fn concurrent_steps_share_commits_and_fail_alone() {
        let fixture = Fixture::new().await;
        let before = commits_in_log(&fixture.path());
        let steps = (0..1_000).map(|number| {
            let vault = fixture.vault.clone();
            async move {
                vault
                    .write(move |tx| {
                        Box::pin(async move {
                            insert(tx, format!("{number:04}")).await?;
                            tx.notify(Notice::Feed(number + 1));
                            if number % 10 == 3 { Err(StoreError::Corrupt) } else { Ok(number) }
                        })
                    })
                    .await
            }
        });
        for (number, result) in join_all(steps).await.into_iter().enumerate() {
            let number = number as u64;
            assert_eq!(result, if number % 10 == 3 { Err(StoreError::Corrupt) } else { Ok(number) });
        }
        let kept = fixture.names().await;
        assert_eq!(kept.len(), 900);
        assert!(kept.iter().all(|name| !name.ends_with('3')));
        let batches = fixture.metrics.write_transactions.get();
        assert!((2..=301).contains(&batches), "{batches} transactions counted");
        let commits = commits_in_log(&fixture.path()) - before;
        assert!((1..=300).contains(&commits), "{commits} commits for 1000 steps");
        assert_eq!(*fixture.vault.feed_seq().borrow(), 1_000);
    }

    #[tokio::test]
    async fn notices_go_out_for_what_was_committed_only() {
        let fixture = Fixture::new().await;
        let mut notices = fixture.vault.notices();
        let group = GroupId([7; 16]);
        let failed: Result<(), StoreError> = fixture
            .vault
            .write(|tx| {
                tx.notify(Notice::Feed(99));
                Box::pin(async { Err(StoreError::Database) })
            })
            .await;
        assert!(failed.is_err());
        let kept: Result<(), StoreError> = fixture
            .vault
            .write(move |tx| {
                for notice in [Notice::Feed(4), Notice::Outbox(group), Notice::Feed(5), Notice::Outbox(group)]
                {
                    tx.notify(notice);
                }
                Box::pin(async { Ok(()) })
            })
            .await;
        assert!(kept.is_ok());
        assert_eq!(notices.try_recv(), Ok(Notice::Outbox(group)));
        assert_eq!(notices.try_recv(), Ok(Notice::Feed(5)));
        assert!(notices.try_recv().is_err());
        assert_eq!(*fixture.vault.feed_seq().borrow(), 5);
    }

    #[tokio::test]
    async fn a_panicking_step_is_undone_and_the_writer_goes_on() {
        let fixture = Fixture::new().await;
        let panicking = fixture.vault.write(|tx| {
            Box::pin(async move {
                insert(tx, "lost".to_owned()).await?;
                let row = query("SELECT 1 WHERE 0").fetch_optional(tx.conn()).await?;
                row.expect("a defect");
                Ok::<_, StoreError>(())
            })
        });
        let (panicked, added) = tokio::join!(panicking, fixture.add("kept"));
        assert_eq!(panicked, Err(StoreError::Database));
        added.unwrap();
        assert_eq!(fixture.names().await, ["kept"]);
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_leaves_the_data() {
        let fixture = Fixture::new().await;
        fixture.add("before").await.unwrap();
        let big = "x".repeat(1 << 20);
        fill_the_disk(&fixture.vault).await;
        assert_eq!(fixture.add(&big).await, Err(StoreError::DiskFull));
        assert_eq!(fixture.names().await, ["before"]);

        // Among others: SQLite undoes the whole transaction, and each of them is told.
        let ((), neighbour, failed) =
            tokio::join!(fill_the_disk(&fixture.vault), fixture.add("neighbour"), fixture.add(&big),);
        assert_eq!(failed, Err(StoreError::DiskFull));
        assert!(matches!(neighbour, Ok(()) | Err(StoreError::DiskFull)));
        let mut expected = vec!["before"];
        expected.extend(neighbour.is_ok().then_some("neighbour"));
        assert_eq!(fixture.names().await, expected);

        // A new connection knows nothing of the limit: there is room again.
        fixture.add("after").await.unwrap();
        assert!(fixture.names().await.contains(&"after".to_owned()));
    }

    async fn fill_the_disk(vault: &Vault) {
        let filled = vault.write(|tx| {
            Box::pin(async move {
                // A limit below the present size means the present size.
                query("PRAGMA max_page_count = 1").execute(tx.conn()).await?;
                Ok::<_, StoreError>(())
            })
        });
        // The answer of its transaction, which may be the one that fails.
        let _ = filled.await;
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let fixture = Fixture::new().await;
        let mut reader = fixture.vault.read().await.unwrap();
        assert!(query("DELETE FROM login").execute(reader.conn()).await.is_err());
    }

    #[tokio::test]
    async fn closing_finishes_what_is_queued_and_refuses_the_rest() {
        let fixture = Fixture::new().await;
        let mut queued: Vec<_> =
            (0..20).map(|number| Box::pin(fixture.add(["a", "b"][number % 2]))).collect();
        // Polled once, each is in the queue before the vault is told to close.
        for step in &mut queued {
            assert!(futures::poll!(step).is_pending());
        }
        let (results, ()) = tokio::join!(join_all(queued), fixture.vault.close());
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(fixture.add("late").await, Err(StoreError::Closed));
        assert_eq!(fixture.vault.read().await.err(), Some(StoreError::Closed));
        fixture.vault.close().await;
        assert!(!fixture.path().with_extension("db-wal").exists());

        let vault = Vault::open(&fixture.path(), &fixture.key, &Metrics::default()).await.unwrap();
        let mut reader = vault.read().await.unwrap();
        let count: i64 = query_scalar("SELECT count(*) FROM login").fetch_one(reader.conn()).await.unwrap();
        assert_eq!(count, 20);
    }

    #[tokio::test]
    async fn the_connection_is_given_back_when_idle_and_comes_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        create_file(&path).unwrap();
        let database = Database::vault(&path, &VaultKey::new(random()));
        let vault = Vault::start(database, Duration::from_millis(1), &Metrics::default()).await.unwrap();
        let log = path.with_extension("db-wal");
        let given_back = async {
            while log.exists() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), given_back).await.unwrap();
        add(&vault, "again".to_owned()).await.unwrap();
        let mut reader = vault.read().await.unwrap();
        let name: String =
            query_scalar("SELECT device_name FROM login").fetch_one(reader.conn()).await.unwrap();
        assert_eq!(name, "again");
    }

    #[tokio::test]
    async fn the_feed_goes_on_where_it_was_after_pruning() {
        let fixture = Fixture::new().await;
        let filled = fixture.vault.write(|tx| {
            Box::pin(async move {
                query("INSERT INTO feed (seq, at, kind, subject) VALUES (41, 0, 5, x'')")
                    .execute(tx.conn())
                    .await?;
                query("DELETE FROM feed").execute(tx.conn()).await?;
                Ok::<_, StoreError>(())
            })
        });
        filled.await.unwrap();
        fixture.vault.close().await;
        let vault = Vault::open(&fixture.path(), &fixture.key, &Metrics::default()).await.unwrap();
        assert_eq!(*vault.feed_seq().borrow(), 41);
    }

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Captured {
        type Writer = Self;
        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[tokio::test]
    async fn no_key_is_logged_at_any_level() {
        let captured = Captured::default();
        // For all threads: connections live on threads of their own.
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("sqlx=trace,sqlx_core=trace,sqlx_sqlite=trace,spacepanda=trace"))
            .with_writer(captured.clone())
            .init();
        let fixture = Fixture::new().await;
        fixture.add("someone's phone").await.unwrap();
        fixture.names().await;
        fixture.vault.close().await;
        let _ = Vault::open(&fixture.path(), &VaultKey::new(random()), &Metrics::default()).await;
        Database::vault(&fixture.path(), &fixture.key).connect().await.unwrap();

        // Shows that such a log would have been caught.
        let mut talkative = SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        query("SELECT 'shown'").execute(&mut talkative).await.unwrap();
        let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("SELECT 'shown'"));
        assert!(!log.contains("PRAGMA key"));
        assert!(!log.contains(fixture.key.hex().as_str()));
    }

    #[tokio::test]
    async fn what_was_deleted_leaves_the_log() {
        let fixture = Fixture::new().await;
        fixture.add("a secret").await.unwrap();
        let log = fixture.path().with_extension("db-wal");
        assert!(fs::metadata(&log).unwrap().len() > 0);
        assert!(fixture.vault.empty_log().await.unwrap());
        assert_eq!(fs::metadata(&log).unwrap().len(), 0);
        fixture.add("goes on").await.unwrap();
        assert_eq!(fixture.names().await.len(), 2);
    }

    /// Started by the next test as a process of its own, whose stderr can be read.
    #[tokio::test]
    #[ignore = "only as a child process"]
    async fn child_opens_with_a_wrong_key() {
        let fixture = Fixture::new().await;
        fixture.vault.close().await;
        let wrong = Vault::open(&fixture.path(), &VaultKey::new(random()), &Metrics::default()).await;
        assert_eq!(wrong.err(), Some(StoreError::Corrupt));
    }

    #[test]
    fn a_wrong_key_prints_nothing() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "store::vault::tests::child_opens_with_a_wrong_key",
                "--nocapture",
            ])
            .output()
            .unwrap();
        let (printed, said) =
            (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
        assert!(child.status.success() && printed.contains("1 passed"), "{printed}{said}");
        assert!(!said.contains("sqlcipher"), "{said}");
    }
}
