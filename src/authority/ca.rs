//! A key that signs certificates: in a file, or behind an agent. Who signs what is decided by the callers.

use std::path::PathBuf;
use std::sync::Arc;

use russh::keys::ssh_key::certificate::Builder;
use russh::keys::ssh_key::{self, Certificate, PrivateKey, PublicKey};

use super::agent::AgentKey;

/// A certificate authority's key.
#[derive(Debug, Clone)]
pub(super) enum CaKey {
    File(Arc<PrivateKey>),
    Agent(AgentKey),
}

#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("the certificate cannot be signed")]
    Form(#[from] ssh_key::Error),
    #[error("the ssh-agent at {} did not sign: is it running, and is the CA key in it (ssh-add -l)?", socket.display())]
    Agent {
        socket: PathBuf,
        #[source]
        source: russh::keys::Error,
    },
    #[error("the ssh-agent at {} did not sign in time", .0.display())]
    Late(PathBuf),
    #[error("the ssh-agent at {} signed with another key than the CA's", .0.display())]
    OtherKey(PathBuf),
}

impl CaKey {
    pub fn public_key(&self) -> &PublicKey {
        match self {
            CaKey::File(key) => key.public_key(),
            CaKey::Agent(key) => key.public_key(),
        }
    }

    /// Signs what `recipe` builds; it may be built twice, and has to be the same then, nonce and all.
    pub async fn sign(&self, recipe: impl Fn() -> Result<Builder, ssh_key::Error>) -> Result<Certificate, SignError> {
        match self {
            CaKey::File(key) => Ok(recipe()?.sign(&**key)?),
            CaKey::Agent(key) => key.sign(recipe).await,
        }
    }
}
