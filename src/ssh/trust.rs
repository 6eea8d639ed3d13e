//! Whether a host is the target: its key is pinned, or a pinned CA certifies it for one of the target's
//! names, now, as a host, with nothing in the certificate that we do not understand.
//!
//! russh has verified that the host holds the key it shows; everything else is checked here. What cannot
//! be checked is refused (OpenSSH's CVE-2025-26465 read an error as a yes).

use std::fmt;

use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::{Algorithm, Certificate, Fingerprint, HashAlg, public::KeyData};

use crate::access::Target;
use crate::time::Timestamp;

/// RSA below this is no key (section 12).
const MIN_RSA_BITS: u32 = 2048;

/// What a host showed instead of what is pinned, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    Key(Fingerprint),
    Revoked(Fingerprint),
    UserCertificate,
    OtherCa(Fingerprint),
    /// Seconds since 1970: from, to.
    NotNow(u64, u64),
    OtherNames(Vec<String>),
    CriticalOption(String),
    /// Its signature is not one, or one by SHA-1.
    Signature,
    WeakKey,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shown::Key(key) => write!(f, "{key}"),
            Shown::Revoked(key) => write!(f, "{key}, which is revoked"),
            Shown::UserCertificate => f.write_str("a certificate that is not a host's"),
            Shown::OtherCa(ca) => write!(f, "a certificate by {ca}"),
            Shown::NotNow(from, to) => write!(f, "a certificate that is valid {} to {} only", day(*from), day(*to)),
            Shown::OtherNames(names) if names.is_empty() => f.write_str("a certificate without a name"),
            Shown::OtherNames(names) => {
                let names: Vec<String> = names.iter().take(8).map(|name| crate::console::visible(name)).collect();
                write!(f, "a certificate for {:.400}", names.join(", "))
            }
            Shown::CriticalOption(name) => write!(f, "a certificate with the critical option {:.64}", crate::console::visible(name)),
            Shown::Signature => f.write_str("a certificate whose signature is no good"),
            Shown::WeakKey => f.write_str("a certificate of a weak key"),
        }
    }
}

fn day(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1_000_000));
    at.map_or("for ever".into(), |at| Timestamp::from_micros(at).utc().format("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// What is pinned, for people.
pub fn pinned(target: &Target) -> String {
    let keys = target.host_keys.iter().map(|key| key.fingerprint(HashAlg::Sha256).to_string());
    let cas = target.host_cas.iter().map(|ca| format!("host CA {}", ca.fingerprint(HashAlg::Sha256)));
    keys.chain(cas).collect::<Vec<_>>().join(" or ")
}

/// Says what is wrong, unless this host is the target.
pub fn trusts(target: &Target, shown: &PublicKeyOrCertificate, now: Timestamp) -> Result<(), Shown> {
    match shown {
        PublicKeyOrCertificate::PublicKey { key, .. } => {
            let fingerprint = key.fingerprint(HashAlg::Sha256);
            if target.entry.revoked.contains(&fingerprint.to_string()) {
                return Err(Shown::Revoked(fingerprint));
            }
            let pinned = target.host_keys.iter().any(|pin| pin.key_data() == key.key_data());
            if pinned { Ok(()) } else { Err(Shown::Key(fingerprint)) }
        }
        PublicKeyOrCertificate::Certificate(certificate) => certified(target, certificate, now),
    }
}

/// OpenSSH PROTOCOL.certkeys, and stricter: exact names only (no patterns, no certificate for everybody), no
/// critical option at all, none by SHA-1.
fn certified(target: &Target, certificate: &Certificate, now: Timestamp) -> Result<(), Shown> {
    let ca = certificate.signature_key().fingerprint(HashAlg::Sha256);
    if !target.host_cas.iter().any(|pin| pin.key_data() == certificate.signature_key()) {
        return Err(Shown::OtherCa(ca));
    }
    let key = certificate.public_key().fingerprint(HashAlg::Sha256);
    if let Some(revoked) = [ca, key].into_iter().find(|known| target.entry.revoked.contains(&known.to_string())) {
        return Err(Shown::Revoked(revoked));
    }
    let sha1 = matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None } | Algorithm::Dsa);
    if sha1 || certificate.verify_signature().is_err() {
        return Err(Shown::Signature);
    }
    if !certificate.cert_type().is_host() {
        return Err(Shown::UserCertificate);
    }
    if is_weak(certificate.public_key()) || is_weak(certificate.signature_key()) {
        return Err(Shown::WeakKey);
    }
    let seconds = u64::try_from(now.micros() / 1_000_000).unwrap_or(0);
    let (from, to) = (certificate.valid_after(), certificate.valid_before());
    if !(from <= seconds && seconds < to) {
        return Err(Shown::NotNow(from, to));
    }
    // Host names do not heed case. Where a pattern says which host, only the name that was asked tells it from
    // its siblings.
    let names = match target.entry.family {
        Some(_) => [target.id.to_string()].into(),
        None => target.names(),
    };
    if !certificate.valid_principals().iter().any(|name| names.contains(&name.to_ascii_lowercase())) {
        return Err(Shown::OtherNames(certificate.valid_principals().to_vec()));
    }
    match certificate.critical_options().iter().next() {
        Some((name, _)) => Err(Shown::CriticalOption(name.clone())),
        None => Ok(()),
    }
}

