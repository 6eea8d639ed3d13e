//! Every stock client, by user name and through the jump: held first, then as if it were direct, and recorded.
//!
//! `tests/clients/drive.sh` plays the clients. It starts all that a client can do at once, so that each piece is
//! held, and prints one line for each; run straight at a sshd, it says what "as direct" is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::{Bastion, Client, Dice, LONG, Plan, REASON, SOON, Sshd, login, node_modules, program, public, python, until};

/// One client, and what it says of itself on every way.
struct Row {
    client: &'static str,
    /// Its targets: ansible goes to several.
    targets: usize,
    /// How many of its channels are held on each.
    held: u64,
    says: &'static str,
}

const ROWS: [Row; 11] = [
    Row { client: "openssh", targets: 1, held: 4, says: "exec 9 same err\nshell 7 same err\nsftp 0 same same\nterminal 5 xterm\n" },
    Row { client: "scp", targets: 1, held: 2, says: "scp 0 same same\nscp-O 0 same same\n" },
    Row { client: "rsync", targets: 1, held: 1, says: "rsync 0 same\nrsync-back 0 same\n" },
    Row { client: "git", targets: 1, held: 1, says: "clone 0 same\npush 0 same\n" },
    Row { client: "sshfs", targets: 1, held: 1, says: "sshfs 0 same same\n" },
    Row { client: "putty", targets: 1, held: 4, says: "exec 9 same err\nshell 7 same err\nsftp 0 same same\nterminal 5 xterm\n" },
    Row { client: "dropbear", targets: 1, held: 4, says: "exec 9 same err\nshell 7 same err\nsftp 0 same same\nterminal 5 xterm\n" },
    Row { client: "paramiko", targets: 1, held: 4, says: "exec 9 same err\nshell 7 same err\nsftp 0 same same\nterminal 5 xterm\n" },
    Row { client: "asyncssh", targets: 1, held: 4, says: "exec 9 same err\nshell 7 same err\nsftp 0 same same\nterminal 5 xterm\n" },
    Row { client: "ssh2", targets: 1, held: 4, says: "exec 9 same err\nshell 7 same err\nsftp 0 same same\nterminal 5 xterm\n" },
    Row { client: "ansible", targets: 3, held: 1, says: "ansible 0 ok=4 ok=4 ok=4 same same same\n" },
];

impl Row {
    fn target(&self, way: &str, nth: usize) -> String {
        format!("{}-{way}-{nth}.staging", self.client)
    }

    fn targets(&self, way: &str) -> Vec<String> {
        (1..=self.targets).map(|nth| self.target(way, nth)).collect()
    }
}

/// All of them, or the one that `COUNTERSIGN_TEST_CLIENT` names.
fn rows() -> Vec<&'static Row> {
    let only = std::env::var("COUNTERSIGN_TEST_CLIENT").ok();
    let mounts = std::fs::File::open("/dev/fuse").is_ok();
    if !mounts {
        eprintln!("sshfs is not tried: /dev/fuse cannot be opened here");
    }
    let tried = |row: &&Row| (mounts || row.client != "sshfs") && only.as_deref().is_none_or(|only| only == row.client);
    ROWS.iter().filter(tried).collect()
}

const WAYS: [&str; 2] = ["named", "jump"];

