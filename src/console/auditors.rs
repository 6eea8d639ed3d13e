//! Auditors, their keys, and whether they can still decrypt.
//!
//! A proof is a fresh canary that was encrypted to the auditor's configured key and came back. It says that
//! the key is not lost; an auditor who is never asked finds out years later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::TryRng as _;

use super::execute::Act;
use super::reply::{AuditorLine, Next, Refusal, RefusalKind, Reply};
use crate::access::ConsoleAction;
use crate::id::Person;
use crate::time::Timestamp;
use crate::transcript::envelope;

/// Canaries that wait for their answer, one per auditor.
#[derive(Debug, Clone, Default)]
pub struct Canaries(Arc<Mutex<HashMap<Person, Canary>>>);

/// When it was made, and its bytes.
type Canary = (Timestamp, [u8; 32]);

/// What a canary begins with. A companion hands back nothing else that it has decrypted: else whoever has the
/// bastion would send it the key file of a recording, or the envelope of a spool.
const CANARY: &[u8] = b"countersign canary\n";

/// The part of a decrypted canary that is handed back; nothing if it is none.
pub fn canary_in(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(CANARY).filter(|canary| canary.len() == 32)
}

/// An answer comes at once: no hand is in between but for a passphrase.
const WITHIN: Duration = Duration::from_secs(300);

impl Canaries {
    fn keep(&self, person: &Person, canary: [u8; 32], now: Timestamp) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (at, _)| now.since(*at) <= WITHIN);
        waiting.insert(person.clone(), (now, canary));
    }

    fn take(&self, person: &Person, now: Timestamp) -> Option<[u8; 32]> {
        let (at, canary) = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(person)?;
        (now.since(at) <= WITHIN).then_some(canary)
    }
}

impl Act<'_> {
    pub(super) async fn auditors(&self) -> Result<Reply, Refusal> {
        if !self.may_somewhere(ConsoleAction::Replay) {
            return Err(self.refusal(RefusalKind::Refused, "the list of auditors", "is for those who may replay"));
        }
        let proven = self.console.store.proofs().await.map_err(|error| self.down(&error))?;
        let line = |(name, key): (&Person, &envelope::Recipient)| AuditorLine {
            auditor: name.clone(),
            key: key.to_string(),
            proven: proven.iter().find(|proof| proof.auditor == *name && proof.key == key.to_string()).map(|proof| proof.at),
        };
        Ok(Reply::Auditors(self.directory.config.recordings.auditors.iter().map(line).collect()))
    }

    /// A fresh canary for this auditor's configured key.
    pub(super) fn canary(&self) -> Result<Reply, Refusal> {
        let Some(key) = self.directory.config.recordings.auditors.get(self.who.person()) else {
            let mut refusal =
                self.refusal(RefusalKind::Refused, "a proof", "is for those whom recordings are encrypted to ([recordings.auditors])");
            refusal.next = vec![Next::Verb("auditors list".into())];
            return Err(refusal);
        };
        let mut canary = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut canary).map_err(|error| self.down(&error))?;
        let text = [CANARY, &canary].concat();
        let sealed = envelope::wrap(&text, std::iter::once(key)).map_err(|error| self.down(&error))?;
        self.console.canaries.keep(self.who.person(), canary, self.now);
        Ok(Reply::Canary(data_encoding::BASE64.encode(&sealed)))
    }

    pub(super) async fn proven(&self, canary_b64: &str) -> Result<Reply, Refusal> {
        let kept = self.console.canaries.take(self.who.person(), self.now);
        let shown = data_encoding::BASE64.decode(canary_b64.as_bytes()).unwrap_or_default();
        let key = self.directory.config.recordings.auditors.get(self.who.person()).map(ToString::to_string);
        let (Some(_), Some(key)) = (kept.filter(|kept| kept.as_slice() == shown), key) else {
            return Err(self.refusal(RefusalKind::Refused, "the proof", "is not the canary that was encrypted"));
        };
        self.console.store.proved(self.who.person(), &key, self.now).await.map_err(|error| self.down(&error))?;
        Ok(Reply::Proven(self.who.person().clone()))
    }
}
