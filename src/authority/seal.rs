//! The seal key: what manifests and expiry certificates are signed with. A key of its own, so that whoever
//! signs the log cannot also make recordings, and the other way round.

use russh::keys::ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use super::Keys;

/// Signs what this bastion says of its recordings.
#[derive(Debug, Clone)]
pub struct SealKey(PrivateKey);

#[derive(Debug, thiserror::Error)]
#[error("the seal key cannot sign")]
pub struct SealKeyError(#[from] russh::keys::ssh_key::Error);

impl SealKey {
    pub fn new(keys: &Keys) -> Self {
        Self(keys.seal.clone())
    }

    #[cfg(test)]
    pub(crate) fn of(key: PrivateKey) -> Self {
        Self(key)
    }

    /// Signs as `ssh-keygen -Y sign -n NAMESPACE` does (OpenSSH PROTOCOL.sshsig, SHA-512); PEM.
    pub fn sign(&self, namespace: &str, bytes: &[u8]) -> Result<String, SealKeyError> {
        Ok(self.0.sign(namespace, HashAlg::Sha512, bytes)?.to_pem(LineEnding::LF)?)
    }

    /// The public half as a line of `authorized_keys`.
    pub fn public(&self) -> String {
        self.0.public_key().to_openssh().unwrap_or_default()
    }
}

/// The public half of a bastion's seal key, as an auditor knows it.
#[derive(Debug, Clone)]
pub struct SealVerifier {
    bastion: String,
    key: PublicKey,
}

/// No signature of ours is longer.
const MAX_SIGNATURE: usize = 16 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSeal {
    #[error("it is not a public key")]
    Key,
    #[error("the signature is not an SSHSIG of at most {MAX_SIGNATURE} bytes")]
    Form,
    #[error("the signature is by {by}, the seal key is {known}")]
    OtherKey { by: String, known: String },
    #[error("the signature is for {0:?}")]
    Namespace(String),
    #[error("the signature is not over these bytes")]
    Bytes,
}

impl SealVerifier {
    /// Takes a line of `authorized_keys`, or of `allowed_signers` with its principal before the key.
    pub fn new(bastion: &str, line: &str) -> Result<Self, BadSeal> {
        if line.len() > MAX_SIGNATURE || line.contains("-cert-v0") {
            return Err(BadSeal::Key);
        }
        let from = ["ssh-", "ecdsa-"].iter().filter_map(|kind| line.find(kind)).min().ok_or(BadSeal::Key)?;
        let (before, key) = line.split_at_checked(from).ok_or(BadSeal::Key)?;
        // Whom the line is about, where it says so.
        let bastion = before.split_ascii_whitespace().next().unwrap_or(bastion);
        Ok(Self { bastion: bastion.to_owned(), key: PublicKey::from_openssh(key.trim()).map_err(|_| BadSeal::Key)? })
    }

    pub fn bastion(&self) -> &str {
        &self.bastion
    }

    /// `SHA256:…`
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Checks what [`SealKey::sign`] made, as `ssh-keygen -Y verify` does.
    pub fn verify(&self, namespace: &str, bytes: &[u8], signature: &str) -> Result<(), BadSeal> {
        // ssh-key 0.7.0-rc.11 recurses without limit on nested certificates.
        if signature.len() > MAX_SIGNATURE || signature.contains("-cert-v0") {
            return Err(BadSeal::Form);
        }
        let signature = SshSig::from_pem(signature).map_err(|_| BadSeal::Form)?;
        if signature.public_key() != self.key.key_data() {
            let by = PublicKey::from(signature.public_key().clone()).fingerprint(HashAlg::Sha256).to_string();
            return Err(BadSeal::OtherKey { by, known: self.fingerprint() });
        }
        if signature.namespace() != namespace {
            return Err(BadSeal::Namespace(signature.namespace().chars().take(40).collect()));
        }
        self.key.verify(namespace, bytes, &signature).map_err(|_| BadSeal::Bytes)
    }
}
