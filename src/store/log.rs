//! The log of a running node: its tree in memory, its checkpoints, and the copy of the last one that lies
//! outside the database.
//!
//! Rows are appended by whoever makes a change, in that change's transaction; this only reads them. The tree
//! here never knows a row that is not committed. A database that is older than the copy, or another one, is
//! refused at start: it was restored or cut.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use super::audit::CheckpointRow;
use super::{Store, StoreError};
use crate::audit::checkpoint::{BadNote, Checkpoint, LogKey, LogVerifier};
use crate::audit::recovery::{self, Recovery};
use crate::audit::row::Row;
use crate::audit::tree::{GROUP, Tree, group_of};
use crate::audit::{LogPoint, export};
use crate::causes::with_causes;
use crate::id::Digest;
use crate::time::{Timestamp, boottime};

/// Rows read at once.
const READ: u32 = 4096;
/// A checkpoint is due after this long if there is any new row, …
const EVERY: Duration = Duration::from_secs(10);
/// … and at once after this many.
const ROWS: u64 = 100;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    key: LogKey,
    /// Where the copy of the last checkpoint is kept, on the recordings' file system.
    copy: PathBuf,
    /// Each time that this log was restored; only a stopped bastion is.
    recovered: Vec<Recovered>,
    state: Mutex<State>,
    head: watch::Sender<LogPoint>,
}

/// A `log.recovered`, and its bytes.
#[derive(Debug)]
struct Recovered {
    recovery: Recovery,
    seq: u64,
    line: String,
}

#[derive(Debug)]
struct State {
    tree: Tree,
    signed: u64,
    at: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the audit log cannot be read")]
    Store(#[from] StoreError),
    #[error("row {found} of the audit log follows row {after}: rows are missing; compare with an export: countersign audit verify EXPORT")]
    Gap { after: u64, found: u64 },
    #[error(
        "the audit log has {found} rows, and {path} says that there were {known}: the database is older than the recordings. \
         Put the newer one back; if that is lost: countersign restore BACKUP --log EXPORT -c NEW-DIR --reason '…' \
         (makes a BACKUP of what is here: countersign backup BACKUP --to KEY -c DIR)"
    )]
    Older { path: PathBuf, found: u64, known: u64 },
    #[error("the first {size} rows of the audit log are not those that {path} was signed for: rows were changed; compare with an export")]
    Forked { path: PathBuf, size: u64 },
    #[error("{path} is not a checkpoint of this bastion's log: restore it, or the keys it was signed with")]
    Copy {
        path: PathBuf,
        #[source]
        source: BadNote,
    },
    #[error("the log grew while it was looked at; ask again")]
    Moving,
    #[error("{path} cannot be used")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// What somebody who keeps checkpoints is told: the last one, and that it continues theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    pub note: String,
    /// RFC 6962 consistency proof from the size that was asked for; `None` if this log does not have it.
    pub proof: Option<Vec<Digest>>,
    /// The rows that say that this log went back to fewer rows than were asked for, with inclusion proofs.
    pub recovered: Vec<(String, Vec<Digest>)>,
}

/// The newest recoveries that anybody is told of.
const RECOVERIES: usize = 16;

/// A row's place in the log.
#[derive(Debug, Clone)]
pub struct Included {
    pub checkpoint: CheckpointRow,
    /// RFC 6962 inclusion proof.
    pub proof: Vec<Digest>,
    /// RFC 6962 consistency proof; empty where there is none, or nothing to prove.
    pub continues: Vec<Digest>,
}

impl Log {
    /// Reads every leaf, and compares with the last checkpoints, in the database and outside.
    pub async fn open(store: Store, key: LogKey, copy: PathBuf) -> Result<Self, LogError> {
        let verifier = key.verifier();
        let outside = read_copy(&copy, &verifier)?;
        let inside = store.last_checkpoint().await?;
        let mut known: Vec<(u64, Digest)> = inside.iter().map(|row| (row.size, row.root)).collect();
        known.extend(outside.iter().map(|outside| (outside.size, outside.root)));
        let mut tree = Tree::new();
        loop {
            let leaves = store.audit_leaves(tree.size() + 1, READ).await?;
            if leaves.is_empty() {
                break;
            }
            for (seq, leaf) in leaves {
                if seq != tree.size() + 1 {
                    return Err(LogError::Gap { after: tree.size(), found: seq });
                }
                tree.push(leaf);
                if known.iter().any(|(size, root)| *size == seq && *root != tree.root()) {
                    return Err(LogError::Forked { path: copy, size: seq });
                }
            }
        }
        if let Some((size, _)) = known.iter().find(|(size, _)| *size > tree.size()) {
            return Err(LogError::Older { path: copy, found: tree.size(), known: *size });
        }
        let signed = inside.map_or(0, |row| row.size);
        let head = watch::Sender::new(LogPoint { size: 0, root: Tree::new().root() });
        let recovered = recoveries(&store).await?;
        let state = Mutex::new(State { tree, signed, at: boottime() });
        let log = Self { inner: Arc::new(Inner { store, key, copy, recovered, state, head }) };
        log.checkpoint(Timestamp::now()).await?;
        Ok(log)
    }

