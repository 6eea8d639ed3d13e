//! What this pen has signed: serials, and how far each grant is used up. A line for each signature, on the
//! disk before the signature leaves; nobody else writes it.
//!
//! The node's database says the same, and is not asked: whoever holds the node could have it say anything.
//! A line is forgotten a day after nothing can be signed for it any more, so that the file stays small. What
//! cannot be read but for a torn last line ends the start: a grant that was used up might be in it.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::access::canonical::{self, NotCanonical};
use crate::id::{Digest, RequestId};
use crate::time::Timestamp;

const VERSION: u64 = 1;
/// Clocks may be put back by so much before something that was forgotten would fit again.
const KEPT: Duration = Duration::from_secs(86_400);
/// Stands where a line is a grant's alone.
const NONE: &str = "-";
/// Lines after which it is written anew, at the next start.
const FULL: usize = 200_000;
/// How long another pen on the same file is waited for: one whose node has just died.
const OTHER: Duration = Duration::from_secs(5);

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub v: u64,
    pub serial: String,
    /// When this may be forgotten.
    #[serde(rename = "until_us")]
    pub until: Timestamp,
    /// The grant, after this use of it.
    pub used: Option<Used>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    pub request: RequestId,
    /// Of the request's bytes.
    pub digest: Digest,
    #[serde(rename = "first_us")]
    pub first: Timestamp,
    #[serde(rename = "ends_us")]
    pub ends: Timestamp,
    pub uses: u64,
    /// The extensions that are in `ends`.
    pub extended_by: Vec<RequestId>,
}

impl Entry {
    pub fn new(serial: u64, fits_until: Timestamp, used: Option<Used>) -> Self {
        Self { v: VERSION, serial: serial.to_string(), until: fits_until.plus(KEPT), used }
    }
}

#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    file: File,
    /// Held for as long as this lives.
    _lock: File,
    /// Bytes that are on the disk.
    length: u64,
    lines: usize,
    /// Of those, what the last writing anew had to keep.
    kept: usize,
    /// Lines that are not.
    staged: Vec<u8>,
    serials: HashMap<String, Timestamp>,
    grants: HashMap<RequestId, (Used, Timestamp)>,
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("{path} cannot be read or written")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("line {line} of {path} cannot be read: what was signed is not known. Restore it, or move it away once no approval is open")]
    Line {
        path: PathBuf,
        line: usize,
        #[source]
        source: NotCanonical,
    },
    #[error("another pen writes {path}: is a bastion running on this directory already?")]
    Taken { path: PathBuf },
}

impl Record {
    /// Takes the record of a state directory for this process alone, reads it, and leaves out what is over.
    pub fn open(state: &Path, now: Timestamp) -> Result<Self, RecordError> {
        let path = state.join("pen.record");
        let failed = |source| RecordError::Io { path: path.clone(), source };
        let lock = options().open(state.join("pen.lock")).map_err(failed)?;
        take(&lock).then_some(()).ok_or_else(|| RecordError::Taken { path: path.clone() })?;
        let file = options().open(&path).map_err(failed)?;
        let mut record = Self {
            path,
            file,
            _lock: lock,
            length: 0,
            lines: 0,
            kept: 0,
            staged: Vec::new(),
            serials: HashMap::new(),
            grants: HashMap::new(),
        };
        record.read()?;
        Ok(record.written_anew(state, now))
    }

    pub fn knows_serial(&self, serial: u64) -> bool {
        self.serials.contains_key(&serial.to_string())
    }

    pub fn grant(&self, request: RequestId) -> Option<&Used> {
        self.grants.get(&request).map(|(used, _)| used)
    }

    /// Whether it has grown so long that a new process should write it anew.
    pub fn is_full(&self) -> bool {
        self.lines > self.kept.saturating_mul(2).max(FULL)
    }

