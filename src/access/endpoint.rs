//! Where a forward leads, or where it listens: a host as the target names it, and a port (PURE).
//!
//! What cannot be one is refused here, before anything is asked: control characters, addresses in the
//! spellings that only `inet_aton` knows (`127.1`, `0x7f000001`), port 0. All of a target's loopback is
//! `localhost`, so that one approval, and one policy, means it however it is written.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::NotAWord;

/// Longest name of a host (RFC 1035 2.3.4).
const MAX_HOST: usize = 253;

/// `HOST:PORT`; `*` stands for any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// In lower case; `localhost` for every loopback address.
    host: Option<String>,
    port: Option<u16>,
}

impl Endpoint {
    /// What a client asks to be connected to.
    pub fn destination(host: &str, port: u32) -> Result<Self, NotAWord> {
        let bad = || bad(host, "use a name or an address in full, and a port from 1 to 65535");
        Ok(Self { host: Some(canonical(host).ok_or_else(bad)?), port: Some(valid(port).ok_or_else(bad)?) })
    }

    /// Where a client asks the target to listen: no address, or `0.0.0.0`, `::` and `*`, are all of the
    /// target's (RFC 4254 7.1).
    pub fn listener(address: &str, port: u32) -> Result<Self, NotAWord> {
        match address {
            "" | "*" | "0.0.0.0" | "::" => {
                let port = valid(port).ok_or_else(|| bad(address, "name a port from 1 to 65535; any free one (0) is not given"))?;
                Ok(Self { host: None, port: Some(port) })
            }
            _ => Self::destination(address, port),
        }
    }

    /// `None` is any.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The host where it is an address, other than loopback.
    pub fn address(&self) -> Option<IpAddr> {
        self.host()?.parse().ok()
    }

    /// `None` is any.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether it is the target's own loopback.
    pub fn is_local(&self) -> bool {
        self.host() == Some("localhost")
    }

    /// Whether everything that `other` means is meant here.
    pub fn contains(&self, other: &Endpoint) -> bool {
        (self.host.is_none() || self.host == other.host) && (self.port.is_none() || self.port == other.port)
    }

    /// What both mean.
    pub fn meet(&self, other: &Endpoint) -> Option<Endpoint> {
        let host = both(self.host.as_ref(), other.host.as_ref())?.cloned();
        let port = both(self.port.as_ref(), other.port.as_ref())?.copied();
        Some(Endpoint { host, port })
    }
}

/// What both allow, where nothing said is anything; `None` if they differ.
fn both<'a, T: PartialEq>(a: Option<&'a T>, b: Option<&'a T>) -> Option<Option<&'a T>> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => None,
        (a, b) => Some(a.or(b)),
    }
}

fn bad(host: &str, rule: &'static str) -> NotAWord {
    NotAWord { what: "place to forward to", given: host.chars().take(48).collect(), rule }
}

