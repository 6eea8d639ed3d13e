//! A host behind the bastion, and by what it is recognised.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use russh::keys::ssh_key::{HashAlg, PublicKey};

use super::family::{Family, TargetPattern};
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
    pub entry: Entry,
}

/// Where a target is written down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Below `policies/`: `targets.d/web.toml`.
    pub file: Arc<str>,
    /// Of what it is recognised by, from 1.
    pub line: usize,
    /// The pattern that the target was derived from, if it is not listed by itself.
    pub family: Option<TargetPattern>,
    /// Fingerprints that the same directory revokes: nothing is believed of them, though pinned or certified.
    pub revoked: Arc<BTreeSet<String>>,
}

impl fmt::Display for Entry {
    /// `targets.d/web.toml:31`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
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

    /// Every name by which people may call it: id, aliases and host.
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
        lines.extend(self.entry.family.iter().map(|pattern| format!("of {pattern}")));
        lines.sort();
        lines.insert(0, format!("{} {}:{}", self.id, self.host, self.port));
        Digest::of(lines.join("\n").as_bytes())
    }
}

/// All targets, found by any of their names.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    by_name: BTreeMap<TargetId, Arc<Target>>,
    /// By address, in lower case; several targets may be one host's.
    by_host: HashMap<String, Vec<Arc<Target>>>,
    families: Vec<Arc<Family>>,
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
    /// The caller has seen to it that no two families are crossing ([`TargetPattern::overlap`]).
    pub fn new(targets: Vec<Target>, families: Vec<Family>) -> Result<Self, SharedName> {
        let mut all = Self { families: families.into_iter().map(Arc::new).collect(), ..Self::default() };
        for target in targets {
            let target = Arc::new(target);
            all.by_host.entry(target.host.to_ascii_lowercase()).or_default().push(target.clone());
            for name in std::iter::once(&target.id).chain(&target.aliases) {
                if let Some(first) = all.by_name.insert(name.clone(), target.clone()) {
                    return Err(SharedName { name: name.clone(), first: first.id.clone(), second: target.id.clone() });
                }
            }
        }
        Ok(all)
    }

    /// Finds a target by id or alias, as a client typed it (host names do not heed case), or derives the
    /// member of the most specific pattern that fits. What is listed beats every pattern.
    pub fn find(&self, name: &str) -> Option<Arc<Target>> {
        let name = name.to_ascii_lowercase().parse().ok()?;
        self.by_name.get(&name).cloned().or_else(|| self.derive(&name))
    }

    /// Finds the target that a client calls HOST:PORT: by name at 22 or its own port; by address only where
    /// exactly one target has it.
    pub fn at(&self, host: &str, port: u32) -> Option<Arc<Target>> {
        let own = |target: &&Arc<Target>| port == u32::from(target.port);
        let lower = host.to_ascii_lowercase();
        let listed = lower.parse().ok().and_then(|name: TargetId| self.by_name.get(&name));
        if let Some(target) = listed {
            return Some(target).filter(|target| port == 22 || own(target)).cloned();
        }
        let Some(at) = self.by_host.get(&lower) else { return self.find(&lower).filter(|target| port == 22 || own(&target)) };
        let mut exactly = at.iter().filter(own);
        match (exactly.next(), exactly.next(), at.as_slice()) {
            (Some(one), None, _) => Some(one.clone()),
            (None, None, [one]) if port == 22 => Some(one.clone()),
            _ => None,
        }
    }

    /// Finds a target that somebody reaches who connects there: by any of its names, or by an address that it
    /// is listed with, at its port or at 22. One of several is enough to say no.
    pub fn leads_to(&self, host: &str, port: u32) -> Option<Arc<Target>> {
        let lower = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let there = |target: &Arc<Target>| port == 22 || port == u32::from(target.port);
        let named = lower.parse().ok().and_then(|name: TargetId| self.by_name.get(&name));
        let listed = named.into_iter().chain(self.by_host.get(&lower).into_iter().flatten());
        let found = listed.into_iter().find(|target| there(target)).cloned().or_else(|| self.find(&lower).filter(there));
        found.or_else(|| {
            // However the address is written, and whatever name of loopback.
            let address: IpAddr = lower.parse().ok()?;
            let same = |target: &&Arc<Target>| target.host.parse::<IpAddr>().is_ok_and(|own| own.to_canonical() == address.to_canonical());
            self.iter().find(|target| same(target) && there(target)).cloned()
        })
    }

    /// The member of a family. A host that is listed is no member under its address: its own labels count.
    fn derive(&self, name: &TargetId) -> Option<Arc<Target>> {
        let fits = self.families.iter().filter(|family| family.pattern.matches(name.as_str()));
        let target = fits.max_by_key(|family| family.pattern.written())?.member(name)?;
        let listed = self.by_host.contains_key(&target.host.to_ascii_lowercase()) || self.by_host.contains_key(name.as_str());
        (!listed).then(|| Arc::new(target))
    }

    /// Every listed target once, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.by_name.iter().filter(|(name, target)| **name == target.id).map(|(_, target)| target)
    }

    /// The patterns, as they are listed.
    pub fn families(&self) -> impl Iterator<Item = &Arc<Family>> {
        self.families.iter()
    }

    /// Every label that some target has.
    pub fn labels(&self) -> BTreeSet<&str> {
        let families = self.families.iter().flat_map(|family| &family.labels);
        self.iter().flat_map(|target| &target.labels).chain(families).map(String::as_str).collect()
    }
}

