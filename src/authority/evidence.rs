//! What stands behind an opening, as bytes: what was asked, and what was said to it, with its signatures.
//!
//! Made by the approvals from their rows, judged by the pen from these bytes alone. What is not signed in
//! it is the word of whoever sends it.

use serde::{Deserialize, Serialize};

use crate::access::canonical::{self, NotCanonical};
use crate::access::decision::{GrantedTerms, Level, Verdict};
use crate::id::{Digest, Person};
use crate::time::Timestamp;

pub const VERSION: u64 = 1;
/// A request for 500 targets with as many extensions and decisions as anybody has patience for.
pub const MAX_BYTES: usize = 2 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    pub v: u64,
    /// `None` where policy asks nobody.
    pub request: Option<Asked>,
    /// More time, in the order in which it was given.
    pub extensions: Vec<Asked>,
    /// The set that ruled.
    pub policy: Digest,
}

/// A request and what was said to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    #[serde(with = "canonical::b64", rename = "request_b64")]
    pub bytes: Vec<u8>,
    /// In the order in which it came.
    pub decisions: Vec<Said>,
}

/// One decision. Where it is signed, only the signed bytes say what was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    pub person: Person,
    /// When it came.
    #[serde(rename = "at_us")]
    pub at: Timestamp,
    pub level: Level,
    pub verdict: Verdict,
    pub terms: Option<GrantedTerms>,
    pub signed: Option<SignedSaid>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedSaid {
    #[serde(with = "canonical::b64", rename = "bytes_b64")]
    pub bytes: Vec<u8>,
    /// SSHSIG, PEM.
    pub sig: String,
}

impl Evidence {
    /// Where policy asks nobody.
    pub fn of_policy(policy: Digest) -> Self {
        Self { v: VERSION, request: None, extensions: Vec::new(), policy }
    }

    pub fn bytes(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    pub fn read(bytes: &[u8]) -> Result<Self, NotCanonical> {
        let evidence: Self = canonical::decode_within(bytes, MAX_BYTES)?;
        if evidence.v == VERSION { Ok(evidence) } else { Err(NotCanonical::Form) }
    }
}
