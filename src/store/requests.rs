//! Rows of requests: made, joined, waited for, ended.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::columns::{count, digest, maybe_json, maybe_time, maybe_word, misread, time, to_json, word};
use super::waiters::Waiter;
use super::{Snapshot, StoreError, Tx};
use crate::access::OpeningContext;
use crate::access::request::{RequestDocument, TargetPin};
use crate::audit::Event;
use crate::id::{Digest, Person, RequestId, TargetId};
use crate::time::{Timestamp, micros_of};
use std::time::Duration;

/// Where a request stands; read from its row, shown from its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestState {
    /// Nobody is asked before a reason is given; the bytes are not fixed yet.
    NeedsReason,
    Pending,
    Approved,
    Denied {
        by: Person,
        note: String,
    },
    Withdrawn,
    Expired,
    /// The last waiter left, or policy changed.
    Void,
}

impl RequestState {
    /// The word in the database, in listings and in the log.
    pub fn word(&self) -> &'static str {
        match self {
            RequestState::NeedsReason => "needs-reason",
            RequestState::Pending => "pending",
            RequestState::Approved => "approved",
            RequestState::Denied { .. } => "denied",
            RequestState::Withdrawn => "withdrawn",
            RequestState::Expired => "expired",
            RequestState::Void => "void",
        }
    }

    /// Whether it can still be decided or given its reason.
    pub fn is_open(&self) -> bool {
        matches!(self, RequestState::NeedsReason | RequestState::Pending)
    }
}

/// A request as it is stored. What it asks for stands in `bytes` only.
#[derive(Debug, Clone)]
pub struct RequestRow {
    pub id: RequestId,
    pub state: RequestState,
    pub bytes: Vec<u8>,
    pub digest: Digest,
    pub person: Person,
    pub waiter: Waiter,
    pub waiters: u32,
    pub left_at: Option<Timestamp>,
    pub linger: Duration,
    pub not_after: Timestamp,
    /// When it ends undecided.
    pub due: Timestamp,
    /// What policy knew when it was made; absent in rows of an earlier version.
    pub context: Option<OpeningContext>,
}

impl RequestRow {
    /// What it becomes when it is due: void if everybody left a prompt, else expired.
    pub fn overdue(&self) -> RequestState {
        let left = self.waiter == Waiter::Shell && self.due < self.not_after;
        if left { RequestState::Void } else { RequestState::Expired }
    }
}

/// Which requests to list.
#[derive(Debug, Clone, Default)]
pub struct RequestFilter {
    /// Those that can still be decided or given their reason.
    pub open_only: bool,
    pub person: Option<Person>,
    /// Newest first; 0 is none.
    pub limit: u32,
}

/// What a new row holds beside its document.
#[derive(Debug, Clone)]
pub(crate) struct NewRequest {
    pub state: RequestState,
    pub waiter: Waiter,
    pub linger: Duration,
    pub due: Timestamp,
    pub context: OpeningContext,
}

const COLUMNS: &str = "id, state, bytes, digest, person, waiter, waiters, left_at, linger, not_after, due, ended_by, note, context";

/// `select COLUMNS from requests` with a literal tail: the only dynamic part of any statement here.
macro_rules! select {
    ($tail:literal) => {
        sqlx::query(sqlx::AssertSqlSafe(format!(concat!("select {} from requests ", $tail), COLUMNS)))
    };
}

impl Tx {
    pub(crate) async fn request(&mut self, id: RequestId) -> Result<Option<RequestRow>, StoreError> {
        by_id(&mut self.connection, id).await
    }

