//! The sealed recordings that lie in a directory, whether or not any row speaks of them: for a restore, while
//! nobody records there. Nothing is removed or changed, and no word of a file is believed before its
//! signature is checked.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::layout::{self, Layout, Part};
use super::{MAX_PART, RecordError};
use crate::id::SessionId;

/// A directory of recordings that no bastion is at work in, for as long as this lives.
#[derive(Debug)]
pub struct Idle {
    dir: PathBuf,
    layout: Layout,
    _lock: File,
}

/// The small files of one recording, as they lie there.
#[derive(Debug)]
pub struct Found {
    pub session: SessionId,
    pub manifest: Vec<u8>,
    pub signature: String,
    /// The expiry certificate and its signature.
    pub expired: Option<(Vec<u8>, String)>,
    /// Whether a body is there, encrypted or plain.
    pub body: bool,
}

impl Idle {
    /// Takes the directory, making what is missing in it.
    pub fn open(dir: &Path) -> Result<Self, RecordError> {
        let layout = Layout::open(dir)?;
        let lock = layout.lock()?;
        Ok(Self { dir: dir.to_owned(), layout, _lock: lock })
    }

    /// The sessions whose manifest lies in its place, in the order of their beginning.
    pub fn sessions(&self) -> Result<Vec<SessionId>, RecordError> {
        let mut sessions = Vec::new();
        for year in below(&self.layout.sealed_dir())? {
            for month in below(&year)? {
                for path in below(&month)? {
                    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    let Some(stem) = name.strip_suffix(Part::Manifest.extension()) else { continue };
                    // The certificate's name ends alike.
                    let Ok(session) = stem.parse::<SessionId>() else { continue };
                    if self.layout.sealed(session, Part::Manifest) == path {
                        sessions.push(session);
                    }
                }
            }
        }
        Ok(sessions)
    }

    /// The small files of one; `None` if its manifest or signature cannot be read.
    pub fn found(&self, session: SessionId) -> Option<Found> {
        let part = |part| read(&self.layout.sealed(session, part));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Some(Found {
            session,
            manifest: part(Part::Manifest)?,
            signature: text(part(Part::Signature)?),
            expired: part(Part::Expired).and_then(|bytes| Some((bytes, text(part(Part::ExpiredSignature)?)))),
            body: super::locate(&self.dir, session).is_some(),
        })
    }
}

/// The name that a sealed body has below the recordings' directory.
pub fn body_name(session: SessionId, encrypted: bool) -> String {
    layout::sealed_name(session, if encrypted { Part::Body } else { Part::Plain })
}

/// Whether a directory of key files holds this session's.
pub fn has_key_file(dir: &Path, session: SessionId) -> bool {
    layout::key_file(dir, session).is_file()
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_PART).read_to_end(&mut bytes)).ok()?;
    Some(bytes)
}

/// What is in a directory, by name; nothing where there is none, or in a file.
fn below(dir: &Path) -> Result<Vec<PathBuf>, RecordError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let doing = |e| RecordError::io("could not list", dir, e);
    let entries = std::fs::read_dir(dir).map_err(doing)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = entries.collect::<Result<_, _>>().map_err(doing)?;
    paths.sort();
    Ok(paths)
}
