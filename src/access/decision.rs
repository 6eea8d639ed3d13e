//! What an approver says, as bytes that they sign (SSHSIG, OpenSSH PROTOCOL.sshsig).
//!
//! Checked here: namespace, hash, form, that the key is one of the approver's, that it says what it is
//! stored as. A soft signature can be minted by whoever holds a forwarded agent; `Level::Touch` asks
//! for a key whose user-presence flag says that a hand was there.

use std::time::Duration;

use russh::keys::ssh_key::{Algorithm, HashAlg, PublicKey, SshSig};
use serde::{Deserialize, Serialize};

use super::canonical::{self, NotCanonical};
use crate::id::{Digest, Person};
use crate::time::Timestamp;

pub use super::granted::GrantedTerms;

pub const NAMESPACE: &str = "countersign-decision-v1";
pub const VERSION: u64 = 1;
/// How far the signer's clock may be from ours.
pub const CLOCK_SLACK: Duration = Duration::from_secs(120);
/// No SSHSIG is parsed beyond this; nested certificates recurse without limit in ssh-key 0.7.0-rc.11.
pub const MAX_SIGNATURE: usize = 16 * 1024;
pub const MAX_NOTE: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Approve,
    Deny,
}

/// The document that is signed. One signature may decide many requests; each one's proof holds the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionDocument {
    pub v: u64,
    /// Always `decision`.
    pub kind: String,
    pub bastion: String,
    /// SHA-256 of each request's bytes, sorted, 1 to 500.
    pub requests: Vec<Digest>,
    pub verdict: Verdict,
    /// Only with `approve`.
    pub terms: Option<GrantedTerms>,
    pub note: String,
    pub approver: Person,
    /// `SHA256:…` of the signing key.
    pub key: String,
    /// The signer's clock.
    pub time_us: u64,
}

impl DecisionDocument {
    pub fn bytes(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    pub fn read(bytes: &[u8]) -> Result<Self, BadDecision> {
        let document: Self = canonical::decode(bytes)?;
        let sorted = document.requests.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        let terms_fit = document.terms.is_some() == (document.verdict == Verdict::Approve)
            && document.terms.as_ref().is_none_or(GrantedTerms::is_well_formed);
        if document.v != VERSION || document.kind != "decision" {
            Err(BadDecision::Kind(document.v, document.kind))
        } else if document.requests.is_empty() || document.requests.len() > 500 || !sorted {
            Err(BadDecision::Requests)
        } else if !terms_fit {
            Err(BadDecision::Terms)
        } else if document.note.len() > MAX_NOTE {
            Err(BadDecision::Note)
        } else {
            Ok(document)
        }
    }

    pub fn time(&self) -> Timestamp {
        Timestamp::from_micros(i64::try_from(self.time_us).unwrap_or(i64::MAX))
    }
}

/// How sure we are of who decided, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Said on an authenticated connection, with the matching code; unsigned, outside the claim of proof.
    Connection,
    /// Signed with one of the approver's keys.
    Key,
    /// Signed with a hardware key that was touched.
    Touch,
    /// The same, and the key checked who touched it: a PIN or a finger.
    Verified,
}

impl Level {
    pub const ALL: [Level; 4] = [Level::Connection, Level::Key, Level::Touch, Level::Verified];

    pub fn as_str(self) -> &'static str {
        match self {
            Level::Connection => "connection",
            Level::Key => "key",
            Level::Touch => "touch",
            Level::Verified => "verified",
        }
    }

    /// What a decision has to be, as people read it: `a decision signed with a security key that is touched`.
    pub fn words(self) -> &'static str {
        match self {
            Level::Connection => "a decision",
            Level::Key => "a signed decision",
            Level::Touch => "a decision signed with a security key (sk-…) that is touched",
            Level::Verified => "a decision signed with a security key (sk-…) that asks for its PIN or a finger",
        }
    }
}

/// A decision whose signature was verified against one of the approver's keys. Made here only.
#[derive(Debug, Clone)]
pub struct SignedDecision {
    document: DecisionDocument,
    bytes: Vec<u8>,
    signature: String,
    key: PublicKey,
    level: Level,
}

