//! Certificates for `countersign ca check`: they open nothing, and show whether a host would let us in.
//!
//! A probe needs no approval because it is no session: `true` is all it may run, no terminal, no
//! forwarding, from one address, for a minute. Whoever stole one with its key could learn that a login
//! works. It is signed by a pen of its own, which `ca check` starts and which signs no session; the node's
//! signs no probe.

use std::net::IpAddr;
use std::sync::Arc;

use russh::keys::ssh_key::{self, HashAlg, PrivateKey};

use super::issue::IssueError;
use super::mint::{fresh_key, person_key};
use super::pen::{Pen, PenState};
use super::wire::{Ask, ProbeAsk};
use crate::access::probe::Probe;

/// Has probes signed by one of the user CAs.
#[derive(Debug, Clone)]
pub struct ProbeAuthority {
    pen: Pen,
}

/// A signed probe with its private key. Demanded by `ssh::probe`.
#[derive(Debug)]
pub struct ProbeCertificate {
    pub(crate) certificate: ssh_key::Certificate,
    pub(crate) key: Arc<PrivateKey>,
}

impl ProbeAuthority {
    pub fn new(pen: Pen) -> Self {
        Self { pen }
    }

    /// `SHA256:…` of the CA that signs.
    pub fn ca(&self) -> String {
        match self.pen.state() {
            PenState::Up(ready) => person_key(&ready.ca).map(|key| key.fingerprint(HashAlg::Sha256).to_string()).unwrap_or_default(),
            PenState::Down(why) => why,
        }
    }

    /// Has one signed; `source` is the address that the target sees.
    pub async fn issue(&self, probe: &Probe, source: IpAddr) -> Result<ProbeCertificate, IssueError> {
        let key = fresh_key();
        let ask = ProbeAsk {
            asks: probe.asks().word().to_owned(),
            principal: probe.principal().to_owned(),
            serial: probe.serial().to_string(),
            subject: key.public_key().to_openssh()?,
            by: probe.by().to_owned(),
            seen_from: source,
        };
        let line = self.pen.signed(Ask::Probe(ask)).await?;
        let certificate = ssh_key::Certificate::from_openssh(&line)?;
        if certificate.serial() != probe.serial() || certificate.public_key() != key.public_key().key_data() {
            return Err(IssueError::Other);
        }
        Ok(ProbeCertificate { certificate, key: Arc::new(key) })
    }
}
