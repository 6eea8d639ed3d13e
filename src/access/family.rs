//! Targets that are not listed one by one: `[targets."*.staging"]`.
//!
//! A family never stands for a host by itself. A [`Target`] is derived for the name that was asked, and
//! carries that name into its pin, its certificate's principal and the host certificate that is demanded.
//! Deriving asks no name service. What a family could be made to reach is bounded by its pattern: one
//! piece of a host name varies, the rest is written; never an address, never a name of something else.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use russh::keys::ssh_key::PublicKey;

use super::target::{Entry, PrincipalStyle, Target, parse_host};
use crate::id::{Login, TargetId};

/// The longest pattern; a name is no longer.
const MAX_PATTERN: usize = 128;
/// Letters and digits that a pattern has besides its star.
const MIN_WRITTEN: usize = 2;

/// A target's name with one `*`, which stands for one or more characters without a dot: `*.staging`, `web-*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetPattern {
    text: String,
    star: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    #[error("it needs exactly one *")]
    Stars,
    #[error("it is longer than {MAX_PATTERN} bytes")]
    TooLong,
    #[error("it may hold a-z 0-9 . _ - beside the *")]
    Characters,
    #[error("it would stand for nearly every name")]
    Bare,
    #[error("the names that it stands for are addresses")]
    Addresses,
}

/// How two patterns stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// No name fits both.
    Apart,
    /// Every name of one is a name of the other: the more specific one wins.
    Nested,
    /// Some name fits both, and neither is the more specific.
    Crossing,
}

impl TargetPattern {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn head(&self) -> &str {
        self.text.get(..self.star).unwrap_or_default()
    }

    fn tail(&self) -> &str {
        self.text.get(self.star + 1..).unwrap_or_default()
    }

    pub fn matches(&self, name: &str) -> bool {
        let star = name.strip_prefix(self.head()).and_then(|rest| rest.strip_suffix(self.tail()));
        star.is_some_and(|star| {
            !star.is_empty() && star.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
        })
    }

    /// How much of the name is written: of two patterns that fit one name the greater is the more specific.
    pub fn written(&self) -> usize {
        self.text.len() - 1
    }

    /// The name in which the star is `piece`.
    pub fn with(&self, piece: &str) -> Option<TargetId> {
        format!("{}{piece}{}", self.head(), self.tail()).parse().ok()
    }

    pub fn overlap(&self, other: &Self) -> Overlap {
        // The piece that only the longer one writes has to fit under the other's star.
        let compare = |a: &str, b: &str, more: Option<&str>| match more {
            Some(more) if !more.contains('.') => Some(a.len().cmp(&b.len())),
            _ => None,
        };
        let (a, b) = (self.head(), other.head());
        let heads = compare(a, b, a.strip_prefix(b).or_else(|| b.strip_prefix(a)));
        let (a, b) = (self.tail(), other.tail());
        let tails = compare(a, b, a.strip_suffix(b).or_else(|| b.strip_suffix(a)));
        match (heads, tails) {
            (Some(heads), Some(tails)) if heads == tails || heads == Ordering::Equal || tails == Ordering::Equal => Overlap::Nested,
            (Some(_), Some(_)) => Overlap::Crossing,
            (None, _) | (_, None) => Overlap::Apart,
        }
    }
}

impl FromStr for TargetPattern {
    type Err = BadPattern;
    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let mut stars = text.match_indices('*').map(|(at, _)| at);
        let (Some(star), None) = (stars.next(), stars.next()) else { return Err(BadPattern::Stars) };
        if text.len() > MAX_PATTERN {
            return Err(BadPattern::TooLong);
        }
        let pattern = Self { text: text.to_owned(), star };
        if text.contains(':') || pattern.with("x").is_none() {
            return Err(BadPattern::Characters);
        }
        if text.bytes().filter(u8::is_ascii_alphanumeric).count() < MIN_WRITTEN {
            return Err(BadPattern::Bare);
        }
        if text.replace('*', "1").parse::<IpAddr>().is_ok() {
            return Err(BadPattern::Addresses);
        }
        Ok(pattern)
    }
}

impl fmt::Display for TargetPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for TargetPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

/// Where a member of a family is found: `{name}`, or with something written around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressTemplate {
    pub before: String,
    pub after: String,
    pub port: u16,
}

impl Default for AddressTemplate {
    /// The name is the host's name.
    fn default() -> Self {
        Self { before: String::new(), after: String::new(), port: 22 }
    }
}

impl AddressTemplate {
    /// The host's name; an address is none, nor is a name that a resolver would read as a number.
    fn host(&self, name: &TargetId) -> Option<String> {
        let host = parse_host(&format!("{}{name}{}", self.before, self.after))?;
        host.parse::<IpAddr>().is_err().then_some(host)
    }
}

/// RFC 6761 section 6.3: names below it are this machine, whatever a name service says.
const LOCALHOST: &str = ".localhost";

pub fn is_localhost(host: &str) -> bool {
    host.to_ascii_lowercase().ends_with(LOCALHOST)
}

/// A pattern's entry in `targets.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    pub pattern: TargetPattern,
    pub address: AddressTemplate,
    pub labels: BTreeSet<String>,
    pub logins: Vec<Login>,
    /// One pinned key cannot be many hosts': a member shows a certificate for its own name.
    pub host_cas: Vec<PublicKey>,
    pub principal: PrincipalStyle,
    pub entry: Entry,
}

