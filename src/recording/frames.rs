//! zstd in frames of a size, with the seekable table behind them: still a plain `.zst`.
//!
//! Each frame is compressed alone, with its content's size and checksum, and begins at the beginning of
//! a line. Reading trusts neither the table nor the frames: what is larger than this writer makes is
//! refused before memory is taken for it (a zstd bomb holds 4 GiB in 130 KB).

use std::io::{self, Read, Seek, SeekFrom, Write};

/// Uncompressed bytes of a frame; only a single event that is larger makes a larger one.
pub(super) const FRAME: usize = 256 * 1024;

/// No frame is larger, uncompressed or compressed.
const MAX_FRAME: usize = 2 * 1024 * 1024;

/// The table of a recording of many terabytes; more is none of ours.
const MAX_TABLE: u64 = 64 * 1024 * 1024;

const LEVEL: i32 = 3;

pub(super) struct FrameSink<W> {
    to: W,
    compressor: zstd::bulk::Compressor<'static>,
    table: zeekstd::SeekTable,
    pending: Vec<u8>,
    /// Uncompressed bytes before `pending`.
    before: u64,
}

/// Whether what was written stands at the beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Frame,
    Inside,
}

impl<W: Write> FrameSink<W> {
    pub(super) fn new(to: W) -> io::Result<Self> {
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
        compressor.set_parameter(zstd::zstd_safe::CParameter::ContentSizeFlag(true))?;
        Ok(Self { to, compressor, table: zeekstd::SeekTable::new(), pending: Vec::with_capacity(FRAME), before: 0 })
    }

    /// Appends lines that stay together in one frame; says where they stand, and at which offset.
    pub(super) fn lines(&mut self, lines: &[u8]) -> io::Result<(Start, u64)> {
        if !self.pending.is_empty() && self.pending.len() + lines.len() > FRAME {
            self.cut()?;
        }
        let start = if self.pending.is_empty() { Start::Frame } else { Start::Inside };
        let offset = self.before + self.pending.len() as u64;
        self.pending.extend_from_slice(lines);
        Ok((start, offset))
    }

    /// Ends the frame here.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let frame = self.compressor.compress(&self.pending)?;
        self.to.write_all(&frame)?;
        let size = |length: usize| u32::try_from(length).map_err(io::Error::other);
        self.table.log_frame(size(frame.len())?, size(self.pending.len())?).map_err(io::Error::other)?;
        self.before += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Ends the last frame and appends the table.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.cut()?;
        io::copy(&mut self.table.into_serializer(), &mut self.to)?;
        Ok(self.to)
    }
}

/// One frame in the file, and what it holds.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: u64,
    size: usize,
    content: usize,
    /// Uncompressed bytes before it.
    before: u64,
}

pub(super) struct FrameSource<R> {
    from: R,
    decompressor: zstd::bulk::Decompressor<'static>,
    places: Vec<Place>,
    compressed: Vec<u8>,
}

impl<R: Read + Seek> FrameSource<R> {
    pub(super) fn open(mut from: R) -> io::Result<Self> {
        let places = read_table(&mut from)?;
        Ok(Self { from, decompressor: zstd::bulk::Decompressor::new()?, places, compressed: Vec::new() })
    }

    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    /// Which frame holds this uncompressed offset, and where in it.
    pub(super) fn find(&self, offset: u64) -> Option<(usize, usize)> {
        let frame = self.places.partition_point(|place| place.before <= offset).checked_sub(1)?;
        let place = self.places.get(frame)?;
        let inside = usize::try_from(offset - place.before).ok().filter(|inside| *inside < place.content)?;
        Some((frame, inside))
    }

    /// Decompresses one frame in place of what `to` holds; its checksum has been compared.
    pub(super) fn read(&mut self, frame: usize, to: &mut Vec<u8>) -> io::Result<()> {
        let place = self.places.get(frame).ok_or_else(|| bad("it has no such frame"))?;
        self.from.seek(SeekFrom::Start(place.at))?;
        self.compressed.resize(place.size, 0);
        self.from.read_exact(&mut self.compressed)?;
        if !is_ours(&self.compressed) {
            return Err(bad("a frame has a dictionary, or lacks its content's size or its checksum"));
        }
        to.clear();
        to.reserve(place.content);
        let content = self.decompressor.decompress_to_buffer(&self.compressed, to)?;
        if content == place.content { Ok(()) } else { Err(bad("a frame holds more or less than its table says")) }
    }
}

/// Whether a frame says of itself what every frame of a recording does: one without a checksum could be
/// changed unseen, one with a dictionary read in two ways (RFC 8878, section 3.1.1.1.1).
fn is_ours(frame: &[u8]) -> bool {
    const DICTIONARY: u8 = 0x03;
    const CHECKSUM: u8 = 0x04;
    /// The flag of the content's size, or that of a single segment, which has one too.
    const SIZE: u8 = 0xe0;
    let Some(([0x28, 0xb5, 0x2f, 0xfd, descriptor], _)) = frame.split_first_chunk::<5>() else { return false };
    descriptor & DICTIONARY == 0 && descriptor & CHECKSUM != 0 && descriptor & SIZE != 0
}

