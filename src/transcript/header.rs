//! What is known when a session begins: the first record of its spool, the first line of its transcript.

use serde::{Deserialize, Serialize};

use crate::access::ruling::RecordLevel;
use crate::id::{Login, Person, RequestId, SessionId, TargetId};
use crate::retention::terms::Terms;
use crate::time::Timestamp;

/// What is known when a session begins; the first record of the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub session: SessionId,
    pub request: Option<RequestId>,
    pub person: Person,
    pub target: TargetId,
    pub login: Login,
    /// `shell`, `exec` or `sftp`
    pub kind: String,
    pub command: Option<Vec<u8>>,
    /// Columns, rows and TERM, where there is a terminal.
    pub terminal: Option<(u32, u32, String)>,
    pub started: Timestamp,
    pub record: RecordLevel,
    /// What the schedules said when the session was opened.
    pub retention: Terms,
    pub serial: u64,
}

/// The version of spools and transcripts written here; another one is refused (FC11).
pub const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    #[error("its header is not the JSON that was agreed: {0}")]
    Json(String),
    #[error("its format is version {0}, this countersign reads {VERSION}")]
    Version(u32),
    #[error("its {0} is malformed")]
    Field(&'static str),
}

/// The header as JSON: binary as `*_b64`, the 64-bit serial as text because many parsers stop at 2^53.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    v: u32,
    session: SessionId,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    request: Option<RequestId>,
    person: Person,
    target: TargetId,
    login: Login,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    command_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    terminal: Option<(u32, u32, String)>,
    started: Timestamp,
    record: String,
    retention: Terms,
    serial: String,
}

impl Document {
    pub(super) fn of(header: &Header) -> Self {
        Self {
            v: VERSION,
            session: header.session,
            request: header.request,
            person: header.person.clone(),
            target: header.target.clone(),
            login: header.login.clone(),
            kind: header.kind.clone(),
            command_b64: header.command.as_ref().map(|bytes| data_encoding::BASE64.encode(bytes)),
            terminal: header.terminal.clone(),
            started: header.started,
            record: header.record.as_str().to_owned(),
            retention: header.retention.clone(),
            serial: header.serial.to_string(),
        }
    }

    pub(super) fn read(self) -> Result<Header, BadHeader> {
        if self.v != VERSION {
            return Err(BadHeader::Version(self.v));
        }
        let command = match self.command_b64 {
            Some(text) => Some(data_encoding::BASE64.decode(text.as_bytes()).map_err(|_| BadHeader::Field("command_b64"))?),
            None => None,
        };
        Ok(Header {
            session: self.session,
            request: self.request,
            person: self.person,
            target: self.target,
            login: self.login,
            kind: self.kind,
            command,
            terminal: self.terminal,
            started: self.started,
            record: RecordLevel::parse(&self.record).ok_or(BadHeader::Field("record"))?,
            retention: self.retention,
            serial: self.serial.parse().map_err(|_| BadHeader::Field("serial"))?,
        })
    }
}

impl Header {
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&Document::of(self)).unwrap_or_default()
    }

    pub fn from_json(bytes: &[u8]) -> Result<Self, BadHeader> {
        // The version is read first and alone: a later format may have fields that are unknown here.
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let version: Version = serde_json::from_slice(bytes).map_err(|e| BadHeader::Json(e.to_string()))?;
        if version.v != VERSION {
            return Err(BadHeader::Version(version.v));
        }
        serde_json::from_slice::<Document>(bytes).map_err(|e| BadHeader::Json(e.to_string()))?.read()
    }

    /// Whether the person sat before a terminal: its streams are keystrokes and what echoes them.
    pub fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn header(terminal: bool) -> Header {
        Header {
            session: SessionId::new(Timestamp::from_micros(1_781_440_100_123_000)),
            request: Some("K7Q3FM".parse().unwrap()),
            person: "alice".parse().unwrap(),
            target: "web-1".parse().unwrap(),
            login: "deploy".parse().unwrap(),
            kind: if terminal { "shell" } else { "exec" }.into(),
            command: (!terminal).then(|| b"printf '\xff\0x'".to_vec()),
            terminal: terminal.then(|| (80, 24, "xterm-256color".into())),
            started: Timestamp::from_micros(1_781_440_100_123_456),
            record: RecordLevel::Full,
            retention: crate::retention::tests::year(),
            serial: u64::MAX,
        }
    }

    #[test]
    fn a_header_survives_its_json() {
        for terminal in [true, false] {
            let header = header(terminal);
            assert_eq!(Header::from_json(&header.to_json()).unwrap(), header);
        }
    }

    #[test]
    fn another_version_and_an_unknown_field_are_refused() {
        let json = String::from_utf8(header(true).to_json()).unwrap();
        assert_eq!(Header::from_json(json.replacen("\"v\":1", "\"v\":2", 1).as_bytes()), Err(BadHeader::Version(2)));
        let unknown = json.replacen("\"v\":1", "\"v\":1,\"surprise\":true", 1);
        assert!(matches!(Header::from_json(unknown.as_bytes()), Err(BadHeader::Json(_))));
        assert!(Header::from_json(b"").is_err());
    }
}
