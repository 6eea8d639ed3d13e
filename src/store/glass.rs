//! Grants that nobody agreed to: those of break-glass name no approver.

use super::columns::{count, time, word};
use super::{StoreError, Tx};
use crate::id::Person;
use crate::time::Timestamp;

impl Tx {
    /// Who ended one of this person's last, and when; not the person.
    pub(crate) async fn break_glass_ended(&mut self, person: &Person, since: Timestamp) -> Result<Option<(Person, Timestamp)>, StoreError> {
        let sql = "select ended_by, ended_at from grants where person = $1 and approvers = '[]' and ended_at > $2
                   and ended_by is not null and ended_by <> $1 order by ended_at desc limit 1";
        let row = sqlx::query(sql).bind(person.as_str()).bind(since.micros()).fetch_optional(&mut self.connection).await?;
        row.map(|row| Ok((word(&row, "ended_by")?, time(&row, "ended_at")?))).transpose()
    }

    /// How many of this person's are open and unused.
    pub(crate) async fn break_glass_unused(&mut self, person: &Person, now: Timestamp) -> Result<usize, StoreError> {
        let sql = "select count(*) as unused from grants
                   where state = 'open' and person = $1 and approvers = '[]' and first_used is null and use_by > $2";
        count(&sqlx::query(sql).bind(person.as_str()).bind(now.micros()).fetch_one(&mut self.connection).await?, "unused")
    }
}
