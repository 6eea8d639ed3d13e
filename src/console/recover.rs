//! Recordings that a crash left to their auditors (`recovery = "auditors"`): an auditor takes the envelope
//! of a spool, opens it, and hands the spool's key back; the bastion seals what is there as interrupted.
//!
//! What the auditor gives away is the key of this one spool, for as long as it takes to seal it: the bastion
//! wrote every byte of it and held the same key while the session ran. It is not given the auditor's own
//! key, nor the means to open anything else. Sealing on the auditor's machine would keep even that key from
//! it, and let the auditor write the transcript instead: evidence that one person alone could forge.

use super::Console;
use super::execute::Act;
use super::reply::{Refusal, RefusalKind, WaitingLine};
use crate::access::ConsoleAction;
use crate::audit::Event;
use crate::id::SessionId;
use crate::recording::RecordError;
use crate::store::StoreError;
use crate::time::Timestamp;
use crate::transcript::spool::KEY;

/// Why a recording could not be sealed with an auditor's help.
enum NotSealed {
    Recording(RecordError),
    Store(StoreError),
}

impl Console {
    async fn seal_unlocked(&self, session: SessionId, key: &[u8; KEY], now: Timestamp) -> Result<(), NotSealed> {
        let unlocked = self.recordings.unlock(session, key).await.map_err(NotSealed::Recording)?;
        let sealed = &unlocked.sealed;
        self.store.session_ended(session, &sealed.outcome.to_string(), now).await.map_err(NotSealed::Store)?;
        self.store.session_sealed(session, sealed.row(), now).await.map_err(NotSealed::Store)?;
        // The spool goes only when the row stands.
        if let Err(error) = self.recordings.unlink_spool(session) {
            tracing::warn!(%session, %error, "a sealed spool could not be removed; the next start will");
        }
        Ok(())
    }
}

impl Act<'_> {
    pub(super) async fn waiting(&self) -> Result<Vec<WaitingLine>, Refusal> {
        let mut lines = Vec::new();
        for session in self.console.recordings.waiting() {
            let Some(row) = self.console.store.session(session).await.map_err(|error| self.down(&error))? else { continue };
            if self.may_on(&row.target, ConsoleAction::Replay) {
                lines.push(WaitingLine { session, person: row.person, target: row.target, started: row.started, ended: row.ended });
            }
        }
        Ok(lines)
    }

    pub(super) async fn envelope(&self, session: SessionId) -> Result<Vec<u8>, Refusal> {
        self.waits(session).await?;
        self.audited("session.envelope", session).await?;
        self.console.recordings.envelope(session).await.map_err(|error| self.not_recovered(session, &error))
    }

    /// Seals with the key that was in the envelope; says whether there was anything to seal.
    pub(super) async fn unlock(&self, session: SessionId, key_b64: &str) -> Result<bool, Refusal> {
        self.waits(session).await?;
        let key = data_encoding::BASE64.decode(key_b64.as_bytes()).map(zeroize::Zeroizing::new).ok();
        let key: Option<zeroize::Zeroizing<[u8; KEY]>> = key.and_then(|key| key.as_slice().try_into().map(zeroize::Zeroizing::new).ok());
        let key =
            key.ok_or_else(|| self.refusal(RefusalKind::Refused, &session.to_string(), "stays as it is: that is no key of a spool"))?;
        self.audited("session.recover", session).await?;
        let (console, now) = (self.console.clone(), self.now);
        // To its end, whether or not the auditor stays to hear of it.
        let sealing = tokio::spawn(async move { console.seal_unlocked(session, &key, now).await });
        match sealing.await.map_err(|error| self.down(&error))? {
            Ok(()) => Ok(true),
            Err(NotSealed::Recording(RecordError::Unbegun { .. })) => Ok(false),
            Err(NotSealed::Recording(error)) => Err(self.not_recovered(session, &error)),
            Err(NotSealed::Store(error)) => Err(self.down(&error)),
        }
    }

    async fn waits(&self, session: SessionId) -> Result<(), Refusal> {
        let row = self.replayable(session).await?;
        if row.sealed.is_none() && self.console.recordings.waits_for_auditor(session) {
            return Ok(());
        }
        Err(self.refusal(RefusalKind::Refused, &session.to_string(), "does not wait for an auditor"))
    }

    /// A gate event: what cannot be written down does not happen (FC5).
    async fn audited(&self, name: &'static str, session: SessionId) -> Result<(), Refusal> {
        let facts = serde_json::json!({
            "person": self.who.person(), "key": self.who.fingerprint(), "source": self.who.source(), "session": session,
        });
        self.console.store.report(Event::new(name, facts), self.now).await.map_err(|error| self.down(&error))
    }

    fn not_recovered(&self, session: SessionId, error: &RecordError) -> Refusal {
        match error {
            RecordError::Locked { .. } | RecordError::BadSpool { .. } => self.refusal(
                RefusalKind::Refused,
                &session.to_string(),
                "stays as it is: this is not the key of its spool, or the spool is damaged",
            ),
            RecordError::Busy => self.refusal(RefusalKind::Unavailable, &session.to_string(), "is being sealed just now; look again"),
            error => self.down(error),
        }
    }
}
