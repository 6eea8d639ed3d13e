//! The versions of the database's form, in order. One is applied whole or not at all; what a later
//! binary has written is refused (FC12).

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::StoreError;

const VERSIONS: [&str; 12] = [
    include_str!("schema/0001.sql"),
    include_str!("schema/0002.sql"),
    include_str!("schema/0003.sql"),
    include_str!("schema/0004.sql"),
    include_str!("schema/0005.sql"),
    include_str!("schema/0006.sql"),
    include_str!("schema/0007.sql"),
    include_str!("schema/0008.sql"),
    include_str!("schema/0009.sql"),
    include_str!("schema/0010.sql"),
    include_str!("schema/0011.sql"),
    include_str!("schema/0012.sql"),
];

/// `user_version` before the first of them; below it, but not nothing, is a form that was never released.
const BASE: usize = 1;

/// The version that this binary writes.
pub(super) const KNOWN: i64 = (BASE + VERSIONS.len()) as i64;

/// The version that a database is of.
pub(super) async fn found(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("pragma user_version").fetch_one(connection).await?)
}

/// The part of the file that [`judge`] reads.
pub(super) const HEADER: u64 = 100;

/// Whether a database with this header is one that [`migrate`] takes (SQLite's file format, 1.3: the user
/// version is a big-endian number at offset 60).
pub(super) fn judge(header: &[u8]) -> Result<(), StoreError> {
    let Some(found) = header.get(60..64).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes) else { return Ok(()) };
    let known = BASE + VERSIONS.len();
    match usize::try_from(found).unwrap_or(usize::MAX) {
        0 => Ok(()),
        done if done <= BASE => Err(StoreError::Unreleased),
        done if done > known => Err(StoreError::Newer { found: found.into(), known }),
        _ => Ok(()),
    }
}

/// Brings the database to this binary's version.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let found = found(connection).await?;
    let known = BASE + VERSIONS.len();
    let done = match usize::try_from(found).ok().filter(|done| *done <= known) {
        Some(0) => 0,
        Some(done) => done.checked_sub(BASE).filter(|done| *done > 0).ok_or(StoreError::Unreleased)?,
        None => return Err(StoreError::Newer { found, known }),
    };
    for (version, sql) in VERSIONS.iter().enumerate().skip(done) {
        let whole = format!("begin immediate;\n{sql}\npragma user_version = {};\ncommit;", BASE + version + 1);
        if let Err(error) = sqlx::raw_sql(AssertSqlSafe(whole)).execute(&mut *connection).await {
            // Nothing to undo where `begin` itself failed.
            sqlx::raw_sql("rollback").execute(&mut *connection).await.ok();
            return Err(error.into());
        }
    }
    Ok(())
}
