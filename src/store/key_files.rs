//! Whom the key files of recordings are addressed to, and that an auditor has wrapped one anew.
//!
//! The row follows the files: after a crash in between, a key file is wrapped once more, never left out.

use serde_json::json;
use sqlx::Row as _;

use super::columns::{count, to_json, word};
use super::sessions::{COLUMNS, SessionRow, read};
use super::{Store, StoreError, Tx};
use crate::audit::Event;
use crate::id::{Digest, Person, SessionId, TargetId};
use crate::time::Timestamp;

/// A key file that an auditor has wrapped anew.
#[derive(Debug, Clone)]
pub struct Rewrap {
    pub session: SessionId,
    pub by: Person,
    /// SHA-256 of the key file before and after.
    pub old: Digest,
    pub new: Digest,
    /// The keys that it is addressed to now.
    pub recipients: Vec<String>,
}

impl Rewrap {
    fn event(&self) -> Event {
        let Self { session, by, old, new, recipients } = self;
        let facts = json!({ "session": session, "person": by, "old": old, "new": new, "recipients": recipients });
        Event::new("session.rewrap", facts)
    }
}

/// Sealed recordings on which nothing is being erased, not addressed to a key, begun since then.
const LEFT: &str = "file is not null and erasing is null and started >= $1 and file like '%.age'
    and not exists (select 1 from key_files k join recipients r on r.digest = k.recipients
                    where k.session = sessions.id and instr(r.keys, $2) > 0)";

impl Tx {
    /// Writes down whom a recording's key file was addressed to when it was sealed.
    pub(super) async fn addressed(&mut self, session: SessionId, recipients: &[String]) -> Result<(), StoreError> {
        if recipients.is_empty() {
            return Ok(());
        }
        let digest = self.recipient_set(recipients).await?;
        sqlx::query("insert into key_files (session, recipients) values ($1, $2) on conflict (session) do nothing")
            .bind(session.to_string())
            .bind(digest.0.to_vec())
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    async fn recipient_set(&mut self, recipients: &[String]) -> Result<Digest, StoreError> {
        let mut keys = recipients.to_vec();
        keys.sort_unstable();
        keys.dedup();
        let keys = to_json(&keys);
        let digest = Digest::of(keys.as_bytes());
        sqlx::query("insert into recipients (digest, keys) values ($1, $2) on conflict (digest) do nothing")
            .bind(digest.0.to_vec())
            .bind(keys)
            .execute(&mut self.connection)
            .await?;
        Ok(digest)
    }
}

impl Store {
    /// Says that a key file is about to be replaced: a gate event. False where its recording is going, or
    /// has gone: then nothing may be written.
    pub async fn rewrapping(&self, rewrap: Rewrap, now: Timestamp) -> Result<bool, StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                let there = sqlx::query("select 1 from sessions where id = $1 and file is not null and erasing is null")
                    .bind(rewrap.session.to_string())
                    .fetch_optional(&mut tx.connection)
                    .await?;
                if there.is_none() {
                    return Ok(false);
                }
                tx.append(rewrap.event(), now).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Writes down that the new key file is in every directory.
    pub async fn rewrapped(&self, rewrap: Rewrap, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                let digest = tx.recipient_set(&rewrap.recipients).await?;
                sqlx::query(
                    "insert into key_files (session, recipients, rewrapped_by, rewrapped, sha256) values ($1, $2, $3, $4, $5)
                     on conflict (session) do update set recipients = $2, rewrapped_by = $3, rewrapped = $4, sha256 = $5",
                )
                .bind(rewrap.session.to_string())
                .bind(digest.0.to_vec())
                .bind(rewrap.by.as_str())
                .bind(now.micros())
                .bind(rewrap.new.0.to_vec())
                .execute(&mut tx.connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// The recordings whose key file is not addressed to this key, oldest first, behind one of them.
    pub async fn not_addressed_to(
        &self,
        key: &str,
        since: Timestamp,
        behind: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let sql = format!("select {COLUMNS} from sessions where {LEFT} and ($3 is null or id > $3) order by id limit $4");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(since.micros())
            .bind(to_json(&key))
            .bind(behind.map(|id| id.to_string()))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(read).collect()
    }

    /// How many there are of these, by target.
    pub async fn count_not_addressed_to(&self, key: &str, since: Timestamp) -> Result<Vec<(TargetId, u64)>, StoreError> {
        let sql = format!("select target, count(*) as left from sessions where {LEFT} group by target");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(since.micros()).bind(to_json(&key)).fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((word(row, "target")?, count(row, "left")?))).collect()
    }

    /// The keys that a recording's key file is addressed to, where that is known.
    pub async fn addressed_to(&self, session: SessionId) -> Result<Option<Vec<String>>, StoreError> {
        let row = sqlx::query("select r.keys as keys from key_files k join recipients r on r.digest = k.recipients where k.session = $1")
            .bind(session.to_string())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref()
            .map(|row| serde_json::from_str(row.try_get("keys")?).map_err(|error| super::columns::misread("keys", error)))
            .transpose()
    }
}
