//! The record layer of a spool: each record is encrypted in a frame of its own, numbered and checked.
//!
//! `CSSPOOL2`, then the envelope (`length: u32`, an age file that holds the spool's random key), then
//! frames of `length: u32`, `mark: u8`, ciphertext of that length; integers little-endian. The frames are
//! STREAM (Hoang, Reyhanitabar, Rogaway and Vizár, 2015) over ChaCha20-Poly1305: nonce = 7 zero bytes,
//! the frame's number as big-endian `u32`, the mark; the key is of this spool alone. Frame 0 holds the
//! header as JSON, the others one [`super::record`] each; the end record alone is marked 1, nothing
//! behind it counts. The reader is total and stops at the first frame that is not whole and right.

use std::fmt;
use std::sync::Arc;

use aead_stream::{NewStream, StreamBE32, StreamPrimitive};
use chacha20poly1305::aead::{self, Buffer};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};

/// The first bytes of a file; the digit is the version.
pub const MAGIC: [u8; 8] = *b"CSSPOOL2";

/// Bytes of a spool's key.
pub const KEY: usize = 32;

/// No envelope is longer: some hundred recipients.
pub const MAX_ENVELOPE: usize = 64 * 1024;

/// Bytes before a frame's ciphertext.
const HEAD: usize = 5;
/// Poly1305's tag, behind it.
const TAG: usize = 16;

/// Bytes that a frame is longer than its payload.
pub const OVERHEAD: usize = HEAD + TAG;

/// No payload is longer; a length above is a torn or hostile frame.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// Frames of one spool; the number after the last one seals the end record.
const MAX_FRAMES: u32 = u32::MAX - 1;

/// Whether a frame ends its spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Inside,
    Last,
}

/// What one spool is encrypted with, made from 32 random bytes that nothing else uses.
#[derive(Clone)]
pub struct SpoolKey(Arc<StreamBE32<ChaCha20Poly1305>>);

impl SpoolKey {
    pub fn new(bytes: &[u8; KEY]) -> Self {
        Self(Arc::new(StreamBE32::from_aead(ChaCha20Poly1305::new(bytes.into()), &[0; 7].into())))
    }
}

impl fmt::Debug for SpoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpoolKey")
    }
}

/// Numbers records. `Copy`, so that a batch that was not written can be taken back: its numbers then
/// only ever seal the end record, whose mark makes another nonce.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameWriter {
    next: u32,
}

/// A spool has no number left for another record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the recording has {MAX_FRAMES} records and can take no more")]
pub struct Full;

impl FrameWriter {
    /// Appends one frame to `to`; `payload` appends the payload, at most [`MAX_PAYLOAD`].
    pub fn frame(&mut self, key: &SpoolKey, place: Place, to: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) -> Result<(), Full> {
        if self.next >= MAX_FRAMES && place == Place::Inside {
            return Err(Full);
        }
        let start = to.len();
        to.extend_from_slice(&[0; HEAD]);
        payload(to);
        let mut tail = Tail { whole: to, from: start + HEAD };
        key.0.encrypt_in_place(self.next, place == Place::Last, b"", &mut tail).map_err(|_| Full)?;
        let length = u32::try_from(tail.len()).unwrap_or(u32::MAX).to_le_bytes();
        for (to, from) in to.iter_mut().skip(start).zip(length.into_iter().chain([u8::from(place == Place::Last)])) {
            *to = from;
        }
        self.next += 1;
        Ok(())
    }
}

/// The end of a buffer, encrypted where it stands.
struct Tail<'a> {
    whole: &'a mut Vec<u8>,
    from: usize,
}

impl AsRef<[u8]> for Tail<'_> {
    fn as_ref(&self) -> &[u8] {
        self.whole.get(self.from..).unwrap_or_default()
    }
}

impl AsMut<[u8]> for Tail<'_> {
    fn as_mut(&mut self) -> &mut [u8] {
        self.whole.get_mut(self.from..).unwrap_or_default()
    }
}

impl Buffer for Tail<'_> {
    fn extend_from_slice(&mut self, more: &[u8]) -> aead::Result<()> {
        self.whole.extend_from_slice(more);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.whole.truncate(self.from + len);
    }
}

/// One step of reading.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A whole frame, its payload decrypted; the next one begins `size` bytes further on.
    Frame {
        place: Place,
        size: usize,
    },
    /// This many bytes in all are needed to go on, never more than [`OVERHEAD`] + [`MAX_PAYLOAD`].
    More(usize),
    Bad(Flaw),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("a length of {0} is not one of ours")]
    Length(u32),
    #[error("record {0} is not what was written there")]
    Tag(u32),
    #[error("the mark of the last record is neither 0 nor 1")]
    Mark,
}

/// Where a spool stopped being good, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Offset in the spool behind the last good record.
    pub offset: u64,
    pub why: String,
}

#[derive(Debug, Clone)]
pub struct FrameReader {
    key: SpoolKey,
    next: u32,
}

impl FrameReader {
    pub fn new(key: SpoolKey) -> Self {
        Self { key, next: 0 }
    }

