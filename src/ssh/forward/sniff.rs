//! Keeps forwards from leading to SSH servers (PURE).
//!
//! Both sides of SSH begin with `SSH-` (RFC 4253 4.2). What may be the beginning of it is kept back until it
//! is known, also where it comes a byte at a time; a connection that speaks SSH is cut before the other
//! side has seen it. Of what follows nothing is looked at.

use bytes::{Bytes, BytesMut};

const GREETING: &[u8] = b"SSH-";

/// The first bytes of one direction.
#[derive(Debug, Default)]
pub struct Sniff {
    /// How many bytes of [`GREETING`] have come.
    matched: usize,
    kept: BytesMut,
    passed: bool,
}

/// What may go on of what came.
#[derive(Debug, PartialEq, Eq)]
pub enum Sniffed {
    Pass(Bytes),
    /// Not known yet: nothing goes on.
    Keep,
    /// It is SSH.
    Ssh,
}

impl Sniff {
    pub fn feed(&mut self, bytes: Bytes) -> Sniffed {
        if self.passed {
            return Sniffed::Pass(bytes);
        }
        for byte in &bytes {
            if GREETING.get(self.matched) != Some(byte) {
                self.passed = true;
                break;
            }
            self.matched += 1;
            if self.matched == GREETING.len() {
                return Sniffed::Ssh;
            }
        }
        if self.passed && self.kept.is_empty() {
            return Sniffed::Pass(bytes);
        }
        self.kept.extend_from_slice(&bytes);
        if self.passed { Sniffed::Pass(self.release()) } else { Sniffed::Keep }
    }

    /// Whether something is kept back.
    pub fn keeps(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Gives out what was kept: nothing else came, and a lone `S` is an answer of its own (PostgreSQL's to an
    /// SSLRequest). What follows is still compared.
    pub fn release(&mut self) -> Bytes {
        self.kept.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What passes of a stream that comes in these pieces, or `None` if it is cut.
    fn through(pieces: &[&[u8]]) -> Option<Vec<u8>> {
        let mut sniff = Sniff::default();
        let mut out = Vec::new();
        for piece in pieces {
            match sniff.feed(Bytes::copy_from_slice(piece)) {
                Sniffed::Pass(bytes) => out.extend_from_slice(&bytes),
                Sniffed::Keep => {}
                Sniffed::Ssh => return None,
            }
        }
        out.extend_from_slice(&sniff.release());
        Some(out)
    }

    #[test]
    fn a_greeting_is_cut_in_whatever_pieces_it_comes() {
        for pieces in
            [&[b"SSH-2.0-OpenSSH_9.2\r\n".as_slice()][..], &[b"S", b"S", b"H", b"-2.0"], &[b"", b"SS", b"H-1.99-x"], &[b"SSH", b"-"]]
        {
            assert_eq!(through(pieces), None, "{pieces:?}");
        }
    }

    #[test]
    fn what_was_released_is_still_compared() {
        let mut sniff = Sniff::default();
        assert_eq!(sniff.feed(Bytes::from_static(b"S")), Sniffed::Keep);
        assert_eq!(sniff.release(), "S");
        assert_eq!(sniff.feed(Bytes::from_static(b"SH")), Sniffed::Keep);
        assert_eq!(sniff.feed(Bytes::from_static(b"-2.0-x")), Sniffed::Ssh);
    }

    proptest! {
        #[test]
        fn anything_else_passes_unchanged(stream in prop::collection::vec(prop_oneof![Just(b'S'), Just(b'H'), Just(b'-'), any::<u8>()], 0..40), cut in 1usize..7) {
            let pieces: Vec<&[u8]> = stream.chunks(cut).collect();
            let expected = (!stream.starts_with(GREETING)).then(|| stream.clone());
            prop_assert_eq!(through(&pieces), expected);
        }
    }
}
