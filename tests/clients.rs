//! The story with clients of five families, and the file tools that people use.

use std::path::Path;
use std::process::Command;

use crate::harness::{Bastion, Client, REASON, login, program, public, python};

fn scripted(bastion: &Bastion, library: &str, target: &str, command: &str) -> Command {
    let script = format!("{}/tests/clients/{library}_exec.py", env!("CARGO_MANIFEST_DIR"));
    let host_key = public(&bastion.dir().join("bastion/keys/host_ed25519"));
    let mut python = Command::new(python());
    python.arg(script).args(["127.0.0.1", &bastion.port.to_string(), &format!("{}={target}", login())]);
    python.arg(bastion.key_of("alice")).args([&host_key, "INC-42 disk full", command]);
    python
}

/// Held, approved, run, recorded, replayed; then a withdrawal, and a denial.
fn story(library: &str) {
    let bastion = Bastion::start();
    let client = Client::start(scripted(&bastion, library, "web-1", "echo out; echo err >&2; exit 9"));
    let request = client.request();
    bastion.approve(&request, &["--once"]);
    let seen = client.ends();
    assert_eq!((seen.status, seen.out().as_str()), (9, "out\n"), "{seen:?}");
    assert!(seen.err.contains("err\n"), "{seen:?}");
    let sealed = bastion.sealed();
    assert_eq!((sealed["person"].as_str(), sealed["request"].as_str()), (Some("alice"), Some(request.as_str())));
    assert!(sealed["outcome"].as_str().is_some_and(|outcome| outcome.contains("exited 9")), "{sealed}");
    let session = sealed["session"].as_str().unwrap_or_else(|| panic!("no id: {sealed}"));
    let replay = bastion.says("carol", &["replay", &request, "--speed", "1000"]).well();
    assert!(replay.lines().any(|line| line.contains("out")) && replay.contains("err"), "{replay}");
    let log = bastion.target.log();
    assert!(log.contains(&format!("countersign/{session}/{request}/alice")), "the target's own log names the person: {log}");

    let withdrawn = Client::start(scripted(&bastion, library, "web-1", "echo no"));
    let request = withdrawn.request();
    bastion.says("alice", &["withdraw", &request]).well();
    let seen = withdrawn.ends();
    assert_eq!((seen.status, seen.out().as_str()), (77, ""), "{seen:?}");
    assert!(seen.err.contains("withdrawn"), "{seen:?}");
    bastion.audited_with("request.withdraw", &[&request, "alice"]);

    let denied = Client::start(scripted(&bastion, library, "web-1", "echo no"));
    let request = denied.request();
    bastion.says("bob", &["deny", &request, "--note", "no"]).well();
    let seen = denied.ends();
    assert_eq!((seen.status, seen.out().as_str()), (77, ""), "{seen:?}");
    bastion.audited_with("request.decide", &[&request, "deny", "bob"]);
    assert_eq!(bastion.target.logins(), 1, "only what was approved reached the target");

    let bulk = Client::start(scripted(&bastion, library, "dev-1", "head -c 30000000 /dev/zero")).ends();
    assert_eq!((bulk.status, bulk.out.len()), (0, 30_000_000), "{}", bulk.err);
}

#[test]
fn paramiko_is_held_approved_withdrawn_and_denied() {
    story("paramiko");
}

#[test]
fn asyncssh_is_held_approved_withdrawn_and_denied() {
    story("asyncssh");
}

