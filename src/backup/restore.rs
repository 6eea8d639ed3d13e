//! Restoring: the backup, then what the log says since, then the recordings on the disk; put in place last,
//! so that a restore that fails has changed nothing.

mod place;
mod replay;

use std::path::{Path, PathBuf};

use super::BackupError;
use super::archive;
use super::manifest::{CHECKPOINT, DATABASE, Manifest};
use crate::audit::LogPoint;
use crate::audit::checkpoint::{Checkpoint, LogKey, LogVerifier};
use crate::audit::recovery::Facts;
use crate::authority::{Keys, SealKey, SealVerifier};
use crate::config::Directory;
use crate::id::{Person, SessionId};
use crate::recording::verify::signed_manifest;
use crate::recording::{Found, Idle, Protection, body_name, has_key_file};
use crate::retention::hold::{Conditions, Hold, HoldId, Predicate};
use crate::store::backup;
use crate::store::log::{Log, read_copy};
use crate::store::restore::{Adoption, OnDisk, Voided};
use crate::store::{Disposal, SealedRow, Store};
use crate::time::Timestamp;
use crate::transcript::envelope::Identity;
use crate::transcript::expiry::Certificate;
use place::Places;

/// What is to be restored, and on whose word.
#[derive(Debug)]
pub struct Order<'a> {
    /// New, or without what a backup holds.
    pub dir: &'a Path,
    pub backup: &'a Path,
    /// What `countersign audit export` wrote; without it, everything that could have been used is void.
    pub log: Option<&'a Path>,
    /// The recordings' own disk survived, and with it the last checkpoint that there was.
    pub disk_survived: bool,
    pub identity: &'a Identity,
    pub by: &'a str,
    pub reason: &'a str,
}

/// What came of it.
#[derive(Debug)]
pub struct Restored {
    pub bastion: String,
    /// When the backup was made.
    pub made: Timestamp,
    /// Rows of the export that were applied again.
    pub applied: u64,
    /// Rows behind its last checkpoint, which nobody has signed: left out.
    pub unsigned: u64,
    pub missing: Missing,
    pub voided: Voided,
    /// The hold that keeps every recording, if one was placed.
    pub held: Option<HoldId>,
    pub recordings: Recordings,
}

/// Whether rows of the log are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// None up to the last checkpoint that lay beside the recordings.
    Nothing,
    /// From and to.
    Rows(u64, u64),
    /// There is no checkpoint beside the recordings, or it may be a mirror's: nothing here can tell.
    Unknown,
}

/// What was found of recordings.
#[derive(Debug, Default)]
pub struct Recordings {
    pub known: u64,
    pub adopted: u64,
    pub disposed: u64,
    /// Left as they are, and why.
    pub left: Vec<(SessionId, String)>,
    /// Disposed of, and their bodies or key files lie there again: a mirror brought them back.
    pub back: Vec<SessionId>,
    /// Nobody can read them until their key files are there.
    pub without_key: u64,
}

