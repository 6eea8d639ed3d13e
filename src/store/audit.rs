//! Rows of the audit log. They are appended inside the transaction of the change; an event that cannot
//! be appended undoes it (FC5). Each row is written after the one before it, by that row's leaf hash.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::columns::{count, digest, time};
use super::{Store, StoreError, Tx};
use crate::audit::row::{NO_ROW, Row, V1};
use crate::audit::{Event, tree};
use crate::id::Digest;
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

/// Which rows to list; everything that is given has to hold.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// A name, or the beginning of one up to a dot: `session`, `session.open`.
    pub name: Option<String>,
    pub since: Option<Timestamp>,
    /// Somewhere in the row's text.
    pub mentions: Option<String>,
    /// The newest of them.
    pub limit: u32,
}

/// A signed state of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRow {
    pub size: u64,
    pub root: Digest,
    pub note: String,
}

impl Tx {
    /// Appends an event; returns its sequence number.
    pub(crate) async fn append(&mut self, event: Event, now: Timestamp) -> Result<u64, StoreError> {
        let last = sqlx::query("select seq, leaf from audit order by seq desc limit 1").fetch_optional(&mut self.connection).await?;
        let (before, prev) = match &last {
            Some(row) => (count(row, "seq")?, digest(row, "leaf")?),
            None => (0u64, NO_ROW),
        };
        let row = Row { v: V1, seq: before + 1, at: now, name: event.name.to_owned(), facts: event.facts, prev };
        let line = row.encode();
        // What no export could get past is not appended, and its change does not happen.
        Row::read(&line).map_err(|error| super::columns::misread("line", error))?;
        sqlx::query("insert into audit (seq, at, name, line, leaf) values ($1, $2, $3, $4, $5)")
            .bind(i64::try_from(row.seq).unwrap_or(i64::MAX))
            .bind(now.micros())
            .bind(event.name)
            .bind(String::from_utf8_lossy(&line).into_owned())
            .bind(tree::leaf(&line).0.to_vec())
            .execute(&mut self.connection)
            .await?;
        Ok(row.seq)
    }
}

impl Tx {
    /// Keeps a signed state of the log; one that is there already stays.
    pub(super) async fn insert_checkpoint(&mut self, checkpoint: &CheckpointRow, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("insert into checkpoints (size, at, root, note) values ($1, $2, $3, $4) on conflict (size) do nothing")
            .bind(i64::try_from(checkpoint.size).unwrap_or(i64::MAX))
            .bind(now.micros())
            .bind(checkpoint.root.0.to_vec())
            .bind(&checkpoint.note)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }
}

impl Store {
    /// Appends a report event that belongs to no other change (a login, a refusal, a failure).
    pub async fn report(&self, event: Event, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| Box::pin(async move { tx.append(event, now).await.map(drop) })).await
    }

    /// One row's own bytes.
    pub async fn audit_line(&self, seq: u64) -> Result<Option<String>, StoreError> {
        Ok(self.audit_lines(seq, 1).await?.into_iter().find(|(found, _)| *found == seq).map(|(_, line)| line))
    }

    /// Lists at most `limit` rows of the audit log, from sequence number `from` on.
    pub async fn audit(&self, from: u64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let rows = sqlx::query("select seq, at, name, line from audit where seq >= $1 order by seq limit $2")
            .bind(i64::try_from(from).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Lists the newest rows that fit, oldest first.
    pub async fn audit_log(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, StoreError> {
        let rows = sqlx::query(
            "select seq, at, name, line from audit where ($1 is null or name = $1 or substr(name, 1, length($1) + 1) = $1 || '.')
             and ($2 is null or at >= $2) and ($3 is null or instr(line, $3) > 0) order by seq desc limit $4",
        )
        .bind(filter.name.as_deref())
        .bind(filter.since.map(Timestamp::micros))
        .bind(filter.mentions.as_deref())
        .bind(i64::from(filter.limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().rev().map(read).collect()
    }

    /// The rows' own bytes, as they are hashed and exported.
    pub async fn audit_lines(&self, from: u64, limit: u32) -> Result<Vec<(u64, String)>, StoreError> {
        let rows = sqlx::query("select seq, line from audit where seq >= $1 order by seq limit $2")
            .bind(i64::try_from(from).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok((count(row, "seq")?, row.try_get("line")?))).collect()
    }

    /// The bytes of every row of one name. It reads the whole log.
    pub(super) async fn audit_named(&self, name: &str) -> Result<Vec<(u64, String)>, StoreError> {
        let sql = "select seq, line from audit where name = $1 order by seq";
        let rows = sqlx::query(sql).bind(name.to_owned()).fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((count(row, "seq")?, row.try_get("line")?))).collect()
    }

    /// Leaf hashes by sequence number, from `from` on.
    pub async fn audit_leaves(&self, from: u64, limit: u32) -> Result<Vec<(u64, Digest)>, StoreError> {
        let rows = sqlx::query("select seq, leaf from audit where seq >= $1 order by seq limit $2")
            .bind(i64::try_from(from).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok((count(row, "seq")?, digest(row, "leaf")?))).collect()
    }

    /// How many rows there are; what the last one's number says.
    pub async fn audit_size(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("select coalesce(max(seq), 0) as size from audit").fetch_one(&self.readers).await?;
        count(&row, "size")
    }

    pub async fn keep_checkpoint(&self, checkpoint: CheckpointRow, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| Box::pin(async move { tx.insert_checkpoint(&checkpoint, now).await })).await
    }

    /// The checkpoints from a size on.
    pub async fn checkpoints(&self, from: u64, limit: u32) -> Result<Vec<CheckpointRow>, StoreError> {
        let rows = sqlx::query("select size, root, note from checkpoints where size >= $1 order by size limit $2")
            .bind(i64::try_from(from).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(checkpoint).collect()
    }

    pub async fn last_checkpoint(&self) -> Result<Option<CheckpointRow>, StoreError> {
        let row = sqlx::query("select size, root, note from checkpoints order by size desc limit 1").fetch_optional(&self.readers).await?;
        row.as_ref().map(checkpoint).transpose()
    }
}

fn checkpoint(row: &SqliteRow) -> Result<CheckpointRow, StoreError> {
    Ok(CheckpointRow { size: count(row, "size")?, root: digest(row, "root")?, note: row.try_get("note")? })
}

fn read(row: &SqliteRow) -> Result<AuditRow, StoreError> {
    let line: &str = row.try_get("line")?;
    let read: Row = Row::read(line.as_bytes()).map_err(|error| super::columns::misread("line", error))?;
    Ok(AuditRow { seq: count(row, "seq")?, at: time(row, "at")?, name: row.try_get("name")?, facts: read.facts })
}
