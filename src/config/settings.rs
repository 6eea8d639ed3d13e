//! `countersign.toml`: where the bastion listens, what it is called, where things are kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::fields::{Fields, File};
use super::{Config, ConsoleSettings, Limits, RecordingSettings, client, keys, notifiers};
use crate::access::target::parse_host;
use crate::id::Person;
use crate::recording::{Durability, Protection, RecoveredBy};
use crate::transcript::envelope::Recipient;

impl Default for ConsoleSettings {
    fn default() -> Self {
        Self { tell_watched: true }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            login_grace: Duration::from_secs(30),
            login_tries: 6,
            unauthenticated: 256,
            unauthenticated_per_source: 16,
            early_drop_from: 64,
            second_factor_grace: Duration::from_secs(60),
            shared_sources: Vec::new(),
            shared_unauthenticated: 64,
            connections_per_person: 128,
            channels_per_connection: 64,
            held_per_connection: 10,
            pending_per_person: 32,
            pending: 200,
            drain: Duration::ZERO,
        }
    }
}

pub(super) fn read(file: File<'_>, root: &Path) -> Option<Config> {
    file.parse(|file, mut fields| {
        let bastion = bastion(file, &mut fields);
        let host = fields.string("host");
        let host = fields.required("host", host, "\"bastion.example.org\"").and_then(|text| {
            let host = parse_host(text.get_ref());
            if host.is_none() {
                file.error(
                    text.span().start,
                    format!("{:?} is not a host's name", text.get_ref()),
                    "write the name that people use after @",
                );
            }
            host
        });
        let listen = listen(file, &mut fields);
        let state = path(file, &mut fields, "state", "state", root);
        let egress = fields.word("egress").map(Spanned::into_inner);
        let recordings = recordings(file, &mut fields, root);
        let console = fields.table("console").map_or_else(ConsoleSettings::default, console);
        let metrics = fields.table("metrics").and_then(|table| metrics(file, table));
        let limits = fields.table("limits").map_or_else(Limits::default, limits);
        let keys = keys::read(file, &mut fields, root);
        let client = client::read(file, &mut fields);
        let notifiers = notifiers::read(file, &mut fields, root);
        fields.finish();
        Some(Config {
            bastion: bastion?,
            host: host?,
            listen,
            state,
            recordings: recordings?,
            egress,
            metrics,
            console,
            limits,
            keys,
            client,
            notifiers,
        })
    })
}

fn bastion(file: File<'_>, fields: &mut Fields<'_>) -> Option<String> {
    let text = fields.string("bastion");
    let text = fields.required("bastion", text, "\"…\", as countersign init makes it")?;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    if text.get_ref().is_empty() || text.get_ref().len() > 64 || !text.get_ref().chars().all(good) {
        let fix = "use a-z 0-9 . _ - and never change it: signed documents name it";
        file.error(text.span().start, format!("{:?} is not a bastion's id", text.get_ref()), fix);
        return None;
    }
    Some((*text.get_ref()).to_owned())
}

fn listen(file: File<'_>, fields: &mut Fields<'_>) -> Vec<SocketAddr> {
    if !fields.has("listen") {
        return vec![SocketAddr::from(([0, 0, 0, 0], 2222))];
    }
    let listen: Vec<SocketAddr> = fields.words("listen").into_iter().map(Spanned::into_inner).collect();
    if fields.lacks("listen") {
        file.error(fields.place("listen"), "the bastion listens nowhere", "write listen = [\"0.0.0.0:2222\", \"[::]:2222\"]");
    }
    listen
}

/// Free space that new sessions leave alone, where the file says nothing.
const FREE_FLOOR: u64 = 64 << 20;

/// Who can read recordings has to be said: auditors by their keys, or `mode = "plain"` by name (FC12).
fn recordings(file: File<'_>, fields: &mut Fields<'_>, root: &Path) -> Option<RecordingSettings> {
    let nobody = "name who reads them: [recordings.auditors] carol = \"ssh-ed25519 …\" (or age1…)";
    let Some(mut table) = fields.table("recordings") else {
        if !fields.has("recordings") {
            file.error(0, "nobody could read the recordings", nobody);
        }
        return None;
    };
    let named = table.has("mode");
    let mode = table.choice("mode", &[("sealed", false), ("plain", true)]);
    if named && mode.is_none() {
        return None;
    }
    let plain = mode.unwrap_or(false);
    let dir = path(file, &mut table, "dir", "recordings", root);
    let durability = table.choice("durability", &[("second", Durability::Second), ("strict", Durability::Strict)]).unwrap_or_default();
    let free_floor = table.count("free_floor_mb", 0..=1_000_000).map_or(FREE_FLOOR, |mb| mb as u64 * (1 << 20));
    let reserve = table.count("reserve_mb", 1..=1_000_000).map(|mb| mb as u64 * (1 << 20));
    let recovery_at = table.place("recovery");
    let recovered_by = table.choice("recovery", &[("node", RecoveredBy::Node), ("auditors", RecoveredBy::Auditors)]).unwrap_or_default();
    if plain && recovered_by == RecoveredBy::Auditors {
        let what = "recovery = \"auditors\" stands beside mode = \"plain\"";
        file.error(recovery_at, what, "remove recovery: what is not encrypted needs nobody's key");
    }
    let single = table.boolean("single_recipient").unwrap_or(false);
    let mut key_files: Vec<PathBuf> = table.strings("key_files").iter().map(|dir| root.join(dir.get_ref())).collect();
    if table.has("key_files") && table.lacks("key_files") {
        file.error(table.place("key_files"), "key files would go nowhere", "write key_files = [\"key-files\"], or remove the line");
    }
    if key_files.is_empty() {
        key_files.push(root.join("key-files"));
    }
    if let Some(inside) = key_files.iter().find(|keys| keys.starts_with(&dir) || dir.starts_with(keys)) {
        let what = format!("key files in {} would be copied with the recordings they open", inside.display());
        file.error(table.place("key_files"), what, "keep them in a directory of their own: key_files = [\"key-files\"]");
    }
    let at = table.place("auditors");
    let auditors = auditors(file, &mut table);
    table.finish();
    let auditors = auditors?;
    let protection = match (plain, auditors.len()) {
        (true, 0) => Protection::Plain,
        (true, _) => {
            file.error(at, "auditors are named and mode is \"plain\"", "remove mode, so that recordings are encrypted to them");
            return None;
        }
        (false, 0) => {
            file.error(at, "nobody could read the recordings", nobody);
            return None;
        }
        (false, count) => {
            if count == 1 && !single {
                let fix = "add a second, or an offline one (age-keygen), or set single_recipient = true";
                file.warning(at, "recordings: one recipient; if that key is lost every recording is lost", fix);
            }
            Protection::Sealed { auditors: auditors.values().cloned().collect(), key_files, recovered_by }
        }
    };
    Some(RecordingSettings { dir, durability, free_floor, reserve, protection, auditors })
}

