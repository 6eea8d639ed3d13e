//! A copy of the database as of one moment, whoever writes to it meanwhile; and what its log comes to.

use std::collections::BTreeMap;
use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::{BUSY, Store, StoreError, schema};
use crate::audit::LogPoint;
use crate::audit::row::{NO_ROW, Row};
use crate::audit::tree::{self, Frontier};
use crate::id::Digest;

/// Rows read at once.
const READ: u32 = 1000;

/// Says why a log is not whole, in the database itself.
#[derive(Debug, thiserror::Error)]
pub enum BadLog {
    #[error("row {0} of its log is missing, or is not the one that was written")]
    Row(u64),
    #[error("its log cannot be read")]
    Store(#[from] StoreError),
}

/// Copies the database at `path` into a new file. Writers go on; nothing of `path` is changed, not even its
/// version: a bastion of another release may be at work in it.
pub async fn copy(path: &Path, into: &Path) -> Result<(), StoreError> {
    let mut from = connect(path).await?;
    let version = schema::found(&mut from).await?;
    if version != schema::KNOWN {
        return Err(StoreError::OtherVersion { found: version, known: schema::KNOWN });
    }
    sqlx::query("vacuum into $1").bind(into.to_string_lossy().into_owned()).execute(&mut from).await?;
    from.close().await?;
    Ok(())
}

/// Brings a closed database into its one file: what stands in its write-ahead log would be lost with a move.
pub async fn settle(path: &Path) -> Result<(), StoreError> {
    let mut connection = connect(path).await?;
    sqlx::query("pragma wal_checkpoint(truncate)").fetch_all(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

async fn connect(path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false).busy_timeout(BUSY).disable_statement_logging();
    options.connect().await.map_err(|source| StoreError::Open { path: path.to_owned(), source: source.into() })
}

impl Store {
    /// Reads every row of the log as its bytes, and says what they come to, and what they came to at some sizes.
    pub async fn whole_log(&self, at: &[u64]) -> Result<(LogPoint, BTreeMap<u64, Digest>), BadLog> {
        let (mut tree, mut last, mut roots) = (Frontier::default(), NO_ROW, BTreeMap::new());
        loop {
            let lines = self.audit_lines(tree.size() + 1, READ).await?;
            if lines.is_empty() {
                return Ok((LogPoint { size: tree.size(), root: tree.root() }, roots));
            }
            for (seq, line) in lines {
                let next = tree.size() + 1;
                let row = Row::read(line.as_bytes()).map_err(|_| BadLog::Row(next))?;
                if seq != next || row.seq != next || row.prev != last {
                    return Err(BadLog::Row(next));
                }
                last = tree::leaf(line.as_bytes());
                tree.push(last);
                if at.contains(&next) {
                    roots.insert(next, tree.root());
                }
            }
        }
    }
}
