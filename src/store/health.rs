//! What a node's health is read from: counts over the tables, all of one moment.

use std::time::Duration;

use sqlx::Row as _;

use super::columns::{count, maybe_time};
use super::{Store, StoreError};
use crate::time::Timestamp;

/// Over so much of the past the growth of recordings is measured.
pub const LATELY: Duration = Duration::from_secs(7 * 24 * 3600);

/// Counts of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    pub live_sessions: u64,
    pub pending_requests: u64,
    pub open_grants: u64,
    /// Recordings that are marked to go.
    pub marked: u64,
    /// Sessions that were opened by break-glass and wait for a review.
    pub unreviewed: u64,
    /// Bytes that were sealed [`LATELY`], and when the first session of all began.
    pub bytes_lately: u64,
    pub first_session: Option<Timestamp>,
    /// Rows of the audit log.
    pub rows: u64,
    /// Rows that a checkpoint covers, and when it was signed.
    pub signed_rows: u64,
    pub signed_at: Option<Timestamp>,
    /// The oldest row that no checkpoint covers.
    pub unsigned_since: Option<Timestamp>,
}

impl Store {
    pub async fn counts(&self, now: Timestamp) -> Result<Counts, StoreError> {
        let sql = "with signed as (select coalesce(max(size), 0) as size, max(at) as at from checkpoints)
            select
            (select count(*) from sessions where ended is null) as live,
            (select count(*) from requests where state in ('needs-reason', 'pending')) as pending,
            (select count(*) from grants where state = 'open') as open_grants,
            (select count(*) from sessions where marked is not null and disposed is null) as marked,
            (select count(*) from reviews where reviewed is null) as unreviewed,
            (select coalesce(sum(bytes), 0) from sessions where started >= $1 and file is not null) as bytes_lately,
            (select min(started) from sessions) as first_session,
            (select coalesce(max(seq), 0) from audit) as rows_in_all,
            (select size from signed) as signed_rows,
            (select at from signed) as signed_at,
            (select min(at) from audit where seq > (select size from signed)) as unsigned_since";
        let row = sqlx::query(sql).bind(now.minus(LATELY).micros()).fetch_one(&self.readers).await?;
        Ok(Counts {
            live_sessions: count(&row, "live")?,
            pending_requests: count(&row, "pending")?,
            open_grants: count(&row, "open_grants")?,
            marked: count(&row, "marked")?,
            unreviewed: count(&row, "unreviewed")?,
            bytes_lately: count(&row, "bytes_lately")?,
            first_session: maybe_time(&row, "first_session")?,
            rows: count(&row, "rows_in_all")?,
            signed_rows: count(&row, "signed_rows")?,
            signed_at: maybe_time(&row, "signed_at")?,
            unsigned_since: maybe_time(&row, "unsigned_since")?,
        })
    }

    /// Rows of the audit log when this process opened it.
    pub fn rows_at_start(&self) -> u64 {
        self.rows_at_start
    }

    /// Names of the rows of the audit log behind `seq`, in order, each with its number.
    pub async fn names_after(&self, seq: u64, limit: u32) -> Result<Vec<(u64, String)>, StoreError> {
        let rows = sqlx::query("select seq, name from audit where seq > $1 order by seq limit $2")
            .bind(i64::try_from(seq).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok((count(row, "seq")?, row.try_get("name")?))).collect()
    }
}
