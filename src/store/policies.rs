//! Every policy set that was loaded, by its digest: requests, recordings and rows of the log name it.

use std::collections::BTreeMap;

use serde_json::json;

use super::columns::{json as from_json, time};
use super::{Store, StoreError};
use crate::audit::Event;
use crate::id::Digest;
use crate::time::Timestamp;

/// A policy set as it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRow {
    pub digest: Digest,
    /// For the first time.
    pub loaded: Timestamp,
    /// By name below `policies/`.
    pub files: BTreeMap<String, String>,
}

impl Store {
    /// Keeps a policy set, and logs that it counts from now on, and instead of which one.
    pub async fn keep_policy(
        &self,
        digest: Digest,
        before: Option<Digest>,
        files: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let files = super::columns::to_json(files);
        let event = match before {
            None => Event::new("policy.load", json!({ "policy": digest })),
            Some(before) => Event::new("policy.reload", json!({ "policy": digest, "before": before })),
        };
        self.write(move |tx| {
            Box::pin(async move {
                sqlx::query("insert into policies (digest, loaded, files) values ($1, $2, $3) on conflict (digest) do nothing")
                    .bind(digest.0.to_vec())
                    .bind(now.micros())
                    .bind(files)
                    .execute(&mut tx.connection)
                    .await?;
                tx.append(event, now).await.map(drop)
            })
        })
        .await
    }

    /// When a policy set that does not hold `text` was first loaded after `since`.
    pub async fn policy_without(&self, text: &str, since: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let row = sqlx::query("select min(loaded) as loaded from policies where loaded > $1 and instr(files, $2) = 0")
            .bind(since.micros())
            .bind(text.to_owned())
            .fetch_one(&self.readers)
            .await?;
        super::columns::maybe_time(&row, "loaded")
    }

    /// A policy set by the beginning of its digest, in hexadecimal; `None` if none or several fit.
    pub async fn policy(&self, prefix: &str) -> Result<Option<PolicyRow>, StoreError> {
        let rows = sqlx::query("select digest, loaded, files from policies where substr(lower(hex(digest)), 1, length($1)) = $1 limit 2")
            .bind(prefix.to_ascii_lowercase())
            .fetch_all(&self.readers)
            .await?;
        let [row] = rows.as_slice() else { return Ok(None) };
        let row =
            PolicyRow { digest: super::columns::digest(row, "digest")?, loaded: time(row, "loaded")?, files: from_json(row, "files")? };
        Ok(Some(row))
    }
}
