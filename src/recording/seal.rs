//! From a spool to the files that are kept: body, key files, manifest and its signature (**D seal**).
//!
//! Always true: what stands under a final name is whole and durable; a failed attempt leaves nothing but
//! the spool; each attempt encrypts to an identity of its own, whose secret is in the key files alone.
//! Memory does not grow with the spool.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use age::stream::StreamWriter;
use sha2::{Digest as _, Sha256};

use super::frames::{FrameSink, Start};
use super::layout::{self, Layout, Part, make_parents, sync_dir};
use super::protection::Protection;
use super::read::{Next, SpoolReader, Unwrap};
use super::{Node, RecordError, Sealed};
use crate::id::{Digest, SessionId};
use crate::time::Timestamp;
use crate::transcript::asciicast::{Encoder, Ending, IndexEntry, MAX_INDEX, first_line};
use crate::transcript::envelope::{self, Identity};
use crate::transcript::event::Event;
use crate::transcript::manifest::{self, Manifest};
use crate::transcript::{Header, Outcome};

/// Seals one spool; blocks on the disk and takes a core.
pub(super) fn seal(node: &Node, spool: &Path, unwrap: Unwrap<'_>) -> Result<Sealed, RecordError> {
    let (mut reader, header) = SpoolReader::open(spool, unwrap)?;
    let session = header.session;
    if node.layout.spool(session) != spool {
        return Err(RecordError::BadSpool { path: spool.to_owned(), why: format!("it is the spool of {session}") });
    }
    let protection = node.protection();
    let mut outputs = Outputs::default();

    let secret = match &*protection {
        Protection::Plain => None,
        Protection::Sealed { .. } => Some(Identity::generate()),
    };
    let part = if secret.is_some() { Part::Body } else { Part::Plain };
    let body = outputs.fresh(&node.layout.sealed_dir(), node.layout.sealed(session, part))?;
    let (digest, bytes, end) = write_body(&body, secret.as_ref(), |to| transcribe(&mut reader, &header, to), spool)?;
    if let (Some(secret), Protection::Sealed { auditors, key_files, .. }) = (&secret, &*protection) {
        let wrapped = key_file(session, secret, auditors)?;
        for dir in key_files {
            outputs.write(dir, layout::key_file(dir, session), &wrapped)?;
        }
    }
    let recipient = secret.as_ref().and_then(Identity::recipient).map(|recipient| recipient.to_string());
    let body = manifest::Body { bytes, sha256: digest, recipient };
    let log = *node.settings.log.borrow();
    let manifest = Manifest::of(&header, &node.settings.bastion, &end.outcome, end.ended, body, log).bytes();
    let signature = node.settings.seal_key.sign(manifest::NAMESPACE, &manifest);
    let signature = signature.map_err(|error| RecordError::Encrypt { why: super::spool::describe(&error) })?;
    let sealed_dir = node.layout.sealed_dir();
    outputs.write(&sealed_dir, node.layout.sealed(session, Part::Manifest), &manifest)?;
    outputs.write(&sealed_dir, node.layout.sealed(session, Part::Signature), signature.as_bytes())?;

    outputs.publish()?;
    Ok(Sealed {
        session,
        outcome: end.outcome,
        file: layout::sealed_name(session, part),
        sha256: digest,
        bytes,
        manifest: Digest::of(&manifest),
        retention: header.retention,
        ended: end.ended,
        recipients: protection.auditors().iter().map(ToString::to_string).collect(),
    })
}

/// The recording's secret for its auditors: a small age file that stock `age -i` takes as identity.
fn key_file(session: SessionId, secret: &Identity, auditors: &[envelope::Recipient]) -> Result<Vec<u8>, RecordError> {
    let Some(line) = secret.secret() else { return Err(RecordError::Stopped) };
    let text = zeroize::Zeroizing::new(format!("# countersign recording {session}\n{}", line.as_str()));
    envelope::wrap(text.as_bytes(), auditors.iter()).map_err(|error| RecordError::Encrypt { why: super::spool::describe(&error) })
}

