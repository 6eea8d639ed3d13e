//! Running sessions: who may look on, and who may end one.
//!
//! Watching is a gate event, written before the first byte is shown, and takes policy's `watch` on the
//! target for as long as it lasts; ending takes policy's `kill`, or that the session is one's own.

use super::Console;
use super::execute::Act;
use super::grammar::{SessionWord, Verb};
use super::reply::{KilledLine, Next, Refusal, RefusalKind, Reply, SeenLine, WatchLine};
use crate::access::{ConsoleAction, Principal};
use crate::approvals::KillError;
use crate::audit::Event;
use crate::id::TargetId;
use crate::recording::{Sight, WatchError, Watcher};
use crate::store::{Found, SessionFilter, SessionRow};
use crate::time::Timestamp;

/// Running sessions that are looked through for `last`.
const READ: u32 = 1000;

impl Console {
    /// Begins to watch a session; a refusal is written down, and so is who watches.
    pub(super) async fn watch(&self, who: &Principal, session: &SessionWord, now: Timestamp) -> Result<(WatchLine, Watcher), Refusal> {
        let act = self.act(who, now);
        let watched = act.watch(session).await;
        if let Err(refusal) = &watched {
            act.write_down(&Verb::Watch { session: session.clone() }, refusal).await;
        }
        watched
    }

    /// Returns when policy no longer lets this person watch there: never, unless a reload says so.
    pub(super) async fn may_no_longer_watch(&self, who: &Principal, target: &TargetId) -> Refusal {
        let mut directory = self.directory.clone();
        loop {
            if directory.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let now = Timestamp::now();
            let groups = directory.borrow_and_update().people.named(who.person()).map(|entry| entry.groups.clone());
            let act = self.act(who, now);
            let there = act.directory.targets.find(target.as_str());
            let may = groups
                .zip(there)
                .is_some_and(|(groups, there)| act.directory.policy.may(who.person(), &groups, ConsoleAction::Watch, &there, now));
            if !may {
                return act.refusal(RefusalKind::Refused, "watch", "ends here: policy no longer lets you");
            }
        }
    }
}

impl Act<'_> {
    pub(super) async fn watch(&self, word: &SessionWord) -> Result<(WatchLine, Watcher), Refusal> {
        let row = self.running(word, "watch", |act, row| act.may_on(&row.target, ConsoleAction::Watch)).await?;
        let told = self.directory.config.console.tell_watched;
        let facts = serde_json::json!({
            "person": self.who.person(), "key": self.who.fingerprint(), "source": self.who.source(), "session": row.id,
            "target": row.target, "of": row.person, "told": told,
        });
        // A gate event: what cannot be written down is not shown (FC5).
        self.console.store.report(Event::new("session.watch", facts), self.now).await.map_err(|error| self.down(&error))?;
        let openly = told.then(|| self.who.person().clone());
        let watcher = self.console.recordings.watch(row.id, openly).map_err(|error| self.not_watched(&row, error))?;
        let line = WatchLine {
            session: row.id,
            person: row.person,
            target: row.target,
            login: row.login,
            kind: row.kind,
            started: row.started,
            told,
        };
        Ok((line, watcher))
    }

    pub(super) async fn kill(&self, word: &SessionWord, reason: &str) -> Result<Reply, Refusal> {
        let row = self.running(word, "kill", |act, row| act.console.approvals.may_kill(row, act.who, act.now)).await?;
        let killed = self.console.approvals.kill(row.id, self.who, reason, self.now).await.map_err(|error| match error {
            KillError::Store(error) => self.down(&error),
            KillError::Over(_) => self.over(&row),
            KillError::Unknown(_) => self.no_session(&row.id.to_string(), "is unknown or not yours"),
            KillError::Reason(_) => self.refusal(RefusalKind::Usage, "kill", &error.to_string()),
        })?;
        let SessionRow { id: session, person, target, login, .. } = killed;
        Ok(Reply::Killed(Box::new(KilledLine { session, person, target, login })))
    }

    /// The running session that is meant, among those with which this person may do that.
    async fn running(&self, word: &SessionWord, verb: &str, may: impl Fn(&Self, &SessionRow) -> bool) -> Result<SessionRow, Refusal> {
        let store = &self.console.store;
        let mut rows = Vec::new();
        match word {
            SessionWord::Last => {
                let filter = SessionFilter { live_only: true, limit: READ, ..SessionFilter::default() };
                let live = store.sessions(&filter).await.map_err(|error| self.down(&error))?;
                rows.extend(live.into_iter().find(|row| may(self, row)));
            }
            SessionWord::Begins(text) => {
                let ids = match store.find_session(text, None).await.map_err(|error| self.down(&error))? {
                    Found::One(id) => vec![id],
                    Found::Several(ids) => ids,
                    Found::Nothing => Vec::new(),
                };
                for id in ids {
                    let row = store.session(id).await.map_err(|error| self.down(&error))?;
                    rows.extend(row.filter(|row| may(self, row)));
                }
            }
        }
        let (mut live, over): (Vec<SessionRow>, Vec<SessionRow>) = rows.into_iter().partition(|row| row.ended.is_none());
        match (live.pop(), live.is_empty(), over.first()) {
            (Some(one), true, _) => Ok(one),
            (Some(one), false, _) => {
                live.push(one);
                let why = "is the beginning of several, or a request with several sessions: say which";
                let mut refusal = self.refusal(RefusalKind::Usage, &word.to_string(), why);
                let more = if verb == "kill" { " --reason '…'" } else { "" };
                refusal.next = live.iter().map(|row| Next::Verb(format!("{verb} {}{more}", row.id))).collect();
                Err(refusal)
            }
            (None, _, Some(row)) => Err(self.over(row)),
            (None, _, None) => {
                let why = if *word == SessionWord::Last { "is none: nothing runs that is yours to see" } else { "is unknown or not yours" };
                let mut refusal = self.no_session(&word.to_string(), why);
                refusal.next = vec![Next::Verb("sessions --live".into())];
                Err(refusal)
            }
        }
    }

    fn over(&self, row: &SessionRow) -> Refusal {
        let how = row.outcome.as_deref().map(|outcome| format!(" ({outcome})")).unwrap_or_default();
        let mut refusal = self.refusal(RefusalKind::Refused, &row.id.to_string(), &format!("has ended{how}"));
        let next = if self.may_on(&row.target, ConsoleAction::Replay) { format!("replay {}", row.id) } else { "sessions --live".into() };
        refusal.next = vec![Next::Verb(next)];
        refusal
    }

    fn not_watched(&self, row: &SessionRow, error: WatchError) -> Refusal {
        let mut refusal = self.refusal(RefusalKind::Unavailable, &row.id.to_string(), &error.to_string());
        refusal.next = vec![Next::Verb("sessions --live".into())];
        refusal
    }
}

/// What is shown, as it goes over the wire.
pub(super) fn seen(sights: Vec<Sight>) -> Vec<SeenLine> {
    sights
        .into_iter()
        .map(|sight| match sight {
            Sight::Picture { cols, rows, bytes } => SeenLine::Picture { cols, rows, bytes },
            Sight::Output(bytes) => SeenLine::Output { bytes: bytes.to_vec() },
            Sight::Resize { cols, rows } => SeenLine::Resize { cols, rows },
            Sight::Line { at, text } => SeenLine::Line { at_us: u64::try_from(at.as_micros()).unwrap_or(u64::MAX), text },
            Sight::Skipped(count) => SeenLine::Skipped { count },
            Sight::Ended(outcome) => SeenLine::Ended { outcome },
        })
        .collect()
}
