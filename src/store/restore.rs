//! An old state brought as far as the log knows: rows of an export are put behind those of the backup, as
//! their bytes, and what they say is done to the state again. Used by `backup/restore.rs` on a database that
//! nobody serves.
//!
//! Always true: used means used, ended means ended. What the rows cannot bring back, bytes and signatures,
//! grants nothing: requests and grants that would still be open are void, with a row each that says so.

mod change;

use std::collections::HashMap;

use serde_json::json;
use sqlx::Row as _;

use super::audit::CheckpointRow;
use super::columns::{json as from_json, to_json, word};
use super::grants::GrantState;
use super::requests::RequestState;
use super::sessions::SealedRow;
use super::suspensions::Suspension;
use super::{Store, StoreError, Tx};
use crate::access::ruling::RecordLevel;
use crate::audit::row::Row;
use crate::audit::{Event, recovery, tree};
use crate::clock::Last;
use crate::id::{Digest, Person, RequestId, SessionId};
use crate::retention::hold::{Hold, Release};
use crate::retention::terms::Terms;
use crate::time::{Timestamp, micros_of};
use crate::transcript::expiry::Certificate;
use crate::transcript::manifest::Manifest;
use change::{Adopted, Change, Opened, Probed};

pub use change::BadChange;

/// Why grants and requests of a restored state are void.
const RESTORED: &str = "the bastion was restored from a backup";

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Change(#[from] BadChange),
    #[error("row {row} speaks of {what}, of which neither the backup nor a row before it knows")]
    Unfounded { row: u64, what: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for ReplayError {
    fn from(error: sqlx::Error) -> Self {
        ReplayError::Store(error.into())
    }
}

/// What a restore took away, since nothing proves that it still stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Voided {
    pub requests: u64,
    pub grants: u64,
}

/// What came of a recording that was found on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// The state knew it.
    Known,
    /// Its rows had been lost, and are there again.
    Adopted,
    /// It has gone; its certificate is logged again.
    Disposed,
    /// The state knows another recording of this session.
    Differs,
}

/// A recording as it was found on the disk, its manifest and certificate signed by the seal key.
#[derive(Debug, Clone)]
pub struct OnDisk {
    pub manifest: Manifest,
    /// SHA-256 of the manifest's bytes.
    pub digest: Digest,
    pub sealed: SealedRow,
    pub certificate: Option<(Certificate, Vec<u8>)>,
}

impl Store {
    /// Appends rows as their bytes, with the checkpoint that counts the last of them, and does again what
    /// they say. `terms` stand in for those of sessions that were never sealed.
    pub async fn replay(
        &self,
        rows: Vec<(Row, Vec<u8>)>,
        checkpoint: CheckpointRow,
        terms: Terms,
        now: Timestamp,
    ) -> Result<(), ReplayError> {
        self.write(move |tx| {
            Box::pin(async move {
                let mut opened = HashMap::new();
                for (row, line) in rows {
                    tx.append_again(&row, &line).await?;
                    tx.apply(&row, Change::of(&row)?, &mut opened, &terms).await?;
                }
                match opened.into_keys().next() {
                    Some(session) => Err(unfounded(checkpoint.size, format!("the certificate of {session}"))),
                    None => Ok(()),
                }?;
                tx.insert_checkpoint(&checkpoint, now).await?;
                Ok(())
            })
        })
        .await
    }

    /// Writes that the log goes on from here, and voids what would still be open; `hold` keeps every
    /// recording where a hold may be among the rows that are missing.
    pub async fn recovered(&self, facts: recovery::Facts, hold: Option<Hold>, at: Timestamp) -> Result<Voided, StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                tx.append(facts.event(), at).await?;
                let voided = Voided { requests: tx.void_requests(at).await?, grants: tx.void_grants(at).await? };
                // Words that were left for a bastion that has gone.
                let sql = "update clock_accepts set taken = $1 where taken is null";
                sqlx::query(sql).bind(at.micros()).execute(&mut tx.connection).await?;
                if let Some(hold) = hold {
                    tx.place_hold(&hold, at).await?;
                }
                Ok(voided)
            })
        })
        .await
    }

    /// Gives a recording on the disk the rows that it has lost.
    pub async fn adopt(&self, found: OnDisk, now: Timestamp) -> Result<Adoption, StoreError> {
        self.write(move |tx| Box::pin(async move { tx.adopt(&found, now).await })).await
    }

    /// When the log was restored for the last time.
    pub async fn last_recovered(&self) -> Result<Option<Timestamp>, StoreError> {
        let last = self.audit_named(recovery::NAME).await?.pop();
        let row = last.map(|(_, line)| Row::read(line.as_bytes()).map_err(|error| super::columns::misread("line", error))).transpose()?;
        Ok(row.map(|row| row.at))
    }
}

