//! Who asks: a person named by a key whose possession was proven on this connection, or by a certificate
//! for that key.
//!
//! A [`VerifiedKey`] is made in `ssh/login.rs` alone, after the signature was checked; an offered key
//! is not one (Warpgate GHSA-3cjp-w4cp-m9c8). A [`Principal`] is made from it here, and nowhere else.
//! The key counts wherever a key is named (scopes, requests, the log), also where a certificate named
//! the person; a new key is somebody who has to ask anew.

use std::net::IpAddr;
use std::sync::Arc;

use russh::keys::ssh_key::{Certificate, Fingerprint, HashAlg, PublicKey};

use super::certificate::{self, BadCertificate};
use super::factor::SecondFactor;
use super::people::People;
use super::source::Block;
use crate::id::{Group, Person};
use crate::time::Timestamp;

/// A public key that has signed this connection's session identifier, with the certificate it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedKey {
    key: PublicKey,
    certificate: Option<Arc<Certificate>>,
}

impl VerifiedKey {
    /// Only for the place that has seen the signature verified (see `tests/architecture.rs`).
    pub(crate) fn proven(key: PublicKey) -> Self {
        Self { key, certificate: None }
    }

    /// The same for a certificate whose subject key has signed. What it says is not believed yet.
    pub(crate) fn certified(certificate: Certificate) -> Self {
        let key = PublicKey::new(certificate.public_key().clone(), "");
        Self { key, certificate: Some(Arc::new(certificate)) }
    }

    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The certificate that names the person, where no list of keys does.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.key.fingerprint(HashAlg::Sha256)
    }

    /// Whether a terminal may be asked for: a certificate has to say so (`permit-pty`), as for sshd.
    pub fn permits_terminal(&self) -> bool {
        self.permits("permit-pty")
    }

    /// The same for forwards (`permit-port-forwarding`).
    pub fn permits_forwards(&self) -> bool {
        self.permits("permit-port-forwarding")
    }

    /// The same for the agent (`permit-agent-forwarding`).
    pub fn permits_agent(&self) -> bool {
        self.permits("permit-agent-forwarding")
    }

    fn permits(&self, extension: &str) -> bool {
        self.certificate.as_ref().is_none_or(|certificate| certificate.extensions().contains_key(extension))
    }
}

/// Why a proven key is nobody's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotKnown {
    #[error("nobody lists the key")]
    Key,
    #[error("the certificate names nobody: {0}")]
    Certificate(BadCertificate),
    #[error("{0} is suspended")]
    Suspended(Person),
    #[error("it is another person's now")]
    Another,
}

/// Who asks: the person whom the verified key names, the key, and where they come from.
#[derive(Debug, Clone)]
pub struct Principal {
    person: Person,
    groups: Vec<Group>,
    key: VerifiedKey,
    source: IpAddr,
    second_factor: Option<SecondFactor>,
}

impl Principal {
    /// Names the person whom `people` lists with exactly this key, or whom the certificate it came in
    /// names.
    pub fn identify(people: &People, key: VerifiedKey, source: IpAddr, now: Timestamp) -> Result<Self, NotKnown> {
        let source = source.to_canonical();
        let entry = match key.certificate() {
            None => people.by_key(key.key()).ok_or(NotKnown::Key)?,
            Some(certificate) => certificate::person(people, certificate, source, now).map_err(NotKnown::Certificate)?,
        };
        if people.is_suspended(&entry.name) {
            return Err(NotKnown::Suspended(entry.name.clone()));
        }
        Ok(Self { person: entry.name.clone(), groups: entry.groups.clone(), key, source, second_factor: None })
    }

    /// The same person as `people` has them now: a key, a CA or a group may be gone since, and a
    /// certificate over.
    pub fn again(&self, people: &People, now: Timestamp) -> Result<Self, NotKnown> {
        let now = Self::identify(people, self.key.clone(), self.source, now)?;
        if now.person != self.person {
            return Err(NotKnown::Another);
        }
        // A secret that was taken away or made anew takes what was given with it along.
        let second_factor = self.second_factor.clone().filter(|factor| factor.is_of(people.factor(&now.person)));
        Ok(Self { second_factor, ..now })
    }

    /// The same, having given their second factor too; `None` if it is somebody else's.
    pub fn with_second_factor(self, factor: SecondFactor) -> Option<Self> {
        (*factor.person() == self.person).then_some(Self { second_factor: Some(factor), ..self })
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

    /// What policies call `context.mfa`: given on this connection, or on the one that carries it.
    pub fn second_factor(&self) -> Option<&SecondFactor> {
        self.second_factor.as_ref()
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use russh::keys::ssh_key::private::Ed25519Keypair;
    use zeroize::Zeroizing;

    use super::*;
    use crate::access::factor::{SECRET, Secret};
    use crate::access::people::PersonEntry;

    /// Who takes a lost phone's secret away expects that nothing of it counts any more, whatever is open.
    #[test]
    fn a_second_factor_counts_for_as_long_as_its_secret_is_theirs() {
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let key = PublicKey::from(Ed25519Keypair::from_seed(&[7; 32]).public);
        let alice: Person = "alice".parse().unwrap();
        let entry = PersonEntry { name: alice.clone(), groups: vec![], keys: vec![key.clone()], accounts: vec![] };
        let secret = |byte| Secret::new(Zeroizing::new([byte; SECRET]));
        let people = |secrets: &[u8]| {
            let factors: BTreeMap<Person, _> = secrets.iter().map(|byte| (alice.clone(), secret(*byte).digest())).collect();
            People::new(vec![entry.clone()], &[]).unwrap().with_factors(factors)
        };
        let who = Principal::identify(&people(&[1]), VerifiedKey::proven(key), [127, 0, 0, 1].into(), now).unwrap();
        let who = who.with_second_factor(SecondFactor::proven(alice.clone(), now).of(&secret(1))).unwrap();

        let counts = |people: &People| who.again(people, now).unwrap().second_factor().is_some();
        assert!(counts(&people(&[1])));
        assert!(!counts(&people(&[2])), "made anew");
        assert!(!counts(&people(&[])), "taken away");
    }
}
