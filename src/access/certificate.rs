//! User certificates at login (OpenSSH PROTOCOL.certkeys): every check that russh leaves to us.
//!
//! russh has seen the subject key sign, and the certificate signed by the key that it names itself; that
//! proves nothing. Here: a CA of `people.toml`, a user certificate, exactly one principal that is a
//! person, its times, its critical options, nothing revoked. CAs are compared as plain key data, so a
//! certificate in the place of a CA's key is never one (CVE-2025-49825). What cannot be honoured is
//! refused, never ignored (FC11). Asked at login and again whenever a channel or a session opens.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Algorithm, Certificate, HashAlg, PublicKey};
use serde::{Deserialize, Serialize};

use super::people::{People, PersonEntry};
use crate::id::Person;
use crate::time::{Timestamp, short};

/// No certificate is looked at beyond this.
pub const MAX_CERTIFICATE: usize = 16 * 1024;
/// RSA keys below are no keys, neither a person's nor a CA's.
const MIN_RSA_BITS: u32 = 2048;

/// A CA whose certificates name persons: `[user_cas.NAME]`.
#[derive(Debug, Clone)]
pub struct UserCa {
    pub name: String,
    pub keys: Vec<PublicKey>,
    /// The longest time that a certificate may be valid for, from its beginning to its end.
    pub longest: Duration,
}

/// What `[revoked]` says of certificates; revoked keys are those of [`People`].
#[derive(Debug, Clone, Default)]
pub struct RevokedCertificates {
    /// By the CA's name.
    pub serials: BTreeMap<String, Vec<RangeInclusive<u64>>>,
    pub key_ids: BTreeSet<String>,
}

/// Why a certificate names nobody. For the log: before the login nobody is told anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    #[error("it is longer than {MAX_CERTIFICATE} bytes")]
    TooLong,
    #[error("it is a host's certificate")]
    Host,
    #[error("it is signed by {0}, which no [user_cas] lists")]
    UnknownCa(String),
    #[error("its signature does not fit")]
    Signature,
    #[error("{0} keys are not accepted")]
    Key(String),
    #[error("it is signed with {0}")]
    Algorithm(String),
    #[error("it is valid from {0}")]
    NotYet(u64),
    #[error("it was valid until {0}")]
    Expired(u64),
    #[error("it is valid for more than the {} that its CA may give", short(*.0))]
    Lifetime(Duration),
    #[error("it names no principal, which would be everybody")]
    Golden,
    #[error("it names {0} principals; exactly one says who this is")]
    Principals(usize),
    #[error("its principal {0:?} is nobody here")]
    Nobody(String),
    #[error("it is for {0:?}, and this is {1}")]
    Source(String, IpAddr),
    #[error("its critical option {0:?} cannot be honoured here")]
    Option(String),
    #[error("{0} is revoked")]
    Revoked(String),
}

/// Names the person of a certificate whose subject key has signed; `source` is where they come from.
pub fn person<'p>(
    people: &'p People,
    certificate: &Certificate,
    source: IpAddr,
    now: Timestamp,
) -> Result<&'p PersonEntry, BadCertificate> {
    if certificate.to_bytes().map_or(true, |bytes| bytes.len() > MAX_CERTIFICATE) {
        return Err(BadCertificate::TooLong);
    }
    if certificate.cert_type() != CertType::User {
        return Err(BadCertificate::Host);
    }
    acceptable(certificate.public_key())?;
    let ca = signed_by(people, certificate)?;
    is_within(certificate, ca, now)?;
    Issued::of(certificate).is_standing(people, ca, &fingerprint(certificate.public_key()))?;
    options(certificate, source)?;
    match certificate.valid_principals() {
        [] => Err(BadCertificate::Golden),
        [one] => {
            // A name that is no word is nobody's, and so no pattern is one either.
            let named = one.parse::<Person>().ok().and_then(|name| people.named(&name));
            named.ok_or_else(|| BadCertificate::Nobody(one.chars().take(64).collect()))
        }
        many => Err(BadCertificate::Principals(many.len())),
    }
}

/// Whether a key may log in or sign certificates: a plain key, of a length that holds.
fn acceptable(key: &KeyData) -> Result<(), BadCertificate> {
    match key {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => Ok(()),
        KeyData::Rsa(rsa) if rsa.key_size() >= MIN_RSA_BITS => Ok(()),
        KeyData::Rsa(rsa) => Err(BadCertificate::Key(format!("{} bit RSA", rsa.key_size()))),
        other => Err(BadCertificate::Key(other.algorithm().as_str().chars().take(64).collect())),
    }
}

/// The CA that signed it, if we trust it: the very key data, the signature, and no SHA-1 in it.
fn signed_by<'p>(people: &'p People, certificate: &Certificate) -> Result<&'p UserCa, BadCertificate> {
    let signer = certificate.signature_key();
    let unknown = || BadCertificate::UnknownCa(fingerprint(signer));
    // Before anything is asked of the signing key: nested in it could be another certificate.
    let plain = acceptable(signer).is_ok();
    let ca = people.user_cas().iter().find(|ca| plain && ca.keys.iter().any(|key| key.key_data() == signer)).ok_or_else(unknown)?;
    match certificate.signature().algorithm() {
        Algorithm::Ed25519
        | Algorithm::Ecdsa { .. }
        | Algorithm::Rsa { hash: Some(_) }
        | Algorithm::SkEd25519
        | Algorithm::SkEcdsaSha2NistP256 => {}
        other => return Err(BadCertificate::Algorithm(other.as_str().chars().take(64).collect())),
    }
    certificate.verify_signature().map_err(|_| BadCertificate::Signature)?;
    Ok(ca)
}

