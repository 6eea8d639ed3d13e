//! Rows of sessions: opened in `grants`, ended and sealed here, listed and found by what people type.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::columns::{count, digest, json, maybe_time, maybe_word, misread, time, word};
use super::{Store, StoreError, Tx};
use crate::access::ruling::RecordLevel;
use crate::audit::Event;
use crate::id::{Digest, Login, Person, RequestId, SessionId, TargetId};
use crate::retention::terms::{Due, Terms};
use crate::time::Timestamp;

/// A session's row.
#[derive(Debug, Clone)]
pub struct SessionRow {
    pub id: SessionId,
    pub request: Option<RequestId>,
    pub person: Person,
    pub target: TargetId,
    pub login: Login,
    /// `shell`, `exec`, `sftp`, `forward-local` or `forward-remote`
    pub kind: String,
    /// Where a forward leads, or listens.
    pub to: Option<String>,
    pub source: String,
    pub serial: u64,
    pub record: RecordLevel,
    pub retention: Terms,
    pub started: Timestamp,
    /// When its window ends, if it has one.
    pub ends_at: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// In the words of `transcript::Outcome`.
    pub outcome: Option<String>,
    /// Set once the recording is sealed.
    pub sealed: Option<SealedRow>,
    pub disposal: Disposal,
    /// When its end was announced, whatever came of it.
    pub marked: Option<Timestamp>,
}

/// A sealed recording, as the transaction that sealed it wrote it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedRow {
    /// The body below the recordings' directory, its SHA-256 and size.
    pub file: String,
    pub sha256: Digest,
    pub bytes: u64,
    /// SHA-256 of the manifest.
    pub manifest: Digest,
    pub due: Due,
    /// The row of the audit log that says so; 0 before there is one.
    pub seq: u64,
    /// The keys that its key file is addressed to. Only written: what holds later is in `key_files`.
    pub recipients: Vec<String>,
}

/// How far a recording is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposal {
    Kept,
    /// Announced; the uptime from which the grace counts.
    Marked {
        at: Timestamp,
        uptime: Duration,
    },
    /// Its files are being removed.
    Erasing {
        at: Timestamp,
    },
    Disposed {
        at: Timestamp,
    },
}

/// Which sessions to list; everything that is given has to hold.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    pub person: Option<Person>,
    pub target: Option<TargetId>,
    pub request: Option<RequestId>,
    pub since: Option<Timestamp>,
    /// Those that began before this one.
    pub before: Option<SessionId>,
    /// Those that have not ended.
    pub live_only: bool,
    /// Newest first; 0 is none.
    pub limit: u32,
}

/// What somebody who typed a session means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    One(SessionId),
    Nothing,
    /// More than one fits; the newest few of them.
    Several(Vec<SessionId>),
}

/// Below this, a prefix would be a guess.
const SHORTEST_PREFIX: usize = 4;
const SEVERAL: u32 = 10;

pub(super) const COLUMNS: &str =
    "id, request, person, target, login, kind, endpoint, source, serial, record, retention, started, ends_at, ended, outcome,
    file, sha256, bytes, manifest, sealed_seq, schedule, keep_until, due, marked, marked_uptime, erasing, disposed";

/// `select COLUMNS from sessions` with a literal tail.
macro_rules! select {
    ($tail:literal) => {
        sqlx::query(sqlx::AssertSqlSafe(format!(concat!("select {} from sessions ", $tail), COLUMNS)))
    };
}

impl Tx {
    async fn end_session(&mut self, id: SessionId, outcome: &str, now: Timestamp) -> Result<(), StoreError> {
        let changed = sqlx::query("update sessions set ended = $2, outcome = $3 where id = $1 and ended is null")
            .bind(id.to_string())
            .bind(now.micros())
            .bind(outcome)
            .execute(&mut self.connection)
            .await?;
        if changed.rows_affected() > 0 {
            self.append(Event::new("session.end", serde_json::json!({ "session": id, "outcome": outcome })), now).await?;
        }
        Ok(())
    }

