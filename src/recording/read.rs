//! Reads a spool from its file, record by record, in bounded memory, up to where it is good.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::RecordError;
use crate::transcript::Header;
use crate::transcript::event::Event;
use crate::transcript::record::{self, Ending, Record};
use crate::transcript::spool::{Cut, FrameReader, MAGIC, MAX_PAYLOAD, OVERHEAD, Place, Step};

/// Two of the largest frames, so that reading is in large pieces.
const BUFFER: usize = 2 * (MAX_PAYLOAD + OVERHEAD);

#[derive(Debug)]
pub(super) struct SpoolReader<R> {
    source: R,
    buffer: Vec<u8>,
    /// The part of the buffer that was read and not yet used.
    from: usize,
    to: usize,
    frames: FrameReader,
    /// Offset in the spool behind the last good record.
    good: u64,
}

/// What comes next in a spool.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Event {
        at: u64,
        event: Event,
    },
    /// The end record; nothing behind it counts.
    End(Ending),
    /// The spool stops being good here.
    Cut(Cut),
}

/// A frame's payload in the buffer, or why there is none.
enum Frame {
    Good { from: usize, to: usize, place: Place },
    Bad(String),
}

impl SpoolReader<File> {
    /// Opens a spool and reads its header; [`RecordError::BadSpool`] if it is none.
    pub(super) fn open(path: &Path) -> Result<(Self, Header), RecordError> {
        let io = |e| RecordError::io("could not read", path, e);
        let file = File::open(path).map_err(io)?;
        let (reader, header) = Self::over(file).map_err(io)?;
        let header = header.map_err(|why| RecordError::BadSpool { path: path.to_owned(), why })?;
        Ok((reader, header))
    }
}

impl<R: Read> SpoolReader<R> {
    pub(super) fn over(source: R) -> io::Result<(Self, Result<Header, String>)> {
        let buffer = vec![0; BUFFER];
        let mut reader = Self { source, buffer, from: 0, to: 0, frames: FrameReader::default(), good: 0 };
        let header = reader.header()?;
        Ok((reader, header))
    }

    pub(super) fn next(&mut self) -> io::Result<Next> {
        let (from, to, place) = match self.frame()? {
            Frame::Good { from, to, place } => (from, to, place),
            Frame::Bad(why) => return Ok(self.cut(why)),
        };
        let payload = self.buffer.get(from..to).unwrap_or_default();
        match (record::decode(payload), place) {
            (Ok(Record::Event { at, event }), Place::Inside) => {
                self.good += (to - from + OVERHEAD) as u64;
                Ok(Next::Event { at, event })
            }
            (Ok(Record::End(ending)), Place::Last) => Ok(Next::End(ending)),
            (Ok(Record::Event { .. }), Place::Last) | (Ok(Record::End(_)), Place::Inside) => {
                Ok(self.cut("the mark of the last record contradicts it".into()))
            }
            (Err(bad), _) => Ok(self.cut(bad.to_string())),
        }
    }

    fn header(&mut self) -> io::Result<Result<Header, String>> {
        if !self.fill(MAGIC.len())? || self.rest().get(..MAGIC.len()) != Some(&MAGIC[..]) {
            return Ok(Err("it does not begin as a spool of this version".into()));
        }
        self.from += MAGIC.len();
        Ok(match self.frame()? {
            Frame::Good { from, to, place: Place::Inside } => {
                self.good = (MAGIC.len() + to - from + OVERHEAD) as u64;
                Header::from_json(self.buffer.get(from..to).unwrap_or_default()).map_err(|e| e.to_string())
            }
            Frame::Good { place: Place::Last, .. } => Err("its header is marked as its end".into()),
            Frame::Bad(why) => Err(format!("its header is not whole: {why}")),
        })
    }

    fn frame(&mut self) -> io::Result<Frame> {
        let mut needed = OVERHEAD;
        loop {
            if !self.fill(needed)? {
                let left = self.to - self.from;
                return Ok(Frame::Bad(if left == 0 {
                    "there is no end record".into()
                } else {
                    format!("a record is torn after {left} bytes")
                }));
            }
            match self.frames.read(self.buffer.get(self.from..self.to).unwrap_or_default()) {
                Step::Frame { place, size, .. } => {
                    let (from, to) = (self.from + OVERHEAD, self.from + size);
                    self.from = to;
                    return Ok(Frame::Good { from, to, place });
                }
                Step::More(more) => needed = more,
                Step::Bad(flaw) => return Ok(Frame::Bad(flaw.to_string())),
            }
        }
    }

    fn cut(&self, why: String) -> Next {
        Next::Cut(Cut { offset: self.good, why })
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.from..self.to).unwrap_or_default()
    }

    /// Reads until `needed` bytes are there; says whether they are. An error of the disk is not an end.
    fn fill(&mut self, needed: usize) -> io::Result<bool> {
        if self.to - self.from >= needed {
            return Ok(true);
        }
        self.buffer.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        while self.to < needed {
            match self.source.read(self.buffer.get_mut(self.to..).unwrap_or_default()) {
                Ok(0) => return Ok(false),
                Ok(read) => self.to += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}
