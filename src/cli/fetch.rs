//! A recording on this machine: what the bastion hands over, checked, and opened with the auditor's own key.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use sha2::Digest as _;
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::bastion::{Bastion, Heard};
use super::sign;
use crate::authority::SealVerifier;
use crate::console::grammar::{Purpose, SessionWord, Verb};
use crate::console::reply::{Evidence, Reply};
use crate::id::Digest;
use crate::recording::{Unsealed, open_key_file, unseal, verify};
use crate::transcript::envelope::{Identity, NotAnIdentity};
use crate::transcript::manifest::Manifest;

/// A recording as it was handed over. The body lies in a file of mode 0600 that has no name.
#[derive(Debug)]
pub struct Fetched {
    pub evidence: Evidence,
    /// Nothing where the recording has gone.
    pub body: Option<File>,
}

/// Asks for a recording and takes exactly the bytes that were announced; `from` is how much of the log is known.
pub async fn fetch<R, W>(bastion: &mut Bastion<R, W>, session: &SessionWord, purpose: Purpose, from: u64) -> anyhow::Result<Fetched>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    bastion.send(&Verb::Fetch { session: session.clone(), purpose, from }).await?;
    let evidence = match bastion.hear().await? {
        Heard::Event(Reply::Recording(evidence)) => evidence,
        Heard::Result(Reply::Recording(evidence)) if evidence.body.is_none() => {
            is_meant(session, &evidence)?;
            return Ok(Fetched { evidence: *evidence, body: None });
        }
        _ => bail!("the bastion answers with something else than a recording"),
    };
    is_meant(session, &evidence)?;
    let Some(announced) = evidence.body.clone() else { bail!("the bastion announces a recording and no body") };
    let mut body = tempfile::tempfile().context("no place for the recording; set TMPDIR")?;
    let (mut sum, mut length) = (sha2::Sha256::new(), 0u64);
    loop {
        match bastion.hear().await? {
            Heard::Bytes(bytes) => {
                length += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                if length > announced.bytes && purpose == Purpose::Verify {
                    // One byte too many says enough; the rest is passed by, within reason.
                    if length > announced.bytes.saturating_mul(2).saturating_add(1 << 30) {
                        bail!("the recording {} does not end", announced.session);
                    }
                    let more = usize::from(length - announced.bytes <= bytes.len() as u64);
                    let fits = bytes.len().saturating_sub(usize::try_from(length - announced.bytes).unwrap_or(usize::MAX));
                    body.write_all(bytes.get(..fits + more).unwrap_or_default()).context("the recording cannot be kept; set TMPDIR")?;
                    continue;
                }
                if length > announced.bytes {
                    bail!("the recording {} is longer than the {} bytes that were announced", announced.session, announced.bytes);
                }
                sum.update(&bytes);
                body.write_all(&bytes).context("the recording cannot be kept; set TMPDIR")?;
            }
            Heard::Result(_) => break,
            Heard::Event(_) => bail!("the bastion answers with something else than a recording"),
        }
    }
    // A verification looks at what there is, and says itself what is wrong with it.
    if purpose != Purpose::Verify && (length != announced.bytes || Digest(sum.finalize().into()) != announced.sha256) {
        bail!(
            "the recording {} is not the one that was sealed: {length} of {} bytes, or another SHA-256; countersign verify {0} says what",
            announced.session,
            announced.bytes
        );
    }
    body.rewind().context("the recording cannot be read back")?;
    Ok(Fetched { evidence: *evidence, body: Some(body) })
}

/// Whether what is handed over is what was asked for: another recording, however genuine, hides this one.
fn is_meant(word: &SessionWord, evidence: &Evidence) -> anyhow::Result<()> {
    let SessionWord::Begins(text) = word else { return Ok(()) };
    let of_request = || {
        let manifest = Manifest::read(&evidence.manifest).ok();
        manifest.and_then(|manifest| manifest.request).is_some_and(|request| request.to_string() == *text)
    };
    if evidence.session.to_string().starts_with(text.as_str()) || of_request() {
        return Ok(());
    }
    bail!("the bastion was asked for {text} and hands over {}: one stands in another's place", evidence.session)
}

impl Fetched {
    pub fn key_file(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let decoded = self.evidence.key_file_b64.as_ref().map(|text| data_encoding::BASE64.decode(text.as_bytes()));
        decoded.transpose().context("the key file is not base 64")
    }

