//! The signed size and root of a log: a C2SP checkpoint inside of a C2SP signed note.
//!
//! A note reads as text, so that people can mail it and keep it: origin, size and root on a line each,
//! where the log was ever restored a fourth that says when last, an empty line, then signatures. Always true: a [`Checkpoint`] that came out of [`LogVerifier::verify`]
//! was signed by that key under its own name, in the only spelling there is. What is not known is refused.
//!
//! Sources: C2SP `signed-note` and `tlog-checkpoint`, v1.0.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::id::Digest;
use crate::time::Timestamp;

/// A note with one signature has about 250 bytes; witnesses add about 150 each.
pub const MAX_NOTE: usize = 4096;

/// Signatures by others (witnesses, companions) that a note may carry besides the log's own.
pub const MAX_OTHERS: usize = 16;

/// What a log says of itself: its first `size` rows have this root (RFC 6962, section 2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, `countersign/<bastion id>`; also the name of the key that signs it.
    pub origin: String,
    pub size: u64,
    pub root: Digest,
    /// When the log was restored for the last time: the `at_us` of its last `log.recovered`. An extension
    /// line, so that who keeps the note knows which going-back it has already come after.
    pub recovered: Option<Timestamp>,
}

/// What the extension line begins with.
const RECOVERED: &str = "recovered ";

impl Checkpoint {
    /// The lines that are signed, the last newline included.
    fn text(&self) -> String {
        let recovered = self.recovered.map(|at| format!("{RECOVERED}{}\n", at.micros())).unwrap_or_default();
        format!("{}\n{}\n{}\n{recovered}", self.origin, self.size, BASE64.encode(&self.root.0))
    }

    fn read(text: &str) -> Option<Self> {
        let (origin, rest) = text.split_once('\n')?;
        let (size, root) = rest.split_once('\n')?;
        let (root, extension) = root.split_once('\n')?;
        let root = BASE64.decode(root.as_bytes()).ok()?;
        let recovered = match extension {
            "" => None,
            line => Some(Timestamp::from_micros(line.strip_prefix(RECOVERED)?.strip_suffix('\n')?.parse().ok()?)),
        };
        let checkpoint = Self { origin: origin.to_owned(), size: size.parse().ok()?, root: Digest(root.try_into().ok()?), recovered };
        // Refuses `+5`, `05`, a line too many: whatever has a second spelling.
        (checkpoint.text() == text).then_some(checkpoint)
    }
}

/// Says that a text cannot name a key: it would not be found again in a note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a key's name: 1 to 200 visible ASCII characters without +")]
pub struct BadName(pub String);

/// The key that signs the checkpoints of one log. Its `Debug` shows the public half only.
#[derive(Clone)]
pub struct LogKey {
    name: String,
    key: SigningKey,
}

impl LogKey {
    /// Takes the name of the log, `countersign/<bastion id>`, and the Ed25519 seed (RFC 8032, section 5.1.5).
    pub fn new(name: String, seed: &[u8; 32]) -> Result<Self, BadName> {
        if is_own_name(&name) { Ok(Self { name, key: SigningKey::from_bytes(seed) }) } else { Err(BadName(name)) }
    }

    /// Returns the checkpoint of this key's log at a size and root, ready to be signed.
    pub fn checkpoint(&self, size: u64, root: Digest) -> Checkpoint {
        Checkpoint { origin: self.name.clone(), size, root, recovered: None }
    }

    /// Returns the whole note. One that names another origin than this key is refused by every reader.
    pub fn sign(&self, checkpoint: &Checkpoint) -> String {
        let text = checkpoint.text();
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        let hash = key_hash(&self.name, &self.key.verifying_key());
        format!("{text}\n— {} {}\n", self.name, BASE64.encode(&[&hash[..], &signature].concat()))
    }

    pub fn verifier(&self) -> LogVerifier {
        LogVerifier { name: self.name.clone(), key: self.key.verifying_key() }
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogKey({})", self.verifier())
    }
}

/// The public half of a [`LogKey`]; as text a C2SP verifier key: `name+hash+base64(0x01 || key)`.
#[derive(Clone, PartialEq, Eq)]
pub struct LogVerifier {
    name: String,
    key: VerifyingKey,
}

/// Says why a note is not a checkpoint of this log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadNote {
    #[error("the note is longer than {MAX_NOTE} bytes")]
    TooLong,
    #[error("the note has a control character")]
    Control,
    #[error("the note is not a text, an empty line and signatures")]
    Form,
    #[error("the note's text is not an origin, a size and a root")]
    Text,
    #[error("the note has more than {MAX_OTHERS} signatures by others")]
    TooMany,
    #[error("the note is not signed by this log's key")]
    Unsigned,
    #[error("the note's signature is wrong")]
    Signature,
    #[error("the note is of another log than its key")]
    Origin,
}

