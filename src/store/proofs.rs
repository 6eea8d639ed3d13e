//! Auditors who have shown that they can decrypt.

use std::path::Path;

use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions as _, Row as _};

use super::columns::{time, word};
use super::{Store, StoreError};
use crate::audit::Event;
use crate::id::Person;
use crate::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub auditor: Person,
    /// The key it was shown for.
    pub key: String,
    pub at: Timestamp,
}

impl Store {
    pub async fn proved(&self, auditor: &Person, key: &str, now: Timestamp) -> Result<(), StoreError> {
        let (auditor, key) = (auditor.clone(), key.to_owned());
        self.write(move |tx| {
            Box::pin(async move {
                sqlx::query(
                    "insert into proofs (auditor, key, proven) values ($1, $2, $3)
                     on conflict (auditor) do update set key = $2, proven = $3",
                )
                .bind(auditor.as_str())
                .bind(&key)
                .bind(now.micros())
                .execute(&mut tx.connection)
                .await?;
                tx.append(Event::new("auditor.prove", json!({ "person": auditor, "key": key })), now).await.map(drop)
            })
        })
        .await
    }

    pub async fn proofs(&self) -> Result<Vec<Proof>, StoreError> {
        let rows = sqlx::query(ALL).fetch_all(&self.readers).await?;
        rows.iter().map(read).collect()
    }

    /// The proofs of a database that may be in use by a running node, without touching it; nothing where
    /// there is none, or it cannot be read.
    pub async fn proofs_in(path: &Path) -> Option<Vec<Proof>> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).create_if_missing(false).disable_statement_logging();
        let mut connection = options.connect().await.ok()?;
        let rows = sqlx::query(ALL).fetch_all(&mut connection).await.ok()?;
        rows.iter().map(read).collect::<Result<_, _>>().ok()
    }
}

const ALL: &str = "select auditor, key, proven from proofs";

fn read(row: &SqliteRow) -> Result<Proof, StoreError> {
    Ok(Proof { auditor: word(row, "auditor")?, key: row.try_get("key")?, at: time(row, "proven")? })
}
