//! A key file that an auditor has wrapped anew, in place of the old one.
//!
//! The node cannot open either. It checks what shows without a key (how long, to how many, to which SSH
//! keys), and keeps the file as it was sealed beside the new one until the recording goes: who hands in
//! something that opens nothing has hidden a recording from nobody. In every directory of key files the
//! new one is durable before the old name is its.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layout::{self, Part, sync_dir};
use super::seal::Outputs;
use super::{RecordError, Recordings, off_the_runtime};
use crate::id::{Digest, SessionId};
use crate::transcript::envelope::{NotAddressed, Recipient, addressed_to, payload_of};

/// Why a key file was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum NotRewrapped<E> {
    #[error("recordings are not encrypted here")]
    Plain,
    #[error("the key file is missing")]
    Missing,
    #[error("the key file is another one by now")]
    Changed,
    #[error("the new key file is not taken: {0}")]
    Form(#[from] NotAddressed),
    #[error(transparent)]
    Files(#[from] RecordError),
    /// The caller's own, before anything was written.
    #[error("it may not be replaced")]
    Admission(E),
}

impl Recordings {
    /// Replaces a key file that has the digest `old`, if `admit` agrees to it at the last moment: nobody
    /// destroys or replaces a key file between that and the end.
    pub async fn rewrap<E>(
        &self,
        session: SessionId,
        old: Digest,
        new: Vec<u8>,
        recipients: &[Recipient],
        admit: impl Future<Output = Result<(), E>>,
    ) -> Result<(), NotRewrapped<E>> {
        let alone = Arc::clone(&self.node.keys).lock_owned().await;
        let dirs: Vec<PathBuf> = self.node.protection().key_dirs().to_vec();
        if dirs.is_empty() {
            return Err(NotRewrapped::Plain);
        }
        let found = self.part(session, Part::Key).map_err(|_| NotRewrapped::Missing)?;
        if Digest::of(&found) != old {
            return Err(NotRewrapped::Changed);
        }
        // Both hold the same key: what they hold is as long.
        addressed_to(&new, recipients, payload_of(&found)?)?;
        admit.await.map_err(NotRewrapped::Admission)?;
        // Who asked may hang up: the turn goes along, and ends with the work.
        off_the_runtime(move || {
            let _alone = alone;
            replace(session, &dirs, &found, &new)
        })
        .await??;
        Ok(())
    }
}

/// Blocks on the disk. A directory that had none gets one: it may have been added since.
fn replace(session: SessionId, dirs: &[PathBuf], found: &[u8], new: &[u8]) -> Result<(), RecordError> {
    let mut outputs = Outputs::default();
    for dir in dirs {
        keep_first(dir, session, found)?;
        outputs.write(dir, layout::key_file(dir, session), new)?;
    }
    outputs.publish()
}

/// Keeps the file as it was sealed, durably; what an earlier turn has kept stays.
fn keep_first(dir: &Path, session: SessionId, found: &[u8]) -> Result<(), RecordError> {
    let (current, first) = (layout::key_file(dir, session), layout::first_key_file(dir, session));
    match std::fs::hard_link(&current, &first) {
        Ok(()) => sync_dir(current.parent().unwrap_or(dir)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut outputs = Outputs::default();
            outputs.write(dir, first.clone(), found)?;
            outputs.publish()
        }
        Err(error) => Err(RecordError::io("could not keep the key file as", &first, error)),
    }
}
