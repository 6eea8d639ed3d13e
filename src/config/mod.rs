//! The directory of an installation, read whole or not at all. (stub: signatures only)

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::access::people::People;
use crate::access::policy::PolicySet;
use crate::access::target::Targets;
use crate::access::workflow::Workflows;
use crate::id::Digest;
use crate::retention::schedule::Schedules;

/// Everything that `countersign.toml` and `policies/` say, checked against each other.
#[derive(Debug)]
pub struct Directory {
    pub root: PathBuf,
    pub config: Config,
    pub people: People,
    pub targets: Targets,
    pub policy: PolicySet,
    pub workflows: Workflows,
    pub schedules: Schedules,
    /// Over the bytes of every file of `policies/`, by name: what a request calls its policy.
    pub digest: Digest,
    pub warnings: Vec<Problem>,
}

/// `countersign.toml`. Relative paths are relative to the directory.
#[derive(Debug, Clone)]
pub struct Config {
    /// The bastion's id in every signed document; made by `init`, never changed.
    pub bastion: String,
    /// The name people use after `@` and in `ssh_config`; for texts only.
    pub host: String,
    pub listen: Vec<SocketAddr>,
    pub state: PathBuf,
    pub recordings: PathBuf,
    /// Recordings are not encrypted: only when the file says `mode = "plain"` by name.
    pub plain_recordings: bool,
    /// Address that targets see, where it is not the socket's own.
    pub egress: Option<IpAddr>,
    /// Window for sessions that policy permits without approval and that no annotation bounds.
    pub limits: Limits,
}

#[derive(Debug, Clone)]
pub struct Limits {
    /// 30 s
    pub login_grace: Duration,
    /// 6
    pub login_tries: usize,
    /// 256
    pub unauthenticated: usize,
    /// 16 per source (/32, /64)
    pub unauthenticated_per_source: usize,
    /// 64
    pub channels_per_connection: usize,
    /// 10
    pub held_per_connection: usize,
    /// 32
    pub pending_per_person: usize,
    /// 200
    pub pending: usize,
}

/// One thing wrong in one place: `file:line:column: what; fix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    pub column: usize,
    pub what: String,
    pub fix: String,
}

impl Directory {
    /// Reads the directory; every problem at once.
    pub fn load(_root: &Path) -> Result<Self, Vec<Problem>> {
        todo!()
    }
}
impl std::fmt::Display for Problem {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
