//! `policies/targets.toml`: the hosts behind the bastion, and by what they are recognised.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use russh::keys::ssh_key::{HashAlg, PublicKey};
use toml::Spanned;

use super::fields::{Fields, File};
use super::people::keys;
use crate::access::people::People;
use crate::access::target::{PrincipalStyle, Target, Targets};
use crate::id::{Login, TargetId};

const MAX_LABEL: usize = 128;

pub(super) fn read(file: File<'_>, people: &People) -> Targets {
    file.parse(|file, mut fields| {
        let mut names: BTreeMap<TargetId, TargetId> = BTreeMap::new();
        let mut targets = Vec::new();
        for (name, table) in fields.tables("targets") {
            let at = name.span().start;
            let target = target(file, &name, table, people);
            let Some(mut target) = target else { continue };
            let aliases = std::mem::take(&mut target.1);
            let mut target = target.0;
            for alias in std::iter::once(Spanned::new(at..at, target.id.clone())).chain(aliases) {
                if is_free(file, &alias, &target.id, people, &mut names) && *alias.get_ref() != target.id {
                    target.aliases.insert(alias.into_inner());
                }
            }
            if names.get(&target.id) == Some(&target.id) {
                targets.push(target);
            }
        }
        fields.finish();
        Targets::new(targets).unwrap_or_else(|shared| {
            file.error(0, shared, "a name is one target's");
            Targets::default()
        })
    })
}

/// Takes a name for a target, unless it means something else already.
fn is_free(file: File<'_>, name: &Spanned<TargetId>, of: &TargetId, people: &People, names: &mut BTreeMap<TargetId, TargetId>) -> bool {
    let at = name.span().start;
    let name = name.get_ref();
    if people.iter().any(|person| person.name.as_str() == name.as_str()) {
        let fix = "rename one: a bare user name is either the console or a target";
        file.error(at, format!("{name} is a target's name and a person's"), fix);
        return false;
    }
    if name.as_str().starts_with("req-") {
        file.error(at, format!("{:?} is reserved: ssh req-ID@bastion opens a request", name.as_str()), "choose another name");
        return false;
    }
    match names.get(name) {
        Some(first) => {
            let fix = "a name is one target's: remove it from one of them";
            file.error(at, format!("{name} is already a name of {first}"), fix);
            false
        }
        None => {
            names.insert(name.clone(), of.clone());
            true
        }
    }
}

fn target(file: File<'_>, name: &Spanned<&str>, mut fields: Fields<'_>, people: &People) -> Option<(Target, Vec<Spanned<TargetId>>)> {
    let at = name.span().start;
    let id = match name.get_ref().parse::<TargetId>() {
        Ok(id) => Some(id),
        Err(why) => {
            let fix = if name.get_ref().contains('*') {
                "list the targets one by one: patterns are not supported yet"
            } else {
                "write [targets.web-1]"
            };
            file.error(at, why, fix);
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
    let logins: Vec<Login> = fields.words("logins").into_iter().map(Spanned::into_inner).collect();
    if fields.lacks("logins") {
        file.error(fields.place("logins"), format!("{} has no logins", name.get_ref()), "add logins = [\"deploy\"], the default first");
    }
    let bare = |keys: Vec<(usize, PublicKey)>| keys.into_iter().map(|(_, key)| key).collect::<Vec<_>>();
    let host_keys = bare(keys(file, &mut fields, "host_keys"));
    let host_cas = bare(keys(file, &mut fields, "host_ca"));
    for key in host_keys.iter().chain(&host_cas) {
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        if people.revoked().contains(&fingerprint) {
            file.error(
                at,
                format!("{} is recognised by {fingerprint}, which is revoked", name.get_ref()),
                "remove it here, or from [revoked] of people.toml",
            );
        }
    }
    if fields.lacks("host_keys") && fields.lacks("host_ca") {
        let fix = "add host_keys = [\"ssh-ed25519 …\"] (ssh-keyscan HOST, compared on the host's own console) or host_ca";
        file.error(at, format!("{} has neither host_keys nor host_ca: nothing proves that it is the host", name.get_ref()), fix);
    }
    let principal = fields.choice("principal", &[("login@target", PrincipalStyle::LoginAtTarget), ("login", PrincipalStyle::Login)]);
    if principal == Some(PrincipalStyle::Login) {
        let what = format!("certificates for {} fit every host that accepts plain logins", name.get_ref());
        file.warning(fields.place("principal"), what, "give the host an AuthorizedPrincipalsFile and remove this line");
    }
    fields.finish();
    let (host, port) = address?;
    let principal = principal.unwrap_or(PrincipalStyle::LoginAtTarget);
    let revoked = people.revoked().clone();
    Some((Target { id: id?, host, port, aliases: BTreeSet::new(), labels, logins, host_keys, host_cas, principal, revoked }, aliases))
}

fn labels(file: File<'_>, fields: &mut Fields<'_>) -> BTreeSet<String> {
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

/// Splits `host:port`; the port is 22 where there is none.
///
/// A name that the resolver would read as a number (`127.1`, `0x7f000001`, `2130706433`) is refused, so
/// that a loopback or link-local address is only ever allowed where it is written as such.
pub(super) fn parse_address(text: &str) -> Result<(String, u16), String> {
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

/// A host name or an address.
pub(super) fn parse_host(text: &str) -> Option<String> {
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
    use proptest::prelude::*;

    use super::*;

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
