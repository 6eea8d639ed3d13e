//! What happened, one row each, in the transaction of the change (**D order**). The rows are appended
//! in `store/audit.rs`; this module owns what makes them a log that nobody can quietly rewrite: the bytes
//! of a row and its link to the row before ([`row`]), the Merkle tree over the rows ([`tree`]), the signed
//! size and root ([`checkpoint`]), the exported file with its verification offline ([`export`]), and the row that
//! says that a log went on from an older state ([`recovery`]).
//! Always true: a row's bytes are written once, and what is hashed, exported and proven is those bytes.
//! All of it is pure; the log of a running node is `store/log.rs`. Root on a live node can still lie about
//! rows after the last checkpoint that is held outside.
//!
//! Names are dotted: what it is about, then what happened to it. A reader finds who (`person`, `by`),
//! what (`request`, `session`) and its digest in the facts.

pub mod checkpoint;
pub mod export;
pub mod recovery;
pub mod row;
pub mod tree;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::id::{Digest, Login, Person, RequestId, SessionId};

/// Size and root of an RFC 6962 tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPoint {
    pub size: u64,
    pub root: Digest,
}

/// An event of the audit log: a dotted name and the facts as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `session.open`, `certificate.issue`, `request.submit`, `refusal`, …
    pub name: &'static str,
    pub facts: Value,
}

impl Event {
    pub fn new(name: &'static str, facts: Value) -> Self {
        Self { name, facts }
    }

    /// A way in that was refused before anybody was asked.
    pub fn refused(person: &Person, source: std::net::IpAddr, wanted: &str, why: &str) -> Self {
        Self::new("refusal", json!({ "person": person, "source": source, "wanted": wanted, "why": why }))
    }

    pub fn session(name: &'static str, session: SessionId, request: Option<RequestId>, login: &Login, facts: Value) -> Self {
        Self::new(name, json!({ "session": session, "request": request, "login": login, "facts": facts }))
    }

    /// Something that happened to a request or its grant; `by` is absent where time did it.
    pub fn request(name: &'static str, request: RequestId, by: Option<&Person>, mut facts: Value) -> Self {
        if let Some(facts) = facts.as_object_mut() {
            facts.insert("request".into(), json!(request));
            facts.insert("by".into(), json!(by));
        }
        Self::new(name, facts)
    }
}
