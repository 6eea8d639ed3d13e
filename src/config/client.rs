//! `[client]` of `countersign.toml`: what laptops are told. Their `@cert-authority` lines let this bastion
//! answer for names, so a pattern that would cover other people's hosts is refused.

use std::fmt;
use std::str::FromStr;

use super::fields::{Fields, File};
use super::targets::parse_address;
use crate::access::family::TargetPattern;
use crate::access::target::parse_host;

/// `[client]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// Where laptops dial, where it is not `host` and the first port that we listen on.
    pub address: Option<(String, u16)>,
    /// Patterns of the site, so that a laptop needs no edit for each new target.
    pub names: Vec<NamePattern>,
}

/// A host's name, or a pattern of a site's own names, as `ssh_config` and `known_hosts` take it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamePattern(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    #[error("is not a host's name or a pattern of names")]
    Form,
    #[error("covers hosts that are not yours: this bastion could pose as any of them")]
    TooBroad,
}

/// Top-level names that nobody can register: RFC 2606, 6761, 6762, 8375, and ICANN's `internal`.
const PRIVATE: [&str; 9] = ["corp", "example", "home", "internal", "invalid", "lan", "local", "localdomain", "test"];
/// Second-level names under which a country's registry sells names.
const SOLD: [&str; 10] = ["ac", "co", "com", "edu", "go", "gov", "ne", "net", "or", "org"];

/// Top-level domains under which many hosts are; every one of two letters is one, too.
const GENERIC: [&str; 24] = [
    "app", "biz", "blog", "cloud", "club", "dev", "email", "group", "info", "int", "life", "live", "mil", "mobi", "name", "online", "page",
    "shop", "site", "store", "tech", "top", "world", "xyz",
];

impl NamePattern {
    /// The pattern of a target: what the directory lets be asked for, laptops may ask for.
    pub fn of_targets(pattern: &TargetPattern) -> Self {
        Self(pattern.as_str().to_owned())
    }

    /// Whether names that anybody can register fit it. One label of one's own behind the star is enough here
    /// (`*.staging`), as long as it is no top-level domain that is known.
    pub fn is_public(&self) -> bool {
        if self.0.parse::<Self>().is_ok() {
            return false;
        }
        let last = self.0.rsplit('.').next().unwrap_or_default();
        !self.0.contains('.')
            || last.contains("*")
            || (last.len() == 2 && last.bytes().all(|b| b.is_ascii_alphabetic()))
            || SOLD.contains(&last)
            || GENERIC.contains(&last)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_pattern(&self) -> bool {
        self.0.contains('*')
    }

    /// What `Host` and `@cert-authority` take for it. A star of OpenSSH's stands for dots too: `web-*` alone
    /// would mean `web-1.somebody-else.org`. A negated pattern voids its whole line, so each stands on a
    /// line of its own; `between` is what that line separates patterns with.
    pub fn guarded(&self, between: &str) -> String {
        if self.is_pattern() && !self.0.contains('.') { format!("{0}{between}!{0}.*", self.0) } else { self.0.clone() }
    }

    /// Whether a host's name is covered, in lower case.
    pub fn matches(&self, name: &str) -> bool {
        if self.is_guarded() && name.contains('.') {
            return false;
        }
        let mut parts = self.0.split('*');
        let (Some(first), Some(mut rest)) = (parts.next(), name.strip_prefix(self.0.split('*').next().unwrap_or_default())) else {
            return false;
        };
        if !self.is_pattern() {
            return rest.is_empty() && first == self.0;
        }
        let mut parts: Vec<&str> = parts.collect();
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last)
    }

