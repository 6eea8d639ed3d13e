//! The container: a plain tar in an age file, so that `age -d -i KEY FILE | tar t` lists it without us.
//!
//! The manifest is the first entry; after it come exactly the files that it names. What is read is not
//! believed before the last byte: age shows a cut at its end only.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::BackupError;
use super::manifest::{self, Entry, Manifest};
use crate::id::Digest;
use crate::transcript::envelope::{self, Identity, OpenError, Recipient};

/// A file to be put in.
#[derive(Debug)]
pub struct Put {
    pub name: String,
    pub mode: u32,
    pub from: From,
}

#[derive(Debug)]
pub enum From {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Put {
    /// What the manifest says of it.
    pub fn entry(&self) -> io::Result<Entry> {
        let (sha256, bytes) = match &self.from {
            From::Bytes(bytes) => (Digest::of(bytes), bytes.len() as u64),
            From::File(path) => copy(&mut File::open(path)?, &mut io::sink(), u64::MAX)?,
        };
        Ok(Entry { name: self.name.clone(), bytes, sha256, mode: self.mode })
    }
}

/// Writes the whole archive; returns the file for its sync.
pub fn write<W: Write>(out: W, to: &[Recipient], manifest: &Manifest, files: &[Put]) -> io::Result<W> {
    let sealed = envelope::encrypting_to(to.iter(), out)?;
    let mut tar = tar::Builder::new(sealed);
    let seconds = u64::try_from(manifest.made_us.micros() / 1_000_000).unwrap_or(0);
    let header = |bytes: u64, mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(bytes);
        header.set_mode(mode);
        header.set_mtime(seconds);
        header
    };
    let bytes = manifest.bytes();
    tar.append_data(&mut header(bytes.len() as u64, 0o600), manifest::NAME, bytes.as_slice())?;
    for (file, entry) in files.iter().zip(&manifest.files) {
        let mut header = header(entry.bytes, entry.mode);
        match &file.from {
            From::Bytes(bytes) => tar.append_data(&mut header, &file.name, bytes.as_slice())?,
            From::File(path) => tar.append_data(&mut header, &file.name, File::open(path)?.take(entry.bytes))?,
        }
    }
    tar.into_inner()?.finish()
}

/// Opens a backup and puts its files below `into`; all of them are what the manifest says, or this fails.
pub fn read(from: impl Read + Seek, with: &Identity, into: &Path) -> Result<Manifest, BackupError> {
    let opened = envelope::decrypting_of_several(BufReader::new(from), with).map_err(|error| match error {
        OpenError::NotForThisKey => BackupError::NotForThisKey,
        other => BackupError::Damaged(other.to_string()),
    })?;
    let damaged = |error: io::Error| BackupError::Damaged(error.to_string());
    let mut archive = tar::Archive::new(opened);
    let mut entries = archive.entries().map_err(damaged)?;
    let mut next = |expected: &str| -> Result<tar::Entry<'_, _>, BackupError> {
        let entry = entries.next().ok_or_else(|| BackupError::Damaged(format!("{expected} is missing")))?.map_err(damaged)?;
        let is_file = entry.header().entry_type().is_file();
        if is_file && entry.path_bytes().as_ref() == expected.as_bytes() {
            Ok(entry)
        } else {
            Err(BackupError::Damaged(format!("something else stands where {expected} should")))
        }
    };
    let mut text = Vec::new();
    next(manifest::NAME)?.take(manifest::MAX_BYTES).read_to_end(&mut text).map_err(damaged)?;
    let manifest = Manifest::read(&text)?;
    for file in &manifest.files {
        let entry = next(&file.name)?;
        let path = into.join(&file.name);
        let failed = |source| BackupError::Write { path: path.clone(), source };
        if let Some(dir) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        }
        let mut out = OpenOptions::new().write(true).create_new(true).mode(file.mode).open(&path).map_err(failed)?;
        let mut entry = Guarded { inner: entry, failed: None };
        let copied = copy(&mut entry, &mut out, file.bytes);
        if let Some(error) = entry.failed {
            return Err(damaged(error));
        }
        let (sha256, bytes) = copied.and_then(|copied| out.sync_all().map(|()| copied)).map_err(failed)?;
        if sha256 != file.sha256 || bytes != file.bytes {
            return Err(BackupError::Damaged(format!("{} is not as it was backed up", file.name)));
        }
    }
    if entries.next().is_some() {
        return Err(BackupError::Damaged("it holds more than its manifest names".into()));
    }
    // To the last byte: only there age sees that a file was cut.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(damaged)?;
    Ok(manifest)
}

