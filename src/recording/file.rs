//! A spool's file: written at the end of its good part only, and never without room for the end record.
//!
//! Always true: the first `good` bytes are whole records whose write has returned; where the file system
//! can allocate ahead, [`END_ROOM`] bytes behind them are allocated too. Nobody else writes a spool.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::room::Reserve;
use crate::transcript::record::{self, Ending};
use crate::transcript::spool::{FrameWriter, Full, MAGIC, Place, SpoolKey};

/// Space for the end record; an [`Ending`] is shortened to fit.
const END_ROOM: u64 = 16 * 1024;

/// Allocated ahead, so that a full disk shows before the last bytes are needed.
const AHEAD: u64 = 256 * 1024;

#[derive(Debug)]
pub(super) struct SpoolFile {
    file: Arc<File>,
    key: SpoolKey,
    good: u64,
    frames: FrameWriter,
    /// Bytes allocated, or nothing where the file system cannot: there a full disk shows at the write.
    allocated: Option<u64>,
    /// What this spool may not touch.
    spare: Option<Reserve>,
}

/// Records that are written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    frames: FrameWriter,
    key: Option<SpoolKey>,
    full: bool,
}

impl Batch {
    /// Appends one record; what no longer fits into the spool's numbers fails the batch.
    pub(super) fn record(&mut self, payload: impl FnOnce(&mut Vec<u8>)) {
        let Some(key) = &self.key else { return };
        self.full |= self.frames.frame(key, Place::Inside, &mut self.bytes, payload).is_err();
    }
}

impl SpoolFile {
    /// Creates the file with its envelope, which holds the key, and its header record; durable when it
    /// returns, the directory entry apart.
    pub(super) fn create(path: &Path, key: SpoolKey, spare: Option<Reserve>, envelope: &[u8], header: &[u8]) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut spool = Self { spare, ..Self::over(file, key) };
        let mut batch = Batch::default();
        spool.open_batch(&mut batch);
        batch.bytes.extend_from_slice(&MAGIC);
        batch.bytes.extend_from_slice(&u32::try_from(envelope.len()).map_err(io::Error::other)?.to_le_bytes());
        batch.bytes.extend_from_slice(envelope);
        batch.record(|to| to.extend_from_slice(header));
        spool.append(&batch)?;
        spool.file.sync_data()?;
        Ok(spool)
    }

    fn over(file: File, key: SpoolKey) -> Self {
        Self { file: Arc::new(file), key, good: 0, frames: FrameWriter::default(), allocated: Some(0), spare: None }
    }

    /// What the spool is encrypted with, to read it back.
    pub(super) fn key(&self) -> SpoolKey {
        self.key.clone()
    }

    /// The same file, to be synced while this one is being written.
    pub(super) fn handle(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Makes `batch` empty and ready to number on from here; keeps its memory.
    pub(super) fn open_batch(&self, batch: &mut Batch) {
        batch.bytes.clear();
        batch.frames = self.frames;
        batch.full = false;
        batch.key = Some(self.key.clone());
    }

    /// Writes a batch in one go. After an error nothing of it counts, and only [`SpoolFile::end`] may
    /// follow, which writes over what was torn.
    pub(super) fn append(&mut self, batch: &Batch) -> io::Result<()> {
        if batch.full {
            return Err(io::Error::other(Full));
        }
        let length = batch.bytes.len() as u64;
        self.allocate(length)?;
        // Positioned; a short write goes on with the very same remaining bytes, EINTR is tried again.
        self.file.write_all_at(&batch.bytes, self.good)?;
        self.good += length;
        self.frames = batch.frames;
        Ok(())
    }

    /// Writes the end record into the space kept for it, cuts the file behind it, makes all durable.
    pub(super) fn end(&mut self, ending: &Ending) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.frames.frame(&self.key, Place::Last, &mut bytes, |to| record::encode_end(ending, to)).map_err(io::Error::other)?;
        self.file.write_all_at(&bytes, self.good)?;
        self.good += bytes.len() as u64;
        self.file.set_len(self.good)?;
        self.file.sync_data()
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        let spares = |more| self.spare.as_ref().map_or(Ok(()), |reserve| reserve.spares(&self.file, more));
        let Some(allocated) = self.allocated else {
            // Looked at as often as where it can be allocated.
            return if self.good / AHEAD == (self.good + length) / AHEAD { Ok(()) } else { spares(length) };
        };
        if self.good + length + END_ROOM <= allocated {
            return Ok(());
        }
        let upto = self.good + length + AHEAD;
        spares(upto - allocated)?;
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, allocated, upto - allocated) {
                Ok(()) => {
                    self.allocated = Some(upto);
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV | Errno::SPIPE) => {
                    self.allocated = None;
                    return Ok(());
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_without_allocation_shows_at_the_write() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut spool = SpoolFile::over(full, SpoolKey::new(&[7; 32]));
        let mut batch = Batch::default();
        spool.open_batch(&mut batch);
        batch.record(|to| to.push(1));
        let refused = spool.append(&batch).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!((spool.good, spool.allocated), (0, None));
    }

    #[test]
    fn space_for_the_end_is_allocated_ahead_without_growing_the_file() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let mut spool = SpoolFile::create(&dir.path().join("a.spool"), SpoolKey::new(&[7; 32]), None, b"", b"{}").unwrap();
        if spool.allocated.is_none() {
            panic!("{} cannot allocate ahead; set TMPDIR to a file system that can", dir.path().display());
        }
        let mut batch = Batch::default();
        for _ in 0..100 {
            spool.open_batch(&mut batch);
            batch.record(|to| to.resize(to.len() + 10_000, 7));
            spool.append(&batch).unwrap();
            let meta = spool.file.metadata().unwrap();
            assert_eq!(meta.len(), spool.good);
            assert!(meta.blocks() * 512 >= spool.good + END_ROOM, "{} of {}", meta.blocks() * 512, spool.good);
        }
    }
}