fn valid(port: u32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

/// A host as it is compared: the address itself, or the name in lower case without its last dot.
fn canonical(host: &str) -> Option<String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        let address = address.to_canonical();
        return match address {
            _ if address.is_loopback() => Some("localhost".into()),
            // Connecting to it is connecting to oneself, whatever else is listening there.
            _ if address.is_unspecified() => None,
            _ => Some(address.to_string()),
        };
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && label.bytes().all(is_of_a_name);
    let last = name.rsplit('.').next().unwrap_or_default();
    // `inet_aton` takes these for addresses, and the target's resolver would.
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    let good = name.len() <= MAX_HOST && name.split('.').all(label) && !numeric;
    let name = name.to_ascii_lowercase();
    good.then_some(name)
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            None => f.write_str("*:")?,
            Some(host) if host.parse::<Ipv4Addr>().is_err() && host.contains(':') => write!(f, "[{host}]:")?,
            Some(host) => write!(f, "{host}:")?,
        }
        match self.port {
            Some(port) => write!(f, "{port}"),
            None => f.write_str("*"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = NotAWord;
    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let bad = || bad(text, "use HOST:PORT, [ADDRESS]:PORT, and * for any");
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let host = match host.strip_prefix('[').map(|inner| inner.strip_suffix(']')) {
            Some(inner) => Some(inner.and_then(canonical).ok_or_else(bad)?),
            None if host == "*" => None,
            // Without brackets a port could not be told from the address.
            None if host.contains(':') => return Err(bad()),
            None => Some(canonical(host).ok_or_else(bad)?),
        };
        let port = match port {
            "*" => None,
            // One spelling only: `+80` and `080` are not it.
            _ if port.starts_with(['+', '0']) => return Err(bad()),
            _ => Some(port.parse().ok().and_then(valid).ok_or_else(bad)?),
        };
        Ok(Self { host, port })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = NotAWord;
    fn try_from(text: String) -> Result<Self, NotAWord> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.to_string()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    pub(crate) fn any_endpoint() -> impl Strategy<Value = Endpoint> {
        let host = prop_oneof![Just("*"), Just("localhost"), Just("db"), Just("[2001:db8::1]")];
        let port = prop_oneof![Just("*"), Just("80"), Just("443")];
        (host, port).prop_map(|(host, port)| at(&format!("{host}:{port}")))
    }

    #[test]
    fn however_loopback_is_written_it_is_one_place() {
        for host in ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.0.0.53", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(Endpoint::destination(host, 5432).unwrap(), at("localhost:5432"), "{host}");
        }
        assert_eq!(Endpoint::destination("DB-1.Example.", 1).unwrap().to_string(), "db-1.example:1");
        assert_eq!(Endpoint::destination("2001:DB8::1", 22).unwrap().to_string(), "[2001:db8::1]:22");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let hosts = [
            "",
            "a b",
            "a\n",
            "a\0",
            "é",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "0.0.0.0",
            "::",
            "fe80::1%eth0",
            "-x",
            "a..b",
            "*",
            "x/y",
            "10.0.0.1:80",
        ];
        for host in hosts {
            assert!(Endpoint::destination(host, 80).is_err(), "{host:?}");
        }
        for port in [0, 65_536, u32::MAX] {
            assert!(Endpoint::destination("db", port).is_err() && Endpoint::listener("", port).is_err(), "{port}");
        }
        for text in ["db", "db:", "db:0", "db:080", "db:+80", "2001:db8::1:80", "[db", ":80", "[]:80", "db:99999"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
        assert!(Endpoint::destination(&"a.".repeat(128), 80).is_err());
    }

    #[test]
    fn a_listener_on_all_addresses_is_any_host() {
        for address in ["", "*", "0.0.0.0", "::"] {
            assert_eq!(Endpoint::listener(address, 8080).unwrap(), at("*:8080"), "{address:?}");
        }
        assert_eq!(Endpoint::listener("localhost", 8080).unwrap(), at("localhost:8080"));
    }

    proptest! {
        #[test]
        fn it_reads_back(endpoint in any_endpoint()) {
            prop_assert_eq!(at(&endpoint.to_string()), endpoint);
        }

        #[test]
        fn the_meet_is_what_lies_in_both(a in any_endpoint(), b in any_endpoint(), c in any_endpoint()) {
            let meet = a.meet(&b);
            prop_assert_eq!(&meet, &b.meet(&a));
            prop_assert_eq!(a.contains(&c) && b.contains(&c), meet.is_some_and(|meet| meet.contains(&c)));
        }

        #[test]
        fn no_host_that_a_client_names_panics(host in ".*", port in any::<u32>()) {
            if let Ok(endpoint) = Endpoint::destination(&host, port) {
                prop_assert!(endpoint.to_string().is_ascii());
                prop_assert_eq!(at(&endpoint.to_string()), endpoint);
            }
        }
    }
}
