//! User certificates as they are signed: OpenSSH PROTOCOL.certkeys. Used by the pen alone, for what it has
//! judged; the narrow form of a certificate is kept here, whoever asks.

use std::net::IpAddr;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{self, Algorithm, PrivateKey, PublicKey};

use super::ca::{CaKey, SignError};
use super::keys::{self, KeyError};
use super::plan::KeyPlan;
use crate::access::probe::Asks;
use crate::time::Timestamp;

/// Before now, for targets whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(30);
/// After now; shorter when what it is for ends earlier.
pub const LIFETIME: Duration = Duration::from_secs(120);
/// Before and after now: a probe's minute.
const HALF: Duration = Duration::from_secs(30);
/// How far ahead of ours the clock of a host may be to be found out by [`Asks::Clock`].
const DAY: Duration = Duration::from_secs(86_400);
/// No line of a key or of a login certificate is longer.
const MAX_LINE: usize = 24 * 1024;

/// The user CA's key. Its holder signs.
#[derive(Debug)]
pub struct Nib {
    ca: CaKey,
}

/// A session's certificate, once judged.
#[derive(Debug)]
pub struct ForSession {
    pub subject: PublicKey,
    pub serial: u64,
    pub key_id: String,
    /// The one principal.
    pub principal: String,
    /// It does not begin before.
    pub begins: Option<Timestamp>,
    /// It ends here, or sooner.
    pub ends: Timestamp,
    pub seen_from: IpAddr,
    pub force_command: Option<String>,
    pub pty: bool,
    pub port_forwarding: bool,
    pub agent_forwarding: bool,
}

/// A probe's: it runs `true`.
#[derive(Debug)]
pub struct ForProbe {
    pub asks: Asks,
    pub subject: PublicKey,
    pub serial: u64,
    pub principal: String,
    pub by: String,
    pub seen_from: IpAddr,
}

impl Nib {
    /// Takes the user CA number `n` of the list, from 1: the first signs sessions, the others are to come.
    pub fn read(plan: &KeyPlan, n: usize) -> Result<Self, KeyError> {
        Ok(Self { ca: keys::user_ca(plan, n)? })
    }

    pub fn public_key(&self) -> &PublicKey {
        self.ca.public_key()
    }

    pub async fn sign_session(&self, it: &ForSession, now: Timestamp) -> Result<ssh_key::Certificate, SignError> {
        let nonce: [u8; 16] = rand::random();
        let begins = it.begins.map_or(now.minus(BACKDATED), |begins| begins.max(now.minus(BACKDATED)));
        let ends = it.ends.min(now.plus(LIFETIME));
        let recipe = || {
            let mut builder = Builder::new(nonce, &it.subject, seconds(begins), seconds(ends))?;
            builder.cert_type(CertType::User)?;
            builder.serial(it.serial)?;
            builder.key_id(it.key_id.as_str())?;
            builder.valid_principal(it.principal.as_str())?;
            builder.critical_option("source-address", host_block(it.seen_from))?;
            if let Some(command) = &it.force_command {
                builder.critical_option("force-command", command.as_str())?;
            }
            if it.pty {
                builder.extension("permit-pty", "")?;
            }
            if it.port_forwarding {
                builder.extension("permit-port-forwarding", "")?;
            }
            if it.agent_forwarding {
                builder.extension("permit-agent-forwarding", "")?;
            }
            builder.comment("countersign")?;
            Ok(builder)
        };
        self.ca.sign(recipe).await
    }

    pub async fn sign_probe(&self, it: &ForProbe, now: Timestamp) -> Result<ssh_key::Certificate, SignError> {
        let nonce: [u8; 16] = rand::random();
        let (from, to) = match it.asks {
            Asks::Login | Asks::Plain => (seconds(now.minus(HALF)), seconds(now.plus(HALF))),
            // A host whose battery died is back in 1970.
            Asks::Clock => (0, seconds(now.plus(DAY))),
        };
        let recipe = || {
            let mut builder = Builder::new(nonce, &it.subject, from, to)?;
            builder.cert_type(CertType::User)?;
            builder.serial(it.serial)?;
            builder.key_id(format!("countersign/check/-/{}", it.by))?;
            builder.valid_principal(it.principal.as_str())?;
            builder.critical_option("force-command", "/bin/true")?;
            builder.critical_option("source-address", host_block(it.seen_from))?;
            builder.comment("countersign")?;
            Ok(builder)
        };
        self.ca.sign(recipe).await
    }
}