impl SignedDecision {
    /// Verifies `signature` (SSHSIG, PEM) over `bytes`.
    ///
    /// `approver` is the person authenticated on the connection that brings it, `keys` theirs, `now`
    /// when it came. Follows OpenSSH's PROTOCOL.sshsig; `ssh-keygen -Y verify -n countersign-decision-v1`
    /// says the same later.
    pub fn verify(
        bytes: Vec<u8>,
        signature: &str,
        approver: &Person,
        keys: &[PublicKey],
        bastion: &str,
        now: Timestamp,
    ) -> Result<Self, BadDecision> {
        let document = DecisionDocument::read(&bytes)?;
        let parsed = parse_signature(signature)?;
        if parsed.namespace() != NAMESPACE {
            return Err(BadDecision::Namespace(parsed.namespace().into()));
        }
        if parsed.hash_alg() != HashAlg::Sha512 {
            return Err(BadDecision::Hash);
        }
        let key = keys.iter().find(|key| key.key_data() == parsed.public_key()).ok_or(BadDecision::Key)?;
        key.verify(NAMESPACE, &bytes, &parsed).map_err(|_| BadDecision::Signature)?;
        let named = key.fingerprint(HashAlg::Sha256).to_string();
        if document.approver != *approver || document.key != named {
            return Err(BadDecision::Approver(document.approver.to_string()));
        }
        if document.bastion != bastion {
            return Err(BadDecision::Bastion(document.bastion));
        }
        let at = document.time();
        if at.since(now) > CLOCK_SLACK || now.since(at) > CLOCK_SLACK {
            return Err(BadDecision::Clock { signer: at, ours: now });
        }
        let level = level_of(&parsed);
        Ok(Self { document, bytes, signature: signature.to_owned(), key: key.clone(), level })
    }

