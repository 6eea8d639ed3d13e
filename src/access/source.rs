//! Where a connection comes from: the block that counts as one source, and networks that an operator names.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// One source: an IPv4 address, or the /64 of an IPv6 one (whoever has an address there has them all).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block(IpAddr);

impl Block {
    pub fn of(source: IpAddr) -> Self {
        match source.to_canonical() {
            IpAddr::V4(v4) => Self(IpAddr::V4(v4)),
            IpAddr::V6(v6) => Self(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & high_bits(64)))),
        }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = if self.0.is_ipv4() { 32 } else { 64 };
        write!(f, "{}/{length}", self.0)
    }
}

/// A network as `shared_sources` names it: whole blocks, so at most /32 or /64 long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    pub fn holds(&self, block: Block) -> bool {
        match (self.address, block.0) {
            (IpAddr::V4(network), IpAddr::V4(v4)) => {
                high_bits(96 + self.prefix) & u128::from(v4.to_bits()) == u128::from(network.to_bits()) & high_bits(96 + self.prefix)
            }
            (IpAddr::V6(network), IpAddr::V6(v6)) => v6.to_bits() & high_bits(self.prefix) == network.to_bits(),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// 128 bits of which the first `count` are set.
fn high_bits(count: u32) -> u128 {
    u128::MAX.checked_shl(128u32.saturating_sub(count)).unwrap_or(0)
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadNetwork {
    #[error("this is not a network; write ADDRESS/LENGTH, for example 203.0.113.7/32")]
    Form,
    #[error("a source here is at most /{0} long: that is what counts as one")]
    TooLong(u32),
    #[error("it has bits beyond its length; write {0}")]
    HostBits(String),
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, prefix) = text.split_once('/').ok_or(BadNetwork::Form)?;
        let (address, prefix): (IpAddr, u32) =
            (address.parse().map_err(|_| BadNetwork::Form)?, prefix.parse().map_err(|_| BadNetwork::Form)?);
        let longest = if address.is_ipv4() { 32 } else { 64 };
        if prefix > longest {
            return Err(BadNetwork::TooLong(longest));
        }
        let network = match address {
            IpAddr::V4(v4) => {
                let bits = u128::from(v4.to_bits()) & high_bits(96 + prefix);
                IpAddr::V4(u32::try_from(bits).unwrap_or(0).into())
            }
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & high_bits(prefix))),
        };
        if network == address { Ok(Self { address, prefix }) } else { Err(BadNetwork::HostBits(format!("{network}/{prefix}"))) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(ip: &str) -> Block {
        Block::of(ip.parse().unwrap())
    }

    #[test]
    fn a_block_is_an_address_or_its_64() {
        assert_eq!(block("192.0.2.7").to_string(), "192.0.2.7/32");
        assert_eq!(block("::ffff:192.0.2.7"), block("192.0.2.7"));
        assert_eq!(block("2001:db8:1:2:3:4:5:6").to_string(), "2001:db8:1:2::/64");
        assert_eq!(block("2001:db8:1:2::"), block("2001:db8:1:2:ffff::1"));
        assert_ne!(block("2001:db8:1:2::"), block("2001:db8:1:3::"));
    }

    #[test]
    fn a_network_holds_whole_blocks() {
        let holds = |network: &str, ip: &str| network.parse::<Network>().unwrap().holds(block(ip));
        assert!(holds("203.0.113.7/32", "203.0.113.7") && !holds("203.0.113.7/32", "203.0.113.8"));
        assert!(holds("203.0.113.0/24", "203.0.113.255") && !holds("203.0.113.0/24", "203.0.114.0"));
        assert!(holds("0.0.0.0/0", "198.51.100.1") && !holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("2001:db8::/32", "2001:db8:ffff::1") && !holds("2001:db8::/32", "2001:db9::1"));
        assert!(holds("::/0", "2001:db8::1") && !holds("::/0", "192.0.2.1"));
    }

    #[test]
    fn what_is_no_network_says_why() {
        let why = |text: &str| text.parse::<Network>().unwrap_err();
        for text in ["203.0.113.7", "203.0.113.7/", "/24", "office/24", "203.0.113.7/-1", ""] {
            assert_eq!(why(text), BadNetwork::Form, "{text:?}");
        }
        assert_eq!(why("203.0.113.7/33"), BadNetwork::TooLong(32));
        assert_eq!(why("2001:db8::1/128"), BadNetwork::TooLong(64));
        assert_eq!(why("203.0.113.7/24"), BadNetwork::HostBits("203.0.113.0/24".into()));
        assert_eq!(why("2001:db8::1/64"), BadNetwork::HostBits("2001:db8::/64".into()));
    }
}
