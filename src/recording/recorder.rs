//! What a session holds of its recording: the recorder, which begins and ends it once, and its tapes.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::end::{self, Ended};
use super::file::SpoolFile;
use super::layout::sync_dir;
use super::room::{self, Room};
use super::spool::Spool;
use super::withhold::Rule;
use super::{Node, RecordError, off_the_runtime};
use crate::transcript::spool::{MAX_PAYLOAD, SpoolKey};
use crate::transcript::{Event, Header, Outcome};

/// A running recording. Dropping it is not success: the spool stays and is sealed as interrupted.
#[derive(Debug)]
pub struct Recorder {
    spool: Arc<Spool>,
    ended: bool,
}

/// What the pumps of one recording write to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tape {
    pub(super) spool: Arc<Spool>,
}

/// Creates the spool and makes it durable with its name (FC1); blocks on the disk.
pub(super) fn begin(node: Arc<Node>, room: Room, header: Header) -> Result<Recorder, RecordError> {
    let (session, path) = (header.session, node.layout.spool(header.session));
    room::enough(&node, room)?;
    let json = header.to_json();
    if json.len() > MAX_PAYLOAD {
        return Err(RecordError::BadSpool { path, why: format!("its header would have {} bytes", json.len()) });
    }
    if !node.live.insert(session) {
        return Err(RecordError::BadSpool { path, why: "its session is being recorded already".into() });
    }
    let durable = node.recovery.new_key(&node.protection()).and_then(|(key, envelope)| create(&node, room, &path, key, &envelope, &json));
    let file = durable.inspect_err(|_| node.live.remove(session))?;
    let rule = Rule::new(header.record, header.is_terminal(), node.settings.bulk_cap);
    Ok(Recorder { spool: Spool::new(node, session, path, file, rule), ended: false })
}

fn create(node: &Node, room: Room, path: &Path, key: SpoolKey, envelope: &[u8], header: &[u8]) -> Result<SpoolFile, RecordError> {
    let spare = match room {
        Room::Usual => Some(node.reserve.clone()),
        Room::Reserve => None,
    };
    let created = SpoolFile::create(path, key, spare, envelope, header).map_err(|e| {
        // Nothing was dialled yet; an empty spool would only have to be set aside. One that was there
        // before belongs to somebody else.
        if e.kind() != ErrorKind::AlreadyExists {
            let _ = std::fs::remove_file(path);
        }
        RecordError::io("could not begin", path, e)
    })?;
    sync_dir(node.layout.spools())?;
    Ok(created)
}

impl Recorder {
    pub fn tape(&self) -> Tape {
        Tape { spool: Arc::clone(&self.spool) }
    }

    /// Writes the end record into the space kept for it and makes it durable (FC7).
    ///
    /// A recording that failed ends as [`Outcome::RecordingFailed`] whatever is said here. An error means
    /// that the end may not be durable; the spool stays and is recovered at the next start.
    pub async fn end(mut self, outcome: Outcome) -> Result<Ended, RecordError> {
        self.ended = true;
        self.spool.drain().await;
        let spool = Arc::clone(&self.spool);
        off_the_runtime(move || end::end(spool, outcome)).await?
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.ended {
            self.spool.close();
        }
    }
}

impl Tape {
    /// Returns when the events are written; only then may their bytes go on (FC2). Waits while the
    /// recording's queue is full.
    pub async fn record(&self, events: Vec<Event>) -> Result<(), RecordError> {
        self.spool.record(events).await
    }

    /// Returns when the spool has failed, never otherwise.
    pub async fn failed(&self) -> RecordError {
        self.spool.failed().await
    }
}
