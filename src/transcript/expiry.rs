//! What is left of a recording that has lawfully gone: who it was, under which schedule, when it was due,
//! when its key was destroyed here. Nothing in it can be known of copies made elsewhere, and it says so.

use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use crate::access::canonical::{self, NotCanonical};
use crate::id::{Digest, ScheduleName, SessionId};
use crate::time::Timestamp;

/// Namespace of the certificate's SSHSIG, made with the seal key.
pub const NAMESPACE: &str = "countersign-expiry-v1";

const KIND: &str = "countersign-expiry";
const VERSION: u32 = 1;
const SAYS: &str = "the key files that this bastion knew of were destroyed here; nothing is said of copies";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    v: u32,
    kind: String,
    pub bastion: String,
    pub session: SessionId,
    /// SHA-256 of the manifest, which stays.
    pub manifest: Digest,
    pub body_sha256: Digest,
    pub body_bytes: u64,
    pub schedule: ScheduleName,
    pub due_us: Timestamp,
    /// When it was announced.
    pub marked_us: Timestamp,
    pub erased_us: Timestamp,
    says: String,
}

/// What a certificate is about.
#[derive(Debug, Clone)]
pub struct Gone {
    pub bastion: String,
    pub session: SessionId,
    pub manifest: Digest,
    pub body_sha256: Digest,
    pub body_bytes: u64,
    pub schedule: ScheduleName,
    pub due: Timestamp,
    pub marked: Timestamp,
    pub erased: Timestamp,
}

#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    #[error("the expiry certificate {0}{because}", because = super::manifest::because(.0))]
    Form(NotCanonical),
    #[error("the expiry certificate is of a kind or version that is unknown here")]
    Unknown,
}

impl From<NotCanonical> for BadCertificate {
    fn from(form: NotCanonical) -> Self {
        BadCertificate::Form(form)
    }
}

impl Certificate {
    pub fn of(gone: Gone) -> Self {
        let Gone { bastion, session, manifest, body_sha256, body_bytes, schedule, due, marked, erased } = gone;
        Self {
            v: VERSION,
            kind: KIND.into(),
            bastion,
            session,
            manifest,
            body_sha256,
            body_bytes,
            schedule,
            due_us: due,
            marked_us: marked,
            erased_us: erased,
            says: SAYS.into(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    pub fn read(bytes: &[u8]) -> Result<Self, BadCertificate> {
        let read: Self = canonical::decode(bytes)?;
        if read.v == VERSION && read.kind == KIND { Ok(read) } else { Err(BadCertificate::Unknown) }
    }

    /// Recomputes the day from the terms in the manifest: nothing went before it, or under another schedule.
    pub fn on_time(&self, manifest: &Manifest) -> Result<(), String> {
        if self.body_sha256 != manifest.body.sha256 || self.body_bytes != manifest.body.bytes {
            return Err("its certificate is about another body than its manifest".into());
        }
        let due = manifest.retention.due(manifest.ended_us).map_err(|error| error.to_string())?;
        if self.schedule != due.schedule || self.due_us != due.delete_by {
            return Err(format!("by its terms it was due {} ({}), its certificate says {}", due.delete_by, due.schedule, self.due_us));
        }
        if self.erased_us < due.delete_by || self.erased_us < due.keep_until {
            return Err(format!("it was erased {}, before it was due {}", self.erased_us, due.delete_by));
        }
        Ok(())
    }
}
