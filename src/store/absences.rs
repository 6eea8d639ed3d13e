//! Who said that they are away, and which stages have asked wider.

use sqlx::sqlite::SqliteRow;

use super::columns::{count, maybe_word, time, word};
use super::{Snapshot, Store, StoreError, Tx};
use crate::access::workflow::{Away, Escalated, Wider};
use crate::audit::Event;
use crate::id::{Person, RequestId};
use crate::time::Timestamp;

impl Store {
    /// Everybody who is away at this time.
    pub async fn absences(&self, now: Timestamp) -> Result<Vec<Away>, StoreError> {
        self.snapshot().await?.absences(now).await
    }
}

impl Snapshot {
    pub(crate) async fn absences(&mut self, now: Timestamp) -> Result<Vec<Away>, StoreError> {
        let sql = "select person, since, until, instead from absences where ended is null and until > $1 order by person";
        sqlx::query(sql).bind(now.micros()).fetch_all(&mut *self.tx).await?.iter().map(read).collect()
    }

    /// The stages of a request that have asked wider.
    pub(crate) async fn escalations(&mut self, request: RequestId) -> Result<Vec<Escalated>, StoreError> {
        let sql = "select workflow, stage, at from escalations where request = $1";
        let rows = sqlx::query(sql).bind(request.as_str()).fetch_all(&mut *self.tx).await?;
        let read = |row: &SqliteRow| Ok(Escalated { workflow: word(row, "workflow")?, stage: count(row, "stage")?, at: time(row, "at")? });
        rows.iter().map(read).collect()
    }
}

impl Tx {
    /// Says that somebody is away, instead of what they said before.
    pub(crate) async fn goes_away(&mut self, away: &Away, event: Event) -> Result<(), StoreError> {
        self.end_absence(&away.person, away.since).await?;
        sqlx::query("insert into absences (person, since, until, instead) values ($1, $2, $3, $4)")
            .bind(away.person.as_str())
            .bind(away.since.micros())
            .bind(away.until.micros())
            .bind(away.instead.as_ref().map(Person::as_str))
            .execute(&mut self.connection)
            .await?;
        self.look_at_all().await?;
        self.append(event, away.since).await.map(drop)
    }

    /// Says that somebody is back; false if they were not away.
    pub(crate) async fn comes_back(&mut self, person: &Person, event: Event, now: Timestamp) -> Result<bool, StoreError> {
        if !self.end_absence(person, now).await? {
            return Ok(false);
        }
        self.look_at_all().await?;
        self.append(event, now).await.map(|_| true)
    }

    async fn end_absence(&mut self, person: &Person, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "update absences set ended = $2 where person = $1 and ended is null and until > $2";
        let ended = sqlx::query(sql).bind(person.as_str()).bind(now.micros()).execute(&mut self.connection).await?;
        Ok(ended.rows_affected() > 0)
    }

    /// Writes that a stage asks wider; false if that was known.
    pub(crate) async fn escalate(&mut self, request: RequestId, stage: &Escalated, why: Wider) -> Result<bool, StoreError> {
        let sql = "insert into escalations (request, workflow, stage, why, at) values ($1, $2, $3, $4, $5) on conflict do nothing";
        let written = sqlx::query(sql)
            .bind(request.as_str())
            .bind(stage.workflow.as_str())
            .bind(i64::try_from(stage.stage).unwrap_or(i64::MAX))
            .bind(why.as_str())
            .bind(stage.at.micros())
            .execute(&mut self.connection)
            .await?;
        Ok(written.rows_affected() > 0)
    }

    /// Says when an open request is to be looked at again.
    pub(crate) async fn look_again(&mut self, request: RequestId, at: Timestamp) -> Result<(), StoreError> {
        let sql = "update requests set look_at = $2 where id = $1";
        sqlx::query(sql).bind(request.as_str()).bind(at.micros()).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Has every request that waits looked at: what decides whom they ask has changed.
    pub(crate) async fn look_at_all(&mut self) -> Result<(), StoreError> {
        sqlx::query("update requests set look_at = 0 where state = 'pending' and look_at > 0").execute(&mut self.connection).await?;
        Ok(())
    }
}

fn read(row: &SqliteRow) -> Result<Away, StoreError> {
    Ok(Away { person: word(row, "person")?, since: time(row, "since")?, until: time(row, "until")?, instead: maybe_word(row, "instead")? })
}