/// What the clients share: keys in each one's own format, one configuration, one payload.
struct Laptop {
    dir: PathBuf,
    env: Vec<(&'static str, String)>,
}

impl Laptop {
    fn of(bastion: &Bastion, direct: &Sshd) -> Self {
        let dir = bastion.dir().join("rows");
        std::fs::create_dir_all(&dir).unwrap();
        let mut dice = Dice::new(7);
        let payload: Vec<u8> = (0..40_000).flat_map(|_| dice.below(u64::MAX).to_le_bytes()).collect();
        std::fs::write(dir.join("here"), payload).unwrap();
        let key = bastion.key_of("alice");
        converts("puttygen", &[&key, Path::new("-O"), Path::new("private"), Path::new("-o"), &dir.join("key.ppk")]);
        converts("dropbearconvert", &[Path::new("openssh"), Path::new("dropbear"), &key, &dir.join("key.dropbear")]);
        let host_key = bastion.root().join("keys/host_ed25519");
        std::fs::write(dir.join("direct.pub"), direct.host_key()).unwrap();
        std::fs::write(dir.join("direct_known"), format!("direct {}\n", direct.host_key())).unwrap();
        let config = format!(
            "Host direct\n HostName 127.0.0.1\n HostKeyAlias direct\n Port {}\n User {}\n UserKnownHostsFile {}\n\
             Host *.staging\n ProxyJump bastion\n User {}\nHost *\n SendEnv LC_COUNTERSIGN_REASON\n Include {}\n",
            direct.port,
            login(),
            dir.join("direct_known").display(),
            login(),
            bastion.dir().join("people/alice.conf").display(),
        );
        std::fs::write(dir.join("ssh_config"), config).unwrap();
        let env = vec![
            ("ROWS", dir.display().to_string()),
            ("LOGIN", login().to_owned()),
            ("KEY", key.display().to_string()),
            ("DIRECT_PORT", direct.port.to_string()),
            ("DIRECT_KEY", direct.host_key()),
            ("DIRECT_PRINT", fingerprint(&dir.join("direct.pub"))),
            ("BASTION_PORT", bastion.port.to_string()),
            ("BASTION_KEY", public(&host_key)),
            ("BASTION_PRINT", fingerprint(&host_key.with_extension("pub"))),
            ("HOST_CA", public(&bastion.root().join("keys/host_ca"))),
            ("TEST_PYTHON", python().display().to_string()),
            ("NODE_PATH", node_modules().display().to_string()),
            ("LC_COUNTERSIGN_REASON", REASON.to_owned()),
            ("TERM", "xterm".to_owned()),
        ];
        Self { dir, env }
    }

