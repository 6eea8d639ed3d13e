//! A running session ended by a person: policy's `kill` on its target, and always one's own.

use serde_json::json;
use tokio::sync::broadcast;

use super::{ApprovalError, Approvals};
use crate::access::request::MAX_REASON;
use crate::access::{ConsoleAction, Principal};
use crate::audit::Event;
use crate::id::{RequestId, SessionId};
use crate::store::{SessionRow, StoreError};
use crate::time::Timestamp;
use crate::transcript::Outcome;

#[derive(Debug, thiserror::Error)]
pub enum KillError {
    #[error("{0} is unknown or not yours")]
    Unknown(SessionId),
    #[error("{0} has ended already")]
    Over(SessionId),
    #[error("the reason is {0} bytes long; 1 to {MAX_REASON} are allowed")]
    Reason(usize),
    #[error("the state cannot be read or written")]
    Store(#[from] StoreError),
}

impl Approvals {
    /// Whether this person may end that session.
    pub fn may_kill(&self, row: &SessionRow, who: &Principal, now: Timestamp) -> bool {
        let directory = self.directory();
        let target = directory.targets.find(row.target.as_str());
        row.person == *who.person()
            || target.is_some_and(|target| directory.policy.may(who.person(), who.groups(), ConsoleAction::Kill, &target, now))
    }

    /// Ends a running session, with or without a grant. A gate event: what cannot be written down does
    /// not happen (FC5). The session's lease reads the row and closes both legs (FC7).
    pub async fn kill(&self, id: SessionId, who: &Principal, reason: &str, now: Timestamp) -> Result<SessionRow, KillError> {
        let reason = reason.trim();
        if reason.is_empty() || reason.len() > MAX_REASON {
            return Err(KillError::Reason(reason.len()));
        }
        let row = self.store.session(id).await?.filter(|row| self.may_kill(row, who, now)).ok_or(KillError::Unknown(id))?;
        let event = Event::new(
            "session.kill",
            json!({
                "by": who.person(), "key": who.fingerprint(), "source": who.source(), "session": id, "request": row.request,
                "person": row.person, "target": row.target, "reason": reason,
            }),
        );
        let killed = self.store.kill_session(id, who.person(), reason, event, now).await?;
        if killed { Ok(row) } else { Err(KillError::Over(id)) }
    }

    /// How somebody ended a running session before its time, if somebody did.
    pub async fn ended_early(&self, session: SessionId, request: Option<RequestId>) -> Result<Option<Outcome>, ApprovalError> {
        if let Some((by, why)) = self.store.killed(session).await? {
            return Ok(Some(Outcome::Killed { by: by.to_string(), why }));
        }
        let Some(request) = request else { return Ok(None) };
        let revoked = self.revoked(request).await?;
        Ok(revoked.map(|(by, why)| Outcome::Revoked { by: by.to_string(), why }))
    }

    /// A hint each time a session is killed.
    pub fn kills(&self) -> broadcast::Receiver<SessionId> {
        self.store.kills()
    }
}