    pub(super) async fn seal_session(&mut self, id: SessionId, sealed: &SealedRow, now: Timestamp) -> Result<(), StoreError> {
        let SealedRow { file, sha256, bytes, manifest, due, seq: _, recipients } = sealed;
        let changed = sqlx::query(
            "update sessions set file = $2, sha256 = $3, bytes = $4, manifest = $5, schedule = $6, keep_until = $7, due = $8
             where id = $1 and file is null returning retention",
        )
        .bind(id.to_string())
        .bind(file)
        .bind(sha256.0.to_vec())
        .bind(i64::try_from(*bytes).unwrap_or(i64::MAX))
        .bind(manifest.0.to_vec())
        .bind(due.schedule.as_str())
        .bind(due.keep_until.micros())
        .bind(due.delete_by.micros())
        .fetch_optional(&mut self.connection)
        .await?;
        if let Some(row) = changed {
            // The terms are logged, so that a verifier can recompute the day.
            let terms: Terms = json(&row, "retention")?;
            let facts = serde_json::json!({
                "session": id, "file": file, "sha256": sha256, "bytes": bytes, "manifest": manifest,
                "schedule": due.schedule, "keep_until_us": due.keep_until, "due_us": due.delete_by, "retention": terms,
            });
            let seq = self.append(Event::new("session.seal", facts), now).await?;
            sqlx::query("update sessions set sealed_seq = $2 where id = $1")
                .bind(id.to_string())
                .bind(i64::try_from(seq).unwrap_or(i64::MAX))
                .execute(&mut self.connection)
                .await?;
            self.addressed(id, recipients).await?;
        }
        Ok(())
    }
}

/// Said of sessions that nobody ended before the bastion went away, as `transcript::Outcome` says it.
const INTERRUPTED: &str = "interrupted";

