//! The rows of an export that are newer than a backup: verified, and applied as far as they are signed.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use super::super::BackupError;
use crate::audit::LogPoint;
use crate::audit::checkpoint::{Checkpoint, LogVerifier};
use crate::audit::export::{Audit, Flaw, Step};
use crate::audit::row::{MAX_BYTES, Row};
use crate::audit::tree::{self, Frontier};
use crate::retention::terms::Terms;
use crate::store::Store;
use crate::store::audit::CheckpointRow;
use crate::time::Timestamp;

/// Rows between two checkpoints that are kept in memory; a bastion signs every hundred.
const MAX_PENDING: usize = 20_000;

/// How far the log goes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    pub left: LogPoint,
    pub rows: u64,
    pub unsigned: u64,
}

/// Puts the rows behind those of the backup. They have to continue it, under the log's own key, and to come
/// to the checkpoint that lies outside, as far as they reach. What is written is worth nothing if this fails.
pub async fn replay(
    store: &Store,
    path: &Path,
    key: &LogVerifier,
    backup: LogPoint,
    outside: Option<&Checkpoint>,
    terms: &Terms,
    now: Timestamp,
) -> Result<Applied, BackupError> {
    let unread = |source| BackupError::Read { path: path.to_owned(), source };
    let flawed = |flaw| match flaw {
        Flaw::Cut { known, here } => BackupError::OlderExport { path: path.to_owned(), here, backup: known },
        flaw => BackupError::Export { path: path.to_owned(), flaw },
    };
    let mut from = BufReader::new(File::open(path).map_err(unread)?);
    // Of the future: no recovery in the export explains that it is not the backup's.
    let recovered = Some(Timestamp::from_micros(i64::MAX));
    let known = Checkpoint { origin: key.name().to_owned(), size: backup.size, root: backup.root, recovered };
    let mut audit = Audit::new(Some(key.clone()), Some(known));
    let (mut tree, mut left, mut pending): (_, _, Vec<(Row, Vec<u8>)>) = (Frontier::default(), None, Vec::new());
    let mut line = Vec::new();
    loop {
        line.clear();
        if from.by_ref().take(MAX_BYTES as u64 + 2).read_until(b'\n', &mut line).map_err(unread)? == 0 {
            break;
        }
        let bytes = line.strip_suffix(b"\n").unwrap_or(&line);
        match audit.line(bytes).map_err(flawed)? {
            Step::Head => {}
            Step::Row(row) => {
                tree.push(tree::leaf(bytes));
                if outside.is_some_and(|outside| outside.size == row.seq && outside.root != tree.root()) {
                    return Err(BackupError::OtherCheckpoint("log.checkpoint".into()));
                }
                if row.seq > backup.size {
                    pending.push((*row, bytes.to_vec()));
                }
                if pending.len() > MAX_PENDING {
                    return Err(BackupError::Unsigned { path: path.to_owned(), most: MAX_PENDING });
                }
            }
            Step::Checkpoint(Checkpoint { size, root, .. }) => {
                if !pending.is_empty() {
                    let checkpoint = CheckpointRow { size, root, note: note(bytes) };
                    let replayed = store.replay(std::mem::take(&mut pending), checkpoint, terms.clone(), now).await;
                    replayed.map_err(|source| BackupError::Replay { path: path.to_owned(), source })?;
                }
                left = Some(LogPoint { size, root });
            }
        }
    }
    let summary = audit.finish().map_err(flawed)?;
    let here = left.map_or(0, |left| left.size);
    match left.filter(|left| left.size >= backup.size) {
        Some(left) => Ok(Applied { left, rows: left.size - backup.size, unsigned: summary.rows - left.size }),
        None => Err(BackupError::OlderExport { path: path.to_owned(), here, backup: backup.size }),
    }
}

/// The note in a line that was read as a checkpoint.
fn note(line: &[u8]) -> String {
    let read: Option<serde_json::Value> = serde_json::from_slice(line).ok();
    read.and_then(|line| line.get("checkpoint")?.as_str().map(str::to_owned)).unwrap_or_default()
}
