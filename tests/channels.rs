//! Many channels of one connection (ControlMaster): each has its own fate, and none holds up another.

use std::process::Command;
use std::time::Duration;

use crate::harness::{Bastion, Client, LONG, Master, Plan, SOON, Terminal, Way, login, python, until};

/// A channel whose command does not read, fed without end, and one whose client does not read.
struct Stalled {
    _up: Client,
    _down: Client,
}

impl Stalled {
    fn beside(master: &Master<'_>) -> Self {
        let up = master.script("$OVER 'echo up; exec sleep 600' < /dev/zero");
        let down = master.script("$OVER 'echo down; exec cat /dev/zero' | (head -c 5; exec sleep 600)");
        up.gets("up");
        down.gets("down");
        Self { _up: up, _down: down }
    }
}

/// So many bytes go up over the connection, and arrive as they were.
#[track_caller]
fn uploads(master: &Master<'_>, size: usize, within: Duration) {
    let zeros = format!("head -c {size} /dev/zero");
    master.script(&format!("[ \"$({zeros} | $OVER sha256sum)\" = \"$({zeros} | sha256sum)\" ]")).ends_within(within).well();
}

#[test]
fn a_stalled_channel_stalls_no_neighbour() {
    let bastion = Bastion::start();
    bastion.open_grant(&[]);
    for way in Way::BOTH {
        let master = Master::open(&bastion, "alice", way, "web-1", &format!("{way:?}"));
        let stalled = Stalled::beside(&master);

        // 200 MB beside it took more than a minute while its window was everybody's.
        uploads(&master, 200_000_000, SOON);
        let down = master.starts("head -c 50000000 /dev/zero").ends();
        assert_eq!((down.status, down.out.len()), (0, 50_000_000), "{way:?} {}", down.err);

        let shell = Terminal::start(&master.ssh_with(&["-tt"], ""));
        shell.types("PS1=; stty -echo; echo $((40+2))th\r");
        shell.sees("42th");
        uploads(&master, 20_000_000, SOON);
        shell.types("echo $((50+1))st; exit 4\r");
        shell.sees("51st");
        assert_eq!(shell.ends(), 4);
        drop(stalled);
    }
    let peak = bastion.peak_memory();
    assert!(peak < 160 << 20, "{} MB at the peak", peak >> 20);
}

/// What was approved goes on; what is more waits for somebody, on the same connection.
#[test]
fn a_second_channel_that_asks_for_more_is_held_by_itself() {
    let bastion = Bastion::start();
    for way in Way::BOTH {
        let first_request = bastion.open_grant(&["--exec", "echo on; exec sleep 300"]);
        let master = Master::open(&bastion, "alice", way, "web-1", &format!("{way:?}"));
        let mut first = master.starts("echo on; exec sleep 300");
        first.gets("on\n");
        let second = master.starts("echo more");
        let request = second.request();
        assert_ne!(request, first_request);
        second.reads("needs approval");
        assert!(second.out().is_empty() && first.is_running(), "{way:?}: it waits, and what runs goes on");
        bastion.approve(&request, &[]);
        assert_eq!(second.ends().well(), "more\n", "{way:?}");
        assert!(first.is_running(), "{way:?}");

        let third = master.starts("echo even more");
        assert_eq!(third.ends().well(), "even more\n", "{way:?}: what the second was granted covers it");
        bastion.says("bob", &["revoke", &first_request, "--reason", "over"]).well();
        assert!(first.ends().ends(79).contains("revoked"));
        bastion.says("bob", &["revoke", &request, "--reason", "over"]).well();
    }
}

