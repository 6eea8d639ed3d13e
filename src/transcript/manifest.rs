//! What a sealed recording says of itself in the clear, signed by the bastion's seal key.
//!
//! RFC 8785 JSON (**D canonical form**) beside the body, with an SSHSIG in the namespace [`NAMESPACE`]. It
//! binds the body by digest, the key file by the recipient that the body is encrypted to, the retention
//! terms, and a point of the audit log that came before. It holds nothing that a user typed: no command,
//! no reason, no note.

use serde::{Deserialize, Serialize};

use super::header::Header;
use super::outcome::Outcome;
use crate::access::canonical::{self, NotCanonical};
use crate::audit::LogPoint;
use crate::id::{Digest, Login, Person, RequestId, SessionId, TargetId};
use crate::retention::terms::Terms;
use crate::time::Timestamp;

/// Namespace of the manifest's SSHSIG.
pub const NAMESPACE: &str = "countersign-recording-v1";

/// The version written here; another one is refused (FC11).
pub const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub v: u32,
    pub bastion: String,
    pub session: SessionId,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request: Option<RequestId>,
    pub person: Person,
    pub target: TargetId,
    pub login: Login,
    /// `shell`, `exec` or `sftp`
    pub kind: String,
    /// The certificate's serial; text, because many parsers stop at 2^53.
    pub serial: String,
    pub record: String,
    pub started_us: Timestamp,
    pub ended_us: Timestamp,
    /// The first words of `Outcome`, without what people wrote: `exited 0`, `revoked`, `interrupted`.
    pub outcome: String,
    pub body: Body,
    pub retention: Terms,
    /// A signed point of the audit log from before the seal.
    pub log: LogPoint,
}

/// The file that holds the transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    pub bytes: u64,
    pub sha256: Digest,
    /// The identity that this body alone is encrypted to (`age1…`); absent in plain mode.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub recipient: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum BadManifest {
    #[error("the manifest {0}{because}", because = because(.0))]
    Form(NotCanonical),
    #[error("the manifest is of version {0}, this countersign reads {VERSION}")]
    Version(u64),
    #[error("the manifest has no version")]
    NoVersion,
}

impl From<NotCanonical> for BadManifest {
    fn from(form: NotCanonical) -> Self {
        BadManifest::Form(form)
    }
}

/// The parser's own words, where there are any.
pub(super) fn because(form: &NotCanonical) -> String {
    std::error::Error::source(form).map(|source| format!(": {source}")).unwrap_or_default()
}

impl Manifest {
    pub fn of(header: &Header, bastion: &str, outcome: &Outcome, ended: Timestamp, body: Body, log: LogPoint) -> Self {
        Self {
            v: VERSION,
            bastion: bastion.to_owned(),
            session: header.session,
            request: header.request,
            person: header.person.clone(),
            target: header.target.clone(),
            login: header.login.clone(),
            kind: header.kind.clone(),
            serial: header.serial.to_string(),
            record: header.record.as_str().to_owned(),
            started_us: header.started,
            ended_us: ended,
            outcome: outcome.kind(),
            body,
            retention: header.retention.clone(),
            log,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// Reads a manifest from exactly its canonical bytes; the version first and alone, since a later one
    /// may have fields that are unknown here.
    pub fn read(bytes: &[u8]) -> Result<Self, BadManifest> {
        #[derive(Deserialize)]
        struct Version {
            v: Option<u64>,
        }
        if bytes.len() > canonical::MAX_BYTES {
            return Err(NotCanonical::TooLong(bytes.len(), canonical::MAX_BYTES).into());
        }
        let Version { v } = serde_json::from_slice(bytes).map_err(NotCanonical::Parse)?;
        match v {
            Some(v) if v == u64::from(VERSION) => Ok(canonical::decode(bytes)?),
            Some(v) => Err(BadManifest::Version(v)),
            None => Err(BadManifest::NoVersion),
        }
    }

    /// Names the first thing in which the transcript's own header and end differ from this manifest.
    pub fn contradicts(&self, header: &Header, outcome: &str, ended: Timestamp) -> Option<&'static str> {
        let differs = [
            ("session", self.session != header.session),
            ("request", self.request != header.request),
            ("person", self.person != header.person),
            ("target", self.target != header.target),
            ("login", self.login != header.login),
            ("kind", self.kind != header.kind),
            ("serial", self.serial != header.serial.to_string()),
            ("record", self.record != header.record.as_str()),
            ("start", self.started_us != header.started),
            ("retention", self.retention != header.retention),
            ("end", self.ended_us != ended),
            ("outcome", outcome.parse::<Outcome>().map(|outcome| outcome.kind()) != Ok(self.outcome.clone())),
        ];
        differs.into_iter().find(|(_, differs)| *differs).map(|(what, _)| what)
    }
}
