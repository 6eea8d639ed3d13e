//! Who is at the other end. The only place that makes a `VerifiedKey`: from the callbacks that russh calls
//! after it has verified the signature over the session identifier.

use russh::keys::ssh_key::{Algorithm, Certificate};
use russh::server::VerifiedPublicKey;

use crate::access::VerifiedKey;

/// Refuses `ssh-rsa` signatures: SHA-1 (RFC 8332). The algorithm is the one announced, which russh holds
/// the signature to.
pub fn is_acceptable(algorithm: &Algorithm) -> bool {
    matches!(
        algorithm,
        Algorithm::Ed25519
            | Algorithm::Ecdsa { .. }
            | Algorithm::Rsa { hash: Some(_) }
            | Algorithm::SkEd25519
            | Algorithm::SkEcdsaSha2NistP256
    )
}

/// The key that has signed, if we take its kind.
pub fn verified(key: &VerifiedPublicKey<'_>) -> Option<VerifiedKey> {
    is_acceptable(key.algorithm).then(|| VerifiedKey::proven(key.public_key.clone()))
}

/// The certificate whose subject key has signed.
pub fn certified(certificate: &Certificate) -> VerifiedKey {
    VerifiedKey::certified(certificate.clone())
}
