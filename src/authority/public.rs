//! The public halves: what targets and laptops are told.

use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use russh::keys::ssh_key::{HashAlg, PublicKey};

use super::keys::{self, KeyError};
use super::plan::{CaPlan, KeyPlan, is_public};

/// No key of ours is longer.
const MAX_KEY: usize = 16 * 1024;

/// Everything that others have to know of this bastion's keys.
#[derive(Debug, Clone)]
pub struct PublicKeys {
    pub host: PublicKey,
    /// The first signs now; all are to be accepted.
    pub user_cas: Vec<PublicKey>,
    pub host_cas: Vec<PublicKey>,
    /// The way in when this bastion is down; its private half is nowhere here.
    pub emergency: Option<PublicKey>,
}

impl PublicKeys {
    pub fn read(plan: &KeyPlan) -> Result<Self, KeyError> {
        let emergency = plan.dir.join("emergency_ca.pub");
        Ok(Self {
            host: half(&plan.dir.join("host_ed25519"))?,
            user_cas: all(&plan.user_ca)?,
            host_cas: all(&plan.host_ca)?,
            emergency: emergency.exists().then(|| public(&emergency)).transpose()?,
        })
    }

    /// What a target is to trust: every user CA, and the emergency CA.
    pub fn trusted_by_targets(&self) -> impl Iterator<Item = &PublicKey> {
        self.user_cas.iter().chain(&self.emergency)
    }
}

/// What laptops have to know: the bastion's own key and who answers for what is behind it. Nothing of the
/// user CA is read for it, since a node hands it out.
#[derive(Debug, Clone)]
pub struct LaptopKeys {
    pub host: PublicKey,
    pub host_cas: Vec<PublicKey>,
}

impl LaptopKeys {
    pub fn read(plan: &KeyPlan) -> Result<Self, KeyError> {
        Ok(Self { host: half(&plan.dir.join("host_ed25519"))?, host_cas: all(&plan.host_ca)? })
    }
}

impl From<PublicKeys> for LaptopKeys {
    fn from(keys: PublicKeys) -> Self {
        Self { host: keys.host, host_cas: keys.host_cas }
    }
}

/// A key as one line without its comment, for other people's files.
pub fn bare(key: &PublicKey) -> String {
    let line = key.to_openssh().unwrap_or_default();
    line.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ")
}

fn all(plan: &CaPlan) -> Result<Vec<PublicKey>, KeyError> {
    let keys: Vec<PublicKey> = plan.all().map(|path| half(path)).collect::<Result<_, _>>()?;
    match keys.iter().enumerate().find(|(n, key)| keys.iter().take(*n).any(|other| other.key_data() == key.key_data())) {
        None => Ok(keys),
        Some((_, twice)) => Err(KeyError::Twice(twice.fingerprint(HashAlg::Sha256).to_string())),
    }
}

/// The public half of what a path names: read from the private key where that is here, so that a stale
/// `.pub` beside it is never handed out.
fn half(path: &Path) -> Result<PublicKey, KeyError> {
    if is_public(path) {
        return public(path);
    }
    Ok(tame(keys::private(path.to_owned())?.public_key().clone()))
}

/// What a key says of itself goes into other people's files and scripts: words only.
fn tame(mut key: PublicKey) -> PublicKey {
    let comment = key.comment().to_string();
    if comment.is_empty() || !comment.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '@' | '.' | '_' | '-')) {
        key.set_comment("countersign");
    }
    key
}

/// Reads a `.pub` file. ssh-key 0.7.0-rc.11 recurses without limit on nested certificates: none reaches it.
pub(super) fn public(path: &Path) -> Result<PublicKey, KeyError> {
    let not = |path: &PathBuf| KeyError::NotPublic { path: path.clone() };
    let path = path.to_owned();
    let text = std::fs::read_to_string(&path).map_err(|source| KeyError::Read { path: path.clone(), source })?;
    let blob = text.split_ascii_whitespace().nth(1).and_then(|word| BASE64.decode(word.as_bytes()).ok()).unwrap_or_default();
    let certificate = text.contains("-cert-v0") || blob.windows(8).any(|part| part == b"-cert-v0");
    if text.len() > MAX_KEY || certificate || text.contains("PRIVATE KEY") || text.trim().contains('\n') {
        return Err(not(&path));
    }
    let key = PublicKey::from_openssh(text.trim()).map_err(|_| not(&path))?;
    keys::signs(&path, &key.algorithm())?;
    Ok(tame(key))
}
