//! Rows of grants, and the one place where a [`Grant`] is made (**D grant row**, FC9).
//!
//! Opening is one compare-and-swap: it sets `first_used` and `ends_at` once, takes one from
//! `uses_left`, and happens together with the session's row, the certificate's serial and their audit
//! rows, or not at all. There is no cache: what is usable is asked of the row each time.

use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::columns::{count, json, maybe_time, maybe_word, misread, time, to_json, word};
use super::{Snapshot, StoreError, Tx};
use crate::access::Grant;
use crate::access::decision::GrantedTerms;
use crate::access::grant::Opened;
use crate::access::request::{ANY_SOURCE, Extends};
use crate::audit::Event;
use crate::id::{Digest, Login, Person, RequestId, TargetId, WorkflowName};
use crate::time::{Timestamp, micros_of};

/// Where a grant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantState {
    /// Given; usable while its times and uses last.
    Open,
    /// Ended by a person, with every session on it.
    Revoked,
    /// Worth nothing any more: denied after all, forbidden by a new policy, or its people are gone.
    Void,
    /// Never used in time.
    Lapsed,
    /// Its window is over.
    Ended,
}

impl GrantState {
    pub fn word(self) -> &'static str {
        match self {
            GrantState::Open => "open",
            GrantState::Revoked => "revoked",
            GrantState::Void => "void",
            GrantState::Lapsed => "lapsed",
            GrantState::Ended => "ended",
        }
    }
}

/// A grant as it is stored.
#[derive(Debug, Clone)]
pub struct GrantRow {
    pub request: RequestId,
    pub state: GrantState,
    pub person: Person,
    pub key: String,
    pub source: String,
    pub login: Login,
    /// The workflows that were gone through.
    pub workflows: Vec<WorkflowName>,
    pub terms: GrantedTerms,
    pub approvers: Vec<Person>,
    pub given_at: Timestamp,
    /// Not usable before.
    pub starts_at: Timestamp,
    /// Not usable for the first time after.
    pub use_by: Timestamp,
    pub first_used: Option<Timestamp>,
    pub ends_at: Option<Timestamp>,
    /// `None`: as often as its window allows.
    pub uses_left: Option<u32>,
    pub ended_at: Option<Timestamp>,
    pub ended_by: Option<Person>,
    pub why: Option<String>,
}

impl GrantRow {
    /// Says why it cannot be opened now, as the end of a sentence about it; the row's part only.
    pub fn unusable(&self, now: Timestamp) -> Option<&'static str> {
        match self.state {
            GrantState::Revoked => Some("was revoked"),
            GrantState::Void => Some("is void"),
            GrantState::Lapsed => Some("was not used in time"),
            GrantState::Ended => Some("is over"),
            GrantState::Open if now < self.starts_at => Some("has not begun yet"),
            GrantState::Open if self.uses_left == Some(0) => Some("was used"),
            GrantState::Open if self.ends_at.is_some_and(|end| end <= now) => Some("is over"),
            GrantState::Open if self.first_used.is_none() && self.use_by <= now => Some("was not used in time"),
            GrantState::Open => None,
        }
    }
}

/// Which grants to list.
#[derive(Debug, Clone, Default)]
pub struct GrantFilter {
    pub open_only: bool,
    pub person: Option<Person>,
    /// Newest first; 0 is none.
    pub limit: u32,
}

/// What a session's rows say, beside what the grant decides.
#[derive(Debug)]
pub(crate) struct NewSession {
    pub opened: Opened,
    pub ends_at_most: Option<Timestamp>,
    /// `shell`, `exec`, `sftp`, `forward-local` or `forward-remote`
    pub kind: &'static str,
    pub open: Event,
    pub certificate: Event,
}

const COLUMNS: &str = "request, state, person, key, source, login, workflows, terms, approvers, given_at, starts_at, use_by,
    first_used, ends_at, uses_left, ended_at, ended_by, why";

/// `select COLUMNS from grants` with a literal tail.
macro_rules! select {
    ($tail:literal) => {
        sqlx::query(sqlx::AssertSqlSafe(format!(concat!("select {} from grants ", $tail), COLUMNS)))
    };
}

impl Tx {
    pub(crate) async fn grant(&mut self, request: RequestId) -> Result<Option<GrantRow>, StoreError> {
        by_request(&mut self.connection, request).await
    }