impl LogVerifier {
    /// The name of the log and of its key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a note whose signature by this key is good; those of others are left to those who know them.
    pub fn verify(&self, note: &str) -> Result<Checkpoint, BadNote> {
        if note.len() > MAX_NOTE {
            return Err(BadNote::TooLong);
        }
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return Err(BadNote::Control);
        }
        let end = note.find("\n\n").ok_or(BadNote::Form)? + 1;
        let (text, signatures) = note.split_at_checked(end).ok_or(BadNote::Form)?;
        let signatures = signatures.strip_prefix('\n').and_then(|s| s.strip_suffix('\n')).ok_or(BadNote::Form)?;
        self.verify_signatures(text, signatures)?;
        let checkpoint = Checkpoint::read(text).ok_or(BadNote::Text)?;
        if checkpoint.origin == self.name { Ok(checkpoint) } else { Err(BadNote::Origin) }
    }

    fn verify_signatures(&self, text: &str, lines: &str) -> Result<(), BadNote> {
        let hash = key_hash(&self.name, &self.key);
        let (mut own, mut others) = (0, 0);
        for line in lines.split('\n') {
            let (name, value) = line.strip_prefix("— ").and_then(|l| l.split_once(' ')).ok_or(BadNote::Form)?;
            let value = BASE64.decode(value.as_bytes()).map_err(|_| BadNote::Form)?;
            let (by, signature) = value.split_first_chunk::<4>().ok_or(BadNote::Form)?;
            if !is_name(name) || signature.is_empty() {
                return Err(BadNote::Form);
            }
            // The hash is four bytes: enough to find a key again, never enough to trust one.
            if name != self.name || *by != hash {
                others += 1;
                continue;
            }
            let signature = Signature::from_slice(signature).map_err(|_| BadNote::Signature)?;
            self.key.verify_strict(text.as_bytes(), &signature).map_err(|_| BadNote::Signature)?;
            own += 1;
        }
        if others > MAX_OTHERS {
            return Err(BadNote::TooMany);
        }
        if own > 0 { Ok(()) } else { Err(BadNote::Unsigned) }
    }
}

impl fmt::Display for LogVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64.encode(&[&[ED25519][..], self.key.as_bytes()].concat());
        f.pad(&format!("{}+{}+{key}", self.name, HEXLOWER.encode(&key_hash(&self.name, &self.key))))
    }
}

impl fmt::Debug for LogVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Says that a text is not the public key of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the public key of a log (NAME+8 hexadecimal digits+base 64)")]
pub struct BadVerifier;

impl FromStr for LogVerifier {
    type Err = BadVerifier;
    fn from_str(text: &str) -> Result<Self, BadVerifier> {
        let (name, rest) = text.split_once('+').ok_or(BadVerifier)?;
        // Base 64 has a + of its own: only the first two separate.
        let (_, key) = rest.split_once('+').ok_or(BadVerifier)?;
        let key = BASE64.decode(key.as_bytes()).map_err(|_| BadVerifier)?;
        let (_, key) = key.split_first().filter(|(kind, _)| **kind == ED25519).ok_or(BadVerifier)?;
        let key = VerifyingKey::try_from(key).map_err(|_| BadVerifier)?;
        let verifier = Self { name: name.to_owned(), key };
        // A weak key verifies signatures that nobody made. The hash and every spelling are compared at once.
        if is_own_name(name) && !key.is_weak() && verifier.to_string() == text { Ok(verifier) } else { Err(BadVerifier) }
    }
}

/// The signature type of Ed25519 (C2SP `signed-note`, "Signature types").
const ED25519: u8 = 1;

/// The first four bytes of SHA-256(name || 0x0A || 0x01 || key) (C2SP `signed-note`, "Key IDs").
fn key_hash(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let hash: [u8; 32] = Sha256::new().chain_update(name).chain_update([b'\n', ED25519]).chain_update(key.as_bytes()).finalize().into();
    let [a, b, c, d, ..] = hash;
    [a, b, c, d]
}

/// What C2SP `signed-note` lets a key be called.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c == '+')
}

