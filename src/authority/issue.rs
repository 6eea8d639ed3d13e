//! User certificates: OpenSSH PROTOCOL.certkeys.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{self, PrivateKey};

use super::ca::{CaKey, SignError};
use super::keys::Keys;
use crate::access::Grant;
use crate::access::request::RequestDocument;
use crate::id::Digest;
use crate::time::Timestamp;

/// Before now, for targets whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(30);
/// After now; shorter when the grant ends earlier.
const LIFETIME: Duration = Duration::from_secs(120);

/// Signs certificates with the user CA.
#[derive(Debug, Clone)]
pub struct CertificateAuthority {
    user_ca: CaKey,
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

impl Certificate {
    pub fn grant(&self) -> &Grant {
        &self.grant
    }
}

impl CertificateAuthority {
    pub fn new(keys: &Keys) -> Self {
        Self { user_ca: keys.user_ca.clone() }
    }

    /// Signs a certificate for one session. `source` is the address that the target sees;
    /// `evidence` the bytes of the request and of every decision on it, which must be about this grant.
    pub async fn issue(
        &self,
        grant: &Grant,
        evidence: &[u8],
        source: IpAddr,
        needs: Needs,
        now: Timestamp,
    ) -> Result<Certificate, IssueError> {
        check_evidence(grant, evidence)?;
        let key = fresh_key();
        let ends = grant.ends_at.map_or(now.plus(LIFETIME), |ends| ends.min(now.plus(LIFETIME)));
        if ends <= now {
            return Err(IssueError::Ended(ends));
        }
        let begins = grant.starts_at.map_or(now.minus(BACKDATED), |starts| starts.max(now.minus(BACKDATED)));
        let exact = match (grant.exact, grant.want.command()) {
            (false, _) => None,
            (true, Some(command)) if !command.is_empty() => Some(command.to_owned()),
            (true, _) => return Err(IssueError::Command),
        };
        let nonce: [u8; 16] = rand::random();
        let recipe = || {
            let mut builder = Builder::new(nonce, key.public_key(), seconds(begins), seconds(ends))?;
            builder.cert_type(CertType::User)?;
            builder.serial(grant.serial)?;
            builder.key_id(key_id(grant))?;
            builder.valid_principal(grant.target.certificate_principal(&grant.login))?;
            builder.critical_option("source-address", host_block(source))?;
            if let Some(command) = &exact {
                builder.critical_option("force-command", command.as_str())?;
            }
            if needs.pty {
                builder.extension("permit-pty", "")?;
            }
            if grant.want.endpoint().is_some() {
                builder.extension("permit-port-forwarding", "")?;
            }
            if grant.want.has_agent() {
                builder.extension("permit-agent-forwarding", "")?;
            }
            builder.comment("countersign")?;
            Ok(builder)
        };
        let certificate = self.user_ca.sign(recipe).await?;
        Ok(Certificate { certificate, key: Arc::new(key), grant: grant.clone() })
    }
}

/// A key of one certificate: zeroised when dropped, never written anywhere.
pub(super) fn fresh_key() -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from(SigningKey::generate(&mut rand::rng())))
}

/// `countersign/<session>/<request>/<person>`: what the target's own log says of the login.
fn key_id(grant: &Grant) -> String {
    let request = grant.request.map_or("-".to_owned(), |request| request.to_string());
    format!("countersign/{}/{request}/{}", grant.session, grant.principal.person())
}

pub(super) fn host_block(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("{v4}/32"),
        IpAddr::V6(v6) => format!("{v6}/128"),
    }
}

pub(super) fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.micros() / 1_000_000).unwrap_or(0)
}

/// The evidence that is passed along: only what is compared here is named.
#[derive(serde::Deserialize)]
struct Evidence {
    #[serde(default)]
    request_b64: Option<String>,
}

/// Refuses evidence about anything but this grant: the first half of a signer that stands alone.
fn check_evidence(grant: &Grant, evidence: &[u8]) -> Result<(), IssueError> {
    let evidence: Evidence = serde_json::from_slice(evidence).map_err(|_| IssueError::Evidence("it cannot be read"))?;
    let (id, bytes) = match (grant.request, evidence.request_b64) {
        (None, None) => return Ok(()),
        (Some(id), Some(text)) => {
            (id, data_encoding::BASE64.decode(text.as_bytes()).map_err(|_| IssueError::Evidence("its request cannot be read"))?)
        }
        (None, Some(_)) | (Some(_), None) => {
            return Err(IssueError::Evidence("it has a request where the grant has none, or none where it has one"));
        }
    };
    let request = RequestDocument::read(&bytes).map_err(|_| IssueError::Evidence("its request cannot be read"))?;
    let pin: Digest = grant.target.pin();
    let names_target = request.targets.iter().any(|target| target.id == grant.target.id && target.pin == pin);
    if request.request != id
        || request.person != *grant.principal.person()
        || request.key != grant.principal.fingerprint()
        || request.login != grant.login
        || !names_target
        || !request.scope.covers(&grant.want)
    {
        return Err(IssueError::Evidence("it is about something else"));
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error("the grant ended at {0}")]
    Ended(Timestamp),
    #[error("an exact command is text and not empty")]
    Command,
    #[error("the evidence does not carry this certificate: {0}")]
    Evidence(&'static str),
    #[error(transparent)]
    Sign(#[from] SignError),
}
