//! The end of a sealed recording's files; called by `retention::disposal` alone.
//!
//! Key files first, in every directory: from then on no copy of the body can be read. Whatever is missing
//! already is fine; whatever cannot be looked at is not.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::layout::{self, Part, sync_dir};
use super::seal::unfinished;
use super::{RecordError, Recordings, off_the_runtime};
use crate::id::{Digest, SessionId};

impl Recordings {
    /// Whether the body is the one that was sealed; `None` if it is not there.
    pub async fn is_as_sealed(&self, file: &str, sha256: Digest) -> Result<Option<bool>, RecordError> {
        let (node, file) = (self.node.clone(), file.to_owned());
        off_the_runtime(move || match node.layout.body(&file) {
            Ok(body) => digest(body).map(|found| Some(found == sha256)).map_err(|e| RecordError::io("could not read", Path::new(&file), e)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(RecordError::io("could not read", Path::new(&file), error)),
        })
        .await?
    }

    /// Whether every directory of key files has this session's, and there is one.
    pub async fn has_all_keys(&self, session: SessionId) -> Result<bool, RecordError> {
        let node = self.node.clone();
        off_the_runtime(move || {
            let protection = node.protection();
            let dirs = protection.key_dirs();
            !dirs.is_empty() && dirs.iter().all(|dir| layout::key_file(dir, session).is_file())
        })
        .await
    }

    /// Destroys the key files, all versions of them, durably.
    pub async fn erase_keys(&self, session: SessionId) -> Result<(), RecordError> {
        let node = self.node.clone();
        // Whoever replaces one meanwhile has either finished, and it goes here, or finds that it is too late.
        let alone = Arc::clone(&self.node.keys).lock_owned().await;
        off_the_runtime(move || {
            let _alone = alone;
            for dir in node.protection().key_dirs() {
                // A directory that is not mounted must not pass for one without a key.
                dir.metadata().map_err(|e| RecordError::io("could not look at the key files in", dir, e))?;
                for path in [layout::key_file(dir, session), layout::first_key_file(dir, session)] {
                    unlink(&unfinished(&path))?;
                    unlink(&path)?;
                }
            }
            Ok(())
        })
        .await?
    }

    /// Removes the body, durably; manifest and signature stay.
    pub async fn erase_body(&self, session: SessionId) -> Result<(), RecordError> {
        let node = self.node.clone();
        off_the_runtime(move || [Part::Body, Part::Plain].into_iter().try_for_each(|part| unlink(&node.layout.sealed(session, part))))
            .await?
    }

    /// Puts the expiry certificate beside the manifest; one that is there stays, and is returned.
    pub async fn leave_certificate(&self, session: SessionId, certificate: Vec<u8>, signature: String) -> Result<Vec<u8>, RecordError> {
        let node = self.node.clone();
        off_the_runtime(move || {
            let path = node.layout.sealed(session, Part::Expired);
            // The signature first: where the certificate stands, its signature does too.
            if let Ok(there) = std::fs::read(&path) {
                return Ok(there);
            }
            put(&node.layout.sealed(session, Part::ExpiredSignature), signature.as_bytes())?;
            put(&path, &certificate)?;
            Ok(certificate)
        })
        .await?
    }
}

fn digest(mut body: File) -> io::Result<Digest> {
    let (mut sum, mut chunk) = (Sha256::new(), vec![0; 256 * 1024]);
    loop {
        match body.read(&mut chunk) {
            Ok(0) => return Ok(Digest(sum.finalize().into())),
            Ok(read) => sum.update(chunk.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn unlink(path: &Path) -> Result<(), RecordError> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_dir(path.parent().unwrap_or(Path::new("/"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(RecordError::io("could not remove", path, error)),
    }
}

/// Writes a small file durably, whole or not at all, over what an attempt before may have left.
fn put(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let tmp: PathBuf = path.with_extension("tmp");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&tmp, path)
    };
    write().map_err(|e| RecordError::io("could not write", path, e))?;
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}
