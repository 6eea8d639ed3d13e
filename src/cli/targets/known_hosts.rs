//! OpenSSH's `known_hosts` (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), also as `ssh-keyscan` prints it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::entry::{Host, Read};
use crate::access::family::TargetPattern;
use crate::config::key::parse_public_key;
use crate::id::TargetId;

/// Reads every line; what cannot become a target is left out with a word.
pub fn read(text: &str) -> Read {
    let mut all = Read::default();
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    let mut hashed = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match entry(line, &mut hosts) {
            Ok(said) => all.left_out.extend(said.into_iter().map(|why| format!("line {number}: {why}"))),
            Err(Unread::Hashed) => hashed.push(number.to_string()),
            Err(Unread::Because(why)) => all.left_out.push(format!("line {number}: {why}")),
        }
    }
    if !hashed.is_empty() {
        let some = hashed.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = if hashed.len() > 5 { ", …" } else { "" };
        all.left_out.push(format!(
            "{} names are hashed and cannot be read back (lines {some}{more}): ssh-keyscan -f NAMES prints them unhashed",
            hashed.len()
        ));
    }
    all.hosts = addresses_named(hosts).into_values().collect();
    all
}

enum Unread {
    Hashed,
    Because(String),
}

/// Takes one line; returns what of it was left out.
fn entry(line: &str, hosts: &mut BTreeMap<String, Host>) -> Result<Vec<String>, Unread> {
    let because = |why: &str| Unread::Because(why.to_owned());
    let mut words = line.split_whitespace().peekable();
    let marker = words.next_if(|word| word.starts_with('@'));
    let (Some(names), Some(kind), Some(blob)) = (words.next(), words.next(), words.next()) else {
        return Err(because("it is not names, a type and a key"));
    };
    let is_ca = match marker {
        None => false,
        Some("@cert-authority") => true,
        Some("@revoked") => return Err(because("a revoked key: nothing is pinned by it")),
        Some(_) => return Err(because("its marker is unknown")),
    };
    if names.starts_with("|1|") {
        return Err(Unread::Hashed);
    }
    let key = parse_public_key(&format!("{kind} {blob}")).map_err(|bad| Unread::Because(bad.to_string()))?;
    let mut said = Vec::new();
    let mut known = Vec::new();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        match host_and_port(name) {
            Some((host, _)) if is_ca && host.parse::<TargetPattern>().is_ok() => known.push((host, 22)),
            Some((host, port)) if host.parse::<TargetId>().is_ok() => known.push((host, port)),
            _ => said.push(format!("{name:?} cannot be a target's name")),
        }
    }
    if is_ca {
        for (name, port) in known {
            let host = hosts.entry(name.clone()).or_insert_with(|| new(&name, port));
            Host::knows(&mut host.cas, key.clone());
        }
        return Ok(said);
    }
    // One machine under several names: the first that is no address is its own.
    let own = known.iter().find(|(name, _)| name.parse::<IpAddr>().is_err()).or(known.first()).cloned();
    let Some((own, port)) = own else { return Ok(said) };
    let host = hosts.entry(own.clone()).or_insert_with(|| new(&own, port));
    if host.address != new(&own, port).address {
        return Err(Unread::Because(format!("{own} at port {port} is another machine than {own} above: list it by hand")));
    }
    Host::knows(&mut host.keys, key);
    host.aliases.extend(known.into_iter().map(|(name, _)| name).filter(|name| *name != own));
    Ok(said)
}

fn new(name: &str, port: u16) -> Host {
    let address = (port != 22).then(|| if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") });
    Host { address, ..Host::named(name) }
}

/// `web-1`, or `[web-1]:2222`.
fn host_and_port(name: &str) -> Option<(String, u16)> {
    match name.strip_prefix('[') {
        None => Some((name.to_ascii_lowercase(), 22)),
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            Some((host.to_ascii_lowercase(), port.strip_prefix(':')?.parse().ok()?))
        }
    }
}

