//! A host behind the bastion, and by what it is recognised.

use std::collections::BTreeSet;
use std::sync::Arc;

use russh::keys::ssh_key::{HashAlg, PublicKey};

use crate::id::{Digest, Login, Person, TargetId};

/// A host as `targets.toml` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub id: TargetId,
    /// Host name or address, as written.
    pub host: String,
    pub port: u16,
    pub aliases: BTreeSet<TargetId>,
    /// `env=prod` or a plain word.
    pub labels: BTreeSet<String>,
    /// The accounts that may be asked for; the first is the default where a client names none.
    pub logins: Vec<Login>,
    /// What the host must prove itself with; never both empty.
    pub host_keys: Vec<PublicKey>,
    pub host_cas: Vec<PublicKey>,
    pub principal: PrincipalStyle,
    /// Fingerprints that nothing is believed of any more, though it were pinned or certified.
    pub revoked: Arc<BTreeSet<String>>,
}

/// Which principal a certificate for this target carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrincipalStyle {
    /// `LOGIN@TARGET-ID`: worth nothing on any other host.
    LoginAtTarget,
    /// The bare login, for hosts that cannot be given an AuthorizedPrincipalsFile; warned of at load.
    Login,
}

impl Target {
    /// Returns the one principal of a certificate for this login.
    pub fn certificate_principal(&self, login: &Login) -> String {
        match self.principal {
            PrincipalStyle::LoginAtTarget => format!("{login}@{}", self.id),
            PrincipalStyle::Login => login.to_string(),
        }
    }

    /// Every name by which people may call it: id, aliases, and the host where it is a name.
    pub fn names(&self) -> BTreeSet<String> {
        let host = self.host.to_ascii_lowercase();
        std::iter::once(&self.id).chain(&self.aliases).map(ToString::to_string).chain([host]).collect()
    }

    /// The accounts that this person may name here: those listed, or their own name where none is.
    pub fn accounts(&self, person: &Person) -> Vec<Login> {
        if self.logins.is_empty() { person.as_str().parse().into_iter().collect() } else { self.logins.clone() }
    }

    /// The account that `named` means here; a named one has to be listed, where any is.
    pub fn account(&self, named: Option<&Login>, person: &Person) -> Option<Login> {
        match named {
            Some(login) => (self.logins.is_empty() || self.logins.contains(login)).then(|| login.clone()),
            None => self.accounts(person).into_iter().next(),
        }
    }

    /// Digests what makes this host this host: id, address, host keys and CAs. A request names it, so
    /// that an approval ends with the host that was approved.
    pub fn pin(&self) -> Digest {
        let mut lines: Vec<String> = self.host_keys.iter().map(|k| format!("key {}", k.fingerprint(HashAlg::Sha256))).collect();
        lines.extend(self.host_cas.iter().map(|k| format!("ca {}", k.fingerprint(HashAlg::Sha256))));
        lines.sort();
        lines.insert(0, format!("{} {}:{}", self.id, self.host, self.port));
        Digest::of(lines.join("\n").as_bytes())
    }
}

/// All targets, found by id or alias.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    by_name: std::collections::BTreeMap<TargetId, std::sync::Arc<Target>>,
}

/// Two targets answer to the same name.
#[derive(Debug, thiserror::Error)]
#[error("{name} is the name of {first} and of {second}")]
pub struct SharedName {
    pub name: TargetId,
    pub first: TargetId,
    pub second: TargetId,
}

impl Targets {
    pub fn new(targets: Vec<Target>) -> Result<Self, SharedName> {
        let mut all = Self::default();
        for target in targets {
            let target = std::sync::Arc::new(target);
            for name in std::iter::once(&target.id).chain(&target.aliases) {
                if let Some(first) = all.by_name.insert(name.clone(), target.clone()) {
                    return Err(SharedName { name: name.clone(), first: first.id.clone(), second: target.id.clone() });
                }
            }
        }
        Ok(all)
    }

    /// Finds a target by id or alias, as a client typed it (host names do not heed case).
    pub fn find(&self, name: &str) -> Option<&std::sync::Arc<Target>> {
        self.by_name.get(&name.to_ascii_lowercase().parse().ok()?)
    }

    /// Every target once, by id.
    pub fn iter(&self) -> impl Iterator<Item = &std::sync::Arc<Target>> {
        self.by_name.iter().filter(|(name, target)| **name == target.id).map(|(_, target)| target)
    }
}
