//! Reads a sealed recording event by event, in bounded memory, from the beginning or from a time.
//!
//! Read to its end from its beginning, every stream has been compared with the totals; a file that was
//! cut or changed is an error, never a shorter recording.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::time::Duration;

use super::frames::FrameSource;
use crate::transcript::asciicast::{BadLine, Decoder, IndexEntry, Line, MAX_INDEX, MAX_LINE, Totals};
use crate::transcript::{Event, Header};

/// An event and when it was, from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Played {
    pub at: Duration,
    pub event: Event,
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("the recording cannot be read")]
    Io(#[from] io::Error),
    #[error("line {number} of the recording is bad")]
    Line {
        number: u64,
        #[source]
        source: BadLine,
    },
    #[error("the recording ends before its totals: it was cut")]
    Cut,
    #[error("the last line of the recording is not its totals")]
    Totals(#[source] BadLine),
    #[error("entry {0} of its index points elsewhere than to the beginning of a frame")]
    Index(usize),
    #[error("its index has {0} entries, at most {MAX_INDEX} are ours")]
    LongIndex(usize),
}

pub struct Replay<R = File> {
    frames: FrameSource<R>,
    decoder: Decoder,
    header: Header,
    totals: Totals,
    /// The frame that comes after `content`.
    next_frame: usize,
    content: Vec<u8>,
    /// How much of `content` was used.
    used: usize,
    line: Vec<u8>,
    number: u64,
}

impl<R> std::fmt::Debug for Replay<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("session", &self.header.session).field("line", &self.number).finish_non_exhaustive()
    }
}

impl Replay<File> {
    pub fn open(path: &Path) -> Result<Self, ReplayError> {
        Self::over(File::open(path)?)
    }
}

impl<R: Read + Seek> Replay<R> {
    /// Reads header and totals; anything that can be read and sought will do.
    pub fn over(source: R) -> Result<Self, ReplayError> {
        let mut frames = FrameSource::open(source)?;
        let mut content = Vec::new();
        let last = frames.count().checked_sub(1).ok_or(ReplayError::Cut)?;
        frames.read(last, &mut content)?;
        let last_line = content.split(|b| *b == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default().to_vec();
        let tail = std::mem::take(&mut content);

        frames.read(0, &mut content)?;
        let first = content.split_inclusive(|b| *b == b'\n').next().unwrap_or_default();
        let used = first.len();
        let (decoder, header) = Decoder::open(first).map_err(|source| ReplayError::Line { number: 1, source })?;
        let (mut ahead, _) = Decoder::open(first).map_err(|source| ReplayError::Line { number: 1, source })?;
        ahead.jump();
        let totals = match ahead.line(&last_line) {
            Ok(Line::Totals(totals)) => totals,
            Ok(Line::Event { .. } | Line::Half) => {
                return Err(if behind_totals(&tail, first) { ReplayError::Totals(BadLine::AfterTotals) } else { ReplayError::Cut });
            }
            Err(bad @ BadLine::Text("t")) => return Err(ReplayError::Totals(bad)),
            Err(_) => return Err(ReplayError::Cut),
        };
        Ok(Self { frames, decoder, header, totals: *totals, next_frame: 1, content, used, line: Vec::new(), number: 1 })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What the last line says: outcome, digests, index.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Whether the index leads to frames, and onwards only.
    pub fn check_index(&self) -> Result<(), ReplayError> {
        check_index(&self.totals, &self.frames)
    }

    /// Goes to the last indexed place that is not after `to`, so that the events before `to` can be drawn
    /// at once; returns the terminal's size there. The totals are not checked from then on.
    pub fn seek(&mut self, to: Duration) -> Result<Option<(u32, u32)>, ReplayError> {
        self.check_index()?;
        let ms = u64::try_from(to.as_millis()).unwrap_or(u64::MAX);
        let entry = self.totals.index.iter().rev().find(|entry| entry.0 <= ms).copied();
        let (frame, inside) = match entry {
            Some(entry) => self.frames.find(entry.1).ok_or(ReplayError::Cut)?,
            None => (0, 0),
        };
        self.frames.read(frame, &mut self.content)?;
        self.next_frame = frame + 1;
        self.used = match entry {
            Some(_) => inside,
            None => self.content.iter().position(|b| *b == b'\n').map_or(self.content.len(), |end| end + 1),
        };
        self.line.clear();
        self.decoder.jump();
        let began = self.header.terminal.as_ref().map(|(cols, rows, _)| (*cols, *rows));
        Ok(entry.map(|entry| (entry.2, entry.3)).filter(|(cols, rows)| *cols > 0 && *rows > 0).or(began))
    }

    fn next_event(&mut self) -> Result<Option<Played>, ReplayError> {
        loop {
            if !self.next_line()? {
                return if self.decoder.is_finished() { Ok(None) } else { Err(ReplayError::Cut) };
            }
            let line = self.decoder.line(&self.line).map_err(|source| ReplayError::Line { number: self.number, source })?;
            match line {
                Line::Event { ms, event } => return Ok(Some(Played { at: Duration::from_millis(ms), event })),
                Line::Totals(_) | Line::Half => {}
            }
        }
    }

    /// Puts the next line into `line`; says whether there was one.
    fn next_line(&mut self) -> Result<bool, ReplayError> {
        self.line.clear();
        self.number += 1;
        loop {
            let rest = self.content.get(self.used..).unwrap_or_default();
            let end = rest.iter().position(|b| *b == b'\n');
            let piece = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            if self.line.len() + piece.len() > MAX_LINE {
                return Err(ReplayError::Line { number: self.number, source: BadLine::Long });
            }
            self.line.extend_from_slice(piece);
            self.used += piece.len() + 1;
            if end.is_some() {
                return Ok(true);
            }
            if self.next_frame >= self.frames.count() {
                return if self.line.is_empty() { Ok(false) } else { Err(ReplayError::Cut) };
            }
            self.frames.read(self.next_frame, &mut self.content)?;
            self.next_frame += 1;
            self.used = 0;
        }
    }
}

/// Whether totals stand before the last line of the last frame.
fn behind_totals(tail: &[u8], first: &[u8]) -> bool {
    tail.split(|b| *b == b'\n').any(|line| {
        let Ok((mut decoder, _)) = Decoder::open(first) else { return false };
        decoder.jump();
        matches!(decoder.line(line), Ok(Line::Totals(_)))
    })
}

fn check_index<R: Read + Seek>(totals: &Totals, frames: &FrameSource<R>) -> Result<(), ReplayError> {
    if totals.index.len() > MAX_INDEX {
        return Err(ReplayError::LongIndex(totals.index.len()));
    }
    let mut before: Option<IndexEntry> = None;
    for (n, entry) in totals.index.iter().enumerate() {
        let onwards = before.is_none_or(|before| before.0 <= entry.0 && before.1 < entry.1);
        let to_a_frame = frames.find(entry.1).is_some_and(|(_, inside)| inside == 0);
        if !onwards || !to_a_frame {
            return Err(ReplayError::Index(n));
        }
        before = Some(*entry);
    }
    Ok(())
}

impl<R: Read + Seek> Iterator for Replay<R> {
    type Item = Result<Played, ReplayError>;

    /// After an error nothing more comes.
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_event();
        if next.is_err() {
            self.next_frame = usize::MAX;
            self.content.clear();
        }
        next.transpose()
    }
}
