//! Rows of reviews: what was opened by break-glass, until somebody else has looked at it (FC13: nothing of it goes
//! before).

use serde_json::json;
use sqlx::Row as _;

use super::columns::{maybe_time, maybe_word, word};
use super::{Store, StoreError, Tx};
use crate::audit::Event;
use crate::id::{Person, RequestId, SessionId};
use crate::time::Timestamp;

/// A session that was opened by break-glass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    pub session: SessionId,
    /// When and by whom it was reviewed, and what they said; `None` while it waits for one.
    pub done: Option<(Timestamp, Person, String)>,
}

/// Rows of one listing.
const READ: u32 = 1000;

impl Tx {
    /// Demands a review of a session that is opened here.
    pub(super) async fn demand_review(&mut self, session: SessionId, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query("insert into reviews (session, opened) values ($1, $2) on conflict do nothing")
            .bind(session.to_string())
            .bind(at.micros())
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// Writes a review down; false if there is none to do.
    pub(super) async fn reviewed(&mut self, session: SessionId, by: &Person, note: &str, at: Timestamp) -> Result<bool, StoreError> {
        let changed = sqlx::query("update reviews set reviewed = $2, by = $3, note = $4 where session = $1 and reviewed is null")
            .bind(session.to_string())
            .bind(at.micros())
            .bind(by.as_str())
            .bind(note)
            .execute(&mut self.connection)
            .await?;
        Ok(changed.rows_affected() > 0)
    }

    pub(super) async fn waits_for_review(&mut self, session: SessionId) -> Result<bool, StoreError> {
        let sql = "select 1 from reviews where session = $1 and reviewed is null";
        Ok(sqlx::query(sql).bind(session.to_string()).fetch_optional(&mut self.connection).await?.is_some())
    }
}

impl Store {
    /// Says that somebody has looked at a session, once; false if it waits for no review.
    pub async fn review(&self, session: SessionId, by: &Person, key: &str, note: &str, now: Timestamp) -> Result<bool, StoreError> {
        let (by, note) = (by.clone(), note.to_owned());
        let event = Event::new("session.review", json!({ "session": session, "by": by, "key": key, "note": note }));
        self.write(move |tx| {
            Box::pin(async move {
                let first = tx.reviewed(session, &by, &note, now).await?;
                if first {
                    tx.append(event, now).await?;
                }
                Ok(first)
            })
        })
        .await
    }

    /// The sessions that wait for a review, the oldest first.
    pub async fn unreviewed(&self) -> Result<Vec<SessionId>, StoreError> {
        let rows = sqlx::query("select session from reviews where reviewed is null order by opened limit $1")
            .bind(i64::from(READ))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| word(row, "session")).collect()
    }

    /// The requests of which some session waits for a review.
    pub async fn unreviewed_requests(&self) -> Result<Vec<RequestId>, StoreError> {
        let sql = "select distinct sessions.request as request from reviews join sessions on sessions.id = reviews.session
                   where reviews.reviewed is null and sessions.request is not null order by sessions.request limit $1";
        let rows = sqlx::query(sql).bind(i64::from(READ)).fetch_all(&self.readers).await?;
        rows.iter().map(|row| word(row, "request")).collect()
    }

    /// The reviews of these sessions, where one is or was demanded.
    pub async fn reviews(&self, of: &[SessionId]) -> Result<Vec<Review>, StoreError> {
        let (Some(first), Some(last)) = (of.iter().min(), of.iter().max()) else { return Ok(Vec::new()) };
        let rows =
            sqlx::query("select session, reviewed, by, note from reviews where session >= $1 and session <= $2 order by session limit $3")
                .bind(first.to_string())
                .bind(last.to_string())
                .bind(i64::from(READ))
                .fetch_all(&self.readers)
                .await?;
        rows.iter()
            .map(|row| {
                let done = maybe_time(row, "reviewed")?.zip(maybe_word(row, "by")?);
                let note: Option<String> = row.try_get("note")?;
                Ok(Review { session: word(row, "session")?, done: done.map(|(at, by)| (at, by, note.unwrap_or_default())) })
            })
            .collect()
    }
}
