//! `policies/people.toml`: who there is, and the keys and CAs that name them.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use russh::keys::ssh_key::{Fingerprint, HashAlg, PublicKey};
use toml::Spanned;

use super::factors::Asks;
use super::fields::{Fields, File};
use super::key::parse_public_key;
use super::user_cas;
use crate::access::certificate::RevokedCertificates;
use crate::access::factor::Ask;
use crate::access::hours::Hours;
use crate::access::people::{People, PersonEntry};
use crate::id::{Group, Person};

const MAX_ACCOUNT: usize = 128;
const ASK: [(&str, Ask); 2] = [("when-needed", Ask::WhenNeeded), ("always", Ask::Always)];

/// Reads the persons, and when those with a second factor are asked for it.
pub(super) fn read(file: File<'_>) -> (People, Asks) {
    file.parse(|file, mut fields| {
        let (revoked, revoked_certificates) = revoked(file, &mut fields);
        let mut asks = Asks { all: fields.choice("second_factor", &ASK).unwrap_or_default(), ..Asks::default() };
        let mut by_fingerprint = BTreeMap::new();
        let mut entries = Vec::new();
        let (mut hours, mut suspended) = (BTreeMap::new(), BTreeSet::new());
        for (name, mut person) in fields.tables("people") {
            let groups: Vec<Group> = person.words("groups").into_iter().map(Spanned::into_inner).collect();
            let accounts = accounts(file, &mut person);
            let listed = keys(file, &mut person, "keys");
            let ask = person.choice("second_factor", &ASK);
            let at = person.word::<Hours>("hours").map(Spanned::into_inner);
            let is_suspended = person.boolean("suspended").unwrap_or(false);
            if listed.is_empty() && !person.has("keys") && !fields.has("user_cas") {
                file.warning(
                    name.span().start,
                    format!("{} has no key and cannot log in", name.get_ref()),
                    "add keys = [\"ssh-ed25519 …\"]",
                );
            }
            if person.has("keys") && person.lacks("keys") {
                let fix = "add a public key, or remove the line until there is one";
                file.error(person.place("keys"), format!("the list of {}'s keys is empty", name.get_ref()), fix);
            }
            let mut keys = Vec::new();
            for (at, key) in listed {
                let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
                if revoked.contains(&fingerprint) {
                    file.warning(
                        at,
                        format!("{} lists {fingerprint}, which is revoked", name.get_ref()),
                        "remove the key; keep it under [revoked]",
                    );
                }
                match by_fingerprint.insert(fingerprint.clone(), name.get_ref().to_string()) {
                    None => keys.push(key),
                    Some(first) => {
                        let fix = "a key names one person: remove it from one of them";
                        file.error(at, format!("the key {fingerprint} is already listed under {first}"), fix);
                    }
                }
            }
            person.finish();
            match name.get_ref().parse::<Person>() {
                Ok(_) if name.get_ref().starts_with("req-") => {
                    file.error(
                        name.span().start,
                        format!("{:?} is reserved: ssh req-ID@bastion opens a request", name.get_ref()),
                        "choose another name",
                    );
                }
                Ok(name) => {
                    asks.of.extend(ask.map(|ask| (name.clone(), ask)));
                    hours.extend(at.map(|at| (name.clone(), at)));
                    suspended.extend(is_suspended.then(|| name.clone()));
                    entries.push(PersonEntry { name, groups, keys, accounts });
                }
                Err(why) => file.error(name.span().start, why, "write [people.alice]"),
            }
        }
        let user_cas = user_cas::read(file, &mut fields, &revoked, &by_fingerprint);
        if let Some(unknown) = revoked_certificates.serials.keys().find(|name| user_cas.iter().all(|ca| ca.name != **name)) {
            let fix = "write the NAME of a [user_cas.NAME]";
            file.error(fields.place("revoked"), format!("serials of {unknown:?} are revoked, and there is no such CA"), fix);
        }
        fields.finish();
        if entries.is_empty() {
            let fix = "add [people.NAME] with groups and keys";
            file.warning(0, "there is nobody yet: no one can log in", fix);
        }
        let revoked: Vec<String> = revoked.into_iter().collect();
        let people = People::new(entries, &revoked).unwrap_or_else(|shared| {
            file.error(0, shared, "a key names one person");
            People::default()
        });
        (people.trusting(user_cas, revoked_certificates).with_hours(hours).with_suspended_in_files(suspended), asks)
    })
}

/// Public keys of a list, with their places.
pub(super) fn keys(file: File<'_>, fields: &mut Fields<'_>, key: &'static str) -> Vec<(usize, PublicKey)> {
    let mut keys = Vec::new();
    for text in fields.strings(key) {
        match parse_public_key(text.get_ref()) {
            Ok(key) => keys.push((text.span().start, key)),
            Err(bad) => file.error(text.span().start, &bad, bad.fix()),
        }
    }
    keys
}

fn revoked(file: File<'_>, fields: &mut Fields<'_>) -> (BTreeSet<String>, RevokedCertificates) {
    let Some(mut table) = fields.table("revoked") else { return Default::default() };
    let mut revoked = BTreeSet::new();
    for text in table.strings("keys") {
        match Fingerprint::from_str(text.get_ref()) {
            Ok(fingerprint) if fingerprint.is_sha256() => {
                revoked.insert(fingerprint.to_string());
            }
            _ => {
                let fix = "write SHA256:… as ssh-keygen -l prints it";
                file.error(text.span().start, format!("{:?} is not a key's fingerprint", text.get_ref()), fix);
            }
        }
    }
    let certificates = user_cas::revoked(file, &mut table);
    table.finish();
    (revoked, certificates)
}

fn accounts(file: File<'_>, person: &mut Fields<'_>) -> Vec<String> {
    let mut accounts = Vec::new();
    for text in person.strings("accounts") {
        if text.get_ref().is_empty() || text.get_ref().len() > MAX_ACCOUNT || text.get_ref().contains(char::is_control) {
            let fix = format!("write 1 to {MAX_ACCOUNT} bytes without control characters");
            file.error(text.span().start, format!("{:?} is not the name of an account", text.get_ref()), fix);
        } else {
            accounts.push((*text.get_ref()).to_owned());
        }
    }
    accounts
}
