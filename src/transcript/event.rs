//! One event of a channel.

use std::fmt;

use bytes::Bytes;

use crate::id::Digest;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Client to target.
    Input,
    /// Target's standard output.
    Output,
    /// Target's standard error.
    Error,
}

impl Stream {
    pub const ALL: [Stream; 3] = [Stream::Input, Stream::Output, Stream::Error];

    /// The word in transcripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Input => "in",
            Stream::Output => "out",
            Stream::Error => "err",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.as_str() == word)
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One value for each stream.
#[derive(Debug, Clone, Default)]
pub struct PerStream<T> {
    input: T,
    output: T,
    error: T,
}

impl<T> PerStream<T> {
    pub fn of(&self, stream: Stream) -> &T {
        match stream {
            Stream::Input => &self.input,
            Stream::Output => &self.output,
            Stream::Error => &self.error,
        }
    }

    pub fn of_mut(&mut self, stream: Stream) -> &mut T {
        match stream {
            Stream::Input => &mut self.input,
            Stream::Output => &mut self.output,
            Stream::Error => &mut self.error,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Bytes {
        stream: Stream,
        bytes: Bytes,
    },
    /// Bytes that policy or cap withholds; the digest is absent where it would give away keystrokes.
    Withheld {
        stream: Stream,
        length: u64,
        sha256: Option<Digest>,
    },
    Eof {
        stream: Stream,
    },
    Resize {
        cols: u32,
        rows: u32,
    },
    /// A signal that the client sent, by its name without SIG.
    Signal {
        name: String,
    },
    Environment {
        name: String,
        value: String,
    },
    /// Something the bastion said or did: warnings, the command of an exec.
    Marker {
        text: String,
    },
    /// What the target reported.
    Exit(Exit),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    Status(u32),
    Signal { name: String, core_dumped: bool, message: String },
}