/// OpenSSH notes a host's address on a line of its own: the same key makes it an alias of the name.
fn addresses_named(mut hosts: BTreeMap<String, Host>) -> BTreeMap<String, Host> {
    let is_address = |host: &Host| host.name.parse::<IpAddr>().is_ok();
    let mut by_key: BTreeMap<Vec<u8>, Option<String>> = BTreeMap::new();
    for host in hosts.values().filter(|host| !is_address(host)) {
        for key in &host.keys {
            let name = by_key.entry(key.to_bytes().unwrap_or_default()).or_insert_with(|| Some(host.name.clone()));
            // A key that several names share names none of them.
            if name.as_ref() != Some(&host.name) {
                *name = None;
            }
        }
    }
    let alias = |host: &Host| {
        let named = host.keys.first().and_then(|key| by_key.get(&key.to_bytes().unwrap_or_default())).cloned().flatten();
        named.filter(|_| is_address(host) && host.cas.is_empty())
    };
    let aliases: Vec<(String, String)> = hosts.values().filter_map(|host| Some((host.name.clone(), alias(host)?))).collect();
    for (address, name) in aliases {
        let same_port = |host: &Host| host.address.as_ref().map(|address| address.rsplit(':').next().map(str::to_owned));
        let fits = hosts.get(&address).map(same_port) == hosts.get(&name).map(same_port);
        if fits && hosts.remove(&address).is_some() {
            hosts.entry(name).and_modify(|host| {
                host.aliases.insert(address);
            });
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKSo1nQLcBr8uebNUaw4YpMsQtOzg9axUZBPMx+GmlMO";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMiAl+OVmPF9mkJzINSbs1F6jCR66NlI5M7/VFn7qhNC";

    fn reads(text: &str) -> (Vec<String>, Vec<String>) {
        let read = read(&text.replace("ONE", ONE).replace("TWO", TWO));
        let show = |host: &Host| {
            let aliases: Vec<&str> = host.aliases.iter().map(String::as_str).collect();
            let address = host.address.clone().unwrap_or_default();
            format!("{} {address}|{} {}+{}", host.name, aliases.join(","), host.keys.len(), host.cas.len())
        };
        (read.hosts.iter().map(show).collect(), read.left_out)
    }

    #[test]
    fn names_addresses_and_ports() {
        let (hosts, left_out) = reads(
            "# a comment\n\nWeb-1,10.0.0.5 ONE a comment\nweb-1 TWO\n[db-1]:2222 TWO\n10.0.0.7 ONE\n[10.0.0.8]:2222 TWO\n2001:db8::5 ONE x\n",
        );
        assert_eq!(left_out, [""; 0]);
        assert_eq!(hosts, ["10.0.0.8 10.0.0.8:2222| 1+0", "db-1 db-1:2222| 1+0", "web-1 |10.0.0.5,10.0.0.7,2001:db8::5 2+0"]);
    }

    #[test]
    fn authorities_are_patterns_and_what_cannot_be_said_is_left_out_with_a_word() {
        let (hosts, left_out) = reads(
            "@cert-authority *.staging,web-9 ONE\n@cert-authority * ONE\n@revoked * TWO\n|1|abc=|def= ONE\n|1|abc=|deg= ONE\n\
             web-* TWO\n!web-1,web-2 TWO\n@future x ONE\nweb-3\nweb-4 ssh-ed25519 AAAA\nweb-2 TWO\n[web-2]:2222 ONE\n",
        );
        assert_eq!(hosts, ["*.staging | 0+1", "web-2 | 1+0", "web-9 | 0+1"]);
        assert_eq!(
            left_out,
            [
                "line 2: \"*\" cannot be a target's name",
                "line 3: a revoked key: nothing is pinned by it",
                "line 6: \"web-*\" cannot be a target's name",
                "line 7: \"!web-1\" cannot be a target's name",
                "line 8: its marker is unknown",
                "line 9: it is not names, a type and a key",
                "line 10: this is not a public key: it does not begin with the name of an algorithm",
                "line 12: web-2 at port 2222 is another machine than web-2 above: list it by hand",
                "2 names are hashed and cannot be read back (lines 4, 5): ssh-keyscan -f NAMES prints them unhashed",
            ]
        );
    }
}
