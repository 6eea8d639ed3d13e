//! From a spool to the file that is kept: body, (key file), (manifest), then all of them under their names.
//!
//! Always true: what stands under a final name is whole and durable; a failed attempt leaves nothing but
//! the spool; the same spool seals to the same bytes. Memory does not grow with the spool.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::frames::{FrameSink, Start};
use super::layout::{self, Layout, sync_dir};
use super::read::{Next, SpoolReader};
use super::{RecordError, Sealed};
use crate::id::{Digest, SessionId};
use crate::time::Timestamp;
use crate::transcript::asciicast::{Encoder, Ending, IndexEntry, MAX_INDEX, first_line};
use crate::transcript::event::Event;
use crate::transcript::{Header, Outcome};

/// Seals one spool; blocks on the disk and takes a core.
pub(super) fn seal(layout: &Layout, spool: &Path) -> Result<Sealed, RecordError> {
    let (mut reader, header) = SpoolReader::open(spool)?;
    let session = header.session;
    if layout.spool(session) != spool {
        return Err(RecordError::BadSpool { path: spool.to_owned(), why: format!("it is the spool of {session}") });
    }
    let parents = layout.make_parents(session)?;
    let outputs = Outputs::fresh(layout, session)?;

    let body = write_body(&outputs.body.tmp, |to| transcribe(&mut reader, &header, to), spool)?;
    // The key file and the manifest are written here, from the body's digest and size.

    outputs.publish(&parents)?;
    let Body { sha256, bytes, end } = body;
    Ok(Sealed { session, outcome: end.outcome, file: layout::sealed_name(session), sha256, bytes, ended: end.ended })
}

/// Removes whatever an earlier attempt made.
pub(super) fn delete_outputs(layout: &Layout, session: SessionId) -> Result<(), RecordError> {
    let outputs = Outputs::of(layout, session);
    for path in [&outputs.body.tmp, &outputs.body.path] {
        remove(path)?;
    }
    Ok(())
}

/// The files of one recording. While they are made they have another name, and go if the attempt does.
struct Outputs {
    body: Output,
}

struct Output {
    tmp: PathBuf,
    path: PathBuf,
    published: bool,
}

impl Outputs {
    fn of(layout: &Layout, session: SessionId) -> Self {
        let path = layout.sealed(session);
        let tmp = path.with_extension("zst.tmp");
        Self { body: Output { tmp, path, published: true } }
    }

    fn fresh(layout: &Layout, session: SessionId) -> Result<Self, RecordError> {
        let mut outputs = Self::of(layout, session);
        outputs.body.published = false;
        remove(&outputs.body.tmp)?;
        Ok(outputs)
    }

    fn publish(mut self, parents: &Path) -> Result<(), RecordError> {
        let Output { tmp, path, published } = &mut self.body;
        std::fs::rename(&*tmp, &*path).map_err(|e| RecordError::io("could not rename", tmp, e))?;
        *published = true;
        sync_dir(parents)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_file(&self.tmp);
        }
    }
}

fn remove(path: &Path) -> Result<(), RecordError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(RecordError::io("could not remove", path, e)),
    }
}

struct Body {
    sha256: Digest,
    bytes: u64,
    end: End,
}

struct End {
    outcome: Outcome,
    ended: Timestamp,
}

/// Writes the body durably. Compressed, the encryption will come in between, then counted and digested.
fn write_body(
    tmp: &Path,
    transcribe: impl FnOnce(&mut FrameSink<Digesting<File>>) -> io::Result<End>,
    spool: &Path,
) -> Result<Body, RecordError> {
    let io = |e| RecordError::io("could not write", tmp, e);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(tmp).map_err(io)?;
    let mut sink = FrameSink::new(Digesting { to: file, sha256: Sha256::new(), bytes: 0 }).map_err(io)?;
    let end = transcribe(&mut sink).map_err(|e| RecordError::io("could not seal", spool, e))?;
    let Digesting { to: file, sha256, bytes } = sink.finish().map_err(io)?;
    file.sync_all().map_err(io)?;
    Ok(Body { sha256: Digest(sha256.finalize().into()), bytes, end })
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
