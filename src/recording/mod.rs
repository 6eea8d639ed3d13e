//! From the first byte of a session to its sealed file: the spool while it lives, the seal, the replay.
//!
//! Always true: nothing is forwarded before [`Tape::record`] has returned; a spool that could not be
//! written or synced once has failed for good; a spool is unlinked only after its sealed file is
//! durable and the caller's transaction has said so; no path is made of a word that a user gave.
//! Only [`file`] writes spools, only [`seal`] writes sealed files.

mod end;
mod erase;
mod file;
mod frames;
mod layout;
mod locked;
mod play;
mod protection;
mod read;
mod recorder;
mod recover;
mod replay;
mod rewrap;
mod room;
mod screen;
mod seal;
mod space;
mod spool;
mod unseal;
pub mod verify;
mod visible;
mod withhold;
mod writers;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};

use crate::audit::LogPoint;
use crate::authority::{SealKey, SealKeyError};
use crate::id::{Digest, SessionId};
use crate::retention::terms::{Due, Terms};
use crate::store::SealedRow;
use crate::time::Timestamp;
use crate::transcript::Outcome;

pub use crate::transcript::Header;
pub use end::Ended;
pub use layout::{Part, locate};
pub use locked::Unlocked;
pub use play::{Player, Schedule, Step};
pub use protection::{Protection, RecoveredBy};
pub use recorder::{Recorder, Tape};
pub use replay::{Replay, ReplayError};
pub use rewrap::NotRewrapped;
pub use room::Room;
pub use screen::Screen;
pub use space::{Space, Spools};
pub use unseal::{UnsealError, Unsealed, open_key_file, unseal};
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
    pub durability: Durability,
    pub protection: Protection,
    /// The bastion's id, for manifests.
    pub bastion: String,
    pub seal_key: SealKey,
    /// The latest signed point of the audit log.
    pub log: watch::Receiver<LogPoint>,
}

/// When what was written reaches the disk itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Within a second.
    #[default]
    Second,
    /// Before it goes on to client or target.
    Strict,
}

/// What all recordings of one directory share; its writer threads end with it.
#[derive(Debug)]
struct Node {
    settings: Settings,
    layout: layout::Layout,
    /// Who reads what is sealed from now on; a reload changes it.
    protection: Mutex<Arc<Protection>>,
    recovery: protection::Recovery,
    pool: Arc<writers::Pool>,
    /// Sealing is processor-bound; more at once would only take the cores from the relays.
    seals: Arc<Semaphore>,
    /// Who changes or destroys key files of sealed recordings: one at a time, so that none is written
    /// after its recording has gone.
    keys: Arc<tokio::sync::Mutex<()>>,
    /// Spools that somebody in this process still writes or seals: `recover` leaves them alone.
    live: layout::Live,
    reserve: room::Reserve,
    /// Spools that no key of this node opens.
    locked: locked::Locked,
    _lock: File,
}

const PARALLEL_SEALS: usize = 2;

/// Manifests, signatures, key files and certificates are smaller.
const MAX_PART: u64 = 256 * 1024;

impl Node {
    fn protection(&self) -> Arc<Protection> {
        Arc::clone(&self.protection.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.pool.stop();
    }
}

impl Recordings {
    /// Makes the directory, or refuses one that others can open.
    pub fn make_dir(dir: &Path) -> Result<(), RecordError> {
        layout::make_private(dir)
    }

    /// Opens the directory for this process alone, makes what is missing in it, starts the writers.
    pub fn open(settings: Settings) -> Result<Self, RecordError> {
        let layout = layout::Layout::open(&settings.dir)?;
        let lock = layout.lock()?;
        let recovery = protection::Recovery::open(&layout.recovery())?;
        settings.protection.key_dirs().iter().try_for_each(|dir| layout::make_private(dir))?;
        let protection = Mutex::new(Arc::new(settings.protection.clone()));
        let pool = writers::Pool::start(settings.writers)
            .map_err(|source| RecordError::io("could not start the writers of", &settings.dir, source))?;
        let node = Node {
            layout,
            protection,
            recovery,
            pool,
            seals: Arc::new(Semaphore::new(PARALLEL_SEALS)),
            keys: Arc::default(),
            live: layout::Live::default(),
            reserve: room::Reserve::default(),
            locked: locked::Locked::default(),
            _lock: lock,
            settings,
        };
        Ok(Self { node: Arc::new(node) })
    }

    /// Creates the spool; returns when its header is durable (FC1).
    pub async fn begin(&self, header: Header) -> Result<Recorder, RecordError> {
        self.begin_in(Room::Usual, header).await
    }

    /// The same, on that part of the disk.
    pub async fn begin_in(&self, room: Room, header: Header) -> Result<Recorder, RecordError> {
        let node = Arc::clone(&self.node);
        // If the caller goes away meanwhile, the recorder is dropped in there and the spool stays behind
        // as any interrupted one.
        off_the_runtime(move || recorder::begin(node, room, header)).await?
    }

    /// Seals what the last boot left behind: cut at the last good record, as interrupted. To be called
    /// before the first `begin`; spools of this process's running sessions are left alone.
    ///
    /// A spool that is no spool is set aside (see [`Recordings::set_aside`]); one that cannot be sealed
    /// now, because the disk is full or broken, stays for the next time. Both are logged as errors.
    pub async fn recover(&self, is_sealed: &(dyn Fn(SessionId) -> bool + Send + Sync)) -> Result<Vec<Sealed>, RecordError> {
        recover::recover(&self.node, is_sealed).await
    }

