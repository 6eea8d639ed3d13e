//! Certificates for sessions: a key that is made here, and what the pen signs for it.

use std::net::IpAddr;
use std::sync::Arc;

use russh::keys::ssh_key::{self, PrivateKey};

use super::mint::fresh_key;
use super::pen::{Pen, PenError};
use super::wire::{Ask, SessionAsk};
use crate::access::Grant;
use crate::id::Digest;
use crate::time::Timestamp;

/// Has certificates signed by the user CA.
#[derive(Debug, Clone)]
pub struct CertificateAuthority {
    pen: Pen,
}

/// A signed certificate with its private key, for one grant. Demanded by `ssh::upstream::connect`.
#[derive(Debug)]
pub struct Certificate {
    pub(crate) certificate: ssh_key::Certificate,
    pub(crate) key: Arc<PrivateKey>,
    grant: Grant,
}

/// What this session needs from the target beyond running its command; nothing else is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    pub pty: bool,
}

/// What was ruled, and by what: the pen rules again.
#[derive(Debug, Clone, Copy)]
pub struct Ruled<'a> {
    pub policy: Digest,
    /// Nobody had opened this target as this person when it was ruled.
    pub first_time: bool,
    /// The bytes of the request and of every decision on it (`authority/evidence.rs`).
    pub evidence: &'a [u8],
}

impl Certificate {
    pub fn grant(&self) -> &Grant {
        &self.grant
    }
}

impl CertificateAuthority {
    pub fn new(pen: Pen) -> Self {
        Self { pen }
    }

    /// Has a certificate signed for one session. `source` is the address that the target sees.
    pub async fn issue(
        &self,
        grant: &Grant,
        ruled: Ruled<'_>,
        source: IpAddr,
        needs: Needs,
        now: Timestamp,
    ) -> Result<Certificate, IssueError> {
        if let Some(ends) = grant.ends_at.filter(|ends| *ends <= now) {
            return Err(IssueError::Ended(ends));
        }
        if grant.exact && grant.want.command().is_none_or(str::is_empty) {
            return Err(IssueError::Command);
        }
        let key = fresh_key();
        let verified = grant.principal.key();
        let certificate = verified.certificate().map(ssh_key::Certificate::to_openssh).transpose()?;
        let ask = SessionAsk {
            session: grant.session,
            serial: grant.serial.to_string(),
            subject: key.public_key().to_openssh()?,
            person: grant.principal.person().clone(),
            key: verified.key().to_openssh()?,
            certificate,
            source: grant.principal.source(),
            second_factor: grant.principal.second_factor().is_some(),
            first_time: ruled.first_time,
            target: grant.target.id.clone(),
            pin: grant.target.pin(),
            login: grant.login.clone(),
            want: grant.want.kind().to_owned(),
            command: grant.want.command_bytes().map(<[u8]>::to_vec),
            endpoint: grant.want.endpoint().cloned(),
            agent: grant.want.has_agent(),
            exact: grant.exact,
            pty: needs.pty,
            opened: grant.opened_at,
            ends: grant.ends_at,
            seen_from: source,
            policy: ruled.policy,
            evidence: ruled.evidence.to_vec(),
        };
        let line = self.pen.signed(Ask::Session(Box::new(ask))).await?;
        let certificate = ssh_key::Certificate::from_openssh(&line)?;
        if certificate.serial() != grant.serial || certificate.public_key() != key.public_key().key_data() {
            return Err(IssueError::Other);
        }
        Ok(Certificate { certificate, key: Arc::new(key), grant: grant.clone() })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error("the grant ended at {0}")]
    Ended(Timestamp),
    #[error("an exact command is text and not empty")]
    Command,
    #[error(transparent)]
    Pen(#[from] PenError),
    #[error("what was signed is for another session")]
    Other,
    #[error("a key or a certificate cannot be written down")]
    Form(#[from] ssh_key::Error),
}
