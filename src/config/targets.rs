//! `policies/targets.toml` and `policies/targets.d/*.toml`: the hosts behind the bastion, and by what they are recognised.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use russh::keys::ssh_key::{HashAlg, PublicKey};
use toml::Spanned;
use toml::de::DeTable;

use super::families;
use super::fields::{Fields, File};
use super::people::keys;
use crate::access::family::Family;
use crate::access::people::People;
use crate::access::target::{Entry, PrincipalStyle, Target, Targets, parse_host};
use crate::id::{Login, TargetId};

const MAX_LABEL: usize = 128;

/// Most patterns; each new one is compared with all others.
const MAX_FAMILIES: usize = 1000;

/// Reads `targets.toml` and what lies beside it in `targets.d/`; a name is one target's in all of them.
pub(super) fn read(files: &[File<'_>], below: &Path, people: &People) -> Targets {
    let mut names = Names { people, taken: BTreeMap::new() };
    let (mut targets, mut families) = (Vec::new(), Vec::<Family>::new());
    for file in files {
        let relative: Arc<str> = file.source.path.strip_prefix(below).unwrap_or(&file.source.path).to_string_lossy().into();
        file.parse(|file, mut fields| {
            for (name, table) in fields.tables("targets") {
                let entry = Entry { file: relative.clone(), line: 0, family: None, revoked: people.revoked().clone() };
                if name.get_ref().contains('*') {
                    families.extend(
                        families::read(file, &name, table, entry, people).filter(|new| families::fits(file, &name, new, &families)),
                    );
                } else if let Some((target, aliases)) = target(file, &name, table, entry) {
                    targets.extend(names.take(file, name.span().start, target, aliases));
                }
            }
            fields.finish();
        });
    }
    if families.len() > MAX_FAMILIES
        && let Some(file) = files.first()
    {
        file.error(0, format!("there are {} patterns, at most {MAX_FAMILIES} fit", families.len()), "use wider ones");
    }
    Targets::new(targets, families).unwrap_or_else(|shared| {
        files.iter().take(1).for_each(|file| file.error(0, &shared, "a name is one target's"));
        Targets::default()
    })
}

/// The names that are taken, by whom and where.
struct Names<'a> {
    people: &'a People,
    taken: BTreeMap<TargetId, (TargetId, Entry)>,
}

impl Names<'_> {
    /// Takes a target's names for it; one whose own name means something else already is left out.
    fn take(&mut self, file: File<'_>, at: usize, mut target: Target, aliases: Vec<Spanned<TargetId>>) -> Option<Target> {
        let good = self.is_free(file, at, &target.id, &target);
        for alias in aliases {
            if self.is_free(file, alias.span().start, alias.get_ref(), &target) {
                target.aliases.insert(alias.into_inner());
            }
        }
        good.then_some(target)
    }

    fn is_free(&mut self, file: File<'_>, at: usize, name: &TargetId, of: &Target) -> bool {
        if is_person(self.people, name) {
            let fix = "rename one: a bare user name is either the console or a target";
            file.error(at, format!("{name} is a target's name and a person's"), fix);
            return false;
        }
        if name.as_str().starts_with("req-") {
            file.error(at, format!("{:?} is reserved: ssh req-ID@bastion opens a request", name.as_str()), "choose another name");
            return false;
        }
        if let Some((first, entry)) = self.taken.get(name) {
            let place = if entry.file == of.entry.file { String::new() } else { format!(" ({entry})") };
            let fix = "a name is one target's: remove it from one of them";
            file.error(at, format!("{name} is already a name of {first}{place}"), fix);
            return false;
        }
        self.taken.insert(name.clone(), (of.id.clone(), of.entry.clone()));
        true
    }
}

fn is_person(people: &People, name: &TargetId) -> bool {
    name.as_str().parse().is_ok_and(|name| people.named(&name).is_some())
}

fn target(file: File<'_>, name: &Spanned<&str>, mut fields: Fields<'_>, mut entry: Entry) -> Option<(Target, Vec<Spanned<TargetId>>)> {
    let at = name.span().start;
    let id = match name.get_ref().parse::<TargetId>() {
        Ok(id) => Some(id),
        Err(why) => {
            file.error(at, why, "write [targets.web-1]");
            None
        }
    };
    let address = fields.string("address");
    let address = fields.required("address", address, "\"10.0.0.5:22\"").and_then(|text| match parse_address(text.get_ref()) {
        Ok(address) => Some(address),
        Err(why) => {
            file.error(text.span().start, why, "write host, host:port, 10.0.0.5:22 or [2001:db8::5]:22");
            None
        }
    });
    let aliases = fields.words("aliases");
    let labels = labels(file, &mut fields);
    let logins = logins(file, name, &mut fields);
    let bare = |keys: Vec<(usize, PublicKey)>| keys.into_iter().map(|(_, key)| key).collect::<Vec<_>>();
    let host_keys = bare(keys(file, &mut fields, "host_keys"));
    let host_cas = bare(keys(file, &mut fields, "host_ca"));
    not_revoked(file, name, host_keys.iter().chain(&host_cas), &entry);
    if fields.lacks("host_keys") && fields.lacks("host_ca") {
        let fix = "add host_keys = [\"ssh-ed25519 …\"] (ssh-keyscan HOST, compared on the host's own console) or host_ca";
        file.error(at, format!("{} has neither host_keys nor host_ca: nothing proves that it is the host", name.get_ref()), fix);
    }
    let principal = principal(file, name, &mut fields);
    entry.line = file.source.line(fields.place(if host_keys.is_empty() { "host_ca" } else { "host_keys" }));
    fields.finish();
    let (host, port) = address?;
    Some((Target { id: id?, host, port, aliases: BTreeSet::new(), labels, logins, host_keys, host_cas, principal, entry }, aliases))
}