/// Reads the skippable frame at the end (zstd's contrib/seekable_format): entries of compressed and
/// uncompressed size, then their number, a descriptor and the magic number.
fn read_table(from: &mut (impl Read + Seek)) -> io::Result<Vec<Place>> {
    const FOOTER: u64 = 9;
    const HEADER: u64 = 8;
    const SKIPPABLE: u32 = 0x184D_2A5E;
    const CHECKSUMS: u8 = 0x80;
    const RESERVED: u8 = 0x7c;
    let length = from.seek(SeekFrom::End(0))?;
    if length < HEADER + FOOTER {
        return Err(bad("it is too short"));
    }
    from.seek(SeekFrom::Start(length - FOOTER))?;
    let mut footer = [0; 9];
    from.read_exact(&mut footer)?;
    let [n0, n1, n2, n3, descriptor, magic @ ..] = footer;
    if u32::from_le_bytes(magic) != zeekstd::SEEKABLE_MAGIC_NUMBER || descriptor & RESERVED != 0 {
        return Err(bad("it does not end in a seek table; was it cut?"));
    }
    let entry = if descriptor & CHECKSUMS == 0 { 8 } else { 12 };
    let table = u64::from(u32::from_le_bytes([n0, n1, n2, n3])) * entry;
    let start = length.checked_sub(HEADER + table + FOOTER).filter(|_| table <= MAX_TABLE);
    let start = start.ok_or_else(|| bad("its seek table is larger than the file"))?;
    from.seek(SeekFrom::Start(start))?;
    let mut header = [0; 8];
    from.read_exact(&mut header)?;
    let [m0, m1, m2, m3, l0, l1, l2, l3] = header;
    // Else stock zstd would read, or refuse, something else than is read here.
    if u32::from_le_bytes([m0, m1, m2, m3]) != SKIPPABLE || u64::from(u32::from_le_bytes([l0, l1, l2, l3])) != table + FOOTER {
        return Err(bad("its seek table does not stand in a skippable frame of its size"));
    }
    let mut entries = vec![0; usize::try_from(table).map_err(io::Error::other)?];
    from.read_exact(&mut entries)?;

    let (mut places, mut at, mut before) = (Vec::new(), 0u64, 0u64);
    for entry in entries.chunks_exact(if descriptor & CHECKSUMS == 0 { 8 } else { 12 }) {
        let Some(([c0, c1, c2, c3, d0, d1, d2, d3], _checksum)) = entry.split_first_chunk::<8>() else { break };
        let size = u32::from_le_bytes([*c0, *c1, *c2, *c3]) as usize;
        let content = u32::from_le_bytes([*d0, *d1, *d2, *d3]) as usize;
        if size == 0 || content == 0 {
            return Err(bad("its seek table has a frame of nothing"));
        }
        if size > MAX_FRAME || content > MAX_FRAME {
            return Err(bad("a frame is larger than countersign makes them"));
        }
        places.push(Place { at, size, content, before });
        at += size as u64;
        before += content as u64;
    }
    if at == start { Ok(places) } else { Err(bad("its seek table does not fit its frames")) }
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn written(lines: &[&[u8]]) -> Vec<u8> {
        let mut sink = FrameSink::new(Vec::new()).unwrap();
        for line in lines {
            sink.lines(line).unwrap();
            sink.cut().unwrap();
        }
        sink.finish().unwrap()
    }

    #[test]
    fn the_tables_own_library_reads_it() {
        let file = written(&[b"one\n", b"two\n", b"three\n"]);
        let mut decoder = zeekstd::Decoder::new(Cursor::new(&file)).unwrap();
        decoder.set_offset(4).unwrap();
        let mut text = String::new();
        decoder.read_to_string(&mut text).unwrap();
        assert_eq!(text, "two\nthree\n");
    }

    #[test]
    fn a_frame_begins_at_a_line_and_is_found_by_its_offset() {
        let line = [b'x'; 100_000];
        let mut sink = FrameSink::new(Vec::new()).unwrap();
        let starts: Vec<_> = (0..6).map(|_| sink.lines(&line).unwrap()).collect();
        assert_eq!(starts[1], (Start::Inside, 100_000));
        assert_eq!(starts[2], (Start::Frame, 200_000));
        let mut source = FrameSource::open(Cursor::new(sink.finish().unwrap())).unwrap();
        assert_eq!(source.count(), 3);
        assert_eq!(source.find(350_000), Some((1, 150_000)));
        assert_eq!(source.find(600_000), None);
        let mut content = Vec::new();
        source.read(2, &mut content).unwrap();
        assert_eq!(content.len(), 200_000);
    }

    #[test]
    fn every_cut_and_every_flip_of_a_file_is_an_error_or_the_same_content() {
        let file = written(&[b"one\n", b"two\n"]);
        for end in 0..file.len() {
            assert!(FrameSource::open(Cursor::new(&file[..end])).is_err(), "cut at {end}");
        }
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 0x10;
            let Ok(mut source) = FrameSource::open(Cursor::new(changed)) else { continue };
            let mut content = Vec::new();
            for (frame, expected) in [b"one\n", b"two\n"].into_iter().enumerate() {
                if source.read(frame, &mut content).is_ok() {
                    assert_eq!(content, expected, "flip at {at}");
                }
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_before_memory_is_taken() {
        // 64 MiB of zeros in one frame, with an honest table.
        let mut table = zeekstd::SeekTable::new();
        let mut file = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
        table.log_frame(u32::try_from(file.len()).unwrap(), 64 << 20).unwrap();
        io::copy(&mut table.into_serializer(), &mut file).unwrap();
        assert!(FrameSource::open(Cursor::new(file)).is_err());

        // The same with a table that says 4 KiB.
        let mut table = zeekstd::SeekTable::new();
        let mut file = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
        table.log_frame(u32::try_from(file.len()).unwrap(), 4096).unwrap();
        io::copy(&mut table.into_serializer(), &mut file).unwrap();
        let mut source = FrameSource::open(Cursor::new(file)).unwrap();
        let mut content = Vec::new();
        assert!(source.read(0, &mut content).is_err());
        assert!(content.capacity() < 1 << 20);
    }
}
