//! A row of the log as the bytes that are hashed, exported and kept: one line of canonical JSON.
//!
//! Always true: a row that was read encodes to the bytes that it was read from. Each row names the
//! leaf of the row before, so that a reader without any checkpoint can still say which one was changed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tree;
use crate::access::canonical::{self, NotCanonical};
use crate::id::Digest;
use crate::time::Timestamp;

/// A row's bytes end here, and so does every line of an export.
pub const MAX_BYTES: usize = canonical::MAX_BYTES;

/// What stands in the place of the row before where there is none.
pub const NO_ROW: Digest = Digest([0; 32]);

/// A row: `{"at_us":…,"facts":…,"name":"…","prev":"<64 hex>","seq":…,"v":1}`.
///
/// The facts are ours: integers below 2^53 and no fractions, nested less than 100 deep, short enough for [`MAX_BYTES`].
/// Who appends a row reads it back first; a row that does not read is a hole that no export gets over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub v: V1,
    /// From 1, without gaps.
    pub seq: u64,
    #[serde(rename = "at_us")]
    pub at: Timestamp,
    /// Dotted: what it is about, then what happened to it.
    pub name: String,
    pub facts: Value,
    /// The leaf of the row before; [`NO_ROW`] in the first one.
    pub prev: Digest,
}

/// The version of the form of a row, 1 and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct V1;

/// Says why bytes are not a row.
#[derive(Debug, thiserror::Error)]
pub enum BadRow {
    #[error("the row is of version {0}, which is not known here")]
    Version(u64),
    #[error("the row {0}")]
    Form(#[from] NotCanonical),
    #[error("the row has the number 0; rows are counted from 1")]
    Zero,
}

impl Row {
    /// Returns the row's bytes, without a newline.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// Reads a row from exactly its bytes.
    pub fn read(bytes: &[u8]) -> Result<Self, BadRow> {
        match canonical::decode::<Self>(bytes) {
            Ok(row) if row.seq == 0 => Err(BadRow::Zero),
            Ok(row) => Ok(row),
            Err(form) => Err(version(bytes).map_or(BadRow::Form(form), BadRow::Version)),
        }
    }

    /// Returns the hash of this row in the tree, which the next row names as its `prev`.
    pub fn leaf(&self) -> Digest {
        tree::leaf(&self.encode())
    }
}

/// Returns the version of a row that is of another one, whatever else its fields are.
fn version(bytes: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct AnyVersion {
        v: u64,
    }
    let bytes = bytes.get(..=MAX_BYTES).unwrap_or(bytes);
    serde_json::from_slice::<AnyVersion>(bytes).ok().map(|row| row.v).filter(|v| *v != 1)
}

impl TryFrom<u64> for V1 {
    type Error = BadRow;
    fn try_from(v: u64) -> Result<Self, BadRow> {
        if v == 1 { Ok(Self) } else { Err(BadRow::Version(v)) }
    }
}

impl From<V1> for u64 {
    fn from(_: V1) -> u64 {
        1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const BYTES: &str = concat!(
        r#"{"at_us":1700000000000000,"facts":{"a":[1,null,"ü"],"b":-7},"name":"session.open","#,
        r#""prev":"0000000000000000000000000000000000000000000000000000000000000000","seq":1,"v":1}"#
    );

    fn row() -> Row {
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        Row { v: V1, seq: 1, at, name: "session.open".into(), facts: json!({ "b": -7, "a": [1, null, "ü"] }), prev: NO_ROW }
    }

    #[test]
    fn a_row_is_its_bytes() {
        assert_eq!(String::from_utf8(row().encode()).unwrap(), BYTES);
        assert_eq!(Row::read(BYTES.as_bytes()).unwrap(), row());
        assert_eq!(row().leaf(), tree::leaf(BYTES.as_bytes()));
    }

    #[test]
    fn any_other_spelling_is_refused() {
        let spelled = |from: &str, to: &str| {
            assert!(BYTES.contains(from));
            Row::read(BYTES.replacen(from, to, 1).as_bytes())
        };
        let others = [
            ("{", " {"),
            ("\"seq\":1", "\"seq\":1.0"),
            ("\"seq\":1", "\"seq\":-1"),
            ("\"v\":1", "\"v\":1,\"v\":1"),
            ("\"b\":-7", "\"b\":-7.0"),
            ("\"b\":-7", "\"b\":1,\"b\":-7"),
            ("\"b\":-7", "\"b\":9007199254740993"),
            ("ü", "\\u00fc"),
            ("\"v\":1}", "\"v\":1,\"w\":1}"),
            ("\"v\":1}", "\"v\":1}\n"),
            (",\"v\":1", ""),
            ("\"prev\":\"00", "\"prev\":\"AA"),
            ("\"prev\":\"00", "\"prev\":\""),
            ("{\"a\":", "{\"c\":"),
        ];
        for (from, to) in others {
            assert!(matches!(spelled(from, to), Err(BadRow::Form(_))), "{from} {to}");
        }
        assert!(matches!(spelled("\"seq\":1", "\"seq\":0"), Err(BadRow::Zero)));
        assert!(matches!(spelled("\"v\":1}", "\"v\":2}"), Err(BadRow::Version(2))));
        assert!(matches!(spelled("\"v\":1}", "\"v\":3,\"w\":{}}"), Err(BadRow::Version(3))));
    }

    #[test]
    fn a_row_that_is_too_long_or_too_deep_is_refused() {
        let long = Row { facts: json!("x".repeat(MAX_BYTES)), ..row() };
        assert!(matches!(Row::read(&long.encode()), Err(BadRow::Form(NotCanonical::TooLong(..)))));
        let deep = BYTES.replace("-7", &format!("{}{}", "[".repeat(50_000), "]".repeat(50_000)));
        assert!(matches!(Row::read(deep.as_bytes()), Err(BadRow::Form(NotCanonical::Parse(_)))));
    }

    fn facts() -> impl Strategy<Value = Value> {
        let plain = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            ".*".prop_map(Value::from)
        ];
        plain.prop_recursive(4, 32, 6, |inner| {
            let list = prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from);
            prop_oneof![
                list,
                prop::collection::btree_map(".*", inner, 0..6).prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into())
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(facts in facts(), seq in 1u64..1 << 53, at in 0i64..1 << 53, name in "[a-z.]{1,30}", prev: [u8; 32]) {
            let row = Row { v: V1, seq, at: Timestamp::from_micros(at), name, facts, prev: Digest(prev) };
            prop_assert_eq!(Row::read(&row.encode()).unwrap(), row);
        }

        #[test]
        fn what_reads_is_the_bytes_and_nothing_panics(at in 0..BYTES.len(), byte: u8) {
            let mut bytes = BYTES.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok(row) = Row::read(&bytes) {
                prop_assert_eq!(row.encode(), bytes);
            }
        }
    }
}
