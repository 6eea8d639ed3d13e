//! From columns to words: what stands in a row is parsed again when it is read.

use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::StoreError;
use crate::id::Digest;
use crate::time::Timestamp;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

pub(super) fn misread(column: &'static str, why: impl Into<AnyError>) -> StoreError {
    StoreError::Column { column, source: why.into() }
}

pub(super) fn word<T>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: Into<AnyError>,
{
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error| misread(column, error))
}

pub(super) fn maybe_word<T>(row: &SqliteRow, column: &'static str) -> Result<Option<T>, StoreError>
where
    T: FromStr,
    T::Err: Into<AnyError>,
{
    let text: Option<&str> = row.try_get(column)?;
    text.map(str::parse).transpose().map_err(|error| misread(column, error))
}

pub(super) fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_micros(row.try_get(column)?))
}

pub(super) fn maybe_time(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
    let micros: Option<i64> = row.try_get(column)?;
    Ok(micros.map(Timestamp::from_micros))
}

pub(super) fn digest(row: &SqliteRow, column: &'static str) -> Result<Digest, StoreError> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map(Digest).map_err(|error| misread(column, error))
}

pub(super) fn count<T: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let n: i64 = row.try_get(column)?;
    n.try_into().map_err(|_| misread(column, format!("{n} is out of range")))
}

pub(super) fn json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let text: &str = row.try_get(column)?;
    serde_json::from_str(text).map_err(|error| misread(column, error))
}

pub(super) fn maybe_json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<Option<T>, StoreError> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(serde_json::from_str).transpose().map_err(|error| misread(column, error))
}

/// The text of a list or of terms, as columns hold it.
pub(super) fn to_json<T: Serialize>(value: &T) -> String {
    String::from_utf8_lossy(&crate::access::canonical::encode(value)).into_owned()
}
