//! Small age files in memory: how a key is handed to auditors, and how an auditor gets it back.
//!
//! The format is age v1 (C2SP `age.md`), by the crate `age`; stock `age -d -i KEY` opens what is wrapped
//! here. Recipients are age's own X25519 keys and `ssh-ed25519` or `ssh-rsa` keys; what age cannot serve is
//! refused when it is read, not when a recording has to be sealed.

mod stanzas;

use std::fmt;
use std::io::{BufReader, Read, Seek, Write};
use std::str::FromStr;

use age::secrecy::ExposeSecret;
use zeroize::Zeroizing;

pub use stanzas::{NotAddressed, addressed_to, payload_of};

/// No envelope is longer, sealed or open: a key and some hundred recipients.
pub const MAX_ENVELOPE: usize = 64 * 1024;

/// The longest text of a key that is looked at; a certificate or a key of 16384 bits is shorter.
const MAX_KEY_TEXT: usize = 16 * 1024;

/// Somebody whom an envelope can be addressed to.
#[derive(Clone)]
pub struct Recipient {
    text: String,
    key: PublicKey,
}

#[derive(Clone)]
enum PublicKey {
    X25519(age::x25519::Recipient),
    Ssh(age::ssh::Recipient),
}

/// Says why a text is no recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotARecipient {
    #[error("it is neither an age key (age1…) nor an OpenSSH public key")]
    Unknown,
    #[error("it is a private key; write its public half")]
    Private,
    #[error("{0} keys sign, but nothing can be encrypted to them; make one with ssh-keygen -t ed25519 or age-keygen")]
    Unsupported(String),
    #[error("it is the key of an age plugin; plugins are not run here: write an age1… key of age-keygen, or an SSH key")]
    Plugin,
    #[error("it is a certificate; write the plain public key")]
    Certificate,
    #[error("the RSA key is too small or too large; 2048 to 4096 bits, or make one with ssh-keygen -t ed25519")]
    RsaSize,
    #[error("it is longer than {MAX_KEY_TEXT} bytes")]
    Long,
}

impl FromStr for Recipient {
    type Err = NotARecipient;

    fn from_str(text: &str) -> Result<Self, NotARecipient> {
        if text.len() > MAX_KEY_TEXT {
            return Err(NotARecipient::Long);
        }
        let text = text.trim();
        if text.starts_with("AGE-SECRET-KEY-") || text.contains("PRIVATE KEY") {
            return Err(NotARecipient::Private);
        }
        if text.starts_with("age1") {
            let key = text.parse().map_err(|_| {
                // A plugin's key is bech32 with a longer name: age1yubikey1…
                if text.matches('1').count() > 1 && !text.starts_with("age1q") { NotARecipient::Plugin } else { NotARecipient::Unknown }
            })?;
            return Ok(Self { text: text.to_owned(), key: PublicKey::X25519(key) });
        }
        let mut words = text.split_ascii_whitespace();
        let (Some(kind), Some(data)) = (words.next(), words.next()) else { return Err(NotARecipient::Unknown) };
        if kind.contains("-cert-v01") {
            return Err(NotARecipient::Certificate);
        }
        if kind.starts_with("sk-") || kind.starts_with("ecdsa-") || kind == "ssh-dss" {
            return Err(NotARecipient::Unsupported(kind.to_owned()));
        }
        let bare = format!("{kind} {data}");
        let key = bare.parse().map_err(|error| match error {
            age::ssh::ParseRecipientKeyError::RsaModulusTooLarge | age::ssh::ParseRecipientKeyError::RsaModulusTooSmall => {
                NotARecipient::RsaSize
            }
            age::ssh::ParseRecipientKeyError::Unsupported(kind) => NotARecipient::Unsupported(kind.chars().take(40).collect()),
            age::ssh::ParseRecipientKeyError::Ignore | age::ssh::ParseRecipientKeyError::Invalid(_) => NotARecipient::Unknown,
        })?;
        Ok(Self { text: bare, key: PublicKey::Ssh(key) })
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.text)
    }
}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Recipient {}

