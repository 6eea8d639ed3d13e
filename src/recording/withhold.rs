//! What is kept of a stream, and what only counts: the level's rule and the cap on bulk.
//!
//! A digest of a keystroke, or of its echo, is the keystroke: at a terminal nothing that is withheld
//! leaves one. Elsewhere it does, computed by the writers, never on the runtime.

use bytes::Bytes;

use crate::access::ruling::RecordLevel;
use crate::transcript::event::{Event, PerStream, Stream};

/// One thing in a recording's queue.
#[derive(Debug)]
pub(super) struct Item {
    /// Microseconds since the start.
    pub(super) at: u64,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Keep(Event),
    /// Only its length and digest go into the spool.
    Digest {
        stream: Stream,
        bytes: Bytes,
    },
    /// Only its length goes into the spool.
    Count {
        stream: Stream,
        length: u64,
    },
}

/// Bytes of memory that an event stands for in a queue.
pub(super) fn weight(event: &Event) -> usize {
    const OWN: usize = 64;
    OWN + match event {
        Event::Bytes { bytes, .. } => bytes.len(),
        Event::Environment { name, value } => name.len() + value.len(),
        Event::Marker { text } => text.len(),
        Event::Withheld { .. } | Event::Eof { .. } | Event::Resize { .. } | Event::Signal { .. } | Event::Exit(_) => 0,
    }
}

/// The rule of one recording and how much of its cap is used.
#[derive(Debug)]
pub(super) struct Rule {
    level: RecordLevel,
    terminal: bool,
    room: PerStream<u64>,
}

impl Rule {
    pub(super) fn new(level: RecordLevel, terminal: bool, cap: u64) -> Self {
        let mut room = PerStream::default();
        for stream in Stream::ALL {
            *room.of_mut(stream) = if terminal { u64::MAX } else { cap };
        }
        Self { level, terminal, room }
    }

    /// Takes an event in: as it is, withheld, or split where the cap is reached.
    pub(super) fn admit(&mut self, event: Event, mut put: impl FnMut(What)) {
        let (stream, mut bytes) = match event {
            Event::Bytes { stream, bytes } => (stream, bytes),
            other => return put(What::Keep(other)),
        };
        if self.keeps(stream) {
            let room = self.room.of_mut(stream);
            let kept = bytes.split_to(bytes.len().min(usize::try_from(*room).unwrap_or(usize::MAX)));
            *room -= kept.len() as u64;
            if !kept.is_empty() {
                put(What::Keep(Event::Bytes { stream, bytes: kept }));
            }
        }
        if !bytes.is_empty() {
            put(if self.terminal { What::Count { stream, length: bytes.len() as u64 } } else { What::Digest { stream, bytes } });
        }
    }

    fn keeps(&self, stream: Stream) -> bool {
        match stream {
            Stream::Input => self.level >= RecordLevel::Full,
            Stream::Output | Stream::Error => self.level >= RecordLevel::Output,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(rule: &mut Rule, stream: Stream, bytes: &'static [u8]) -> Vec<String> {
        let mut all = Vec::new();
        rule.admit(Event::Bytes { stream, bytes: Bytes::from_static(bytes) }, |what| {
            all.push(match what {
                What::Keep(Event::Bytes { bytes, .. }) => format!("keep {}", bytes.len()),
                What::Keep(event) => format!("{event:?}"),
                What::Digest { bytes, .. } => format!("digest {}", bytes.len()),
                What::Count { length, .. } => format!("count {length}"),
            });
        });
        all
    }

    #[test]
    fn a_terminal_withholds_without_a_digest() {
        let mut rule = Rule::new(RecordLevel::Output, true, 4);
        assert_eq!(admit(&mut rule, Stream::Input, b"hunter2"), ["count 7"]);
        assert_eq!(admit(&mut rule, Stream::Output, b"beyond any cap"), ["keep 14"]);
        let mut rule = Rule::new(RecordLevel::Metadata, true, 4);
        assert_eq!(admit(&mut rule, Stream::Output, b"echo"), ["count 4"]);
    }

    #[test]
    fn bulk_is_kept_up_to_the_cap_of_its_stream() {
        let mut rule = Rule::new(RecordLevel::Full, false, 10);
        assert_eq!(admit(&mut rule, Stream::Output, b"12345678"), ["keep 8"]);
        assert_eq!(admit(&mut rule, Stream::Output, b"90abcd"), ["keep 2", "digest 4"]);
        assert_eq!(admit(&mut rule, Stream::Output, b"x"), ["digest 1"]);
        assert_eq!(admit(&mut rule, Stream::Input, b"y"), ["keep 1"]);
    }

    #[test]
    fn each_level_keeps_its_streams() {
        for (level, input, output) in [
            (RecordLevel::Full, "keep 1", "keep 1"),
            (RecordLevel::Output, "digest 1", "keep 1"),
            (RecordLevel::Metadata, "digest 1", "digest 1"),
        ] {
            let mut rule = Rule::new(level, false, 10);
            assert_eq!(admit(&mut rule, Stream::Input, b"x"), [input]);
            assert_eq!(admit(&mut rule, Stream::Output, b"x"), [output]);
            assert_eq!(admit(&mut rule, Stream::Error, b"x"), [output]);
        }
    }
}
