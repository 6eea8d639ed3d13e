//! The payload of one spool record: compact, binary, little-endian.
//!
//! An event is `at: u64` (microseconds since the start), a tag byte, and its fields; the last field
//! takes the rest, an earlier text is preceded by its length. The tags are written down in spools: a
//! new event takes a new tag, an old tag never changes its meaning.

use std::borrow::Cow;

use bytes::Bytes;

use super::event::{Event, Exit, Stream};
use super::outcome::Outcome;
use crate::id::Digest;
use crate::time::Timestamp;

/// The longest text of an event; what is longer is cut and says so. An SSH packet holds at most this
/// much many times over, but its JSON would not fit a line of the transcript.
pub const MAX_TEXT: usize = 64 * 1024;

/// The most bytes of a stream in one record; the recorder splits what is longer.
pub const MAX_CHUNK: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Event { at: u64, event: Event },
    End(Ending),
}

/// The last record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Microseconds since the start.
    pub at: u64,
    pub ended: Timestamp,
    pub outcome: Outcome,
}

/// A payload that passed its checksum and still is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    #[error("it ends too early")]
    Short,
    #[error("it has bytes to spare")]
    Long,
    #[error("{0} is not a kind of record")]
    Tag(u8),
    #[error("{0} is not a stream")]
    Stream(u8),
    #[error("a text in it is not UTF-8")]
    Text,
    #[error("a flag in it is neither 0 nor 1")]
    Flag,
    #[error("its outcome cannot be read")]
    Outcome,
}

const BYTES: u8 = 1;
const WITHHELD: u8 = 2;
const EOF: u8 = 3;
const RESIZE: u8 = 4;
const SIGNAL: u8 = 5;
const ENVIRONMENT: u8 = 6;
const MARKER: u8 = 7;
const EXIT_STATUS: u8 = 8;
const EXIT_SIGNAL: u8 = 9;
const END: u8 = 32;

/// Appends the payload of one event.
pub fn encode_event(at: u64, event: &Event, to: &mut Vec<u8>) {
    to.extend_from_slice(&at.to_le_bytes());
    match event {
        Event::Bytes { stream, bytes } => {
            to.extend_from_slice(&[BYTES, stream_byte(*stream)]);
            to.extend_from_slice(bytes);
        }
        Event::Withheld { stream, length, sha256 } => {
            to.extend_from_slice(&[WITHHELD, stream_byte(*stream)]);
            to.extend_from_slice(&length.to_le_bytes());
            if let Some(Digest(digest)) = sha256 {
                to.extend_from_slice(digest);
            }
        }
        Event::Eof { stream } => to.extend_from_slice(&[EOF, stream_byte(*stream)]),
        Event::Resize { cols, rows } => {
            to.push(RESIZE);
            to.extend_from_slice(&cols.to_le_bytes());
            to.extend_from_slice(&rows.to_le_bytes());
        }
        Event::Signal { name } => {
            to.push(SIGNAL);
            to.extend_from_slice(shorten(name, MAX_TEXT).as_bytes());
        }
        Event::Environment { name, value } => {
            to.push(ENVIRONMENT);
            put_text(name, to);
            to.extend_from_slice(shorten(value, MAX_TEXT).as_bytes());
        }
        Event::Marker { text } => {
            to.push(MARKER);
            to.extend_from_slice(shorten(text, MAX_TEXT).as_bytes());
        }
        Event::Exit(Exit::Status(status)) => {
            to.push(EXIT_STATUS);
            to.extend_from_slice(&status.to_le_bytes());
        }
        Event::Exit(Exit::Signal { name, core_dumped, message }) => {
            to.extend_from_slice(&[EXIT_SIGNAL, u8::from(*core_dumped)]);
            put_text(name, to);
            to.extend_from_slice(shorten(message, MAX_TEXT).as_bytes());
        }
    }
}

/// Appends the payload of the last record.
pub fn encode_end(ending: &Ending, to: &mut Vec<u8>) {
    to.extend_from_slice(&ending.at.to_le_bytes());
    to.push(END);
    to.extend_from_slice(&ending.ended.micros().to_le_bytes());
    to.extend_from_slice(ending.outcome.to_string().as_bytes());
}

/// Reads one payload.
pub fn decode(payload: &[u8]) -> Result<Record, BadRecord> {
    let mut rest = Rest(payload);
    let at = u64::from_le_bytes(rest.array()?);
    let event = match rest.byte()? {
        BYTES => Event::Bytes { stream: rest.stream()?, bytes: Bytes::copy_from_slice(rest.take_all()) },
        WITHHELD => {
            let (stream, length) = (rest.stream()?, u64::from_le_bytes(rest.array()?));
            let sha256 = if rest.0.is_empty() { None } else { Some(Digest(rest.array()?)) };
            Event::Withheld { stream, length, sha256 }
        }
        EOF => Event::Eof { stream: rest.stream()? },
        RESIZE => Event::Resize { cols: u32::from_le_bytes(rest.array()?), rows: u32::from_le_bytes(rest.array()?) },
        SIGNAL => Event::Signal { name: rest.last_text()? },
        ENVIRONMENT => Event::Environment { name: rest.text()?, value: rest.last_text()? },
        MARKER => Event::Marker { text: rest.last_text()? },
        EXIT_STATUS => Event::Exit(Exit::Status(u32::from_le_bytes(rest.array()?))),
        EXIT_SIGNAL => {
            let core_dumped = rest.flag()?;
            Event::Exit(Exit::Signal { name: rest.text()?, core_dumped, message: rest.last_text()? })
        }
        END => {
            let ended = Timestamp::from_micros(i64::from_le_bytes(rest.array()?));
            let outcome = rest.last_text()?.parse().map_err(|_| BadRecord::Outcome)?;
            return Ok(Record::End(Ending { at, ended, outcome }));
        }
        tag => return Err(BadRecord::Tag(tag)),
    };
    if rest.0.is_empty() { Ok(Record::Event { at, event }) } else { Err(BadRecord::Long) }
}

