//! Who asks: a person named by a key whose possession was proven on this connection.
//!
//! A [`VerifiedKey`] is made in `ssh/login.rs` alone, after the signature was checked; an offered key
//! is not one (Warpgate GHSA-3cjp-w4cp-m9c8). A [`Principal`] is made from it here, and nowhere else.

use std::net::IpAddr;

use russh::keys::ssh_key::{Fingerprint, HashAlg, PublicKey};

use super::people::People;
use super::source::Block;
use crate::id::{Group, Person};

/// A public key that has signed this connection's session identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedKey(PublicKey);

impl VerifiedKey {
    /// Only for the place that has seen the signature verified (see `tests/architecture.rs`).
    pub(crate) fn proven(key: PublicKey) -> Self {
        Self(key)
    }

    pub fn key(&self) -> &PublicKey {
        &self.0
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint(HashAlg::Sha256)
    }
}

/// Who asks: the person whom the verified key names, the key, and where they come from.
#[derive(Debug, Clone)]
pub struct Principal {
    person: Person,
    groups: Vec<Group>,
    key: VerifiedKey,
    source: IpAddr,
}

impl Principal {
    /// Names the person whom `people` lists with exactly this key; `None` if nobody does.
    pub fn identify(people: &People, key: VerifiedKey, source: IpAddr) -> Option<Self> {
        let entry = people.by_key(key.key())?;
        Some(Self { person: entry.name.clone(), groups: entry.groups.clone(), key, source: source.to_canonical() })
    }

    /// The same person on the same connection, as `people` lists them by now; `None` where the key no
    /// longer names them.
    pub fn now(&self, people: &People) -> Option<Self> {
        let entry = people.by_key(self.key.key()).filter(|entry| entry.name == self.person)?;
        Some(Self { groups: entry.groups.clone(), ..self.clone() })
    }

    pub fn person(&self) -> &Person {
        &self.person
    }

    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    pub fn key(&self) -> &VerifiedKey {
        &self.key
    }

    /// `SHA256:…` of the verified key, as OpenSSH prints it.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint().to_string()
    }

    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// The source as requests name it: the address with /32, or its /64.
    pub fn source_block(&self) -> String {
        Block::of(self.source).to_string()
    }
}
