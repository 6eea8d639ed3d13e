//! The state: SQLite behind one writer task and a few readers. (stub: signatures only)

use std::path::Path;

use crate::access::ruling::RecordLevel;
use crate::id::{Login, Person, RequestId, ScheduleName, SessionId, TargetId};
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub struct Store {}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database cannot be opened: {path}")]
    Open {
        path: std::path::PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
    #[error("the writer has stopped")]
    Stopped,
}

/// A session's row.
#[derive(Debug, Clone)]
pub struct SessionRow {
    pub id: SessionId,
    pub request: Option<RequestId>,
    pub person: Person,
    pub target: TargetId,
    pub login: Login,
    /// `shell`, `exec` or `sftp`
    pub kind: String,
    pub source: String,
    pub serial: u64,
    pub record: RecordLevel,
    pub retain: Vec<ScheduleName>,
    pub started: Timestamp,
    pub ended: Option<Timestamp>,
    /// In the words of `transcript::Outcome`.
    pub outcome: Option<String>,
    /// Set once the recording is sealed: file name below `recordings`, its SHA-256 and size.
    pub sealed: Option<SealedRow>,
}

#[derive(Debug, Clone)]
pub struct SealedRow {
    pub file: String,
    pub sha256: crate::id::Digest,
    pub bytes: u64,
}

impl Store {
    pub async fn open(_path: &Path) -> Result<Self, StoreError> {
        todo!()
    }

    /// Appends a report event that belongs to no other change (a login, a refusal, a failure).
    pub async fn report(&self, _event: crate::audit::Event, _now: Timestamp) -> Result<(), StoreError> {
        todo!()
    }

    pub async fn session_ended(&self, _id: SessionId, _outcome: &str, _now: Timestamp) -> Result<(), StoreError> {
        todo!()
    }

    pub async fn session_sealed(&self, _id: SessionId, _sealed: SealedRow, _now: Timestamp) -> Result<(), StoreError> {
        todo!()
    }

    pub async fn session(&self, _id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        todo!()
    }
}
impl Store {
    pub async fn has_opened(&self, _p: &Person, _t: &TargetId) -> Result<bool, StoreError> {
        todo!()
    }
    pub async fn sealed_sessions(&self) -> Result<std::collections::HashSet<SessionId>, StoreError> {
        todo!()
    }
    pub async fn end_lost_sessions(&self, _now: Timestamp) -> Result<(), StoreError> {
        todo!()
    }
}
