//! Who can read a recording: the auditors, through a key file kept apart from the body; and, until it is
//! sealed, this node, through a recovery key of its own boot.
//!
//! With `recovery = "auditors"` there is no such key: what a crash leaves waits for an auditor.
//!
//! A recovery key opens the envelopes of spools that were begun in its boot and nothing else. It is made
//! at each start and destroyed once the spools of the boots before are sealed. Unlinking is all that a file
//! system offers: a thief who images the disk meanwhile can read the spools that were open at that moment.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rand::TryRng as _;
use zeroize::Zeroizing;

use super::RecordError;
use super::layout::sync_dir;
use super::read::Unwrapped;
use crate::id::SessionId;
use crate::time::Timestamp;
use crate::transcript::envelope::{self, Identity, Recipient};
use crate::transcript::spool::{KEY, SpoolKey};

/// How recordings are protected at rest.
#[derive(Debug, Clone)]
pub enum Protection {
    /// Compressed only; when the configuration says so by name.
    Plain,
    Sealed {
        auditors: Vec<Recipient>,
        /// Directories that each hold every key file.
        key_files: Vec<PathBuf>,
        recovered_by: RecoveredBy,
    },
}

/// Who can open a spool that a crash has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecoveredBy {
    /// This node, at its next start, with the recovery key of the boot; a thief of the disk has both.
    #[default]
    Node,
    /// The auditors alone.
    Auditors,
}

impl Protection {
    pub(super) fn auditors(&self) -> &[Recipient] {
        match self {
            Protection::Plain => &[],
            Protection::Sealed { auditors, .. } => auditors,
        }
    }

    fn recovered_by(&self) -> RecoveredBy {
        match self {
            Protection::Plain => RecoveredBy::Node,
            Protection::Sealed { recovered_by, .. } => *recovered_by,
        }
    }

    pub(super) fn key_dirs(&self) -> &[PathBuf] {
        match self {
            Protection::Plain => &[],
            Protection::Sealed { key_files, .. } => key_files,
        }
    }
}

/// The recovery keys of this boot and of boots whose spools may still be there.
#[derive(Debug)]
pub(super) struct Recovery {
    current: Recipient,
    /// This boot's and the earlier ones'.
    identities: Vec<Identity>,
    old: Vec<PathBuf>,
}

const EXTENSION: &str = "age-key";

impl Recovery {
    /// Reads the earlier keys and makes this boot's, durably.
    pub(super) fn open(dir: &Path) -> Result<Self, RecordError> {
        let io = |e| RecordError::io("could not keep a recovery key in", dir, e);
        let (mut identities, mut old) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(dir).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            let text = Zeroizing::new(std::fs::read_to_string(&path).map_err(|e| RecordError::io("could not read", &path, e))?);
            match Identity::parse(&text) {
                Ok(identity) => identities.push(identity),
                // Torn by a crash before it was used; nothing was encrypted to it.
                Err(error) => tracing::warn!(path = %path.display(), %error, "a recovery key cannot be read"),
            }
            old.push(path);
        }
        let own = Identity::generate();
        let (Some(current), Some(secret)) = (own.recipient(), own.secret()) else { return Err(RecordError::Stopped) };
        let path = dir.join(format!("{}.{EXTENSION}", SessionId::new(Timestamp::now())));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(io)?;
        file.write_all(secret.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        sync_dir(dir)?;
        identities.push(own);
        Ok(Self { current, identities, old })
    }

    /// Makes a spool's key and its envelope.
    pub(super) fn new_key(&self, protection: &Protection) -> Result<(SpoolKey, Vec<u8>), RecordError> {
        let mut bytes = Zeroizing::new([0u8; KEY]);
        rand::rngs::SysRng.try_fill_bytes(bytes.as_mut_slice()).map_err(|_| RecordError::Encrypt { why: "no random numbers".into() })?;
        let own = match protection.recovered_by() {
            RecoveredBy::Node => Some(&self.current),
            RecoveredBy::Auditors => None,
        };
        let to = protection.auditors().iter().chain(own);
        let envelope =
            envelope::wrap(bytes.as_slice(), to).map_err(|error| RecordError::Encrypt { why: super::spool::describe(&error) })?;
        Ok((SpoolKey::new(&bytes), envelope))
    }

    /// Opens an envelope with whichever recovery key fits.
    pub(super) fn unwrap(&self, envelope: &[u8]) -> Unwrapped {
        let mut bad = None;
        for identity in &self.identities {
            match envelope::open(envelope, identity).map(|bytes| bytes.as_slice().try_into().map(SpoolKey::new)) {
                Ok(Ok(key)) => return Unwrapped::Key(key),
                Ok(Err(_)) => bad = Some("its envelope holds no key".to_owned()),
                Err(envelope::OpenError::NotForThisKey) => {}
                Err(error) => bad = Some(format!("its envelope is bad: {error}")),
            }
        }
        bad.map_or(Unwrapped::NotForUs, Unwrapped::Bad)
    }

    /// Destroys the keys of earlier boots; only when no spool of theirs is left.
    pub(super) fn forget_old(&self, dir: &Path) -> Result<(), RecordError> {
        for path in &self.old {
            match std::fs::remove_file(path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(RecordError::io("could not destroy", path, e)),
                Ok(()) | Err(_) => {}
            }
        }
        if self.old.is_empty() { Ok(()) } else { sync_dir(dir) }
    }
}