    /// Whether it has to stand on a line of its own.
    pub fn is_guarded(&self) -> bool {
        self.is_pattern() && !self.0.contains('.')
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for NamePattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let text = text.to_ascii_lowercase();
        // With a star read as a letter it has to be a name.
        parse_host(&text.replace('*', "x")).ok_or(BadPattern::Form)?;
        let Some((_, after)) = text.rsplit_once('*') else { return Ok(Self(text)) };
        if text.chars().all(|c| matches!(c, '*' | '.' | '-')) {
            return Err(BadPattern::TooBroad);
        }
        if !text.contains('.') {
            // Short names: `web-*`. What is written has to tell this site's from others'.
            let first = text.split('*').next().unwrap_or_default();
            return if first.len() >= 2 { Ok(Self(text)) } else { Err(BadPattern::TooBroad) };
        }
        // Only labels that stand whole behind the last star narrow it down.
        let (_, whole) = after.split_once('.').ok_or(BadPattern::TooBroad)?;
        let labels: Vec<&str> = whole.split('.').collect();
        let narrow = match labels.as_slice() {
            [] => false,
            [only] => PRIVATE.contains(only),
            [sold, country] if country.len() == 2 => !SOLD.contains(sold),
            [_, ..] => true,
        };
        if narrow { Ok(Self(text)) } else { Err(BadPattern::TooBroad) }
    }
}

pub(super) fn read(file: File<'_>, fields: &mut Fields<'_>) -> ClientSettings {
    let Some(mut table) = fields.table("client") else { return ClientSettings::default() };
    let address = table.string("address").and_then(|text| match parse_address(text.get_ref()) {
        Ok(address) => Some(address),
        Err(why) => {
            file.error(text.span().start, why, "write what laptops dial: bastion.example.org:22");
            None
        }
    });
    let mut names = Vec::new();
    for text in table.strings("names") {
        match text.get_ref().parse::<NamePattern>() {
            Ok(name) if !names.contains(&name) => names.push(name),
            Ok(name) => file.error(text.span().start, format!("\"{name}\" stands twice in names"), "remove one of them"),
            Err(why) => {
                let fix = "write a site's own names: \"*.prod.example.org\", \"web-*\"; two whole labels behind a star";
                file.error(text.span().start, format!("{:?} {why}", text.get_ref()), fix);
            }
        }
    }
    table.finish();
    ClientSettings { address, names }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_the_sites_own_names_only() {
        for good in [
            "web-1",
            "web-1.example.org",
            "*.prod.example.org",
            "*.example.org",
            "WEB-*",
            "pay-*-db",
            "*.staging.internal",
            "*.internal",
            "web-*.example.org",
            "*.example.co.uk",
            "*prod.example.org",
            "10.0.0.5",
        ] {
            assert_eq!(good.parse::<NamePattern>().unwrap().as_str(), good.to_ascii_lowercase(), "{good}");
        }
        for broad in [
            "*",
            "**",
            "*.*",
            "*.com",
            "*.org",
            "*.dev",
            "*.co.uk",
            "*.com.au",
            "w*",
            "*-1",
            "web.*",
            "web-*.com",
            "*example.org",
            "10.0.*",
            "*.prod.*",
            "*.example.*",
            "-*",
        ] {
            assert!(broad.parse::<NamePattern>().is_err(), "{broad}");
        }
        for malformed in ["", "!web-1", "web-?", "web 1", "web,db", "[web]", "a..b", "*.", ".*", "web-1\n", "-oProxyCommand=x", "é.org"] {
            assert!(malformed.parse::<NamePattern>().is_err(), "{malformed:?}");
        }
    }

    #[test]
    fn a_pattern_matches_as_openssh_would() {
        for (pattern, name, matches) in [
            ("web-1", "web-1", true),
            ("web-1", "web-10", false),
            ("web-*", "web-1", true),
            ("web-*", "web-1.somebody-else.org", false),
            ("*.prod.example.org", "a.b.prod.example.org", true),
            ("*.prod.example.org", "prod.example.org", false),
            ("pay-*-db", "pay-x-db", true),
            ("pay-*-db", "pay-db", false),
            ("a*b*a.example.org", "aba.example.org", true),
            ("a*b*a.example.org", "ab.example.org", false),
        ] {
            assert_eq!(pattern.parse::<NamePattern>().unwrap().matches(name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn a_short_pattern_stops_at_the_first_dot() {
        assert_eq!("web-*".parse::<NamePattern>().unwrap().guarded(","), "web-*,!web-*.*");
        assert_eq!("*.example.org".parse::<NamePattern>().unwrap().guarded(" "), "*.example.org");
    }
}