    /// The latest signed point, for manifests.
    pub fn head(&self) -> watch::Receiver<LogPoint> {
        self.inner.head.subscribe()
    }

    pub fn verifier(&self) -> LogVerifier {
        self.inner.key.verifier()
    }

    /// Signs the rows that are new, if it is time.
    pub async fn tick(&self, now: Timestamp) -> Result<(), LogError> {
        let size = self.inner.store.audit_size().await?;
        let (signed, at) = {
            let state = self.inner.state.lock().await;
            (state.signed, state.at)
        };
        let due = size >= signed + ROWS || (size > signed && boottime().saturating_sub(at) >= EVERY);
        if due { self.checkpoint(now).await.map(drop) } else { Ok(()) }
    }

    /// Signs all rows that are committed now; returns the note.
    pub async fn checkpoint(&self, now: Timestamp) -> Result<CheckpointRow, LogError> {
        let Inner { store, key, copy, recovered, state, head } = &*self.inner;
        let mut state = state.lock().await;
        loop {
            let leaves = store.audit_leaves(state.tree.size() + 1, READ).await?;
            if leaves.is_empty() {
                break;
            }
            for (seq, leaf) in leaves {
                if seq != state.tree.size() + 1 {
                    return Err(LogError::Gap { after: state.tree.size(), found: seq });
                }
                state.tree.push(leaf);
            }
        }
        let (size, root) = (state.tree.size(), state.tree.root());
        if size == state.signed
            && let Some(last) = store.last_checkpoint().await?
        {
            head.send_replace(LogPoint { size, root });
            return Ok(last);
        }
        let last = recovered.last().map(|last| last.recovery.at);
        let row = CheckpointRow { size, root, note: key.sign(&Checkpoint { recovered: last, ..key.checkpoint(size, root) }) };
        store.keep_checkpoint(row.clone(), now).await?;
        (state.signed, state.at) = (size, boottime());
        head.send_replace(LogPoint { size, root });
        // A full disk there keeps nobody from reading or approving; the copy is older meanwhile.
        if let Err(error) = write_copy(copy, &row.note) {
            tracing::error!(error = with_causes(&error), "the copy of the checkpoint outside the database is not up to date");
        }
        Ok(row)
    }

    /// The last checkpoint, with the proof that it continues the one of `from` rows.
    pub async fn continuation(&self, from: u64, now: Timestamp) -> Result<Continuation, LogError> {
        // All rows of now, so that who keeps this one holds the bastion to all that it has done so far.
        let last = self.checkpoint(now).await?;
        let state = self.inner.state.lock().await;
        if last.size != state.tree.size() {
            return Err(LogError::Moving);
        }
        let mut recovered = Vec::new();
        let told = self.inner.recovered.iter().filter(|one| one.recovery.facts.new_size < from).rev().take(RECOVERIES);
        for one in told.collect::<Vec<_>>().into_iter().rev() {
            let index = one.seq.saturating_sub(1);
            let group = self.group(index).await?;
            recovered.extend(state.tree.inclusion(index, &group).map(|proof| (one.line.clone(), proof)));
        }
        if from == 0 || from > state.tree.size() {
            return Ok(Continuation { note: last.note, proof: None, recovered });
        }
        let group = self.group(from).await?;
        Ok(Continuation { note: last.note, proof: state.tree.consistency(from, &group), recovered })
    }

