//! The key files below `keys/`: read once at start, refused if others can read them (FC12).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::PrivateKey;
use russh::keys::ssh_key::private::KeypairData;
use zeroize::Zeroizing;

/// Everything that this bastion signs with.
#[derive(Debug, Clone)]
pub struct Keys {
    pub host: PrivateKey,
    pub user_ca: PrivateKey,
    pub host_ca: PrivateKey,
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
}

impl Keys {
    pub fn read(dir: &Path) -> Result<Self, KeyError> {
        Ok(Self {
            host: read(dir.join("host_ed25519"))?,
            user_ca: read(dir.join("user_ca"))?,
            host_ca: read(dir.join("host_ca"))?,
            seal: read(dir.join("seal_key"))?,
            log: read(dir.join("log_key"))?,
        })
    }
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
    read(path.to_owned()).map(drop)
}

fn read(path: PathBuf) -> Result<PrivateKey, KeyError> {
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
    if !(key.algorithm().is_ed25519() || key.algorithm().is_ecdsa()) {
        return Err(KeyError::Algorithm { path, algorithm: key.algorithm().to_string() });
    }
    Ok(key)
}