    /// The one request of equal scope that is still open.
    pub(crate) async fn open_request_joining(&mut self, joins: Digest) -> Result<Option<RequestRow>, StoreError> {
        let row = select!("where joins = $1 and state in ('needs-reason', 'pending')")
            .bind(joins.0.to_vec())
            .fetch_optional(&mut self.connection)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Requests of this person that were denied after `since`, the last first, and when; at most `limit`.
    pub(crate) async fn denied_lately(
        &mut self,
        person: &Person,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<(RequestRow, Timestamp)>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS}, ended_at from requests where state = 'denied' and ended_at > $2 and person = $1 and length(bytes) > 0
             order by ended_at desc limit $3"
        )))
        .bind(person.as_str())
        .bind(since.micros())
        .bind(i64::from(limit))
        .fetch_all(&mut self.connection)
        .await?;
        rows.iter().map(|row| Ok((read(row)?, time(row, "ended_at")?))).collect()
    }

    /// Counts the open requests that are not due: this person's, and everybody's.
    pub(crate) async fn count_open(&mut self, person: &Person, now: Timestamp) -> Result<(usize, usize), StoreError> {
        let row = sqlx::query(
            "select count(case when person = $1 then 1 end) as theirs, count(*) as everybodys
             from requests where state in ('needs-reason', 'pending') and due > $2",
        )
        .bind(person.as_str())
        .bind(now.micros())
        .fetch_one(&mut self.connection)
        .await?;
        Ok((count(&row, "theirs")?, count(&row, "everybodys")?))
    }

    /// Whether this id was ever used.
    pub(crate) async fn is_known(&mut self, id: RequestId) -> Result<bool, StoreError> {
        let row = sqlx::query("select 1 from requests where id = $1").bind(id.as_str()).fetch_optional(&mut self.connection).await?;
        Ok(row.is_some())
    }

    pub(crate) async fn insert_request(
        &mut self,
        document: &RequestDocument,
        new: NewRequest,
        event: Event,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let bytes = document.bytes();
        sqlx::query(
            "insert into requests (id, state, bytes, digest, joins, person, waiter, waiters, linger, made, not_after, due, context, extends)
             values ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9, $10, $11, $12, $13)",
        )
        .bind(document.request.as_str())
        .bind(new.state.word())
        .bind(&bytes)
        .bind(Digest::of(&bytes).0.to_vec())
        .bind(document.joins().0.to_vec())
        .bind(document.person.as_str())
        .bind(new.waiter.word())
        .bind(micros_of(new.linger))
        .bind(document.made().micros())
        .bind(document.not_after().micros())
        .bind(new.due.micros())
        .bind(to_json(&new.context))
        .bind(document.extends.as_ref().map(|extends| extends.request.as_str().to_owned()))
        .execute(&mut self.connection)
        .await?;
        for target in &document.targets {
            sqlx::query("insert into request_targets (request, target, pin) values ($1, $2, $3)")
                .bind(document.request.as_str())
                .bind(target.id.as_str())
                .bind(target.pin.0.to_vec())
                .execute(&mut self.connection)
                .await?;
        }
        self.wake(document.request);
        self.append(event, now).await.map(drop)
    }

    /// Those of the targets that this person has opened before.
    pub(crate) async fn opened_of(&mut self, person: &Person, targets: &[TargetPin]) -> Result<Vec<TargetId>, StoreError> {
        let mut opened = Vec::new();
        for target in targets {
            let row = sqlx::query("select 1 from sessions where person = $1 and target = $2 limit 1")
                .bind(person.as_str())
                .bind(target.id.as_str())
                .fetch_optional(&mut self.connection)
                .await?;
            opened.extend(row.map(|_| target.id.clone()));
        }
        Ok(opened)
    }

    /// Fixes the bytes of a request that waited for its reason; false if it no longer does.
    pub(crate) async fn fix_bytes(
        &mut self,
        document: &RequestDocument,
        due: Timestamp,
        event: Event,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let bytes = document.bytes();
        let changed = sqlx::query(
            "update requests set state = 'pending', bytes = $2, digest = $3, not_after = $4, due = $5
             where id = $1 and state = 'needs-reason' and due > $6",
        )
        .bind(document.request.as_str())
        .bind(&bytes)
        .bind(Digest::of(&bytes).0.to_vec())
        .bind(document.not_after().micros())
        .bind(due.micros())
        .bind(now.micros())
        .execute(&mut self.connection)
        .await?;
        self.changed(document.request, changed.rows_affected(), event, now).await
    }

    /// Moves a request from the state it was read in to another, with its audit row; false if it is
    /// no longer in that state.
    pub(crate) async fn turn(
        &mut self,
        row: &RequestRow,
        to: &RequestState,
        by: Option<&Person>,
        event: Event,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let note = match to {
            RequestState::Denied { note, .. } => Some(note.as_str()),
            RequestState::NeedsReason
            | RequestState::Pending
            | RequestState::Approved
            | RequestState::Withdrawn
            | RequestState::Expired
            | RequestState::Void => None,
        };
        let changed = sqlx::query("update requests set state = $3, ended_at = $4, ended_by = $5, note = $6 where id = $1 and state = $2")
            .bind(row.id.as_str())
            .bind(row.state.word())
            .bind(to.word())
            .bind(now.micros())
            .bind(by.map(Person::as_str))
            .bind(note)
            .execute(&mut self.connection)
            .await?;
        self.changed(row.id, changed.rows_affected(), event, now).await
    }

    /// Open requests that count a waiter.
    pub(super) async fn waited_for(&mut self) -> Result<Vec<RequestRow>, StoreError> {
        let rows = select!("where state in ('needs-reason', 'pending') and waiters > 0").fetch_all(&mut self.connection).await?;
        rows.iter().map(read).collect()
    }

    /// Open requests that are due, the oldest first.
    pub(crate) async fn overdue(&mut self, now: Timestamp, limit: u32) -> Result<Vec<RequestRow>, StoreError> {
        let rows = select!("where state in ('needs-reason', 'pending') and due <= $1 order by due limit $2")
            .bind(now.micros())
            .bind(i64::from(limit))
            .fetch_all(&mut self.connection)
            .await?;
        rows.iter().map(read).collect()
    }

    /// The tail of every compare-and-swap: a change that happened is logged and hinted at.
    pub(super) async fn changed(&mut self, id: RequestId, rows: u64, event: Event, now: Timestamp) -> Result<bool, StoreError> {
        if rows == 0 {
            return Ok(false);
        }
        self.append(event, now).await?;
        self.wake(id);
        Ok(true)
    }
}