    /// Opens the body to be read, once its manifest is known to be the bastion's own.
    pub fn open(self, seal_key: &SealVerifier, own: &Own) -> anyhow::Result<Unsealed<File>> {
        let session = self.evidence.session;
        let manifest = verify::signed_manifest(&self.evidence.manifest, &self.evidence.signature, seal_key)
            .with_context(|| format!("the recording {session} cannot be trusted"))?;
        if manifest.session != session {
            bail!("the recording {session} cannot be trusted: its manifest is that of {}", manifest.session);
        }
        let key_file = self.key_file()?;
        let Some(body) = self.body else { bail!("the recording {session} has gone") };
        let key =
            match (manifest.body.recipient, key_file) {
                (None, _) => None,
                (Some(_), None) => bail!("the key file of {session} is missing: nobody can read the recording"),
                (Some(recipient), Some(key_file)) => {
                    let auditor = own.load()?;
                    let opened = open_key_file(&key_file, &auditor, &recipient);
                    Some(opened.with_context(|| {
                        format!("{session} is encrypted to its auditors, and {} is not one of them", own.path.display())
                    })?)
                }
            };
        unseal(body, key.as_ref()).with_context(|| format!("{session} cannot be opened"))
    }
}

/// The auditor's own key: a private SSH key, or age's.
#[derive(Debug, Clone)]
pub struct Own {
    pub path: PathBuf,
}

impl Own {
    /// The named key (its private half, if the public one was named), else `~/.ssh/id_ed25519`.
    pub fn new(named: Option<&Path>) -> Self {
        let path = named.map_or_else(|| std::env::home_dir().unwrap_or_default().join(".ssh/id_ed25519"), Path::to_owned);
        let private = path.with_extension("");
        let path = if path.extension().is_some_and(|extension| extension == "pub") && private.exists() { private } else { path };
        Self { path }
    }

    /// Reads it; asks for its passphrase where it has one.
    pub fn load(&self) -> anyhow::Result<Identity> {
        let text = sign::read_key_file(&self.path)
            .with_context(|| format!("no key to decrypt with: {} cannot be read; name one: --key PATH", self.path.display()))?;
        let text = zeroize::Zeroizing::new(text);
        match Identity::parse(&text) {
            Ok(identity) => Ok(identity),
            Err(NotAnIdentity::Locked) => {
                let open = sign::unlocked_text(&text, &self.path)?;
                Identity::parse(&open).with_context(|| format!("{} cannot decrypt", self.path.display()))
            }
            Err(error) => Err(error).with_context(|| {
                format!("{} cannot decrypt: a key in an agent or on hardware only signs; name a key file: --key PATH", self.path.display())
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::console::reply::RecordingLine;
    use crate::console::wire::{Said, say as put, say_bytes};

    async fn fetched(announced: u64, sent: &[u8], digest: Digest) -> anyhow::Result<Vec<u8>> {
        let session = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let body = RecordingLine { session, sha256: digest, bytes: announced, file: "f".into() };
        let evidence = Evidence {
            session,
            manifest: b"{}".to_vec(),
            signature: String::new(),
            body: Some(body),
            key_file_b64: None,
            sealed: None,
            expired: None,
        };
        let mut wire = Vec::new();
        put(&mut wire, Some(1), Said::Event(Reply::Recording(Box::new(evidence.clone())))).await.unwrap();
        say_bytes(&mut wire, 1, sent).await.unwrap();
        put(&mut wire, Some(1), Said::Result(Reply::Recording(Box::new(evidence)))).await.unwrap();
        let mut bastion = Bastion::over("bastion", &wire[..], tokio::io::sink());
        let mut body = fetch(&mut bastion, &"last".parse().unwrap(), Purpose::Replay, 0).await?.body.unwrap();
        let mut got = Vec::new();
        body.read_to_end(&mut got)?;
        Ok(got)
    }

    /// Another recording, with all that belongs to it, must not stand in for one that was destroyed.
    #[tokio::test]
    async fn another_recording_than_was_asked_for_is_refused() {
        let asked = |word: &str| word.parse::<SessionWord>().unwrap();
        let evidence = Evidence {
            session: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            manifest: b"{}".to_vec(),
            signature: String::new(),
            body: None,
            key_file_b64: None,
            sealed: None,
            expired: None,
        };
        for word in ["last", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3N"] {
            assert!(is_meant(&asked(word), &evidence).is_ok(), "{word}");
        }
        for word in ["01ARZ3NDEKTSV4RRFFQ69G5FAW", "01ARZ3P", "K7Q3FM"] {
            let refused = is_meant(&asked(word), &evidence).unwrap_err().to_string();
            assert!(refused.contains("one stands in another's place"), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_recording_is_taken_only_as_it_was_sealed() {
        let sent = vec![7; 600_000];
        let digest = Digest::of(&sent);
        assert_eq!(fetched(600_000, &sent, digest).await.unwrap(), sent);
        assert!(fetched(599_999, &sent, digest).await.unwrap_err().to_string().contains("longer"));
        assert!(fetched(600_001, &sent, digest).await.is_err());
        assert!(fetched(600_000, &sent, Digest([0; 32])).await.unwrap_err().to_string().contains("sealed"));
    }
}