/// Cuts a text at a character's border and says how much is missing.
pub fn shorten(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return Cow::Borrowed(text);
    }
    let mut end = bytes.saturating_sub(32);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let kept = text.get(..end).unwrap_or_default();
    Cow::Owned(format!("{kept} [{} bytes cut]", text.len() - end))
}

fn stream_byte(stream: Stream) -> u8 {
    match stream {
        Stream::Input => 0,
        Stream::Output => 1,
        Stream::Error => 2,
    }
}

fn put_text(text: &str, to: &mut Vec<u8>) {
    let text = shorten(text, MAX_TEXT);
    to.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    to.extend_from_slice(text.as_bytes());
}

/// What is still to be read of a payload.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], BadRecord> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(BadRecord::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn take_all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadRecord> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(BadRecord::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, BadRecord> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Result<bool, BadRecord> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(BadRecord::Flag),
        }
    }

    fn stream(&mut self) -> Result<Stream, BadRecord> {
        let byte = self.byte()?;
        Stream::ALL.into_iter().find(|stream| stream_byte(*stream) == byte).ok_or(BadRecord::Stream(byte))
    }

    fn text(&mut self) -> Result<String, BadRecord> {
        let length = u32::from_le_bytes(self.array()?);
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| BadRecord::Text)
    }

    fn last_text(&mut self) -> Result<String, BadRecord> {
        std::str::from_utf8(self.take_all()).map(str::to_owned).map_err(|_| BadRecord::Text)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transcript::outcome::tests::any_outcome;

    pub(crate) fn any_stream() -> impl Strategy<Value = Stream> {
        prop_oneof![Just(Stream::Input), Just(Stream::Output), Just(Stream::Error)]
    }

    pub(crate) fn any_event() -> impl Strategy<Value = Event> {
        let text = || any::<String>();
        prop_oneof![
            (any_stream(), proptest::collection::vec(any::<u8>(), 0..200))
                .prop_map(|(stream, bytes)| Event::Bytes { stream, bytes: bytes.into() }),
            (any_stream(), 0..1u64 << 53, proptest::option::of(any::<[u8; 32]>())).prop_map(|(stream, length, sha256)| Event::Withheld {
                stream,
                length,
                sha256: sha256.map(Digest)
            }),
            any_stream().prop_map(|stream| Event::Eof { stream }),
            any::<(u32, u32)>().prop_map(|(cols, rows)| Event::Resize { cols, rows }),
            text().prop_map(|name| Event::Signal { name }),
            (text(), text()).prop_map(|(name, value)| Event::Environment { name, value }),
            text().prop_map(|text| Event::Marker { text }),
            any::<u32>().prop_map(|status| Event::Exit(Exit::Status(status))),
            (text(), any::<bool>(), text()).prop_map(|(name, core_dumped, message)| Event::Exit(Exit::Signal {
                name,
                core_dumped,
                message
            })),
        ]
    }

    proptest! {
        #[test]
        fn an_event_survives(at in any::<u64>(), event in any_event()) {
            let mut payload = Vec::new();
            encode_event(at, &event, &mut payload);
            prop_assert_eq!(decode(&payload).unwrap(), Record::Event { at, event });
        }

        #[test]
        fn an_ending_survives(at in any::<u64>(), ended in any::<i64>(), outcome in any_outcome()) {
            let ending = Ending { at, ended: Timestamp::from_micros(ended), outcome };
            let mut payload = Vec::new();
            encode_end(&ending, &mut payload);
            prop_assert_eq!(decode(&payload).unwrap(), Record::End(ending));
        }

        #[test]
        fn no_payload_panics(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&payload);
        }
    }

    #[test]
    fn a_text_length_beyond_the_payload_is_refused_without_allocating_it() {
        let mut payload = 7u64.to_le_bytes().to_vec();
        payload.push(ENVIRONMENT);
        payload.extend_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(&payload), Err(BadRecord::Short));
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let long = "é".repeat(MAX_TEXT);
        let mut payload = Vec::new();
        encode_event(0, &Event::Marker { text: long }, &mut payload);
        assert!(payload.len() <= MAX_TEXT + 9);
        let Record::Event { event: Event::Marker { text }, .. } = decode(&payload).unwrap() else { panic!("a marker") };
        assert!(text.ends_with(" bytes cut]"), "{}", &text[text.len() - 40..]);
    }
}
