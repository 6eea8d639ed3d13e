//! The state: SQLite behind one writer task and a few readers. Nothing else speaks SQL.
//!
//! What is true is in the rows, never in memory. Every change of state is one `update … where state =
//! expected` with its audit row in the same transaction; zero rows mean that somebody else was first,
//! a normal answer. A change that cannot be committed has not happened, and its caller is told so.

mod absences;
pub mod audit;
pub mod backup;
pub mod clock;
mod columns;
pub mod decisions;
pub mod disposal;
pub mod factors;
mod glass;
pub mod grants;
mod habit;
pub mod health;
pub mod key_files;
mod kills;
pub mod log;
pub mod policies;
pub mod probes;
pub mod proofs;
pub mod requests;
pub mod restore;
pub mod reviews;
mod schema;
pub mod sessions;
pub mod suspensions;
pub mod waiters;
mod wake;
mod writer;

#[cfg(test)]
mod tests;

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Sqlite, SqlitePool, Transaction};
use tokio::sync::{broadcast, mpsc, oneshot};

pub use audit::{AuditFilter, AuditRow};
pub use sessions::{Disposal, Found, SealedRow, SessionFilter, SessionRow};
pub(crate) use writer::{Running, Tx};

use crate::id::RequestId;
use writer::{Command, Failed, QUEUE, Writer};

/// How long anybody waits for a change or for a reader before giving up.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long SQLite waits for another process that holds the file (a backup, an operator's shell).
const BUSY: Duration = Duration::from_secs(5);
const READERS: u32 = 4;
const URGENT_READERS: u32 = 2;

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    writer: mpsc::Sender<Command>,
    readers: SqlitePool,
    /// For what must not wait behind somebody's listing: whether a session was ended, whether one may open.
    urgent: SqlitePool,
    wake: wake::Wake,
    /// Rows of the audit log when it was opened.
    rows_at_start: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database cannot be opened: {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("others may read the database: {path} has mode {mode:03o}; run: chmod 600 {path}")]
    Mode { path: PathBuf, mode: u32 },
    #[error("the database is of version {found}, this binary knows {known}: use the newer binary, or restore the backup made before it")]
    Newer { found: i64, known: usize },
    #[error("the database is of version {found}, this binary knows {known}: use the binary that serves it")]
    OtherVersion { found: i64, known: i64 },
    #[error("the database was made by a version before the first release: move it away and start anew")]
    Unreleased,
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
    #[error("the change was not committed")]
    NotCommitted(#[source] Failed),
    #[error("the column {column} of a row cannot be read")]
    Column {
        column: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{0} is suspended")]
    Suspended(crate::id::Person),
    #[error("a fresh id was not found in a few tries")]
    Ids,
    #[error("the database did not answer in {} s", DEADLINE.as_secs())]
    Late,
    #[error("the writer has stopped")]
    Stopped,
}

impl Store {
    /// Opens the database, making it (mode 0600) where there is none, and starts its writer.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        keep_private(path)?;
        let open_error = |source: sqlx::Error| StoreError::Open { path: path.to_owned(), source: source.into() };
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY).foreign_keys(true).disable_statement_logging();
        let writing = options.clone().journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let mut connection = writing.connect().await.map_err(open_error)?;
        schema::migrate(&mut connection).await?;
        let reading = options.read_only(true);
        let pool = |connections| {
            let pool = SqlitePoolOptions::new().max_connections(connections).acquire_timeout(DEADLINE).test_before_acquire(false);
            pool.connect_with(reading.clone())
        };
        let readers = pool(READERS).await.map_err(open_error)?;
        let urgent = pool(URGENT_READERS).await.map_err(open_error)?;
        let (writer, queue) = mpsc::channel(QUEUE);
        let wake = wake::Wake::new();
        let rows: i64 = sqlx::query_scalar("select coalesce(max(seq), 0) from audit").fetch_one(&readers).await?;
        tokio::spawn(Writer::new(writing, connection, wake.clone()).run(queue));
        Ok(Self { writer, readers, urgent, wake, rows_at_start: u64::try_from(rows).unwrap_or(0) })
    }

    /// Whether [`Store::open`] would refuse this database, from its file alone: nothing is opened or made.
    /// One that is not there yet is fine.
    pub fn inspect(path: &Path) -> Result<(), StoreError> {
        use std::io::Read;
        let open_error = |source: std::io::Error| StoreError::Open { path: path.to_owned(), source: source.into() };
        let mut file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(open_error(error)),
        };
        let mode = file.metadata().map_err(open_error)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Mode { path: path.to_owned(), mode });
        }
        let mut header = Vec::new();
        file.by_ref().take(schema::HEADER).read_to_end(&mut header).map_err(open_error)?;
        schema::judge(&header)
    }

    /// Finishes what is queued and closes; every later call fails with [`StoreError::Stopped`] or a
    /// closed reader.
    pub async fn close(&self) {
        let (tell, told) = oneshot::channel();
        if self.writer.send(Command::Close(tell)).await.is_ok() {
            told.await.ok();
        }
        self.readers.close().await;
        self.urgent.close().await;
    }

    /// A hint each time some request or grant changed.
    pub fn hints(&self) -> broadcast::Receiver<RequestId> {
        self.wake.listen()
    }

    /// Tells whoever waits for this request to look again, where nothing of it has changed in the state.
    pub(crate) fn hint(&self, id: RequestId) {
        self.wake.all(std::iter::once(id));
    }

    /// Runs a verb in the writer; returns after its COMMIT. [`StoreError::Late`] does not say whether
    /// the change happened: the caller goes on as if it had not, and what it opened stays unused.
    pub(crate) async fn write<T, E>(
        &self,
        verb: impl for<'c> FnOnce(&'c mut Tx) -> Running<'c, Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let committed = async {
            self.writer.send(Command::Run(writer::job(verb, tell))).await.map_err(|_| StoreError::Stopped)?;
            told.await.map_err(|_| StoreError::Stopped)
        };
        match tokio::time::timeout(DEADLINE, committed).await {
            Ok(Ok(result)) => result,
            Ok(Err(stopped)) => Err(stopped.into()),
            Err(_) => Err(StoreError::Late.into()),
        }
    }

    /// Queues a verb that nobody waits for, if there is room: best effort, for `Drop`.
    pub(crate) fn post(&self, verb: impl for<'c> FnOnce(&'c mut Tx) -> Running<'c, Result<(), StoreError>> + Send + 'static) {
        let (tell, _) = oneshot::channel();
        self.writer.try_send(Command::Run(writer::job(verb, tell))).ok();
    }

    /// The same for what must not wait behind others' reading; for a row or two.
    pub(crate) async fn urgent_snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot { tx: self.urgent.begin().await? })
    }

    /// One consistent view of all tables, for reads that belong together.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot { tx: self.readers.begin().await? })
    }
}

/// A read-only transaction; what is read through it is of one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    tx: Transaction<'static, Sqlite>,
}

/// Makes the file with mode 0600 before SQLite does; its `-wal` and `-shm` take over that mode.
fn keep_private(path: &Path) -> Result<(), StoreError> {
    let open_error = |source: std::io::Error| StoreError::Open { path: path.to_owned(), source: source.into() };
    let file =
        std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(open_error)?;
    let mode = file.metadata().map_err(open_error)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(StoreError::Mode { path: path.to_owned(), mode }) }
}
