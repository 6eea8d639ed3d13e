//! Which keys an installation has, and where they are; what `[keys]` of `countersign.toml` says.

use std::path::{Path, PathBuf};

/// The keys of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPlan {
    /// `keys/`: the host key, the seal key, the log key, and the emergency CA's public half.
    pub dir: PathBuf,
    pub user_ca: CaPlan,
    pub host_ca: CaPlan,
}

/// A list of CA keys: the first signs, all are told to targets or laptops, so that the next one is known
/// everywhere before it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaPlan {
    pub first: PathBuf,
    pub next: Vec<PathBuf>,
    /// The socket of the ssh-agent that holds the private halves of what is listed as `….pub`.
    pub agent: Option<PathBuf>,
}

impl KeyPlan {
    /// What `countersign init` makes: one file each below `keys/`.
    pub fn usual(root: &Path) -> Self {
        let dir = root.join("keys");
        Self { user_ca: CaPlan::of(dir.join("user_ca")), host_ca: CaPlan::of(dir.join("host_ca")), dir }
    }
}

impl CaPlan {
    pub fn of(first: PathBuf) -> Self {
        Self { first, next: Vec::new(), agent: None }
    }

    pub fn all(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.first).chain(&self.next)
    }
}

/// Whether this path names a public half.
pub(super) fn is_public(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pub")
}
