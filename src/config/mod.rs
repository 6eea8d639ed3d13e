//! The directory of an installation, read whole or not at all.
//!
//! Every mistake is reported, at once and at its place. What is not known is an error (FC11), a file that
//! others may write or a key that others may read is one too (FC12). Nothing behind this module checks
//! any of it again.

mod approvals;
pub mod asked;
pub mod cases;
pub mod client;
pub mod factors;
mod families;
mod fields;
mod files;
mod glass;
pub mod key;
mod keys;
pub mod modes;
mod notifiers;
mod people;
mod presets;
mod problem;
mod reach;
mod references;
mod retention;
pub mod schema;
mod settings;
mod stages;
mod targets;
mod user_cas;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::client::ClientSettings;
use self::fields::File;
use self::files::Files;
use self::problem::Findings;
use crate::access::factor::Factors;
use crate::access::kinds::{Kind, kinds};
use crate::access::people::People;
use crate::access::policy::{PolicyProblem, PolicySet, Vocabulary};
use crate::access::preset::Presets;
use crate::access::source::Network;
use crate::access::target::{Targets, parse_host};
use crate::access::workflow::Workflows;
use crate::authority::KeyPlan;
use crate::id::{Digest, Person};
use crate::notify::Notifiers;
use crate::recording::{Durability, Protection};
use crate::retention::schedule::Schedules;
use crate::transcript::envelope::Recipient;

pub use self::files::MORE_TARGETS;
pub use self::problem::Problem;
pub use self::targets::{host_keys_span, parse_address};

/// Everything that `countersign.toml` and `policies/` say, checked against each other.
#[derive(Debug, Clone)]
pub struct Directory {
    pub root: PathBuf,
    pub config: Config,
    pub people: People,
    /// Second factors; their secrets are in `keys/totp`.
    pub factors: Factors,
    pub targets: Targets,
    /// The targets in heaps that policy cannot tell apart.
    pub kinds: Vec<Kind>,
    pub policy: PolicySet,
    pub workflows: Workflows,
    pub presets: Presets,
    pub schedules: Schedules,
    /// Over names and bytes of every file of `policies/`: what a request calls its policy.
    pub digest: Digest,
    /// Those files' texts, so that a digest can be shown as what it stands for.
    pub texts: BTreeMap<String, String>,
    pub warnings: Vec<Problem>,
}

/// `countersign.toml`. Relative paths have been joined to the directory.
#[derive(Debug, Clone)]
pub struct Config {
    /// The bastion's id in every signed document; made by `init`, never changed.
    pub bastion: String,
    /// The name people use after `@` and in `ssh_config`; for texts only.
    pub host: String,
    pub listen: Vec<SocketAddr>,
    /// The directory of the database.
    pub state: PathBuf,
    pub recordings: RecordingSettings,
    /// Address that targets see, where it is not the socket's own.
    pub egress: Option<IpAddr>,
    pub console: ConsoleSettings,
    /// Where monitors read, on loopback.
    pub metrics: Option<SocketAddr>,
    pub limits: Limits,
    pub keys: KeyPlan,
    pub client: ClientSettings,
    /// Chats and programs that take notices to people.
    pub notifiers: Notifiers,
}

impl Config {
    /// Where laptops dial: host and port.
    pub fn dialled(&self) -> (String, u16) {
        let port = self.listen.first().map(SocketAddr::port).filter(|port| *port != 0).unwrap_or(22);
        self.client.address.clone().unwrap_or_else(|| (self.host.clone(), port))
    }
}

/// `[console]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsoleSettings {
    /// Whoever is watched reads by whom, in their terminal.
    pub tell_watched: bool,
}

/// `[recordings]`.
#[derive(Debug, Clone)]
pub struct RecordingSettings {
    pub dir: PathBuf,
    pub durability: Durability,
    /// Free bytes below which no new session begins (FC4).
    pub free_floor: u64,
    /// Below the floor, for workflows that rescue; where the file says so.
    pub reserve: Option<u64>,
    pub protection: Protection,
    /// The auditors by name, with the keys that `protection` encrypts to.
    pub auditors: BTreeMap<Person, Recipient>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// 30 s
    pub login_grace: Duration,
    /// 6
    pub login_tries: usize,
    /// 256
    pub unauthenticated: usize,
    /// 16 per source (/32, /64)
    pub unauthenticated_per_source: usize,
    /// Early drops begin here, by lot: a quarter of `unauthenticated`
    pub early_drop_from: usize,
    /// 60 s, while a second factor is outstanding
    pub second_factor_grace: Duration,
    /// Addresses that many people share: a cap of their own, no penalties (`users.md` 19)
    pub shared_sources: Vec<Network>,
    /// 64 per shared source
    pub shared_unauthenticated: usize,
    /// 128
    pub connections_per_person: usize,
    /// 64
    pub channels_per_connection: usize,
    /// 10
    pub held_per_connection: usize,
    /// 32
    pub pending_per_person: usize,
    /// 200
    pub pending: usize,
    /// 0: how long what runs may go on after SIGTERM
    pub drain: Duration,
}