impl Recipient {
    fn age(&self) -> &dyn age::Recipient {
        match &self.key {
            PublicKey::X25519(key) => key,
            PublicKey::Ssh(key) => key,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum WrapError {
    #[error("there is nobody to encrypt to")]
    Nobody,
    #[error("age could not encrypt")]
    Age(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("it is longer than {MAX_ENVELOPE} bytes")]
    Long,
    #[error("it is not for this key")]
    NotForThisKey,
    #[error("it is not an age file, or was changed: {0}")]
    Bad(String),
}

/// Encrypts a few bytes to all of `to`.
pub fn wrap<'a>(plain: &[u8], to: impl Iterator<Item = &'a Recipient>) -> Result<Vec<u8>, WrapError> {
    let mut recipients = to.peekable();
    if recipients.peek().is_none() {
        return Err(WrapError::Nobody);
    }
    let age = |error: Box<dyn std::error::Error + Send + Sync>| WrapError::Age(error);
    let encryptor = age::Encryptor::with_recipients(recipients.map(Recipient::age)).map_err(|e| age(e.into()))?;
    let mut wrapped = Vec::new();
    let mut writer = encryptor.wrap_output(&mut wrapped).map_err(|e| age(e.into()))?;
    writer.write_all(plain).and_then(|()| writer.finish().map(drop)).map_err(|e| age(e.into()))?;
    Ok(wrapped)
}

/// Encrypts a stream to one recipient; `finish` has to be called, else what was written does not open.
pub fn encrypting<W: Write>(to: &Recipient, out: W) -> std::io::Result<age::stream::StreamWriter<W>> {
    age::Encryptor::with_recipients(std::iter::once(to.age())).map_err(std::io::Error::other)?.wrap_output(out)
}

/// The longest header of a body: one recipient takes some 200 bytes.
const MAX_HEADER: usize = 4096;

/// Decrypts a stream that [`encrypting`] made; it can be sought in.
pub fn decrypting<R: Read + Seek>(from: R, with: &Identity) -> Result<age::stream::StreamReader<BufReader<R>>, OpenError> {
    let mut from = BufReader::with_capacity(2 * 64 * 1024, from);
    let io = |e: std::io::Error| OpenError::Bad(e.to_string());
    // The header is looked for in a bounded part, since age would read it whatever its length.
    let mut head = Vec::new();
    from.by_ref().take(MAX_HEADER as u64).read_to_end(&mut head).map_err(io)?;
    if !head.windows(5).any(|window| window == b"\n--- ") {
        return Err(OpenError::Bad("it has no age header".into()));
    }
    from.rewind().map_err(io)?;
    let decryptor = age::Decryptor::new_buffered(from).map_err(|e| OpenError::Bad(e.to_string()))?;
    decryptor.decrypt(std::iter::once(with.age())).map_err(|e| match e {
        age::DecryptError::NoMatchingKeys => OpenError::NotForThisKey,
        e => OpenError::Bad(e.to_string()),
    })
}

/// Decrypts what [`wrap`] made; total and bounded.
pub fn open(wrapped: &[u8], with: &Identity) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    if wrapped.len() > MAX_ENVELOPE {
        return Err(OpenError::Long);
    }
    let bad = |e: &dyn fmt::Display| OpenError::Bad(e.to_string());
    let decryptor = age::Decryptor::new_buffered(wrapped).map_err(|e| bad(&e))?;
    let reader = decryptor.decrypt(std::iter::once(with.age())).map_err(|e| match e {
        age::DecryptError::NoMatchingKeys => OpenError::NotForThisKey,
        e => bad(&e),
    })?;
    let mut plain = Zeroizing::new(Vec::with_capacity(wrapped.len()));
    reader.take(MAX_ENVELOPE as u64).read_to_end(&mut plain).map_err(|e| bad(&e))?;
    Ok(plain)
}

/// A private key that opens envelopes.
#[derive(Clone)]
pub enum Identity {
    X25519(age::x25519::Identity),
    Ssh(Box<age::ssh::Identity>),
}

/// Says why a text is no key that can decrypt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnIdentity {
    #[error("it is neither an age secret key nor an OpenSSH private key")]
    Unknown,
    #[error("it has a passphrase")]
    Locked,
    #[error("a key of this kind signs, but cannot decrypt")]
    Unsupported,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// Makes a new one from the operating system's random numbers.
    pub fn generate() -> Self {
        Identity::X25519(age::x25519::Identity::generate())
    }

    /// Reads a key file: age's (comments allowed), or an OpenSSH private key without a passphrase.
    pub fn parse(text: &str) -> Result<Self, NotAnIdentity> {
        if text.contains("PRIVATE KEY-----") {
            return match age::ssh::Identity::from_buffer(text.as_bytes(), None) {
                Ok(identity @ age::ssh::Identity::Unencrypted(_)) => Ok(Identity::Ssh(Box::new(identity))),
                Ok(age::ssh::Identity::Encrypted(_)) => Err(NotAnIdentity::Locked),
                Ok(age::ssh::Identity::Unsupported(_)) => Err(NotAnIdentity::Unsupported),
                Err(_) => Err(NotAnIdentity::Unknown),
            };
        }
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        match (lines.next(), lines.next()) {
            (Some(line), None) => line.parse().map(Identity::X25519).map_err(|_| NotAnIdentity::Unknown),
            _ => Err(NotAnIdentity::Unknown),
        }
    }

