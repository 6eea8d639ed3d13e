//! Sessions: whose one may list, and whose one may replay.
//!
//! Everybody lists their own; to list others' or to replay any takes policy's `replay` on the target.
//! A target that is not in the directory any more has no labels to rule on: nobody replays there until
//! an operator lists it again.

use super::execute::Act;
use super::grammar::{SessionWord, SessionsArgs};
use super::reply::{Next, RecordingLine, Refusal, RefusalKind, Reply, SessionLine};
use crate::access::ConsoleAction;
use crate::audit::Event;
use crate::id::TargetId;
use crate::store::{Found, SessionFilter, SessionRow};

/// Sessions read for a listing, newest first.
const READ: u32 = 1000;
/// Sessions of one listing.
const SHOWN: usize = 200;

impl Act<'_> {
    pub(super) async fn sessions(&self, args: &SessionsArgs) -> Result<Reply, Refusal> {
        // A name that no target can have lists nothing, as one that nobody has.
        let target = match &args.target {
            Some(name) => match self.target_named(name) {
                Some(target) => Some(target),
                None => return Ok(Reply::Sessions(Vec::new())),
            },
            None => None,
        };
        let filter = SessionFilter {
            person: args.person.clone(),
            target,
            request: args.request,
            since: args.since.map(|span| self.now.minus(span.0)),
            live_only: args.live,
            limit: READ,
        };
        let rows = self.console.store.sessions(&filter).await.map_err(|error| self.down(&error))?;
        Ok(Reply::Sessions(rows.iter().filter(|row| self.lists(row)).take(SHOWN).map(line).collect()))
    }

    /// Finds the recording that is meant, and writes down that it is about to be seen.
    pub(super) async fn replay(&self, word: &SessionWord) -> Result<Reply, Refusal> {
        let row = self.meant(word).await?;
        let Some(sealed) = &row.sealed else {
            let why = if row.ended.is_none() { "is still running" } else { "is being sealed; try again in a moment" };
            return Err(self.refusal(RefusalKind::Unavailable, &row.id.to_string(), why));
        };
        let recording = RecordingLine { session: row.id, sha256: sealed.sha256, bytes: sealed.bytes, file: sealed.file.clone() };
        let facts = serde_json::json!({
            "person": self.who.person(), "key": self.who.fingerprint(), "source": self.who.source(), "session": row.id,
            "target": row.target, "of": row.person, "sha256": sealed.sha256,
        });
        // A gate event: what cannot be written down is not shown (FC5).
        self.console.store.report(Event::new("session.replay", facts), self.now).await.map_err(|error| self.down(&error))?;
        Ok(Reply::Recording(recording))
    }

    async fn meant(&self, word: &SessionWord) -> Result<SessionRow, Refusal> {
        let rows = match word {
            SessionWord::Last => {
                let filter = SessionFilter { limit: READ, ..SessionFilter::default() };
                let rows = self.console.store.sessions(&filter).await.map_err(|error| self.down(&error))?;
                return rows
                    .into_iter()
                    .find(|row| row.sealed.is_some() && self.audits(&row.target))
                    .ok_or_else(|| self.no_session("last", "is none: no recording that you may replay"));
            }
            SessionWord::Begins(text) => match self.console.store.find_session(text, None).await.map_err(|error| self.down(&error))? {
                Found::One(id) => vec![id],
                Found::Several(ids) => ids,
                Found::Nothing => Vec::new(),
            },
        };
        let mut mine = Vec::new();
        for id in rows {
            let row = self.console.store.session(id).await.map_err(|error| self.down(&error))?;
            mine.extend(row.filter(|row| self.audits(&row.target)));
        }
        if mine.len() > 1 {
            let mut refusal =
                self.refusal(RefusalKind::Usage, &word.to_string(), "is the beginning of several, or a request with several sessions");
            refusal.next = mine.iter().map(|row| Next::Verb(format!("replay {}", row.id))).collect();
            return Err(refusal);
        }
        mine.pop().ok_or_else(|| self.no_session(&word.to_string(), "is unknown or not yours"))
    }

    fn no_session(&self, what: &str, why: &str) -> Refusal {
        let mut refusal = self.refusal(RefusalKind::Refused, what, why);
        refusal.next = vec![Next::Verb("sessions".into())];
        refusal
    }

    fn lists(&self, row: &SessionRow) -> bool {
        row.person == *self.who.person() || self.audits(&row.target)
    }

    fn audits(&self, target: &TargetId) -> bool {
        self.directory
            .targets
            .find(target.as_str())
            .is_some_and(|target| self.directory.policy.may(self.who.person(), self.who.groups(), ConsoleAction::Replay, target, self.now))
    }

    /// A target's id by its name or alias; a target that has left the directory by its id.
    fn target_named(&self, name: &str) -> Option<TargetId> {
        self.directory.targets.find(name).map(|target| target.id.clone()).or_else(|| name.parse().ok())
    }
}

fn line(row: &SessionRow) -> SessionLine {
    SessionLine {
        session: row.id,
        request: row.request,
        person: row.person.clone(),
        target: row.target.clone(),
        login: row.login.clone(),
        kind: row.kind.clone(),
        source: row.source.clone(),
        serial: row.serial,
        record: row.record.as_str().to_owned(),
        started: row.started,
        ended: row.ended,
        outcome: row.outcome.clone(),
        sealed: row.sealed.as_ref().map(|sealed| RecordingLine {
            session: row.id,
            sha256: sealed.sha256,
            bytes: sealed.bytes,
            file: sealed.file.clone(),
        }),
    }
}
