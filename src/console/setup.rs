//! What a laptop needs, as two files to `Include` and to point at (`users.md` 11).
//!
//! `@cert-authority` lines are a power: whoever holds the host CA may answer for the names on them. They
//! name this person's targets and the site's own patterns, never a bare `*`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::execute::{Act, off_the_loop};
use super::grammar::SetupWhat;
use super::is_own;
use super::reply::{Refusal, Reply};
use crate::access::Target;
use crate::authority::{LaptopKeys, bare};
use crate::config::client::NamePattern;
use crate::config::{Config, Directory};

/// Names on one line; the rest go on the next.
const PER_LINE: usize = 100;

/// What is known of the site, for one person or for everybody.
#[derive(Debug)]
pub struct Laptop<'a> {
    pub config: &'a Config,
    /// `PERSON` where it is for everybody.
    pub person: &'a str,
    /// The site's, and those of targets.
    patterns: BTreeSet<NamePattern>,
    /// Names of targets that the patterns do not cover.
    names: Vec<String>,
    /// Who one is on them where nothing is said: the first of their logins. Through a jump ssh always says
    /// something, and would say the laptop's own account.
    users: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Laptop<'a> {
    /// With the targets of the kinds that `may` be asked for.
    pub fn new(directory: &'a Directory, person: &'a str, may: impl Fn(&Target) -> bool) -> Self {
        let kinds = || directory.kinds.iter().filter(|kind| may(&kind.like));
        let families = kinds().flat_map(|kind| &kind.families).map(|family| NamePattern::of_targets(&family.pattern));
        let patterns: BTreeSet<NamePattern> = directory.config.client.names.iter().cloned().chain(families).collect();
        let names: BTreeSet<String> = kinds().flat_map(|kind| &kind.targets).flat_map(|target| names_of(target)).collect();
        let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for target in kinds().flat_map(|kind| &kind.targets) {
            if let Some(login) = target.logins.first() {
                users.entry(login.to_string()).or_default().extend(names_of(target));
            }
        }
        let uncovered = |name: &String| !patterns.iter().any(|pattern| pattern.matches(name));
        let names = names.into_iter().filter(uncovered).collect();
        Self { config: &directory.config, person, patterns, names, users }
    }

    /// For `Include` at the top of `~/.ssh/config`. The bastion's own block comes first and says `ProxyJump
    /// none`: without it a later `Host *` with `ProxyJump bastion` starts ssh without end (measured).
    pub fn config(&self) -> String {
        let (host, port) = self.config.dialled();
        let (person, name) = (self.person, &self.config.host);
        let called: BTreeSet<&str> = ["bastion", name, &host].into();
        let called: Vec<&str> = std::iter::once("bastion").chain(called.into_iter().filter(|name| *name != "bastion")).collect();
        let called = called.join(" ");
        let mut text = format!(
            "# Countersign at {name}, for {person}: save as ~/.ssh/countersign.conf and put this line first in ~/.ssh/config:
# Include countersign.conf

Host {called}
    HostName {host}
    Port {port}
    User {person}
    ProxyJump none
    IdentitiesOnly yes
    # Where your key is not ~/.ssh/id_ed25519 (for one in an agent or on a token, its .pub):
    # IdentityFile ~/.ssh/id_ed25519
    ControlMaster auto
    ControlPath ~/.ssh/countersign-%C
    ControlPersist 10m
    UserKnownHostsFile ~/.ssh/countersign_known_hosts
    StrictHostKeyChecking yes
"
        );
        for line in self.lines(" ") {
            text.push_str(&format!(
                "
Host {line}
    ProxyJump bastion
    UserKnownHostsFile ~/.ssh/countersign_known_hosts
    StrictHostKeyChecking yes
"
            ));
        }
        for (login, names) in &self.users {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            for line in names.chunks(PER_LINE) {
                text.push_str(&format!("\nHost {}\n    User {login}\n", line.join(" ")));
            }
        }
        text
    }

    /// The bastion's key, and the CA that answers for what is behind it.
    pub fn known_hosts(&self, keys: &LaptopKeys) -> String {
        let (host, port) = self.config.dialled();
        let bastion = if port == 22 { host } else { format!("[{host}]:{port}") };
        let mut text = format!("# Countersign at {}: save as ~/.ssh/countersign_known_hosts\n", self.config.host);
        text.push_str(&format!("{bastion} {}\n", bare(&keys.host)));
        for line in self.lines(",") {
            for ca in &keys.host_cas {
                text.push_str(&format!("@cert-authority {line} {}\n", bare(ca)));
            }
        }
        text
    }

    /// Names and patterns, some on each line; a pattern with an exception has its own.
    fn lines(&self, between: &str) -> Vec<String> {
        let (guarded, plain): (Vec<&NamePattern>, Vec<&NamePattern>) = self.patterns.iter().partition(|name| name.is_guarded());
        let plain: Vec<&str> = plain.into_iter().map(NamePattern::as_str).chain(self.names.iter().map(String::as_str)).collect();
        let lines = plain.chunks(PER_LINE).map(|names| names.join(between));
        lines.chain(guarded.into_iter().map(|pattern| pattern.guarded(between))).collect()
    }
}

/// By which names a laptop may ask for a target: ids, aliases and host names. Addresses are other machines
/// elsewhere (10.0.0.5, localhost), and no laptop should take this bastion's word for those.
fn names_of(target: &Target) -> Vec<String> {
    let address = |name: &str| name.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost");
    target.names().into_iter().filter(|name| !address(name)).collect()
}

impl Act<'_> {
    /// One of the two files, with this person's own targets: it tells of no other.
    pub(super) async fn setup(&self, what: SetupWhat) -> Result<Reply, Refusal> {
        let (directory, who, now) = (self.directory.clone(), self.who.clone(), self.now);
        let made = off_the_loop(move || {
            let laptop = Laptop::new(&directory, who.person().as_str(), |target| is_own(&directory, &who, target, now));
            match what {
                SetupWhat::Config => Ok(laptop.config()),
                SetupWhat::KnownHosts => LaptopKeys::read(&directory.config.keys).map(|keys| laptop.known_hosts(&keys)),
            }
        });
        made.await.map_err(|error| self.down(&error))?.map(Reply::Setup).map_err(|error| self.down(&error))
    }
}