    pub fn document(&self) -> &DecisionDocument {
        &self.document
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SSHSIG as PEM, kept as it came.
    pub fn signature(&self) -> &str {
        &self.signature
    }

    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    pub fn level(&self) -> Level {
        self.level
    }
}

/// Parses an SSHSIG within the size cap, refusing certificates as keys before they are parsed.
pub fn parse_signature(pem: &str) -> Result<SshSig, BadDecision> {
    if pem.len() > MAX_SIGNATURE {
        return Err(BadDecision::SignatureForm(format!("it is {} bytes long, more than {MAX_SIGNATURE}", pem.len())));
    }
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
    let blob = data_encoding::BASE64
        .decode(body.as_bytes())
        .map_err(|_| BadDecision::SignatureForm("it is not the PEM that `ssh-keygen -Y sign` writes".into()))?;
    // ssh-key 0.7.0-rc.11 reads version 0 as well, which nobody writes.
    if !blob.starts_with(b"SSHSIG\0\0\0\x01") {
        return Err(BadDecision::SignatureForm("it is not an SSHSIG of version 1".into()));
    }
    let marker = b"-cert-v0";
    if blob.windows(marker.len()).any(|window| window == marker) {
        return Err(BadDecision::SignatureForm("it was made with a certificate; sign with the plain key".into()));
    }
    pem.parse().map_err(|_| BadDecision::SignatureForm("it is not an SSHSIG".into()))
}

/// The key that made a signature, as a line of `authorized_keys` without a comment.
pub fn signer_line(signature: &str) -> Result<String, BadDecision> {
    let key = PublicKey::new(parse_signature(signature)?.public_key().clone(), "");
    key.to_openssh().map(|line| line.trim().to_owned()).map_err(|_| BadDecision::Key)
}

/// What the flags of a hardware key say, five bytes before the end of the signature (OpenSSH PROTOCOL.u2f:
/// flags, then a 32-bit counter): bit 0 that a hand was there, bit 2 that the key checked whose.
fn level_of(signature: &SshSig) -> Level {
    let sk = matches!(signature.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256);
    let bytes = signature.signature_bytes();
    let flags = bytes.len().checked_sub(5).and_then(|at| bytes.get(at)).copied().filter(|_| sk).unwrap_or_default();
    match (flags & 1 != 0, flags & 4 != 0) {
        (true, true) => Level::Verified,
        (true, false) => Level::Touch,
        // Verified and not present is nothing that a key says.
        (false, _) => Level::Key,
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BadDecision {
    #[error("the decision document cannot be read")]
    Form(#[from] NotCanonical),
    #[error("the document is version {0} kind {1:?}, not a decision that this version knows")]
    Kind(u64, String),
    #[error("a decision names 1 to 500 requests by digest, sorted, each once")]
    Requests,
    #[error("an approval says what it grants, a denial does not")]
    Terms,
    #[error("a note is at most {MAX_NOTE} bytes long")]
    Note,
    #[error("the signature cannot be read: {0}")]
    SignatureForm(String),
    #[error("the signature is for {0:?}; sign with `-n {NAMESPACE}`")]
    Namespace(String),
    #[error("the signature's hash is not SHA-512")]
    Hash,
    #[error("the signing key is not one of yours here")]
    Key,
    /// Whoever has a CA could otherwise ask as one person and agree as another.
    #[error("an approval needs a key that is listed under you, and a certificate is none: sign with one, or log in with one")]
    Certified,
    #[error("the signature does not fit the document")]
    Signature,
    #[error("the document names {0} with another key; it must name you and the key that signed")]
    Approver(String),
    #[error("the document is for the bastion {0:?}")]
    Bastion(String),
    #[error("the clocks differ: the signer says {signer}, this bastion {ours}")]
    Clock { signer: Timestamp, ours: Timestamp },
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;

    fn string(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    fn pem(key: &[u8]) -> String {
        let parts = [string(key), string(NAMESPACE.as_bytes()), string(b""), string(b"sha512"), string(&[0; 64])].concat();
        let body = BASE64.encode(&[b"SSHSIG\0\0\0\x01", &parts[..]].concat());
        format!("-----BEGIN SSH SIGNATURE-----\n{body}\n-----END SSH SIGNATURE-----\n")
    }

    /// A certificate whose CA's key is a certificate, and so on: without a guard this ends the process.
    #[test]
    fn certificates_never_reach_the_parser_however_deep() {
        for depth in [1, 2, 40, 1000, 2000] {
            let mut key = [string(b"ssh-ed25519"), string(&[1; 32])].concat();
            for _ in 0..depth {
                let head = [string(b"ssh-ed25519-cert-v01@openssh.com"), string(&[2; 16]), string(&[3; 32])].concat();
                let fields = [&[0; 12][..], &string(b"id"), &string(b""), &[0; 16], &string(b""), &string(b""), &string(b"")].concat();
                key = [head, fields, string(&key), string(&[4; 64])].concat();
            }
            let refused = parse_signature(&pem(&key)).unwrap_err().to_string();
            assert!(refused.contains("made with a certificate") || refused.contains("bytes long"), "{depth}: {refused}");
        }
    }

    fn signed() -> (Vec<u8>, String, PublicKey) {
        use russh::keys::ssh_key::private::Ed25519Keypair;
        use russh::keys::ssh_key::{LineEnding, PrivateKey};
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&[5; 32]));
        let document = DecisionDocument {
            v: VERSION,
            kind: "decision".into(),
            bastion: "b-1".into(),
            requests: vec![Digest([1; 32]), Digest([2; 32])],
            verdict: Verdict::Approve,
            terms: Some(GrantedTerms {
                for_us: 900_000_000,
                once: true,
                scope: super::super::Scope([super::super::Class::Exec(Digest::of(b"uptime"))].into()),
                commands: vec!["uptime".into()],
                from_us: Some(1),
                until_us: Some(1 << 50),
            }),
            note: "look only".into(),
            approver: "bob".parse().unwrap(),
            key: key.fingerprint(HashAlg::Sha256).to_string(),
            time_us: 1_700_000_000_000_000,
        };
        let signature = key.sign(NAMESPACE, HashAlg::Sha512, &document.bytes()).unwrap().to_pem(LineEnding::LF).unwrap();
        (document.bytes(), signature, key.public_key().clone())
    }

    fn verify(bytes: &[u8], signature: &str, key: &PublicKey) -> Result<SignedDecision, BadDecision> {
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        SignedDecision::verify(bytes.to_vec(), signature, &"bob".parse().unwrap(), std::slice::from_ref(key), "b-1", now)
    }

    #[test]
    fn every_byte_of_a_decision_and_of_its_signature_counts() {
        let (bytes, signature, key) = signed();
        assert_eq!(verify(&bytes, &signature, &key).unwrap().level(), Level::Key);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(verify(&flipped, &signature, &key).is_err(), "byte {at}, bit {bit}");
            }
        }
        // The signature as bytes: in its text, a line's end may be written in more than one way.
        let body: String = signature.lines().filter(|line| !line.starts_with('-')).collect();
        let blob = BASE64.decode(body.as_bytes()).unwrap();
        for at in 0..blob.len() {
            for bit in 0..8 {
                let mut flipped = blob.clone();
                flipped[at] ^= 1 << bit;
                let text = BASE64.encode(&flipped);
                let lines: Vec<&str> = text.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
                let pem = format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"));
                assert!(verify(&bytes, &pem, &key).is_err(), "byte {at} of the signature, bit {bit}");
            }
        }
    }

    #[test]
    fn keys_of_any_length_are_read_or_refused() {
        for length in 0..=40 {
            for kind in [&b"ssh-ed25519"[..], b"sk-ssh-ed25519@openssh.com", b"ssh-rsa", b"ecdsa-sha2-nistp256"] {
                let _ = parse_signature(&pem(&[string(kind), string(&vec![7; length])].concat()));
            }
        }
    }
}
