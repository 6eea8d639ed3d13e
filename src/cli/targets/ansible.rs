//! What `ansible-inventory --list` prints: groups with hosts and children, and `_meta.hostvars`.
//!
//! Group names become labels. An inventory knows no host keys: they come from `--known-hosts`, or the
//! hosts show certificates of `--host-ca`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::entry::{Host, Read};

#[derive(Debug, Default, Deserialize)]
struct Group {
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    children: Vec<String>,
}

pub fn read(text: &str) -> Result<Read, String> {
    let not_it = |why: String| format!("this is not what ansible-inventory --list prints: {why}");
    let inventory: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|error| not_it(error.to_string()))?;
    let mut vars: BTreeMap<String, Value> = BTreeMap::new();
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for (name, value) in inventory {
        if name == "_meta" {
            let of_hosts = value.get("hostvars").and_then(Value::as_object).cloned().unwrap_or_default();
            vars.extend(of_hosts);
        } else {
            let group = serde_json::from_value(value).map_err(|error| not_it(format!("group {name}: {error}")))?;
            groups.insert(name, group);
        }
    }
    let mut labels: BTreeMap<String, BTreeSet<String>> = vars.keys().map(|host| (host.clone(), BTreeSet::new())).collect();
    for name in groups.keys() {
        for host in members(&groups, name) {
            let of = labels.entry(host.to_owned()).or_default();
            if name != "all" && name != "ungrouped" {
                of.insert(name.clone());
            }
        }
    }
    let hosts = labels.into_iter().map(|(name, labels)| host(&name, labels, vars.get(&name))).collect();
    Ok(Read { hosts, left_out: Vec::new() })
}

/// The hosts of a group and of those below it; a group that is below itself is looked at once.
fn members<'g>(groups: &'g BTreeMap<String, Group>, of: &'g str) -> BTreeSet<&'g str> {
    let (mut seen, mut next, mut hosts) = (BTreeSet::new(), vec![of], BTreeSet::new());
    while let Some(name) = next.pop() {
        if let Some(group) = groups.get(name).filter(|_| seen.insert(name)) {
            hosts.extend(group.hosts.iter().map(String::as_str));
            next.extend(group.children.iter().map(String::as_str));
        }
    }
    hosts
}

fn host(name: &str, labels: BTreeSet<String>, vars: Option<&Value>) -> Host {
    let text = |key: &str| match vars?.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let at = text("ansible_host").unwrap_or_else(|| name.to_owned());
    let port = text("ansible_port").filter(|port| port != "22");
    let address = match port {
        Some(port) if at.contains(':') => format!("[{at}]:{port}"),
        Some(port) => format!("{at}:{port}"),
        None => at,
    };
    let address = Some(address).filter(|address| !address.eq_ignore_ascii_case(name));
    Host { address, labels, logins: text("ansible_user").into_iter().collect(), ..Host::named(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_labels_through_their_children() {
        let text = r#"{"_meta": {"hostvars": {"Web-1": {"ansible_host": "10.0.0.5", "ansible_port": 2222, "ansible_user": "deploy", "x": [1]},
            "db-1": {}}}, "all": {"children": ["ungrouped", "prod"]}, "prod": {"children": ["web", "prod"]}, "web": {"hosts": ["Web-1"]},
            "ungrouped": {"hosts": ["db-1"]}}"#;
        let hosts = read(text).unwrap().hosts;
        assert_eq!((hosts[0].name.as_str(), hosts[0].address.as_deref()), ("web-1", Some("10.0.0.5:2222")));
        assert_eq!(hosts[0].labels, ["prod".to_owned(), "web".to_owned()].into());
        assert_eq!(hosts[0].logins, ["deploy"]);
        assert_eq!((hosts[1].name.as_str(), &hosts[1].address, hosts[1].labels.len()), ("db-1", &None, 0));
        for bad in ["", "[web]\nweb-1\n", "[]", r#"{"web": {"hosts": 1}}"#] {
            assert!(read(bad).unwrap_err().contains("ansible-inventory --list"), "{bad}");
        }
    }
}
