//! The one form of every document that is digested or signed: RFC 8785 JSON.
//!
//! The stored bytes are the truth. A document is read from its bytes strictly: no unknown field, no
//! second spelling, integers below 2^53; what does not re-encode to the same bytes is not read.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Says why bytes are not the canonical form of the document they are meant to be.
#[derive(Debug, thiserror::Error)]
pub enum NotCanonical {
    #[error("is {0} bytes long, more than the {1} allowed")]
    TooLong(usize, usize),
    #[error("does not parse")]
    Parse(#[source] serde_json::Error),
    #[error("is not in canonical form (RFC 8785)")]
    Form,
    #[error("holds a number that is no integer below 2^53")]
    Number,
}

/// 500 targets with their pins fit; nothing bigger is ever signed.
pub const MAX_BYTES: usize = 128 * 1024;

/// Returns the RFC 8785 bytes of a document of ours.
pub fn encode<T: Serialize>(document: &T) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(document).expect("our documents hold strings, integers, lists and objects only")
}

/// Reads a document from exactly its canonical bytes.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, NotCanonical> {
    decode_within(bytes, MAX_BYTES)
}

/// The same for what is never signed as a whole, and may be longer.
pub fn decode_within<T: Serialize + DeserializeOwned>(bytes: &[u8], most: usize) -> Result<T, NotCanonical> {
    if bytes.len() > most {
        return Err(NotCanonical::TooLong(bytes.len(), most));
    }
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(NotCanonical::Parse)?;
    // Beyond, RFC 8785 goes through doubles, and two numbers would have one form.
    if !has_safe_numbers(&value) {
        return Err(NotCanonical::Number);
    }
    let document: T = serde_json::from_slice(bytes).map_err(NotCanonical::Parse)?;
    if encode(&document) == bytes { Ok(document) } else { Err(NotCanonical::Form) }
}

fn has_safe_numbers(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => number.as_i64().is_some_and(|number| number.unsigned_abs() < 1 << 53),
        serde_json::Value::Array(items) => items.iter().all(has_safe_numbers),
        serde_json::Value::Object(fields) => fields.values().all(has_safe_numbers),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::String(_) => true,
    }
}

/// Byte strings in documents (fields named `*_b64`): standard base 64 with padding.
pub mod b64 {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&data_encoding::BASE64.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        data_encoding::BASE64.decode(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}
