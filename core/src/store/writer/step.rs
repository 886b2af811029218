//! What a writer is asked to run, with its caller's types put away.

use std::panic::AssertUnwindSafe;

use futures::{FutureExt as _, future::BoxFuture};
use sqlx::SqliteConnection;
use tokio::sync::oneshot;

use super::WriteTx;
use crate::store::StoreError;

/// Tells a caller its step's result, once the transaction's own is known.
pub(super) type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// How a step ended.
pub(in crate::store) struct Verdict {
    pub(super) keep: bool,
    pub(super) answer: Answer,
}

/// A queued step with its caller's types put away.
pub(in crate::store) trait Step: Send {
    fn run<'t>(self: Box<Self>, tx: &'t mut WriteTx<'_>) -> BoxFuture<'t, Verdict>;
    fn refuse(self: Box<Self>, error: StoreError);
}

/// A step and the caller who waits for it.
pub(in crate::store) struct Pending<T, E, F> {
    pub(in crate::store) step: F,
    pub(in crate::store) reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Step for Pending<T, E, F>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
    F: for<'t> FnOnce(&'t mut WriteTx<'_>) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
{
    fn run<'t>(self: Box<Self>, tx: &'t mut WriteTx<'_>) -> BoxFuture<'t, Verdict> {
        let Self { step, reply } = *self;
        // The call itself is inside, too: a closure can panic before it has made its future.
        let guarded = AssertUnwindSafe(async move { step(tx).await }).catch_unwind();
        Box::pin(async move {
            let outcome = guarded.await.unwrap_or_else(|_| {
                tracing::error!("a write step panicked; it was rolled back");
                Err(StoreError::Database.into())
            });
            let keep = outcome.is_ok();
            let answer = move |committed: Result<(), StoreError>| {
                // A caller who stopped waiting does not undo the step.
                let _ = reply.send(committed.map_err(E::from).and(outcome));
            };
            Verdict { keep, answer: Box::new(answer) }
        })
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error.into()));
    }
}

/// Reads what is committed, over the connection that wrote it.
pub(in crate::store) trait Peek: Send {
    fn run<'t>(self: Box<Self>, connection: &'t mut SqliteConnection) -> BoxFuture<'t, ()>;
    fn refuse(self: Box<Self>, error: StoreError);
}

impl<T, F> Peek for Pending<T, StoreError, F>
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t mut SqliteConnection) -> BoxFuture<'t, Result<T, StoreError>> + Send + 'static,
{
    fn run<'t>(self: Box<Self>, connection: &'t mut SqliteConnection) -> BoxFuture<'t, ()> {
        let Self { step, reply } = *self;
        let guarded = AssertUnwindSafe(async move { step(connection).await }).catch_unwind();
        Box::pin(async move {
            // A caller who stopped waiting needs no answer.
            let _ = reply.send(guarded.await.unwrap_or(Err(StoreError::Database)));
        })
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}
