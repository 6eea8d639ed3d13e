//! The door as a stranger finds it: peers that say anything at any time, crowds, and floods. The peers are
//! `clients/rogue.py`, an SSH of the tests' own; `clients/door.py` and `clients/target.py` are their scenes.

use std::process::Command;

use crate::harness::{Bastion, Client, LONG, Plan, SOON, Way, login, python, until};

/// Short times, and the caps of the door as they are by default.
const LIMITS: &str = "login_grace = \"3s\"
shared_sources = [\"127.0.0.1/32\", \"127.0.7.0/24\"]
shared_unauthenticated = 256
unauthenticated_per_source = 4
early_drop_from = 250";

/// What ssh-audit 3.9 says of every exchange that is not a hybrid.
const NOT_POST_QUANTUM: &str = "warn: does not provide protection against post-quantum attacks";

struct Door {
    bastion: Bastion,
    pid: u32,
    metrics: u16,
}

impl Door {
    fn start() -> Self {
        Self::with(LIMITS)
    }

    fn with(limits: &'static str) -> Self {
        let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = format!("[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n");
        let bastion = Bastion::with(Plan { settings, all_limits: Some(limits), ..Plan::default() });
        let pid = bastion.pid();
        Self { bastion, pid, metrics }
    }

    fn scene(&self, script: &str, words: &[&str]) -> Command {
        let mut python = Command::new(python());
        python.arg(format!("{}/tests/clients/{script}.py", env!("CARGO_MANIFEST_DIR"))).args(words);
        python
    }

    /// A scene of `door.py` as alice, to whom the bastion's console answers.
    fn stranger(&self, scene: &str, more: &[&str]) -> Command {
        let key = self.bastion.key_of("alice").display().to_string();
        let mut words = vec![scene.to_owned(), self.bastion.port.to_string(), "alice".into(), key];
        words.extend(more.iter().map(|word| (*word).to_owned()));
        self.scene("door", &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// An operator adds targets and reloads.
    fn enrols(&self, entries: &str) {
        let before = self.bastion.log().matches("reloaded").count();
        let mut file = std::fs::File::options().append(true).open(self.bastion.policy_file("targets.toml")).unwrap();
        std::io::Write::write_all(&mut file, entries.as_bytes()).unwrap();
        self.bastion.reloads();
        until("it has reloaded", SOON, || self.bastion.log().matches("reloaded").count() > before);
        assert!(!self.bastion.log().contains("not reloaded"), "{}", self.bastion.log());
    }

    /// Runs a scene and returns the rows that it says hold.
    #[track_caller]
    fn holds(&self, scene: Command) -> Vec<String> {
        let seen = Client::start(scene).ends_within(LONG);
        assert_eq!(seen.status, 0, "{}\n{}", seen.out(), seen.err);
        seen.out().lines().filter_map(|line| Some(line.strip_prefix("ok ")?.to_owned())).collect()
    }

    fn gauge(&self, name: &str) -> String {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.metrics)).unwrap();
        std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("countersign_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
    }

    /// The same process, no place taken, nothing running, and people come in.
    #[track_caller]
    fn is_well(&mut self) {
        assert!(self.bastion.is_running(), "it has ended: {}", self.bastion.log());
        assert_eq!(self.bastion.pid(), self.pid);
        assert!(!self.bastion.log().contains("panicked"), "{}", self.bastion.log());
        until("every place at the door is free", SOON, || {
            self.gauge("unauthenticated_connections") == "0" && self.gauge("waiting_connections") == "0"
        });
        until("no session runs", SOON, || self.gauge("live_sessions") == "0");
        for way in Way::BOTH {
            let seen = self.bastion.run("alice", &[&way.to("dev-1")[..], &["echo well".into()]].concat());
            assert_eq!((seen.status, seen.out().as_str()), (0, "well\n"), "{seen:?}");
        }
    }
}

/// Each row is named after the hole in others that it would be.
#[test]
fn the_holes_of_others_are_shut() {
    let mut door = Door::start();
    let pid = door.pid.to_string();
    let rows = door.holds(door.stranger("holes", &[&pid]));
    for hole in [
        "CVE-2026-48108",
        "CVE-2023-48795",
        "CVE-2023-46445",
        "CVE-2023-46446",
        "CVE-2023-28113",
        "CVE-2024-43410",
        "CVE-2018-10933",
        "CVE-2025-32433",
        "GHSA-3cjp-w4cp-m9c8",
        "GHSA-f5v4-2wr6-hqmg",
        "GHSA-h5rc-j5f5-3gcm",
        "CVE-2025-26466",
        "CVE-2025-22869",
    ] {
        assert!(rows.iter().any(|row| row.contains(hole)), "no row for {hole} in {rows:?}");
    }
    assert_eq!(door.bastion.target.logins(), 0, "nothing of it reached the target");
    door.is_well();
}

/// T-04: 0 to 255, before the exchange, in it, before and in authentication, logged in, held, in a rekey.
#[test]
fn every_message_number_in_every_state_changes_nothing() {
    let mut door = Door::start();
    let pid = door.pid.to_string();
    let held = format!("{}=web-1", login());
    let rows = door.holds(door.stranger("every_message", &[&pid, &held]));
    assert_eq!(rows.len(), 8, "{rows:?}");
    assert_eq!(door.bastion.target.logins(), 0, "what is held stays held");
    door.is_well();
}

/// D-04, D-06: somebody who is logged in takes more than their share; a neighbour does not notice.
#[test]
fn one_who_is_greedy_is_held_to_their_share() {
    let mut door = Door::start();
    let pid = door.pid.to_string();
    let mut neighbour = Client::start(door.bastion.ssh("bob", &[&Way::Named.to("dev-1")[..], &["cat".into()]].concat()));
    neighbour.types(b"before\n");
    neighbour.gets("before");
    let greedy = Client::start(door.stranger("greedy", &[&pid]));
    for turn in 0..20 {
        neighbour.types(format!("turn {turn}\n").as_bytes());
        neighbour.gets(&format!("turn {turn}\n"));
    }
    let seen = greedy.ends_within(LONG);
    assert_eq!((seen.status, seen.out().matches("ok ").count()), (0, 4), "{}\n{}", seen.out(), seen.err);
    neighbour.closes_input();
    assert_eq!(neighbour.ends().status, 0);
    door.is_well();
}

/// R-07, and T-04 from the other side: what a target does ends its own session, within 30 s.
#[test]
fn a_hostile_target_ends_nothing_but_its_own_session() {
    let mut door = Door::start();
    let host_key = door.bastion.dir().join("rogue-host");
    crate::harness::keygen(&host_key);
    let ports: Vec<u16> = (0..12).map(|_| crate::harness::free_port()).collect();
    let entries: String =
        ports.iter().enumerate().map(|(n, port)| entry(&format!("rogue-{n}"), &format!("127.0.0.1:{port}"), &host_key)).collect();
    door.enrols(&entries);
    let (port, login) = (door.bastion.port.to_string(), login().to_owned());
    let (key, host_key) = (door.bastion.key_of("alice").display().to_string(), host_key.display().to_string());
    let mut words = vec![port, "alice".into(), key, login, host_key];
    words.extend(ports.iter().enumerate().map(|(n, port)| format!("rogue-{n}={port}")));
    let rows = door.holds(door.scene("target", &words.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(rows.len(), 17, "{rows:?}");
    door.is_well();
}

/// A target's lines of `targets.toml`.
fn entry(id: &str, address: &str, host_key: &std::path::Path) -> String {
    let key = crate::harness::public(host_key);
    format!("[targets.{id}]\naddress = \"{address}\"\nlogins = [\"{}\"]\nhost_keys = [\"{key}\"]\n\n", login())
}

/// the bastion is no target of its own, by whatever name; nor is what else lives on its machine.
#[test]
fn the_bastion_is_not_a_target_of_its_own() {
    let mut door = Door::start();
    let host_key = door.bastion.dir().join("bastion/keys/host_ed25519");
    let port = door.bastion.port;
    for host in ["127.0.0.1", "localhost", "[::1]", "::ffff:127.0.0.1", "169.254.169.254", "bastion", "0.0.0.0"] {
        for at in [port, 22] {
            let to = format!("{host}:{at}");
            let seen = door.bastion.run("alice", &["-o", "ProxyCommand=none", "-W", &to, "bastion"]);
            assert_ne!(seen.status, 0, "{to}: {seen:?}");
            assert_eq!(seen.out(), "", "{to}: {seen:?}");
        }
    }
    for words in [["-s", "bastion", "sftp"], ["bastion", "--", "/bin/sh"]] {
        let seen = door.bastion.run("alice", &words);
        assert!(seen.status != 0 && seen.out().is_empty(), "{words:?}: {seen:?}");
    }
    door.enrols(&entry("self-1", &format!("127.0.0.1:{port}"), &host_key));
    let own = door.bastion.run("alice", &[&Way::Named.to("self-1")[..], &["id".into()]].concat());
    assert_eq!((own.status, own.out().as_str()), (69, ""), "it does not let its own certificate in: {own:?}");
    // A name that leads home, as a name service under somebody else's hand would have it.
    let name = Command::new("uname").arg("-n").output().unwrap().stdout;
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let address = format!("{}:{}", String::from_utf8(name).unwrap().trim(), listener.local_addr().unwrap().port());
    door.enrols(&entry("home-1", &address, &host_key));
    let seen = door.bastion.run("alice", &[&Way::Named.to("home-1")[..], &["id".into()]].concat());
    assert_eq!(seen.status, 69, "{seen:?}");
    assert!(seen.err.contains("which is this machine"), "{seen:?}");
    door.is_well();
}

/// Caps by source with their queue, and penalties; what was refused is counted, not logged one by one.
#[test]
fn a_crowd_waits_and_failures_shut_the_door_for_their_source() {
    let mut door = Door::start();
    let pid = door.pid.to_string();
    let rows = door.holds(door.stranger("crowd", &[&pid, "4"]));
    assert_eq!(rows, ["others come in", "the queue moves up", "failed logins shut the door for their source"]);
    door.is_well();
    door.bastion.stops();
    let refusals: Vec<_> = door.bastion.audit().into_iter().filter(|(name, _)| name == "door.refusals").map(|(_, facts)| facts).collect();
    let row = refusals.iter().find(|facts| facts["source"] == "127.0.8.3/32").unwrap_or_else(|| panic!("no row: {refusals:?}"));
    assert!(row["counts"]["auth_failed"].as_u64() >= Some(3) && row["counts"]["penalised"].as_u64() >= Some(1), "{row}");
}

/// Q9: 500 connections a second from 50 sources, while people work. How long things take is the benchmark's.
#[test]
fn a_flood_keeps_nobody_out() {
    let mut door = Door::with("login_grace = \"3s\"");
    let mut session = Client::start(door.bastion.ssh("bob", &[&Way::Named.to("dev-1")[..], &["cat".into()]].concat()));
    session.types(b"before\n");
    session.gets("before");
    let flood = Client::start(door.stranger("flood", &["4", "500"]));
    flood.gets("begun");
    let mut turns = 0;
    while !flood.out().ends_with(b"\n") || !String::from_utf8_lossy(&flood.out()).contains("made") {
        turns += 1;
        session.types(format!("turn {turns}\n").as_bytes());
        session.gets(&format!("turn {turns}\n"));
        let seen = door.bastion.run("alice", &["bastion", "whoami"]);
        assert_eq!(seen.status, 0, "a login in the flood: {seen:?}");
    }
    assert!(turns > 2, "{turns} logins in 4 s");
    assert_eq!(flood.ends().status, 0);
    session.closes_input();
    assert_eq!(session.ends().status, 0);
    door.is_well();
}

/// T-02, T-03: the algorithms of the design's section 12, exactly, to clients and to targets.
#[test]
fn nothing_but_the_algorithms_of_the_design_is_spoken() {
    let mut door = Door::start();
    let audit = Command::new(python())
        .args(["-m", "ssh_audit.ssh_audit", "--json", "--skip-rate-test", "-p", &door.bastion.port.to_string(), "127.0.0.1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&audit.stdout).into_owned();
    let report: serde_json::Value =
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said} {}", String::from_utf8_lossy(&audit.stderr)));
    let mut complaints = Vec::new();
    for kind in ["kex", "key", "enc", "mac"] {
        for algorithm in report[kind].as_array().into_iter().flatten() {
            for level in ["fail", "warn"] {
                for note in algorithm["notes"][level].as_array().into_iter().flatten().filter_map(|note| note.as_str()) {
                    complaints.push(format!("{kind} {}: {level}: {note}", algorithm["algorithm"]));
                }
            }
        }
    }
    // OpenSSH before 10, PuTTY before 0.83 and paramiko have no other exchange in common with russh: the
    // post-quantum one comes first, and what is left for them is said to be what it is.
    complaints.retain(|complaint| !(complaint.starts_with("kex \"curve25519-sha256") && complaint.ends_with(NOT_POST_QUANTUM)));
    assert!(complaints.is_empty(), "{complaints:#?}");
    let names =
        |kind: &str| -> Vec<&str> { report[kind].as_array().into_iter().flatten().filter_map(|one| one["algorithm"].as_str()).collect() };
    let kex = ["mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org", "ext-info-s", "kex-strict-s-v00@openssh.com"];
    assert_eq!(names("kex"), kex);
    assert_eq!(names("enc"), ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"]);
    assert_eq!(names("key"), ["ssh-ed25519"]);
    assert_eq!(report["compression"], serde_json::json!(["none"]));
    door.is_well();
}