    /// The public half, where this is an age key.
    pub fn recipient(&self) -> Option<Recipient> {
        match self {
            Identity::X25519(key) => {
                let public = key.to_public();
                Some(Recipient { text: public.to_string(), key: PublicKey::X25519(public) })
            }
            Identity::Ssh(_) => None,
        }
    }

    /// The text that age reads back, where this is an age key: one line, `AGE-SECRET-KEY-1…`.
    pub fn secret(&self) -> Option<Zeroizing<String>> {
        match self {
            Identity::X25519(key) => Some(Zeroizing::new(format!("{}\n", key.to_string().expose_secret()))),
            Identity::Ssh(_) => None,
        }
    }

    pub fn age(&self) -> &dyn age::Identity {
        match self {
            Identity::X25519(key) => key,
            Identity::Ssh(key) => key.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBIbC8mXUGNEzmCwHbGkw2gPPXU2+nyTLAuhLwgWrLGJ carol@laptop";

    #[test]
    fn what_age_cannot_serve_is_refused_with_the_reason() {
        let why = |text: &str| text.parse::<Recipient>().unwrap_err();
        assert!(matches!(why("sk-ssh-ed25519@openssh.com AAAA x"), NotARecipient::Unsupported(_)));
        assert!(matches!(why("ecdsa-sha2-nistp256 AAAA x"), NotARecipient::Unsupported(_)));
        assert_eq!(why("age1yubikey1q2w7u3vpya839jxxuq8g0sedh3d740d4xvn639sqhr95ejj8vu3hyfumptt"), NotARecipient::Plugin);
        assert_eq!(why("ssh-ed25519-cert-v01@openssh.com AAAA x"), NotARecipient::Certificate);
        assert_eq!(why("AGE-SECRET-KEY-1QQQ"), NotARecipient::Private);
        assert_eq!(why("-----BEGIN OPENSSH PRIVATE KEY-----"), NotARecipient::Private);
        assert_eq!(why(&"x".repeat(MAX_KEY_TEXT + 1)), NotARecipient::Long);
        for junk in ["", "age1", "age1qqqq", "ssh-ed25519", "ssh-ed25519 AAAA", "hello world"] {
            assert_eq!(why(junk), NotARecipient::Unknown, "{junk:?}");
        }
    }

    #[test]
    fn a_recipient_keeps_the_key_and_not_the_comment() {
        let recipient: Recipient = ED25519.parse().unwrap();
        assert_eq!(recipient.to_string(), ED25519.rsplit_once(' ').unwrap().0);
    }

    #[test]
    fn every_recipient_opens_and_nobody_else() {
        let (one, two, other) = (Identity::generate(), Identity::generate(), Identity::generate());
        let to = [one.recipient().unwrap(), two.recipient().unwrap(), ED25519.parse().unwrap()];
        let wrapped = wrap(b"a key", to.iter()).unwrap();
        for identity in [&one, &two] {
            assert_eq!(open(&wrapped, identity).unwrap().as_slice(), b"a key");
        }
        assert!(matches!(open(&wrapped, &other), Err(OpenError::NotForThisKey)));
        assert!(matches!(wrap(b"a key", [].iter()), Err(WrapError::Nobody)));
    }

    #[test]
    fn a_flipped_byte_anywhere_opens_nothing() {
        let identity = Identity::generate();
        let wrapped = wrap(b"a key", [identity.recipient().unwrap()].iter()).unwrap();
        for at in 0..wrapped.len() {
            let mut flipped = wrapped.clone();
            flipped[at] ^= 1;
            assert!(open(&flipped, &identity).is_err(), "byte {at}");
        }
    }

    #[test]
    fn an_age_key_survives_its_text_and_a_locked_key_is_named() {
        let identity = Identity::generate();
        let text = format!("# created today\n# public key: {}\n{}", identity.recipient().unwrap(), identity.secret().unwrap().as_str());
        let again = Identity::parse(&text).unwrap();
        assert_eq!(again.recipient(), identity.recipient());
        assert_eq!(Identity::parse("AGE-SECRET-KEY-1").unwrap_err(), NotAnIdentity::Unknown);
        assert_eq!(Identity::parse("").unwrap_err(), NotAnIdentity::Unknown);
    }
}