/// All channels end; the connection stays, and is worth no more than a new one.
#[test]
fn revoking_ends_every_channel_and_what_comes_after_is_held() {
    let bastion = Bastion::start();
    for way in Way::BOTH {
        let request = bastion.open_grant(&[]);
        let master = Master::open(&bastion, "alice", way, "web-1", &format!("{way:?}"));
        let shell = Terminal::start(&master.ssh_with(&["-tt"], ""));
        shell.types("PS1=; echo $((40+2))th\r");
        shell.sees("42th");
        let commands: Vec<Client> = (0..3).map(|_| master.starts("echo on; exec sleep 300")).collect();
        let files = Client::start(master.ssh_with(&["-s"], "sftp"));
        for command in &commands {
            command.gets("on\n");
        }
        let full = master.script("$OVER 'echo on; exec sleep 300' < /dev/zero");
        full.gets("on\n");

        bastion.says("bob", &["revoke", &request, "--reason", "wrong host"]).well();
        assert_eq!(shell.ends(), 79, "{way:?}");
        for command in commands {
            assert!(command.ends().ends(79).contains("revoked"), "{way:?}");
        }
        assert!(full.ends().ends(79).contains("revoked"), "{way:?}: not even one that nobody reads");
        assert_eq!(files.ends().status, 79, "{way:?}");

        assert!(master.path().exists(), "the connection is still there");
        let after = master.starts("echo back");
        let asked = after.request();
        assert_ne!(asked, request);
        assert!(after.out().is_empty());
        bastion.says("alice", &["withdraw", &asked]).well();
        after.ends().ends(77);
    }
}

/// What is done to one channel by a client that keeps to nothing is that channel's alone (`clients/channels.py`).
#[test]
fn a_hostile_channel_is_ended_alone() {
    let bastion = Bastion::start();
    let pid = bastion.pid();
    for way in Way::BOTH {
        let mut words = vec![bastion.port.to_string()];
        let (user, inner) = match way {
            Way::Named => (format!("{}=dev-1", login()), vec![]),
            Way::Jump => ("alice".into(), vec![login().to_owned(), "dev-1".into()]),
        };
        words.extend([user, bastion.key_of("alice").display().to_string()]);
        words.extend(inner);
        let mut person = Command::new(python());
        person.arg(format!("{}/tests/clients/channels.py", env!("CARGO_MANIFEST_DIR"))).args(words);
        let seen = Client::start(person).ends_within(LONG);
        assert!(seen.status == 0 && seen.out().ends_with("ok all\n"), "{way:?} {seen:?}");
    }
    assert_eq!(bastion.pid(), pid);
    let said = bastion.log();
    assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "its own log holds what acts on a terminal: {said:?}");
    bastion.audited_with("session.end", &["the client ignored its window"]);
    let unknown =
        bastion.audit().iter().filter(|(name, facts)| name == "refusal" && facts.to_string().contains("no place to forward to")).count();
    assert!(unknown >= 7, "{unknown} refused destinations are written down");
}

/// One key takes no more than its share: who has connections enough is told what to do, and others come in.
#[test]
fn a_person_has_so_many_connections() {
    let bastion = Bastion::with(Plan { limits: "connections_per_person = 2".into(), ..Plan::default() });
    for way in Way::BOTH {
        let first = Master::open(&bastion, "alice", way, "dev-1", &format!("{way:?}-1"));
        let second = Master::open(&bastion, "alice", way, "dev-1", &format!("{way:?}-2"));
        for again in Way::BOTH {
            let mut words = again.to("dev-1");
            words.push("true".into());
            let third = bastion.run("alice", &words);
            assert!(third.ends(255).contains("you have 2 connections here, as many as a person may have; close one"), "{third:?}");
        }
        assert_eq!(first.starts("echo more").ends().well(), "more\n", "{way:?}: what is open takes channels");
        let others = bastion.run("mallory", &[format!("{}=dev-1@bastion", login()), "echo here".into()]);
        assert_eq!(others.well(), "here\n");
        drop(second);
        until("there is room again", SOON, || bastion.run("alice", &["bastion", "targets"]).status == 0);
    }
    let rows =
        bastion.audit().iter().filter(|(name, facts)| name == "refusal" && facts.to_string().contains("one connection more")).count();
    assert!((1..=4).contains(&rows), "{rows} rows of it");
}
