//! Rows of the audit log. They are appended inside the transaction of the change; an event that cannot
//! be appended undoes it (FC5).

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::columns::{count, json, time};
use super::{Store, StoreError, Tx};
use crate::audit::Event;
use crate::time::Timestamp;

/// A row of the log, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRow {
    /// From 1, without gaps.
    pub seq: u64,
    pub at: Timestamp,
    pub name: String,
    pub facts: serde_json::Value,
}

impl Tx {
    pub(crate) async fn append(&mut self, event: Event, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("insert into audit (seq, at, name, facts) select coalesce(max(seq), 0) + 1, $1, $2, $3 from audit")
            .bind(now.micros())
            .bind(event.name)
            .bind(event.facts.to_string())
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }
}

impl Store {
    /// Appends a report event that belongs to no other change (a login, a refusal, a failure).
    pub async fn report(&self, event: Event, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| Box::pin(async move { tx.append(event, now).await })).await
    }

    /// Lists at most `limit` rows of the audit log, from sequence number `from` on.
    pub async fn audit(&self, from: u64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let rows = sqlx::query("select seq, at, name, facts from audit where seq >= $1 order by seq limit $2")
            .bind(i64::try_from(from).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<AuditRow, StoreError> {
    Ok(AuditRow { seq: count(row, "seq")?, at: time(row, "at")?, name: row.try_get("name")?, facts: json(row, "facts")? })
}
