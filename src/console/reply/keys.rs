//! Answers about the keys of recordings, for the companion of an auditor.

use serde::{Deserialize, Serialize};

use super::{maybe_moment, moment};
use crate::access::canonical;
use crate::id::{Person, SessionId, TargetId};
use crate::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeysReply {
    Closed(Closed),
    Rewrapped(SessionId),
    Waiting(Vec<WaitingLine>),
    /// The envelope of a spool: an age file.
    Envelope {
        session: SessionId,
        #[serde(with = "canonical::b64", rename = "envelope_b64")]
        envelope: Vec<u8>,
    },
    /// Sealed as far as it was good; nothing where the bastion died before anything was recorded.
    Recovered {
        session: SessionId,
        sealed: bool,
    },
}

/// Recordings that an auditor cannot open, and whom their keys are to be wrapped to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// Today's auditors.
    pub readers: Vec<Reader>,
    /// How many are left, of those that this person may replay.
    pub left: u64,
    /// The next of them; there may be none in a page that others follow.
    pub sessions: Vec<SessionId>,
    /// Where the next page begins; absent at the end.
    pub behind: Option<SessionId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reader {
    pub auditor: Person,
    pub key: String,
}

/// A recording that waits for an auditor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitingLine {
    pub session: SessionId,
    pub person: Person,
    pub target: TargetId,
    #[serde(with = "moment")]
    pub started: Timestamp,
    #[serde(with = "maybe_moment")]
    pub ended: Option<Timestamp>,
}
