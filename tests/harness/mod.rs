//! A bastion, its targets and its people, on this machine, for one test.

mod bastion;
mod client;
mod daemon;
mod installation;
mod master;
mod raw;
mod sshd;
mod terminal;
mod token;

pub use bastion::{Bastion, REASON, Way, pause};
pub use client::{Client, Seen, until, until_some};
pub use daemon::Daemon;
pub use installation::Plan;
pub use master::Master;
pub use raw::Raw;
pub use sshd::{Sshd, free_port};
pub use terminal::Terminal;
pub use token::Token;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

/// The bound on anything that happens at once.
pub const SOON: Duration = Duration::from_secs(30);
/// The bound on anything that takes its time.
pub const LONG: Duration = Duration::from_secs(240);

/// The account that sessions use on the targets: the one that runs the tests, so that none has to be made.
pub fn login() -> &'static str {
    static LOGIN: OnceLock<String> = OnceLock::new();
    LOGIN.get_or_init(|| {
        let name = std::process::Command::new("id").arg("-un").output().expect("id runs").stdout;
        String::from_utf8(name).expect("an account's name is text").trim().to_owned()
    })
}

/// A program that the tests need, with what to do when it is missing.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(more).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: tests/run installs what the tests need"))
}

/// The interpreter that has paramiko and asyncssh; ansible stands beside it.
pub fn python() -> PathBuf {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/test-venv/bin/python");
    let python = std::env::var_os("COUNTERSIGN_TEST_PYTHON").map_or_else(default, PathBuf::from);
    assert!(python.exists(), "{} is missing: tests/run makes the environment with paramiko and asyncssh", python.display());
    python
}

/// Where npm's ssh2 is.
pub fn node_modules() -> PathBuf {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/test-node/node_modules");
    let modules = std::env::var_os("COUNTERSIGN_TEST_NODE").map_or_else(default, PathBuf::from);
    assert!(modules.join("ssh2").exists(), "{} has no ssh2: tests/run puts it there", modules.display());
    modules
}

/// Makes a key without a passphrase at `path` and `path`.pub.
pub fn keygen(path: &std::path::Path) {
    let args = ["-q", "-t", "ed25519", "-N", "", "-C", "throw-away", "-f"];
    let output = std::process::Command::new(program("ssh-keygen")).args(args).arg(path).output().expect("ssh-keygen runs");
    assert!(output.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes a key with these options of `ssh-keygen`.
pub fn keygen_as(path: &std::path::Path, options: &[&str]) {
    let mut command = std::process::Command::new(program("ssh-keygen"));
    command.args(["-q", "-N", "", "-C", "throw-away"]).args(options).arg("-f").arg(path);
    let output = command.output().expect("ssh-keygen runs");
    assert!(output.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&output.stderr));
}

/// The public half of a key that [`keygen`] made, without its comment.
pub fn public(path: &std::path::Path) -> String {
    let line = std::fs::read_to_string(path.with_extension("pub")).expect("keygen made it");
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// A seeded sequence: the same test does the same thing each time.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `end` (xorshift64*).
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % end
    }
}
