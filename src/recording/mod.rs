//! From the first byte of a session to its sealed file: the spool while it lives, the seal, the replay.
//!
//! Always true: nothing is forwarded before [`Tape::record`] has returned; a spool that could not be
//! written or synced once has failed for good; a spool is unlinked only after its sealed file is
//! durable and the caller's transaction has said so; no path is made of a word that a user gave.
//! Only [`file`] writes spools, only [`seal`] writes sealed files.

mod end;
mod file;
mod frames;
mod layout;
mod play;
mod read;
mod recorder;
mod recover;
mod replay;
mod screen;
mod seal;
mod spool;
mod visible;
mod withhold;
mod writers;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::id::{Digest, SessionId};
use crate::time::Timestamp;
use crate::transcript::Outcome;

pub use crate::transcript::Header;
pub use end::Ended;
pub use layout::locate;
pub use play::{Player, Schedule, Step};
pub use recorder::{Recorder, Tape};
pub use replay::{Replay, ReplayError};
pub use screen::Screen;
pub use visible::{is_unseen, visible};

/// The recording side of one node: a directory and a few writer threads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recordings {
    node: Arc<Node>,
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub dir: PathBuf,
    /// Free bytes below which no new session begins (FC4).
    pub free_floor: u64,
    /// Non-terminal bytes of one stream kept in full; beyond, length and SHA-256 per chunk.
    pub bulk_cap: u64,
    pub writers: usize,
}

/// What all recordings of one directory share; its writer threads end with it.
#[derive(Debug)]
struct Node {
    settings: Settings,
    layout: layout::Layout,
    pool: Arc<writers::Pool>,
    /// Sealing is processor-bound; more at once would only take the cores from the relays.
    seals: Arc<Semaphore>,
    /// Spools that somebody in this process still writes or seals: `recover` leaves them alone.
    live: layout::Live,
    _lock: File,
}

const PARALLEL_SEALS: usize = 2;

impl Drop for Node {
    fn drop(&mut self) {
        self.pool.stop();
    }
}

impl Recordings {
    /// Opens the directory for this process alone, makes what is missing in it, starts the writers.
    pub fn open(settings: Settings) -> Result<Self, RecordError> {
        let layout = layout::Layout::open(&settings.dir)?;
        let lock = layout.lock()?;
        let pool = writers::Pool::start(settings.writers)
            .map_err(|source| RecordError::io("could not start the writers of", &settings.dir, source))?;
        let node =
            Node { layout, pool, seals: Arc::new(Semaphore::new(PARALLEL_SEALS)), live: layout::Live::default(), _lock: lock, settings };
        Ok(Self { node: Arc::new(node) })
    }

    /// Creates the spool; returns when its header is durable (FC1).
    pub async fn begin(&self, header: Header) -> Result<Recorder, RecordError> {
        let node = Arc::clone(&self.node);
        // If the caller goes away meanwhile, the recorder is dropped in there and the spool stays behind
        // as any interrupted one.
        off_the_runtime(move || recorder::begin(node, header)).await?
    }

    /// Seals what the last boot left behind: cut at the last good record, as interrupted. To be called
    /// before the first `begin`; spools of this process's running sessions are left alone.
    ///
    /// A spool that is no spool is set aside (see [`Recordings::set_aside`]); one that cannot be sealed
    /// now, because the disk is full or broken, stays for the next time. Both are logged as errors.
    pub async fn recover(&self, is_sealed: &(dyn Fn(SessionId) -> bool + Send + Sync)) -> Result<Vec<Sealed>, RecordError> {
        recover::recover(&self.node, is_sealed).await
    }

    /// Removes the spool of a sealed recording. Only after the transaction that wrote `sealed`: until
    /// then the spool is the recording.
    pub fn unlink_spool(&self, session: SessionId) -> Result<(), RecordError> {
        self.node.layout.unlink_spool(session)
    }

    /// Lists spools whose header could not be read; they were renamed to `*.bad` and lost nothing.
    pub fn set_aside(&self) -> Result<Vec<PathBuf>, RecordError> {
        self.node.layout.set_aside()
    }

    /// Opens a sealed file by the name that [`Sealed::file`] gave it; any other name is not found.
    pub fn body(&self, file: &str) -> io::Result<File> {
        self.node.layout.body(file)
    }

    /// Where a session's sealed file is, if there is one.
    pub fn locate(&self, session: SessionId) -> Option<PathBuf> {
        locate(&self.node.settings.dir, session)
    }
}

#[derive(Debug, Clone)]
pub struct Sealed {
    pub session: SessionId,
    pub outcome: Outcome,
    /// File name below the recordings' directory.
    pub file: String,
    pub sha256: Digest,
    pub bytes: u64,
    pub ended: Timestamp,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordError {
    #[error("{doing} {path}")]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("only {free} bytes are free below {path}, {floor} are kept")]
    DiskFloor { path: PathBuf, free: u64, floor: u64 },
    #[error("the spool {path} cannot be read: {why}")]
    BadSpool { path: PathBuf, why: String },
    #[error("another process records into {path}: stop it, or give this one a directory of its own")]
    InUse { path: PathBuf },
    #[error("{path} can be opened by others: chmod 700 {path}")]
    Loose { path: PathBuf },
    #[error("the recorder has stopped")]
    Stopped,
}

impl RecordError {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        RecordError::Io { doing, path: path.to_owned(), source: Arc::new(source) }
    }
}

/// Runs what may block on a disk. A panic in there is a bug; it stops this recording, nothing else.
async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RecordError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| RecordError::Stopped)
}

#[cfg(test)]
mod tests;
