//! Reads a spool from its file, record by record, in bounded memory, up to where it is good.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::RecordError;
use crate::transcript::Header;
use crate::transcript::event::Event;
use crate::transcript::record::{self, Ending, Record};
use crate::transcript::spool::{Cut, FrameReader, MAGIC, MAX_ENVELOPE, MAX_PAYLOAD, OVERHEAD, Place, SpoolKey, Step};

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
    /// The last frame's, decrypted.
    payload: Vec<u8>,
    /// Offset in the spool behind the last good record.
    good: u64,
}

/// How a spool's envelope becomes its key: known already, or opened with a key of the node or an auditor.
pub(super) type Unwrap<'a> = &'a dyn Fn(&[u8]) -> Unwrapped;

/// What came of opening an envelope.
pub(super) enum Unwrapped {
    Key(SpoolKey),
    /// It is addressed to others.
    NotForUs,
    Bad(String),
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

/// Why nothing can be read of a spool.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoSpool {
    /// It ends before its header does. Since the header is durable before anything is dialled (FC1), nothing
    /// was ever recorded in it.
    Unbegun,
    /// Its envelope is addressed to others: the auditors.
    Locked,
    Bad(String),
}

/// A frame whose payload has been decrypted, or why there is none.
enum Frame {
    Good {
        size: usize,
        place: Place,
    },
    /// The file ends here.
    Torn(String),
    Bad(String),
}

impl SpoolReader<File> {
    /// Opens a spool and reads its header; [`RecordError::BadSpool`] if it is none.
    pub(super) fn open(path: &Path, unwrap: Unwrap<'_>) -> Result<(Self, Header), RecordError> {
        let io = |e| RecordError::io("could not read", path, e);
        let file = File::open(path).map_err(io)?;
        let opened = Self::over(file, unwrap).map_err(io)?;
        opened.map_err(|no| match no {
            NoSpool::Unbegun => RecordError::Unbegun { path: path.to_owned() },
            NoSpool::Locked => RecordError::Locked { path: path.to_owned() },
            NoSpool::Bad(why) => RecordError::BadSpool { path: path.to_owned(), why },
        })
    }
}

impl<R: Read> SpoolReader<R> {
    /// Reads envelope and header; an inner error says why this is no spool that can be read.
    pub(super) fn over(source: R, unwrap: Unwrap<'_>) -> io::Result<Result<(Self, Header), NoSpool>> {
        let mut reader = Self::begun(source);
        let envelope = match reader.envelope()? {
            Ok(envelope) => envelope,
            Err(why) => return Ok(Err(why)),
        };
        match unwrap(&envelope) {
            Unwrapped::Key(key) => reader.frames = FrameReader::new(key),
            // Whether the header is there shows without the key.
            Unwrapped::NotForUs if matches!(reader.frame()?, Frame::Torn(_)) => return Ok(Err(NoSpool::Unbegun)),
            Unwrapped::NotForUs => return Ok(Err(NoSpool::Locked)),
            Unwrapped::Bad(why) => return Ok(Err(NoSpool::Bad(why))),
        }
        let header = reader.header()?;
        Ok(header.map(|header| (reader, header)))
    }

    pub(super) fn next(&mut self) -> io::Result<Next> {
        let (size, place) = match self.frame()? {
            Frame::Good { size, place } => (size, place),
            Frame::Torn(why) | Frame::Bad(why) => return Ok(self.cut(why)),
        };
        match (record::decode(&self.payload), place) {
            (Ok(Record::Event { at, event }), Place::Inside) => {
                self.good += size as u64;
                Ok(Next::Event { at, event })
            }
            (Ok(Record::End(ending)), Place::Last) => Ok(Next::End(ending)),
            (Ok(Record::Event { .. }), Place::Last) | (Ok(Record::End(_)), Place::Inside) => {
                Ok(self.cut("the mark of the last record contradicts it".into()))
            }
            (Err(bad), _) => Ok(self.cut(bad.to_string())),
        }
    }

    /// Reads the envelope alone, to be opened elsewhere.
    pub(super) fn envelope_of(source: R) -> io::Result<Result<Vec<u8>, NoSpool>> {
        Self::begun(source).envelope()
    }

    fn begun(source: R) -> Self {
        let frames = FrameReader::new(SpoolKey::new(&[0; 32]));
        Self { source, buffer: vec![0; BUFFER], from: 0, to: 0, frames, payload: Vec::new(), good: 0 }
    }

    fn envelope(&mut self) -> io::Result<Result<Vec<u8>, NoSpool>> {
        let head = MAGIC.len() + 4;
        let whole = self.fill(head)?;
        let begins = self.rest().len().min(MAGIC.len());
        if self.rest().get(..begins) != MAGIC.get(..begins) {
            return Ok(Err(NoSpool::Bad("it does not begin as a spool of this version".into())));
        }
        if !whole {
            return Ok(Err(NoSpool::Unbegun));
        }
        let length = self.rest().get(MAGIC.len()..head).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_ENVELOPE {
            return Ok(Err(NoSpool::Bad(format!("an envelope of {length} bytes is not one of ours"))));
        }
        if !self.fill(head + length)? {
            return Ok(Err(NoSpool::Unbegun));
        }
        let envelope = self.rest().get(head..head + length).unwrap_or_default().to_vec();
        self.from += head + length;
        self.good = (head + length) as u64;
        Ok(Ok(envelope))
    }

    fn header(&mut self) -> io::Result<Result<Header, NoSpool>> {
        Ok(match self.frame()? {
            Frame::Good { size, place: Place::Inside } => {
                self.good += size as u64;
                Header::from_json(&self.payload).map_err(|e| NoSpool::Bad(e.to_string()))
            }
            Frame::Good { place: Place::Last, .. } => Err(NoSpool::Bad("its header is marked as its end".into())),
            Frame::Torn(_) => Err(NoSpool::Unbegun),
            Frame::Bad(why) => Err(NoSpool::Bad(format!("its header is not whole: {why}"))),
        })
    }

    fn frame(&mut self) -> io::Result<Frame> {
        let mut needed = OVERHEAD;
        loop {
            if !self.fill(needed)? {
                let left = self.to - self.from;
                return Ok(Frame::Torn(if left == 0 {
                    "there is no end record".into()
                } else {
                    format!("a record is torn after {left} bytes")
                }));
            }
            let bytes = self.buffer.get(self.from..self.to).unwrap_or_default();
            match self.frames.read(bytes, &mut self.payload) {
                Step::Frame { place, size } => {
                    self.from += size;
                    return Ok(Frame::Good { size, place });
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
