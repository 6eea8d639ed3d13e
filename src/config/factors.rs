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
    let unreadable = |error: &std::io::Error| {
        let fix = format!("give it to the account that serves: chown -R --reference={0} {0}/totp", root.join("keys").display());
        found.error(Problem::whole(&dir(root), format!("the second factors cannot be read: {error}"), fix));
    };
    let entries = match fs::read_dir(dir(root)) {
        Ok(entries) => entries,
        // Nobody has a second factor.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return none(asks, found, root),
        // Whoever has one must not be let in without it.
        Err(error) => {
            unreadable(&error);
            return Factors::default();
        }
    };
    modes::check_writable(&dir(root)).into_iter().for_each(|problem| found.error(problem));
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => {
                unreadable(&error);
                continue;
            }
        };
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
            None if fs::File::open(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied) => {
                unreadable(&std::io::ErrorKind::PermissionDenied.into());
            }
            None => {
                let fix = format!("make it anew: countersign totp enroll {person} --replace -c {}", root.display());
                found.error(Problem::whole(&path, "this is not a secret of a second factor", fix));
            }
        }
    }
    for (person, _) in asks.of.iter().filter(|(person, ask)| **ask == Ask::Always && !factors.contains_key(person)) {
        lacks(person, found, root);
    }
    Factors(factors)
}

fn none(asks: &Asks, found: &Findings, root: &Path) -> Factors {
    asks.of.iter().filter(|(_, ask)| **ask == Ask::Always).for_each(|(person, _)| lacks(person, found, root));
    Factors::default()
}

/// Who is asked at every login by name, and has nothing to be asked for, would come in with one factor.
fn lacks(person: &Person, found: &Findings, root: &Path) {
    let fix = format!("countersign totp enroll {person} -c {}, or remove second_factor from [people.{person}]", root.display());
    found.error(Problem::whole(&dir(root), format!("{person} has second_factor = \"always\" and no secret"), fix));
}

fn secret(path: &Path) -> Option<Secret> {
    fs::symlink_metadata(path).ok().filter(|metadata| metadata.is_file() && metadata.len() <= MAX_FILE)?;
    let text = Zeroizing::new(fs::read_to_string(path).ok()?);
    Secret::read(&text).ok()
}
