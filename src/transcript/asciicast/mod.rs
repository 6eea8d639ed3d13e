//! A transcript as asciicast v2: any player shows it, and every stream is rebuilt from it byte for byte.
//!
//! The first line is asciicast's header with our [`Header`] under `countersign`. Each further line is
//! `[seconds, code, text]`, milliseconds exact. Of the standard codes: `o` is drawn, `i` typed, `r` a new
//! size, `m` a marker, `x` an exit status. Players ignore the others, whose text is JSON:
//!
//! | code | text | meaning |
//! |------|------|---------|
//! | `q` | `{"stream","b64"?}` | what the *next* line really is: of this stream, and these bytes where `b64` is given |
//! | `b` | `{"stream","b64"}` | bytes that are drawn nowhere |
//! | `w` | `{"stream","bytes","sha256"?}` | bytes that policy or cap withheld |
//! | `f` | `{"stream"}` | end of file |
//! | `k` | `{"signal","core_dumped","message"}` | the target's process died of a signal |
//! | `s` | `{"signal"}` | a signal that the client sent |
//! | `v` | `{"name","value"}` | an environment variable |
//! | `t` | [`Totals`] | the last line: digests, outcome, index |
//!
//! So standard error is drawn too, each piece behind a `q`. A UTF-8 sequence that a packet cut waits for
//! its rest; other bytes stand as base64 in a `q` beside what is drawn for them (U+FFFD). Without a
//! terminal a line feed is drawn as CR LF: take one CR from before each LF of an `o` to have its bytes.

mod decode;
mod encode;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::event::Stream;
use super::header::Document;
use super::spool::Cut;
use crate::id::Digest;
use crate::time::Timestamp;

pub use decode::{BadLine, Decoder, Line};
pub use encode::{Encoder, Ending, first_line};

/// No line is longer, a reader may refuse what is.
pub const MAX_LINE: usize = 1024 * 1024;

/// Most entries of the index; a writer with more frames keeps every second one, again and again.
pub const MAX_INDEX: usize = 4096;

/// The last line: what an auditor compares, and where to seek.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Lines between the first and this one.
    pub lines: u64,
    #[serde(rename = "in", default)]
    pub input: Total,
    #[serde(rename = "out", default)]
    pub output: Total,
    #[serde(rename = "err", default)]
    pub error: Total,
    /// In the words of `Outcome`.
    pub outcome: String,
    pub ended: Timestamp,
    /// Set where the spool could not be read to its end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cut: Option<Cut>,
    pub index: Vec<IndexEntry>,
}

/// One stream in sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Total {
    /// Bytes that stand in the transcript, and their SHA-256.
    pub bytes: u64,
    pub sha256: Digest,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub withheld: Option<Withheld>,
}

/// What was withheld of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withheld {
    pub bytes: u64,
    pub chunks: u64,
    /// SHA-256 over the chunks' binary SHA-256, in their order; absent where they have none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digests: Option<Digest>,
}

/// A place to begin reading: `[milliseconds, uncompressed offset, columns, rows]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry(pub u64, pub u64, pub u32, pub u32);

impl Totals {
    pub fn of(&self, stream: Stream) -> &Total {
        match stream {
            Stream::Input => &self.input,
            Stream::Output => &self.output,
            Stream::Error => &self.error,
        }
    }
}

impl Default for Total {
    fn default() -> Self {
        Tally::default().total()
    }
}

/// The asciicast header line.
#[derive(Debug, Serialize, Deserialize)]
struct Opening {
    version: u32,
    width: u32,
    height: u32,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    title: Option<String>,
    #[serde(default)]
    env: std::collections::BTreeMap<String, String>,
    countersign: Document,
}

/// Where a transcript has no terminal, players still need a size.
const NO_TERMINAL: (u32, u32) = (80, 24);

/// The running sums of one stream; the same on both sides.
#[derive(Debug, Clone, Default)]
struct Tally {
    bytes: u64,
    sha256: Sha256,
    withheld: u64,
    chunks: u64,
    digests: Option<Sha256>,
}

impl Tally {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.sha256.update(bytes);
    }

    fn withhold(&mut self, length: u64, sha256: Option<Digest>) {
        self.withheld = self.withheld.saturating_add(length);
        self.chunks += 1;
        if let Some(Digest(digest)) = sha256 {
            self.digests.get_or_insert_default().update(digest);
        }
    }

    fn total(&self) -> Total {
        let digest = |sha256: &Sha256| Digest(sha256.clone().finalize().into());
        let withheld = Withheld { bytes: self.withheld, chunks: self.chunks, digests: self.digests.as_ref().map(digest) };
        Total { bytes: self.bytes, sha256: digest(&self.sha256), withheld: (self.chunks > 0).then_some(withheld) }
    }
}

/// The texts of our own codes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bytes64 {
    stream: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    b64: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WithheldText {
    stream: String,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sha256: Option<Digest>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EofText {
    stream: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KilledText {
    signal: String,
    core_dumped: bool,
    message: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignalText {
    signal: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VariableText {
    name: String,
    value: String,
}

#[cfg(test)]
mod tests;
