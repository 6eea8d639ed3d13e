//! Making a backup: one moment of the state, encrypted, whole under its name or not there at all.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::BackupError;
use super::archive::{self, From, Put};
use super::manifest::{CHECKPOINT, DATABASE, Manifest, SETTINGS};
use crate::audit::{Event, LogPoint};
use crate::config::{Config, Directory};
use crate::id::Digest;
use crate::recording::Protection;
use crate::store::{Store, backup};
use crate::time::Timestamp;
use crate::transcript::envelope::Recipient;

/// Below `keys/`, deeper than this nothing is taken.
const DEPTH: usize = 3;
/// No key, setting or checkpoint is longer.
const MAX_SMALL: u64 = 16 << 20;

/// What was made.
#[derive(Debug)]
pub struct Made {
    pub bastion: String,
    pub log: LogPoint,
    pub bytes: u64,
    /// What is not in it, and has to be mirrored.
    pub recordings: PathBuf,
    pub key_files: Vec<PathBuf>,
}

/// Backs the bastion of `dir` up into `file`, also while it serves; then its log says so.
pub async fn make(dir: &Path, file: &Path, to: &[Recipient], by: &str, now: Timestamp) -> Result<Made, BackupError> {
    let directory = Directory::load(dir).map_err(|_| BackupError::Directory(dir.to_owned()))?;
    let config = &directory.config;
    let database = config.state.join(DATABASE);
    if !database.is_file() {
        return Err(BackupError::NoDatabase(database));
    }
    let _turn = turn(&config.state)?;
    let room = tempfile::Builder::new().prefix(ROOM).tempdir_in(&config.state).map_err(|source| write(&config.state, source))?;

    // The copy of the checkpoint first: the database that is copied after it has all of its rows.
    let checkpoint = optional(&config.recordings.dir.join(CHECKPOINT))?;
    let copied = room.path().join(DATABASE);
    backup::copy(&database, &copied).await?;
    std::fs::set_permissions(&copied, std::fs::Permissions::from_mode(0o600)).map_err(|source| write(&copied, source))?;
    let snapshot = Store::open(&copied).await?;
    let point = snapshot.whole_log(&[]).await;
    snapshot.close().await;
    backup::settle(&copied).await?;
    let (log, _) = point.map_err(BackupError::Database)?;

    let mut files = vec![put(SETTINGS, 0o644, read(&dir.join(SETTINGS))?)];
    files.extend(directory.texts.iter().map(|(name, text)| put(&format!("policies/{name}"), 0o644, text.clone().into_bytes())));
    keys(&dir.join("keys"), "keys", DEPTH, config, &mut files)?;
    files.extend(checkpoint.map(|note| put(CHECKPOINT, 0o600, note)));
    files.push(Put { name: DATABASE.into(), mode: 0o600, from: From::File(copied.clone()) });
    let entries = files.iter().map(Put::entry).collect::<Result<_, _>>().map_err(|source| read_error(&copied, source))?;
    let manifest = Manifest::new(&config.bastion, now, log, directory.digest, entries);

    let (bytes, sha256) = publish(file, to, &manifest, &files)?;
    let recipients: Vec<String> = to.iter().map(ToString::to_string).collect();
    let event = Event::new("backup.make", json!({ "by": by, "log": log, "bytes": bytes, "sha256": sha256, "recipients": recipients }));
    report(&database, event, now).await.map_err(BackupError::NotLogged)?;
    let key_files = match &config.recordings.protection {
        Protection::Plain => Vec::new(),
        Protection::Sealed { key_files, .. } => key_files.clone(),
    };
    Ok(Made { bastion: config.bastion.clone(), log, bytes, recordings: config.recordings.dir.clone(), key_files })
}

/// Says so in the log. The bastion may be at work in the same database: SQLite lets one write at a time, and
/// whoever appends reads the last row in its own transaction.
async fn report(database: &Path, event: Event, now: Timestamp) -> Result<(), crate::store::StoreError> {
    let store = Store::open(database).await?;
    let reported = store.report(event, now).await;
    store.close().await;
    reported
}

