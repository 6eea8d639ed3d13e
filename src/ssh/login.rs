//! Who is at the other end. The only place that makes a `VerifiedKey`: from the callback that russh calls
//! after it has verified the signature over the session identifier.

use std::net::IpAddr;

use russh::keys::ssh_key::Algorithm;
use russh::server::VerifiedPublicKey;

use crate::access::people::People;
use crate::access::{Principal, VerifiedKey};

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

/// Names the person whose key has signed, if anybody's.
pub fn identify(people: &People, key: &VerifiedPublicKey<'_>, source: IpAddr) -> Option<Principal> {
    if !is_acceptable(key.algorithm) {
        return None;
    }
    Principal::identify(people, VerifiedKey::proven(key.public_key.clone()), source)
}
