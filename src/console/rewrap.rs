//! Key files on their way to an auditor's machine and back, wrapped anew.
//!
//! The key of a recording is never here: the bastion hands out a key file, and takes another for it that it
//! cannot open either (`recording/rewrap.rs` says what it checks). Handing one out and replacing one are
//! gate events, each by its recording; who may replay a recording may do both.

use super::execute::Act;
use super::grammar::{KeysWhat, Since};
use super::reply::{Closed, KeyReader, KeysReply, Next, Refusal, RefusalKind, Reply};
use crate::access::ConsoleAction;
use crate::id::{Digest, Person, SessionId};
use crate::recording::NotRewrapped;
use crate::store::key_files::Rewrap;
use crate::store::{SessionRow, StoreError};
use crate::time::Timestamp;
use crate::transcript::envelope::{MAX_ENVELOPE, Recipient};

/// Rows read for one page.
const PAGE: u32 = 500;

/// Why a replacement was not admitted.
enum Late {
    Going,
    Store(StoreError),
}

impl Act<'_> {
    pub(super) async fn keys(&self, what: &KeysWhat) -> Result<Reply, Refusal> {
        let reply = match what {
            KeysWhat::Closed { to, since, behind } => KeysReply::Closed(self.closed(to, *since, *behind).await?),
            KeysWhat::Rewrap { session, old, key_file_b64 } => {
                self.rewrap(*session, *old, key_file_b64).await?;
                KeysReply::Rewrapped(*session)
            }
            KeysWhat::Waiting => KeysReply::Waiting(self.waiting().await?),
            KeysWhat::Envelope { session } => KeysReply::Envelope { session: *session, envelope: self.envelope(*session).await? },
            KeysWhat::Unlock { session, key_b64 } => {
                KeysReply::Recovered { session: *session, sealed: self.unlock(*session, key_b64).await? }
            }
        };
        Ok(Reply::Keys(Box::new(reply)))
    }

    async fn closed(&self, to: &Person, since: Option<Since>, behind: Option<SessionId>) -> Result<Closed, Refusal> {
        let auditors = &self.directory.config.recordings.auditors;
        let Some(key) = auditors.get(to).map(ToString::to_string) else {
            let mut refusal = self.refusal(
                RefusalKind::Usage,
                to.as_str(),
                "is none of those whom recordings are encrypted to: an operator names them in [recordings.auditors] and reloads",
            );
            refusal.next = vec![Next::Verb("auditors list".into())];
            return Err(refusal);
        };
        let since = since.map_or(Timestamp::from_micros(i64::MIN), |since| since.before(self.now));
        let store = &self.console.store;
        let rows = store.not_addressed_to(&key, since, behind, PAGE).await.map_err(|error| self.down(&error))?;
        let counted = store.count_not_addressed_to(&key, since).await.map_err(|error| self.down(&error))?;
        let last = rows.last().filter(|_| rows.len() == PAGE as usize).map(|row| row.id);
        Ok(Closed {
            readers: auditors.iter().map(|(auditor, key)| KeyReader { auditor: auditor.clone(), key: key.to_string() }).collect(),
            left: counted.iter().filter(|(target, _)| self.may_on(target, ConsoleAction::Replay)).map(|(_, count)| count).sum(),
            sessions: rows.iter().filter(|row| self.may_on(&row.target, ConsoleAction::Replay)).map(|row| row.id).collect(),
            behind: last,
        })
    }

    async fn rewrap(&self, session: SessionId, old: Digest, key_file_b64: &str) -> Result<(), Refusal> {
        self.replayable(session).await?;
        if !self.directory.config.recordings.auditors.contains_key(self.who.person()) {
            let why = "keeps its key file: it is wrapped anew by those whom recordings are encrypted to ([recordings.auditors])";
            return Err(self.refusal(RefusalKind::Refused, &session.to_string(), why));
        }
        let refuse = |why: &str| self.refusal(RefusalKind::Refused, &session.to_string(), why);
        let new = data_encoding::BASE64.decode(key_file_b64.as_bytes()).ok().filter(|new| new.len() <= MAX_ENVELOPE);
        let new = new.ok_or_else(|| refuse("keeps its key file: the new one is not base 64, or too long"))?;
        let recipients: Vec<Recipient> = self.directory.config.recordings.auditors.values().cloned().collect();
        let rewrap = Rewrap {
            session,
            by: self.who.person().clone(),
            old,
            new: Digest::of(&new),
            recipients: recipients.iter().map(ToString::to_string).collect(),
        };
        let store = self.console.store.clone();
        let (said, now) = (rewrap.clone(), self.now);
        let admit = async move {
            match store.rewrapping(said, now).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Late::Going),
                Err(error) => Err(Late::Store(error)),
            }
        };
        match self.console.recordings.rewrap(session, old, new, &recipients, admit).await {
            Ok(()) => {}
            Err(NotRewrapped::Admission(Late::Store(error))) => return Err(self.down(&error)),
            Err(NotRewrapped::Admission(Late::Going)) => return Err(refuse("goes on schedule: its key is not wrapped any more")),
            Err(NotRewrapped::Files(error)) => return Err(self.down(&error)),
            Err(error @ (NotRewrapped::Plain | NotRewrapped::Missing | NotRewrapped::Changed | NotRewrapped::Form(_))) => {
                return Err(refuse(&format!("keeps its key file: {error}")));
            }
        }
        self.console.store.rewrapped(rewrap, self.now).await.map_err(|error| self.down(&error))
    }

    /// The session, if this person may replay it; unknown and not-yours are one answer.
    pub(super) async fn replayable(&self, session: SessionId) -> Result<SessionRow, Refusal> {
        let row = self.console.store.session(session).await.map_err(|error| self.down(&error))?;
        row.filter(|row| self.may_on(&row.target, ConsoleAction::Replay)).ok_or_else(|| {
            let mut refusal = self.refusal(RefusalKind::Refused, &session.to_string(), "is unknown or not yours");
            refusal.next = vec![Next::Verb("sessions".into())];
            refusal
        })
    }
}
