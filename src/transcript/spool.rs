//! The record layer of a spool: each record stands in a frame of its own, numbered and checked.
//!
//! `CSSPOOL1`, then frames of `length: u32` (of the payload), `crc: u32` (CRC-32 over everything else in
//! the frame), `sequence: u64`, `last: u8`, payload; little-endian. Frame 0 holds the header as JSON, the
//! others one [`super::record`] each; the end record alone has `last` set, nothing behind it counts.
//! Numbers never repeat and the last frame is marked, as in STREAM (Hoang, Reyhanitabar, Rogaway and
//! Vizár, 2015): an AEAD with `(sequence, last)` as its nonce takes the checksum's place without a
//! change above. The reader is total and stops at the first frame that is not whole and right.

/// The first bytes of a file; the digit is the version.
pub const MAGIC: [u8; 8] = *b"CSSPOOL1";

/// Bytes before a frame's payload.
pub const OVERHEAD: usize = 17;

/// No payload is longer; a length above is a torn or hostile frame.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// Whether a frame ends its spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Inside,
    Last,
}

/// Numbers and frames records. `Copy`, so that a batch that was not written can be taken back: with an
/// AEAD the same number then only ever seals the end record, whose mark makes it another nonce.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameWriter {
    next: u64,
}

impl FrameWriter {
    /// Appends one frame to `to`; `payload` appends the payload, at most [`MAX_PAYLOAD`].
    pub fn frame(&mut self, place: Place, to: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
        let start = to.len();
        to.extend_from_slice(&[0; 8]);
        to.extend_from_slice(&self.next.to_le_bytes());
        to.push(u8::from(place == Place::Last));
        payload(to);
        self.next += 1;
        let length = u32::try_from(to.len() - start - OVERHEAD).unwrap_or(u32::MAX).to_le_bytes();
        let crc = checksum(length, to.get(start + 8..).unwrap_or_default()).to_le_bytes();
        for (to, from) in to.iter_mut().skip(start).zip(length.into_iter().chain(crc)) {
            *to = from;
        }
    }
}

/// One step of reading.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole frame; the next one begins `size` bytes further on.
    Frame {
        payload: &'a [u8],
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
    #[error("the checksum is wrong")]
    Checksum,
    #[error("record {expected} was due, this is {found}")]
    Sequence { expected: u64, found: u64 },
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

#[derive(Debug, Clone, Copy, Default)]
pub struct FrameReader {
    next: u64,
}

impl FrameReader {
    /// Reads the frame at the beginning of `bytes`.
    pub fn read<'a>(&mut self, bytes: &'a [u8]) -> Step<'a> {
        let Some((head, behind)) = bytes.split_first_chunk::<OVERHEAD>() else {
            return Step::More(OVERHEAD);
        };
        let [l0, l1, l2, l3, c0, c1, c2, c3, sequence @ .., mark] = *head;
        let length = [l0, l1, l2, l3];
        let stated = u32::from_le_bytes(length);
        // Every payload of ours holds something: zeros, as of a block that was allocated only, are no frame.
        let size = match usize::try_from(stated) {
            Ok(size) if (1..=MAX_PAYLOAD).contains(&size) => size,
            Ok(_) | Err(_) => return Step::Bad(Flaw::Length(stated)),
        };
        let (Some(payload), Some(checked)) = (behind.get(..size), bytes.get(8..OVERHEAD + size)) else {
            return Step::More(OVERHEAD + size);
        };
        if checksum(length, checked) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Step::Bad(Flaw::Checksum);
        }
        let found = u64::from_le_bytes(sequence);
        if found != self.next {
            return Step::Bad(Flaw::Sequence { expected: self.next, found });
        }
        let place = match mark {
            0 => Place::Inside,
            1 => Place::Last,
            _ => return Step::Bad(Flaw::Mark),
        };
        self.next += 1;
        Step::Frame { payload, place, size: OVERHEAD + size }
    }
}

fn checksum(length: [u8; 4], behind_it: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&length);
    crc.update(behind_it);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Payloads up to the first frame that is not good.
    fn read_all(mut bytes: &[u8]) -> (Vec<Vec<u8>>, Step<'_>) {
        let (mut reader, mut payloads) = (FrameReader::default(), Vec::new());
        loop {
            match reader.read(bytes) {
                Step::Frame { payload, size, .. } => {
                    payloads.push(payload.to_vec());
                    bytes = &bytes[size..];
                }
                step @ (Step::More(_) | Step::Bad(_)) => return (payloads, step),
            }
        }
    }

    fn write_all(payloads: &[Vec<u8>]) -> Vec<u8> {
        let (mut writer, mut bytes) = (FrameWriter::default(), Vec::new());
        for payload in payloads {
            writer.frame(Place::Inside, &mut bytes, |to| to.extend_from_slice(payload));
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
        for length in [0, u32::try_from(MAX_PAYLOAD).unwrap() + 1, u32::MAX] {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.resize(64, 0);
            assert_eq!(FrameReader::default().read(&bytes), Step::Bad(Flaw::Length(length)));
        }
    }

    #[test]
    fn a_record_that_was_moved_or_left_out_is_seen() {
        let bytes = write_all(&[b"one".to_vec(), b"two".to_vec(), b"six".to_vec()]);
        let frame = OVERHEAD + 3;
        let without: Vec<u8> = [&bytes[..frame], &bytes[2 * frame..]].concat();
        assert_eq!(read_all(&without).1, Step::Bad(Flaw::Sequence { expected: 1, found: 2 }));
        let twice: Vec<u8> = [&bytes[..frame], &bytes[..]].concat();
        assert_eq!(read_all(&twice).1, Step::Bad(Flaw::Sequence { expected: 1, found: 0 }));
    }
}
