//! What fuzzers call: each reader of bytes that somebody else may have written, with nothing around it.
//!
//! Every function takes any bytes and returns; a panic, a hang or memory without bound is a finding. The
//! harnesses are in `fuzz/` (coverage-guided, by hand) and `tests/fuzz.rs` (seconds, in every run).

use std::collections::BTreeMap;
use std::io::Cursor;

use crate::access::decision::{self, DecisionDocument};
use crate::access::proof::Proof;
use crate::access::request::RequestDocument;
use crate::recording::Replay;
use crate::transcript::asciicast::Decoder;
use crate::transcript::manifest::Manifest;
use crate::transcript::spool::{FrameReader, KEY, SpoolKey, Step};

/// The record layer with a known key, and the records in it.
pub fn spool(bytes: &[u8]) {
    let mut reader = FrameReader::new(SpoolKey::new(&[0; KEY]));
    let (mut rest, mut payload) = (bytes, Vec::new());
    while let Step::Frame { size, .. } = reader.read(rest, &mut payload) {
        let _ = crate::transcript::record::decode(&payload);
        rest = rest.get(size..).unwrap_or_default();
    }
    let _ = crate::transcript::record::decode(bytes);
    let _ = crate::recording::fuzz_spool(bytes);
}

/// The transcript, line by line.
pub fn asciicast(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Ok((mut decoder, _)) = Decoder::open(lines.next().unwrap_or_default()) else { return };
    for line in lines {
        if decoder.line(line).is_err() {
            return;
        }
    }
}

/// A body as `verify` reads it once it is decrypted: seek table, frames, lines.
pub fn body(bytes: &[u8]) {
    if let Ok(replay) = Replay::over(Cursor::new(bytes)) {
        let _ = replay.check_index();
        for played in replay {
            if played.is_err() {
                return;
            }
        }
    }
}

pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::read(bytes) {
        assert_eq!(manifest.bytes(), bytes, "what is read is written the same");
        let _ = manifest.retention.due(manifest.ended_us);
    }
    let _ = crate::transcript::expiry::Certificate::read(bytes);
}

/// A request as an approver reads it; says whether it is one.
pub fn request(bytes: &[u8]) -> bool {
    let Ok(document) = RequestDocument::read(bytes) else { return false };
    assert_eq!(document.bytes(), bytes, "what is read is written the same");
    let _ = (document.joins(), document.overrun(), document.asked().meet(&document.asked()));
    true
}

/// A decision, and a signature; says whether it is one.
pub fn decision(bytes: &[u8]) -> bool {
    let _ = decision::parse_signature(&String::from_utf8_lossy(bytes));
    let Ok(document) = DecisionDocument::read(bytes) else { return false };
    assert_eq!(document.bytes(), bytes, "what is read is written the same");
    if let Some(terms) = &document.terms {
        assert_eq!(terms.meet(terms), *terms, "with itself nothing is less");
        let _ = terms.beyond(terms, document.time());
    }
    true
}

/// A proof, its files as one JSON object; says whether it is one.
pub fn proof(bytes: &[u8]) -> bool {
    let Ok(files) = serde_json::from_slice::<BTreeMap<String, String>>(bytes) else { return false };
    let files = files.into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
    let Ok(proof) = Proof::read(&files) else { return false };
    let _ = (proof.check(), proof.files());
    true
}

/// A line of the companion's wire.
pub fn call(bytes: &[u8]) {
    if let Ok((_, verb)) = crate::console::wire::read_call(bytes) {
        let _ = verb.check();
    }
}

/// An exported log.
pub fn audit(bytes: &[u8]) {
    let _ = crate::audit::export::audit(bytes, None, None, |_| {});
}

pub fn key_file(bytes: &[u8]) {
    let _ = crate::transcript::envelope::open(bytes, &crate::transcript::envelope::Identity::generate());
}
