//! Events to lines.

use std::borrow::Cow;

use serde::Serialize;

use super::{
    Bytes64, EofText, IndexEntry, KilledText, MAX_INDEX, NO_TERMINAL, Opening, SignalText, Tally, Totals, VariableText, WithheldText,
};
use crate::id::Digest;
use crate::time::Timestamp;
use crate::transcript::event::{Event, Exit, PerStream, Stream};
use crate::transcript::header::{Document, Header};
use crate::transcript::outcome::Outcome;
use crate::transcript::spool::Cut;

/// A chunk with more broken places than this is kept whole as base64, one with fewer piece by piece.
const MAX_PIECES: usize = 8;

/// Characters of the title.
const LONGEST_TITLE: usize = 200;

/// How a transcript ends, with its index.
#[derive(Debug, Clone)]
pub struct Ending {
    pub outcome: Outcome,
    pub ended: Timestamp,
    pub cut: Option<Cut>,
    pub index: Vec<IndexEntry>,
}

/// Returns the header line, its line feed included.
pub fn first_line(header: &Header) -> Vec<u8> {
    let (width, height) = header.terminal.as_ref().map_or(NO_TERMINAL, |(cols, rows, _)| (*cols, *rows));
    let command = header.command.as_deref().map(String::from_utf8_lossy);
    let what = command.as_deref().unwrap_or(&header.kind);
    let title = format!("{} · {}@{} · {what}", header.person, header.login, header.target);
    // For people; the command's own bytes stand in `command_b64`.
    let title = title.chars().take(LONGEST_TITLE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let opening = Opening {
        version: 2,
        width: width.max(1),
        height: height.max(1),
        timestamp: header.started.micros().div_euclid(1_000_000),
        title: Some(title),
        env: header.terminal.iter().map(|(_, _, term)| ("TERM".to_owned(), term.clone())).collect(),
        countersign: Document::of(header),
    };
    let mut line = serde_json::to_vec(&opening).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Turns events into lines and keeps the sums for the last one.
#[derive(Debug)]
pub struct Encoder {
    terminal: bool,
    lines: u64,
    tallies: PerStream<Tally>,
    /// The beginning of a UTF-8 sequence whose rest has not come, at most three bytes.
    carried: PerStream<Vec<u8>>,
}

impl Encoder {
    pub fn new(header: &Header) -> Self {
        Self { terminal: header.is_terminal(), lines: 0, tallies: PerStream::default(), carried: PerStream::default() }
    }

    /// Appends the lines of one event: none, one, or a few that belong together. `at` is in microseconds
    /// since the start and never goes back.
    pub fn event(&mut self, at: u64, event: &Event, to: &mut Vec<u8>) {
        let ms = at / 1000;
        match event {
            Event::Bytes { stream, bytes } => {
                self.tallies.of_mut(*stream).take(bytes);
                self.bytes(ms, *stream, bytes, to);
            }
            Event::Withheld { stream, length, sha256 } => {
                self.release(ms, *stream, to);
                self.tallies.of_mut(*stream).withhold(*length, *sha256);
                self.withheld(ms, *stream, *length, *sha256, to);
            }
            Event::Eof { stream } => {
                self.release(ms, *stream, to);
                self.own(ms, "f", &EofText { stream: stream.to_string() }, to);
            }
            Event::Resize { cols, rows } => self.line(ms, "r", &format!("{cols}x{rows}"), to),
            Event::Signal { name } => self.own(ms, "s", &SignalText { signal: name.clone() }, to),
            Event::Environment { name, value } => {
                self.own(ms, "v", &VariableText { name: name.clone(), value: value.clone() }, to);
            }
            Event::Marker { text } => self.line(ms, "m", text, to),
            Event::Exit(Exit::Status(status)) => self.line(ms, "x", &status.to_string(), to),
            Event::Exit(Exit::Signal { name, core_dumped, message }) => {
                let text = KilledText { signal: name.clone(), core_dumped: *core_dumped, message: message.clone() };
                self.own(ms, "k", &text, to);
            }
        }
    }

    /// Appends what is still carried. Nothing but [`Encoder::finish`] may follow.
    pub fn release_all(&mut self, at: u64, to: &mut Vec<u8>) {
        for stream in Stream::ALL {
            self.release(at / 1000, stream, to);
        }
    }

    /// Appends the totals.
    pub fn finish(mut self, at: u64, ending: Ending, to: &mut Vec<u8>) {
        self.release_all(at, to);
        let mut index = ending.index;
        index.truncate(MAX_INDEX);
        let totals = Totals {
            lines: self.lines,
            input: self.tallies.of(Stream::Input).total(),
            output: self.tallies.of(Stream::Output).total(),
            error: self.tallies.of(Stream::Error).total(),
            outcome: ending.outcome.to_string(),
            ended: ending.ended,
            cut: ending.cut,
            index,
        };
        self.own(at / 1000, "t", &totals, to);
    }

    fn bytes(&mut self, ms: u64, stream: Stream, bytes: &[u8], to: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let carried = std::mem::take(self.carried.of_mut(stream));
        let joined = if carried.is_empty() { Cow::Borrowed(bytes) } else { Cow::Owned([&carried, bytes].concat()) };
        let (whole, begun) = split_begun(&joined);
        *self.carried.of_mut(stream) = begun.to_vec();
        if whole.is_empty() {
            return;
        }
        if let Ok(text) = std::str::from_utf8(whole) {
            return self.text(ms, stream, text, to);
        }
        if whole.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).nth(MAX_PIECES).is_some() {
            return self.raw(ms, stream, whole, self.terminal, to);
        }
        for chunk in whole.utf8_chunks() {
            if !chunk.valid().is_empty() {
                self.text(ms, stream, chunk.valid(), to);
            }
            if !chunk.invalid().is_empty() {
                self.raw(ms, stream, chunk.invalid(), true, to);
            }
        }
    }

    fn release(&mut self, ms: u64, stream: Stream, to: &mut Vec<u8>) {
        let carried = std::mem::take(self.carried.of_mut(stream));
        if !carried.is_empty() {
            self.raw(ms, stream, &carried, true, to);
        }
    }

    fn text(&mut self, ms: u64, stream: Stream, text: &str, to: &mut Vec<u8>) {
        match stream {
            Stream::Input => return self.line(ms, "i", text, to),
            Stream::Output => {}
            Stream::Error => self.own(ms, "q", &Bytes64 { stream: stream.to_string(), b64: None }, to),
        }
        self.draw(ms, text, to);
    }

    /// Writes bytes that are no text; input is drawn by no player anyway.
    fn raw(&mut self, ms: u64, stream: Stream, bytes: &[u8], drawn: bool, to: &mut Vec<u8>) {
        let drawn = drawn && stream != Stream::Input;
        let text = Bytes64 { stream: stream.to_string(), b64: Some(data_encoding::BASE64.encode(bytes)) };
        self.own(ms, if drawn { "q" } else { "b" }, &text, to);
        if drawn {
            self.draw(ms, &String::from_utf8_lossy(bytes), to);
        }
    }

    fn draw(&mut self, ms: u64, text: &str, to: &mut Vec<u8>) {
        if self.terminal || !text.contains('\n') {
            self.line(ms, "o", text, to);
        } else {
            self.line(ms, "o", &text.replace('\n', "\r\n"), to);
        }
    }

    fn withheld(&mut self, ms: u64, stream: Stream, bytes: u64, sha256: Option<Digest>, to: &mut Vec<u8>) {
        self.own(ms, "w", &WithheldText { stream: stream.to_string(), bytes, sha256 }, to);
    }

    fn own(&mut self, ms: u64, code: &str, text: &impl Serialize, to: &mut Vec<u8>) {
        let text = serde_json::to_string(text).unwrap_or_default();
        self.line(ms, code, &text, to);
    }

    fn line(&mut self, ms: u64, code: &str, text: &str, to: &mut Vec<u8>) {
        // Writing to memory does not fail; one format and one string, as millions of these are written.
        use std::io::Write as _;
        let _ = write!(to, "[{}.{:03},\"{code}\",", ms / 1000, ms % 1000);
        let _ = serde_json::to_writer(&mut *to, text);
        to.extend_from_slice(b"]\n");
        self.lines += 1;
    }
}

/// Splits off the beginning of a UTF-8 sequence at the end of `bytes` that the next packet may complete.
fn split_begun(bytes: &[u8]) -> (&[u8], &[u8]) {
    for back in 1..=bytes.len().min(3) {
        let (whole, tail) = bytes.split_at(bytes.len() - back);
        let Some(first) = tail.first() else { break };
        if first & 0b1100_0000 == 0b1000_0000 {
            continue; // a continuation byte: look for what began it
        }
        let begun = matches!(std::str::from_utf8(tail), Err(error) if error.valid_up_to() == 0 && error.error_len().is_none());
        return if begun { (whole, tail) } else { (bytes, &[]) };
    }
    (bytes, &[])
}
