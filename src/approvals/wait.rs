//! Who waits for a decision, and what it means when they leave: a hang-up is not a withdrawal.
//!
//! Waiters are counted in the row. The last to leave starts a clock, a retry stops it; nothing here
//! ends a request, the sweep does when it is due.

use std::time::Duration;

use super::{ApprovalError, Approvals};
use crate::id::RequestId;
use crate::store::Store;
use crate::store::waiters::Waiter;
use crate::time::Timestamp;

/// How long a request outlives the last prompt that waited for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same where it was the bastion that went away, or where the wait has not begun yet.
const PATIENCE_AT_START: Duration = Duration::from_secs(60);

/// One who waits for a request. [`Waiting::leave`] when they hang up.
///
/// Dropped without it (the task was cancelled), the leaving is queued to the writer without waiting; if
/// the queue is full it is lost, and the request lives to its `not_after` with a waiter too many.
#[derive(Debug)]
pub struct Waiting {
    pub id: RequestId,
    store: Store,
    /// Whether the row counts this one; not if it was decided before the wait began.
    counted: bool,
}

impl Approvals {
    /// Registers a waiter. Of a request that is no longer open it registers none: read its row.
    pub async fn wait(&self, id: RequestId, waiter: Waiter, now: Timestamp) -> Result<Waiting, ApprovalError> {
        let counted = self
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let row = tx.request(id).await?.ok_or(ApprovalError::Unknown(id))?;
                    // One that is due ends; a waiter who comes before the sweep does not revive it.
                    Ok::<_, ApprovalError>(row.due > now && tx.waiter_came(&row, waiter).await?)
                })
            })
            .await?;
        Ok(Waiting { id, store: self.store.clone(), counted })
    }

    /// At start: whoever waited on the last boot has gone.
    pub async fn forget_waiters(&self, now: Timestamp) -> Result<(), ApprovalError> {
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    tx.look_at_all().await?;
                    Ok(tx.everybody_left(PATIENCE_AT_START, now).await?)
                })
            })
            .await
    }
}

impl Waiting {
    /// The bastion goes, not who waits: they stay counted, and the next start gives them their time.
    pub fn stay(mut self) {
        self.counted = false;
    }

    pub async fn leave(mut self, now: Timestamp) -> Result<(), ApprovalError> {
        let id = self.id;
        if std::mem::take(&mut self.counted) {
            self.store.write(move |tx| Box::pin(async move { Ok::<_, ApprovalError>(tx.waiter_left(id, PATIENCE, now).await?) })).await?;
        }
        Ok(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let id = self.id;
        if self.counted {
            self.store.post(move |tx| Box::pin(async move { tx.waiter_left(id, PATIENCE, Timestamp::now()).await }));
        }
    }
}

/// When a new request ends if nobody ever begins to wait for it: its connection may die in between.
pub(super) fn no_waiter_yet(waiter: Waiter, linger: Duration, not_after: Timestamp, now: Timestamp) -> Timestamp {
    match waiter {
        Waiter::Shell => now.plus(PATIENCE_AT_START).min(not_after),
        Waiter::Other => now.plus(linger.max(PATIENCE_AT_START)).min(not_after),
        Waiter::Nobody => not_after,
    }
}