impl Snapshot {
    pub(crate) async fn request(&mut self, id: RequestId) -> Result<Option<RequestRow>, StoreError> {
        by_id(&mut self.tx, id).await
    }

    /// Finds the request whose stored bytes have this digest.
    pub(crate) async fn request_digested(&mut self, digest: Digest) -> Result<Option<RequestRow>, StoreError> {
        let row = select!("where digest = $1").bind(digest.0.to_vec()).fetch_optional(&mut *self.tx).await?;
        row.as_ref().map(read).transpose()
    }

    pub(crate) async fn requests(&mut self, filter: &RequestFilter) -> Result<Vec<RequestRow>, StoreError> {
        let rows = select!(
            "where ($1 is null or person = $1) and ($2 = 0 or state in ('needs-reason', 'pending')) and length(bytes) > 0
             order by made desc, id limit $3"
        )
        .bind(filter.person.as_ref().map(|person| person.as_str().to_owned()))
        .bind(i64::from(filter.open_only))
        .bind(i64::from(filter.limit))
        .fetch_all(&mut *self.tx)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Requests that wait and of which somebody else may be asked by now, the most overdue first.
    pub(crate) async fn requests_to_look_at(&mut self, now: Timestamp, limit: u32) -> Result<Vec<RequestRow>, StoreError> {
        let rows = select!("where state = 'pending' and look_at <= $1 order by look_at limit $2")
            .bind(now.micros())
            .bind(i64::from(limit))
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(read).collect()
    }

    /// The request that waits to extend a grant, and until when it can be decided.
    pub(crate) async fn extension_waiting(&mut self, id: RequestId, now: Timestamp) -> Result<Option<(RequestId, Timestamp)>, StoreError> {
        let row =
            sqlx::query("select id, due from requests where extends = $1 and state = 'pending' and due > $2 order by due desc limit 1")
                .bind(id.as_str())
                .bind(now.micros())
                .fetch_optional(&mut *self.tx)
                .await?;
        row.map(|row| Ok((word(&row, "id")?, time(&row, "due")?))).transpose()
    }

    /// This person's approved requests that were made since, in the order in which they were made; so many that more
    /// would be no use of a grant.
    pub(crate) async fn approved_since(&mut self, person: &Person, since: Timestamp) -> Result<Vec<RequestRow>, StoreError> {
        let rows = select!("where person = $1 and state = 'approved' and made >= $2 and length(bytes) > 0 order by made, id limit 256")
            .bind(person.as_str().to_owned())
            .bind(since.micros())
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Whether anything is due, so that an idle sweep writes nothing.
    pub(crate) async fn is_anything_due(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let due = sqlx::query(
            "select 1 where exists (select 1 from requests where state in ('needs-reason', 'pending') and due <= $1)
             or exists (select 1 from grants where state = 'open' and coalesce(ends_at, use_by) <= $1
                        and not exists (select 1 from requests where extends = grants.request and state = 'pending' and due > $1))",
        )
        .bind(now.micros())
        .fetch_optional(&mut *self.tx)
        .await?;
        Ok(due.is_some())
    }
}

/// Finds a request. One whose bytes were lost with a database (`restore.rs`) is an id that nobody gets again,
/// and no request any more.
async fn by_id(connection: &mut SqliteConnection, id: RequestId) -> Result<Option<RequestRow>, StoreError> {
    let row = select!("where id = $1 and length(bytes) > 0").bind(id.as_str()).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &SqliteRow) -> Result<RequestRow, StoreError> {
    let state = match row.try_get("state")? {
        "needs-reason" => RequestState::NeedsReason,
        "pending" => RequestState::Pending,
        "approved" => RequestState::Approved,
        "denied" => RequestState::Denied {
            by: maybe_word(row, "ended_by")?.ok_or_else(|| misread("ended_by", "a denial names who denied"))?,
            note: row.try_get::<Option<String>, _>("note")?.unwrap_or_default(),
        },
        "withdrawn" => RequestState::Withdrawn,
        "expired" => RequestState::Expired,
        "void" => RequestState::Void,
        other => return Err(misread("state", format!("{other:?} is no state of a request"))),
    };
    let linger: i64 = row.try_get("linger")?;
    Ok(RequestRow {
        id: word(row, "id")?,
        state,
        bytes: row.try_get("bytes")?,
        digest: digest(row, "digest")?,
        person: word(row, "person")?,
        waiter: word(row, "waiter")?,
        waiters: count(row, "waiters")?,
        left_at: maybe_time(row, "left_at")?,
        linger: Duration::from_micros(u64::try_from(linger).unwrap_or(0)),
        not_after: time(row, "not_after")?,
        due: time(row, "due")?,
        context: maybe_json(row, "context")?,
    })
}