/// Restores; on failure nothing has been put in place.
pub async fn restore(order: &Order<'_>, now: Timestamp) -> Result<Restored, BackupError> {
    place::is_free(order.dir)?;
    let room = place::room(order.dir)?;
    let manifest = unpack(order, room.path())?;
    let directory = Directory::load(room.path()).map_err(BackupError::Restored)?;
    if directory.config.bastion != manifest.bastion {
        return Err(BackupError::Damaged("its manifest is another bastion's".into()));
    }
    let places = Places::of(&directory.config, room.path(), order.dir)?;
    let keys = Keys::read(&directory.config.keys)?;
    let log_key = LogKey::new(format!("countersign/{}", manifest.bastion), &*keys.log_seed()?)
        .map_err(|error| BackupError::Damaged(error.to_string()))?;
    let verifier = log_key.verifier();
    let idle = Idle::open(&places.recordings)?;
    let outside = read_copy(&places.recordings.join(CHECKPOINT), &verifier)?;

    let store = Store::open(&room.path().join(DATABASE)).await?;
    let marks: Vec<Checkpoint> = outside.iter().cloned().chain(read_copy(&room.path().join(CHECKPOINT), &verifier)?).collect();
    is_as_backed_up(&store, &manifest, &marks).await?;
    let terms = directory.schedules.terms(&[], &[], directory.digest).map_err(|name| BackupError::Terms(name.to_string()))?;
    let applied = match order.log {
        Some(path) => replay::replay(&store, path, &verifier, manifest.log, outside.as_ref(), &terms, now).await?,
        None => replay::Applied { left: manifest.log, rows: 0, unsigned: 0 },
    };

    let missing = match &outside {
        None => Missing::Unknown,
        Some(known) if known.size > applied.left.size => Missing::Rows(applied.left.size + 1, known.size),
        Some(_) if order.disk_survived => Missing::Nothing,
        // A mirror's checkpoint is as old as the mirror.
        Some(_) => Missing::Unknown,
    };
    let at = after(now, [store.last_recovered().await?, outside.as_ref().and_then(|known| known.recovered)]);
    let hold = hold_all(missing, order.by, at);
    let held = hold.as_ref().map(|hold| hold.id);
    let voided = store.recovered(facts(order, &manifest, applied.left, outside.as_ref()), hold, at).await?;
    let seal_key = SealVerifier::new(&manifest.bastion, &SealKey::new(&keys).public())?;
    let recordings = adopt(&store, &idle, &seal_key, &places.key_files, at).await?;
    sign(store, log_key, &verifier, &room.path().join(NEW_CHECKPOINT)).await?;
    backup::settle(&room.path().join(DATABASE)).await?;
    places.put(room.path(), at)?;
    let Manifest { bastion, made_us: made, .. } = manifest;
    Ok(Restored { bastion, made, applied: applied.rows, unsigned: applied.unsigned, missing, voided, held, recordings })
}

/// The checkpoint of the restored log, until it is put beside the recordings.
const NEW_CHECKPOINT: &str = "new.checkpoint";

fn unpack(order: &Order<'_>, into: &Path) -> Result<Manifest, BackupError> {
    let path = || order.backup.to_owned();
    let file = std::fs::File::open(order.backup).map_err(|source| BackupError::Read { path: path(), source })?;
    archive::read(file, order.identity, into)
}

/// Whether the database comes to the log that the backup names, and to every checkpoint that is known.
async fn is_as_backed_up(store: &Store, manifest: &Manifest, marks: &[Checkpoint]) -> Result<(), BackupError> {
    let sizes: Vec<u64> = marks.iter().map(|mark| mark.size).collect();
    let (log, roots) = store.whole_log(&sizes).await.map_err(BackupError::Database)?;
    if log != manifest.log {
        return Err(BackupError::OtherDatabase);
    }
    match marks.iter().find(|mark| roots.get(&mark.size).is_some_and(|root| *root != mark.root)) {
        Some(_) => Err(BackupError::OtherCheckpoint(PathBuf::from(CHECKPOINT))),
        None => Ok(()),
    }
}

/// A time that no recovery of this log had before.
fn after(now: Timestamp, before: [Option<Timestamp>; 2]) -> Timestamp {
    let last = before.into_iter().flatten().max();
    last.map_or(now, |last| now.max(Timestamp::from_micros(last.micros().saturating_add(1))))
}

fn facts(order: &Order<'_>, manifest: &Manifest, left: LogPoint, outside: Option<&Checkpoint>) -> Facts {
    let old = outside.filter(|known| known.size > left.size).map_or(left, |known| LogPoint { size: known.size, root: known.root });
    Facts {
        old_size: old.size,
        old_root: old.root,
        new_size: left.size,
        new_root: left.root,
        by: order.by.to_owned(),
        reason: order.reason.to_owned(),
        backup_us: manifest.made_us,
    }
}

/// Where rows are missing, a hold may be among them: until somebody has looked, nothing goes.
fn hold_all(missing: Missing, by: &str, at: Timestamp) -> Option<Hold> {
    let which = match missing {
        Missing::Nothing => return None,
        Missing::Rows(from, to) => format!("rows {from} to {to} of the log are lost"),
        Missing::Unknown => "rows of the log may be lost".to_owned(),
    };
    let by: Person = by.parse().or_else(|_| "operator".parse()).ok()?;
    let on = Predicate::try_from(Conditions { until: Some(at), ..Conditions::default() }).ok()?;
    let reason = format!("{which} with a restore, and holds may be among them: place those again, then release this one");
    Some(Hold { id: HoldId::new(at), case: Some("restored".into()), on, reason, attached: None, by, placed: at, released: None })
}