/// Removes whatever an earlier attempt made.
pub(super) fn delete_outputs(layout: &Layout, protection: &Protection, session: SessionId) -> Result<(), RecordError> {
    let beside = Part::ALL.into_iter().filter(|part| *part != Part::Key).map(|part| layout.sealed(session, part));
    let keys = protection.key_dirs().iter().flat_map(|dir| [layout::key_file(dir, session), layout::first_key_file(dir, session)]);
    for path in keys.chain(beside) {
        remove(&path)?;
        remove(&unfinished(&path))?;
    }
    Ok(())
}

/// The files of one recording. While they are made they have another name, and go if the attempt does.
#[derive(Default)]
pub(super) struct Outputs {
    files: Vec<Output>,
}

struct Output {
    tmp: PathBuf,
    path: PathBuf,
    dir: PathBuf,
    published: bool,
}

pub(super) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    path.with_file_name(name)
}

impl Outputs {
    /// Announces a file two levels below `base`; returns where to write it.
    fn fresh(&mut self, base: &Path, path: PathBuf) -> Result<PathBuf, RecordError> {
        let dir = make_parents(base, &path)?;
        let tmp = unfinished(&path);
        remove(&tmp)?;
        self.files.push(Output { tmp: tmp.clone(), path, dir, published: false });
        Ok(tmp)
    }

    /// Writes a small file durably.
    pub(super) fn write(&mut self, base: &Path, path: PathBuf, bytes: &[u8]) -> Result<(), RecordError> {
        let tmp = self.fresh(base, path)?;
        let written = create(&tmp).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(|e| RecordError::io("could not write", &tmp, e))
    }

    /// Gives the files their names, durably.
    pub(super) fn publish(mut self) -> Result<(), RecordError> {
        let mut dirs = Vec::new();
        for Output { tmp, path, dir, published } in &mut self.files {
            std::fs::rename(&*tmp, &*path).map_err(|e| RecordError::io("could not rename", tmp, e))?;
            *published = true;
            if !dirs.contains(dir) {
                dirs.push(dir.clone());
            }
        }
        dirs.iter().try_for_each(|dir| sync_dir(dir))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_file(&self.tmp);
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn remove(path: &Path) -> Result<(), RecordError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(RecordError::io("could not remove", path, e)),
    }
}

struct End {
    outcome: Outcome,
    ended: Timestamp,
}

/// Where the compressed transcript goes.
enum BodyWriter {
    Plain(Digesting<File>),
    Sealed(StreamWriter<Digesting<File>>),
}

impl BodyWriter {
    fn new(file: File, secret: Option<&Identity>) -> io::Result<Self> {
        let to = Digesting { to: file, sha256: Sha256::new(), bytes: 0 };
        let Some(recipient) = secret.and_then(Identity::recipient) else { return Ok(BodyWriter::Plain(to)) };
        Ok(BodyWriter::Sealed(envelope::encrypting(&recipient, to)?))
    }

    fn finish(self) -> io::Result<Digesting<File>> {
        match self {
            BodyWriter::Plain(to) => Ok(to),
            BodyWriter::Sealed(to) => to.finish(),
        }
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            BodyWriter::Plain(to) => to.write(bytes),
            BodyWriter::Sealed(to) => to.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            BodyWriter::Plain(to) => to.flush(),
            BodyWriter::Sealed(to) => to.flush(),
        }
    }
}

