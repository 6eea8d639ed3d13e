//! The end of a spool, and what is left to do then.

use std::sync::Arc;

use super::read::Unwrapped;
use super::spool::{FailureKind, Spool, describe};
use super::{RecordError, Sealed, off_the_runtime, seal};
use crate::time::Timestamp;
use crate::transcript::Outcome;
use crate::transcript::record::Ending;

/// A closed spool.
#[derive(Debug)]
pub struct Ended {
    spool: Arc<Spool>,
}

/// The free texts of an outcome, so that even escaped they fit into the room kept for the end record.
const LONGEST_WHY: usize = 1024;

/// Writes the end record; blocks on the disk.
pub(super) fn end(spool: Arc<Spool>, outcome: Outcome) -> Result<Ended, RecordError> {
    let failure = spool.why_failed().cloned();
    let outcome = match (&failure, outcome) {
        // A truncated recording is never stamped as complete.
        (Some(failure), said) if !matches!(said, Outcome::RecordingFailed { .. }) => {
            Outcome::RecordingFailed { why: describe(&failure.error) }
        }
        (_, said) => said,
    };
    let ending = Ending { at: spool.now(), ended: Timestamp::now(), outcome: outcome.shortened(LONGEST_WHY) };
    let written = spool.file().end(&ending);
    match failure {
        // The kernel reports a lost page once; a later sync that succeeds says nothing about it.
        Some(failure) if failure.kind == FailureKind::Sync => return Err(failure.error),
        Some(_) | None => {}
    }
    match written {
        Ok(()) => Ok(Ended { spool }),
        Err(error) => {
            spool.fail(error, "could not end", FailureKind::Sync);
            Err(spool.why_failed().map_or(RecordError::Stopped, |failure| failure.error.clone()))
        }
    }
}

impl Ended {
    /// Makes the sealed file and makes it durable; waits its turn behind other seals. The spool stays
    /// until [`super::Recordings::unlink_spool`].
    pub async fn seal(self) -> Result<Sealed, RecordError> {
        let node = Arc::clone(&self.spool.node);
        let _turn = Arc::clone(&node.seals).acquire_owned().await.map_err(|_| RecordError::Stopped)?;
        // The spool goes along: as long as somebody holds it, `recover` leaves it alone.
        off_the_runtime(move || {
            let key = self.spool.file().key();
            let sealed = seal::seal(&self.spool.node, self.spool.path(), &|_| Unwrapped::Key(key.clone()));
            if sealed.is_err() {
                // It is tried again, and its envelope may be for the auditors alone.
                self.spool.node.locked.keep(self.spool.session(), key);
            }
            sealed
        })
        .await?
    }
}