impl Store {
    /// Ends the sessions that the last boot left open. At start only, after recovery.
    pub async fn end_lost_sessions(&self, now: Timestamp) -> Result<(), StoreError> {
        let lost = sqlx::query("select id from sessions where ended is null order by started").fetch_all(&self.readers).await?;
        let lost: Vec<SessionId> = lost.iter().map(|row| word(row, "id")).collect::<Result<_, _>>()?;
        self.write(move |tx| {
            Box::pin(async move {
                for id in lost {
                    tx.end_session(id, INTERRUPTED, now).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// The sessions whose recordings are sealed.
    pub async fn sealed_sessions(&self) -> Result<HashSet<SessionId>, StoreError> {
        let rows = sqlx::query("select id from sessions where file is not null").fetch_all(&self.readers).await?;
        rows.iter().map(|row| word(row, "id")).collect()
    }

    /// Writes how a session ended; the first to say so counts.
    pub async fn session_ended(&self, id: SessionId, outcome: &str, now: Timestamp) -> Result<(), StoreError> {
        let outcome = outcome.to_owned();
        self.write(move |tx| Box::pin(async move { tx.end_session(id, &outcome, now).await })).await
    }

    /// Writes that a session's recording is sealed; once.
    pub async fn session_sealed(&self, id: SessionId, sealed: SealedRow, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| Box::pin(async move { tx.seal_session(id, &sealed, now).await })).await
    }

    /// The row of the audit log that says that a recording has gone.
    pub async fn disposed_seq(&self, id: SessionId) -> Result<Option<u64>, StoreError> {
        let row = sqlx::query("select disposed_seq from sessions where id = $1 and disposed_seq is not null")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(|row| count(row, "disposed_seq")).transpose()
    }

    pub async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        let row = select!("where id = $1").bind(id.to_string()).fetch_optional(&self.readers).await?;
        row.as_ref().map(read).transpose()
    }

    pub async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRow>, StoreError> {
        let rows = select!(
            "where ($1 is null or person = $1) and ($2 is null or target = $2) and ($3 is null or request = $3)
             and ($4 is null or started >= $4) and ($5 = 0 or ended is null) and ($7 is null or id < $7) order by started desc, id desc limit $6"
        )
        .bind(filter.person.as_ref().map(|person| person.as_str().to_owned()))
        .bind(filter.target.as_ref().map(|target| target.as_str().to_owned()))
        .bind(filter.request.map(String::from))
        .bind(filter.since.map(Timestamp::micros))
        .bind(i64::from(filter.live_only))
        .bind(i64::from(filter.limit))
        .bind(filter.before.map(|id| id.to_string()))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Resolves what people type for a session: `last` (of `whose`, else of all), a request's id, a
    /// session's id or the beginning of one.
    pub async fn find_session(&self, typed: &str, whose: Option<&Person>) -> Result<Found, StoreError> {
        if typed == "last" {
            let last = self.sessions(&SessionFilter { person: whose.cloned(), limit: 1, ..SessionFilter::default() }).await?;
            return Ok(last.first().map_or(Found::Nothing, |session| Found::One(session.id)));
        }
        if let Ok(request) = typed.parse() {
            let of = self.sessions(&SessionFilter { request: Some(request), limit: SEVERAL, ..SessionFilter::default() }).await?;
            if !of.is_empty() {
                return Ok(found(of.iter().map(|session| session.id).collect()));
            }
        }
        let prefix = typed.to_ascii_uppercase();
        if prefix.len() < SHORTEST_PREFIX || !prefix.bytes().all(|c| c.is_ascii_alphanumeric()) {
            return Ok(Found::Nothing);
        }
        let rows = sqlx::query("select id from sessions where id >= $1 and id <= $2 order by id desc limit $3")
            .bind(&prefix)
            .bind(format!("{prefix}~")) // after every letter of an id
            .bind(i64::from(SEVERAL))
            .fetch_all(&self.readers)
            .await?;
        Ok(found(rows.iter().map(|row| word(row, "id")).collect::<Result<_, _>>()?))
    }

    /// The targets that this person has ever opened.
    pub async fn opened_by(&self, person: &Person) -> Result<std::collections::BTreeSet<TargetId>, StoreError> {
        let rows =
            sqlx::query("select distinct target from sessions where person = $1").bind(person.as_str()).fetch_all(&self.readers).await?;
        rows.iter().map(|row| word(row, "target")).collect()
    }

    /// Whether this person has ever opened this target.
    pub async fn has_opened(&self, person: &Person, target: &TargetId) -> Result<bool, StoreError> {
        let row = sqlx::query("select 1 from sessions where person = $1 and target = $2 limit 1")
            .bind(person.as_str())
            .bind(target.as_str())
            .fetch_optional(&self.readers)
            .await?;
        Ok(row.is_some())
    }
}

fn found(ids: Vec<SessionId>) -> Found {
    match ids.as_slice() {
        [] => Found::Nothing,
        [one] => Found::One(*one),
        _ => Found::Several(ids),
    }
}

pub(super) fn read(row: &SqliteRow) -> Result<SessionRow, StoreError> {
    let record: &str = row.try_get("record")?;
    let sealed = match row.try_get::<Option<String>, _>("file")? {
        Some(file) => Some(SealedRow {
            file,
            sha256: digest(row, "sha256")?,
            bytes: count(row, "bytes")?,
            manifest: digest(row, "manifest")?,
            seq: count(row, "sealed_seq")?,
            due: Due { schedule: word(row, "schedule")?, keep_until: time(row, "keep_until")?, delete_by: time(row, "due")? },
            recipients: Vec::new(),
        }),
        None => None,
    };
    Ok(SessionRow {
        id: word(row, "id")?,
        request: maybe_word(row, "request")?,
        person: word(row, "person")?,
        target: word(row, "target")?,
        login: word(row, "login")?,
        kind: row.try_get("kind")?,
        to: row.try_get("endpoint")?,
        source: row.try_get("source")?,
        serial: count(row, "serial")?,
        record: RecordLevel::parse(record).ok_or_else(|| misread("record", format!("{record:?} is no level of recording")))?,
        retention: json(row, "retention")?,
        started: time(row, "started")?,
        ends_at: maybe_time(row, "ends_at")?,
        ended: maybe_time(row, "ended")?,
        outcome: row.try_get("outcome")?,
        sealed,
        disposal: disposal(row)?,
        marked: maybe_time(row, "marked")?,
    })
}

fn disposal(row: &SqliteRow) -> Result<Disposal, StoreError> {
    let (marked, erasing, disposed) = (maybe_time(row, "marked")?, maybe_time(row, "erasing")?, maybe_time(row, "disposed")?);
    Ok(match (marked, erasing, disposed) {
        (_, _, Some(at)) => Disposal::Disposed { at },
        (_, Some(at), None) => Disposal::Erasing { at },
        (Some(at), None, None) => Disposal::Marked { at, uptime: Duration::from_micros(count(row, "marked_uptime")?) },
        (None, None, None) => Disposal::Kept,
    })
}
