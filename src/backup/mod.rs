//! A bastion's state in one file, and back again (`users.md` 7).
//!
//! In it: the database, the policies, `countersign.toml`, `keys/`, the copy of the last checkpoint. Never in
//! it: key files, which are mirrored so that a destroyed one stays destroyed; recordings; recovery keys.
//! Restoring is not tampering, and says so: the log goes on with a signed `log.recovered`. Always true of a
//! restored state: what was used is used, what ended has ended, what cannot be proven grants nothing.

mod archive;
mod make;
pub mod manifest;
mod restore;

use std::path::PathBuf;

use crate::audit::export::Flaw;
use crate::authority::{BadSeal, KeyError};
use crate::config::Problem;
use crate::recording::RecordError;
use crate::store::StoreError;
use crate::store::backup::BadLog;
use crate::store::log::LogError;
use crate::store::restore::ReplayError;

pub use make::{Made, make};
pub use restore::{Missing, Order, Restored, restore};

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{dir} is not in order: countersign check -c {dir} says why", dir = .0.display())]
    Directory(PathBuf),
    #[error("{} is not there: has this bastion ever run?", .0.display())]
    NoDatabase(PathBuf),
    #[error("another backup of this bastion is being made")]
    Busy,
    #[error("{} cannot be written", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the backup is made, and the log does not say so")]
    NotLogged(#[source] StoreError),

    #[error("the backup is not for this key: name another with --identity KEY")]
    NotForThisKey,
    #[error("the backup was changed, cut, or is none: {0}. Take another copy of it")]
    Damaged(String),
    #[error("the backup cannot be used")]
    Manifest(#[from] manifest::BadManifest),
    #[error("{} is there already, and nothing is overwritten. Restore into a new directory, or first: mkdir {dir}.old && mv {what} {dir}.old/", what.split(' ').next().unwrap_or_default(), dir = dir.display())]
    Occupied { dir: PathBuf, what: String },
    #[error("a restore was cut off here: rm -r {}", .0.display())]
    Unfinished(PathBuf),
    #[error("the directory in the backup cannot be served here:\n{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Restored(Vec<Problem>),
    #[error("the keys in the backup cannot be used")]
    Keys(#[from] KeyError),
    #[error("the seal key in the backup cannot be used")]
    Seal(#[from] BadSeal),
    #[error("the database in the backup is not what the backup says")]
    Database(#[source] BadLog),
    #[error("the database in the backup does not come to the log that its manifest names")]
    OtherDatabase,
    #[error("{} cannot be used as the log", path.display())]
    Export {
        path: PathBuf,
        #[source]
        flaw: Flaw,
    },
    #[error(
        "{} ends at row {here}, the backup at row {backup}: it is older. Take an export from after the backup, \
         or restore with --without-log instead of --log", path.display()
    )]
    OlderExport { path: PathBuf, here: u64, backup: u64 },
    #[error("{} has more than {most} rows without a checkpoint; take an export of countersign audit export", path.display())]
    Unsigned { path: PathBuf, most: usize },
    #[error("{} cannot be used as the log", path.display())]
    Replay {
        path: PathBuf,
        #[source]
        source: ReplayError,
    },
    #[error("{} was signed for other rows than those of the backup and the export: they are of another log, or were changed", .0.display())]
    OtherCheckpoint(PathBuf),
    #[error("no schedule in retention.toml can stand in for recordings whose terms are lost: {0}")]
    Terms(String),
    #[error("the log cannot be gone on with")]
    Log(#[from] LogError),
    #[error("the state cannot be restored")]
    Store(#[from] StoreError),
    #[error("the recordings cannot be looked at")]
    Recordings(#[from] RecordError),
    #[error("the work was given up")]
    Stopped,
}
