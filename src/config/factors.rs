//! `keys/totp/PERSON`: the secrets of second factors, each a file that only its owner can read (FC12).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::modes;
use super::problem::{Findings, Problem};
use crate::access::factor::{Ask, Enrolled, Factors, Secret};
use crate::access::people::People;
use crate::id::Person;

/// The largest file that can be one.
const MAX_FILE: u64 = 4096;

/// Where the secrets are, below the directory.
pub fn dir(root: &Path) -> PathBuf {
    root.join("keys/totp")
}

/// When persons are asked, as `people.toml` says: each their own way, else all alike.
#[derive(Debug, Default)]
pub(super) struct Asks {
    pub all: Ask,
    pub of: BTreeMap<Person, Ask>,
}

/// Reads every secret. Nobody's is a warning: it may be a leaver's, and lets nobody in.
pub(super) fn read(root: &Path, people: &People, asks: &Asks, found: &Findings) -> Factors {
    let mut factors = BTreeMap::new();
    // Nobody has a second factor.
    let Ok(entries) = fs::read_dir(dir(root)) else { return Factors::default() };
    modes::check_writable(&dir(root)).into_iter().for_each(|problem| found.error(problem));
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        modes::check(&path).into_iter().for_each(|problem| found.error(problem));
        let person = name.parse::<Person>().ok().filter(|person| people.named(person).is_some());
        let Some(person) = person else {
            found.warning(Problem::whole(
                &path,
                "this is the second factor of nobody in people.toml",
                "remove it, or rename it to a person",
            ));
            continue;
        };
        match secret(&path) {
            Some(secret) => {
                let ask = asks.of.get(&person).copied().unwrap_or(asks.all);
                factors.insert(person, Enrolled { secret, ask });
            }
            None => {
                let fix = format!("make it anew: countersign totp enroll {person} --replace -c {}", root.display());
                found.error(Problem::whole(&path, "this is not a secret of a second factor", fix));
            }
        }
    }
    Factors(factors)
}

fn secret(path: &Path) -> Option<Secret> {
    fs::symlink_metadata(path).ok().filter(|metadata| metadata.is_file() && metadata.len() <= MAX_FILE)?;
    let text = Zeroizing::new(fs::read_to_string(path).ok()?);
    Secret::read(&text).ok()
}
