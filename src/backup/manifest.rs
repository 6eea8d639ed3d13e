//! What a backup says of itself: whose it is, how far its log goes, and every file in it with its digest.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::access::canonical;
use crate::audit::LogPoint;
use crate::id::Digest;
use crate::time::Timestamp;

/// The first entry of the archive.
pub const NAME: &str = "manifest.json";
pub const DATABASE: &str = "countersign.db";
pub const SETTINGS: &str = "countersign.toml";
/// The copy of the last checkpoint, as it lay beside the recordings.
pub const CHECKPOINT: &str = "log.checkpoint";

const KIND: &str = "countersign-backup";
const VERSION: u32 = 1;
/// Longer is no manifest; a hundred thousand policy files would fit.
pub const MAX_BYTES: u64 = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub v: u32,
    pub kind: String,
    pub bastion: String,
    pub made_us: Timestamp,
    /// How far the log in the database goes.
    pub log: LogPoint,
    /// Of the policies, as requests name them.
    pub policy: Digest,
    /// In the order of the archive.
    pub files: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub name: String,
    pub bytes: u64,
    pub sha256: Digest,
    /// 0600 or 0644
    pub mode: u32,
}

/// Says why a text is no backup's manifest.
#[derive(Debug, thiserror::Error)]
pub enum BadManifest {
    #[error("its manifest cannot be read")]
    Form(#[from] serde_json::Error),
    #[error("its manifest is of a kind or version that is unknown here")]
    Unknown,
    #[error("its manifest names {0:?} twice, or where no file of a backup is")]
    Name(String),
    #[error("its manifest names no {0}")]
    Without(&'static str),
}

impl Manifest {
    pub fn new(bastion: &str, made: Timestamp, log: LogPoint, policy: Digest, files: Vec<Entry>) -> Self {
        Self { v: VERSION, kind: KIND.into(), bastion: bastion.to_owned(), made_us: made, log, policy, files }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = canonical::encode(self);
        bytes.push(b'\n');
        bytes
    }

    /// Reads a manifest; what it names can be put below a directory as it stands.
    pub fn read(bytes: &[u8]) -> Result<Self, BadManifest> {
        let manifest: Self = serde_json::from_slice(bytes)?;
        if manifest.v != VERSION || manifest.kind != KIND {
            return Err(BadManifest::Unknown);
        }
        let mut names = BTreeSet::new();
        for entry in &manifest.files {
            if !is_name(&entry.name) || !names.insert(entry.name.as_str()) || entry.mode & !0o644 != 0 {
                return Err(BadManifest::Name(entry.name.chars().take(80).collect()));
            }
        }
        match [SETTINGS, DATABASE].into_iter().find(|name| !names.contains(name)) {
            Some(missing) => Err(BadManifest::Without(missing)),
            None => Ok(manifest),
        }
    }
}

/// Whether a file of this name may be in a backup: one of ours, or below `keys/` or `policies/`.
fn is_name(name: &str) -> bool {
    if [DATABASE, SETTINGS, CHECKPOINT].contains(&name) {
        return true;
    }
    let path = Path::new(name);
    let plain = path.components().all(|part| matches!(part, Component::Normal(part) if !part.as_encoded_bytes().starts_with(b".")));
    let below = ["keys", "policies"].into_iter().any(|dir| path.strip_prefix(dir).is_ok_and(|rest| rest != Path::new("")));
    plain && below && !name.contains(['\0', '\\']) && !name.contains("//") && !name.contains("/./") && !name.ends_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_a_backup_are_taken() {
        for good in ["countersign.toml", "keys/user_ca", "policies/cases/pci.toml", "policies/targets.d/web.toml"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "x",
            "/etc/passwd",
            "keys",
            "keys/",
            "keys/../x",
            "../keys/x",
            "keys/./x",
            "keys//x",
            "./keys/x",
            "policies/.git/config",
            "key-files/x",
            "recordings/x",
            "keys/a\0b",
        ] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_manifest_reads_back_and_others_do_not() {
        let entry = |name: &str| Entry { name: name.into(), bytes: 1, sha256: Digest([1; 32]), mode: 0o600 };
        let log = LogPoint { size: 3, root: Digest([2; 32]) };
        let made = |files| Manifest::new("b-1", Timestamp::from_micros(5), log, Digest([3; 32]), files);
        let good = made(vec![entry(SETTINGS), entry(DATABASE), entry("keys/log_key")]);
        assert_eq!(Manifest::read(&good.bytes()).unwrap(), good);
        assert!(matches!(Manifest::read(&made(vec![entry(SETTINGS)]).bytes()), Err(BadManifest::Without(DATABASE))));
        let twice = made(vec![entry(SETTINGS), entry(DATABASE), entry(DATABASE)]);
        assert!(matches!(Manifest::read(&twice.bytes()), Err(BadManifest::Name(_))));
        let open = made(vec![entry(SETTINGS), entry(DATABASE), Entry { mode: 0o4755, ..entry("keys/x") }]);
        assert!(matches!(Manifest::read(&open.bytes()), Err(BadManifest::Name(_))));
        assert!(matches!(Manifest::read(&Manifest { v: 2, ..good }.bytes()), Err(BadManifest::Unknown)));
        assert!(Manifest::read(b"{}").is_err() && Manifest::read(b"").is_err());
    }
}
