//! What happened, one row each, in the transaction of the change. (stub; the Merkle tree follows)

use crate::id::{Login, Person, RequestId, SessionId};

/// An event of the audit log: a dotted name and the facts as JSON.
#[derive(Debug, Clone)]
pub struct Event {
    /// `session.open`, `certificate.issue`, `request.submit`, `refusal`, …
    pub name: &'static str,
    pub facts: serde_json::Value,
}

impl Event {
    pub fn new(name: &'static str, facts: serde_json::Value) -> Self {
        Self { name, facts }
    }

    /// A way in that was refused before anybody was asked.
    pub fn refused(person: &Person, source: std::net::IpAddr, wanted: &str, why: &str) -> Self {
        Self::new("refusal", serde_json::json!({ "person": person, "source": source, "wanted": wanted, "why": why }))
    }

    pub fn session(name: &'static str, session: SessionId, request: Option<RequestId>, login: &Login, facts: serde_json::Value) -> Self {
        Self::new(name, serde_json::json!({ "session": session, "request": request, "login": login, "facts": facts }))
    }
}