/// `SHA256:…`, or a word for what is no plain key.
fn fingerprint(key: &KeyData) -> String {
    match key {
        KeyData::Certificate(_) => "a certificate".to_owned(),
        plain => plain.fingerprint(HashAlg::Sha256).to_string(),
    }
}

/// PROTOCOL.certkeys: valid after <= now < valid before.
fn is_within(certificate: &Certificate, ca: &UserCa, now: Timestamp) -> Result<(), BadCertificate> {
    let (after, before) = (certificate.valid_after(), certificate.valid_before());
    let now = u64::try_from(now.micros() / 1_000_000).unwrap_or(0);
    if now < after {
        Err(BadCertificate::NotYet(after))
    } else if now >= before {
        Err(BadCertificate::Expired(before))
    } else if before.saturating_sub(after) > ca.longest.as_secs() {
        Err(BadCertificate::Lifetime(ca.longest))
    } else {
        Ok(())
    }
}

/// What of a certificate can still be asked once its connection has gone: whether it was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// The CA's `SHA256:…`.
    pub ca: String,
    /// In decimal: serials go beyond what numbers in our documents may be.
    pub serial: String,
    pub key_id: String,
}

impl Issued {
    pub fn of(certificate: &Certificate) -> Self {
        Self {
            ca: fingerprint(certificate.signature_key()),
            serial: certificate.serial().to_string(),
            key_id: certificate.key_id().to_owned(),
        }
    }

    /// Whether its CA is trusted and nothing of it revoked; `subject` is the fingerprint of its key.
    pub fn stands(&self, people: &People, subject: &str) -> bool {
        let is = |key: &PublicKey| key.fingerprint(HashAlg::Sha256).to_string() == self.ca;
        let ca = people.user_cas().iter().find(|ca| ca.keys.iter().any(is));
        ca.is_some_and(|ca| self.is_standing(people, ca, subject).is_ok())
    }

    /// Revoked are keys (the subject's and the CA's), serials of a CA, and key ids.
    fn is_standing(&self, people: &People, ca: &UserCa, subject: &str) -> Result<(), BadCertificate> {
        let revoked = people.revoked_certificates();
        if let Some(key) = [subject, &self.ca].into_iter().find(|key| people.is_revoked(key)) {
            return Err(BadCertificate::Revoked(key.to_owned()));
        }
        let is_revoked =
            |serial: u64| revoked.serials.get(&ca.name).is_some_and(|ranges| ranges.iter().any(|range| range.contains(&serial)));
        if self.serial.parse().map_or(true, is_revoked) {
            return Err(BadCertificate::Revoked(format!("serial {} of {}", self.serial, ca.name)));
        }
        if revoked.key_ids.contains(&self.key_id) {
            return Err(BadCertificate::Revoked(format!("key id {:?}", self.key_id)));
        }
        Ok(())
    }
}

/// Critical options. `source-address` is held to; `force-command` cannot be, since what runs is decided
/// by policy and approval; `verify-required` cannot be seen at login (russh keeps the flags to itself).
fn options(certificate: &Certificate, source: IpAddr) -> Result<(), BadCertificate> {
    for (name, value) in certificate.critical_options().iter() {
        match name.as_str() {
            "source-address" => {
                if !is_in(value, source.to_canonical()) {
                    return Err(BadCertificate::Source(value.chars().take(128).collect(), source));
                }
            }
            other => return Err(BadCertificate::Option(other.chars().take(64).collect())),
        }
    }
    Ok(())
}

/// Whether `source` is in a comma-separated list of addresses and networks. A list that is not well
/// formed to its end holds nobody, as for sshd.
fn is_in(list: &str, source: IpAddr) -> bool {
    let blocks: Option<Vec<Block>> = list.split(',').map(Block::read).collect();
    blocks.is_some_and(|blocks| blocks.iter().any(|block| block.holds(source)))
}

/// A network: its address as bits, how many there are, how many of them count.
struct Block {
    bits: u128,
    of: u32,
    prefix: u32,
}

impl Block {
    fn read(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let (bits, of) = bits(address.parse().ok()?);
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let prefix = prefix.map_or(Some(of), digits).filter(|prefix| *prefix <= of)?;
        let block = Self { bits, of, prefix };
        // Bits beyond the prefix are a mistake, not a network.
        (block.bits & !block.mask() == 0).then_some(block)
    }

    fn mask(&self) -> u128 {
        let all = if self.of == 128 { u128::MAX } else { (1 << self.of) - 1 };
        all & !all.checked_shr(self.prefix).unwrap_or(0)
    }

    fn holds(&self, source: IpAddr) -> bool {
        let (bits, of) = bits(source);
        of == self.of && bits & self.mask() == self.bits
    }
}

fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    }
}

#[cfg(test)]
mod tests;