    /// Counts a signature that is not made yet; [`Self::commit`] has to follow before it is.
    pub fn stage(&mut self, entry: Entry) {
        self.staged.extend(canonical::encode(&entry));
        self.staged.push(b'\n');
        self.keep(entry);
    }

    /// Makes durable what is staged. Where that fails, none of it counts: nothing of it may be signed.
    pub fn commit(&mut self) -> Result<(), RecordError> {
        let lines = std::mem::take(&mut self.staged);
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(source) => {
                let failed = RecordError::Io { path: self.path.clone(), source };
                self.file.set_len(self.length).map_err(|source| self.io(source))?;
                self.read()?;
                Err(failed)
            }
        }
    }

    fn read(&mut self) -> Result<(), RecordError> {
        (self.lines, self.serials, self.grants) = (0, HashMap::new(), HashMap::new());
        let mut bytes = Vec::new();
        let all = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.read_to_end(&mut bytes));
        all.map_err(|source| self.io(source))?;
        let whole = whole(&bytes).len();
        let entries: Vec<Entry> = entries(&self.path, &bytes).collect::<Result<_, _>>()?;
        entries.into_iter().for_each(|entry| self.keep(entry));
        self.length = whole as u64;
        if whole < bytes.len() {
            self.file.set_len(self.length).and_then(|()| self.file.sync_data()).map_err(|source| self.io(source))?;
        }
        Ok(())
    }

    fn keep(&mut self, entry: Entry) {
        self.lines += 1;
        if let Some(used) = entry.used {
            self.grants.insert(used.request, (used, entry.until));
        }
        if entry.serial != NONE {
            self.serials.insert(entry.serial, entry.until);
        }
    }

    /// Leaves out what is over, and writes the rest into a file that takes the old one's place. Where that
    /// cannot be, the old one goes on.
    fn written_anew(mut self, state: &Path, now: Timestamp) -> Self {
        let all = self.serials.len() + self.grants.len();
        self.serials.retain(|_, until| *until > now);
        self.grants.retain(|_, (_, until)| *until > now);
        if self.serials.len() + self.grants.len() == all && !self.is_full() {
            return self;
        }
        let (grants, serials) = (self.grants.values(), self.serials.iter());
        let grants = grants.map(|(used, until)| Entry { v: VERSION, serial: NONE.into(), until: *until, used: Some(used.clone()) });
        let serials = serials.map(|(serial, until)| Entry { v: VERSION, serial: serial.clone(), until: *until, used: None });
        let lines: Vec<Vec<u8>> = grants.chain(serials).map(|entry| canonical::encode(&entry)).collect();
        match in_place_of(&self.path, state, &lines) {
            Ok((file, length)) => Self { file, length, lines: lines.len(), kept: lines.len(), ..self },
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "the pen's record could not be written anew");
                self
            }
        }
    }

    fn io(&self, source: io::Error) -> RecordError {
        RecordError::Io { path: self.path.clone(), source }
    }
}

/// The lines that have ended. One that did not was never answered with a signature.
fn whole(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    bytes.get(..end).unwrap_or_default()
}

fn entries<'b>(path: &'b Path, bytes: &'b [u8]) -> impl Iterator<Item = Result<Entry, RecordError>> + 'b {
    whole(bytes).split_inclusive(|byte| *byte == b'\n').enumerate().map(|(n, line)| {
        let entry = canonical::decode::<Entry>(line.strip_suffix(b"\n").unwrap_or(line));
        let entry = entry.and_then(|entry| if entry.v == VERSION { Ok(entry) } else { Err(NotCanonical::Form) });
        entry.map_err(|source| RecordError::Line { path: path.to_owned(), line: n + 1, source })
    })
}