    /// A client sets out, in a directory of its own.
    fn drives(&self, row: &Row, way: &str) -> Client {
        let dir = self.dir.join(format!("{}-{way}", row.client));
        std::fs::create_dir_all(&dir).unwrap();
        let script = format!("{}/tests/clients/drive.sh", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("bash");
        command.args([script.as_str(), row.client, way]).args(row.targets(way)).current_dir(&dir).env("HOME", &dir);
        command.envs(self.env.iter().map(|(name, value)| (name, value))).env_remove("SSH_AUTH_SOCK");
        Client::fed(command, std::process::Stdio::null())
    }
}

/// Runs a key converter, which has to end well.
fn converts(name: &str, args: &[&Path]) {
    let output = Command::new(program(name)).args(args).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

fn fingerprint(key: &Path) -> String {
    let output = Command::new(program("ssh-keygen")).arg("-lf").arg(key).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
}

/// A request of alice, as she sees it.
#[derive(Debug)]
struct Asked {
    id: String,
    state: String,
    waiters: u64,
}

/// Her requests by target: file transfer asks for itself alone.
fn asked(bastion: &Bastion) -> BTreeMap<String, Vec<Asked>> {
    let said = bastion.json("alice", &["requests", "--mine"]);
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut asked = BTreeMap::<String, Vec<Asked>>::new();
    for request in said["requests"].as_array().unwrap_or_else(|| panic!("no requests: {said}")) {
        let waiters = request["waiters"].as_u64().unwrap_or(0);
        let one = Asked { id: word(&request["request"]), state: word(&request["state"]), waiters };
        asked.entry(word(&request["targets"][0])).or_default().push(one);
    }
    asked
}

/// Waits until all that is expected is held; who asked without a reason gives it.
fn all_are_held(bastion: &Bastion, expected: &BTreeMap<String, u64>) {
    let mut reasons = Vec::new();
    until("every client is held", LONG / 4, || {
        let asked = asked(bastion);
        for request in asked.values().flatten() {
            if request.state == "needs-reason" && !reasons.contains(&request.id) {
                bastion.says("alice", &["reason", &request.id, REASON]).well();
                reasons.push(request.id.clone());
            }
        }
        let held = |(target, channels): (&String, &u64)| {
            let of = asked.get(target).map_or(&[][..], Vec::as_slice);
            of.iter().all(|request| request.state == "pending") && of.iter().map(|request| request.waiters).sum::<u64>() == *channels
        };
        expected.iter().all(held)
    });
}

#[test]
fn every_client_is_held_works_as_direct_and_is_recorded() {
    let bastion = Bastion::with(Plan { limits: "pending_per_person = 64".into(), ..Plan::default() });
    let direct = Sshd::open_to(&bastion.dir().join("direct"), &public(&bastion.key_of("alice")));
    let rows = rows();
    for row in &rows {
        for target in WAYS.iter().flat_map(|way| row.targets(way)) {
            bastion.enrols_in(&target, "\"env=prod\"");
        }
    }
    bastion.is_told("policies/access.cedar", |policy| policy.replace(r#"@id("engineers")"#, r#"@id("engineers") @record("full")"#));
    let laptop = Laptop::of(&bastion, &direct);

    let mut through: Vec<(&Row, &str, Client)> = Vec::new();
    for row in &rows {
        through.extend(WAYS.map(|way| (*row, way, laptop.drives(row, way))));
    }
    // Two at a time: so many processors there are.
    for pair in rows.chunks(2) {
        for (row, client) in pair.iter().map(|row| (row, laptop.drives(row, "direct"))).collect::<Vec<_>>() {
            let seen = client.ends_within(LONG);
            assert_eq!(seen.out(), row.says, "{} directly: {}", row.client, seen.err);
        }
    }

    let expected: BTreeMap<String, u64> =
        rows.iter().flat_map(|row| WAYS.map(|way| row.targets(way).into_iter().map(|target| (target, row.held)))).flatten().collect();
    // ansible gives up after 12 s without a word, as root on the other side (users.md 1).
    let patience = laptop.dir.join("openssh-jump/exec.err");
    until("a wait that outlasts ansible", Duration::from_secs(30), || {
        std::fs::read_to_string(&patience).map_or(true, |said| said.contains("still waiting 0:16"))
    });
    all_are_held(&bastion, &expected);
    assert_eq!(bastion.target.logins(), 0, "nothing has reached the targets");
    let requests = asked(&bastion);
    for request in requests.values().flatten() {
        bastion.approve(&request.id, &[]);
    }

    for (row, way, client) in through {
        let seen = client.ends_within(LONG);
        assert_eq!(seen.out(), row.says, "{} {way}: {}", row.client, seen.err);
    }
    recorded(&bastion, &rows, &requests);
}

/// Every session of every client is alice's, on her request, and sealed; each kind has some.
fn recorded(bastion: &Bastion, rows: &[&Row], requests: &BTreeMap<String, Vec<Asked>>) {
    let all = || bastion.sessions();
    until("every session is sealed", SOON, || all().iter().all(|session| !session["sealed"].is_null()));
    let all = all();
    for row in rows {
        for target in WAYS.iter().flat_map(|way| row.targets(way)) {
            let of: Vec<_> = all.iter().filter(|session| session["target"] == target.as_str()).collect();
            assert!(of.len() as u64 >= row.held, "{target}: {of:?}");
            for session in of {
                assert_eq!(session["person"].as_str(), Some("alice"), "{session}");
                assert!(requests[&target].iter().any(|request| session["request"] == request.id.as_str()), "{session}");
                let outcome = session["outcome"].as_str().unwrap_or_default();
                // Who has all of their files closes, and does not wait for a status.
                assert!(outcome.starts_with("exited") || session["kind"] == "sftp" && outcome == "client left", "{session}");
            }
        }
    }
}
