//! Where restored files go: nothing is overwritten, and `countersign.toml`, without which nobody serves, comes
//! last.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::super::BackupError;
use super::super::manifest::{CHECKPOINT, DATABASE, SETTINGS};
use super::NEW_CHECKPOINT;
use crate::time::Timestamp;

#[derive(Debug)]
pub struct Places {
    pub dir: PathBuf,
    pub state: PathBuf,
    pub recordings: PathBuf,
    pub key_files: Vec<PathBuf>,
}

/// What is unpacked and brought up to date before it is put in place.
const ROOM: &str = ".restore-";

/// Whether a directory holds nothing of what a backup holds. Recordings and key files may be there: they
/// come from their mirrors, and are better there before.
pub fn is_free(dir: &Path) -> Result<(), BackupError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(BackupError::Read { path: dir.to_owned(), source }),
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(ROOM) {
            return Err(BackupError::Unfinished(entry.path()));
        }
    }
    occupied(dir, &[SETTINGS, "keys", "policies"])
}

fn occupied(dir: &Path, names: &[&str]) -> Result<(), BackupError> {
    let is_there = |path: &PathBuf| match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => path.exists(),
    };
    let there: Vec<String> = names.iter().map(|name| dir.join(name)).filter(is_there).map(|path| path.display().to_string()).collect();
    if there.is_empty() { Ok(()) } else { Err(BackupError::Occupied { dir: dir.to_owned(), what: there.join(" ") }) }
}

/// Makes the room, which goes again with what is returned.
pub fn room(dir: &Path) -> Result<tempfile::TempDir, BackupError> {
    let failed = |source| BackupError::Write { path: dir.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    tempfile::Builder::new().prefix(ROOM).tempdir_in(dir).map_err(failed)
}

impl Places {
    /// Whether there is no database where this one will be.
    pub fn is_free(&self) -> Result<(), BackupError> {
        occupied(&self.state, &[DATABASE, "countersign.db-wal", "countersign.db-shm"])
    }

    /// Puts everything in its place: the database first, the settings last.
    pub fn put(&self, room: &Path, at: Timestamp) -> Result<(), BackupError> {
        self.is_free()?;
        let journal = room.join("countersign.db-wal");
        if journal.metadata().is_ok_and(|left| left.len() > 0) {
            return Err(BackupError::Unfinished(journal));
        }
        let failed = |path: &Path, source| BackupError::Write { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.state).map_err(|source| failed(&self.state, source))?;
        put(&room.join(DATABASE), &self.state.join(DATABASE))?;
        let checkpoint = self.recordings.join(CHECKPOINT);
        if checkpoint.exists() {
            // What there was stays as evidence of it.
            let before = self.recordings.join(format!("{CHECKPOINT}.before-{}", at.utc().format("%Y%m%dT%H%M%SZ")));
            std::fs::rename(&checkpoint, &before).map_err(|source| failed(&before, source))?;
        }
        put(&room.join(NEW_CHECKPOINT), &checkpoint)?;
        for name in ["keys", "policies", SETTINGS] {
            let to = self.dir.join(name);
            std::fs::rename(room.join(name), &to).map_err(|source| failed(&to, source))?;
        }
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(|source| failed(&self.dir, source))
    }
}

/// Moves a file, also to another file system, durably.
fn put(from: &Path, to: &Path) -> Result<(), BackupError> {
    let failed = |source| BackupError::Write { path: to.to_owned(), source };
    let dir = to.parent().unwrap_or(Path::new("."));
    match std::fs::rename(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let tmp = to.with_extension("tmp");
            let copy = || {
                let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
                io::copy(&mut File::open(from)?, &mut out)?;
                out.sync_all()?;
                std::fs::rename(&tmp, to)
            };
            copy().map_err(failed)?;
        }
        Err(source) => return Err(failed(source)),
    }
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}
