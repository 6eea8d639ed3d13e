//! Whether a sealed recording is what was sealed: signature, body, key file, transcript, in this order.
//!
//! Works on files alone, without the bastion and without trusting it; whoever calls says which seal key
//! they know. The first thing that is wrong is named; nothing is repaired or guessed.

use std::io::{self, Read, Seek};

use sha2::{Digest as _, Sha256};

use super::replay::{Replay, ReplayError};
use super::unseal::{UnsealError, open_key_file, unseal};
use crate::authority::SealVerifier;
use crate::id::Digest;
use crate::transcript::envelope::Identity;
use crate::transcript::manifest::{self, BadManifest, Manifest};
use crate::transcript::spool::Cut;
use crate::transcript::{Event, Outcome};

/// The files of one recording.
#[derive(Debug)]
pub struct Files<'a, R> {
    pub manifest: &'a [u8],
    pub signature: &'a str,
    pub key_file: Option<&'a [u8]>,
    pub body: R,
}

/// What was found in order.
#[derive(Debug, Clone)]
pub struct Verified {
    pub manifest: Manifest,
    /// SHA-256 of the manifest's bytes.
    pub digest: Digest,
    /// Absent where nobody could open it: then only the outside was checked.
    pub contents: Option<Contents>,
}

#[derive(Debug, Clone)]
pub struct Contents {
    /// Events of the transcript.
    pub events: u64,
    /// Set where the bastion died: what follows the last good record is unknown.
    pub cut: Option<Cut>,
}

/// What is wrong with a recording.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    #[error(transparent)]
    Manifest(#[from] BadManifest),
    #[error("the manifest is not signed by this bastion's seal key: {0}")]
    Signature(String),
    #[error("the manifest says {found}, the bastion is {known}")]
    Bastion { found: String, known: String },
    #[error("the body has {found} bytes, {sealed} were sealed: it was {}", if found < sealed { "cut" } else { "lengthened" })]
    Length { found: u64, sealed: u64 },
    #[error("the body is not the one that was sealed: its SHA-256 is {found}, that of the sealed one {sealed}")]
    Body { found: Digest, sealed: Digest },
    #[error("the key file is missing: without it nobody can read the recording")]
    NoKeyFile,
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    #[error("the transcript is damaged")]
    Transcript(#[source] ReplayError),
    #[error("the transcript is another one's: its {0} is not what the manifest says")]
    Contradiction(&'static str),
    #[error("the body cannot be read")]
    Read(#[from] io::Error),
}

/// Checks the outside, and the inside where `auditor` can open it or nothing is encrypted.
pub fn verify<R: Read + Seek>(mut files: Files<'_, R>, seal_key: &SealVerifier, auditor: Option<&Identity>) -> Result<Verified, Flaw> {
    let manifest = signed_manifest(files.manifest, files.signature, seal_key)?;
    let digest = Digest::of(files.manifest);
    same_body(&mut files.body, &manifest)?;
    let own = match (&manifest.body.recipient, files.key_file, auditor) {
        (None, _, _) => None,
        (Some(_), None, _) => return Err(Flaw::NoKeyFile),
        (Some(_), Some(_), None) => return Ok(Verified { manifest, digest, contents: None }),
        (Some(recipient), Some(key_file), Some(auditor)) => Some(open_key_file(key_file, auditor, recipient)?),
    };
    files.body.rewind()?;
    let contents = contents(Replay::over(unseal(files.body, own.as_ref())?).map_err(Flaw::Transcript)?, &manifest)?;
    Ok(Verified { manifest, digest, contents: Some(contents) })
}

/// Reads a manifest that the seal key has signed.
pub fn signed_manifest(bytes: &[u8], signature: &str, seal_key: &SealVerifier) -> Result<Manifest, Flaw> {
    let manifest = Manifest::read(bytes)?;
    seal_key.verify(manifest::NAMESPACE, bytes, signature).map_err(|error| Flaw::Signature(error.to_string()))?;
    if manifest.bastion != seal_key.bastion() {
        return Err(Flaw::Bastion { found: manifest.bastion, known: seal_key.bastion().to_owned() });
    }
    Ok(manifest)
}

fn same_body(body: &mut (impl Read + Seek), manifest: &Manifest) -> Result<(), Flaw> {
    body.rewind()?;
    let (mut sum, mut found, mut chunk) = (Sha256::new(), 0u64, vec![0; 256 * 1024]);
    let sealed = manifest.body.bytes;
    loop {
        let read = match body.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        found += read as u64;
        sum.update(chunk.get(..read).unwrap_or_default());
        if found > sealed {
            break;
        }
    }
    if found != sealed {
        return Err(Flaw::Length { found, sealed });
    }
    let found = Digest(sum.finalize().into());
    if found == manifest.body.sha256 { Ok(()) } else { Err(Flaw::Body { found, sealed: manifest.body.sha256 }) }
}

/// Reads the transcript to its end; every stream is compared with its totals on the way.
fn contents<R: Read + Seek>(mut replay: Replay<R>, manifest: &Manifest) -> Result<Contents, Flaw> {
    let totals = replay.totals().clone();
    if let Some(what) = manifest.contradicts(replay.header(), &totals.outcome, totals.ended) {
        return Err(Flaw::Contradiction(what));
    }
    let mut events = 0;
    let mut exit = None;
    for played in replay.by_ref() {
        if let Event::Exit(found) = played.map_err(Flaw::Transcript)?.event {
            exit = Some(found);
        }
        events += 1;
    }
    let outcome = totals.outcome.parse::<Outcome>();
    if exit.zip(outcome.ok()).is_some_and(|(exit, outcome)| !outcome.agrees_with(&exit)) {
        return Err(Flaw::Contradiction("exit"));
    }
    replay.check_index().map_err(Flaw::Transcript)?;
    Ok(Contents { events, cut: totals.cut })
}