/// Ours are printed on screens: nothing in them turns the direction of writing or looks like another name.
fn is_own_name(name: &str) -> bool {
    is_name(name) && name.len() <= 200 && name.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "countersign/b-7f3a";

    fn key(seed: u8) -> LogKey {
        LogKey::new(NAME.into(), &[seed; 32]).unwrap()
    }

    fn note() -> String {
        key(1).sign(&key(1).checkpoint(42, Digest([7; 32])))
    }

    #[test]
    fn what_is_signed_reads_back() {
        let note = note();
        assert!(
            note.starts_with("countersign/b-7f3a\n42\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n\n— countersign/b-7f3a "),
            "{note}"
        );
        assert_eq!(key(1).verifier().verify(&note), Ok(key(1).checkpoint(42, Digest([7; 32]))));
        assert_eq!(key(2).verifier().verify(&note), Err(BadNote::Unsigned));
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        let note = note().into_bytes();
        for at in 0..note.len() {
            for bit in 0..8 {
                let mut flipped = note.clone();
                flipped[at] ^= 1 << bit;
                let read = std::str::from_utf8(&flipped).map(|note| key(1).verifier().verify(note));
                assert!(!matches!(read, Ok(Ok(_))), "bit {bit} of byte {at}");
            }
            let cut = std::str::from_utf8(&note[..at]).map(|note| key(1).verifier().verify(note));
            assert!(!matches!(cut, Ok(Ok(_))), "cut at {at}");
        }
    }

    #[test]
    fn a_log_that_was_restored_says_so_in_every_note() {
        let after = Checkpoint { recovered: Some(Timestamp::from_micros(1_768_388_061_000_000)), ..key(1).checkpoint(43, Digest([7; 32])) };
        let note = key(1).sign(&after);
        assert!(note.contains("\nrecovered 1768388061000000\n\n"), "{note}");
        assert_eq!(key(1).verifier().verify(&note), Ok(after));
    }

    #[test]
    fn the_key_hash_is_that_of_the_specification() {
        // The public key of the seed of RFC 8032, section 7.1, test 1; the hash made with sha256sum.
        let seed = HEXLOWER.decode(b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let key = LogKey::new(NAME.into(), &seed.try_into().unwrap()).unwrap();
        let public = HEXLOWER.decode(b"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap();
        let hashed = Digest::of(&[NAME.as_bytes(), b"\n\x01", &public].concat());
        let vkey = key.verifier().to_string();
        assert_eq!(vkey, format!("{NAME}+{}+{}", &hashed.to_string()[..8], BASE64.encode(&[&[1], &public[..]].concat())));
        assert_eq!(vkey, "countersign/b-7f3a+d3363348+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea");
        assert_eq!(vkey.parse(), Ok(key.verifier()));
    }

    #[test]
    fn only_the_one_spelling_of_a_key_reads() {
        let good = key(1).verifier().to_string();
        let weak = LogVerifier {
            name: NAME.into(),
            key: VerifyingKey::from_bytes(&{
                let mut one = [0; 32];
                one[0] = 1;
                one
            })
            .unwrap(),
        };
        for bad in [
            "",
            "a",
            "a+b",
            "a+b+c",
            &good[1..],
            &good[..good.len() - 4],
            &format!("{good}\n"),
            &good.replacen("+", "+0", 1),
            &weak.to_string(),
        ] {
            assert!(bad.parse::<LogVerifier>().is_err(), "{bad:?}");
        }
        for bad in ["", "a b", "a+b", "a\u{202e}b", "a\nb", &"a".repeat(201)] {
            assert!(LogKey::new(bad.into(), &[1; 32]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn signatures_of_others_are_carried_but_only_so_many() {
        let other = format!("— witness.example/w1 {}\n", BASE64.encode(&[3; 76]));
        let with = |n| key(1).verifier().verify(&format!("{}{}", note(), other.repeat(n)));
        assert!(with(16).is_ok());
        assert_eq!(with(17), Err(BadNote::TooMany));
        assert_eq!(with(40), Err(BadNote::TooLong));
        let text = note().split_once("— ").unwrap().0.to_owned();
        assert_eq!(key(1).verifier().verify(&format!("{text}{other}")), Err(BadNote::Unsigned));
    }

    #[test]
    fn other_spellings_are_refused_even_when_signed() {
        let signed = |text: &str| {
            let value = [&key_hash(NAME, &key(1).key.verifying_key())[..], &key(1).key.sign(text.as_bytes()).to_bytes()].concat();
            key(1).verifier().verify(&format!("{text}\n— {NAME} {}\n", BASE64.encode(&value)))
        };
        let root = BASE64.encode(&[7; 32]);
        assert!(signed(&format!("{NAME}\n0\n{root}\n")).is_ok());
        for size in ["+1", "01", "-1", "1 ", "0x1", "18446744073709551616", "١"] {
            assert_eq!(signed(&format!("{NAME}\n{size}\n{root}\n")), Err(BadNote::Text), "{size:?}");
        }
        for root in [
            "Bw==",
            &root[..43],
            &BASE64.encode(&[7; 33]),
            &format!("{root}\nextension"),
            &format!("{root}\nrecovered 05"),
            &format!("{root}\nrecovered 5\nrecovered 6"),
        ] {
            assert_eq!(signed(&format!("{NAME}\n1\n{root}\n")), Err(BadNote::Text), "{root:?}");
        }
        assert_eq!(signed(&format!("countersign/b-other\n1\n{root}\n")), Err(BadNote::Origin));
        assert_eq!(signed(&format!("{NAME}\n1\n{root}\r\n")), Err(BadNote::Control));
    }
}