    /// Proves that row `seq` is in the log of the last checkpoint, and that this one continues the one of `from` rows.
    pub async fn inclusion(&self, seq: u64, from: u64, now: Timestamp) -> Result<Option<Included>, LogError> {
        let last = self.checkpoint(now).await?;
        let state = self.inner.state.lock().await;
        if last.size != state.tree.size() {
            return Err(LogError::Moving);
        }
        let Some(index) = seq.checked_sub(1).filter(|index| *index < state.tree.size()) else { return Ok(None) };
        let group = self.group(index).await?;
        let continues = match from {
            0 => None,
            _ => state.tree.consistency(from, &self.group(from).await?),
        };
        Ok(state.tree.inclusion(index, &group).map(|proof| Included { checkpoint: last, proof, continues: continues.unwrap_or_default() }))
    }

    /// The leaf hashes of the group that holds leaf `index`.
    async fn group(&self, index: u64) -> Result<Vec<Digest>, LogError> {
        let range = group_of(index);
        let limit = u32::try_from(GROUP).unwrap_or(u32::MAX);
        Ok(self.inner.store.audit_leaves(range.start + 1, limit).await?.into_iter().map(|(_, leaf)| leaf).collect())
    }
}

/// A walk through the log as it is exported, up to the last row that was there when it began.
#[derive(Debug)]
pub struct Export {
    log: Log,
    next: u64,
    upto: Option<u64>,
    checkpoints: std::collections::VecDeque<CheckpointRow>,
    /// Up to which size checkpoints have been read.
    read: u64,
}

/// Rows of one piece of an export.
const PIECE: u32 = 200;
const CHECKPOINTS: u32 = 1000;

impl Log {
    pub fn export(&self) -> Export {
        Export { log: self.clone(), next: 0, upto: None, checkpoints: std::collections::VecDeque::new(), read: 0 }
    }
}

impl Export {
    /// The next lines, without their line feeds; none at the end.
    pub async fn next(&mut self) -> Result<Vec<String>, LogError> {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let store = self.log.inner.store.clone();
        let upto = match self.upto {
            Some(upto) => upto,
            None => {
                let upto = store.last_checkpoint().await?.map_or(0, |last| last.size);
                self.upto = Some(upto);
                self.next = 1;
                return Ok(vec![text(export::head(&self.log.verifier()))]);
            }
        };
        if self.next > upto {
            return Ok(Vec::new());
        }
        let rows = store.audit_lines(self.next, PIECE).await?;
        let mut lines = Vec::with_capacity(rows.len());
        for (seq, line) in rows.into_iter().filter(|(seq, _)| *seq <= upto) {
            lines.push(line);
            self.next = seq + 1;
            if self.checkpoints.is_empty() && self.read < upto {
                self.checkpoints.extend(store.checkpoints(seq.max(self.read + 1), CHECKPOINTS).await?);
                self.read = self.checkpoints.back().map_or(upto, |last| last.size);
            }
            while let Some(checkpoint) = self.checkpoints.front().filter(|checkpoint| checkpoint.size <= seq) {
                if checkpoint.size == seq {
                    lines.push(text(export::checkpoint_line(&checkpoint.note)));
                }
                self.checkpoints.pop_front();
            }
        }
        if lines.is_empty() {
            self.next = upto + 1;
        }
        Ok(lines)
    }
}

async fn recoveries(store: &Store) -> Result<Vec<Recovered>, LogError> {
    let mut found = Vec::new();
    for (seq, line) in store.audit_named(recovery::NAME).await? {
        // What cannot be read excuses nothing; `audit verify` names it.
        let read = Row::read(line.as_bytes()).ok().and_then(|row| Recovery::read(&row).ok().flatten());
        found.extend(read.map(|recovery| Recovered { recovery, seq, line }));
    }
    Ok(found)
}

/// The checkpoint that lies outside the database, if there is one.
pub fn read_copy(path: &Path, verifier: &LogVerifier) -> Result<Option<Checkpoint>, LogError> {
    match std::fs::read_to_string(path) {
        Ok(note) => verifier.verify(&note).map(Some).map_err(|source| LogError::Copy { path: path.to_owned(), source }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LogError::Io { path: path.to_owned(), source }),
    }
}

/// Replaces the copy; whole or not at all.
fn write_copy(path: &Path, note: &str) -> Result<(), LogError> {
    let tmp = path.with_extension("tmp");
    let write = || {
        let mut file = std::fs::File::create(&tmp)?;
        file.write_all(note.as_bytes())?;
        file.sync_data()?;
        std::fs::rename(&tmp, path)
    };
    write().map_err(|source| LogError::Io { path: path.to_owned(), source })
}