/// Writes the body durably: compressed, encrypted, then counted and digested.
fn write_body(
    tmp: &Path,
    secret: Option<&Identity>,
    transcribe: impl FnOnce(&mut FrameSink<BodyWriter>) -> io::Result<End>,
    spool: &Path,
) -> Result<(Digest, u64, End), RecordError> {
    let io = |e| RecordError::io("could not write", tmp, e);
    let writer = create(tmp).and_then(|file| BodyWriter::new(file, secret)).map_err(io)?;
    let mut sink = FrameSink::new(writer).map_err(io)?;
    let end = transcribe(&mut sink).map_err(|e| RecordError::io("could not seal", spool, e))?;
    let Digesting { to: file, sha256, bytes } = sink.finish().and_then(BodyWriter::finish).map_err(io)?;
    file.sync_all().map_err(io)?;
    Ok((Digest(sha256.finalize().into()), bytes, end))
}

/// Spool to transcript: record by record, whatever its size.
fn transcribe(reader: &mut SpoolReader<File>, header: &Header, to: &mut FrameSink<impl Write>) -> io::Result<End> {
    let mut encoder = Encoder::new(header);
    let mut index = Index::new(header);
    let (mut lines, mut last) = (first_line(header), 0);
    to.lines(&lines)?;
    let (at, end, cut) = loop {
        match reader.next()? {
            Next::Event { at, event } => {
                last = at.max(last);
                lines.clear();
                encoder.event(last, &event, &mut lines);
                if !lines.is_empty()
                    && let (Start::Frame, offset) = to.lines(&lines)?
                {
                    index.frame(last / 1000, offset);
                }
                index.event(&event);
            }
            Next::End(end) => break (end.at.max(last), End { outcome: end.outcome, ended: end.ended }, None),
            Next::Cut(cut) => {
                let ended = Timestamp::from_micros(header.started.micros().saturating_add(i64::try_from(last).unwrap_or(i64::MAX)));
                break (last, End { outcome: Outcome::Interrupted, ended }, Some(cut));
            }
        }
    };
    lines.clear();
    encoder.release_all(at, &mut lines);
    to.lines(&lines)?;
    // The totals have a frame of their own: who seeks begins with it.
    to.cut()?;
    lines.clear();
    let ending = Ending { outcome: end.outcome.clone(), ended: end.ended, cut, index: index.entries };
    encoder.finish(at, ending, &mut lines);
    to.lines(&lines)?;
    Ok(end)
}

/// Where frames begin. When it is full every second entry goes, so that it stays a line.
struct Index {
    entries: Vec<IndexEntry>,
    size: (u32, u32),
    stride: usize,
    frames: usize,
}

impl Index {
    fn new(header: &Header) -> Self {
        let size = header.terminal.as_ref().map_or((0, 0), |(cols, rows, _)| (*cols, *rows));
        Self { entries: Vec::new(), size, stride: 1, frames: 0 }
    }

    fn event(&mut self, event: &Event) {
        if let Event::Resize { cols, rows } = event {
            self.size = (*cols, *rows);
        }
    }

    fn frame(&mut self, ms: u64, offset: u64) {
        if self.frames.is_multiple_of(self.stride) {
            if self.entries.len() == MAX_INDEX {
                let mut odd = false;
                self.entries.retain(|_| {
                    odd = !odd;
                    odd
                });
                self.stride *= 2;
            }
            if self.frames.is_multiple_of(self.stride) {
                self.entries.push(IndexEntry(ms, offset, self.size.0, self.size.1));
            }
        }
        self.frames += 1;
    }
}

/// Digests and counts what goes through.
struct Digesting<W> {
    to: W,
    sha256: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.sha256.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::header::tests::header;

    #[test]
    fn the_index_stays_a_line_and_keeps_its_beginning() {
        let mut index = Index::new(&header(true));
        for frame in 0..50_000u64 {
            index.frame(frame, frame * 7);
        }
        assert!(index.entries.len() <= MAX_INDEX);
        assert_eq!(index.entries[0], IndexEntry(0, 0, 80, 24));
        let gaps: std::collections::BTreeSet<u64> = index.entries.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert_eq!(gaps.len(), 1, "evenly spread: {gaps:?}");
    }
}
