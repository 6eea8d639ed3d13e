//! The persons, the groups they are in and the keys that name them. Filled by `config`, asked by all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use russh::keys::ssh_key::{HashAlg, PublicKey};

use super::certificate::{RevokedCertificates, UserCa};
use super::hours::Hours;
use crate::id::{Digest, Group, Person};

/// One human being with all their accounts and keys.
#[derive(Debug, Clone)]
pub struct PersonEntry {
    pub name: Person,
    pub groups: Vec<Group>,
    pub keys: Vec<PublicKey>,
    /// Names of theirs elsewhere (chat, directory), for notices and review.
    pub accounts: Vec<String>,
}

/// Everybody. A key names at most one person; `config` refuses to load anything else.
#[derive(Debug, Clone, Default)]
pub struct People {
    by_name: BTreeMap<Person, PersonEntry>,
    by_fingerprint: BTreeMap<String, Person>,
    /// `SHA256:…`
    revoked: Arc<BTreeSet<String>>,
    user_cas: Vec<UserCa>,
    revoked_certificates: RevokedCertificates,
    /// Digests of the secrets of those who have a second factor.
    factors: BTreeMap<Person, Digest>,
    /// When they want to be asked; at any time where nothing is said.
    hours: BTreeMap<Person, Hours>,
    /// Who is let in no more: by the files, and by the state.
    suspended_in_files: BTreeSet<Person>,
    suspended: BTreeSet<Person>,
}

/// Two persons list the same key.
#[derive(Debug, thiserror::Error)]
#[error("the key {fingerprint} is listed under {first} and under {second}")]
pub struct SharedKey {
    pub fingerprint: String,
    pub first: Person,
    pub second: Person,
}

impl People {
    /// Takes everybody but the keys in `revoked` (`SHA256:…`), which name nobody any more.
    pub fn new(entries: Vec<PersonEntry>, revoked: &[String]) -> Result<Self, SharedKey> {
        let mut people = Self { revoked: Arc::new(revoked.iter().cloned().collect()), ..Self::default() };
        for entry in entries {
            for key in &entry.keys {
                let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
                if let Some(first) = people.by_fingerprint.insert(fingerprint.clone(), entry.name.clone()) {
                    return Err(SharedKey { fingerprint, first, second: entry.name });
                }
            }
            people.by_name.insert(entry.name.clone(), entry);
        }
        people.by_fingerprint.retain(|fingerprint, _| !revoked.contains(fingerprint));
        for entry in people.by_name.values_mut() {
            entry.keys.retain(|key| people.by_fingerprint.contains_key(&key.fingerprint(HashAlg::Sha256).to_string()));
        }
        Ok(people)
    }

    /// Keys that are believed nowhere any more, whoever shows them: `SHA256:…`.
    pub fn revoked(&self) -> &Arc<BTreeSet<String>> {
        &self.revoked
    }

    /// Also takes the certificates of these CAs for what they say, but for what is revoked.
    pub fn trusting(self, user_cas: Vec<UserCa>, revoked_certificates: RevokedCertificates) -> Self {
        Self { user_cas, revoked_certificates, ..self }
    }

    /// With the second factors that they have today.
    pub fn with_factors(self, factors: BTreeMap<Person, Digest>) -> Self {
        Self { factors, ..self }
    }

    /// With the hours in which they want to be asked.
    pub fn with_hours(self, hours: BTreeMap<Person, Hours>) -> Self {
        Self { hours, ..self }
    }

    /// Those whom the files suspend.
    pub fn with_suspended_in_files(self, suspended_in_files: BTreeSet<Person>) -> Self {
        Self { suspended_in_files, ..self }
    }

    /// The same people with those whom the state suspends now.
    pub fn with_suspended(self, suspended: BTreeSet<Person>) -> Self {
        Self { suspended, ..self }
    }

    /// Whom the state suspends.
    pub fn suspended(&self) -> &BTreeSet<Person> {
        &self.suspended
    }

    /// Whether this person is let in no more: they ask, open and decide nothing.
    pub fn is_suspended(&self, person: &Person) -> bool {
        self.suspended.contains(person) || self.is_suspended_in_files(person)
    }

    pub fn is_suspended_in_files(&self, person: &Person) -> bool {
        self.suspended_in_files.contains(person)
    }

    /// When this person wants to be asked, where it is not at any time.
    pub fn hours(&self, person: &Person) -> Option<&Hours> {
        self.hours.get(person)
    }

    /// What tells a person's second factor from another.
    pub fn factor(&self, person: &Person) -> Option<&Digest> {
        self.factors.get(person)
    }

    /// Returns the person who lists exactly this key. A certificate has its subject's fingerprint and is
    /// not that key.
    pub fn by_key(&self, key: &PublicKey) -> Option<&PersonEntry> {
        let name = self.by_fingerprint.get(&key.fingerprint(HashAlg::Sha256).to_string())?;
        self.by_name.get(name).filter(|entry| entry.keys.iter().any(|listed| listed.key_data() == key.key_data()))
    }

    pub fn user_cas(&self) -> &[UserCa] {
        &self.user_cas
    }

    /// Whether a key is revoked, by its fingerprint.
    pub fn is_revoked(&self, fingerprint: &str) -> bool {
        self.revoked.contains(fingerprint)
    }

    pub fn revoked_certificates(&self) -> &RevokedCertificates {
        &self.revoked_certificates
    }

    pub fn named(&self, name: &Person) -> Option<&PersonEntry> {
        self.by_name.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &PersonEntry> {
        self.by_name.values()
    }

    pub fn members(&self, group: &Group) -> impl Iterator<Item = &PersonEntry> {
        self.by_name.values().filter(move |entry| entry.groups.contains(group))
    }
}