/// What reading a directory came to.
#[derive(Debug)]
pub struct Inspection {
    /// Sorted by file and place; not empty if there is no directory.
    pub errors: Vec<Problem>,
    pub warnings: Vec<Problem>,
    pub directory: Option<Directory>,
}

/// Whether this is a host's name or address, as `host` and `address` take it.
pub fn is_host(text: &str) -> bool {
    parse_host(text).is_some()
}

impl Directory {
    /// Reads the directory; every problem at once.
    pub fn load(root: &Path) -> Result<Self, Vec<Problem>> {
        let inspection = Self::inspect(root);
        inspection.directory.ok_or(inspection.errors)
    }

    /// Reads the directory for the pen, which sees no secret of a notifier and tells nobody anything.
    pub fn load_without_secrets(root: &Path) -> Result<Self, Vec<Problem>> {
        let found = Findings::without_secrets();
        let read = read(root, None, &found);
        let (errors, _) = found.into_sorted();
        read.filter(|_| errors.is_empty()).ok_or(errors)
    }

    /// Reads the directory for somebody who also wants the warnings of one that does not load.
    pub fn inspect(root: &Path) -> Inspection {
        Self::inspect_with(root, None)
    }

    /// Reads the directory as it would be with another text in one file of `policies/`.
    pub fn inspect_with(root: &Path, instead: Option<(&str, &str)>) -> Inspection {
        let found = Findings::default();
        let read = read(root, instead, &found);
        let (errors, warnings) = found.into_sorted();
        let directory = read.filter(|_| errors.is_empty()).map(|read| Self { warnings: warnings.clone(), ..read });
        Inspection { errors, warnings, directory }
    }

    /// The same with those whom the state suspends.
    pub fn with_suspended(&self, suspended: std::collections::BTreeSet<Person>) -> Self {
        Self { people: self.people.clone().with_suspended(suspended), ..self.clone() }
    }

    /// Bytes of the recordings' disk that are kept for rescue: none where no workflow rescues.
    pub fn reserve(&self) -> u64 {
        let rescued = self.workflows.values().any(|workflow| workflow.rescue);
        if rescued { self.config.recordings.reserve.unwrap_or(RESERVE) } else { 0 }
    }
}

/// Kept for rescue where the file does not say how much.
const RESERVE: u64 = 256 << 20;

fn read(root: &Path, instead: Option<(&str, &str)>, found: &Findings) -> Option<Directory> {
    if !root.is_dir() {
        found.error(Problem::whole(root, "there is no such directory", format!("countersign init {} makes one", root.display())));
        return None;
    }
    let files = Files::read(root, instead, found);
    modes::check_keys(&root.join("keys")).into_iter().for_each(|problem| found.error(problem));
    let [people, targets, access, approvals, retention] =
        files::POLICIES.map(|name| files.policies.get(name).map(|source| File { source, found }));
    let (people_file, targets_file, access_file, approvals_file) = (people?, targets?, access?, approvals?);

    let config = files.settings.as_ref().and_then(|source| settings::read(File { source, found }, root));
    let (people, asks) = people::read(people_file);
    let factors = factors::read(root, &people, &asks, found);
    let secrets = factors.0.iter().map(|(person, enrolled)| (person.clone(), enrolled.secret.digest()));
    let people = people.with_factors(secrets.collect());
    let more = files.more_targets.iter().map(|source| File { source, found });
    let targets_files: Vec<File<'_>> = std::iter::once(targets_file).chain(more).collect();
    let targets = targets::read(&targets_files, &root.join("policies"), &people);
    let (workflows, presets) = approvals::read(approvals_file, &people);
    if let (Some(source), Some(config)) = (&files.settings, &config) {
        notifiers::mentioned(approvals_file, File { source, found }, &workflows, &config.notifiers);
    }
    let schedules = retention::read(retention?, &targets.labels());
    glass::mentioned(approvals_file, &workflows, &schedules);
    let vocabulary = Vocabulary {
        workflows: workflows.iter().map(|placed| placed.workflow.name.clone()).collect(),
        schedules: schedules.by_name.keys().cloned().collect(),
    };
    let policy = match PolicySet::parse(&access_file.source.text, &vocabulary) {
        Ok(policy) => policy,
        Err(problems) => {
            problems.iter().for_each(|PolicyProblem { offset, what, fix }| access_file.error(*offset, what, fix));
            return None;
        }
    };
    policy.warnings().iter().for_each(|PolicyProblem { offset, what, fix }| access_file.warning(*offset, what, fix));
    let kinds = kinds(&policy, &targets);
    references::mentioned(access_file, &policy, &people, &targets);
    references::nobody_left(approvals_file, &workflows, &policy, &people, &kinds);
    references::may_approve(approvals_file, &workflows, &policy, &people, &kinds);
    reach::always_somebody(approvals_file, &workflows, &people);
    let workflows = workflows.into_iter().map(|placed| (placed.workflow.name.clone(), placed.workflow)).collect();
    let (root, digest, texts) = (root.to_owned(), files.digest, files.texts);
    Some(Directory {
        root,
        config: config?,
        people,
        factors,
        targets,
        kinds,
        policy,
        workflows,
        presets,
        schedules,
        digest,
        texts,
        warnings: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