/// Gives rows again to recordings that lie on the disk and have lost theirs.
async fn adopt(
    store: &Store,
    idle: &Idle,
    seal_key: &SealVerifier,
    key_files: &[PathBuf],
    now: Timestamp,
) -> Result<Recordings, BackupError> {
    let mut seen = Recordings::default();
    for session in idle.sessions()? {
        let Some(found) = idle.found(session) else {
            seen.left.push((session, "its manifest or signature cannot be read".into()));
            continue;
        };
        let body = found.body;
        let on_disk = match proven(found, seal_key) {
            Ok(on_disk) => on_disk,
            Err(why) => {
                seen.left.push((session, why));
                continue;
            }
        };
        let encrypted = on_disk.manifest.body.recipient.is_some();
        match store.adopt(on_disk, now).await? {
            Adoption::Known => seen.known += 1,
            Adoption::Adopted => seen.adopted += 1,
            Adoption::Disposed => seen.disposed += 1,
            Adoption::Differs => seen.left.push((session, "the log knows another recording of this session".into())),
        }
        let gone = store.session(session).await?.is_some_and(|row| matches!(row.disposal, Disposal::Disposed { .. }));
        if gone && (body || key_files.iter().any(|dir| has_key_file(dir, session))) {
            seen.back.push(session);
        } else if !gone && encrypted && !key_files.iter().any(|dir| has_key_file(dir, session)) {
            seen.without_key += 1;
        }
    }
    Ok(seen)
}

/// Believes a recording's files as far as the seal key has signed them.
fn proven(found: Found, seal_key: &SealVerifier) -> Result<OnDisk, String> {
    let Found { session, manifest: bytes, signature, expired, body: _ } = found;
    let said = |error: &dyn std::error::Error| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let manifest = signed_manifest(&bytes, &signature, seal_key).map_err(|error| said(&error))?;
    if manifest.session != session {
        return Err(format!("it is the manifest of {}", manifest.session));
    }
    let digest = crate::id::Digest::of(&bytes);
    let certificate = match expired {
        None => None,
        Some((bytes, signature)) => {
            let certificate = Certificate::signed(&bytes, &signature, seal_key).map_err(|error| said(&error))?;
            if certificate.session != session || certificate.manifest != digest {
                return Err("the certificate of its end is about another recording".into());
            }
            Some((certificate, bytes))
        }
    };
    let due = manifest.retention.due(manifest.ended_us).map_err(|error| error.to_string())?;
    let file = body_name(session, manifest.body.recipient.is_some());
    let sealed =
        SealedRow { file, sha256: manifest.body.sha256, bytes: manifest.body.bytes, manifest: digest, due, seq: 0, recipients: Vec::new() };
    Ok(OnDisk { manifest, digest, sealed, certificate })
}

/// Signs the log as it is now, and closes the database.
async fn sign(store: Store, key: LogKey, verifier: &LogVerifier, into: &Path) -> Result<(), BackupError> {
    let opened = Log::open(store.clone(), key, into.to_owned()).await.map(drop);
    store.close().await;
    opened?;
    // It was written as a copy, which a full disk may have kept from being so.
    match read_copy(into, verifier)? {
        Some(_) => Ok(()),
        None => Err(BackupError::Write { path: into.to_owned(), source: std::io::ErrorKind::NotFound.into() }),
    }
}

impl Places {
    /// Where the settings say that things are, once the directory is in its place.
    fn of(config: &crate::config::Config, room: &Path, dir: &Path) -> Result<Self, BackupError> {
        let placed = |path: &Path| path.strip_prefix(room).map_or_else(|_| path.to_owned(), |rest| dir.join(rest));
        let key_files = match &config.recordings.protection {
            Protection::Plain => Vec::new(),
            Protection::Sealed { key_files, .. } => key_files.iter().map(|path| placed(path)).collect(),
        };
        let places = Self { dir: dir.to_owned(), state: placed(&config.state), recordings: placed(&config.recordings.dir), key_files };
        places.is_free()?;
        Ok(places)
    }
}