    /// Gives a grant; its audit row is that of the decision that gave it.
    pub(crate) async fn give_grant(&mut self, grant: &GrantRow) -> Result<(), StoreError> {
        sqlx::query(
            "insert into grants (request, state, person, key, source, login, workflows, terms, approvers, given_at, starts_at, use_by, uses_left)
             values ($1, 'open', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(grant.request.as_str())
        .bind(grant.person.as_str())
        .bind(&grant.key)
        .bind(&grant.source)
        .bind(grant.login.as_str())
        .bind(to_json(&grant.workflows))
        .bind(to_json(&grant.terms))
        .bind(to_json(&grant.approvers))
        .bind(grant.given_at.micros())
        .bind(grant.starts_at.micros())
        .bind(grant.use_by.micros())
        .bind(grant.uses_left.map(i64::from))
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    /// Ends an open grant; false if it is no longer open.
    pub(crate) async fn end_grant(
        &mut self,
        request: RequestId,
        to: GrantState,
        by: Option<&Person>,
        why: &str,
        event: Event,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let changed = self.end_open(request, to, by, why, now, false).await?;
        self.changed(request, changed, event, now).await
    }

    /// Voids an open grant because of a new policy; where `unused` is said, only if nobody has used it.
    pub(crate) async fn void_grant(
        &mut self,
        request: RequestId,
        unused: bool,
        why: &str,
        event: Event,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let changed = self.end_open(request, GrantState::Void, None, why, now, unused).await?;
        self.changed(request, changed, event, now).await
    }

    /// Takes back an open grant that nobody has used; false if somebody has. Its audit row is that of
    /// the decision that takes it back.
    pub(crate) async fn void_unused(&mut self, request: RequestId, by: &Person, why: &str, now: Timestamp) -> Result<bool, StoreError> {
        Ok(self.end_open(request, GrantState::Void, Some(by), why, now, true).await? > 0)
    }

    async fn end_open(
        &mut self,
        request: RequestId,
        to: GrantState,
        by: Option<&Person>,
        why: &str,
        now: Timestamp,
        unused_only: bool,
    ) -> Result<u64, StoreError> {
        let changed = sqlx::query(
            "update grants set state = $2, ended_at = $3, ended_by = $4, why = $5
             where request = $1 and ($6 = 0 or first_used is null)
             and (state = 'open' or (state = 'ended' and $2 = 'revoked'
                  and exists (select 1 from sessions where sessions.request = $1 and sessions.ended is null)))",
        )
        .bind(request.as_str())
        .bind(to.word())
        .bind(now.micros())
        .bind(by.map(Person::as_str))
        .bind(why)
        .bind(i64::from(unused_only))
        .execute(&mut self.connection)
        .await?;
        Ok(changed.rows_affected())
    }

    /// Open grants whose time is over, used or not, the oldest first; not those for which more was asked before
    /// the end, while that can be answered.
    pub(crate) async fn grants_over(&mut self, now: Timestamp, limit: u32) -> Result<Vec<GrantRow>, StoreError> {
        let rows = select!(
            "where state = 'open' and coalesce(ends_at, use_by) <= $1
             and not exists (select 1 from requests as r where r.extends = grants.request and r.state = 'pending' and r.due > $1)
             order by given_at limit $2"
        )
        .bind(now.micros())
        .bind(i64::from(limit))
        .fetch_all(&mut self.connection)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Uses the grant of `request` and opens a session on it; `None` if somebody was first, or its
    /// state, its times or its uses say no. `window` counts from the first use and never restarts.
    pub(crate) async fn open_on_grant(
        &mut self,
        request: RequestId,
        window: Duration,
        mut new: NewSession,
        now: Timestamp,
    ) -> Result<Option<Grant>, StoreError> {
        let used = sqlx::query(
            "update grants set first_used = coalesce(first_used, $2), ends_at = coalesce(ends_at, $3), uses_left = uses_left - 1
             where request = $1 and state = 'open' and starts_at <= $2 and (uses_left is null or uses_left > 0)
             and ((first_used is null and use_by > $2) or ends_at > $2)
             returning ends_at",
        )
        .bind(request.as_str())
        .bind(now.micros())
        .bind(now.plus(window).micros())
        .fetch_optional(&mut self.connection)
        .await?;
        let Some(used) = used else { return Ok(None) };
        new.opened.ends_at = Some(time(&used, "ends_at")?);
        self.wake(request);
        self.open_session(new, now).await.map(Some)
    }

    /// Moves the end of a grant that runs, or whose cut waits for this answer, by `more` and no further than was
    /// signed; false if it is over. Its sessions go on to there.
    pub(crate) async fn extend_grant(
        &mut self,
        extends: &Extends,
        extension: RequestId,
        (more, overrun): (Duration, Duration),
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let id = extends.request;
        let intact = self.request(id).await?.is_some_and(|row| row.digest == extends.digest);
        let Some(ends) = self.grant(id).await?.filter(|grant| grant.state == GrantState::Open && intact).and_then(|grant| grant.ends_at)
        else {
            return Ok(false);
        };
        let until = ends.plus(more).min(extends.until()).max(ends);
        if until <= now {
            return Ok(false);
        }
        let moved = sqlx::query("update grants set ends_at = $2 where request = $1 and state = 'open' and ends_at = $3 and ends_at > $4")
            .bind(id.as_str())
            .bind(until.micros())
            .bind(ends.micros())
            .bind(now.minus(overrun).micros())
            .execute(&mut self.connection)
            .await?;
        if moved.rows_affected() == 0 {
            return Ok(false);
        }
        self.sessions_end(id, until).await?;
        let facts = serde_json::json!({ "extension": extension, "ended_us": ends, "ends_us": until });
        self.append(Event::request("grant.extend", id, None, facts), now).await?;
        self.wake(id);
        Ok(true)
    }

    /// Sessions that run on a grant end with it.
    async fn sessions_end(&mut self, id: RequestId, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query("update sessions set ends_at = $2 where request = $1 and ended is null")
            .bind(id.as_str())
            .bind(at.micros())
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// Moves the end of a grant that runs nearer: policy gives less now. False if it ends by then anyway.
    pub(crate) async fn shorten_grant(&mut self, id: RequestId, to: Timestamp, now: Timestamp) -> Result<bool, StoreError> {
        let moved = sqlx::query("update grants set ends_at = $2 where request = $1 and state = 'open' and ends_at > $2")
            .bind(id.as_str())
            .bind(to.micros())
            .execute(&mut self.connection)
            .await?;
        if moved.rows_affected() == 0 {
            return Ok(false);
        }
        self.sessions_end(id, to).await?;
        self.append(Event::request("grant.shorten", id, None, serde_json::json!({ "ends_us": to })), now).await?;
        self.wake(id);
        Ok(true)
    }

    /// Opens a session for which policy asks nobody.
    pub(crate) async fn open_permitted(&mut self, mut new: NewSession, now: Timestamp) -> Result<Grant, StoreError> {
        new.opened.ends_at = new.ends_at_most;
        self.open_session(new, now).await
    }

    async fn open_session(&mut self, new: NewSession, now: Timestamp) -> Result<Grant, StoreError> {
        let NewSession { mut opened, kind, open, certificate, ends_at_most: _ } = new;
        // Whoever ruled may not have heard yet.
        if self.is_suspended(opened.principal.person()).await? {
            return Err(StoreError::Suspended(opened.principal.person().clone()));
        }
        opened.serial = self.fresh_serial().await?;
        sqlx::query(
            "insert into sessions (id, request, person, target, login, kind, source, serial, record, retention, started, ends_at, endpoint)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(opened.session.to_string())
        .bind(opened.request.as_ref().map(RequestId::as_str))
        .bind(opened.principal.person().as_str())
        .bind(opened.target.id.as_str())
        .bind(opened.login.as_str())
        .bind(kind)
        .bind(opened.principal.source().to_string())
        .bind(i64::try_from(opened.serial).unwrap_or(i64::MAX))
        .bind(opened.record.as_str())
        .bind(to_json(&opened.retention))
        .bind(opened.opened_at.micros())
        .bind(opened.ends_at.map(Timestamp::micros))
        .bind(opened.want.endpoint().map(ToString::to_string))
        .execute(&mut self.connection)
        .await?;
        let mut open = open;
        if opened.break_glass {
            self.demand_review(opened.session, now).await?;
            open = with(open, "break_glass", true.into());
        }
        self.append(with(open, "ends_at_us", opened.ends_at.map(Timestamp::micros).into()), now).await?;
        self.append(with(certificate, "serial", opened.serial.to_string().into()), now).await?;
        Ok(Grant::opened(opened))
    }

    /// Draws a serial that no certificate has had: 63 bits, so that it fits the database's integers.
    pub(super) async fn fresh_serial(&mut self) -> Result<u64, StoreError> {
        for _ in 0..4 {
            let serial = i64::try_from(rand::random::<u64>() >> 1).unwrap_or(0);
            let sql = "select 1 from sessions where serial = $1 union all select 1 from probes where serial = $1";
            let known = sqlx::query(sql).bind(serial).fetch_optional(&mut self.connection).await?;
            if serial > 0 && known.is_none() {
                return Ok(serial.unsigned_abs());
            }
        }
        Err(StoreError::Ids)
    }
}

impl Snapshot {
    pub(crate) async fn grant(&mut self, request: RequestId) -> Result<Option<GrantRow>, StoreError> {
        by_request(&mut self.tx, request).await
    }

    pub(crate) async fn grants(&mut self, filter: &GrantFilter) -> Result<Vec<GrantRow>, StoreError> {
        let rows = select!("where ($1 is null or person = $1) and ($2 = 0 or state = 'open') order by given_at desc, request limit $3")
            .bind(filter.person.as_ref().map(|person| person.as_str().to_owned()))
            .bind(i64::from(filter.open_only))
            .bind(i64::from(filter.limit))
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Grants that run and end by then, the soonest first: when each was first used, and its end.
    pub(crate) async fn grants_ending(&mut self, by: Timestamp) -> Result<Vec<(RequestId, Timestamp, Timestamp)>, StoreError> {
        let rows = sqlx::query(
            "select request, first_used, ends_at from grants
             where state = 'open' and first_used is not null and ends_at <= $1 order by ends_at limit 1000",
        )
        .bind(by.micros())
        .fetch_all(&mut *self.tx)
        .await?;
        rows.iter().map(|row| Ok((word(row, "request")?, time(row, "first_used")?, time(row, "ends_at")?))).collect()
    }

    /// Open grants of this person, key and login, of this source or of any, over this very target: first those whose
    /// window runs, then the fresh ones, those for one session last.
    pub(crate) async fn grants_reaching(
        &mut self,
        (person, key, source): (&Person, &str, &str),
        (target, pin): (&TargetId, Digest),
        login: &Login,
    ) -> Result<Vec<GrantRow>, StoreError> {
        let rows = select!(
            "where state = 'open' and person = $1 and key = $2 and source in ($3, $7) and login = $4
             and exists (select 1 from request_targets as t where t.request = grants.request and t.target = $5 and t.pin = $6)
             order by case when uses_left is not null then 2 when first_used is null then 1 else 0 end, ends_at desc, given_at"
        )
        .bind(person.as_str().to_owned())
        .bind(key.to_owned())
        .bind(source.to_owned())
        .bind(login.as_str().to_owned())
        .bind(target.as_str().to_owned())
        .bind(pin.0.to_vec())
        .bind(ANY_SOURCE)
        .fetch_all(&mut *self.tx)
        .await?;
        rows.iter().map(read).collect()
    }
}

/// Adds to an event what only the transaction knows.
fn with(mut event: Event, name: &str, fact: serde_json::Value) -> Event {
    if let Some(facts) = event.facts.as_object_mut() {
        facts.insert(name.to_owned(), fact);
    }
    event
}

async fn by_request(connection: &mut SqliteConnection, request: RequestId) -> Result<Option<GrantRow>, StoreError> {
    let row = select!("where request = $1").bind(request.as_str()).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &SqliteRow) -> Result<GrantRow, StoreError> {
    let state: &str = row.try_get("state")?;
    Ok(GrantRow {
        request: word(row, "request")?,
        state: [GrantState::Open, GrantState::Revoked, GrantState::Void, GrantState::Lapsed, GrantState::Ended]
            .into_iter()
            .find(|known| known.word() == state)
            .ok_or_else(|| misread("state", format!("{state:?} is no state of a grant")))?,
        person: word(row, "person")?,
        key: row.try_get("key")?,
        source: row.try_get("source")?,
        login: word(row, "login")?,
        workflows: json(row, "workflows")?,
        terms: json(row, "terms")?,
        approvers: json(row, "approvers")?,
        given_at: time(row, "given_at")?,
        starts_at: time(row, "starts_at")?,
        use_by: time(row, "use_by")?,
        first_used: maybe_time(row, "first_used")?,
        ends_at: maybe_time(row, "ends_at")?,
        uses_left: match row.try_get::<Option<i64>, _>("uses_left")? {
            Some(_) => Some(count(row, "uses_left")?),
            None => None,
        },
        ended_at: maybe_time(row, "ended_at")?,
        ended_by: maybe_word(row, "ended_by")?,
        why: row.try_get("why")?,
    })
}

/// Microseconds of a window, as documents count it.
pub(crate) fn window(terms: &GrantedTerms) -> Duration {
    let longest = u64::try_from(micros_of(Duration::MAX)).unwrap_or(u64::MAX);
    Duration::from_micros(terms.for_us.min(longest))
}
