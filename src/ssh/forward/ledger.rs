//! How what passes through a forward is written down (FC2).
//!
//! A forward of its own has its two streams. Several connections to one listener share a recording: a
//! marker says whose the bytes are that follow. A terminal session's streams are its picture, so the
//! agent's bytes stand beside them as lengths and digests.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::id::Digest;
use crate::recording::{RecordError, Tape};
use crate::transcript::{Event, Stream};

/// Where one connection's bytes go before they go on.
#[derive(Debug)]
pub enum Ledger {
    Own(Tape),
    Shared {
        tape: Tape,
        /// Whose bytes were recorded last.
        last: Arc<Mutex<u64>>,
        number: u64,
    },
    /// Lengths and digests only, under this name.
    Digests {
        tape: Tape,
        name: String,
    },
}

impl Ledger {
    /// Returns once the bytes of one direction are written.
    pub async fn bytes(&self, stream: Stream, bytes: &[Bytes]) -> Result<(), RecordError> {
        let events = || bytes.iter().map(|bytes| Event::Bytes { stream, bytes: bytes.clone() });
        match self {
            Ledger::Own(tape) => tape.record(events().collect()).await,
            Ledger::Shared { tape, last, number } => {
                // Held over the write: the marker and what it speaks of stand together.
                let mut last = last.lock().await;
                let whose = (*last != *number).then(|| Event::Marker { text: format!("connection {number}") });
                *last = *number;
                tape.record(whose.into_iter().chain(events()).collect()).await
            }
            Ledger::Digests { tape, name } => {
                let way = if stream == Stream::Input { "from the client" } else { "from the target" };
                let mark =
                    |bytes: &Bytes| Event::Marker { text: format!("{name}: {} bytes {way}, SHA-256 {}", bytes.len(), Digest::of(bytes)) };
                tape.record(bytes.iter().map(mark).collect()).await
            }
        }
    }

    pub async fn eof(&self, stream: Stream) -> Result<(), RecordError> {
        match self {
            Ledger::Own(tape) => tape.record(vec![Event::Eof { stream }]).await,
            Ledger::Shared { .. } | Ledger::Digests { .. } => Ok(()),
        }
    }

    /// Writes down what happened.
    pub async fn note(&self, text: &str) -> Result<(), RecordError> {
        match self {
            Ledger::Own(tape) => tape.record(vec![Event::Marker { text: text.to_owned() }]).await,
            Ledger::Shared { tape, last, number } => {
                let mut last = last.lock().await;
                *last = 0;
                tape.record(vec![Event::Marker { text: format!("connection {number}: {text}") }]).await
            }
            Ledger::Digests { tape, name } => tape.record(vec![Event::Marker { text: format!("{name}: {text}") }]).await,
        }
    }
}
