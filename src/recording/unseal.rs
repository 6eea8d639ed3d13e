//! A sealed recording as an auditor reads it: the key file opens with the auditor's key, the body with what
//! the key file holds. Nothing here trusts the bastion: what does not fit is an error that says what.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use age::stream::StreamReader;

use crate::transcript::envelope::{self, Identity, NotAnIdentity, OpenError};

#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    #[error("the key file cannot be opened")]
    KeyFile(#[source] OpenError),
    #[error("the key file holds no key")]
    NoKey(#[source] NotAnIdentity),
    #[error("the key file holds another recording's key")]
    OtherKey,
    #[error("the body cannot be decrypted")]
    Body(#[source] OpenError),
}

/// A body, decrypted as it is read; it can be sought in.
pub enum Unsealed<R: Read = File> {
    Plain(R),
    Sealed(Box<StreamReader<BufReader<R>>>),
}

impl<R: Read> std::fmt::Debug for Unsealed<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unsealed")
    }
}

/// Takes a recording's own key out of its key file; `recipient` is what the manifest says it is.
pub fn open_key_file(key_file: &[u8], auditor: &Identity, recipient: &str) -> Result<Identity, UnsealError> {
    let text = envelope::open(key_file, auditor).map_err(UnsealError::KeyFile)?;
    let text = std::str::from_utf8(&text).map_err(|_| UnsealError::NoKey(NotAnIdentity::Unknown))?;
    let own = Identity::parse(text).map_err(UnsealError::NoKey)?;
    match own.recipient() {
        Some(found) if found.to_string() == recipient => Ok(own),
        Some(_) | None => Err(UnsealError::OtherKey),
    }
}

/// Opens a body: with its own key, or as it is where it was recorded in plain mode.
pub fn unseal<R: Read + Seek>(body: R, own: Option<&Identity>) -> Result<Unsealed<R>, UnsealError> {
    match own {
        None => Ok(Unsealed::Plain(body)),
        Some(own) => Ok(Unsealed::Sealed(Box::new(envelope::decrypting(body, own).map_err(UnsealError::Body)?))),
    }
}

impl<R: Read> Read for Unsealed<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Unsealed::Plain(from) => from.read(to),
            Unsealed::Sealed(from) => from.read(to),
        }
    }
}

impl<R: Read + Seek> Seek for Unsealed<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Unsealed::Plain(from) => from.seek(to),
            Unsealed::Sealed(from) => from.seek(to),
        }
    }
}