fn is_weak(key: &KeyData) -> bool {
    match key {
        KeyData::Rsa(rsa) => rsa.key_size() < MIN_RSA_BITS,
        KeyData::Dsa(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use russh::keys::ssh_key::PrivateKey;
    use russh::keys::ssh_key::certificate::{Builder, CertType};
    use russh::keys::ssh_key::private::Ed25519Keypair;

    use super::*;
    use crate::access::target::{Entry, PrincipalStyle};

    const NOW: i64 = 1_700_000_000;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
    }

    fn target() -> Target {
        Target {
            id: "web-1".parse().unwrap(),
            host: "Web-1.example.org".into(),
            port: 22,
            aliases: ["www".parse().unwrap()].into(),
            labels: Default::default(),
            logins: Vec::new(),
            host_keys: vec![key(1).public_key().clone()],
            host_cas: vec![key(2).public_key().clone()],
            principal: PrincipalStyle::LoginAtTarget,
            entry: Entry::default(),
        }
    }

    fn revoking(fingerprint: &Fingerprint) -> Target {
        Target { entry: Entry { revoked: Arc::new([fingerprint.to_string()].into()), ..Entry::default() }, ..target() }
    }

    /// A certificate for `names` by the pinned CA that is valid now; `change` spoils it.
    fn certificate(names: &[&str], ca: u8, change: impl FnOnce(&mut Builder)) -> PublicKeyOrCertificate {
        let from = u64::try_from(NOW).unwrap() - 60;
        let mut builder = Builder::new([1; 16], key(3).public_key(), from, from + 120).unwrap();
        change(&mut builder);
        // Setting a type twice fails: whoever changes it was first.
        let _ = builder.cert_type(CertType::Host);
        for name in names {
            builder.valid_principal(*name).unwrap();
        }
        PublicKeyOrCertificate::Certificate(builder.sign(&key(ca)).unwrap())
    }

    fn judged(target: &Target, shown: &PublicKeyOrCertificate, at: i64) -> Result<(), Shown> {
        trusts(target, shown, Timestamp::from_micros(at * 1_000_000))
    }

    #[test]
    fn one_of_the_targets_names_is_enough() {
        for name in ["web-1", "www", "web-1.example.org", "WEB-1.Example.org"] {
            assert_eq!(judged(&target(), &certificate(&["other", name], 2, |_| ()), NOW), Ok(()), "{name}");
        }
        for names in [&["db-1"][..], &["*"], &["web-*"], &["web-1.example.org.evil"]] {
            assert!(matches!(judged(&target(), &certificate(names, 2, |_| ()), NOW), Err(Shown::OtherNames(_))), "{names:?}");
        }
        let golden = certificate(&[], 2, |builder| drop(builder.all_principals_valid()));
        assert_eq!(judged(&target(), &golden, NOW), Err(Shown::OtherNames(vec![])), "a certificate for everybody is for nobody");
    }

    #[test]
    fn everything_else_has_to_fit_too() {
        let good = || certificate(&["web-1"], 2, |_| ());
        assert!(matches!(judged(&target(), &certificate(&["web-1"], 9, |_| ()), NOW), Err(Shown::OtherCa(_))));
        for at in [NOW - 61, NOW + 60] {
            assert!(matches!(judged(&target(), &good(), at), Err(Shown::NotNow(..))), "{at}");
        }
        assert_eq!(judged(&target(), &good(), NOW + 59), Ok(()));
        let user = certificate(&["web-1"], 2, |builder| drop(builder.cert_type(CertType::User)));
        assert_eq!(judged(&target(), &user, NOW), Err(Shown::UserCertificate));
        let critical = certificate(&["web-1"], 2, |builder| drop(builder.critical_option("force-command", "x")));
        assert_eq!(judged(&target(), &critical, NOW), Err(Shown::CriticalOption("force-command".into())));
        for revoked in [2, 3] {
            let fingerprint = key(revoked).public_key().fingerprint(HashAlg::Sha256);
            let target = revoking(&fingerprint);
            assert_eq!(judged(&target, &good(), NOW), Err(Shown::Revoked(fingerprint)));
        }
    }

    #[test]
    fn a_plain_key_is_the_pinned_one() {
        let plain = |seed| PublicKeyOrCertificate::PublicKey { key: key(seed).public_key().clone(), hash_alg: None };
        assert_eq!(judged(&target(), &plain(1), NOW), Ok(()));
        assert!(matches!(judged(&target(), &plain(3), NOW), Err(Shown::Key(_))), "the CA's word for it is missing");
        assert!(matches!(judged(&target(), &plain(2), NOW), Err(Shown::Key(_))), "a CA is no host");
        let fingerprint = key(1).public_key().fingerprint(HashAlg::Sha256);
        let target = revoking(&fingerprint);
        assert_eq!(judged(&target, &plain(1), NOW), Err(Shown::Revoked(fingerprint)));
    }
}