impl Family {
    /// The target of this name, if it is one of the family's.
    pub fn member(&self, name: &TargetId) -> Option<Target> {
        // `ssh req-ID@bastion` opens a request.
        if !self.pattern.matches(name.as_str()) || name.as_str().starts_with("req-") {
            return None;
        }
        let host = self.address.host(name)?;
        // This machine is a member only where the operator wrote it.
        let written = format!("{}{}", self.pattern.tail(), self.address.after).ends_with(LOCALHOST);
        if (host.eq_ignore_ascii_case("localhost") || is_localhost(&host)) && !written {
            return None;
        }
        Some(Target {
            host,
            id: name.clone(),
            port: self.address.port,
            aliases: BTreeSet::new(),
            labels: self.labels.clone(),
            logins: self.logins.clone(),
            host_keys: Vec::new(),
            host_cas: self.host_cas.clone(),
            principal: self.principal,
            entry: Entry { family: Some(self.pattern.clone()), ..self.entry.clone() },
        })
    }

    /// Some member: what policy says of it, it says of all that it does not name.
    pub fn example(&self) -> Option<Target> {
        ["any", "x"].iter().find_map(|piece| self.member(&self.pattern.with(piece)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> TargetPattern {
        text.parse().unwrap_or_else(|bad| panic!("{text}: {bad}"))
    }

    fn family(text: &str, before: &str, after: &str) -> Family {
        Family {
            pattern: pattern(text),
            address: AddressTemplate { before: before.into(), after: after.into(), port: 22 },
            labels: [].into(),
            logins: vec!["deploy".parse().unwrap()],
            host_cas: vec![],
            principal: PrincipalStyle::LoginAtTarget,
            entry: Entry::default(),
        }
    }

    #[test]
    fn a_star_is_one_piece_of_a_name() {
        let staging = pattern("*.staging");
        for name in ["web-1.staging", "a.staging", "a_b.staging"] {
            assert!(staging.matches(name), "{name}");
        }
        for name in ["staging", ".staging", "a.b.staging", "a.staging.", "a.staging.evil.example", "a:b.staging", "A.staging", "é.staging"]
        {
            assert!(!staging.matches(name), "{name}");
        }
        assert!(pattern("web-*").matches("web-1") && !pattern("web-*").matches("web-1.evil.example"));
        assert!(!pattern("ab*ba").matches("aba"), "head and tail do not share a letter");
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for (text, why) in [
            ("web-1", BadPattern::Stars),
            ("*.*.staging", BadPattern::Stars),
            ("*", BadPattern::Bare),
            ("*.", BadPattern::Bare),
            ("*-1", BadPattern::Bare),
            (".*.staging", BadPattern::Characters),
            ("-oProxyCommand=*", BadPattern::Characters),
            ("*.sta ging", BadPattern::Characters),
            ("*.Staging", BadPattern::Characters),
            ("fe80::*", BadPattern::Characters),
            ("10.0.0.*", BadPattern::Addresses),
            ("127.*.0.1", BadPattern::Addresses),
        ] {
            assert_eq!(text.parse::<TargetPattern>(), Err(why), "{text}");
        }
        assert_eq!(format!("*{}", "x".repeat(128)).parse::<TargetPattern>(), Err(BadPattern::TooLong));
    }

    #[test]
    fn a_member_is_a_host_by_name_and_nothing_else() {
        let host = |family: Family, name: &str| family.member(&name.parse().unwrap()).map(|target| target.host);
        assert_eq!(host(family("*.staging", "", ""), "web-1.staging").unwrap(), "web-1.staging");
        assert_eq!(host(family("*.staging", "", ".internal"), "web-1.staging").unwrap(), "web-1.staging.internal");
        for (text, name) in [
            ("1*.10", "10.10"),
            ("web.*", "web.1"),
            ("web.*", "web.0x7f"),
            ("ab.*", "ab.-x"),
            ("re*", "req-k7q3fm"),
            ("foo.*", "foo.localhost"),
            ("*ocalhost", "localhost"),
        ] {
            assert_eq!(host(family(text, "", ""), name), None, "{name}");
        }
        assert_eq!(host(family("*.staging", "", ".localhost"), "a.staging").unwrap(), "a.staging.localhost");
        assert_eq!(host(family("*.staging", "", &".x".repeat(130)), "web-1.staging"), None, "no host's name is that long");
    }

    proptest! {
        #[test]
        fn two_patterns_that_are_not_crossing_leave_no_doubt(
            a in "[ab.]{0,3}\\*[ab.]{0,3}", b in "[ab.]{0,3}\\*[ab.]{0,3}", name in "[ab.]{1,8}",
        ) {
            let (Ok(a), Ok(b)) = (a.parse::<TargetPattern>(), b.parse::<TargetPattern>()) else { return Ok(()) };
            prop_assert_eq!(a.overlap(&b), b.overlap(&a));
            if a.matches(&name) && b.matches(&name) {
                prop_assert_ne!(a.overlap(&b), Overlap::Apart);
                prop_assert!(a == b || a.overlap(&b) == Overlap::Crossing || a.written() != b.written());
            }
        }
    }
}
