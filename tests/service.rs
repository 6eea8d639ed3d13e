//! As a service: handed-over sockets, readiness, monitors, the unit's sandbox, and what must not leave the process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use super::harness::{Bastion, Client, Plan, SOON, Way, login, program, until};

fn get(port: u16, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: monitor\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A port that nobody listens on at the moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn monitors_read_metrics_and_status() {
    let port = free_port();
    let bastion = Bastion::with(Plan { settings: format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n"), ..Plan::default() });
    let seen = bastion.run("alice", &[&Way::Named.to("dev-1")[..], &["true".into()]].concat());
    assert_eq!(seen.status, 0, "{seen:?}");
    bastion.sealed();

    let (code, text) = get(port, "/metrics");
    assert_eq!(code, 200, "{text}");
    for line in
        ["countersign_audit_events_total{name=\"session.open\"} 1", "countersign_live_sessions 0", "countersign_trouble{what=\"disk\"} 0"]
    {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    for word in ["alice", "dev-1", login()] {
        assert!(!text.contains(&format!("\"{word}\"")), "a label names {word}:\n{text}");
    }

    let (code, text) = get(port, "/status");
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &status["v"], &status["status"]["ok"]), (200, &1.into(), &true.into()), "{text}");
    assert_eq!(get(port, "/").0, 404);

    // Connections that say nothing take nothing from whoever asks next.
    let _idle: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    assert_eq!(get(port, "/status").0, 200);

    let said = bastion.says("carol", &["status"]);
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.out().starts_with("ok\n"), "{said:?}");
    let refused = bastion.says("alice", &["status"]);
    assert_eq!(refused.status, 77, "{refused:?}");
}

#[test]
fn a_full_disk_is_a_trouble_with_its_fix() {
    let bastion = Bastion::with(Plan { recordings: "free_floor_mb = 1000000\n".into(), ..Plan::default() });
    let said = bastion.says("carol", &["status"]);
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.out().starts_with("disk: ") && said.out().contains("make room"), "{said:?}");
    assert_eq!(bastion.says("carol", &["status", "--json"]).json()["status"]["troubles"][0]["what"], "disk");
}

#[test]
fn a_service_manager_hands_over_the_port_and_is_told() {
    let mut bastion = Bastion::start();
    bastion.stops();
    let notify = bastion.dir().join("notify");
    let told = UnixDatagram::bind(&notify).unwrap();
    told.set_read_timeout(Some(SOON)).unwrap();
    let port = free_port();
    let mut manager = Command::new(program("systemd-socket-activate"));
    manager.args(["-E", &format!("NOTIFY_SOCKET={}", notify.display()), "-E", "WATCHDOG_USEC=400000", "-l", &format!("127.0.0.1:{port}")]);
    manager.arg(env!("CARGO_BIN_EXE_countersign")).args(["serve", "-c"]).arg(bastion.root());
    let mut serve = manager.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();

    // The manager starts it at the first connection, which then is served.
    until("the manager listens", SOON, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let mut greeting = String::new();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    BufReader::new(stream).read_line(&mut greeting).unwrap();
    assert_eq!(greeting, "SSH-2.0-countersign\r\n");

    let hears = |word: &str| {
        let mut buffer = [0; 4096];
        until(word, SOON, || {
            let n = told.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..n]).lines().any(|line| line == word)
        });
    };
    hears("READY=1");
    hears("WATCHDOG=1");
    let pid = rustix::process::Pid::from_child(&serve);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    hears("RELOADING=1");
    hears("READY=1");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    hears("STOPPING=1");
    assert!(serve.wait().unwrap().success());
}

#[test]
fn the_unit_leaves_little_to_attack() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd");
    let mut analyze = Command::new(program("systemd-analyze"));
    // In tenths: 2.0 or less.
    analyze.args(["security", "--offline=true", "--threshold=20", "--no-pager"]).arg(units.join("countersign.service"));
    let output = analyze.output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

