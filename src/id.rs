//! The words by which everything is called: persons, targets, logins, requests, sessions, digests.
//!
//! A value of one of these types is well-formed; nothing behind the edge checks it again. None of
//! them can hold a path separator, a control character, white space or a character with a meaning
//! in certificates (`,*?!`), in SSH user names (`@ = %`) or in shells.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// Says why a word is refused: what it is meant to be, what was given, what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a {what}: {rule}")]
pub struct NotAWord {
    pub what: &'static str,
    pub given: String,
    pub rule: &'static str,
}

fn refuse(what: &'static str, given: &str, rule: &'static str) -> NotAWord {
    // A hostile name may be megabytes long; nobody needs to read more than its beginning.
    let given = given.chars().take(48).collect();
    NotAWord { what, given, rule }
}

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $rule:literal, $first:expr, $rest:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NotAWord;
            fn from_str(text: &str) -> Result<Self, NotAWord> {
                let first: fn(char) -> bool = $first;
                let rest: fn(char) -> bool = $rest;
                let mut chars = text.chars();
                let good = text.len() <= $max && chars.next().is_some_and(first) && chars.all(rest);
                if good { Ok(Self(text.to_owned())) } else { Err(refuse($what, text, $rule)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAWord;
            fn try_from(text: String) -> Result<Self, NotAWord> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> String {
                word.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

fn lower(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

word!(
    /// A human being, as `people.toml` calls them.
    Person, "person's name", 64, "use a-z 0-9 . _ - and begin with a letter or digit",
    lower, |c| lower(c) || matches!(c, '.' | '_' | '-')
);
word!(
    /// A group of persons.
    Group, "group's name", 64, "use a-z 0-9 . _ - and begin with a letter or digit",
    lower, |c| lower(c) || matches!(c, '.' | '_' | '-')
);
word!(
    /// A target's id or alias, usually its host name.
    TargetId, "target's name", 128, "use a-z 0-9 . _ - : and begin with a letter or digit",
    lower, |c| lower(c) || matches!(c, '.' | '_' | '-' | ':')
);
word!(
    /// An account on a target.
    Login, "login", 64, "use A-Z a-z 0-9 . _ - and begin with a letter, digit or _",
    |c| c.is_ascii_alphanumeric() || c == '_', |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
);
word!(
    /// The name of an approval workflow in `approvals.toml`.
    WorkflowName, "workflow's name", 64, "use a-z 0-9 . _ - and begin with a letter or digit",
    lower, |c| lower(c) || matches!(c, '.' | '_' | '-')
);
word!(
    /// The name of a notifier in `countersign.toml`.
    NotifierName, "notifier's name", 64, "use a-z 0-9 . _ - and begin with a letter or digit",
    lower, |c| lower(c) || matches!(c, '.' | '_' | '-')
);
word!(
    /// The name of a preset in `approvals.toml`.
    PresetName, "preset's name", 64, "use a-z 0-9 . _ - and begin with a letter or digit",
    lower, |c| lower(c) || matches!(c, '.' | '_' | '-')
);
word!(
    /// The name of a retention schedule in `retention.toml`.
    ScheduleName, "schedule's name", 64, "use a-z 0-9 . _ - and begin with a letter or digit",
    lower, |c| lower(c) || matches!(c, '.' | '_' | '-')
);

impl ScheduleName {
    /// Stands where no schedule applies.
    pub(crate) fn unknown() -> Self {
        Self("unknown".into())
    }
}

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Six random characters of Crockford's base 32: short enough to read out, unique by the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId([u8; 6]);

impl RequestId {
    /// Draws one from the operating system's generator; the store refuses one that was used before.
    pub fn random() -> Self {
        Self(rand::random::<[u8; 6]>().map(|b| CROCKFORD.get(usize::from(b & 31)).copied().unwrap_or(b'0')))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("??????")
    }
}

impl FromStr for RequestId {
    type Err = NotAWord;
    /// Reads one as people type it: either case, `O` for 0, `I` and `L` for 1.
    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let bad = || refuse("request id", text, "six characters such as K7Q3FM; see `countersign requests`");
        let mut id = [0u8; 6];
        if text.len() != id.len() {
            return Err(bad());
        }
        for (to, from) in id.iter_mut().zip(text.bytes()) {
            *to = match from.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                c if CROCKFORD.contains(&c) => c,
                _ => return Err(bad()),
            };
        }
        Ok(Self(id))
    }
}

impl TryFrom<String> for RequestId {
    type Error = NotAWord;
    fn try_from(text: String) -> Result<Self, NotAWord> {
        text.parse()
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> String {
        id.as_str().to_owned()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A ULID: sorts by time of creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(ulid::Ulid);

impl SessionId {
    pub fn new(now: crate::time::Timestamp) -> Self {
        let millis = u64::try_from(now.micros() / 1000).unwrap_or(0);
        Self(ulid::Ulid::from_parts(millis, rand::random::<u128>()))
    }
}

impl FromStr for SessionId {
    type Err = NotAWord;
    fn from_str(text: &str) -> Result<Self, NotAWord> {
        ulid::Ulid::from_string(text).map(Self).map_err(|_| refuse("session id", text, "26 characters; see `countersign sessions`"))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A SHA-256; lower-case hexadecimal wherever it is text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl FromStr for Digest {
    type Err = NotAWord;
    fn from_str(text: &str) -> Result<Self, NotAWord> {
        data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| refuse("SHA-256", text, "64 lower-case hexadecimal digits"))
    }
}

impl TryFrom<String> for Digest {
    type Error = NotAWord;
    fn try_from(text: String) -> Result<Self, NotAWord> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_has_a_meaning_elsewhere() {
        for hostile in ["", "a b", "a/b", "../x", "a\nb", "a\0b", "-oProxyCommand=x", "a@b", "a=b", "a%b", "ａlice", "Alice", "a,b", "*"] {
            assert!(hostile.parse::<Person>().is_err(), "{hostile:?}");
            assert!(hostile.parse::<TargetId>().is_err(), "{hostile:?}");
        }
        assert!("x".repeat(65).parse::<Person>().is_err());
        assert!("deploy".parse::<Login>().is_ok());
    }

    #[test]
    fn a_long_hostile_name_is_an_error_and_no_panic() {
        // Was cut at byte 64, in the middle of a character.
        let error = "ａ".repeat(100_000).parse::<TargetId>().unwrap_err();
        assert_eq!(error.given.chars().count(), 48);
    }

    #[test]
    fn a_request_id_reads_as_people_type_it() {
        assert_eq!("k7q3fm".parse::<RequestId>().unwrap().as_str(), "K7Q3FM");
        assert_eq!("OIL000".parse::<RequestId>().unwrap().as_str(), "011000");
        assert!("K7Q3F".parse::<RequestId>().is_err());
        assert!("K7Q3FU".parse::<RequestId>().is_err());
    }
}
