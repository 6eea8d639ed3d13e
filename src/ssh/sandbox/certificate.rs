//! Whether a certificate opens the sandbox, by the rules of a real sshd (OpenSSH PROTOCOL.certkeys).
//!
//! russh has checked possession of the key and that the certificate is signed by the CA that it *names*;
//! that the CA is ours, its type, principal, time and options are decided here. Pure.

use std::net::IpAddr;

use russh::keys::ssh_key::{Certificate, HashAlg, PublicKey, certificate::CertType};

use crate::id::TargetId;
use crate::time::Timestamp;

/// What a certificate lets its bearer do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Allowed {
    /// `force-command`: runs instead of whatever is asked for.
    pub forced: Option<String>,
    /// `permit-pty`
    pub pty: bool,
}

/// Checks a certificate for `login` on `target`, shown by `source` at `now`.
pub(super) fn check(
    certificate: &Certificate,
    ca: &PublicKey,
    target: &TargetId,
    login: &str,
    source: IpAddr,
    now: Timestamp,
) -> Result<Allowed, Refused> {
    if certificate.signature_key() != ca.key_data() {
        return Err(Refused::Ca);
    }
    if certificate.cert_type() != CertType::User {
        return Err(Refused::HostType);
    }
    let expected = format!("{login}@{target}");
    if certificate.valid_principals() != [expected.clone()] {
        return Err(Refused::Principal { shown: certificate.valid_principals().to_vec(), expected });
    }
    let seconds = u64::try_from(now.micros() / 1_000_000).unwrap_or(0);
    certificate.validate_at(seconds, [&ca.fingerprint(HashAlg::Sha256)]).map_err(|_| Refused::NotValidNow)?;
    let mut allowed = Allowed { forced: None, pty: certificate.extensions().contains_key("permit-pty") };
    for (name, value) in certificate.critical_options().iter() {
        match name.as_str() {
            "source-address" if value.split(',').any(|block| contains(block, source)) => {}
            "source-address" => return Err(Refused::Source { from: source, allowed: value.clone() }),
            "force-command" => allowed.forced = Some(value.clone()),
            _ => return Err(Refused::Option(name.clone())),
        }
    }
    Ok(allowed)
}

/// Whether `block` (an address, or one with /LENGTH) holds `address`. What does not parse holds nothing.
fn contains(block: &str, address: IpAddr) -> bool {
    let (network, length) = match block.split_once('/') {
        Some((network, length)) => (network, length.parse().ok()),
        None => (block, Some(128)),
    };
    let (Ok(network), Some(length)) = (network.parse::<IpAddr>(), length) else { return false };
    let (bits, width, other) = match (network, address.to_canonical()) {
        (IpAddr::V4(n), IpAddr::V4(a)) => (u128::from(n.to_bits()), 32, u128::from(a.to_bits())),
        (IpAddr::V6(n), IpAddr::V6(a)) => (n.to_bits(), 128, a.to_bits()),
        _ => return false,
    };
    let host_bits = width - u32::min(length, width);
    bits.checked_shr(host_bits).unwrap_or(0) == other.checked_shr(host_bits).unwrap_or(0)
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("it is signed by another CA")]
    Ca,
    #[error("it is a host certificate")]
    HostType,
    #[error("its principals are {shown:?}, not {expected:?}")]
    Principal { shown: Vec<String>, expected: String },
    #[error("it is not valid now, or its signature is not")]
    NotValidNow,
    #[error("it is bound to {allowed}, and comes from {from}")]
    Source { from: IpAddr, allowed: String },
    #[error("it carries the critical option {0:?}, which nobody here knows")]
    Option(String),
}

#[cfg(test)]
mod tests {
    use russh::keys::ssh_key::certificate::Builder;
    use russh::keys::{Algorithm, PrivateKey};

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    fn key() -> PrivateKey {
        PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
    }

    /// A user's certificate as the bastion makes them, once `edit` has named a principal.
    fn shown_with(ca: &PrivateKey, edit: impl FnOnce(&mut Builder)) -> Certificate {
        shown_as(CertType::User, ca, edit)
    }

    fn shown_as(kind: CertType, ca: &PrivateKey, edit: impl FnOnce(&mut Builder)) -> Certificate {
        let mut builder = Builder::new(vec![1; 16], key().public_key(), 1_699_999_970, 1_700_000_120).unwrap();
        builder.cert_type(kind).unwrap();
        edit(&mut builder);
        builder.sign(ca).unwrap()
    }

    fn verdict(certificate: &Certificate, ca: &PrivateKey) -> Result<Allowed, Refused> {
        check(certificate, ca.public_key(), &"web-1".parse().unwrap(), "deploy", "127.0.0.1".parse().unwrap(), NOW)
    }

    #[test]
    fn one_principal_of_this_target_is_let_in() {
        let ca = key();
        let certificate = shown_with(&ca, |b| {
            b.valid_principal("deploy@web-1").unwrap();
            b.critical_option("source-address", "10.0.0.0/8,127.0.0.1/32").unwrap();
            b.critical_option("force-command", "uptime").unwrap();
        });
        assert_eq!(verdict(&certificate, &ca), Ok(Allowed { forced: Some("uptime".into()), pty: false }));
    }

    #[test]
    fn what_a_real_sshd_refuses_is_refused() {
        let ca = key();
        let ours = |b: &mut Builder| {
            b.valid_principal("deploy@web-1").unwrap();
        };
        assert_eq!(verdict(&shown_with(&key(), ours), &ca), Err(Refused::Ca), "another CA");
        let empty = shown_with(&ca, |b| {
            b.all_principals_valid().unwrap();
        });
        assert!(matches!(verdict(&empty, &ca), Err(Refused::Principal { .. })), "a golden ticket");
        for wrong in ["deploy", "deploy@db-1", "root@web-1"] {
            let other = shown_with(&ca, |b| {
                b.valid_principal(wrong).unwrap();
            });
            assert!(matches!(verdict(&other, &ca), Err(Refused::Principal { .. })), "{wrong}");
        }
        assert_eq!(verdict(&shown_as(CertType::Host, &ca, ours), &ca), Err(Refused::HostType));
        let bound = shown_with(&ca, |b| {
            ours(b);
            b.critical_option("source-address", "192.0.2.0/24").unwrap();
        });
        assert!(matches!(verdict(&bound, &ca), Err(Refused::Source { .. })));
        let unknown = shown_with(&ca, |b| {
            ours(b);
            b.critical_option("verify-required", "").unwrap();
        });
        assert_eq!(verdict(&unknown, &ca), Err(Refused::Option("verify-required".into())));
        let late = NOW.plus(std::time::Duration::from_secs(121));
        let certificate = shown_with(&ca, ours);
        let target = "web-1".parse().unwrap();
        assert_eq!(check(&certificate, ca.public_key(), &target, "deploy", "::1".parse().unwrap(), late), Err(Refused::NotValidNow));
    }

    #[test]
    fn an_address_block_holds_its_addresses_only() {
        for (block, address, holds) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("10.1.0.0/16", "10.1.255.3", true),
            ("10.1.0.0/16", "10.2.0.3", false),
            ("0.0.0.0/0", "10.2.0.3", true),
            ("2001:db8::/32", "2001:db8:1::7", true),
            ("2001:db8::/32", "127.0.0.1", false),
            ("10.0.0.0/x", "10.0.0.0", false),
        ] {
            assert_eq!(contains(block, address.parse().unwrap()), holds, "{block} {address}");
        }
    }
}