/// `[recordings.auditors]`: a name and a key each. What age cannot encrypt to is refused here.
fn auditors(file: File<'_>, table: &mut Fields<'_>) -> Option<BTreeMap<Person, Recipient>> {
    let mut auditors = BTreeMap::new();
    let mut good = true;
    for (name, key) in table.texts("auditors") {
        let at = key.span().start;
        match (name.get_ref().parse::<Person>(), key.get_ref().parse::<Recipient>()) {
            (Ok(name), Ok(key)) => {
                if auditors.values().any(|other| *other == key) {
                    file.error(at, format!("this key is named twice in {name}"), "an auditor has a key of their own");
                }
                auditors.insert(name, key);
            }
            (Err(why), _) => {
                good = false;
                file.error(name.span().start, why, "write carol = \"age1…\"");
            }
            (_, Err(why)) => {
                good = false;
                file.error(at, format!("nothing can be encrypted to the key of {}", name.get_ref()), why);
            }
        }
    }
    good.then_some(auditors)
}

/// A path, relative to the directory unless absolute.
fn path(file: File<'_>, fields: &mut Fields<'_>, key: &'static str, default: &str, root: &Path) -> PathBuf {
    let Some(text) = fields.string(key) else { return root.join(default) };
    if text.get_ref().is_empty() || text.get_ref().contains('\0') {
        file.error(text.span().start, format!("{key} is not a path"), format!("write {key} = {default:?}"));
    }
    root.join(text.get_ref())
}

fn console(mut fields: Fields<'_>) -> ConsoleSettings {
    let tell_watched = fields.boolean("tell_watched").unwrap_or(ConsoleSettings::default().tell_watched);
    fields.finish();
    ConsoleSettings { tell_watched }
}

/// `[metrics]`: anybody who reaches it reads it, so only this machine does.
fn metrics(file: File<'_>, mut fields: Fields<'_>) -> Option<SocketAddr> {
    let listen = fields.word::<SocketAddr>("listen");
    let listen = fields.required("listen", listen, "\"127.0.0.1:9464\"");
    fields.finish();
    let listen = listen?;
    if !listen.get_ref().ip().is_loopback() {
        let what = format!("metrics on {} could be read from elsewhere", listen.get_ref().ip());
        file.error(listen.span().start, what, "write listen = \"127.0.0.1:9464\", and let the monitor's agent on this machine read it");
        return None;
    }
    Some(listen.into_inner())
}

fn limits(mut fields: Fields<'_>) -> Limits {
    let default = Limits::default();
    let mut count = |key, default| fields.count(key, 1..=100_000).unwrap_or(default);
    let unauthenticated = count("unauthenticated", default.unauthenticated);
    let limits = Limits {
        login_tries: count("login_tries", default.login_tries),
        unauthenticated,
        early_drop_from: count("early_drop_from", unauthenticated / 4),
        shared_unauthenticated: count("shared_unauthenticated", default.shared_unauthenticated),
        unauthenticated_per_source: count("unauthenticated_per_source", default.unauthenticated_per_source),
        connections_per_person: count("connections_per_person", default.connections_per_person),
        channels_per_connection: count("channels_per_connection", default.channels_per_connection),
        held_per_connection: count("held_per_connection", default.held_per_connection),
        pending_per_person: count("pending_per_person", default.pending_per_person),
        pending: count("pending", default.pending),
        login_grace: fields
            .duration_within("login_grace", Duration::from_secs(1)..=Duration::from_secs(600))
            .unwrap_or(default.login_grace),
        shared_sources: fields.words("shared_sources").into_iter().map(Spanned::into_inner).collect(),
        second_factor_grace: fields
            .duration_within("second_factor_grace", Duration::from_secs(1)..=Duration::from_secs(600))
            .unwrap_or(default.second_factor_grace),
        drain: fields.duration_within("drain", Duration::from_secs(1)..=Duration::from_secs(86_400)).unwrap_or(default.drain),
    };
    fields.finish();
    limits
}