/// L-06, Q16: with the log at its finest, nothing of these is in what the bastion writes.
#[test]
fn planted_secrets_are_nowhere() {
    let mut bastion = Bastion::start();
    bastion.stops();
    bastion.logs_at("trace");
    bastion.operator(&["totp", "enroll", "dora"]).well();
    bastion.serve();

    let typed = "canary-typed-password-7c41";
    let printed = "canary-printed-secret-90ab";
    let sent = "canary-standard-input-55de";
    let passed = "canary-environment-e3f0";
    let argument = "canary-command-argument-1b2c";
    // A terminal, where the target asks for a password without echo.
    let mut words = vec!["-tt".to_owned()];
    words.extend(Way::Named.to("dev-1"));
    words.push(format!("stty -echo; read password; stty echo; echo {printed}; : {argument}"));
    let mut client = Client::start(bastion.ssh("alice", &words));
    client.types(format!("{typed}\n").as_bytes());
    assert_eq!(client.ends().status, 0);
    // Standard input and the environment, through the jump.
    let script = format!("printf %s {sent} | LC_CANARY={passed} $SSH -o SendEnv=LC_CANARY {} cat", Way::Jump.to("dev-1").join(" "));
    let seen = Client::start(bastion.sh("alice", &script)).ends();
    assert_eq!((seen.status, seen.out().trim()), (0, sent), "{seen:?}");
    bastion.sealed();

    let mut canaries: Vec<(String, Vec<u8>)> =
        [typed, printed, sent, passed, argument].map(|canary| (canary.to_owned(), canary.as_bytes().to_vec())).into();
    // The private halves: the middle of the base64 of each key file, which holds its seed.
    for entry in std::fs::read_dir(bastion.root().join("keys")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let secret = std::fs::read_to_string(path.join("dora")).expect("dora was enrolled");
            canaries.push(("dora's second factor".into(), secret.trim().as_bytes().to_vec()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if text.contains("PRIVATE KEY") {
            canaries.extend(private_parts(&path.display().to_string(), &text));
        }
    }
    for person in ["alice", "carol"] {
        canaries.extend(private_parts(person, &std::fs::read_to_string(bastion.key_of(person)).unwrap()));
    }
    assert!(canaries.len() >= 12, "{} canaries", canaries.len());

    let pid = rustix::process::Pid::from_raw(i32::try_from(bastion.pid()).unwrap()).unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", bastion.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
    bastion.dies();

    let mut looked_at = 0;
    let mut found = Vec::new();
    look_through(&bastion.root(), &mut |path, bytes| {
        // The keys themselves are where they belong; sealed bodies are looked through as the disk has them.
        if path.starts_with(bastion.root().join("keys")) {
            return;
        }
        looked_at += 1;
        let hit = canaries.iter().filter(|(_, canary)| bytes.windows(canary.len()).any(|window| window == canary));
        found.extend(hit.map(|(name, _)| format!("{name} in {}", path.display())));
    });
    let log = bastion.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is not at its finest");
    found.extend(
        canaries
            .iter()
            .filter(|(_, canary)| log.as_bytes().windows(canary.len()).any(|window| window == canary))
            .map(|(name, _)| format!("{name} in the log")),
    );
    assert!(found.is_empty(), "{found:#?}");
    assert!(looked_at >= 5, "{looked_at} files");
}

/// What identifies a private key: its base64 as written, and the seed's raw bytes.
fn private_parts(name: &str, pem: &str) -> Vec<(String, Vec<u8>)> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = russh::keys::ssh_key::PrivateKey::from_openssh(pem).unwrap();
    let seed = key.key_data().ed25519().expect("tests make Ed25519 keys").private.to_bytes().to_vec();
    // The head of an OpenSSH key holds its public half; the end is private.
    let at = body.len() - body.len() / 3;
    vec![(format!("{name} (base64)"), body.as_bytes()[at..at + 40].to_vec()), (format!("{name} (seed)"), seed)]
}

fn look_through(dir: &Path, see: &mut impl FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look_through(&path, see);
        } else {
            see(&path, &std::fs::read(&path).unwrap_or_default());
        }
    }
}