/// Reads a host name or an address.
///
/// A name that the resolver would read as a number (`127.1`, `0x7f000001`, `2130706433`) is none, so
/// that a loopback or link-local address is only ever allowed where it is written as such.
pub fn parse_host(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    (text.len() <= 253 && text.split('.').all(label) && !number).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::family::AddressTemplate;

    fn target(id: &str, host: &str, port: u16) -> Target {
        Target {
            id: id.parse().unwrap(),
            host: host.into(),
            port,
            aliases: [].into(),
            labels: [].into(),
            logins: vec!["deploy".parse().unwrap()],
            host_keys: vec![],
            host_cas: vec![],
            principal: PrincipalStyle::LoginAtTarget,
            entry: Entry::default(),
        }
    }

    fn family(pattern: &str, label: &str) -> Family {
        Family {
            pattern: pattern.parse().unwrap(),
            address: AddressTemplate::default(),
            labels: [label.to_owned()].into(),
            logins: vec!["deploy".parse().unwrap()],
            host_cas: vec![],
            principal: PrincipalStyle::LoginAtTarget,
            entry: Entry::default(),
        }
    }

    #[test]
    fn what_is_listed_beats_a_pattern_and_the_longer_pattern_the_shorter() {
        let mut aliased = target("www", "192.0.2.1", 22);
        aliased.aliases = ["web-9.staging".parse().unwrap()].into();
        let listed = vec![target("web-1.staging", "192.0.2.2", 22), aliased, target("db-1", "db-1.staging", 2222)];
        let all = Targets::new(listed, vec![family("*.staging", "any"), family("web-*.staging", "web")]).unwrap();
        let labels = |name: &str| all.find(name).map(|target| target.labels.iter().cloned().collect::<Vec<_>>().join(","));
        assert_eq!(labels("web-1.staging").unwrap(), "");
        assert_eq!(all.find("WEB-9.staging").unwrap().id.as_str(), "www");
        assert_eq!(labels("Web-2.Staging").unwrap(), "web");
        assert_eq!(labels("mail.staging").unwrap(), "any");
        assert_eq!(labels("mail.prod"), None);
        assert_eq!(labels("db-1.staging"), None, "a listed host keeps its labels under its address");
        assert_eq!(all.at("db-1.staging", 2222).unwrap().id.as_str(), "db-1");
        assert_eq!(all.at("mail.staging", 22).unwrap().host, "mail.staging");
        assert!(all.at("mail.staging", 2222).is_none());
        assert_eq!(all.iter().count(), 3);
    }

    #[test]
    fn a_pin_is_of_the_name_the_pattern_and_the_place() {
        let all = |families| Targets::new(vec![], families).unwrap();
        let pin = |all: &Targets, name: &str| all.find(name).unwrap().pin();
        let one = all(vec![family("*.staging", "a")]);
        assert_eq!(pin(&one, "a.staging"), pin(&all(vec![family("*.staging", "b")]), "a.staging"), "labels are policy's");
        assert_ne!(pin(&one, "a.staging"), pin(&one, "b.staging"));
        assert_ne!(pin(&one, "ab.staging"), pin(&all(vec![family("a*.staging", "a")]), "ab.staging"));
        let mut elsewhere = family("*.staging", "a");
        elsewhere.address.after = ".internal".into();
        assert_ne!(pin(&one, "a.staging"), pin(&all(vec![elsewhere]), "a.staging"));
    }

    #[test]
    fn an_address_is_a_name_only_where_one_target_has_it() {
        let all = Targets::new(vec![target("a", "192.0.2.1", 22), target("b", "192.0.2.1", 2222), target("c", "C.example", 2222)], vec![])
            .unwrap();
        assert_eq!(all.at("192.0.2.1", 22).unwrap().id.as_str(), "a");
        assert_eq!(all.at("192.0.2.1", 2222).unwrap().id.as_str(), "b");
        assert_eq!(all.at("c.EXAMPLE", 22).unwrap().id.as_str(), "c");
        assert!(all.at("c.example", 23).is_none() && all.at("192.0.2.1", 23).is_none());
    }
}