    /// Tries again to seal a spool for which [`Ended::seal`] failed, as for want of space. Only for such a one.
    pub async fn seal_again(&self, session: SessionId) -> Result<Sealed, RecordError> {
        recover::seal_again(&self.node, session).await
    }

    /// Removes the spool of a sealed recording. Only after the transaction that wrote `sealed`: until
    /// then the spool is the recording.
    pub fn unlink_spool(&self, session: SessionId) -> Result<(), RecordError> {
        self.node.locked.forget(session);
        self.node.layout.unlink_spool(session)
    }

    /// Destroys the recovery keys of earlier boots, if none of their spools is left. After `recover` and
    /// the transactions that it led to.
    pub fn forget_earlier_boots(&self) -> Result<(), RecordError> {
        let (sessions, _) = self.node.layout.all_spools()?;
        // What waits for an auditor was never theirs to open.
        let is_done = |session: &SessionId| self.node.live.contains(*session) || self.node.locked.waits(*session);
        if sessions.iter().all(is_done) {
            self.node.recovery.forget_old(&self.node.layout.recovery())?;
        }
        Ok(())
    }

    /// Changes who reads what is sealed from now on.
    pub fn protect(&self, protection: Protection) -> Result<(), RecordError> {
        protection.key_dirs().iter().try_for_each(|dir| layout::make_private(dir))?;
        *self.node.protection.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(protection);
        Ok(())
    }

    /// Lists spools whose header could not be read; they were renamed to `*.bad` and lost nothing.
    pub fn set_aside(&self) -> Result<Vec<PathBuf>, RecordError> {
        self.node.layout.set_aside()
    }

    /// Opens a sealed file by the name that [`Sealed::file`] gave it; any other name is not found.
    pub fn body(&self, file: &str) -> io::Result<File> {
        self.node.layout.body(file)
    }

    /// Reads a small file of a sealed recording; a key file from the first directory that has it.
    pub fn part(&self, session: SessionId, part: Part) -> io::Result<Vec<u8>> {
        use std::io::Read as _;
        let beside = [self.node.layout.sealed(session, part)];
        let keys: Vec<PathBuf> = self.node.protection().key_dirs().iter().map(|dir| layout::key_file(dir, session)).collect();
        let mut last = io::ErrorKind::NotFound.into();
        for path in if part == Part::Key { keys.iter() } else { beside.iter() } {
            let mut bytes = Vec::new();
            match File::open(path).and_then(|file| file.take(MAX_PART).read_to_end(&mut bytes)) {
                Ok(_) => return Ok(bytes),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Signs with the seal key what is said of recordings.
    pub fn sign(&self, namespace: &str, bytes: &[u8]) -> Result<String, SealKeyError> {
        self.node.settings.seal_key.sign(namespace, bytes)
    }

    /// The public half of the key that manifests are signed with.
    pub fn seal_key(&self) -> String {
        self.node.settings.seal_key.public()
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
    /// SHA-256 of the manifest.
    pub manifest: Digest,
    pub retention: Terms,
    pub ended: Timestamp,
    /// The keys that its key file is addressed to; none in plain mode.
    pub recipients: Vec<String>,
}

impl Sealed {
    /// What the state keeps of it; terms that lead to no day keep it for good.
    pub fn row(&self) -> SealedRow {
        let due = self.retention.due(self.ended).unwrap_or_else(|error| {
            tracing::error!(session = %self.session, %error, "no day follows from the retention terms; the recording is kept");
            Due::never()
        });
        SealedRow {
            file: self.file.clone(),
            sha256: self.sha256,
            bytes: self.bytes,
            manifest: self.manifest,
            due,
            seq: 0,
            recipients: self.recipients.clone(),
        }
    }
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
    #[error("the spool {path} ends within its header: nothing was recorded in it")]
    Unbegun { path: PathBuf },
    #[error("the spool {path} is for its auditors alone to open")]
    Locked { path: PathBuf },
    #[error("the recording is being sealed")]
    Busy,
    #[error("another process records into {path}: stop it, or give this one a directory of its own")]
    InUse { path: PathBuf },
    #[error("{path} can be opened by others: chmod 700 {path}")]
    Loose { path: PathBuf },
    #[error("it could not be encrypted or signed: {why}")]
    Encrypt { why: String },
    #[error("the recorder has stopped")]
    Stopped,
}

impl RecordError {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        RecordError::Io { doing, path: path.to_owned(), source: Arc::new(source) }
    }
}

/// For fuzzers: a whole spool, whatever its envelope says.
#[doc(hidden)]
pub fn fuzz_spool(bytes: &[u8]) -> io::Result<u64> {
    let key = crate::transcript::spool::SpoolKey::new(&[0; crate::transcript::spool::KEY]);
    let Ok((mut reader, _)) = read::SpoolReader::over(bytes, &|_| read::Unwrapped::Key(key.clone()))? else { return Ok(0) };
    let mut events = 0;
    while let read::Next::Event { .. } = reader.next()? {
        events += 1;
    }
    Ok(events)
}

/// Runs what may block on a disk. A panic in there is a bug; it stops this recording, nothing else.
async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RecordError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| RecordError::Stopped)
}

#[cfg(test)]
mod tests;
