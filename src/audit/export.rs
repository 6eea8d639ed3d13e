//! An exported log: a file of JSON Lines that anybody can verify without a bastion, a line at a time.
//!
//! First `{"countersign_log":1,"origin":…,"vkey":…}`; then each row as exactly its bytes, from row 1 on;
//! after the row that a checkpoint ends with, `{"checkpoint":"<note>"}`. Always true: memory does not grow
//! with the file, and nothing after the first flaw counts. What this cannot see by itself: rows cut off
//! behind a checkpoint, and a log made anew with another key. Against these the auditor brings a checkpoint
//! kept from before and the key; [`Summary`] says what was not brought. A log that went back and says so
//! (`log.recovered`) is whole, and the summary says what is missing; one that goes back without a word is not.

mod flaw;

use std::io::{BufRead, Read as _};

use serde::{Deserialize, Serialize};

use super::checkpoint::{BadNote, Checkpoint, LogVerifier};
use super::recovery::Recovery;
use super::row::{BadRow, MAX_BYTES, NO_ROW, Row};
use super::tree::{self, Frontier};
use crate::access::canonical;
use crate::id::Digest;
use crate::time::Timestamp;

pub use flaw::Flaw;

/// Verifies a whole file and hands each row to `each`, with at most one line in memory.
///
/// A row is handed over when it fits to the rows before; that it was signed is known with the summary only.
pub fn audit(
    mut from: impl BufRead,
    trusted: Option<LogVerifier>,
    known: Option<Checkpoint>,
    mut each: impl FnMut(&Row),
) -> Result<Summary, AuditError> {
    let mut audit = Audit::new(trusted, known);
    let mut line = Vec::new();
    loop {
        line.clear();
        // One byte more than a line may have, and its newline: enough to see that it is too long.
        if from.by_ref().take(MAX_BYTES as u64 + 2).read_until(b'\n', &mut line)? == 0 {
            return Ok(audit.finish()?);
        }
        match audit.line(line.strip_suffix(b"\n").unwrap_or(&line))? {
            Step::Row(row) => each(&row),
            Step::Head | Step::Checkpoint(_) => {}
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("the log cannot be read")]
    Read(#[from] std::io::Error),
    #[error(transparent)]
    Flaw(#[from] Flaw),
}

/// The first line, without its newline: whose log this is and the key that signs it.
pub fn head(key: &LogVerifier) -> Vec<u8> {
    canonical::encode(&Head { countersign_log: VERSION, origin: key.name().to_owned(), vkey: key.to_string() })
}

/// The line of a checkpoint, without its newline; it stands after the last row that it counts.
pub fn checkpoint_line(note: &str) -> Vec<u8> {
    canonical::encode(&Note { checkpoint: note.to_owned() })
}

/// What a line was.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Head,
    Row(Box<Row>),
    Checkpoint(Checkpoint),
}

/// What a file without a flaw proves.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a log without signed rows, or signed by a key that nobody gave, has no flaw either"]
pub struct Summary {
    pub rows: u64,
    /// Rows that the last checkpoint covers; the ones after it could have been written by anybody.
    pub signed: u64,
    /// The last checkpoint and its note, to be kept for the next time.
    pub checkpoint: Option<(Checkpoint, String)>,
    /// Whether the auditor brought the key. If not, whoever made the file chose it.
    pub key_was_given: bool,
    /// Each time that the log was restored, in order.
    pub recovered: Vec<Recovery>,
    /// The size of the checkpoint that is known, where one of them explains that the log does not come to it.
    pub went_back_from: Option<u64>,
}

impl Summary {
    /// A line for each time that the log was restored.
    pub fn recoveries(&self) -> impl Iterator<Item = String> + '_ {
        self.recovered.iter().map(|recovery| recovery.words(self.went_back_from.unwrap_or(0)))
    }
}

/// More often no log is restored.
const MAX_RECOVERIES: usize = 256;

/// The verification of one file, fed line by line.
#[derive(Debug)]
pub struct Audit {
    trusted: Option<LogVerifier>,
    known: Option<Checkpoint>,
    /// The key of the head; nothing but a head is read before there is one.
    key: Option<LogVerifier>,
    tree: Frontier,
    /// The leaf of the last row.
    last: Digest,
    signed: Option<(Checkpoint, String)>,
    recovered: Vec<Recovery>,
    over: bool,
}

impl Audit {
    /// `trusted` is the log's key if the auditor has it from elsewhere, `known` a checkpoint of this log
    /// that was verified before: the file must come to it.
    pub fn new(trusted: Option<LogVerifier>, known: Option<Checkpoint>) -> Self {
        Self { trusted, known, key: None, tree: Frontier::default(), last: NO_ROW, signed: None, recovered: Vec::new(), over: false }
    }

    /// Reads the next line, without its newline. After a flaw there is nothing more to be had, so that
    /// nobody can overlook one and be handed a summary.
    pub fn line(&mut self, bytes: &[u8]) -> Result<Step, Flaw> {
        if self.over {
            return Err(Flaw::Over);
        }
        let step = match &self.key {
            _ if bytes.len() > MAX_BYTES => Err(Flaw::TooLong { row: self.next() }),
            None => self.head(bytes),
            // Canonical form has one spelling: no row begins like this (`at_us` sorts first).
            Some(key) if bytes.starts_with(br#"{"checkpoint":"#) => {
                let key = key.clone();
                self.checkpoint(&key, bytes)
            }
            Some(_) => self.row(bytes),
        };
        self.over = step.is_err();
        step
    }

    /// Ends the file, which must have come as far as the checkpoint that is known, or say why it went back.
    pub fn finish(self) -> Result<Summary, Flaw> {
        if self.over {
            return Err(Flaw::Over);
        }
        if self.key.is_none() {
            return Err(Flaw::Empty);
        }
        let rows = self.tree.size();
        let mut went_back_from = None;
        if let Some(known) = &self.known {
            if self.explains(known) {
                went_back_from = Some(known.size);
            } else if known.size > rows {
                return Err(Flaw::Cut { known: known.size, here: rows });
            }
        }
        let signed = self.signed.as_ref().map_or(0, |(checkpoint, _)| checkpoint.size);
        let key_was_given = self.trusted.is_some();
        Ok(Summary { rows, signed, checkpoint: self.signed, key_was_given, recovered: self.recovered, went_back_from })
    }

    /// Whether a recovery that the auditor's checkpoint did not know of took its rows away.
    fn explains(&self, known: &Checkpoint) -> bool {
        self.recovered.iter().any(|recovery| recovery.explains(known))
    }

    /// Reads a `log.recovered`, which speaks of exactly the rows before it.
    fn recovery(&mut self, row: &Row) -> Result<(), Flaw> {
        let flaw = |source| Flaw::Recovery { row: row.seq, source };
        if let Some(recovery) = Recovery::read(row).map_err(flaw)? {
            let before = self.recovered.last().map(|last| last.at);
            if recovery.facts.new_root != self.tree.root() || before >= Some(recovery.at) || self.recovered.len() >= MAX_RECOVERIES {
                return Err(Flaw::NotRecovered { row: row.seq });
            }
            self.recovered.push(recovery);
        }
        Ok(())
    }

    /// When the rows so far were restored for the last time.
    fn last_recovered(&self) -> Option<Timestamp> {
        self.recovered.last().map(|recovery| recovery.at)
    }

    fn next(&self) -> u64 {
        self.tree.size() + 1
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Step, Flaw> {
        let head: Head = canonical::decode(bytes).map_err(|why| head_version(bytes).map_or(Flaw::Head(why), Flaw::Format))?;
        if head.countersign_log != VERSION {
            return Err(Flaw::Format(head.countersign_log));
        }
        let origin = head.origin;
        let Some(key) = head.vkey.parse::<LogVerifier>().ok().filter(|key| key.name() == origin) else {
            return Err(Flaw::Key);
        };
        let wanted = [self.trusted.as_ref().map(LogVerifier::name), self.known.as_ref().map(|known| known.origin.as_str())];
        if let Some(wanted) = wanted.into_iter().flatten().find(|wanted| *wanted != origin) {
            return Err(Flaw::OtherLog { here: origin, wanted: wanted.to_owned() });
        }
        if self.trusted.as_ref().is_some_and(|trusted| *trusted != key) {
            return Err(Flaw::OtherKey { origin });
        }
        self.key = Some(key);
        self.against_known()?;
        Ok(Step::Head)
    }

    fn row(&mut self, bytes: &[u8]) -> Result<Step, Flaw> {
        let (next, before) = (self.next(), self.tree.size());
        let row = Row::read(bytes).map_err(|why| match why {
            BadRow::Version(version) => Flaw::Version { row: next, version },
            source @ (BadRow::Form(_) | BadRow::Zero) => Flaw::NotARow { row: next, source },
        })?;
        if row.seq > next {
            return Err(Flaw::Missing { from: next, to: row.seq - 1 });
        }
        if row.seq < next {
            return Err(Flaw::OutOfOrder { row: row.seq, after: before });
        }
        if row.prev != self.last {
            return Err(if before == 0 { Flaw::NotFirst } else { Flaw::Changed { row: before } });
        }
        self.recovery(&row)?;
        self.last = tree::leaf(bytes);
        self.tree.push(self.last);
        self.against_known()?;
        Ok(Step::Row(Box::new(row)))
    }

    fn checkpoint(&mut self, key: &LogVerifier, bytes: &[u8]) -> Result<Step, Flaw> {
        let (after, by) = (self.tree.size(), key.name().to_owned());
        let Note { checkpoint: note } = canonical::decode(bytes).map_err(|source| Flaw::NotACheckpoint { after, source: source.into() })?;
        let checkpoint = key.verify(&note).map_err(|why| match why {
            BadNote::Unsigned => Flaw::Unsigned { after, by },
            BadNote::Signature => Flaw::Signature { after, by },
            other => Flaw::NotACheckpoint { after, source: other.into() },
        })?;
        let signed = self.signed.as_ref().map(|(checkpoint, _)| checkpoint.size);
        let from = signed.unwrap_or(0) + 1;
        if checkpoint.size > after {
            return Err(Flaw::MissingSigned { from: after + 1, to: checkpoint.size });
        }
        if checkpoint.size < after {
            return Err(Flaw::Misplaced { rows: checkpoint.size, after });
        }
        if checkpoint.root != self.tree.root() {
            // What was signed already stood against these very rows; an empty log has one root only.
            return Err(if from > after { Flaw::TwoRoots { rows: after } } else { Flaw::NotSigned { from, to: after } });
        }
        if checkpoint.recovered != self.last_recovered() {
            return Err(Flaw::Forgetful { rows: after });
        }
        self.signed = Some((checkpoint.clone(), note));
        Ok(Step::Checkpoint(checkpoint))
    }

    /// Compares with the known checkpoint where the file has exactly its rows.
    fn against_known(&self) -> Result<(), Flaw> {
        let rows = self.tree.size();
        match &self.known {
            Some(known) if known.size == rows && known.root != self.tree.root() && !self.explains(known) => Err(Flaw::Forked { rows }),
            Some(_) | None => Ok(()),
        }
    }
}

const VERSION: u64 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    countersign_log: u64,
    origin: String,
    vkey: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    checkpoint: String,
}

/// Returns the version of a head that is of another one, whatever else its fields are.
fn head_version(bytes: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct AnyVersion {
        countersign_log: u64,
    }
    serde_json::from_slice::<AnyVersion>(bytes).ok().map(|head| head.countersign_log).filter(|v| *v != VERSION)
}

#[cfg(test)]
mod tests;
