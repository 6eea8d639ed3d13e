//! The key files below `keys/`: read once at start, refused if others can read them (FC12).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::ssh_key::private::KeypairData;
use russh::keys::ssh_key::{Algorithm, PrivateKey};
use zeroize::Zeroizing;

use super::agent::AgentKey;
use super::ca::CaKey;
use super::plan::{CaPlan, KeyPlan, is_public};
use super::public::public;

/// Everything that a node signs with by itself: not the user CA's key, which the pen alone reads.
#[derive(Debug, Clone)]
pub struct Keys {
    pub host: PrivateKey,
    pub(super) host_ca: CaKey,
    /// Manifests of recordings, expiry certificates.
    pub seal: PrivateKey,
    /// Checkpoints of the audit log.
    pub log: PrivateKey,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{path} cannot be read: is this a directory made by `countersign init`?")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} has mode {mode:04o}: others can read it. Run: chmod 600 {path}")]
    Mode { path: PathBuf, mode: u32 },
    #[error("{path} is not an OpenSSH private key")]
    Form {
        path: PathBuf,
        #[source]
        source: russh::keys::ssh_key::Error,
    },
    #[error("{path} has a passphrase; a bastion starts without anybody there. Remove it with ssh-keygen -p, or keep the key in an agent")]
    Encrypted { path: PathBuf },
    #[error("keys/log_key is an {algorithm} key; checkpoints are signed with Ed25519: ssh-keygen -t ed25519")]
    LogAlgorithm { algorithm: String },
    #[error("{path} is an {algorithm} key; only Ed25519 and ECDSA keys sign here")]
    Algorithm { path: PathBuf, algorithm: String },
    #[error("{path} is not a public key: one line, as ssh-keygen writes it")]
    NotPublic { path: PathBuf },
    #[error("{path} is a public key and no agent holds its private half: name one with [keys] user_ca_agent or host_ca_agent")]
    NoAgent { path: PathBuf },
    #[error("the CA key {0} is listed twice")]
    Twice(String),
    #[error("there is no CA number {0}: [keys] user_ca lists {1}")]
    NoSuchCa(usize, usize),
}

impl Keys {
    pub fn read(plan: &KeyPlan) -> Result<Self, KeyError> {
        Ok(Self {
            host: private(plan.dir.join("host_ed25519"))?,
            host_ca: ca(&plan.host_ca, &plan.host_ca.first)?,
            seal: private(plan.dir.join("seal_key"))?,
            log: private(plan.dir.join("log_key"))?,
        })
    }
}

/// The user CA's key number `n`, from 1: the first signs sessions, the others are to come.
pub(super) fn user_ca(plan: &KeyPlan, n: usize) -> Result<CaKey, KeyError> {
    let all: Vec<&PathBuf> = plan.user_ca.all().collect();
    let path = n.checked_sub(1).and_then(|n| all.get(n)).ok_or(KeyError::NoSuchCa(n, all.len()))?;
    ca(&plan.user_ca, path)
}

fn ca(plan: &CaPlan, path: &Path) -> Result<CaKey, KeyError> {
    if !is_public(path) {
        return Ok(CaKey::File(Arc::new(private(path.to_owned())?)));
    }
    let socket = plan.agent.as_ref().ok_or_else(|| KeyError::NoAgent { path: path.to_owned() })?;
    Ok(CaKey::Agent(AgentKey::new(public(path)?, socket)))
}

impl Keys {
    /// The log key's seed: checkpoints are signed as C2SP signed notes, not as SSHSIG.
    pub fn log_seed(&self) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        match self.log.key_data() {
            KeypairData::Ed25519(pair) => Ok(Zeroizing::new(pair.private.to_bytes())),
            _ => Err(KeyError::LogAlgorithm { algorithm: self.log.algorithm().to_string() }),
        }
    }
}

/// Whether a key file could be used, for who looks before a start.
pub fn judge(path: &Path) -> Result<(), KeyError> {
    private(path.to_owned()).map(drop)
}

pub(super) fn private(path: PathBuf) -> Result<PrivateKey, KeyError> {
    let fail = |source| KeyError::Read { path: path.clone(), source };
    let mode = std::fs::metadata(&path).map_err(fail)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Mode { path, mode });
    }
    let text = zeroize::Zeroizing::new(std::fs::read(&path).map_err(fail)?);
    let key = PrivateKey::from_openssh(&*text).map_err(|source| KeyError::Form { path: path.clone(), source })?;
    if key.is_encrypted() {
        return Err(KeyError::Encrypted { path });
    }
    signs(&path, &key.algorithm())?;
    Ok(key)
}

/// Checks that this is a kind of key that we sign with.
pub(super) fn signs(path: &Path, algorithm: &Algorithm) -> Result<(), KeyError> {
    if matches!(algorithm, Algorithm::Ed25519 | Algorithm::Ecdsa { .. }) {
        Ok(())
    } else {
        Err(KeyError::Algorithm { path: path.to_owned(), algorithm: algorithm.to_string() })
    }
}
