//! The n-th write, sync or rename fails, for every n: nobody sees what is not recorded, nothing that failed
//! is taken for done, and the next start finds everything in order.

use crate::harness::{Bastion, Client, login};

/// Injects one error into one kind of call, of the whole bastion, and runs a session.
fn a_fault(call: &str, error: &str, n: usize, bastion: &mut Bastion) -> Felt {
    let inject = format!("inject={call}:error={error}:when={n}");
    let trace = format!("trace={}", call.replace('|', ","));
    let under = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let known = bastion.audit().iter().filter(|(name, _)| name == "session.open").count();
    let logged = bastion.log().len();
    let served = bastion.try_serve_under(&under).is_ok();
    let mut seen = Vec::new();
    let mut felt = if served { Felt::Nothing } else { Felt::Something };
    if served {
        let to = format!("{}=dev-1@bastion", login());
        let client =
            Client::start(bastion.ssh("alice", &[to, "for n in 1 2 3 4 5; do echo line $n; done; head -c 300000 /dev/zero".into()]));
        let ended = client.ends();
        seen = ended.out;
        if ended.status != 0 {
            felt = Felt::Something;
            assert!(ended.err.lines().any(|line| line.contains("countersign: ")) || ended.status == 255, "{call} {n}: {}", ended.err);
        }
    }
    // Sealing goes on after the client has left; where it fails, the log says so.
    let sealing = std::time::Instant::now();
    let spools = || std::fs::read_dir(bastion.recordings().join("spool")).unwrap().count();
    while served && spools() > 0 && sealing.elapsed() < std::time::Duration::from_secs(1) {
        std::thread::yield_now();
    }
    if bastion.log().get(logged..).unwrap_or_default().contains("os error") {
        felt = Felt::Something;
    }
    bastion.dies();
    bastion.serve();
    let opened = bastion.audit().iter().filter(|(name, _)| name == "session.open").count();
    assert!(opened <= known + 1);
    if !seen.is_empty() {
        let session = bastion.sealed();
        let text = bastion.opened(session["sealed"]["file"].as_str().unwrap_or_else(|| panic!("{call} {n}: not sealed: {session}")));
        let lines = text.matches("line ").count();
        assert!(lines >= String::from_utf8_lossy(&seen).matches("line ").count(), "{call} {n}: seen and not recorded");
    }
    felt
}

/// Whether a fault reached anybody.
#[derive(PartialEq)]
enum Felt {
    Something,
    Nothing,
}

/// Every call of one kind, until a session went through untouched.
fn all_of(call: &str, error: &str, at_least: usize) {
    let mut bastion = Bastion::start();
    bastion.dies();
    let mut felt = 0;
    for n in 1..=at_least {
        felt += usize::from(a_fault(call, error, n, &mut bastion) == Felt::Something);
        bastion.dies();
    }
    assert!(felt > 0, "no {call} was made to fail");
    bastion.serve();
    let all = bastion.says("carol", &["verify", "--all"]);
    assert!(all.well().contains(" 0 bad"), "{call}: {all:?}");
    bastion.says("carol", &["audit", "verify"]).well();
    no_orphans(&bastion);
}

/// Every file belongs to a recording that is whole, and to nothing else.
pub fn no_orphans(bastion: &Bastion) {
    let sealed = bastion.audit().into_iter().filter(|(name, _)| name == "session.seal");
    let listed: Vec<String> = sealed.map(|(_, facts)| facts["file"].as_str().unwrap().to_owned()).collect();
    let (mut bodies, mut left) = (0, Vec::new());
    let mut look = vec![bastion.recordings().join("sealed"), bastion.key_files(), bastion.recordings().join("spool")];
    while let Some(dir) = look.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_string_lossy().into_owned();
            if path.is_dir() {
                look.push(path);
            } else if name.ends_with(".tmp") || name.ends_with(".spool") {
                left.push(name);
            } else if name.ends_with(".cast.zst.age") {
                bodies += 1;
            } else if !listed.iter().any(|file| {
                let stem = file.trim_start_matches("sealed/").trim_end_matches(".cast.zst.age");
                name.contains(stem)
            }) {
                left.push(name);
            }
        }
    }
    left.truncate(5);
    assert!(left.is_empty(), "left behind: {left:?}");
    assert!(bodies <= listed.len());
}

#[test]
fn a_sync_that_fails_is_never_a_success() {
    all_of("fsync|fdatasync", "EIO", 24);
}

#[test]
fn a_write_that_fails_is_never_seen() {
    all_of("pwrite64", "ENOSPC", 24);
}

#[test]
fn a_rename_that_fails_leaves_no_half() {
    all_of("rename", "EIO", 8);
}
