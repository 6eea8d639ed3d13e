//! More time for an approval that runs: a request of its own, which names the one it extends.
//!
//! Its bytes say since when that one has run and until when it would, so that the approver signs both.
//! Approved it opens nothing: it moves the end of a grant that still runs, once, and never beyond what was
//! signed. An end that has come stays.

use std::time::Duration;

use serde_json::json;

use super::rerule::{Fallen, Fit, fallen, longest};
use super::submit::{decide_within, given, join_or_insert};
use super::wait::no_waiter_yet;
use super::{Again, Approvals, Joined, SubmitError};
use crate::access::request::{self, ANY_SOURCE, Extends, RequestDocument};
use crate::access::{OpeningContext, Principal};
use crate::audit::Event;
use crate::id::{RequestId, SessionId};
use crate::judge::workflows_of;
use crate::store::StoreError;
use crate::store::grants::GrantState;
use crate::store::requests::{NewRequest, RequestState};
use crate::store::waiters::Waiter;
use crate::time::{Timestamp, short};

#[derive(Debug, thiserror::Error)]
pub enum ExtendError {
    #[error("{0} is unknown or not yours")]
    Unknown(RequestId),
    #[error("{0} {1}")]
    NotRunning(RequestId, &'static str),
    #[error("{id} may run for {longest} in all: at most {left} more can be asked for")]
    Longest { id: RequestId, longest: String, left: String },
    #[error("{0} would not be granted any more: {1}")]
    Fallen(RequestId, String),
    #[error("the reason does not fit: {0}")]
    Reason(String),
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl Approvals {
    /// Asks for more time on a running grant of this person; for what its workflow offers where nobody says how
    /// much, and for the reason it was given for where nobody says another.
    pub async fn extend(
        &self,
        id: RequestId,
        who: &Principal,
        (by, reason): (Option<Duration>, Option<&str>),
        now: Timestamp,
    ) -> Result<(RequestId, Joined), ExtendError> {
        let directory = self.directory();
        let mut snapshot = self.store.snapshot().await.map_err(SubmitError::from)?;
        let row = snapshot.request(id).await.map_err(SubmitError::from)?.filter(|row| row.person == *who.person());
        let row = row.ok_or(ExtendError::Unknown(id))?;
        let grant = snapshot.grant(id).await.map_err(SubmitError::from)?;
        drop(snapshot);
        let grant = grant.ok_or(ExtendError::NotRunning(id, "was not approved"))?;
        // One session that runs has used its grant up, and may still be given more time.
        if let Some(why) = grant.unusable(now).filter(|_| grant.uses_left != Some(0) || grant.state != GrantState::Open) {
            return Err(ExtendError::NotRunning(id, why));
        }
        let (Some(since), Some(ends)) = (grant.first_used, grant.ends_at.filter(|ends| *ends > now)) else {
            return Err(ExtendError::NotRunning(id, "has not begun: nothing runs on it"));
        };
        let mut document = RequestDocument::read(&row.bytes).map_err(SubmitError::from)?;
        let context = row.context.clone().unwrap_or_else(|| OpeningContext::of(who, Vec::new(), now));
        match fallen(&directory, &document, &context, Fit::Any) {
            None => {}
            Some(Fallen::Free) => return Err(ExtendError::NotRunning(id, "needs nobody's approval any more: connect again")),
            Some(other) => return Err(ExtendError::Fallen(id, other.why())),
        }
        let workflows = workflows_of(&directory, &document).ok_or_else(|| ExtendError::Fallen(id, "its workflow is gone".into()))?;
        let longest = longest(&directory, &document, &context, &workflows);
        let left = since.plus(longest).since(ends);
        let offered = workflows.iter().map(|workflow| workflow.default_grant).min().unwrap_or_default();
        let by = by.unwrap_or(offered.min(left));
        if by > left || by.is_zero() {
            return Err(ExtendError::Longest { id, longest: short(longest), left: short(left) });
        }
        let reason = given(&workflows, reason.or(Some(&document.reason))).map_err(ExtendError::Reason)?;

        let (person, key, address) = request::asked_by(who);
        let extends = Extends {
            request: id,
            digest: row.digest,
            since_us: request::doc_micros(since),
            ends_us: request::doc_micros(ends),
            until_us: request::doc_micros(ends.plus(by)),
        };
        document.nonce = rand::random::<[u8; 16]>().to_vec();
        (document.person, document.key) = (person, key);
        if document.source != ANY_SOURCE {
            document.source = address;
        }
        document.for_us = request::doc_duration(by);
        document.once = false;
        document.break_glass = false;
        document.made_us = request::doc_micros(now);
        // Later it could not be extended any more: the cut waits for the answer no longer (`users.md` 14).
        document.not_after_us = request::doc_micros(now.plus(decide_within(&workflows)).min(ends.plus(document.overrun())));
        document.start_us = None;
        document.reason = reason.unwrap_or_default();
        document.policy = directory.digest;
        document.extends = Some(extends);
        let new = NewRequest {
            state: RequestState::Pending,
            waiter: Waiter::Nobody,
            linger: Duration::ZERO,
            due: no_waiter_yet(Waiter::Nobody, Duration::ZERO, document.not_after(), now),
            context: OpeningContext::of(who, Vec::new(), now),
        };
        let limits = directory.config.limits.clone();
        let submitted = self.store.write(move |tx| Box::pin(join_or_insert(tx, document, new, (limits, Again::No), now)));
        Ok(submitted.await?)
    }

    /// Whether more time was asked for before a grant's end and nobody has answered yet: by which request, and until
    /// when the cut waits for that.
    pub async fn waits_for_more(&self, id: RequestId, now: Timestamp) -> Result<Option<(RequestId, Timestamp)>, StoreError> {
        self.store.urgent_snapshot().await?.extension_waiting(id, now).await
    }

    /// Writes down that a session goes on past its end until that is answered. What cannot be written down does not.
    pub async fn overruns(
        &self,
        session: SessionId,
        (id, extension): (RequestId, RequestId),
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let facts = json!({ "session": session, "request": id, "extension": extension, "until_us": until });
        self.store.report(Event::new("session.overrun", facts), now).await
    }

    /// When a grant ends, as its row has it now.
    pub async fn ends_at(&self, id: RequestId) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.store.urgent_snapshot().await?.grant(id).await?.and_then(|grant| grant.ends_at))
    }
}
