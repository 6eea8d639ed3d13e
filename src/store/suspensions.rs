//! Who is suspended: one row from then until it is lifted, read at every directory that is published.

use std::path::Path;

use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions as _, Row as _};

use super::columns::{time, word};
use super::grants::{GrantFilter, GrantState};
use super::requests::{RequestFilter, RequestState};
use super::{Store, StoreError, Tx};
use crate::audit::Event;
use crate::id::{Person, RequestId, SessionId};
use crate::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    pub person: Person,
    pub by: Person,
    pub reason: String,
    pub at: Timestamp,
}

/// What a suspension ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cut {
    pub sessions: Vec<SessionId>,
    pub requests: usize,
    pub grants: usize,
}

/// Rows of one person that are looked at; nobody has so many.
const READ: u32 = 10_000;

impl Store {
    /// Everybody who is suspended.
    pub async fn suspensions(&self) -> Result<Vec<Suspension>, StoreError> {
        sqlx::query(CURRENT).fetch_all(&self.urgent).await?.iter().map(read).collect()
    }

    /// The same of a database that may be in use by a running node, without touching it; nothing where there is
    /// none, or it cannot be read.
    pub async fn suspensions_in(path: &Path) -> Option<Vec<Suspension>> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).create_if_missing(false).disable_statement_logging();
        let mut connection = options.connect().await.ok()?;
        sqlx::query(CURRENT).fetch_all(&mut connection).await.ok()?.iter().map(read).collect::<Result<_, _>>().ok()
    }

    /// Suspends a person, ends what they run and voids what they asked for and were granted, in one
    /// transaction; nothing if they are suspended already.
    pub async fn suspend(&self, suspension: Suspension, event: Event) -> Result<Option<Cut>, StoreError> {
        let mut snapshot = self.snapshot().await?;
        let person = Some(suspension.person.clone());
        let open: Vec<RequestId> = {
            let rows = snapshot.requests(&RequestFilter { open_only: true, person: person.clone(), limit: READ }).await?;
            rows.into_iter().map(|row| row.id).collect()
        };
        let granted = snapshot.grants(&GrantFilter { open_only: true, person, limit: READ }).await?;
        drop(snapshot);
        let granted: Vec<RequestId> = granted.into_iter().map(|grant| grant.request).collect();
        let cut = self.write(move |tx| Box::pin(async move { tx.suspend(&suspension, (open, granted), event).await })).await?;
        for session in cut.iter().flat_map(|cut| &cut.sessions) {
            // After the COMMIT, so that who reads on the hint finds the row.
            self.wake.killed(*session);
        }
        self.wake.suspended();
        Ok(cut)
    }

    /// Lifts a suspension; false if there is none, or whoever would lift it is suspended.
    pub async fn unsuspend(&self, person: &Person, by: &Person, event: Event, now: Timestamp) -> Result<bool, StoreError> {
        let (person, by) = (person.clone(), by.clone());
        let lifted = self
            .write(move |tx| {
                Box::pin(async move {
                    if tx.is_suspended(&by).await? || !tx.lift(&person, now).await? {
                        return Ok(false);
                    }
                    tx.append(event, now).await.map(|_| true)
                })
            })
            .await?;
        self.wake.suspended();
        Ok(lifted)
    }

    /// A hint each time somebody is suspended, or no more.
    pub fn suspended(&self) -> tokio::sync::watch::Receiver<u64> {
        self.wake.listen_suspended()
    }
}

impl Tx {
    pub(crate) async fn is_suspended(&mut self, person: &Person) -> Result<bool, StoreError> {
        let sql = "select 1 from suspensions where person = $1 and lifted is null";
        Ok(sqlx::query(sql).bind(person.as_str()).fetch_optional(&mut self.connection).await?.is_some())
    }

    async fn suspend(
        &mut self,
        suspension: &Suspension,
        (open, granted): (Vec<RequestId>, Vec<RequestId>),
        event: Event,
    ) -> Result<Option<Cut>, StoreError> {
        let Suspension { person, by, reason, at } = suspension;
        if (by != person && self.is_suspended(by).await?) || !self.write_suspension(suspension).await? {
            return Ok(None);
        }
        self.append(event, *at).await?;
        let why = words(person, reason);
        let mut cut = Cut { sessions: self.kill_all(suspension, &why).await?, ..Cut::default() };
        for id in open {
            let Some(row) = self.request(id).await?.filter(|row| row.state.is_open()) else { continue };
            let event = Event::request("request.void", id, Some(by), json!({ "digest": row.digest, "why": why }));
            cut.requests += usize::from(self.turn(&row, &RequestState::Void, None, event, *at).await?);
        }
        for id in granted {
            let event = Event::request("grant.revoke", id, Some(by), json!({ "reason": why }));
            cut.grants += usize::from(self.end_grant(id, GrantState::Revoked, Some(by), &why, event, *at).await?);
        }
        // Whoever they were asked to decide for waits for somebody else.
        self.look_at_all().await?;
        Ok(Some(cut))
    }

    /// Also for a restored state: nothing where they are suspended already.
    pub(super) async fn write_suspension(&mut self, suspension: &Suspension) -> Result<bool, StoreError> {
        let Suspension { person, by, reason, at } = suspension;
        let written = sqlx::query(
            "insert into suspensions (person, by, reason, at) select $1, $2, $3, $4
             where not exists (select 1 from suspensions where person = $1 and lifted is null)",
        )
        .bind(person.as_str())
        .bind(by.as_str())
        .bind(reason)
        .bind(at.micros())
        .execute(&mut self.connection)
        .await?;
        Ok(written.rows_affected() > 0)
    }

    pub(super) async fn lift(&mut self, person: &Person, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "update suspensions set lifted = $2 where person = $1 and lifted is null";
        let lifted = sqlx::query(sql).bind(person.as_str()).bind(now.micros()).execute(&mut self.connection).await?;
        Ok(lifted.rows_affected() > 0)
    }

    /// Writes that every running session of the person is to end, each with its audit row.
    async fn kill_all(&mut self, suspension: &Suspension, why: &str) -> Result<Vec<SessionId>, StoreError> {
        let Suspension { person, by, at, .. } = suspension;
        let rows = sqlx::query("select id, target, request from sessions where person = $1 and ended is null order by id")
            .bind(person.as_str())
            .fetch_all(&mut self.connection)
            .await?;
        let mut killed = Vec::new();
        for row in &rows {
            let session: SessionId = word(row, "id")?;
            let (target, request): (String, Option<String>) = (row.try_get("target")?, row.try_get("request")?);
            let sql = "insert into kills (session, person, why, at) values ($1, $2, $3, $4) on conflict (session) do nothing";
            let query = sqlx::query(sql).bind(session.to_string()).bind(by.as_str()).bind(why).bind(at.micros());
            if query.execute(&mut self.connection).await?.rows_affected() == 0 {
                continue;
            }
            let facts = json!({ "by": by, "session": session, "request": request, "person": person, "target": target, "reason": why });
            self.append(Event::new("session.kill", facts), *at).await?;
            killed.push(session);
        }
        Ok(killed)
    }
}

/// `mallory is suspended: laptop lost`
fn words(person: &Person, reason: &str) -> String {
    if reason.is_empty() { format!("{person} is suspended") } else { format!("{person} is suspended: {reason}") }
}

const CURRENT: &str = "select person, by, reason, at from suspensions where lifted is null order by person";

fn read(row: &SqliteRow) -> Result<Suspension, StoreError> {
    Ok(Suspension { person: word(row, "person")?, by: word(row, "by")?, reason: row.try_get("reason")?, at: time(row, "at")? })
}
