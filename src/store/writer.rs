//! The one task that writes. It owns the only writing connection; whoever wants a change queues a verb.
//!
//! It takes what is queued (at most [`BATCH`]), begins, runs each verb under a savepoint, commits once
//! and only then replies. A verb that fails is rolled back alone, its audit rows with it; a COMMIT that
//! fails fails every verb of the batch. Hints go out after COMMIT, so that who reads on a hint finds
//! what it hints at. Verbs run one after another: nothing changes under a verb between its read and
//! its write.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use super::wake::Wake;
use crate::id::RequestId;

/// Verbs under one COMMIT. More would make the first wait for the last.
const BATCH: usize = 64;
/// Verbs that may be queued. Beyond, callers wait, and give up at [`super::DEADLINE`].
pub(super) const QUEUE: usize = 256;

pub(crate) type Running<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// Why a batch failed as a whole; every verb of it gets the same.
pub(super) type Failed = Arc<sqlx::Error>;

/// A queued verb: given the transaction it runs, given a failure it passes that on.
pub(super) type Job = Box<dyn for<'c> FnOnce(Result<&'c mut Tx, Failed>) -> Running<'c, Done> + Send>;

/// A verb that has run and waits for the COMMIT.
pub(super) struct Done {
    /// Whether its changes stay.
    pub keep: bool,
    pub reply: Box<dyn FnOnce(Result<(), Failed>) + Send>,
}

pub(super) enum Command {
    Run(Job),
    Close(oneshot::Sender<()>),
}

/// The open transaction, as the verbs see it. Only the writer has one.
#[derive(Debug)]
pub(crate) struct Tx {
    pub(super) connection: SqliteConnection,
    woken: Vec<RequestId>,
}

impl Tx {
    /// Tells whoever waits for this request to read it again, once this is committed.
    pub(crate) fn wake(&mut self, id: RequestId) {
        self.woken.push(id);
    }

    async fn say(&mut self, sql: &'static str) -> Result<(), Failed> {
        sqlx::query(sql).execute(&mut self.connection).await.map(drop).map_err(Arc::new)
    }
}

pub(super) struct Writer {
    options: SqliteConnectOptions,
    /// `None` after a failure that left the connection in doubt; the next batch connects anew.
    tx: Option<Tx>,
    wake: Wake,
}

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions, connection: SqliteConnection, wake: Wake) -> Self {
        Self { options, tx: Some(Tx { connection, woken: Vec::new() }), wake }
    }

    /// Runs until it is told to close or nobody can queue anything any more.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut taken = Vec::with_capacity(BATCH);
        let mut closing = None;
        while closing.is_none() && queue.recv_many(&mut taken, BATCH).await > 0 {
            let mut batch = Vec::with_capacity(taken.len());
            for command in taken.drain(..) {
                match command {
                    Command::Run(job) if closing.is_none() => batch.push(job),
                    Command::Run(_) => {} // dropped: its caller reads `Stopped`
                    Command::Close(told) => closing = Some(told),
                }
            }
            if !batch.is_empty() {
                self.batch(batch).await;
            }
        }
        queue.close();
        drop(queue);
        if let Some(tx) = self.tx
            && let Err(error) = tx.connection.close().await
        {
            tracing::warn!(%error, "the database did not close cleanly");
        }
        if let Some(told) = closing {
            told.send(()).ok();
        }
    }

    async fn batch(&mut self, jobs: Vec<Job>) {
        let mut replies = Vec::with_capacity(jobs.len());
        let committed = match self.begun().await {
            Ok(mut tx) => {
                let outcome = run_all(&mut tx, jobs, &mut replies).await;
                match &outcome {
                    Ok(()) => self.wake.all(tx.woken.drain(..)),
                    Err(_) => tx.woken.clear(),
                }
                // After a failure the transaction may be open or gone; what cannot be told is closed.
                if outcome.is_ok() || tx.say("rollback").await.is_ok() {
                    self.tx = Some(tx);
                }
                outcome
            }
            Err(failed) => {
                for job in jobs {
                    replies.push(job(Err(failed.clone())).await.reply);
                }
                Err(failed)
            }
        };
        if let Err(error) = &committed {
            tracing::error!(%error, changes = replies.len(), "changes of the state were not committed");
        }
        for reply in replies {
            reply(committed.clone());
        }
    }

    async fn begun(&mut self) -> Result<Tx, Failed> {
        let mut tx = match self.tx.take() {
            Some(tx) => tx,
            None => Tx { connection: self.options.connect().await.map_err(Arc::new)?, woken: Vec::new() },
        };
        tx.say("begin immediate").await?;
        Ok(tx)
    }
}

/// Tells a caller whether its change was committed.
type Reply = Box<dyn FnOnce(Result<(), Failed>) + Send>;

async fn run_all(tx: &mut Tx, jobs: Vec<Job>, replies: &mut Vec<Reply>) -> Result<(), Failed> {
    let mut so_far: Result<(), Failed> = Ok(());
    for job in jobs {
        let before = tx.woken.len();
        if so_far.is_ok() {
            so_far = tx.say("savepoint verb").await;
        }
        if let Err(failed) = &so_far {
            replies.push(job(Err(failed.clone())).await.reply);
            continue;
        }
        let done = job(Ok(&mut *tx)).await;
        if !done.keep {
            tx.woken.truncate(before);
            // SQLite undoes the whole transaction by itself on some errors (a full disk, an I/O error);
            // then this savepoint is gone, this fails, and with it the batch.
            so_far = tx.say("rollback to verb").await;
        }
        if so_far.is_ok() {
            so_far = tx.say("release verb").await;
        }
        replies.push(done.reply);
    }
    match so_far {
        Ok(()) => tx.say("commit").await,
        Err(failed) => Err(failed),
    }
}

/// Wraps a verb so that its result goes to `tell` after the COMMIT.
pub(super) fn job<T, E>(
    verb: impl for<'c> FnOnce(&'c mut Tx) -> Running<'c, Result<T, E>> + Send + 'static,
    tell: oneshot::Sender<Result<T, E>>,
) -> Job
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    Box::new(move |tx| {
        Box::pin(async move {
            let result = match tx {
                Ok(tx) => verb(tx).await,
                Err(failed) => Err(StoreError::NotCommitted(failed).into()),
            };
            let keep = result.is_ok();
            let reply = Box::new(move |committed: Result<(), Failed>| {
                let result = result.and_then(|value| committed.map(|()| value).map_err(|failed| StoreError::NotCommitted(failed).into()));
                // Who no longer waits has given up at the deadline.
                tell.send(result).ok();
            });
            Done { keep, reply }
        })
    })
}
