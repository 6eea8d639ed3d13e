//! From the first byte of a session to its sealed file. (stub: signatures only)

use std::path::PathBuf;
use std::sync::Arc;

use crate::access::ruling::RecordLevel;
use crate::id::{Digest, Login, Person, RequestId, ScheduleName, SessionId, TargetId};
use crate::time::Timestamp;
pub use crate::transcript::Header;
use crate::transcript::{Event, Outcome};

/// The recording side of one node: a directory and a few writer threads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recordings {}

#[derive(Debug, Clone)]
pub struct Settings {
    pub dir: PathBuf,
    /// Free bytes below which no new session begins (FC4).
    pub free_floor: u64,
    /// Non-terminal bytes of one stream kept in full; beyond, length and SHA-256 per chunk.
    pub bulk_cap: u64,
    pub writers: usize,
}

impl Recordings {
    pub fn open(_settings: Settings) -> Result<Self, RecordError> {
        todo!()
    }

    /// Creates the spool; returns when its header is durable (FC1).
    pub async fn begin(&self, _header: Header) -> Result<Recorder, RecordError> {
        todo!()
    }

    /// Seals what the last boot left behind: cut at the last good record, as interrupted.
    pub async fn recover(&self, _is_sealed: &(dyn Fn(SessionId) -> bool + Send + Sync)) -> Result<Vec<Sealed>, RecordError> {
        todo!()
    }
}

/// A running recording. Dropping it is not success: the spool stays and is sealed as interrupted.
#[derive(Debug)]
pub struct Recorder {}

/// What the pumps of one recording write to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tape {}

impl Recorder {
    pub fn tape(&self) -> Tape {
        todo!()
    }

    /// Writes the end record into the space kept for it and makes it durable (FC7).
    pub async fn end(self, _outcome: Outcome) -> Result<Ended, RecordError> {
        todo!()
    }
}

impl Tape {
    /// Returns when the events are written; only then may their bytes go on (FC2). Waits while the
    /// recording's queue is full.
    pub async fn record(&self, _events: Vec<Event>) -> Result<(), RecordError> {
        todo!()
    }

    /// Returns when the spool has failed, never otherwise.
    pub async fn failed(&self) -> RecordError {
        todo!()
    }
}

/// A closed spool.
#[derive(Debug)]
pub struct Ended {}

impl Ended {
    pub async fn seal(self) -> Result<Sealed, RecordError> {
        todo!()
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
        source: Arc<std::io::Error>,
    },
    #[error("only {free} bytes are free below {path}, {floor} are kept")]
    DiskFloor { path: PathBuf, free: u64, floor: u64 },
    #[error("the spool {path} cannot be read: {why}")]
    BadSpool { path: PathBuf, why: String },
    #[error("the recorder has stopped")]
    Stopped,
}
impl Recordings {
    pub fn unlink_spool(&self, _s: SessionId) -> Result<(), RecordError> {
        todo!()
    }
}
