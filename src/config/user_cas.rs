//! `[user_cas.NAME]` of `policies/people.toml`: whose certificates name persons, and which no longer do.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use russh::keys::ssh_key::HashAlg;

use super::fields::{Fields, File};
use super::people::keys;
use crate::access::certificate::{RevokedCertificates, UserCa};

/// How long a certificate may be valid where the file says nothing.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Reads the CAs. `persons` says whose key a fingerprint is: a key that names one person cannot name all.
pub(super) fn read(file: File<'_>, fields: &mut Fields<'_>, revoked: &BTreeSet<String>, persons: &BTreeMap<String, String>) -> Vec<UserCa> {
    let mut cas: Vec<UserCa> = Vec::new();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (name, mut ca) in fields.tables("user_cas") {
        let longest = ca.duration("longest").unwrap_or(LONGEST);
        if ca.lacks("keys") {
            let fix = "add keys = [\"ssh-ed25519 …\"], the public half that the CA signs with";
            file.error(name.span().start, format!("the user CA {} has no key", name.get_ref()), fix);
        }
        let mut own = Vec::new();
        for (at, key) in keys(file, &mut ca, "keys") {
            let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
            if let Some(person) = persons.get(&fingerprint) {
                let fix = "a CA's key is for nothing else: remove it from one of them";
                file.error(at, format!("the key {fingerprint} is a CA's and {person}'s"), fix);
            } else if let Some(first) = seen.insert(fingerprint.clone(), (*name.get_ref()).to_owned()) {
                file.error(at, format!("the key {fingerprint} is already the CA {first}'s"), "remove it from one of them");
            } else {
                if revoked.contains(&fingerprint) {
                    let fix = "remove the key; keep it under [revoked]";
                    file.warning(at, format!("the CA {} lists {fingerprint}, which is revoked", name.get_ref()), fix);
                }
                own.push(key);
            }
        }
        ca.finish();
        cas.push(UserCa { name: (*name.get_ref()).to_owned(), keys: own, longest });
    }
    cas
}

/// `[revoked]`'s `key_ids` and `serials`: by the CA's name, one by one or in ranges.
pub(super) fn revoked(file: File<'_>, table: &mut Fields<'_>) -> RevokedCertificates {
    let key_ids = table.strings("key_ids").into_iter().map(|id| (*id.get_ref()).to_owned()).collect();
    let mut serials: BTreeMap<String, Vec<RangeInclusive<u64>>> = BTreeMap::new();
    for (ca, listed) in table.lists("serials") {
        let ranges = serials.entry((*ca.get_ref()).to_owned()).or_default();
        for text in listed {
            match range(text.get_ref()) {
                Some(range) => ranges.push(range),
                None => {
                    let what = format!("{:?} is not a serial", text.get_ref());
                    file.error(text.span().start, what, "write \"7\" or \"100-199\"");
                }
            }
        }
    }
    RevokedCertificates { serials, key_ids }
}

fn range(text: &str) -> Option<RangeInclusive<u64>> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}
