//! Addresses that a host's name must not lead to (PURE, section 5): this machine, its links, the metadata
//! services of clouds, in every spelling that a network stack would follow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata services outside the link-local range: Alibaba, Azure's wire server, Oracle's old one.
const SERVICES: [Ipv4Addr; 3] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// The same in IPv6: AWS, Google.
const SERVICES_V6: [Ipv6Addr; 2] = [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Whether whoever dials this comes back to itself or reaches what only a machine's own processes should.
pub fn leads_home(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unicast_link_local()
                || ip.is_multicast()
                || SERVICES_V6.contains(&ip)
                || inside(ip).is_some_and(v4)
        }
    }
}

fn v4(ip: Ipv4Addr) -> bool {
    // 169.254.0.0/16 holds most metadata services. Linux takes all of 0.0.0.0/8 for itself or refuses it.
    let [first, ..] = ip.octets();
    first == 0 || ip.is_loopback() || ip.is_link_local() || ip.is_broadcast() || ip.is_multicast() || SERVICES.contains(&ip)
}

/// The IPv4 address that an IPv6 one is translated to: compatible (RFC 4291 2.5.5.1), NAT64 (RFC 6052), 6to4
/// (RFC 3056).
fn inside(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => {
            Some(of(high, low))
        }
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_lead_home_are_known_in_every_spelling() {
        for home in [
            "127.0.0.1",
            "127.8.8.8",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::1",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "169.254.170.2",
            "fe80::1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "::ffff:0.0.0.0",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
        ] {
            assert!(leads_home(home.parse().unwrap()), "{home}");
        }
        for away in ["192.0.2.1", "10.0.0.5", "100.64.0.1", "2001:db8::1", "fd00::1", "64:ff9b::192.0.2.1", "2002:c000:201::1"] {
            assert!(!leads_home(away.parse().unwrap()), "{away}");
        }
    }
}