/// Reports what a target is recognised by and is revoked.
pub(super) fn not_revoked<'k>(file: File<'_>, name: &Spanned<&str>, keys: impl Iterator<Item = &'k PublicKey>, entry: &Entry) {
    for key in keys {
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        if entry.revoked.contains(&fingerprint) {
            let what = format!("{} is recognised by {fingerprint}, which is revoked", name.get_ref());
            file.error(name.span().start, what, "remove it here, or from [revoked] of people.toml");
        }
    }
}

pub(super) fn logins(file: File<'_>, name: &Spanned<&str>, fields: &mut Fields<'_>) -> Vec<Login> {
    if fields.lacks("logins") {
        file.error(fields.place("logins"), format!("{} has no logins", name.get_ref()), "add logins = [\"deploy\"], the default first");
    }
    fields.words("logins").into_iter().map(Spanned::into_inner).collect()
}

pub(super) fn principal(file: File<'_>, name: &Spanned<&str>, fields: &mut Fields<'_>) -> PrincipalStyle {
    let principal = fields.choice("principal", &[("login@target", PrincipalStyle::LoginAtTarget), ("login", PrincipalStyle::Login)]);
    if principal == Some(PrincipalStyle::Login) {
        let what = format!("certificates for {} fit every host that accepts plain logins", name.get_ref());
        file.warning(fields.place("principal"), what, "give the host an AuthorizedPrincipalsFile and remove this line");
    }
    principal.unwrap_or(PrincipalStyle::LoginAtTarget)
}

pub(super) fn labels(file: File<'_>, fields: &mut Fields<'_>) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    for text in fields.strings("labels") {
        let label = *text.get_ref();
        let good = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | ',');
        if label.is_empty() || label.len() > MAX_LABEL || !label.chars().all(good) {
            file.error(
                text.span().start,
                format!("{label:?} is not a label"),
                "write env=prod or a plain word, without spaces, quotes or commas",
            );
        } else if !labels.insert(label.to_owned()) {
            file.error(text.span().start, format!("{label:?} stands twice in labels"), "remove one of them");
        }
    }
    labels
}

/// Where a target's `host_keys` stand in the text of its file, so that they can be changed and nothing else.
pub fn host_keys_span(text: &str, id: &TargetId) -> Option<Range<usize>> {
    let (table, _) = DeTable::parse_recoverable(text);
    let targets = table.get_ref().get("targets")?.get_ref().as_table()?;
    Some(targets.get(id.as_str())?.get_ref().as_table()?.get("host_keys")?.span())
}

/// Splits `host:port`; the port is 22 where there is none.
pub fn parse_address(text: &str) -> Result<(String, u16), String> {
    let bad = || format!("{text:?} is not an address");
    if let Ok(v6) = text.parse::<Ipv6Addr>() {
        return Ok((v6.to_string(), 22));
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, port)) => {
            (v6.parse::<Ipv6Addr>().map_err(|_| bad())?.to_string(), port.strip_prefix(':').or(port.is_empty().then_some("22")))
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (parse_host(host).ok_or_else(bad)?, Some(port)),
            None => (parse_host(text).ok_or_else(bad)?, Some("22")),
        },
    };
    let digits = |port: &&str| port.bytes().all(|b| b.is_ascii_digit());
    let port = port.filter(digits).and_then(|port| port.parse().ok()).filter(|port| *port != 0).ok_or_else(bad)?;
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_keys_of_one_target_have_a_place() {
        let text = "# k\n[targets.a]\nhost_keys = [\"x\"] # c\n[targets.\"b.c\"]\nhost_keys = [\n  \"y\", # c\n]\n";
        let place = |id: &str| host_keys_span(text, &id.parse().unwrap()).map(|span| &text[span]);
        assert_eq!(place("a"), Some("[\"x\"]"));
        assert_eq!(place("b.c"), Some("[\n  \"y\", # c\n]"));
        assert_eq!(place("c"), None);
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("10.0.0.5", "10.0.0.5", 22),
            ("10.0.0.5:2022", "10.0.0.5", 2022),
            ("web-1.prod_a.example", "web-1.prod_a.example", 22),
            ("localhost:1", "localhost", 1),
            ("2001:db8::5", "2001:db8::5", 22),
            ("[2001:DB8::5]:65535", "2001:db8::5", 65535),
            ("[::1]", "::1", 22),
            ("169.254.169.254", "169.254.169.254", 22),
        ] {
            assert_eq!(parse_address(text), Ok((host.to_owned(), port)), "{text}");
        }
        for bad in [
            "",
            ":22",
            "host:",
            "host:0",
            "host:65536",
            "host:+22",
            "host: 22",
            "ho st",
            "-oProxyCommand=x",
            "a..b",
            "a/b",
            "[::1]x",
            "[::1]22",
            "[10.0.0.5]:22",
            "127.1",
            "0x7f.1",
            "2130706433",
            "0x7f000001",
            "web.0",
            "host\n",
            "hôte",
            "user@host",
            "*.staging",
            "fe80::1%eth0",
        ] {
            assert!(parse_address(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn an_address_that_is_read_reads_again(text in "\\PC{0,40}|[a-z0-9.:\\[\\]-]{0,30}") {
            if let Ok((host, port)) = parse_address(&text) {
                let again = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
                prop_assert_eq!(parse_address(&again), Ok((host, port)));
            }
        }
    }
}
