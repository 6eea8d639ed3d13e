//! What a proof is made of, as the bastion hands it over. The companion believes none of it: it checks, and writes
//! files of its own making.

use serde::{Deserialize, Serialize};

use super::{LogRow, State, maybe_moment, moment};
use crate::access::canonical;
use crate::access::decision::{Level, Verdict};
use crate::id::{Person, RequestId};
use crate::time::Timestamp;

/// Everything about one request that somebody else can check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProofParts {
    pub request: RequestId,
    pub bastion: String,
    pub state: State,
    #[serde(with = "canonical::b64", rename = "document_b64")]
    pub bytes: Vec<u8>,
    pub decisions: Vec<DecisionPart>,
    pub signers: Vec<SignerPart>,
    /// Rows of the log about it.
    pub log: Vec<LogRow>,
    /// The log's key, in the form of C2SP's signed notes.
    pub log_key: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionPart {
    pub person: Person,
    pub verdict: Verdict,
    pub level: Level,
    #[serde(with = "moment")]
    pub at: Timestamp,
    /// The signed bytes, base 64; absent at level `connection`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_b64: Option<String>,
    /// SSHSIG, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignerPart {
    pub person: Person,
    /// As in `authorized_keys`.
    pub key: String,
    /// Since when it is not theirs any more.
    #[serde(with = "maybe_moment", default)]
    pub left: Option<Timestamp>,
}
