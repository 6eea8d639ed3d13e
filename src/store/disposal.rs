//! Rows of recordings on their way out, and of the holds that keep them. Each step is a compare-and-swap
//! with its audit row; the one that begins to erase looks for holds in its own transaction (FC13).

use std::time::Duration;

use serde_json::json;
use sqlx::Row as _;

use super::sessions::{SessionRow, read};
use super::{Store, StoreError, Tx};
use crate::audit::Event;
use crate::id::{Digest, SessionId};
use crate::retention::hold::{Hold, HoldId, Recorded, Release};
use crate::retention::terms::Due;
use crate::time::{Timestamp, micros_of};

/// Where a walk over sessions goes on: behind this one.
pub type Cursor = Option<(Timestamp, SessionId)>;

/// What came of asking for a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Done,
    /// Somebody was first, or it is not its time.
    NotNow,
    Held,
}

impl SessionRow {
    /// What holds ask about.
    pub fn recorded(&self) -> Recorded<'_> {
        Recorded {
            person: &self.person,
            target: &self.target,
            session: self.id,
            request: self.request,
            started: self.started,
            ended: self.ended,
        }
    }
}

const COLUMNS: &str = super::sessions::COLUMNS;

impl Tx {
    async fn holds(&mut self) -> Result<Vec<Hold>, StoreError> {
        let rows = sqlx::query("select document from holds where released is null").fetch_all(&mut self.connection).await?;
        rows.iter().map(|row| super::columns::json(row, "document")).collect()
    }

    async fn session_row(&mut self, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("select {COLUMNS} from sessions where id = $1")))
            .bind(id.to_string())
            .fetch_optional(&mut self.connection)
            .await?;
        row.as_ref().map(read).transpose()
    }

    pub(super) async fn dispose(
        &mut self,
        id: SessionId,
        manifest: Digest,
        certificate: &[u8],
        now: Timestamp,
    ) -> Result<Step, StoreError> {
        let sql = "update sessions set disposed = $2 where id = $1 and erasing is not null and disposed is null";
        let changed = sqlx::query(sql).bind(id.to_string()).bind(now.micros()).execute(&mut self.connection).await?;
        if changed.rows_affected() == 0 {
            return Ok(Step::NotNow);
        }
        let certificate: serde_json::Value =
            serde_json::from_slice(certificate).map_err(|error| super::columns::misread("certificate", error))?;
        let facts = json!({ "session": id, "manifest": manifest, "certificate": certificate });
        let seq = self.append(Event::new("session.dispose", facts), now).await?;
        sqlx::query("update sessions set disposed_seq = $2 where id = $1")
            .bind(id.to_string())
            .bind(i64::try_from(seq).unwrap_or(i64::MAX))
            .execute(&mut self.connection)
            .await?;
        Ok(Step::Done)
    }

    pub(super) async fn insert_hold(&mut self, hold: &Hold) -> Result<(), StoreError> {
        sqlx::query("insert into holds (id, document, placed, released) values ($1, $2, $3, $4)")
            .bind(hold.id.to_string())
            .bind(super::columns::to_json(hold))
            .bind(hold.placed.micros())
            .bind(hold.released.as_ref().map(|release| release.at.micros()))
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    pub(super) async fn place_hold(&mut self, hold: &Hold, now: Timestamp) -> Result<(), StoreError> {
        self.insert_hold(hold).await?;
        self.append(Event::new("hold.place", json!({ "hold": hold, "by": hold.by })), now).await.map(drop)
    }

    /// Writes a release into an open hold; false if there is none.
    pub(super) async fn end_hold(&mut self, id: HoldId, release: Release) -> Result<bool, StoreError> {
        let row = sqlx::query("select document from holds where id = $1 and released is null")
            .bind(id.to_string())
            .fetch_optional(&mut self.connection)
            .await?;
        let Some(row) = row else { return Ok(false) };
        let mut hold: Hold = super::columns::json(&row, "document")?;
        let at = release.at.micros();
        hold.released = Some(release);
        sqlx::query("update holds set released = $2, document = $3 where id = $1")
            .bind(id.to_string())
            .bind(at)
            .bind(super::columns::to_json(&hold))
            .execute(&mut self.connection)
            .await?;
        Ok(true)
    }

    async fn is_held(&mut self, id: SessionId, holds: &[Hold]) -> Result<bool, StoreError> {
        // What was opened by break-glass stays until somebody else has looked at it.
        if self.waits_for_review(id).await? {
            return Ok(true);
        }
        if holds.is_empty() {
            return Ok(false);
        }
        let Some(row) = self.session_row(id).await? else { return Ok(false) };
        Ok(holds.iter().any(|hold| hold.covers(&row.recorded())))
    }

    async fn mark(
        &mut self,
        id: SessionId,
        due: Option<Due>,
        holds: &[Hold],
        (grace, uptime): (Duration, Duration),
        now: Timestamp,
    ) -> Result<Step, StoreError> {
        if self.is_held(id, holds).await? {
            return Ok(Step::Held);
        }
        let sql = "update sessions set marked = $2, marked_uptime = $3
                   where id = $1 and marked is null and file is not null and ended is not null";
        let changed = sqlx::query(sql).bind(id.to_string()).bind(now.micros()).bind(micros_of(uptime));
        if changed.execute(&mut self.connection).await?.rows_affected() == 0 {
            return Ok(Step::NotNow);
        }
        let due = due.map(|due| json!({ "schedule": due.schedule, "due_us": due.delete_by }));
        let facts = json!({ "session": id, "due": due, "grace_us": micros_of(grace) });
        self.append(Event::new("session.mark", facts), now).await?;
        Ok(Step::Done)
    }

    async fn begin_erasing(&mut self, id: SessionId, holds: &[Hold], now: Timestamp) -> Result<Step, StoreError> {
        if self.is_held(id, holds).await? {
            return Ok(Step::Held);
        }
        let sql = "update sessions set erasing = $2 where id = $1 and marked is not null and erasing is null";
        let changed = sqlx::query(sql).bind(id.to_string()).bind(now.micros()).execute(&mut self.connection).await?;
        if changed.rows_affected() == 0 {
            return Ok(Step::NotNow);
        }
        self.append(Event::new("session.erase", json!({ "session": id })), now).await?;
        Ok(Step::Done)
    }
}

