//! Where files are: `spool/<session>.spool`; `sealed/<yyyy>/<mm>/<session>` with `.cast.zst.age` (the body;
//! `.cast.zst` in plain mode), `.json` (the manifest), `.json.sig`; and, in directories of their own,
//! `<yyyy>/<mm>/<session>.key.age` (the key file; beside it `.sealed.key.age`, the first, once an auditor has wrapped it anew).
//!
//! Every path is computed from a [`SessionId`] (year and month from the ULID's own time), so that no word
//! of a user or of the database can name a file. Directories are 0700, files 0600; looser ones are refused.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::DateTime;

use super::RecordError;
use crate::id::SessionId;

#[derive(Debug)]
pub(super) struct Layout {
    dir: PathBuf,
    spools: PathBuf,
}

/// How long a new process waits for the last one's writers to let go of the directory.
const LOCK_DEADLINE: Duration = Duration::from_secs(3);

impl Layout {
    pub(super) fn open(dir: &Path) -> Result<Self, RecordError> {
        let spools = dir.join("spool");
        for made in [dir, &spools, &dir.join("sealed"), &dir.join("recovery")] {
            make_private(made)?;
        }
        Ok(Self { dir: dir.to_owned(), spools })
    }

    /// Two processes in one directory would seal each other's running spools.
    pub(super) fn lock(&self) -> Result<File, RecordError> {
        let path = self.dir.join(".lock");
        let doing = |e| RecordError::io("could not lock", &path, e);
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(doing)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(std::fs::TryLockError::WouldBlock) if begun.elapsed() < LOCK_DEADLINE => std::thread::sleep(Duration::from_millis(10)),
                Err(std::fs::TryLockError::WouldBlock) => return Err(RecordError::InUse { path: self.dir.clone() }),
                Err(std::fs::TryLockError::Error(e)) => return Err(doing(e)),
            }
        }
    }

    pub(super) fn spools(&self) -> &Path {
        &self.spools
    }

    pub(super) fn spool(&self, session: SessionId) -> PathBuf {
        self.spools.join(format!("{session}.spool"))
    }

    /// The directory that recovery keys are in.
    pub(super) fn recovery(&self) -> PathBuf {
        self.dir.join("recovery")
    }

    /// A file of a sealed recording.
    pub(super) fn sealed(&self, session: SessionId, part: Part) -> PathBuf {
        self.dir.join(sealed_name(session, part))
    }

    /// Below which the sealed files of all months are.
    pub(super) fn sealed_dir(&self) -> PathBuf {
        self.dir.join("sealed")
    }

    /// Lists the spools, whoever left them: those with a session's name, and those with any other.
    pub(super) fn all_spools(&self) -> Result<(Vec<SessionId>, Vec<PathBuf>), RecordError> {
        let (mut sessions, mut strangers) = (Vec::new(), Vec::new());
        for path in self.list("spool")? {
            match path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok()) {
                Some(session) if self.spool(session) == path => sessions.push(session),
                Some(_) | None => strangers.push(path),
            }
        }
        sessions.sort_unstable();
        Ok((sessions, strangers))
    }

    pub(super) fn set_aside(&self) -> Result<Vec<PathBuf>, RecordError> {
        self.list("bad")
    }

    pub(super) fn unlink_spool(&self, session: SessionId) -> Result<(), RecordError> {
        let path = self.spool(session);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(RecordError::io("could not remove the sealed spool", &path, e)),
        }
    }

    pub(super) fn body(&self, file: &str) -> io::Result<File> {
        let no_such = || io::Error::new(io::ErrorKind::NotFound, format!("{file:?} is not a recording's name"));
        let name = Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parsed =
            [Part::Body, Part::Plain].into_iter().find_map(|part| Some((name.strip_suffix(part.extension())?.parse().ok()?, part)));
        let (session, part) = parsed.ok_or_else(no_such)?;
        if sealed_name(session, part) != file {
            return Err(no_such());
        }
        let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        OpenOptions::new().read(true).custom_flags(flags).open(self.dir.join(file))
    }

    fn list(&self, extension: &str) -> Result<Vec<PathBuf>, RecordError> {
        let doing = |e| RecordError::io("could not list", &self.spools, e);
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.spools).map_err(doing)? {
            let path = entry.map_err(doing)?.path();
            if path.extension().is_some_and(|found| found == extension) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}

/// A file of a sealed recording, by what its name ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The transcript, compressed and encrypted.
    Body,
    /// The transcript, compressed only: plain mode.
    Plain,
    Key,
    Manifest,
    Signature,
    /// What is left of a recording that has gone: the expiry certificate.
    Expired,
    ExpiredSignature,
}

impl Part {
    pub const ALL: [Part; 7] = [Part::Body, Part::Plain, Part::Key, Part::Manifest, Part::Signature, Part::Expired, Part::ExpiredSignature];

