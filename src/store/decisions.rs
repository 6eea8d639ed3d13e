//! Rows of decisions: what was said, by whom, with the signed bytes and the signature as they came.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::columns::{json, maybe_json, misread, time, to_json, word};
use super::{Snapshot, StoreError, Tx};
use crate::access::decision::{GrantedTerms, Level, Verdict};
use crate::id::{Group, Person, RequestId};
use crate::time::Timestamp;

/// A decision on one request.
#[derive(Debug, Clone)]
pub struct DecisionRow {
    pub person: Person,
    /// At the time.
    pub groups: Vec<Group>,
    pub verdict: Verdict,
    pub terms: Option<GrantedTerms>,
    pub note: String,
    pub level: Level,
    /// Absent at level `connection`.
    pub signed: Option<SignedRow>,
    /// When it came.
    pub at: Timestamp,
}

/// What was signed, as it came.
#[derive(Debug, Clone)]
pub struct SignedRow {
    pub bytes: Vec<u8>,
    /// SSHSIG, PEM.
    pub signature: String,
    /// `SHA256:…`
    pub key: String,
}

impl Tx {
    /// The decisions on a request in the order they came.
    pub(crate) async fn decisions(&mut self, request: RequestId) -> Result<Vec<DecisionRow>, StoreError> {
        of(&mut self.connection, request).await
    }

    pub(crate) async fn insert_decision(&mut self, request: RequestId, row: &DecisionRow) -> Result<(), StoreError> {
        let signed = row.signed.as_ref();
        sqlx::query(
            "insert into decisions (request, ordinal, person, groups, verdict, terms, note, level, verified, bytes, signature, key, at)
             select $1, count(*) + 1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 from decisions where request = $1",
        )
        .bind(request.as_str())
        .bind(row.person.as_str())
        .bind(to_json(&row.groups))
        .bind(verdict_word(row.verdict))
        .bind(row.terms.as_ref().map(to_json))
        .bind(&row.note)
        .bind(row.level.min(Level::Touch).as_str())
        .bind(i64::from(row.level == Level::Verified))
        .bind(signed.map(|signed| signed.bytes.as_slice()))
        .bind(signed.map(|signed| signed.signature.as_str()))
        .bind(signed.map(|signed| signed.key.as_str()))
        .bind(row.at.micros())
        .execute(&mut self.connection)
        .await?;
        // The next stage may be asked now.
        self.look_again(request, Timestamp::from_micros(0)).await
    }
}

impl Snapshot {
    /// The decisions on a request in the order they came.
    pub(crate) async fn decisions(&mut self, request: RequestId) -> Result<Vec<DecisionRow>, StoreError> {
        of(&mut self.tx, request).await
    }
}

async fn of(connection: &mut SqliteConnection, request: RequestId) -> Result<Vec<DecisionRow>, StoreError> {
    let rows = sqlx::query(
        "select person, groups, verdict, terms, note, level, verified, bytes, signature, key, at from decisions where request = $1 order by ordinal",
    )
    .bind(request.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

pub(crate) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Approve => "approve",
        Verdict::Deny => "deny",
    }
}

fn read(row: &SqliteRow) -> Result<DecisionRow, StoreError> {
    let verdict = match row.try_get("verdict")? {
        "approve" => Verdict::Approve,
        "deny" => Verdict::Deny,
        other => return Err(misread("verdict", format!("{other:?} is no verdict"))),
    };
    let level: &str = row.try_get("level")?;
    let signed = match row.try_get::<Option<Vec<u8>>, _>("bytes")? {
        Some(bytes) => Some(SignedRow { bytes, signature: row.try_get("signature")?, key: row.try_get("key")? }),
        None => None,
    };
    Ok(DecisionRow {
        person: word(row, "person")?,
        groups: json(row, "groups")?,
        verdict,
        terms: maybe_json(row, "terms")?,
        note: row.try_get("note")?,
        level: match (row.try_get::<i64, _>("verified")?, level) {
            (0, level) => Level::ALL.into_iter().find(|known| known.as_str() == level),
            (_, "touch") => Some(Level::Verified),
            (_, _) => None,
        }
        .ok_or_else(|| misread("level", format!("{level:?} is no level")))?,
        signed,
        at: time(row, "at")?,
    })
}
