//! What is asked, as bytes that an approver signs over (**D canonical form**).
//!
//! A request's bytes are fixed once, when its reason is known; its digest is over them, its matching
//! code is drawn from the digest, and whatever is shown of it is rendered from them. Any edit is a
//! new request.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::canonical::{self, NotCanonical};
use super::granted::GrantedTerms;
use super::principal::Principal;
use super::scope::Scope;
use crate::id::{Digest, Login, Person, RequestId, TargetId, WorkflowName};
use crate::time::{Timestamp, micros_of};

pub const VERSION: u64 = 1;
/// Longest reason, in bytes.
pub const MAX_REASON: usize = 1024;
/// The source of a request whose workflows bind it to no address.
pub const ANY_SOURCE: &str = "any";
/// Most targets of one request.
pub const MAX_TARGETS: usize = 500;

/// A host that a request covers: its id and what made it that host when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetPin {
    pub id: TargetId,
    pub pin: Digest,
}

/// A workflow that today's rulings demand, and the policy that demands it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    pub workflow: WorkflowName,
    pub policy: String,
    pub message: Option<String>,
}

/// The document that is digested, shown and signed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestDocument {
    pub v: u64,
    /// Always `request`.
    pub kind: String,
    /// The bastion's id, so that no other bastion's approval fits here.
    pub bastion: String,
    pub request: RequestId,
    /// 128 random bits: two requests never share a digest.
    #[serde(with = "canonical::b64", rename = "nonce_b64")]
    pub nonce: Vec<u8>,
    pub person: Person,
    /// `SHA256:…` of the key verified on the (inner) connection.
    pub key: String,
    /// /32 or /64, or [`ANY_SOURCE`].
    pub source: String,
    /// Sorted by id, 1 to 500; a target added later is not covered.
    pub targets: Vec<TargetPin>,
    pub login: Login,
    pub scope: Scope,
    /// The text of exact commands, in the order of their digests, for the approver to read.
    pub commands: Vec<String>,
    /// Names of client environment variables that will be passed on.
    pub env: Vec<String>,
    /// Whether standard input reaches the command; always true for shells.
    pub stdin: bool,
    /// Duration asked for, in microseconds, from first use.
    pub for_us: u64,
    /// One session only.
    pub once: bool,
    /// When the request was made.
    pub made_us: u64,
    /// Nobody may decide after this.
    pub not_after_us: u64,
    /// The window opens no earlier than this, if given.
    pub start_us: Option<u64>,
    pub reason: String,
    pub needs: Vec<Needs>,
    /// Digest of the policy set that ruled.
    pub policy: Digest,
    /// Asked for more time before the end, what runs goes on for at most this long until somebody answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrun_us: Option<u64>,
    /// More time for one that runs; then `for_us` counts from its end, and nothing is opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<Extends>,
    /// Nobody agreed: policy lets this person in first, and somebody reviews it after.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
}

/// The running approval that a request would extend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extends {
    pub request: RequestId,
    /// Of its bytes.
    pub digest: Digest,
    /// When it was used first.
    pub since_us: u64,
    /// When it ends without this.
    pub ends_us: u64,
    /// When it would end at the latest.
    pub until_us: u64,
}

impl Extends {
    pub fn since(&self) -> Timestamp {
        doc_time(self.since_us)
    }

    pub fn ends(&self) -> Timestamp {
        doc_time(self.ends_us)
    }

    pub fn until(&self) -> Timestamp {
        doc_time(self.until_us)
    }
}

pub(super) fn doc_time(micros: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

impl RequestDocument {
    /// Returns the bytes that are stored and signed over.
    pub fn bytes(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// Reads a request from its stored bytes; checks what the type cannot say.
    pub fn read(bytes: &[u8]) -> Result<Self, BadRequest> {
        let document: Self = canonical::decode(bytes)?;
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), BadRequest> {
        let sorted = self.targets.windows(2).all(|pair| matches!(pair, [a, b] if a.id < b.id));
        if self.v != VERSION || self.kind != "request" {
            Err(BadRequest::Kind(self.v, self.kind.clone()))
        } else if self.targets.is_empty() || self.targets.len() > MAX_TARGETS || !sorted {
            Err(BadRequest::Targets)
        } else if self.reason.len() > MAX_REASON {
            Err(BadRequest::Reason)
        } else if self.nonce.len() != 16 {
            Err(BadRequest::Nonce)
        } else {
            Ok(())
        }
    }

    /// Whether somebody at `block` may use what was asked.
    pub fn is_for_source(&self, block: &str) -> bool {
        self.source == ANY_SOURCE || self.source == block
    }

    pub fn overrun(&self) -> Duration {
        Duration::from_micros(self.overrun_us.unwrap_or_default())
    }

    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.for_us)
    }

    /// The terms that were asked for, in which what is granted has to lie.
    pub fn asked(&self) -> GrantedTerms {
        GrantedTerms { for_us: self.for_us, once: self.once, scope: self.scope.clone(), from_us: self.start_us, ..GrantedTerms::default() }
    }

    pub fn not_after(&self) -> Timestamp {
        doc_time(self.not_after_us)
    }

    pub fn made(&self) -> Timestamp {
        doc_time(self.made_us)
    }

    /// The digest under which requests of equal scope join (**D scope**): who, with which key, from
    /// where, to which hosts as which login, for which actions, through which workflows. Not the
    /// reason, not the time.
    pub fn joins(&self) -> Digest {
        let scope: Vec<String> = self.scope.0.iter().map(|class| class.to_string()).collect();
        let targets: Vec<String> = self.targets.iter().map(|t| format!("{} {}", t.id, t.pin)).collect();
        let needs: Vec<&str> = self.needs.iter().map(|needs| needs.workflow.as_str()).collect();
        Digest::of(&canonical::encode(&serde_json::json!({
            "person": self.person, "key": self.key, "source": self.source, "targets": targets,
            "login": self.login, "scope": scope, "stdin": self.stdin, "once": self.once,
            "for_us": self.for_us, "start_us": self.start_us, "needs": needs,
            "extends": self.extends.as_ref().map(|extends| extends.request),
        })))
    }
}