/// A recording whose files have gone, and the certificate that says so.
#[derive(Debug, Clone)]
pub struct Gone {
    pub session: SessionId,
    pub manifest: Digest,
    pub certificate: Vec<u8>,
}

impl Store {
    /// Sealed recordings that nobody marked yet and that are due by a time, in order of that time.
    pub async fn due(&self, by: Timestamp, behind: Cursor, limit: u32) -> Result<Vec<SessionRow>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from sessions where file is not null and marked is null and ended is not null and due <= $1
             and ($2 is null or due > $2 or (due = $2 and id > $3)) order by due, id limit $4"
        );
        self.walk(sql, by, behind, limit).await
    }

    /// Recordings that were marked by a time and are not gone yet, in order of that time.
    pub async fn marked(&self, by: Timestamp, behind: Cursor, limit: u32) -> Result<Vec<SessionRow>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from sessions where marked is not null and disposed is null and marked <= $1
             and ($2 is null or marked > $2 or (marked = $2 and id > $3)) order by marked, id limit $4"
        );
        self.walk(sql, by, behind, limit).await
    }

    /// All sealed recordings, in order of their start.
    pub async fn recordings_from(&self, behind: Cursor, limit: u32) -> Result<Vec<SessionRow>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from sessions where file is not null and started <= $1
             and ($2 is null or started > $2 or (started = $2 and id > $3)) order by started, id limit $4"
        );
        self.walk(sql, Timestamp::from_micros(i64::MAX), behind, limit).await
    }

    async fn walk(&self, sql: String, by: Timestamp, behind: Cursor, limit: u32) -> Result<Vec<SessionRow>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(by.micros())
            .bind(behind.map(|(at, _)| at.micros()))
            .bind(behind.map(|(_, id)| id.to_string()))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Announces that a page of recordings goes, in one transaction with a row of the log each; the grace
    /// counts from this uptime. Says what came of each, in their order.
    pub async fn mark(&self, rows: &[SessionRow], grace: Duration, uptime: Duration, now: Timestamp) -> Result<Vec<Step>, StoreError> {
        let rows: Vec<(SessionId, Option<Due>)> =
            rows.iter().map(|row| (row.id, row.sealed.as_ref().map(|sealed| sealed.due.clone()))).collect();
        self.write(move |tx| {
            Box::pin(async move {
                let holds = tx.holds().await?;
                let mut steps = Vec::with_capacity(rows.len());
                for (id, due) in rows {
                    steps.push(tx.mark(id, due, &holds, (grace, uptime), now).await?);
                }
                Ok(steps)
            })
        })
        .await
    }

    /// Takes a mark away, because a hold covers the recording now.
    pub async fn unmark(&self, id: SessionId, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                let sql =
                    "update sessions set marked = null, marked_uptime = null where id = $1 and marked is not null and erasing is null";
                let changed = sqlx::query(sql).bind(id.to_string()).execute(&mut tx.connection).await?;
                if changed.rows_affected() > 0 {
                    tx.append(Event::new("session.unmark", json!({ "session": id })), now).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Begins to erase a page of recordings in one transaction, each unless a hold covers it in this very
    /// moment. Says what came of each, in their order.
    pub async fn begin_erasing(&self, ids: Vec<SessionId>, now: Timestamp) -> Result<Vec<Step>, StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                let holds = tx.holds().await?;
                let mut steps = Vec::with_capacity(ids.len());
                for id in ids {
                    steps.push(tx.begin_erasing(id, &holds, now).await?);
                }
                Ok(steps)
            })
        })
        .await
    }

    /// Writes down that recordings have gone, with their certificates, in one transaction; each once. Says
    /// what came of each, in their order.
    pub async fn disposed(&self, gone: Vec<Gone>, now: Timestamp) -> Result<Vec<Step>, StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                let mut steps = Vec::with_capacity(gone.len());
                for one in gone {
                    steps.push(tx.dispose(one.session, one.manifest, &one.certificate, now).await?);
                }
                Ok(steps)
            })
        })
        .await
    }

    /// Places a hold; from the commit on nothing that it covers is erased.
    pub async fn place_hold(&self, hold: Hold, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| Box::pin(async move { tx.place_hold(&hold, now).await })).await
    }

    /// Ends a hold; false if there is none that still holds.
    pub async fn release_hold(&self, id: HoldId, release: Release, now: Timestamp) -> Result<bool, StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                let facts = json!({ "hold": id, "by": release.by, "reason": release.reason });
                if !tx.end_hold(id, release).await? {
                    return Ok(false);
                }
                tx.append(Event::new("hold.release", facts), now).await?;
                Ok(true)
            })
        })
        .await
    }

    /// All holds, the newest first; with those that were released if asked for.
    pub async fn holds(&self, also_released: bool) -> Result<Vec<Hold>, StoreError> {
        let rows = sqlx::query("select document from holds where $1 = 1 or released is null order by placed desc")
            .bind(i64::from(also_released))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| super::columns::json(row, "document")).collect()
    }

    /// How many sealed recordings there are, and how many have gone.
    pub async fn recordings_counted(&self) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query(
            "select count(*) filter (where disposed is null) as kept, count(*) filter (where disposed is not null) as gone
             from sessions where file is not null",
        )
        .fetch_one(&self.readers)
        .await?;
        let number = |column: &str| -> Result<u64, StoreError> { Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0)) };
        Ok((number("kept")?, number("gone")?))
    }
}