    /// Reads the frame at the beginning of `bytes`; its payload replaces what `payload` holds.
    pub fn read(&mut self, bytes: &[u8], payload: &mut Vec<u8>) -> Step {
        let Some(([l0, l1, l2, l3, mark], behind)) = bytes.split_first_chunk::<HEAD>() else {
            return Step::More(HEAD);
        };
        let stated = u32::from_le_bytes([*l0, *l1, *l2, *l3]);
        // Every payload of ours holds something: zeros, as of a block that was allocated only, are no frame.
        let length = match usize::try_from(stated) {
            Ok(length) if (TAG + 1..=TAG + MAX_PAYLOAD).contains(&length) => length,
            Ok(_) | Err(_) => return Step::Bad(Flaw::Length(stated)),
        };
        let place = match mark {
            0 => Place::Inside,
            1 => Place::Last,
            _ => return Step::Bad(Flaw::Mark),
        };
        let Some(ciphertext) = behind.get(..length) else { return Step::More(HEAD + length) };
        payload.clear();
        payload.extend_from_slice(ciphertext);
        if self.key.0.decrypt_in_place(self.next, place == Place::Last, b"", payload).is_err() {
            payload.clear();
            return Step::Bad(Flaw::Tag(self.next));
        }
        let Some(next) = self.next.checked_add(1) else { return Step::Bad(Flaw::Tag(self.next)) };
        self.next = next;
        Step::Frame { place, size: HEAD + length }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> SpoolKey {
        SpoolKey::new(&[7; KEY])
    }

    /// Payloads up to the first frame that is not good.
    fn read_all(mut bytes: &[u8]) -> (Vec<Vec<u8>>, Step) {
        let (mut reader, mut payload, mut payloads) = (FrameReader::new(key()), Vec::new(), Vec::new());
        loop {
            match reader.read(bytes, &mut payload) {
                Step::Frame { size, .. } => {
                    payloads.push(payload.clone());
                    bytes = &bytes[size..];
                }
                step @ (Step::More(_) | Step::Bad(_)) => return (payloads, step),
            }
        }
    }

    fn write_all(payloads: &[Vec<u8>]) -> Vec<u8> {
        let (mut writer, mut bytes) = (FrameWriter::default(), Vec::new());
        for payload in payloads {
            writer.frame(&key(), Place::Inside, &mut bytes, |to| to.extend_from_slice(payload)).unwrap();
        }
        bytes
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..60), 1..12)
    }

    proptest! {
        #[test]
        fn what_is_framed_is_read(payloads in payloads()) {
            let bytes = write_all(&payloads);
            prop_assert_eq!(read_all(&bytes).0, payloads);
        }

        #[test]
        fn a_torn_spool_keeps_every_whole_record(payloads in payloads(), at in any::<prop::sample::Index>()) {
            let bytes = write_all(&payloads);
            let cut = at.index(bytes.len());
            let (kept, step) = read_all(&bytes[..cut]);
            prop_assert!(matches!(step, Step::More(needed) if needed <= OVERHEAD + MAX_PAYLOAD));
            prop_assert_eq!(&kept[..], &payloads[..kept.len()]);
            let whole: usize = payloads.iter().scan(0, |sum, p| { *sum += p.len() + OVERHEAD; Some(*sum) }).filter(|end| *end <= cut).count();
            prop_assert_eq!(kept.len(), whole);
        }

        #[test]
        fn a_flipped_bit_ends_the_reading_there(payloads in payloads(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = write_all(&payloads);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let (kept, _) = read_all(&bytes);
            let before: usize = payloads.iter().scan(0, |sum, p| { *sum += p.len() + OVERHEAD; Some(*sum) }).filter(|end| *end <= at).count();
            prop_assert_eq!(&kept[..], &payloads[..before]);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read_all(&bytes);
        }
    }

    #[test]
    fn an_absurd_length_is_refused_at_once() {
        for length in [0, 16, u32::try_from(MAX_PAYLOAD + TAG).unwrap() + 1, u32::MAX] {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.resize(64, 0);
            assert_eq!(read_all(&bytes).1, Step::Bad(Flaw::Length(length)));
        }
    }

    #[test]
    fn a_record_that_was_moved_left_out_or_marked_is_seen() {
        let bytes = write_all(&[b"one".to_vec(), b"two".to_vec(), b"six".to_vec()]);
        let frame = OVERHEAD + 3;
        let without: Vec<u8> = [&bytes[..frame], &bytes[2 * frame..]].concat();
        assert_eq!(read_all(&without).1, Step::Bad(Flaw::Tag(1)));
        let twice: Vec<u8> = [&bytes[..frame], &bytes[..]].concat();
        assert_eq!(read_all(&twice).1, Step::Bad(Flaw::Tag(1)));
        let mut marked = bytes.clone();
        marked[4] = 1;
        assert_eq!(read_all(&marked).1, Step::Bad(Flaw::Tag(0)));
    }

    #[test]
    fn the_end_record_has_a_nonce_of_its_own() {
        let (mut writer, mut lost, mut end) = (FrameWriter::default(), Vec::new(), Vec::new());
        let mut taken_back = writer;
        taken_back.frame(&key(), Place::Inside, &mut lost, |to| to.extend_from_slice(b"same")).unwrap();
        writer.frame(&key(), Place::Last, &mut end, |to| to.extend_from_slice(b"same")).unwrap();
        assert_ne!(lost[HEAD..], end[HEAD..]);
    }

    #[test]
    fn the_last_number_is_kept_for_the_end() {
        let mut writer = FrameWriter { next: MAX_FRAMES };
        let mut bytes = Vec::new();
        assert_eq!(writer.frame(&key(), Place::Inside, &mut bytes, |to| to.push(1)), Err(Full));
        assert!(bytes.is_empty());
        writer.frame(&key(), Place::Last, &mut bytes, |to| to.push(1)).unwrap();
    }
}
