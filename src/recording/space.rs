//! How much room recordings have, and what waits to be sealed.

use super::{RecordError, Recordings};

/// The file system of the recordings, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub free: u64,
    /// Below it no new session begins (FC4).
    pub floor: u64,
}

/// Spools on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spools {
    pub all: u64,
    /// Those that nobody here writes or seals: they could not be sealed, and are tried again.
    pub stuck: u64,
}

impl Recordings {
    pub fn space(&self) -> Result<Space, RecordError> {
        let path = self.node.layout.spools();
        let disk = rustix::fs::statvfs(path).map_err(|e| RecordError::io("could not look at the disk of", path, e.into()))?;
        Ok(Space { free: disk.f_bavail.saturating_mul(disk.f_frsize), floor: self.node.settings.free_floor })
    }

    pub fn spools(&self) -> Result<Spools, RecordError> {
        let (sessions, _) = self.node.layout.all_spools()?;
        let stuck = sessions.iter().filter(|session| !self.node.live.contains(**session)).count();
        Ok(Spools { all: sessions.len() as u64, stuck: stuck as u64 })
    }
}
