//! The algorithms of both legs (design section 12), and names that russh keeps to itself.

use std::borrow::Cow;
use std::time::Duration;

use russh::keys::ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey};
use russh::{Limits, Preferred, Sig, cipher, compression, kex, mac};

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
/// AEAD only. As client our order decides: AES-128-GCM costs half of ChaCha20 (russh-notes).
const CIPHERS: &[cipher::Name] = &[cipher::AES_128_GCM, cipher::AES_256_GCM, cipher::CHACHA20_POLY1305];
/// Never used beside AEAD ciphers, but a list may not be empty.
const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];
/// None before authentication and none after: a compressed stream leaks and inflates (CVE-2026-46702).
const COMPRESSION: &[compression::Name] = &[compression::NONE];

const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    Algorithm::SkEd25519,
    Algorithm::SkEcdsaSha2NistP256,
];

fn preferred(key: Cow<'static, [Algorithm]>) -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key,
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(COMPRESSION),
    }
}

/// What we offer to clients.
pub fn facing_clients() -> Preferred {
    preferred(Cow::Borrowed(KEYS))
}

/// What we offer to one target: only host key algorithms that its pins can answer to, so that it shows
/// the key that we know and not another of its keys.
pub fn facing_target(host_keys: &[PublicKey], has_ca: bool) -> Preferred {
    let mut algorithms = Vec::new();
    for key in host_keys {
        match key.algorithm() {
            Algorithm::Rsa { .. } => {
                algorithms.push(Algorithm::Rsa { hash: Some(HashAlg::Sha512) });
                algorithms.push(Algorithm::Rsa { hash: Some(HashAlg::Sha256) });
            }
            other => algorithms.push(other),
        }
    }
    let certificates = if has_ca {
        KEYS.iter().filter(|a| !matches!(a, Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256)).cloned().collect()
    } else {
        Vec::new()
    };
    if algorithms.is_empty() {
        algorithms.push(Algorithm::Ed25519);
    }
    Preferred { host_key_certificates: Cow::Owned(certificates), ..preferred(Cow::Owned(algorithms)) }
}

/// Rekeying by volume only on both legs; RFC 4253 9 asks for a GiB or an hour, and a rekey during a stall
/// would wait for the stalled side.
pub fn limits() -> Limits {
    Limits::new(1 << 30, 1 << 30, Duration::from_secs(12 * 3600))
}

/// A signal's name without SIG (RFC 4254 6.10).
pub fn signal_name(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => name.clone(),
        named => format!("{named:?}"),
    }
}
