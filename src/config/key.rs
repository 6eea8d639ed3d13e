//! Public keys as files give them, judged before they are parsed.
//!
//! ssh-key 0.7.0-rc.11 recurses without limit on nested certificates, so that one line could end the
//! process: nothing beyond 16 KiB and nothing of a certificate's type reaches it, neither by the word in
//! front nor by the name inside. Weak keys (DSA, RSA below 2048 bits) are no keys.

use data_encoding::BASE64;
use russh::keys::ssh_key::{Algorithm, PublicKey};

/// The longest public key line.
pub const MAX_KEY: usize = 16 * 1024;
const MIN_RSA_BITS: u32 = 2048;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error("the key is longer than {MAX_KEY} bytes")]
    TooLong,
    #[error("this is a certificate, not a key")]
    Certificate,
    #[error("this is a private key")]
    Private,
    #[error("this is not a public key: {0}")]
    Form(String),
    #[error("the key says {outside} outside and something else inside")]
    Disagrees { outside: String },
    #[error("{0} keys are not accepted")]
    Algorithm(String),
    #[error("this RSA key has {0} bits")]
    Short(u32),
}

impl BadKey {
    /// What to do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            BadKey::TooLong | BadKey::Form(_) | BadKey::Disagrees { .. } => "paste the one line of the .pub file",
            BadKey::Certificate => "use the key that the certificate was made for (its .pub file)",
            BadKey::Private => "remove it, make a new pair, and paste the .pub file instead",
            BadKey::Algorithm(_) => "use an ed25519, sk-ssh-ed25519, ecdsa or rsa (2048 bits or more) key",
            BadKey::Short(_) => "use 2048 bits or more, or better an ed25519 key",
        }
    }
}

/// Reads one line as `ssh-keygen` writes it: type, base64, comment.
pub fn parse_public_key(text: &str) -> Result<PublicKey, BadKey> {
    if text.len() > MAX_KEY {
        return Err(BadKey::TooLong);
    }
    if text.contains("PRIVATE KEY") {
        return Err(BadKey::Private);
    }
    let text = text.trim();
    if text.contains(char::is_control) {
        return Err(BadKey::Form("it has more than one line".into()));
    }
    let mut parts = text.splitn(3, ' ');
    let (Some(outside), Some(base64)) = (parts.next(), parts.next()) else {
        return Err(BadKey::Form("it needs a type and the key in base64".into()));
    };
    let blob = BASE64.decode(base64.as_bytes()).map_err(|_| BadKey::Form("its second word is not base64".into()))?;
    let inside = algorithm_of(&blob).ok_or_else(|| BadKey::Form("it does not begin with the name of an algorithm".into()))?;
    if is_certificate(outside.as_bytes()) || is_certificate(inside) {
        return Err(BadKey::Certificate);
    }
    if inside != outside.as_bytes() {
        return Err(BadKey::Disagrees { outside: outside.chars().take(48).collect() });
    }
    let key = PublicKey::from_openssh(text).map_err(|error| BadKey::Form(error.to_string()))?;
    match key.algorithm() {
        Algorithm::Rsa { .. } => match key.key_data().rsa().map_or(0, |rsa| rsa.key_size()) {
            bits if bits < MIN_RSA_BITS => Err(BadKey::Short(bits)),
            _ => Ok(key),
        },
        Algorithm::Ed25519 | Algorithm::SkEd25519 | Algorithm::Ecdsa { .. } | Algorithm::SkEcdsaSha2NistP256 => Ok(key),
        other => Err(BadKey::Algorithm(other.as_str().to_owned())),
    }
}

