//! `countersign.toml`: where the bastion listens, what it is called, where things are kept.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::fields::{Fields, File};
use super::targets::parse_host;
use super::{Config, Limits};

impl Default for Limits {
    fn default() -> Self {
        Self {
            login_grace: Duration::from_secs(30),
            login_tries: 6,
            unauthenticated: 256,
            unauthenticated_per_source: 16,
            channels_per_connection: 64,
            held_per_connection: 10,
            pending_per_person: 32,
            pending: 200,
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
        let state = path(file, &mut fields, "state", root);
        let egress = fields.word("egress").map(Spanned::into_inner);
        let recordings = recordings(file, &mut fields, root);
        let limits = fields.table("limits").map_or_else(Limits::default, limits);
        fields.finish();
        let (plain_recordings, recordings) = recordings?;
        Some(Config { bastion: bastion?, host: host?, listen, state, recordings, plain_recordings, egress, limits })
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

/// Encryption to auditors' keys comes later: until then a bastion says by name that it writes plain text.
fn recordings(file: File<'_>, fields: &mut Fields<'_>, root: &Path) -> Option<(bool, PathBuf)> {
    let Some(mut table) = fields.table("recordings") else {
        if !fields.has("recordings") {
            let fix = "this version cannot encrypt them: accept that with [recordings] mode = \"plain\"";
            file.error(0, "nothing says how recordings are protected", fix);
        }
        return None;
    };
    let mode = table.choice("mode", &[("plain", true)]);
    let mode = table.required("mode", mode, "\"plain\": this version cannot encrypt recordings");
    let dir = path(file, &mut table, "dir", root);
    table.finish();
    Some((mode?, dir))
}

/// A path, relative to the directory unless absolute.
fn path(file: File<'_>, fields: &mut Fields<'_>, key: &'static str, root: &Path) -> PathBuf {
    let default = if key == "dir" { "recordings" } else { key };
    let Some(text) = fields.string(key) else { return root.join(default) };
    if text.get_ref().is_empty() || text.get_ref().contains('\0') {
        file.error(text.span().start, format!("{key} is not a path"), format!("write {key} = {default:?}"));
    }
    root.join(text.get_ref())
}

fn limits(mut fields: Fields<'_>) -> Limits {
    let default = Limits::default();
    let mut count = |key, default| fields.count(key, 1..=100_000).unwrap_or(default);
    let limits = Limits {
        login_tries: count("login_tries", default.login_tries),
        unauthenticated: count("unauthenticated", default.unauthenticated),
        unauthenticated_per_source: count("unauthenticated_per_source", default.unauthenticated_per_source),
        channels_per_connection: count("channels_per_connection", default.channels_per_connection),
        held_per_connection: count("held_per_connection", default.held_per_connection),
        pending_per_person: count("pending_per_person", default.pending_per_person),
        pending: count("pending", default.pending),
        login_grace: fields.duration("login_grace").unwrap_or(default.login_grace),
    };
    fields.finish();
    limits
}