/// Looks whether a pen would take the record of a state directory, for who asks before a start.
pub fn inspect(state: &Path) -> Result<(), RecordError> {
    let path = state.join("pen.record");
    match fs::read(&path) {
        Ok(bytes) => entries(&path, &bytes).try_for_each(|entry| entry.map(drop)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(RecordError::Io { path, source }),
    }
}

/// Puts a new file into the old one's place, whole or not at all.
fn in_place_of(path: &Path, state: &Path, lines: &[Vec<u8>]) -> io::Result<(File, u64)> {
    let next = state.join("pen.record.next");
    if next.exists() {
        fs::remove_file(&next)?;
    }
    let text: Vec<u8> = lines.iter().flat_map(|line| [line.as_slice(), b"\n"].concat()).collect();
    let mut file = options().open(&next)?;
    file.write_all(&text)?;
    file.sync_data()?;
    fs::rename(&next, path)?;
    File::open(state)?.sync_all()?;
    Ok((file, text.len() as u64))
}

/// Appending, for its owner alone.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options
}

fn take(lock: &File) -> bool {
    let began = crate::time::boottime();
    loop {
        if flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return true;
        }
        if crate::time::boottime().saturating_sub(began) > OTHER {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    fn used(request: &str, uses: u64) -> Used {
        let ends = NOW.plus(Duration::from_secs(1800));
        Used { request: request.parse().unwrap(), digest: Digest([1; 32]), first: NOW, ends, uses, extended_by: vec![] }
    }

    fn signs(record: &mut Record, serial: u64, fits_until: Timestamp, used: Option<Used>) {
        record.stage(Entry::new(serial, fits_until, used));
        record.commit().unwrap();
    }

    #[test]
    fn what_was_signed_is_known_after_a_start_and_forgotten_when_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::open(dir.path(), NOW).unwrap();
        signs(&mut record, 7, NOW.plus(Duration::from_secs(120)), None);
        signs(&mut record, 8, used("K7Q3FM", 1).ends, Some(used("K7Q3FM", 1)));
        signs(&mut record, 9, used("K7Q3FM", 1).ends, Some(used("K7Q3FM", 2)));
        drop(record);
        for (later, serials, grant) in [(0, [true, true, true], Some(2)), (86_400 + 600, [false, true, true], Some(2))] {
            let record = Record::open(dir.path(), NOW.plus(Duration::from_secs(later))).unwrap();
            assert_eq!([7, 8, 9].map(|serial| record.knows_serial(serial)), serials, "{later}");
            assert_eq!(record.grant("K7Q3FM".parse().unwrap()).map(|used| used.uses), grant, "{later}");
        }
        let record = Record::open(dir.path(), NOW.plus(2 * KEPT)).unwrap();
        assert!(!record.knows_serial(9) && record.grant("K7Q3FM".parse().unwrap()).is_none());
        assert_eq!(fs::read(dir.path().join("pen.record")).unwrap(), b"");
    }

    #[test]
    fn a_torn_line_was_never_signed_and_a_bad_one_ends_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::open(dir.path(), NOW).unwrap();
        signs(&mut record, 7, NOW.plus(Duration::from_secs(120)), None);
        drop(record);
        let path = dir.path().join("pen.record");
        let good = fs::read(&path).unwrap();
        fs::write(&path, [&good[..], b"{\"serial\":\"8"].concat()).unwrap();
        let mut record = Record::open(dir.path(), NOW).unwrap();
        assert!(record.knows_serial(7) && !record.knows_serial(8));
        signs(&mut record, 9, NOW.plus(Duration::from_secs(120)), None);
        drop(record);
        assert!(Record::open(dir.path(), NOW).unwrap().knows_serial(9));
        assert!(inspect(dir.path()).is_ok() && inspect(&dir.path().join("none")).is_ok());
        fs::write(&path, [&b"{}\n"[..], &good].concat()).unwrap();
        assert!(matches!(inspect(dir.path()), Err(RecordError::Line { line: 1, .. })));
        assert!(matches!(Record::open(dir.path(), NOW), Err(RecordError::Line { line: 1, .. })));
    }
}
