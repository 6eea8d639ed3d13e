//! A host as some other tool knows it, on its way into a file of targets.

use std::collections::BTreeSet;

use russh::keys::ssh_key::PublicKey;

/// What a source says of one host, or of one pattern of hosts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Host {
    /// In lower case; a name or a pattern. Whether it is good is for the directory to say.
    pub name: String,
    /// Where it differs from the name, or has a port.
    pub address: Option<String>,
    pub aliases: BTreeSet<String>,
    pub labels: BTreeSet<String>,
    pub logins: Vec<String>,
    pub keys: Vec<PublicKey>,
    pub cas: Vec<PublicKey>,
}

/// What was read, and what was left out with the reason why.
#[derive(Debug, Default)]
pub struct Read {
    pub hosts: Vec<Host>,
    pub left_out: Vec<String>,
}

impl Host {
    pub fn named(name: &str) -> Self {
        Self { name: name.to_ascii_lowercase(), ..Self::default() }
    }

    pub fn is_pattern(&self) -> bool {
        self.name.contains('*')
    }

    /// Adds a key once, whatever its comment.
    pub fn knows(keys: &mut Vec<PublicKey>, key: PublicKey) {
        if !keys.iter().any(|known| known.key_data() == key.key_data()) {
            keys.push(key);
        }
    }

    /// Its lines of a file of targets.
    pub fn toml(&self) -> String {
        let words = |words: &mut dyn Iterator<Item = &String>| words.map(|word| quoted(word)).collect::<Vec<_>>().join(", ");
        let keys = |keys: &[PublicKey]| keys.iter().map(|key| quoted(&bare(key))).collect::<Vec<_>>().join(", ");
        let mut out = format!("[targets.{}]\n", quoted(&self.name));
        // A pattern without an address is every member's own name.
        match &self.address {
            Some(address) => out.push_str(&format!("address = {}\n", quoted(address))),
            None if self.is_pattern() => {}
            None => out.push_str(&format!("address = {}\n", quoted(&self.name))),
        }
        let mut list = |key: &str, items: String| {
            if !items.is_empty() {
                out.push_str(&format!("{key} = [{items}]\n"));
            }
        };
        list("aliases", words(&mut self.aliases.iter()));
        list("labels", words(&mut self.labels.iter()));
        list("logins", words(&mut self.logins.iter()));
        list("host_keys", keys(&self.keys));
        list("host_ca", keys(&self.cas));
        out
    }
}

/// The key's line without its comment, which is somebody's free text.
pub fn bare(key: &PublicKey) -> String {
    let line = key.to_openssh().unwrap_or_default();
    line.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// A basic string of TOML.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(name in "\\PC{0,20}|[\\x00-\\x7f]{0,20}", label in "\\PC{0,20}|[\\x00-\\x7f]{0,20}") {
            let host = Host { labels: [label.clone()].into(), ..Host { name: name.clone(), ..Host::default() } };
            let read: toml::Table = host.toml().parse().unwrap();
            prop_assert_eq!(read["targets"][&name]["labels"][0].as_str(), Some(label.as_str()));
        }
    }
}
