//! What auditors do with keys, and what goes over the wire for it.

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::typed::{SessionWord, Since};
use crate::id::{Digest, Person, SessionId};
use crate::transcript::envelope::MAX_ENVELOPE;

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditorsArgs {
    #[command(subcommand)]
    pub what: AuditorsWhat,
}

#[derive(Debug, Clone, PartialEq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AuditorsWhat {
    /// Names, keys, and when each was last proven
    List,
    /// Show that my key still decrypts, with a fresh canary
    Prove,
    /// Open older recordings to an auditor who came later; goes on where it stopped
    Rewrap(RewrapArgs),
    /// Hand over the keys of recordings that a crash left to the auditors, so that they can be sealed
    Recover(RecoverArgs),
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewrapArgs {
    /// An auditor of [recordings.auditors] whose key they were not encrypted to
    #[arg(long, value_name = "NAME", required = true)]
    pub add: Person,
    /// Only what began since then
    #[arg(long, value_name = "DATE|SPAN")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Since>,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoverArgs {
    /// Only this one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionWord>,
}

/// What the companion asks of the bastion about keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeysWhat {
    /// The recordings that an auditor cannot open yet, behind one of them.
    Closed {
        to: Person,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Since>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        behind: Option<SessionId>,
    },
    /// A key file in place of the one that has this digest.
    Rewrap { session: SessionId, old: Digest, key_file_b64: String },
    /// The recordings that wait for an auditor.
    Waiting,
    /// The envelope of a spool that waits.
    Envelope { session: SessionId },
    /// What was in it.
    Unlock { session: SessionId, key_b64: String },
}

impl KeysWhat {
    pub(super) fn check(&self) -> Result<(), String> {
        let (what, text, most) = match self {
            KeysWhat::Rewrap { key_file_b64, .. } => ("key file", key_file_b64, MAX_ENVELOPE.div_ceil(3) * 4),
            KeysWhat::Unlock { key_b64, .. } => ("key", key_b64, 64),
            KeysWhat::Closed { .. } | KeysWhat::Waiting | KeysWhat::Envelope { .. } => return Ok(()),
        };
        if text.len() > most { Err(format!("the {what} is {} bytes long, at most {most} fit", text.len())) } else { Ok(()) }
    }
}
