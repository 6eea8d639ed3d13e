//! `extend`: more time for what runs, asked from inside the session or from anywhere.

use std::collections::BTreeSet;

use super::execute::Act;
use super::grammar::{ExtendArgs, SessionWord};
use super::reply::{Asked, Card, Next, Refusal, RefusalKind, Reply};
use crate::approvals::{ExtendError, Joined};
use crate::id::RequestId;
use crate::store::{Found, SessionFilter};

/// Live sessions of one person that are looked through.
const LIVE: u32 = 500;

impl Act<'_> {
    pub(super) async fn extend(&self, args: &ExtendArgs) -> Result<Reply, Refusal> {
        let id = match &args.what {
            Some(word) => self.runs_on(word).await?,
            None => self.only_one().await?,
        };
        let more = (args.duration.map(|span| span.0), args.reason.as_deref());
        let asked = self.console.approvals.extend(id, self.who, more, self.now).await;
        let (extension, joined) = asked.map_err(|error| self.not_extended(id, &error))?;
        let card = Card::of(&self.seen(extension).await?);
        Ok(Reply::Asked(Box::new(Asked { card, joined: joined == Joined::Existing, free: Vec::new(), parts: Vec::new(), waited: false })))
    }

    /// The approval that is named, by itself or by a session of one's own on it.
    async fn runs_on(&self, word: &str) -> Result<RequestId, Refusal> {
        let upper = word.to_ascii_uppercase();
        if let Ok(id) = upper.parse::<RequestId>() {
            return Ok(id);
        }
        let parsed: SessionWord = word.parse().map_err(|why: String| self.refusal(RefusalKind::Usage, word, &why))?;
        let SessionWord::Begins(text) = parsed else { return self.only_one().await };
        let found = self.console.store.find_session(&text, Some(self.who.person())).await.map_err(|error| self.down(&error))?;
        let row = match found {
            Found::One(id) => self.console.store.session(id).await.map_err(|error| self.down(&error))?,
            Found::Nothing | Found::Several(_) => None,
        };
        row.and_then(|row| row.request).ok_or_else(|| self.nothing_runs(word, "is no session of yours that runs on an approval"))
    }

    /// The one approval that something of this person's runs on.
    async fn only_one(&self) -> Result<RequestId, Refusal> {
        let filter = SessionFilter { person: Some(self.who.person().clone()), live_only: true, limit: LIVE, ..SessionFilter::default() };
        let rows = self.console.store.sessions(&filter).await.map_err(|error| self.down(&error))?;
        let running: BTreeSet<RequestId> = rows.iter().filter_map(|row| row.request).collect();
        let mut running = running.into_iter();
        match (running.next(), running.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(self.nothing_runs("extend", "finds nothing of yours that runs on an approval")),
            (Some(one), Some(other)) => {
                let mut refusal = self.refusal(RefusalKind::Usage, "extend", "needs to know which: several of your approvals run");
                refusal.next = [one, other].into_iter().chain(running).map(|id| Next::Verb(format!("extend {id}"))).collect();
                Err(refusal)
            }
        }
    }

    fn nothing_runs(&self, what: &str, why: &str) -> Refusal {
        let mut refusal = self.refusal(RefusalKind::Refused, what, why);
        refusal.next = vec![Next::Verb("sessions --live".into())];
        refusal
    }

    fn not_extended(&self, id: RequestId, error: &ExtendError) -> Refusal {
        let refused = |why: &str, next: String| {
            let mut refusal = self.refusal(RefusalKind::Refused, id.as_str(), why);
            refusal.next = vec![Next::Verb(next)];
            refusal
        };
        match error {
            ExtendError::Unknown(id) => self.unknown(*id),
            ExtendError::NotRunning(_, why) => refused(why, "grants".into()),
            ExtendError::Longest { longest, left, .. } => {
                refused(&format!("may run for {longest} in all: at most {left} more can be asked for"), format!("extend {id} --for {left}"))
            }
            ExtendError::Fallen(_, why) => refused(&format!("would not be granted any more: {why}"), "targets".into()),
            ExtendError::Reason(why) => refused(&format!("needs a reason that fits: {why}"), format!("extend {id} --reason '…'")),
            ExtendError::Submit(error) => self.not_submitted(error, &[]),
        }
    }
}
