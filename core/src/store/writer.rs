//! The one writer of a vault: a task that owns the only writing connection.
//!
//! Steps that wait at the same time share one durable commit (a commit costs a disk flush, a step
//! next to nothing). Knows no subject's SQL, and never waits for anything but the database.

mod resting;
mod step;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use sqlx::{Connection as _, SqliteConnection, query, query_scalar};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::timeout,
};

pub(super) use self::step::{Peek, Pending, Step};
use self::{
    resting::Resting,
    step::{Answer, Verdict},
};
use super::{StoreError, connect::Database};
use crate::{id::GroupId, metrics::Metrics};

/// Steps that share one commit; more wait for the next.
const MAX_STEPS: usize = 256;
/// Time that steps of one commit may take together: what the first of them waits longer.
const MAX_WORK: Duration = Duration::from_millis(8);

/// What a committed transaction changed, for those who act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notice {
    /// The feed has rows up to this seq.
    Feed(u64),
    /// The group has something to deliver.
    Outbox(GroupId),
}

/// A step's view of the transaction it runs in.
///
/// A step returns the error of a failed statement and begins no transaction of its own: the database
/// may have undone everything already.
pub struct WriteTx<'c> {
    connection: &'c mut SqliteConnection,
    notices: &'c mut Vec<Notice>,
}

impl WriteTx<'_> {
    /// The connection, inside the transaction.
    pub fn conn(&mut self) -> &mut SqliteConnection {
        self.connection
    }

    /// Tells this to others once, and only if, the transaction is durable.
    pub fn notify(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    /// Takes a notice back: what it calls for was done in this transaction. The step's last act.
    pub fn answered(&mut self, notice: Notice) {
        self.notices.retain(|told| *told != notice);
    }
}

/// What the writer is asked to do.
pub(super) enum Command {
    /// Run this in the next transaction.
    Step(Box<dyn Step>),
    /// Read between two transactions.
    Peek(Box<dyn Peek>),
    /// Empty the log between two transactions; answer whether it is.
    EmptyLog(oneshot::Sender<Result<bool, StoreError>>),
    /// Write nothing more; answer when that is so.
    #[cfg(feature = "testing")]
    Die(oneshot::Sender<()>),
    /// Finish what is queued, close, and answer.
    Close(oneshot::Sender<()>),
}

/// What runs in one transaction.
#[derive(Default)]
struct Batch {
    answers: Vec<Answer>,
    notices: Vec<Notice>,
}

impl Batch {
    /// Runs a step; says whether its effects are to stay.
    async fn run(&mut self, step: Box<dyn Step>, connection: &mut SqliteConnection) -> bool {
        let before = self.notices.len();
        let Verdict { keep, answer } =
            step.run(&mut WriteTx { connection, notices: &mut self.notices }).await;
        if !keep {
            self.notices.truncate(before);
        }
        self.answers.push(answer);
        keep
    }
}

/// What stands between the next step and the last one.
#[derive(Clone, Copy)]
enum Savepoint {
    /// None was made yet.
    Missing,
    /// A step succeeded since.
    Used,
    /// A step was rolled back to it.
    Fresh,
}

/// Who hears of what was committed.
pub(super) struct Outlets {
    pub(super) feed: watch::Sender<u64>,
    pub(super) notices: broadcast::Sender<Notice>,
    pub(super) metrics: Metrics,
}

/// The task that owns the connection.
pub(super) struct Writer {
    database: Database,
    connection: Option<SqliteConnection>,
    /// Without a step for this long, the connection is closed.
    idle: Duration,
    queue: mpsc::Receiver<Command>,
    outlets: Outlets,
    peeks: Vec<Box<dyn Peek>>,
    emptying: Vec<oneshot::Sender<Result<bool, StoreError>>>,
    closing: Vec<oneshot::Sender<()>>,
    /// Who waits for it to be dead.
    dying: Option<oneshot::Sender<()>>,
}

impl Writer {
    pub(super) fn new(
        database: Database,
        connection: SqliteConnection,
        idle: Duration,
        queue: mpsc::Receiver<Command>,
        outlets: Outlets,
    ) -> Self {
        let connection = Some(connection);
        let (peeks, emptying, closing) = (Vec::new(), Vec::new(), Vec::new());
        Self { database, connection, idle, queue, outlets, peeks, emptying, closing, dying: None }
    }

    /// Runs until closed, or until nobody can ask any more.
    pub(super) async fn run(mut self) {
        while let Some(command) = self.next().await {
            if let Some(step) = self.accept(command) {
                self.transact(step).await;
            }
            if let Some(dead) = self.dying.take() {
                self.disconnect().await;
                let _ = dead.send(());
                return;
            }
            self.answer_peeks().await;
            self.empty_log().await;
        }
        self.finish().await;
    }

    /// The next command; without one for a while, the connection is given back.
    async fn next(&mut self) -> Option<Command> {
        if self.connection.is_some() {
            let resting = Resting::begin();
            match timeout(resting.patience(self.idle), self.queue.recv()).await {
                Ok(command) => return command,
                Err(_) => self.disconnect().await,
            }
        }
        self.queue.recv().await
    }

    fn accept(&mut self, command: Command) -> Option<Box<dyn Step>> {
        match command {
            Command::Step(step) => Some(step),
            Command::Peek(peek) => {
                self.peeks.push(peek);
                None
            }
            Command::EmptyLog(done) => {
                self.emptying.push(done);
                None
            }
            #[cfg(feature = "testing")]
            Command::Die(dead) => {
                self.dying = Some(dead);
                self.queue.close();
                None
            }
            Command::Close(done) => {
                self.closing.push(done);
                self.queue.close();
                None
            }
        }
    }