fn unfounded(row: u64, what: impl Into<String>) -> ReplayError {
    ReplayError::Unfounded { row, what: what.into() }
}

impl Tx {
    async fn append_again(&mut self, row: &Row, line: &[u8]) -> Result<(), StoreError> {
        sqlx::query("insert into audit (seq, at, name, line, leaf) values ($1, $2, $3, $4, $5)")
            .bind(i64::try_from(row.seq).unwrap_or(i64::MAX))
            .bind(row.at.micros())
            .bind(&row.name)
            .bind(String::from_utf8_lossy(line).into_owned())
            .bind(tree::leaf(line).0.to_vec())
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    async fn apply(
        &mut self,
        row: &Row,
        change: Change,
        opened: &mut HashMap<SessionId, Opened>,
        terms: &Terms,
    ) -> Result<(), ReplayError> {
        let at = row.at;
        match change {
            Change::Nothing => {}
            Change::Asked { request, person, digest } => self.keep_id(request, &person, digest, at).await?,
            Change::Ended { request, to, by } => self.request_ended(request, &to, by.as_ref(), at).await?,
            Change::GrantEnded { request, to, by, why } => {
                self.grant_ended(request, to, by.as_ref(), &why, at).await?;
            }
            Change::Opened(open) => {
                opened.insert(open.session, *open);
            }
            Change::Certified { session, serial } => {
                let open = opened.remove(&session).ok_or_else(|| unfounded(row.seq, format!("the opening of {session}")))?;
                self.session_opened(&open, serial, terms, at).await?;
            }
            Change::Probed(probe) => self.probed(&probe, at).await?,
            Change::SessionEnded { session, outcome } => {
                let sql = "update sessions set ended = $2, outcome = $3 where id = $1 and ended is null";
                sqlx::query(sql).bind(session.to_string()).bind(at.micros()).bind(outcome).execute(&mut self.connection).await?;
            }
            Change::Sealed { session, sealed, retention } => {
                if !self.seal_again(session, &sealed, Some(&retention)).await? {
                    return Err(unfounded(row.seq, format!("the session {session}")));
                }
            }
            Change::Adopted(facts) => self.session_adopted(&facts, terms).await?,
            Change::Marked { session } => {
                let uptime = self.uptime().await?;
                let sql = "update sessions set marked = $2, marked_uptime = $3 where id = $1 and file is not null and marked is null";
                sqlx::query(sql).bind(session.to_string()).bind(at.micros()).bind(uptime).execute(&mut self.connection).await?;
            }
            Change::Unmarked { session } => {
                let sql = "update sessions set marked = null, marked_uptime = null where id = $1 and erasing is null";
                sqlx::query(sql).bind(session.to_string()).execute(&mut self.connection).await?;
            }
            Change::Erasing { session } => {
                let sql = "update sessions set erasing = $2 where id = $1 and marked is not null and erasing is null";
                self.must(row, session, sql, at).await?;
            }
            Change::Disposed { session } => {
                // A recording that an earlier restore found gone has neither mark nor beginning in the log.
                let sql = "update sessions set marked = coalesce(marked, $2), marked_uptime = coalesce(marked_uptime, 0),
                           erasing = coalesce(erasing, $2), disposed = coalesce(disposed, $2) where id = $1 and file is not null";
                self.must(row, session, sql, at).await?;
                self.disposed_in(session, row.seq).await?;
            }
            Change::HoldPlaced(hold) => self.insert_hold(&hold).await?,
            Change::HoldReleased { hold, by, reason } => {
                if !self.end_hold(hold, Release { by, at, reason }).await? {
                    return Err(unfounded(row.seq, format!("the hold {hold}")));
                }
            }
            Change::Reviewed { session, by, note } => {
                if !self.reviewed(session, &by, &note, at).await? {
                    return Err(unfounded(row.seq, format!("the review of {session}")));
                }
            }
            Change::Suspended { person, by, reason } => {
                self.write_suspension(&Suspension { person, by, reason, at }).await?;
            }
            Change::Unsuspended { person } => {
                self.lift(&person, at).await?;
            }
            Change::Proven { auditor, key } => {
                let sql = "insert into proofs (auditor, key, proven) values ($1, $2, $3)
                           on conflict (auditor) do update set key = $2, proven = $3";
                sqlx::query(sql).bind(auditor.as_str()).bind(key).bind(at.micros()).execute(&mut self.connection).await?;
            }
        }
        Ok(())
    }

    async fn probed(&mut self, probe: &Probed, at: Timestamp) -> Result<(), StoreError> {
        let sql = "insert into probes (id, asks, target, login, principal, by, at, taken, serial, used)
                   values ($1, $2, $3, $4, $5, $6, $7, $7, $8, $7) on conflict (id) do update set taken = $7, serial = $8, used = $7";
        sqlx::query(sql)
            .bind(&probe.check)
            .bind(&probe.asks)
            .bind(probe.target.as_str())
            .bind(probe.login.as_str())
            .bind(&probe.principal)
            .bind(&probe.by)
            .bind(at.micros())
            .bind(i64::try_from(probe.serial).unwrap_or(i64::MAX))
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// A step of disposal that only follows another: where it does not, the rows are not this state's.
    async fn must(&mut self, row: &Row, session: SessionId, sql: &'static str, at: Timestamp) -> Result<(), ReplayError> {
        let changed = sqlx::query(sql).bind(session.to_string()).bind(at.micros()).execute(&mut self.connection).await?;
        if changed.rows_affected() == 0 { Err(unfounded(row.seq, format!("the recording {session}"))) } else { Ok(()) }
    }

    /// Keeps the id of a request whose bytes are lost, so that it is never used for a second thing.
    async fn keep_id(&mut self, request: RequestId, person: &Person, digest: Digest, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "insert into requests (id, state, bytes, digest, joins, person, waiter, waiters, linger, made, not_after, due, ended_at, note)
             values ($1, 'void', x'', $2, x'', $3, 'nobody', 0, 0, $4, $4, $4, $4, $5) on conflict (id) do nothing",
        )
        .bind(request.as_str())
        .bind(digest.0.to_vec())
        .bind(person.as_str())
        .bind(at.micros())
        .bind(RESTORED)
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    async fn request_ended(&mut self, id: RequestId, to: &RequestState, by: Option<&Person>, at: Timestamp) -> Result<(), StoreError> {
        let note = match to {
            RequestState::Denied { note, .. } => Some(note.as_str()),
            _ => None,
        };
        sqlx::query(
            "update requests set state = $2, ended_at = $3, ended_by = $4, note = $5 where id = $1 and length(bytes) > 0
             and (state in ('needs-reason', 'pending') or (state = 'approved' and $2 = 'denied'))",
        )
        .bind(id.as_str())
        .bind(to.word())
        .bind(at.micros())
        .bind(by.map(Person::as_str))
        .bind(note)
        .execute(&mut self.connection)
        .await?;
        // A denial takes back an approval that nobody has used.
        if matches!(to, RequestState::Denied { .. }) {
            self.grant_ended(id, GrantState::Void, by, "denied", at).await?;
        }
        Ok(())
    }

    async fn grant_ended(
        &mut self,
        id: RequestId,
        to: GrantState,
        by: Option<&Person>,
        why: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let changed = sqlx::query(
            "update grants set state = $2, ended_at = $3, ended_by = $4, why = $5
             where request = $1 and (state = 'open' or (state = 'ended' and $2 = 'revoked'))",
        )
        .bind(id.as_str())
        .bind(to.word())
        .bind(at.micros())
        .bind(by.map(Person::as_str))
        .bind(why)
        .execute(&mut self.connection)
        .await?;
        Ok(changed.rows_affected() > 0)
    }

    /// A session was opened, and its grant used.
    async fn session_opened(&mut self, open: &Opened, serial: u64, terms: &Terms, at: Timestamp) -> Result<(), StoreError> {
        let Opened { session, request, person, target, login, kind, to, source, ends_at, break_glass } = open;
        if *break_glass {
            self.demand_review(*session, at).await?;
        }
        if let Some(request) = request {
            self.keep_id(*request, person, lost(*request), at).await?;
            sqlx::query(
                "update grants set first_used = coalesce(first_used, $2), ends_at = coalesce(ends_at, $3, $2),
                 uses_left = max(uses_left - 1, 0) where request = $1",
            )
            .bind(request.as_str())
            .bind(at.micros())
            .bind(ends_at.map(Timestamp::micros))
            .execute(&mut self.connection)
            .await?;
        }
        sqlx::query(
            "insert into sessions (id, request, person, target, login, kind, source, serial, record, retention, started, ends_at, endpoint)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(session.to_string())
        .bind(request.as_ref().map(RequestId::as_str))
        .bind(person.as_str())
        .bind(target.as_str())
        .bind(login.as_str())
        .bind(kind)
        .bind(source)
        .bind(i64::try_from(serial).unwrap_or(i64::MAX))
        // The manifest knows; `adopt` corrects it.
        .bind(RecordLevel::default().as_str())
        .bind(to_json(terms))
        .bind(at.micros())
        .bind(ends_at.map(Timestamp::micros))
        .bind(to)
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    async fn session_adopted(&mut self, facts: &Adopted, terms: &Terms) -> Result<(), StoreError> {
        if let Some(request) = facts.request {
            self.keep_id(request, &facts.person, lost(request), facts.started_us).await?;
        }
        let serial: i64 = facts.serial.parse().map_err(|error| super::columns::misread("serial", error))?;
        sqlx::query(
            "insert into sessions (id, request, person, target, login, kind, source, serial, record, retention, started, ended, outcome)
             values ($1, $2, $3, $4, $5, $6, 'unknown', $7, $8, $9, $10, $11, $12)",
        )
        .bind(facts.session.to_string())
        .bind(facts.request.as_ref().map(RequestId::as_str))
        .bind(facts.person.as_str())
        .bind(facts.target.as_str())
        .bind(facts.login.as_str())
        .bind(&facts.kind)
        .bind(serial)
        .bind(&facts.record)
        .bind(to_json(terms))
        .bind(facts.started_us.micros())
        .bind(facts.ended_us.micros())
        .bind(&facts.outcome)
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    async fn seal_again(&mut self, id: SessionId, sealed: &SealedRow, retention: Option<&Terms>) -> Result<bool, StoreError> {
        let changed = sqlx::query(
            "update sessions set file = $2, sha256 = $3, bytes = $4, manifest = $5, schedule = $6, keep_until = $7, due = $8,
             retention = coalesce($9, retention), sealed_seq = $10 where id = $1 and file is null",
        )
        .bind(id.to_string())
        .bind(&sealed.file)
        .bind(sealed.sha256.0.to_vec())
        .bind(i64::try_from(sealed.bytes).unwrap_or(i64::MAX))
        .bind(sealed.manifest.0.to_vec())
        .bind(sealed.due.schedule.as_str())
        .bind(sealed.due.keep_until.micros())
        .bind(sealed.due.delete_by.micros())
        .bind(retention.map(to_json))
        .bind(i64::try_from(sealed.seq).unwrap_or(i64::MAX))
        .execute(&mut self.connection)
        .await?;
        Ok(changed.rows_affected() > 0)
    }

    async fn disposed_in(&mut self, id: SessionId, seq: u64) -> Result<(), StoreError> {
        sqlx::query("update sessions set disposed_seq = $2 where id = $1")
            .bind(id.to_string())
            .bind(i64::try_from(seq).unwrap_or(i64::MAX))
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// The uptime that the clock was last written down with, in microseconds: graces count on from it.
    async fn uptime(&mut self) -> Result<i64, StoreError> {
        let row = sqlx::query("select last from clock").fetch_optional(&mut self.connection).await?;
        let last: Option<Last> = row.as_ref().map(|row| from_json(row, "last")).transpose()?;
        Ok(last.map_or(0, |last| micros_of(last.uptime)))
    }

    async fn void_requests(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let open = sqlx::query("select id from requests where state in ('needs-reason', 'pending') order by made");
        let open = open.fetch_all(&mut self.connection).await?;
        let mut voided = 0;
        for row in &open {
            let Some(request) = self.request(word(row, "id")?).await? else { continue };
            let event = Event::request("request.void", request.id, None, json!({ "digest": request.digest, "why": RESTORED }));
            voided += u64::from(self.turn(&request, &RequestState::Void, None, event, now).await?);
        }
        Ok(voided)
    }

    async fn void_grants(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let open = sqlx::query("select request from grants where state = 'open' order by given_at");
        let open = open.fetch_all(&mut self.connection).await?;
        let mut voided = 0;
        for row in &open {
            let id: RequestId = word(row, "request")?;
            if self.grant_ended(id, GrantState::Void, None, RESTORED, now).await? {
                self.append(Event::request("grant.void", id, None, json!({ "why": RESTORED })), now).await?;
                voided += 1;
            }
        }
        Ok(voided)
    }

    async fn adopt(&mut self, found: &OnDisk, now: Timestamp) -> Result<Adoption, StoreError> {
        let OnDisk { manifest, digest, sealed, certificate } = found;
        let id = manifest.session;
        let row = sqlx::query("select ended, record, manifest, disposed from sessions where id = $1")
            .bind(id.to_string())
            .fetch_optional(&mut self.connection)
            .await?;
        let (is_sealed, is_disposed) = match &row {
            Some(row) => {
                let sealed_as: Option<Vec<u8>> = row.try_get("manifest")?;
                if sealed_as.as_ref().is_some_and(|known| known.as_slice() != digest.0) {
                    return Ok(Adoption::Differs);
                }
                if row.try_get::<Option<i64>, _>("ended")?.is_none() {
                    self.ended_as(manifest, now).await?;
                }
                if row.try_get::<&str, _>("record")? != manifest.record {
                    let sql = "update sessions set record = $2 where id = $1";
                    sqlx::query(sql).bind(id.to_string()).bind(&manifest.record).execute(&mut self.connection).await?;
                }
                (sealed_as.is_some(), row.try_get::<Option<i64>, _>("disposed")?.is_some())
            }
            None => {
                let facts = adopted(manifest, *digest);
                self.session_adopted(&facts, &manifest.retention).await?;
                self.append(Event::new("session.adopt", json!(facts)), now).await?;
                (false, false)
            }
        };
        if !is_sealed {
            let sql = "update sessions set retention = $2 where id = $1";
            sqlx::query(sql).bind(id.to_string()).bind(to_json(&manifest.retention)).execute(&mut self.connection).await?;
            self.seal_session(id, sealed, now).await?;
        }
        match certificate.as_ref().filter(|_| !is_disposed) {
            Some((certificate, bytes)) => {
                let sql = "update sessions set marked = coalesce(marked, $2), marked_uptime = coalesce(marked_uptime, 0),
                           erasing = coalesce(erasing, $3) where id = $1";
                let gone = sqlx::query(sql).bind(id.to_string()).bind(certificate.marked_us.micros());
                gone.bind(certificate.erased_us.micros()).execute(&mut self.connection).await?;
                self.dispose(id, *digest, bytes, now).await?;
                Ok(Adoption::Disposed)
            }
            None if is_sealed => Ok(Adoption::Known),
            None => Ok(Adoption::Adopted),
        }
    }

    async fn ended_as(&mut self, manifest: &Manifest, now: Timestamp) -> Result<(), StoreError> {
        let (id, outcome, ended) = (manifest.session, &manifest.outcome, manifest.ended_us);
        let sql = "update sessions set ended = $2, outcome = $3 where id = $1";
        sqlx::query(sql).bind(id.to_string()).bind(ended.micros()).bind(outcome).execute(&mut self.connection).await?;
        let facts = json!({ "session": id, "outcome": outcome, "ended_us": ended });
        self.append(Event::new("session.end", facts), now).await.map(drop)
    }
}

fn adopted(manifest: &Manifest, digest: Digest) -> Adopted {
    Adopted {
        session: manifest.session,
        request: manifest.request,
        person: manifest.person.clone(),
        target: manifest.target.clone(),
        login: manifest.login.clone(),
        kind: manifest.kind.clone(),
        serial: manifest.serial.clone(),
        record: manifest.record.clone(),
        started_us: manifest.started_us,
        ended_us: manifest.ended_us,
        outcome: manifest.outcome.clone(),
        manifest: digest,
    }
}

/// Stands for the digest of a request of which only the id is known.
fn lost(request: RequestId) -> Digest {
    Digest::of(format!("lost request {request}").as_bytes())
}