/// What a backup is put together in, below the directory of the state: as private as the state itself.
const ROOM: &str = ".backup-";

/// One backup at a time; what one that was killed left behind goes.
fn turn(state: &Path) -> Result<File, BackupError> {
    let path = state.join(".backup.lock");
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(|source| write(&path, source))?;
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => BackupError::Busy,
        std::fs::TryLockError::Error(source) => write(&path, source),
    })?;
    for entry in std::fs::read_dir(state).map_err(|source| read_error(state, source))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(ROOM) {
            std::fs::remove_dir_all(entry.path()).map_err(|source| write(&entry.path(), source))?;
        }
    }
    Ok(file)
}

/// Takes the regular files below `keys/`; never one that lies where key files or recordings are.
fn keys(dir: &Path, name: &str, depth: usize, config: &Config, files: &mut Vec<Put>) -> Result<(), BackupError> {
    let mut entries: Vec<_> =
        std::fs::read_dir(dir).and_then(Iterator::collect::<Result<_, _>>).map_err(|source| read_error(dir, source))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let Some(own) = entry.file_name().to_str().map(str::to_owned).filter(|own| !own.starts_with('.')) else { continue };
        let (path, name) = (entry.path(), format!("{name}/{own}"));
        // What a link leads to counts, as it does for the bastion.
        let Ok(real) = path.canonicalize() else { continue };
        if is_apart(&real, config) {
            continue;
        }
        let metadata = real.metadata().map_err(|source| read_error(&path, source))?;
        if metadata.is_file() {
            let mode = if metadata.permissions().mode() & 0o077 == 0 { 0o600 } else { 0o644 };
            files.push(put(&name, mode, read(&path)?));
        } else if metadata.is_dir() && depth > 1 {
            keys(&path, &name, depth - 1, config, files)?;
        }
    }
    Ok(())
}

/// Whether a path is in a place whose files are mirrored and not backed up.
fn is_apart(real: &Path, config: &Config) -> bool {
    let mut apart = vec![config.recordings.dir.as_path()];
    if let Protection::Sealed { key_files, .. } = &config.recordings.protection {
        apart.extend(key_files.iter().map(PathBuf::as_path));
    }
    apart.iter().any(|dir| real.starts_with(dir.canonicalize().as_deref().unwrap_or(dir)))
}

/// Writes the file under another name, and gives it its own when every byte of it is on the disk.
fn publish(file: &Path, to: &[Recipient], manifest: &Manifest, files: &[Put]) -> Result<(u64, Digest), BackupError> {
    let failed = |source| write(file, source);
    let dir = match file.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    // Mode 0600 from its first moment.
    let mut tmp = tempfile::Builder::new().prefix(".countersign-backup-").tempfile_in(dir).map_err(failed)?;
    let mut out = archive::write(std::io::BufWriter::new(tmp.as_file_mut()), to, manifest, files).map_err(failed)?;
    out.flush().map_err(failed)?;
    drop(out);
    tmp.as_file().sync_all().map_err(failed)?;
    let whole = Put { name: String::new(), mode: 0, from: From::File(tmp.path().to_owned()) }.entry().map_err(failed)?;
    tmp.persist(file).map_err(|error| failed(error.error))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok((whole.bytes, whole.sha256))
}

fn put(name: &str, mode: u32, bytes: Vec<u8>) -> Put {
    Put { name: name.to_owned(), mode, from: From::Bytes(bytes) }
}

fn read(path: &Path) -> Result<Vec<u8>, BackupError> {
    optional(path)?.ok_or_else(|| read_error(path, std::io::ErrorKind::NotFound.into()))
}

fn optional(path: &Path) -> Result<Option<Vec<u8>>, BackupError> {
    use std::io::Read as _;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(read_error(path, source)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_SMALL).read_to_end(&mut bytes).map_err(|source| read_error(path, source))?;
    Ok(Some(bytes))
}

fn write(path: &Path, source: std::io::Error) -> BackupError {
    BackupError::Write { path: path.to_owned(), source }
}

fn read_error(path: &Path, source: std::io::Error) -> BackupError {
    BackupError::Read { path: path.to_owned(), source }
}
