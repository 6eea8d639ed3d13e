//! Who waits for a request, counted in its row, and when it ends once they have left.

use std::time::Duration;

use super::requests::RequestRow;
use super::{StoreError, Tx};
use crate::id::{Person, RequestId};
use crate::time::Timestamp;

/// Who waits for the decision, and so what a hang-up means (`users.md` 2). Of several who wait for one
/// request, the most patient decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waiter {
    /// A person at a prompt: when the last one leaves, the request is void after 10 s.
    Shell,
    /// Anything else: when the last one leaves, it stays for the workflow's `linger`.
    Other,
    /// Made ahead: nobody waits; it lives to its expiry.
    Nobody,
}

impl Waiter {
    pub(super) fn word(self) -> &'static str {
        match self {
            Waiter::Shell => "shell",
            Waiter::Other => "other",
            Waiter::Nobody => "nobody",
        }
    }
}

impl std::str::FromStr for Waiter {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Waiter::Shell, Waiter::Other, Waiter::Nobody].into_iter().find(|waiter| waiter.word() == text);
        known.ok_or_else(|| format!("{text:?} is no kind of waiter"))
    }
}

impl RequestRow {
    /// When it ends after its last waiter has left at `now`; `patience` is what a prompt's is given.
    fn due_without_waiters(&self, patience: Duration, now: Timestamp) -> Timestamp {
        match self.waiter {
            Waiter::Shell => now.plus(patience).min(self.not_after),
            Waiter::Other => now.plus(self.linger).min(self.not_after),
            Waiter::Nobody => self.not_after,
        }
    }
}

impl Tx {
    /// Makes whoever waits for a request of this person look again.
    pub(crate) async fn wake_waiting(&mut self, person: &Person) -> Result<(), StoreError> {
        let rows = sqlx::query("select id from requests where person = $1 and state in ('needs-reason', 'pending') and waiters > 0")
            .bind(person.as_str())
            .fetch_all(&mut self.connection)
            .await?;
        for row in rows {
            let id = super::columns::word(&row, "id")?;
            self.wake(id);
        }
        Ok(())
    }

    /// Registers who joins: the most patient kind stays, and the request lives at least to `due`.
    pub(crate) async fn waiter_joins(&mut self, row: &RequestRow, waiter: Waiter, due: Timestamp) -> Result<(), StoreError> {
        let kind = row.waiter.max(waiter);
        let due = if kind == Waiter::Nobody { row.not_after } else { due.max(row.due).min(row.not_after) };
        sqlx::query("update requests set waiter = $2, due = $3 where id = $1 and state in ('needs-reason', 'pending')")
            .bind(row.id.as_str())
            .bind(kind.word())
            .bind(due.micros())
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// Counts one more waiter of an open request; false if it is not open.
    pub(crate) async fn waiter_came(&mut self, row: &RequestRow, waiter: Waiter) -> Result<bool, StoreError> {
        let changed = sqlx::query(
            "update requests set waiters = waiters + 1, left_at = null, due = not_after, waiter = $2
             where id = $1 and state in ('needs-reason', 'pending')",
        )
        .bind(row.id.as_str())
        .bind(row.waiter.max(waiter).word())
        .execute(&mut self.connection)
        .await?;
        if changed.rows_affected() > 0 {
            self.wake(row.id);
        }
        Ok(changed.rows_affected() > 0)
    }

    /// Counts one waiter less; the last to leave starts the clock.
    pub(crate) async fn waiter_left(&mut self, id: RequestId, patience: Duration, now: Timestamp) -> Result<(), StoreError> {
        let Some(row) = self.request(id).await? else { return Ok(()) };
        let last = row.waiters <= 1;
        sqlx::query("update requests set waiters = $2, left_at = $3, due = $4 where id = $1 and waiters > 0")
            .bind(id.as_str())
            .bind(i64::from(row.waiters.saturating_sub(1)))
            .bind(last.then_some(now.micros()))
            .bind(if last { row.due_without_waiters(patience, now) } else { row.due }.micros())
            .execute(&mut self.connection)
            .await?;
        self.wake(id);
        Ok(())
    }

    /// Takes every waiter as having left now.
    pub(crate) async fn everybody_left(&mut self, patience: Duration, now: Timestamp) -> Result<(), StoreError> {
        for row in self.waited_for().await? {
            sqlx::query("update requests set waiters = 0, left_at = $2, due = $3 where id = $1")
                .bind(row.id.as_str())
                .bind(now.micros())
                .bind(row.due_without_waiters(patience, now).micros())
                .execute(&mut self.connection)
                .await?;
            self.wake(row.id);
        }
        Ok(())
    }
}