    pub fn extension(self) -> &'static str {
        match self {
            Part::Body => ".cast.zst.age",
            Part::Plain => ".cast.zst",
            Part::Key => ".key.age",
            Part::Manifest => ".json",
            Part::Signature => ".json.sig",
            Part::Expired => ".expired.json",
            Part::ExpiredSignature => ".expired.json.sig",
        }
    }
}

/// The name below the recordings' directory.
pub(super) fn sealed_name(session: SessionId, part: Part) -> String {
    format!("sealed/{}{}", dated(session), part.extension())
}

/// `<yyyy>/<mm>/<session>`
fn dated(session: SessionId) -> String {
    let name = session.to_string();
    let millis = ulid::Ulid::from_string(&name).map_or(0, |ulid| ulid.timestamp_ms());
    let begun = i64::try_from(millis).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
    format!("{}/{name}", begun.format("%Y/%m"))
}

/// Where a directory of key files keeps this session's.
pub(super) fn key_file(dir: &Path, session: SessionId) -> PathBuf {
    dir.join(format!("{}{}", dated(session), Part::Key.extension()))
}

/// Where the key file stays as it was sealed, once an auditor has wrapped it anew.
pub(super) fn first_key_file(dir: &Path, session: SessionId) -> PathBuf {
    dir.join(format!("{}{FIRST_KEY}", dated(session)))
}

/// What the name of a key file ends in that an auditor has replaced.
const FIRST_KEY: &str = ".sealed.key.age";

/// Finds a session's sealed body below `dir`.
pub fn locate(dir: &Path, session: SessionId) -> Option<PathBuf> {
    [Part::Body, Part::Plain].into_iter().map(|part| dir.join(sealed_name(session, part))).find(|path| path.is_file())
}

/// Makes the directories between `base` and a file two levels below it, durably; returns the last.
pub(super) fn make_parents(base: &Path, file: &Path) -> Result<PathBuf, RecordError> {
    let month = file.parent().map(Path::to_owned).unwrap_or_default();
    let year = month.parent().map(Path::to_owned).unwrap_or_default();
    let mut above = base.to_owned();
    for made in [year, month] {
        if !made.is_dir() {
            make_private(&made)?;
            sync_dir(&above)?;
        }
        above = made;
    }
    Ok(above)
}

pub(super) fn sync_dir(path: &Path) -> Result<(), RecordError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|e| RecordError::io("could not sync the directory", path, e))
}

pub(super) fn make_private(path: &Path) -> Result<(), RecordError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| RecordError::io("could not make the directory", path, e))?;
    let mode = path.metadata().map_err(|e| RecordError::io("could not look at", path, e))?.permissions().mode();
    if mode & 0o077 == 0 { Ok(()) } else { Err(RecordError::Loose { path: path.to_owned() }) }
}

/// Sessions whose spool this process holds.
#[derive(Debug, Default)]
pub(super) struct Live(Mutex<HashSet<SessionId>>);

impl Live {
    pub(super) fn insert(&self, session: SessionId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(session)
    }

    pub(super) fn remove(&self, session: SessionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }

    pub(super) fn contains(&self, session: SessionId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn only_a_recordings_own_name_opens_it() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(&dir.path().join("recordings")).unwrap();
        let session = SessionId::new(Timestamp::from_micros(1_781_440_100_000_000));
        let path = layout.sealed(session, Part::Body);
        make_parents(&layout.sealed_dir(), &path).unwrap();
        std::fs::write(&path, b"body").unwrap();
        let name = sealed_name(session, Part::Body);
        assert!(name.starts_with("sealed/2026/06/"), "{name}");
        assert!(layout.body(&name).is_ok());
        assert_eq!(locate(&dir.path().join("recordings"), session), Some(path));
        for hostile in [
            "",
            "/etc/passwd",
            "../x",
            "sealed/../spool/x.spool",
            &format!("sealed/2026/06/../06/{session}.cast.zst.age"),
            &format!("./{name}"),
            &format!("{name}/"),
            &name.to_lowercase(),
            &format!("sealed/2027/06/{session}.cast.zst.age"),
            &sealed_name(session, Part::Manifest),
        ] {
            assert_eq!(layout.body(hostile).unwrap_err().kind(), io::ErrorKind::NotFound, "{hostile}");
        }
    }

    #[test]
    fn a_sealed_name_that_is_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(&dir.path().join("recordings")).unwrap();
        let session = SessionId::new(Timestamp::from_micros(1_781_440_100_000_000));
        let path = layout.sealed(session, Part::Body);
        make_parents(&layout.sealed_dir(), &path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        assert!(layout.body(&sealed_name(session, Part::Body)).is_err());
    }

    #[test]
    fn a_directory_open_to_others_is_refused_with_the_fix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recordings");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let refused = Layout::open(&path).unwrap_err();
        assert_eq!(refused.to_string(), format!("{0} can be opened by others: chmod 700 {0}", path.display()));
    }
}
