//! What a header says of an age file without any key: to how many recipients of which kind it is wrapped.
//!
//! The bastion cannot open what auditors hand it. It can see that it is an age file, that it is wrapped to
//! exactly as many age keys as were named, and to exactly the SSH keys that were named: their stanzas carry
//! four bytes of the key's SHA-256 (C2SP `age.md`, "ssh-ed25519"). What is inside only an auditor sees.

use sha2::{Digest as _, Sha256};

use super::{MAX_ENVELOPE, PublicKey, Recipient};

const INTRO: &str = "age-encryption.org/v1\n";
/// One base-64 line of a stanza's body; a shorter one ends it.
const COLUMNS: usize = 64;

/// Says what keeps a file from being addressed as was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAddressed {
    #[error("it is longer than {MAX_ENVELOPE} bytes")]
    Long,
    #[error("it is no age file")]
    NotAge,
    #[error("it is wrapped to {found} age keys, {expected} are named")]
    Count { found: usize, expected: usize },
    #[error("it is not wrapped to {0}")]
    Missing(String),
    #[error("it is wrapped to an SSH key that is not named")]
    Stranger,
    #[error("it is wrapped in a way that is not known here: {0}")]
    Kind(String),
    #[error("it holds {found} bytes, {expected} are expected")]
    Payload { found: usize, expected: usize },
}

impl Recipient {
    /// How people compare it: `SHA256:…` as `ssh-keygen -l` prints it, an age key as it is.
    pub fn fingerprint(&self) -> String {
        match &self.key {
            PublicKey::X25519(_) => self.text.clone(),
            PublicKey::Ssh(_) => format!("SHA256:{}", data_encoding::BASE64_NOPAD.encode(&self.ssh_sum())),
        }
    }

    fn ssh_sum(&self) -> [u8; 32] {
        let blob = self.text.split(' ').nth(1).and_then(|base64| data_encoding::BASE64.decode(base64.as_bytes()).ok());
        Sha256::digest(blob.unwrap_or_default()).into()
    }

    /// The first two words of its stanza, where these tell it from others.
    fn stanza(&self) -> Option<String> {
        match &self.key {
            PublicKey::X25519(_) => None,
            PublicKey::Ssh(_) => {
                let kind = self.text.split(' ').next().unwrap_or_default();
                let sum = self.ssh_sum();
                Some(format!("{kind} {}", data_encoding::BASE64_NOPAD.encode(sum.get(..4).unwrap_or_default())))
            }
        }
    }
}

/// Checks that an age file is wrapped to these recipients and to nobody else, and holds `payload` bytes.
pub fn addressed_to(file: &[u8], recipients: &[Recipient], payload: usize) -> Result<(), NotAddressed> {
    let header = Header::read(file)?;
    if header.payload != payload {
        return Err(NotAddressed::Payload { found: header.payload, expected: payload });
    }
    let expected = recipients.iter().filter(|recipient| recipient.stanza().is_none()).count();
    let found = header.stanzas.iter().filter(|stanza| stanza.starts_with("X25519 ")).count();
    if found != expected {
        return Err(NotAddressed::Count { found, expected });
    }
    let mut named: Vec<(String, &Recipient)> = recipients.iter().filter_map(|recipient| Some((recipient.stanza()?, recipient))).collect();
    for stanza in header.stanzas.iter().filter(|stanza| !stanza.starts_with("X25519 ")) {
        let mut words = stanza.split(' ');
        let (kind, tag) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match kind {
            "ssh-ed25519" | "ssh-rsa" => {
                let begins = format!("{kind} {tag}");
                let at = named.iter().position(|(stanza, _)| *stanza == begins).ok_or(NotAddressed::Stranger)?;
                named.swap_remove(at);
            }
            // The crate `age` adds one that means nothing, so that readers stay used to the unknown.
            kind if kind.ends_with("-grease") => {}
            kind => return Err(NotAddressed::Kind(kind.chars().take(40).collect())),
        }
    }
    match named.first() {
        Some((_, missing)) => Err(NotAddressed::Missing(missing.fingerprint())),
        None => Ok(()),
    }
}

/// Bytes that an age file's payload has inside, where it is a single chunk; `None` if it is no age file.
pub fn payload_of(file: &[u8]) -> Result<usize, NotAddressed> {
    Header::read(file).map(|header| header.payload)
}

struct Header {
    /// The first line of each stanza, without its arrow.
    stanzas: Vec<String>,
    /// Bytes of the payload without nonce and tag.
    payload: usize,
}

/// Nonce of the payload key, and the tag of its only chunk.
const AROUND: usize = 16 + 16;

