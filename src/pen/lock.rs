//! What the pen can still do once it has read what it needs: read the policies again, write its record, speak on
//! its socket. Landlock keeps it from every other file, seccomp from every other call.
//!
//! Both count for the calling thread and what it starts, so this is called while there is one thread. A kernel
//! without Landlock is said to be one, and seccomp has to do; without either nothing starts.

use std::collections::BTreeMap;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope,
};
use serde_json::{Value, json};

/// Rights that are handled where the kernel knows them.
const KNOWN: ABI = ABI::V6;

/// Where the CA's key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyIn {
    Memory,
    /// It is asked over a Unix socket each time.
    Agent,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("the pen cannot be kept from other files (Landlock)")]
    Landlock(#[from] RulesetError),
    #[error("a directory that the pen reads cannot be opened")]
    Path(#[from] landlock::PathFdError),
    #[error("the pen's system calls cannot be restricted (seccomp): {0}")]
    Seccomp(String),
}

/// Locks this thread in, for good. Says whether Landlock does its part.
pub fn lock(root: &Path, key: KeyIn) -> Result<bool, LockError> {
    let landlock = files(root)?;
    calls(key)?;
    Ok(landlock)
}

fn files(root: &Path) -> Result<bool, LockError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let rules: [(&str, BitFlags<AccessFs>); 4] = [
        ("countersign.toml", AccessFs::ReadFile.into()),
        ("policies", read),
        // Their modes are looked at; only second factors are read again.
        ("keys", AccessFs::ReadDir.into()),
        ("keys/totp", read),
    ];
    let ruleset = Ruleset::default().handle_access(AccessFs::from_all(KNOWN))?.handle_access(AccessNet::from_all(KNOWN))?;
    let mut ruleset = ruleset.scope(Scope::from_all(KNOWN))?.create()?;
    for (name, access) in rules {
        let path = root.join(name);
        if path.exists() {
            ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(&path)?, access))?;
        }
    }
    Ok(ruleset.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// Calls by their names, with nothing asked of their arguments.
const CALLS: [&str; 52] = [
    "brk",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "dup",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "eventfd2",
    "exit",
    "exit_group",
    "fcntl",
    "fdatasync",
    "fstat",
    "fsync",
    "ftruncate",
    "futex",
    "getdents64",
    "getpid",
    "getrandom",
    "gettid",
    "gettimeofday",
    "lseek",
    "madvise",
    "mremap",
    "munmap",
    "newfstatat",
    "ppoll",
    "pread64",
    "prlimit64",
    "read",
    "readlinkat",
    "readv",
    "recvfrom",
    "recvmsg",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "shutdown",
    "sigaltstack",
    "statx",
    "tgkill",
    "write",
    "writev",
];
/// Calls that only older architectures have.
const OLD_CALLS: [&str; 5] = ["epoll_wait", "lstat", "poll", "readlink", "stat"];
/// What an agent is spoken to with, besides `socket`.
const AGENT_CALLS: [&str; 5] = ["connect", "getpeername", "getsockname", "getsockopt", "setsockopt"];

const PROT_EXEC: u64 = 4;
/// `O_WRONLY | O_RDWR | O_CREAT | O_TRUNC` of Linux on both architectures.
const O_WRITES: u64 = 0o1 | 0o2 | 0o100 | 0o1000;
const AF_UNIX: u64 = 1;
const EPERM: u64 = 1;

fn calls(key: KeyIn) -> Result<(), LockError> {
    let failed = |error: &dyn std::fmt::Display| LockError::Seccomp(error.to_string());
    let arch = std::env::consts::ARCH.try_into().map_err(|error: seccompiler::BackendError| failed(&error))?;
    let filters: BTreeMap<&str, Value> = [("pen", filter(std::env::consts::ARCH, key))].into();
    let text = serde_json::to_vec(&filters).map_err(|error| failed(&error))?;
    let compiled = seccompiler::compile_from_json(text.as_slice(), arch).map_err(|error| failed(&error))?;
    let program = compiled.get("pen").ok_or_else(|| LockError::Seccomp("there is no filter".into()))?;
    seccompiler::apply_filter(program).map_err(|error| failed(&error))
}

/// What may be called; the rest fails with EPERM.
fn filter(arch: &str, key: KeyIn) -> Value {
    let none_of = |index: u64, bits: u64| json!([{ "index": index, "type": "dword", "op": { "masked_eq": bits }, "val": 0 }]);
    let old: &[&str] = if arch == "x86_64" { &OLD_CALLS } else { &[] };
    let agent: &[&str] = if key == KeyIn::Agent { &AGENT_CALLS } else { &[] };
    let plain = CALLS.iter().chain(old).chain(agent).map(|name| json!({ "syscall": name }));
    let mut all: Vec<Value> = plain.collect();
    // No memory is ever run that was not at the start; files are opened for reading.
    all.push(json!({ "syscall": "mmap", "args": none_of(2, PROT_EXEC) }));
    all.push(json!({ "syscall": "mprotect", "args": none_of(2, PROT_EXEC) }));
    all.push(json!({ "syscall": "openat", "args": none_of(2, O_WRITES) }));
    if key == KeyIn::Agent {
        all.push(json!({ "syscall": "socket", "args": [{ "index": 0, "type": "dword", "op": "eq", "val": AF_UNIX }] }));
    }
    json!({ "mismatch_action": { "errno": EPERM }, "match_action": "allow", "filter": all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_one_on_both_architectures() {
        for arch in ["x86_64", "aarch64"] {
            for key in [KeyIn::Memory, KeyIn::Agent] {
                let text = serde_json::to_vec(&json!({ "pen": filter(arch, key) })).unwrap();
                let compiled = seccompiler::compile_from_json(text.as_slice(), arch.try_into().unwrap());
                assert!(compiled.unwrap_or_else(|error| panic!("{arch}: {error}")).contains_key("pen"));
            }
        }
    }

    /// In a thread of its own, which is all that is locked in.
    #[test]
    fn a_locked_thread_reads_policies_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        for name in ["policies", "keys", "keys/totp", "state"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        for name in ["countersign.toml", "policies/access.cedar", "keys/user_ca", "keys/totp/dora", "state/countersign.db"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        let locked = std::thread::spawn(move || {
            let landlock = lock(&root, KeyIn::Memory).unwrap();
            let reads = |name: &str| std::fs::read(root.join(name)).is_ok();
            assert!(reads("countersign.toml") && reads("policies/access.cedar") && reads("keys/totp/dora"));
            assert!(std::fs::write(root.join("policies/access.cedar"), "").is_err(), "it writes");
            assert!(std::net::TcpStream::connect("127.0.0.1:1").is_err_and(|error| error.raw_os_error() == Some(1)), "it dials");
            assert!(std::process::Command::new("true").spawn().is_err(), "it starts programs");
            if landlock {
                assert!(!reads("keys/user_ca") && !reads("state/countersign.db") && std::fs::read("/etc/passwd").is_err());
            }
        });
        locked.join().unwrap();
        assert!(std::fs::read(dir.path().join("keys/user_ca")).is_ok(), "the other threads go on");
    }
}
