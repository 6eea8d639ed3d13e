//! What happened on a channel, as a sequence of events: pure. (stub: signatures only)

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

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Exited(Exit),
    /// The channel closed with no status.
    Closed,
    ClientLeft,
    TargetLost {
        why: String,
    },
    TargetRefused {
        why: String,
    },
    Expired,
    Revoked {
        by: String,
        why: String,
    },
    Killed {
        by: String,
        why: String,
    },
    RecordingFailed {
        why: String,
    },
    Shutdown,
    /// The bastion died; the spool was cut at its last good record.
    Interrupted,
}
impl std::fmt::Display for Outcome {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