/// The first string of a key blob (RFC 4253 section 6.6).
fn algorithm_of(blob: &[u8]) -> Option<&[u8]> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// Whether this names a certificate's type, such as `ssh-ed25519-cert-v01@openssh.com`.
fn is_certificate(algorithm: &[u8]) -> bool {
    algorithm.windows(5).any(|part| part == b"-cert")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPp0GZhyTEwHVkwSKiH+BU5yFHCvfKyKhHm4vUpzBEG alice@laptop";

    fn line(outside: &str, inside: &str, rest: &[u8]) -> String {
        let mut blob = u32::try_from(inside.len()).unwrap().to_be_bytes().to_vec();
        blob.extend(inside.as_bytes());
        blob.extend(rest);
        format!("{outside} {}", BASE64.encode(&blob))
    }

    #[test]
    fn hostile_keys_are_refused_before_they_are_parsed() {
        let cert = "ssh-ed25519-cert-v01@openssh.com";
        assert_eq!(parse_public_key(&line(cert, cert, &[0; 64])), Err(BadKey::Certificate));
        assert_eq!(parse_public_key(&line("ssh-ed25519", cert, &[0; 64])), Err(BadKey::Certificate), "a certificate in disguise");
        assert_eq!(parse_public_key(&line(cert, "ssh-ed25519", &[0; 36])), Err(BadKey::Certificate));
        assert_eq!(parse_public_key(&"A".repeat(MAX_KEY + 1)), Err(BadKey::TooLong));
        assert_eq!(parse_public_key("-----BEGIN OPENSSH PRIVATE KEY-----"), Err(BadKey::Private));
        assert!(matches!(parse_public_key(&line("ssh-rsa", "ssh-ed25519", &[0; 36])), Err(BadKey::Disagrees { .. })));
        assert!(matches!(parse_public_key(&format!("{GOOD}\n{GOOD}")), Err(BadKey::Form(_))));
        assert!(matches!(parse_public_key(&format!("command=\"x\" {GOOD}")), Err(BadKey::Form(_))), "options have no meaning here");
        for bad in ["", "ssh-ed25519", "ssh-ed25519 !!!", "ssh-ed25519 AAAA", "ssh-ed25519 /////w=="] {
            assert!(matches!(parse_public_key(bad), Err(BadKey::Form(_))), "{bad:?}");
        }
        assert!(parse_public_key(GOOD).is_ok());
    }

    /// However deep a certificate nests, and whatever it is called outside, it is not parsed.
    #[test]
    fn nested_certificates_and_keys_of_any_length_are_refused() {
        let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
        let mut blob = [string(b"ssh-ed25519"), string(&[1; 32])].concat();
        for depth in 1..=2000 {
            let head = [string(b"ssh-ed25519-cert-v01@openssh.com"), string(&[2; 16]), string(&[3; 32])].concat();
            blob =
                [head, vec![0; 12], string(b"id"), string(b""), vec![0; 16], string(b""), string(b""), string(b""), string(&blob)].concat();
            if [1, 2, 8, 9, 60, 200, 2000].contains(&depth) {
                for outside in ["ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519", "ssh-rsa"] {
                    let refused = parse_public_key(&format!("{outside} {}", BASE64.encode(&blob)));
                    assert!(matches!(refused, Err(BadKey::Certificate | BadKey::TooLong)), "{depth}: {refused:?}");
                }
            }
        }
        for length in (0..=40).filter(|length| *length != 32) {
            let refused = parse_public_key(&line("ssh-ed25519", "ssh-ed25519", &string(&vec![7; length])));
            assert!(matches!(refused, Err(BadKey::Form(_))), "{length}: {refused:?}");
        }
    }

    #[test]
    fn weak_keys_are_refused() {
        let mut small = vec![0, 0, 0, 3, 1, 0, 1, 0, 0, 0, 129, 0];
        small.extend([0xff; 128]);
        assert_eq!(parse_public_key(&line("ssh-rsa", "ssh-rsa", &small)), Err(BadKey::Short(1024)));
        let number = [&[0, 0, 0, 128][..], &[0x7f; 128]].concat();
        let dsa = [number.clone(), [&[0, 0, 0, 20][..], &[0x7f; 20]].concat(), number.clone(), number].concat();
        let refused = parse_public_key(&line("ssh-dss", "ssh-dss", &dsa));
        assert!(matches!(refused, Err(BadKey::Algorithm(_) | BadKey::Form(_))), "{refused:?}");
        let unknown = parse_public_key(&line("ssh-tomorrow@example.org", "ssh-tomorrow@example.org", &[0, 0, 0, 0]));
        assert!(matches!(unknown, Err(BadKey::Algorithm(_) | BadKey::Form(_))), "{unknown:?}");
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(kind in "[a-z0-9@.-]{0,40}", blob in prop::collection::vec(any::<u8>(), 0..200), tail in "\\PC{0,20}") {
            let _ = parse_public_key(&format!("{kind} {} {tail}", BASE64.encode(&blob)));
            let _ = parse_public_key(&line("ssh-rsa", "ssh-rsa", &blob));
            let _ = parse_public_key(&line(&kind, &kind, &blob));
        }
    }
}