/// Fills in who asks and when; what is asked stands in the other fields.
pub fn asked_by(principal: &Principal) -> (Person, String, String) {
    (principal.person().clone(), principal.fingerprint(), principal.source_block())
}

/// Microseconds for a document.
pub fn doc_micros(at: Timestamp) -> u64 {
    u64::try_from(at.micros()).unwrap_or(0)
}

pub fn doc_duration(duration: Duration) -> u64 {
    u64::try_from(micros_of(duration)).unwrap_or(0)
}

#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    #[error("the request document cannot be read")]
    Form(#[from] NotCanonical),
    #[error("the document is version {0} kind {1:?}, not a request that this version knows")]
    Kind(u64, String),
    #[error("a request names 1 to {MAX_TARGETS} targets, sorted, each once")]
    Targets,
    #[error("a reason is at most {MAX_REASON} bytes long")]
    Reason,
    #[error("the request's nonce is not 16 bytes")]
    Nonce,
}

/// The code that requester and approver compare: drawn from the digest, so that it differs when
/// anything that was asked does. Shown on the requester's screen and in `show`, never in a notice.
pub fn matching_code(digest: &Digest) -> String {
    const WORDS: [&str; 26] = [
        "ALFA", "BRAVO", "CHARLIE", "DELTA", "ECHO", "FOXTROT", "GOLF", "HOTEL", "INDIA", "JULIETT", "KILO", "LIMA", "MIKE", "NOVEMBER",
        "OSCAR", "PAPA", "QUEBEC", "ROMEO", "SIERRA", "TANGO", "UNIFORM", "VICTOR", "WHISKEY", "XRAY", "YANKEE", "ZULU",
    ];
    let [a, b, c, d, ..] = digest.0;
    let n = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(0);
    format!("{}-{:02}", WORDS.get(n / 100 % WORDS.len()).unwrap_or(&"ALFA"), n % 100)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> RequestDocument {
        RequestDocument {
            v: VERSION,
            kind: "request".into(),
            bastion: "bastion-1".into(),
            request: "K7Q3FM".parse().unwrap(),
            nonce: vec![7; 16],
            person: "alice".parse().unwrap(),
            key: "SHA256:abc".into(),
            source: "192.0.2.7/32".into(),
            targets: vec![TargetPin { id: "web-1".parse().unwrap(), pin: Digest([1; 32]) }],
            login: "deploy".parse().unwrap(),
            scope: Scope([crate::access::action::Class::Shell].into()),
            commands: vec![],
            env: vec!["LANG".into()],
            stdin: true,
            for_us: 1_800_000_000,
            once: false,
            made_us: 1_700_000_000_000_000,
            not_after_us: 1_700_000_900_000_000,
            start_us: None,
            reason: "INC-42 disk full".into(),
            needs: vec![],
            policy: Digest([2; 32]),
            overrun_us: None,
            extends: None,
            break_glass: false,
        }
    }

    #[test]
    fn a_request_reads_back_from_its_bytes_only() {
        let document = sample();
        assert_eq!(RequestDocument::read(&document.bytes()).unwrap(), document);
        let spaced = String::from_utf8(document.bytes()).unwrap().replacen("{", "{ ", 1);
        assert!(matches!(RequestDocument::read(spaced.as_bytes()), Err(BadRequest::Form(NotCanonical::Form))));
        let more = String::from_utf8(document.bytes()).unwrap().replacen("{", "{\"also\":1,", 1);
        assert!(RequestDocument::read(more.as_bytes()).is_err());
    }

    #[test]
    fn every_edit_changes_the_digest() {
        let digest = Digest::of(&sample().bytes());
        let mut edited = sample();
        edited.reason.push('!');
        assert_ne!(Digest::of(&edited.bytes()), digest);
        assert_eq!(edited.joins(), sample().joins(), "the reason does not keep connects from joining");
        edited.source = "192.0.2.8/32".into();
        assert_ne!(edited.joins(), sample().joins());
    }
}