impl Header {
    fn read(file: &[u8]) -> Result<Self, NotAddressed> {
        if file.len() > MAX_ENVELOPE {
            return Err(NotAddressed::Long);
        }
        let end = file.windows(5).position(|window| window == b"\n--- ").ok_or(NotAddressed::NotAge)?;
        let mac_from = end + 5;
        let rest = file.get(mac_from..).unwrap_or_default();
        let mac = rest.iter().position(|byte| *byte == b'\n').ok_or(NotAddressed::NotAge)?;
        let is_base64 = |text: &[u8]| data_encoding::BASE64_NOPAD.decode(text).is_ok();
        if !rest.get(..mac).is_some_and(|mac| mac.len() == 43 && is_base64(mac)) {
            return Err(NotAddressed::NotAge);
        }
        let payload = rest.len().checked_sub(mac + 1 + AROUND).ok_or(NotAddressed::NotAge)?;
        let head = file.get(..=end).and_then(|head| std::str::from_utf8(head).ok()).ok_or(NotAddressed::NotAge)?;
        let mut lines = head.strip_prefix(INTRO).ok_or(NotAddressed::NotAge)?.lines();
        let mut stanzas = Vec::new();
        while let Some(line) = lines.next() {
            stanzas.push(line.strip_prefix("-> ").ok_or(NotAddressed::NotAge)?.to_owned());
            loop {
                let body = lines.next().ok_or(NotAddressed::NotAge)?;
                if body.len() > COLUMNS || !is_base64(body.as_bytes()) {
                    return Err(NotAddressed::NotAge);
                }
                if body.len() < COLUMNS {
                    break;
                }
            }
        }
        Ok(Self { stanzas, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Identity, wrap};
    use super::*;
    use proptest::prelude::*;

    const CAROL: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBIbC8mXUGNEzmCwHbGkw2gPPXU2+nyTLAuhLwgWrLGJ";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPp0GZhyTEwHVkwSKiH+BU5yFHCvfKyKhHm4vUpzBEG";

    fn some() -> [Recipient; 3] {
        [Identity::generate().recipient().unwrap(), CAROL.parse().unwrap(), Identity::generate().recipient().unwrap()]
    }

    #[test]
    fn what_is_wrapped_to_exactly_these_is_addressed_to_them() {
        let recipients = some();
        // The crate adds its grease at random: more than once, so that some of it is seen.
        for _ in 0..20 {
            let file = wrap(b"a key", recipients.iter()).unwrap();
            assert_eq!(addressed_to(&file, &recipients, 5), Ok(()));
        }
    }

    #[test]
    fn one_too_few_too_many_or_another_is_named() {
        let recipients = some();
        let file = |to: &[Recipient]| wrap(b"a key", to.iter()).unwrap();
        let why = |to: &[Recipient]| addressed_to(&file(to), &recipients, 5).unwrap_err();
        assert_eq!(why(&recipients[..2]), NotAddressed::Count { found: 1, expected: 2 });
        let four = [recipients[0].clone(), recipients[1].clone(), recipients[2].clone(), Identity::generate().recipient().unwrap()];
        assert_eq!(why(&four), NotAddressed::Count { found: 3, expected: 2 });
        let other: Recipient = OTHER.parse().unwrap();
        assert_eq!(why(&[recipients[0].clone(), other.clone(), recipients[2].clone()]), NotAddressed::Stranger);
        assert_eq!(why(&[recipients[0].clone(), recipients[2].clone()]), NotAddressed::Missing(recipients[1].fingerprint()));
        assert_eq!(why(&[recipients.to_vec(), vec![recipients[1].clone()]].concat()), NotAddressed::Stranger);
        let whole = file(&recipients);
        assert_eq!(addressed_to(&whole, &recipients, 6), Err(NotAddressed::Payload { found: 5, expected: 6 }));
    }

    #[test]
    fn what_is_no_age_file_is_said_to_be_none() {
        let recipients = some();
        let whole = wrap(b"a key", recipients.iter()).unwrap();
        for junk in
            [&b""[..], b"hello", b"age-encryption.org/v1\n", b"age-encryption.org/v1\n--- x\n", &whole[..whole.len() / 2], &whole[1..]]
        {
            assert_eq!(addressed_to(junk, &recipients, 5), Err(NotAddressed::NotAge), "{:?}", String::from_utf8_lossy(junk));
        }
        assert_eq!(addressed_to(&vec![b'x'; MAX_ENVELOPE + 1], &recipients, 5), Err(NotAddressed::Long));
    }

    #[test]
    fn fingerprints_are_those_that_people_compare() {
        let carol: Recipient = CAROL.parse().unwrap();
        let said = carol.fingerprint();
        assert!(said.starts_with("SHA256:") && said.len() == 7 + 43, "{said}");
        let own = Identity::generate().recipient().unwrap();
        assert_eq!(own.fingerprint(), own.to_string());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(tail in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..700) {
            let recipients = some();
            let _ = addressed_to(&[INTRO.as_bytes(), &tail].concat(), &recipients, 5);
            let whole = wrap(b"a key", recipients.iter()).unwrap();
            let _ = addressed_to(whole.get(..cut.min(whole.len())).unwrap(), &recipients, 5);
        }
    }
}