/// A client that sends no environment: it is told how to give the reason, and goes on as it was.
fn held_without_a_reason(client_of: impl FnOnce(&Bastion) -> Command) {
    let bastion = Bastion::start();
    let client = Client::start(client_of(&bastion));
    client.reads(" waits for your reason: ssh bastion reason ");
    let said = client.err();
    let request = said.split(" reason ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("no id in {said}"));
    bastion.says("alice", &["reason", request, REASON]).well();
    bastion.comes_to("alice", request, "pending");
    bastion.approve(request, &[]);
    let seen = client.ends();
    assert_eq!((seen.status, seen.out().as_str()), (9, "out\n"), "{seen:?}");
    assert!(seen.err.contains("err\n"), "{seen:?}");
    let sealed = bastion.sealed();
    assert_eq!((sealed["person"].as_str(), sealed["request"].as_str()), (Some("alice"), Some(request)));
}

const COMMAND: &str = "echo out; echo err >&2; exit 9";

/// Runs a key converter, which has to end well.
fn converts(program_: &str, args: &[&Path]) {
    let output = Command::new(program(program_)).args(args).output().unwrap();
    assert!(output.status.success(), "{program_}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn plink_is_held_and_approved() {
    held_without_a_reason(|bastion| {
        let key = bastion.dir().join("alice.ppk");
        converts("puttygen", &[&bastion.key_of("alice"), Path::new("-O"), Path::new("private"), Path::new("-o"), &key]);
        let host = bastion.root().join("keys/host_ed25519.pub");
        let fingerprint = Command::new(program("ssh-keygen")).arg("-lf").arg(host).output().unwrap();
        let fingerprint = String::from_utf8(fingerprint.stdout).unwrap().split(' ').nth(1).unwrap().to_owned();
        let mut plink = Command::new(program("plink"));
        plink.args(["-batch", "-T", "-hostkey", &fingerprint, "-P", &bastion.port.to_string(), "-i"]).arg(key);
        plink.args(["-l", &format!("{}=web-1", login()), "127.0.0.1", COMMAND]).env("HOME", bastion.dir());
        plink
    });
}

#[test]
fn dbclient_is_held_and_approved() {
    held_without_a_reason(|bastion| {
        let key = bastion.dir().join("alice.dropbear");
        converts("dropbearconvert", &[Path::new("openssh"), Path::new("dropbear"), &bastion.key_of("alice"), &key]);
        let home = bastion.dir().join("dropbear-home");
        std::fs::create_dir_all(home.join(".ssh")).unwrap();
        let known = format!("127.0.0.1 {}\n", public(&bastion.root().join("keys/host_ed25519")));
        std::fs::write(home.join(".ssh/known_hosts"), known).unwrap();
        let mut dbclient = Command::new(program("dbclient"));
        dbclient.args(["-T", "-p", &bastion.port.to_string(), "-i"]).arg(key);
        dbclient.args(["-l", &format!("{}=web-1", login()), "127.0.0.1", COMMAND]).env("HOME", home);
        dbclient
    });
}

/// sftp, both kinds of scp, and rsync, there and back.
#[test]
fn the_file_tools_work() {
    let bastion = Bastion::start();
    bastion.open_grant(&[]);
    let script = r#"set -e
        head -c 5000000 /dev/urandom > here
        same() { cmp here "$T"; cmp here back; rm "$T" back; echo "$1"; }
        printf 'put here %s\nget %s back\n' "$T" "$T" | sftp -q -b - $F "$TO" >/dev/null; same sftp
        scp -q $F here "$TO:$T"; scp -q $F "$TO:$T" back; same scp
        scp -q -O $F here "$TO:$T"; scp -q -O $F "$TO:$T" back; same scp-O
        scp -q $F -J bastion here "$JUMP:$T"; scp -q $F -J bastion "$JUMP:$T" back; same scp-J
        rsync -e "ssh $F" here "$TO:$T"; rsync -e "ssh $F" "$TO:$T" back; same rsync"#;
    let mut tools = bastion.sh("alice", script);
    tools.env("F", format!("-F {}", bastion.dir().join("people/alice.conf").display())).env("T", bastion.dir().join("there"));
    tools.env("TO", format!("{}=web-1@bastion", login())).env("JUMP", format!("{}@web-1", login()));
    let seen = Client::start(tools).ends_within(crate::harness::LONG);
    assert_eq!(seen.out().lines().collect::<Vec<_>>(), ["sftp", "scp", "scp-O", "scp-J", "rsync"], "{seen:?}");
    assert!(bastion.sessions().iter().any(|session| session["kind"] == "sftp"));
}

/// git asks for its newer protocol in the environment; a target that got the variable answers in it.
#[test]
fn git_is_held_and_speaks_its_protocol() {
    let bastion = Bastion::start();
    let make = r#"set -e
        "$GIT" init -q here
        "$GIT" -C here -c user.name=t -c user.email=t@example.org commit -q --allow-empty -m one
        "$GIT" clone -q --bare here there.git"#;
    let git = program("git");
    let mut made = bastion.sh("alice", make);
    made.env("GIT", &git);
    Client::start(made).ends().well();

    let mut list = bastion.sh("alice", r#"exec "$GIT" -c protocol.version=2 ls-remote "$URL""#);
    list.env("GIT", &git).env("URL", format!("ssh://{}=web-1@bastion{}/there.git", login(), bastion.dir().display()));
    let ssh =
        format!("{} -F {} -o SendEnv=LC_COUNTERSIGN_REASON", program("ssh").display(), bastion.dir().join("people/alice.conf").display());
    list.env("GIT_SSH_COMMAND", ssh).env("LC_COUNTERSIGN_REASON", crate::harness::REASON).env("GIT_TRACE_PACKET", "1");
    let client = Client::start(list);
    bastion.approve(&client.request(), &[]);
    let seen = client.ends();

    assert!(seen.well().contains("\tHEAD\n") && seen.out().contains("\trefs/heads/"), "{seen:?}");
    assert!(seen.err.contains("< version 2"), "GIT_PROTOCOL arrived: {seen:?}");
    assert_eq!(bastion.sealed()["kind"], "exec");
}
