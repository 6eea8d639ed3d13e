//! What fuzzers call: each reader of bytes that somebody else may have written, with nothing around it.
//!
//! Every function takes any bytes and returns; a panic, a hang or memory without bound is a finding. The
//! harnesses are in `fuzz/` (coverage-guided, by hand) and `tests/fuzz.rs` (seconds, in every run).

use std::io::Cursor;

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

/// An exported log.
pub fn audit(bytes: &[u8]) {
    let _ = crate::audit::export::audit(bytes, None, None, |_| {});
}

pub fn key_file(bytes: &[u8]) {
    let _ = crate::transcript::envelope::open(bytes, &crate::transcript::envelope::Identity::generate());
}