    /// One transaction: this step and those that wait by then.
    async fn transact(&mut self, first: Box<dyn Step>) {
        let mut connection = match self.begin().await {
            Ok(connection) => connection,
            Err(error) => return first.refuse(error),
        };
        let mut batch = Batch::default();
        let outcome = self.fill(&mut connection, first, &mut batch).await;
        match outcome {
            Ok(()) => self.connection = Some(connection),
            // What it holds is unknown: closing it undoes whatever was not committed.
            Err(_) => close(connection).await,
        }
        if outcome.is_ok() {
            self.outlets.metrics.write_transactions.inc();
            // At most 256 steps.
            self.outlets.metrics.write_batch_size.observe(batch.answers.len() as f64);
            self.publish(batch.notices);
        }
        for answer in batch.answers {
            answer(outcome);
        }
    }

    async fn begin(&mut self) -> Result<SqliteConnection, StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.database.connect().await?,
        };
        match query("BEGIN IMMEDIATE").execute(&mut connection).await {
            Ok(_) => Ok(connection),
            Err(error) => {
                close(connection).await;
                Err(error.into())
            }
        }
    }

    /// Runs steps and commits. An error means that nothing of the batch holds.
    async fn fill(
        &mut self,
        connection: &mut SqliteConnection,
        first: Box<dyn Step>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let started = Instant::now();
        // The first needs no savepoint: there is nothing before it that would have to stay.
        if !batch.run(first, connection).await {
            return undo(connection, "ROLLBACK").await;
        }
        let mut savepoint = Savepoint::Missing;
        while batch.answers.len() < MAX_STEPS && started.elapsed() < MAX_WORK && self.dying.is_none() {
            let Ok(command) = self.queue.try_recv() else { break };
            let Some(step) = self.accept(command) else { continue };
            if let Err(error) = mark(connection, savepoint).await {
                step.refuse(error);
                return Err(error);
            }
            savepoint = Savepoint::Used;
            if !batch.run(step, connection).await {
                undo(connection, "ROLLBACK TO step").await?;
                savepoint = Savepoint::Fresh;
            }
        }
        query("COMMIT").execute(connection).await?;
        Ok(())
    }

    fn publish(&self, notices: Vec<Notice>) {
        let newest = notices.iter().filter_map(|notice| match notice {
            Notice::Feed(seq) => Some(*seq),
            Notice::Outbox(_) => None,
        });
        let newest = newest.max();
        if let Some(newest) = newest {
            self.outlets.feed.send_if_modified(|seq| {
                let newer = newest > *seq;
                *seq = newest.max(*seq);
                newer
            });
        }
        let mut told = HashSet::new();
        for notice in notices {
            let superseded = matches!(notice, Notice::Feed(seq) if Some(seq) != newest);
            if !superseded && told.insert(notice) {
                // Nobody listening is fine.
                let _ = self.outlets.notices.send(notice);
            }
        }
    }

    /// Those who came while a transaction was in the making see what it wrote.
    async fn answer_peeks(&mut self) {
        for peek in std::mem::take(&mut self.peeks) {
            match self.connected().await {
                Ok(connection) => peek.run(connection).await,
                Err(error) => peek.refuse(error),
            }
        }
    }

    async fn connected(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.database.connect().await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// What a transaction in the making keeps waiting: the log is emptied after it.
    async fn empty_log(&mut self) {
        if self.emptying.is_empty() {
            return;
        }
        let emptied = self.checkpoint().await;
        for done in self.emptying.drain(..) {
            let _ = done.send(emptied);
        }
    }

    async fn checkpoint(&mut self) -> Result<bool, StoreError> {
        let connection = self.connected().await?;
        let busy: i64 = query_scalar("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(connection).await?;
        Ok(busy == 0)
    }

    async fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            close(connection).await;
        }
    }

    /// Leaves one file behind, without a log.
    async fn finish(mut self) {
        if let Some(connection) = &mut self.connection
            && let Err(error) = query("PRAGMA wal_checkpoint(TRUNCATE)").execute(connection).await
        {
            tracing::warn!(cause = %StoreError::from(error), "the last checkpoint failed");
        }
        self.disconnect().await;
        for done in self.closing.drain(..) {
            let _ = done.send(());
        }
    }
}

/// Sets the point that a failing step is rolled back to, in one round trip.
async fn mark(connection: &mut SqliteConnection, savepoint: Savepoint) -> Result<(), StoreError> {
    let statement = match savepoint {
        Savepoint::Missing => "SAVEPOINT step",
        Savepoint::Used => "RELEASE step; SAVEPOINT step",
        Savepoint::Fresh => return Ok(()),
    };
    query(statement).execute(connection).await?;
    Ok(())
}

/// Rolls a failed step back.
///
/// # Errors
/// A full disk makes SQLite undo the whole transaction by itself: then the step's cause is everyone's.
async fn undo(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), StoreError> {
    let cause = connection.lock_handle().await?.last_error();
    match (query(statement).execute(connection).await, cause) {
        (Ok(_), _) => Ok(()),
        (Err(_), Some(cause)) => Err(sqlx::Error::Database(Box::new(cause)).into()),
        (Err(error), None) => Err(error.into()),
    }
}

async fn close(connection: SqliteConnection) {
    if let Err(error) = connection.close().await {
        tracing::warn!(cause = %StoreError::from(error), "a connection did not close cleanly");
    }
}
