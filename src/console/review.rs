//! What was opened by break-glass, until somebody else has looked at it: `review` lists it, `reviewed` says so.
//!
//! A review takes policy's `review` on the target and is never of one's own; it is a row of the log with the
//! reviewer's key and words. Until then the recording stays, and every listing says so.

use std::collections::BTreeSet;

use super::execute::Act;
use super::grammar::{ReviewedArgs, SessionWord};
use super::reply::{Listed, Next, Refusal, RefusalKind, Reply, ReviewLine, ReviewedLine, SessionLine};
use crate::access::ConsoleAction;
use crate::id::RequestId;
use crate::store::SessionRow;

/// Requests that are shown because one of their sessions waits for a review.
const SHOWN: usize = 100;

impl Act<'_> {
    /// Lists what waits for a review that this person may give, and their own that wait for others'.
    pub(super) async fn review(&self) -> Result<Reply, Refusal> {
        let mut lines = Vec::new();
        for id in self.console.store.unreviewed().await.map_err(|error| self.down(&error))? {
            let row = self.console.store.session(id).await.map_err(|error| self.down(&error))?;
            let Some(row) = row.filter(|row| row.person == *self.who.person() || self.may_on(&row.target, ConsoleAction::Review)) else {
                continue;
            };
            let reason = self.reason_of(&row).await?;
            let SessionRow { id: session, request, person, target, login, kind, started, ended, .. } = row;
            lines.push(ReviewLine { session, request, person, target, login, kind, started, ended, reason });
        }
        Ok(Reply::Review(lines))
    }

    pub(super) async fn reviewed(&self, args: &ReviewedArgs) -> Result<Reply, Refusal> {
        let row = match &args.session {
            SessionWord::Last => {
                let mut refusal = self.refusal(RefusalKind::Usage, "reviewed", "needs to know which session");
                refusal.next = vec![Next::Verb("review".into())];
                return Err(refusal);
            }
            SessionWord::Begins(_) => self.meant_for(&args.session, ConsoleAction::Review).await?,
        };
        let refused = |why: &str, next: &str| {
            let mut refusal = self.refusal(RefusalKind::Refused, &row.id.to_string(), why);
            refusal.next = vec![Next::Verb(next.to_owned())];
            refusal
        };
        if row.person == *self.who.person() {
            return Err(refused("is yours: nobody reviews their own", "review"));
        }
        if row.ended.is_none() {
            return Err(refused("still runs: watch it, or end it", &format!("watch {}", row.id)));
        }
        let (who, key) = (self.who.person(), self.who.fingerprint());
        let first = self.console.store.review(row.id, who, &key, args.note.trim(), self.now).await.map_err(|error| self.down(&error))?;
        if !first {
            return Err(refused("waits for no review", "review"));
        }
        Ok(Reply::Reviewed(ReviewedLine { session: row.id, person: row.person, target: row.target }))
    }

    /// Why it was opened, from the bytes of its request.
    async fn reason_of(&self, row: &SessionRow) -> Result<String, Refusal> {
        let Some(request) = row.request else { return Ok(String::new()) };
        let view = self.console.approvals.view(request).await.map_err(|error| self.down(&error))?;
        Ok(view.map(|view| view.document.reason).unwrap_or_default())
    }

    /// Writes into lines of sessions which of them wait for a review, and who gave it.
    pub(super) async fn with_reviews(&self, lines: &mut [SessionLine]) -> Result<(), Refusal> {
        let ids: Vec<_> = lines.iter().map(|line| line.session).collect();
        for review in self.console.store.reviews(&ids).await.map_err(|error| self.down(&error))? {
            for line in lines.iter_mut().filter(|line| line.session == review.session) {
                line.unreviewed = review.done.is_none();
                line.reviewed_by = review.done.as_ref().map(|(_, by, _)| by.clone());
            }
        }
        Ok(())
    }

    /// Marks the requests of which a session waits for a review, and adds those that are not listed yet.
    pub(super) async fn with_unreviewed(&self, listed: &mut Vec<Listed>, mine: bool) -> Result<(), Refusal> {
        let waiting: BTreeSet<RequestId> =
            self.console.store.unreviewed_requests().await.map_err(|error| self.down(&error))?.into_iter().collect();
        for one in listed.iter_mut() {
            one.unreviewed = waiting.contains(&one.request);
        }
        let known: BTreeSet<RequestId> = listed.iter().map(|one| one.request).collect();
        for id in waiting.into_iter().filter(|id| !known.contains(id)).take(SHOWN) {
            let view = self.console.approvals.view(id).await.map_err(|error| self.down(&error))?;
            let seen = view.filter(|view| self.console.approvals.may_see(view, self.who, self.now));
            let wanted = seen.filter(|view| !mine || view.document.person == *self.who.person());
            listed.extend(wanted.map(|view| Listed { unreviewed: true, ..Listed::of(&view) }));
        }
        Ok(())
    }
}
