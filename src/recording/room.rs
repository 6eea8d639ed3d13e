//! Room on the disk: the floor that new sessions keep clear of, and below it the reserve for rescue.
//!
//! The reserve is the last so many bytes of the file system. Sessions that no rescue opened begin above floor
//! and reserve, and end where their next bytes would reach into the reserve; those that one opened may use
//! it to its end. So they never take more than the reserve, and nobody else takes it from them.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Node, RecordError, Recordings, Space};

/// Which part of the disk a session may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Usual,
    /// All of it: a workflow with `rescue = true` has agreed.
    Reserve,
}

/// What a rescue needs to begin: its header, what is allocated ahead, its end.
const LEAST: u64 = 1 << 20;

/// Bytes that are kept for rescue; a reload changes it.
#[derive(Debug, Clone, Default)]
pub(super) struct Reserve(Arc<AtomicU64>);

impl Reserve {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Refuses bytes that would reach into the reserve.
    pub(super) fn spares(&self, file: &File, more: u64) -> io::Result<()> {
        let reserve = self.bytes();
        if reserve == 0 || free(file)? >= reserve.saturating_add(more) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::StorageFull, "what is left of the disk is kept for rescue"))
    }
}

/// Says whether a session may begin.
pub(super) fn enough(node: &Node, room: Room) -> Result<(), RecordError> {
    let path = node.layout.spools();
    let looked = File::open(path).and_then(|dir| free(&dir));
    let free = looked.map_err(|e| RecordError::io("could not look at the disk of", path, e))?;
    let floor = match room {
        Room::Usual => node.settings.free_floor.saturating_add(node.reserve.bytes()),
        Room::Reserve => LEAST.min(node.settings.free_floor),
    };
    if free >= floor { Ok(()) } else { Err(RecordError::DiskFloor { path: path.to_owned(), free, floor }) }
}

fn free(of: impl AsFd) -> io::Result<u64> {
    let disk = rustix::fs::fstatvfs(of)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

impl Recordings {
    /// Keeps the last bytes of the disk for rescue; none where no workflow rescues.
    pub fn keep_for_rescue(&self, bytes: u64) {
        self.node.reserve.0.store(bytes, Ordering::Relaxed);
    }

    /// Whether a new session would find the disk below its floor. A disk that cannot be looked at shows when
    /// one begins.
    pub fn shortage(&self) -> Option<Space> {
        self.space().ok().filter(|space| space.free < space.floor)
    }
}