/// Tells a backup that cannot be read from a disk that cannot be written.
struct Guarded<R> {
    inner: R,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read(into).map_err(|error| {
            let again = io::Error::new(error.kind(), error.to_string());
            self.failed = Some(error);
            again
        })
    }
}

/// Copies, and says what was copied: one byte more than `most` at most, so that more shows.
fn copy(from: &mut impl Read, to: &mut impl Write, most: u64) -> io::Result<(Digest, u64)> {
    let (mut sum, mut length, mut chunk) = (Sha256::new(), 0u64, vec![0; 256 * 1024]);
    let mut from = from.take(most.saturating_add(1));
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok((Digest(sum.finalize().into()), length)),
            Ok(read) => {
                let part = chunk.get(..read).unwrap_or_default();
                sum.update(part);
                to.write_all(part)?;
                length += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::LogPoint;
    use crate::time::Timestamp;

    fn made(to: &[Recipient]) -> Vec<u8> {
        let put = |name: &str, text: &[u8]| Put { name: name.into(), mode: 0o600, from: From::Bytes(text.to_vec()) };
        let long = format!("policies/cases/{}.toml", "long".repeat(40));
        let files =
            [put(manifest::SETTINGS, b"bastion"), put("keys/log_key", b"secret"), put(&long, b""), put(manifest::DATABASE, &[7; 100_000])];
        let entries = files.iter().map(|file| file.entry().unwrap()).collect();
        let log = LogPoint { size: 0, root: Digest([0; 32]) };
        let manifest = Manifest::new("b-1", Timestamp::from_micros(5), log, Digest([1; 32]), entries);
        write(Vec::new(), to, &manifest, &files).unwrap()
    }

    fn opened(bytes: &[u8], with: &Identity) -> Result<Vec<u8>, BackupError> {
        let into = tempfile::tempdir().unwrap();
        read(io::Cursor::new(bytes), with, into.path())?;
        Ok(std::fs::read(into.path().join("keys/log_key")).unwrap())
    }

    #[test]
    fn each_recipient_opens_it_and_nobody_else() {
        let (one, two, other) = (Identity::generate(), Identity::generate(), Identity::generate());
        let backup = made(&[one.recipient().unwrap(), two.recipient().unwrap()]);
        for identity in [&one, &two] {
            assert_eq!(opened(&backup, identity).unwrap(), b"secret");
        }
        assert!(matches!(opened(&backup, &other), Err(BackupError::NotForThisKey)));
        let many: Vec<Recipient> = (0..60).map(|_| Identity::generate().recipient().unwrap()).chain(two.recipient()).collect();
        assert!(opened(&made(&many), &two).is_ok());
    }

    #[test]
    fn a_flipped_byte_or_a_cut_anywhere_is_one_error() {
        let identity = Identity::generate();
        let backup = made(&[identity.recipient().unwrap()]);
        for at in (0..backup.len()).step_by(997).chain([backup.len() - 1]) {
            let mut flipped = backup.clone();
            flipped[at] ^= 1;
            assert!(matches!(opened(&flipped, &identity), Err(BackupError::Damaged(_) | BackupError::NotForThisKey)), "byte {at}");
            assert!(matches!(opened(&backup[..at], &identity), Err(BackupError::Damaged(_))), "cut at {at}");
        }
        assert!(opened(b"", &identity).is_err());
    }
}
