//! A proof on the disk: a directory, or a tar with that directory in it. What is read is bounded and stays in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;

use anyhow::{Context, bail};

use crate::access::proof::MAX_DECISIONS;
use crate::time::Timestamp;

/// Files of one proof.
const MOST: usize = 2 * MAX_DECISIONS + 8;
/// All their bytes; a row of the log comes with its proof, some kilobytes.
const BYTES: u64 = 64 * 1024 * 1024;

/// Whether that is a proof: a directory with its manifest, or a tar.
pub fn is_proof(path: &Path) -> bool {
    is_tar(path) || path.join("manifest.json").is_file()
}

fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|ext| ext == "tar")
}

/// Reads all files by name, without the directory that they are in.
pub fn read(path: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let failed = || format!("{} cannot be read", path.display());
    let mut pile = Pile::default();
    if is_tar(path) {
        let mut archive = tar::Archive::new(File::open(path).with_context(failed)?);
        for entry in archive.entries().with_context(failed)? {
            let entry = entry.with_context(failed)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = entry.path().with_context(failed)?.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            pile.put(name, entry).with_context(failed)?;
        }
    } else {
        for entry in std::fs::read_dir(path).with_context(failed)? {
            let path = entry.with_context(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_file() {
                pile.put(name, File::open(&path).with_context(failed)?).with_context(failed)?;
            }
        }
    }
    Ok(pile.files)
}

#[derive(Default)]
struct Pile {
    files: BTreeMap<String, Vec<u8>>,
    bytes: u64,
}

impl Pile {
    fn put(&mut self, name: String, from: impl Read) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        let left = BYTES.saturating_sub(self.bytes);
        self.bytes += u64::try_from(from.take(left + 1).read_to_end(&mut bytes)?).unwrap_or(BYTES);
        if self.files.len() >= MOST || self.bytes > BYTES {
            bail!("it is larger than any proof");
        }
        match self.files.insert(name.clone(), bytes) {
            None => Ok(()),
            Some(_) => bail!("it holds {name:?} twice"),
        }
    }
}

/// Writes a new directory, or a new tar; what is there already stays as it is.
pub fn write(output: &Path, inner: &str, files: &[(String, Vec<u8>)]) -> anyhow::Result<()> {
    let failed = || format!("{} cannot be written", output.display());
    if !is_tar(output) {
        std::fs::create_dir(output).with_context(failed)?;
        for (name, bytes) in files {
            File::create_new(output.join(name)).and_then(|mut file| file.write_all(bytes)).with_context(failed)?;
        }
        return Ok(());
    }
    let seconds = u64::try_from(Timestamp::now().micros() / 1_000_000).unwrap_or(0);
    let mut tar = tar::Builder::new(File::create_new(output).with_context(failed)?);
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(seconds);
        tar.append_data(&mut header, format!("{inner}/{name}"), bytes.as_slice()).with_context(failed)?;
    }
    tar.into_inner().and_then(|mut file| file.flush()).with_context(failed)
}
