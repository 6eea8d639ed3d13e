//! How much room recordings have, and what waits to be sealed.

use super::{RecordError, Recordings};

/// The file system of the recordings, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub free: u64,
    /// Below it no new session begins (FC4), but for rescue.
    pub floor: u64,
}

/// Spools on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spools {
    /// All but those that wait for an auditor.
    pub all: u64,
    /// Those that nobody here writes or seals: they could not be sealed, and are tried again.
    pub stuck: u64,
    /// Those that only an auditor can open.
    pub waiting: u64,
}

impl Recordings {
    pub fn space(&self) -> Result<Space, RecordError> {
        let path = self.node.layout.spools();
        let floor = self.node.settings.free_floor.saturating_add(self.node.reserve.bytes());
        let disk = rustix::fs::statvfs(path).map_err(|e| RecordError::io("could not look at the disk of", path, e.into()))?;
        Ok(Space { free: disk.f_bavail.saturating_mul(disk.f_frsize), floor })
    }

    pub fn spools(&self) -> Result<Spools, RecordError> {
        let (sessions, _) = self.node.layout.all_spools()?;
        let waiting = sessions.iter().filter(|session| self.node.locked.waits(**session)).count();
        let stuck = sessions.iter().filter(|session| !self.node.live.contains(**session) && !self.node.locked.waits(**session)).count();
        Ok(Spools { all: (sessions.len() - waiting) as u64, stuck: stuck as u64, waiting: waiting as u64 })
    }
}