/// A key of one certificate: zeroised when dropped, never written anywhere.
pub(super) fn fresh_key() -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from(SigningKey::generate(&mut rand::rng())))
}

/// Reads the line of a key that a certificate is to be about: a plain Ed25519 key, as [`fresh_key`] makes them.
pub fn subject(line: &str) -> Option<PublicKey> {
    person_key(line).filter(|key| key.algorithm() == Algorithm::Ed25519)
}

/// Reads the line of a person's key. No certificate reaches the parser: nested ones recurse without limit in
/// ssh-key 0.7.0-rc.11.
pub fn person_key(line: &str) -> Option<PublicKey> {
    if line.len() > MAX_LINE || names_certificate(line) {
        return None;
    }
    PublicKey::from_openssh(line).ok()
}

/// Reads the line of a certificate that somebody logged in with. Bounded, so that it nests only so deep.
pub fn login_certificate(line: &str) -> Option<ssh_key::Certificate> {
    (line.len() <= MAX_LINE).then(|| ssh_key::Certificate::from_openssh(line).ok()).flatten()
}

fn names_certificate(line: &str) -> bool {
    let mark = b"-cert-v0";
    let blob = line.split_ascii_whitespace().nth(1).and_then(|word| data_encoding::BASE64.decode(word.as_bytes()).ok());
    line.contains("-cert-v0") || blob.is_none_or(|blob| blob.windows(mark.len()).any(|part| part == mark))
}

fn host_block(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("{v4}/32"),
        IpAddr::V6(v6) => format!("{v6}/128"),
    }
}

pub(super) fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.micros() / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn nib() -> Nib {
        Nib { ca: CaKey::File(Arc::new(fresh_key())) }
    }

    fn options(certificate: &ssh_key::Certificate) -> Vec<(&str, &str)> {
        certificate.critical_options().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
    }

    #[tokio::test]
    async fn a_probe_may_run_true_from_one_address_for_a_minute_and_nothing_else() {
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        for (asks, principal, minutes) in
            [(Asks::Login, "deploy@web-1", 1), (Asks::Plain, "deploy", 1), (Asks::Clock, "deploy@web-1", 28_334_773)]
        {
            let subject = fresh_key().public_key().clone();
            let probe =
                ForProbe { asks, subject, serial: 7, principal: principal.into(), by: "root".into(), seen_from: [192, 0, 2, 1].into() };
            let certificate = nib().sign_probe(&probe, now).await.unwrap();
            assert!(certificate.cert_type().is_user());
            assert_eq!(certificate.valid_principals(), [principal]);
            assert_eq!(options(&certificate), [("force-command", "/bin/true"), ("source-address", "192.0.2.1/32")]);
            assert!(certificate.extensions().is_empty());
            assert_eq!((certificate.valid_before() - certificate.valid_after()) / 60, minutes);
            assert_eq!((certificate.serial(), certificate.key_id()), (7, "countersign/check/-/root"));
        }
    }

    #[tokio::test]
    async fn a_session_has_two_minutes_at_the_most_to_begin() {
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        for (since, left, valid) in [(None, 3600, 150), (None, 60, 90), (Some(3600), 3600, 150), (Some(10), 3600, 130)] {
            let session = ForSession {
                subject: fresh_key().public_key().clone(),
                serial: 7,
                key_id: "countersign/S/R/alice".into(),
                principal: "deploy@web-1".into(),
                begins: since.map(|since| now.minus(Duration::from_secs(since))),
                ends: now.plus(Duration::from_secs(left)),
                seen_from: [192, 0, 2, 1].into(),
                force_command: Some("id -un".into()),
                pty: false,
                port_forwarding: false,
                agent_forwarding: false,
            };
            let certificate = nib().sign_session(&session, now).await.unwrap();
            assert_eq!(certificate.valid_before() - certificate.valid_after(), valid);
            assert_eq!(certificate.valid_principals(), ["deploy@web-1"]);
            assert_eq!(options(&certificate), [("force-command", "id -un"), ("source-address", "192.0.2.1/32")]);
            assert!(certificate.extensions().is_empty());
        }
    }

    #[test]
    fn no_certificate_is_a_subject() {
        let key = fresh_key().public_key().to_openssh().unwrap();
        assert!(subject(&key).is_some());
        for bad in ["", "ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com AAAA", "ssh-ed25519 !!", &"x".repeat(MAX_LINE + 1)] {
            assert!(subject(bad).is_none(), "{bad}");
        }
    }
}
