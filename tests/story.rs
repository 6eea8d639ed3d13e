//! The one sentence: held, approved, certified, relayed, recorded, replayed; and every other ending.

use std::time::{Duration, Instant};

use crate::harness::{Bastion, Client, SOON, Terminal, Way, login, until};

fn to(target: &str) -> String {
    format!("{}={target}@bastion", login())
}

#[test]
fn a_command_waits_runs_and_is_replayed() {
    for way in Way::BOTH {
        let bastion = Bastion::start();
        let mut words = way.to("web-1");
        words.push("echo to-the-screen; echo apart >&2; exit 7".into());

        let client = Client::start(bastion.ssh("alice", &words));
        client.reads("needs approval");
        let request = client.request();
        assert!(client.out().is_empty(), "nothing ran yet");
        let card = bastion.says("bob", &["show", &request]).well();
        assert!(card.contains("alice") && card.contains("INC-42 disk full"), "{card}");
        bastion.approve(&request, &[]);
        let seen = client.ends();

        assert_eq!((seen.status, seen.out().as_str()), (7, "to-the-screen\n"), "{way:?} {seen:?}");
        assert!(seen.err.contains("apart\n"), "{seen:?}");
        assert!(!seen.err.contains("approved by"), "after approval text is written only to a terminal: {seen:?}");
        let session = bastion.sealed();
        assert_eq!((session["person"].as_str(), session["request"].as_str()), (Some("alice"), Some(request.as_str())));
        let replay = bastion.says("carol", &["replay", &request, "--speed", "1000"]).well();
        assert!(replay.contains("to-the-screen") && replay.contains("apart"), "{replay}");
    }
}

#[test]
fn a_shell_in_a_terminal_waits_with_its_person() {
    let bastion = Bastion::start();
    let terminal = Terminal::start(&bastion.ssh("alice", &[to("web-1")]));
    terminal.sees("needs approval: 1 of leads");
    terminal.sees("Ctrl-C withdraws");
    let request = terminal.request();
    terminal.types("typed too early\r");
    bastion.approve(&request, &["--for", "10m"]);
    terminal.sees("approved by bob for 10m");
    terminal.types("PS1=; stty -echo; stty size; echo $((6*7))th\r");
    terminal.sees("24 80");
    terminal.sees("42th");
    assert!(!terminal.screen().contains("too: "), "typed-ahead is dropped: {}", terminal.screen());
    terminal.resize(101, 31);
    terminal.types("stty size\r");
    terminal.sees("31 101");
    terminal.types("exit 5\r");
    assert_eq!(terminal.ends(), 5);
    assert_eq!(bastion.sealed()["kind"], "shell");
    assert!(bastion.says("carol", &["replay", "last", "--speed", "1000", "--idle", "1s"]).well().contains("42th"));
}

#[test]
fn a_denial_ends_it() {
    let bastion = Bastion::start();
    let client = Client::start(bastion.ssh("alice", &[to("web-1"), "touch /tmp/never".into()]));
    let request = client.request();
    let denied = bastion.says("bob", &["deny", &request, "--note", "freeze until 06:00"]);
    assert_eq!(denied.status, 0, "{denied:?}");
    let seen = client.ends();
    assert!(seen.ends(77).contains("denied by bob: freeze until 06:00"), "{seen:?}");
    let late = bastion.says("dora", &["approve", &request]);
    assert_ne!(late.status, 0, "a denial is final: {late:?}");
    cannot_be_decided(&bastion, "dora", &request);
    bastion.audited_with("request.decide", &[&request, "deny", "bob"]);
    assert_eq!(bastion.target.logins(), 0, "nothing reached the target");
}

/// Nobody is given the bytes of a decision that would come too late; that it was tried is written down.
#[track_caller]
fn cannot_be_decided(bastion: &Bastion, approver: &str, request: &str) {
    let late = bastion.run(approver, &["bastion", "decision", request, "approve"]);
    late.ends(77);
    assert!(late.out.is_empty(), "{late:?}");
    bastion.audited_with("refusal", &[request, approver]);
}

#[test]
fn ctrl_c_withdraws() {
    let bastion = Bastion::start();
    let terminal = Terminal::start(&bastion.ssh("alice", &[to("web-1")]));
    let request = terminal.request();
    terminal.types("\x03");
    bastion.comes_to("alice", &request, "withdrawn");
    assert_eq!(terminal.ends(), 77);
    assert_ne!(bastion.says("bob", &["approve", &request]).status, 0, "a withdrawn request cannot be approved");
    cannot_be_decided(&bastion, "bob", &request);
    bastion.audited_with("request.withdraw", &[&request, "alice"]);
    assert_eq!(bastion.target.logins(), 0, "nothing reached the target");
}

#[test]
fn ctrl_c_withdraws_a_command_with_a_terminal() {
    let bastion = Bastion::start();
    let terminal = Terminal::start(&bastion.ssh("alice", &["-tt".into(), to("web-1"), "true".into()]));
    let request = terminal.request();
    terminal.types("\x03");
    bastion.comes_to("alice", &request, "withdrawn");
    assert_eq!(terminal.ends(), 77);
    bastion.audited_with("request.withdraw", &[&request, "alice"]);
    assert_eq!(bastion.target.logins(), 0, "nothing reached the target");
}

#[test]
fn the_verb_withdraws() {
    let bastion = Bastion::start();
    let client = Client::start(bastion.ssh("alice", &[to("web-1"), "true".into()]));
    let request = client.request();
    bastion.says("alice", &["withdraw", &request]).well();
    assert!(client.ends().ends(77).contains("withdrawn"));
    bastion.audited_with("request.withdraw", &[&request, "alice"]);
    assert_eq!(bastion.target.logins(), 0, "nothing reached the target");
}

#[test]
fn nobody_decides_in_time() {
    let bastion = Bastion::start();
    let client = Client::start(bastion.ssh("alice", &[to("quick-1"), "true".into()]));
    let request = client.request();
    assert!(client.ends().ends(75).contains("countersign: "));
    bastion.comes_to("alice", &request, "expired");
    assert_ne!(bastion.says("bob", &["approve", &request]).status, 0, "an expired request cannot be approved");
    cannot_be_decided(&bastion, "bob", &request);
    bastion.audited("request.expire", &request);
    assert_eq!(bastion.target.logins(), 0, "nothing reached the target");
}

#[test]
fn a_grant_ends_on_time() {
    let bastion = Bastion::start();
    bastion.open_grant(&["--for", "4s"]);
    let started = Instant::now();
    let client = Client::start(bastion.ssh("alice", &[to("web-1"), "echo on; sleep 60".into()]));
    client.gets("on\n");
    let seen = client.ends();
    let took = started.elapsed();
    assert!(seen.ends(79).contains("ended (4s, by bob)"), "{seen:?}");
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(bastion.sealed()["kind"], "exec");
    let again = Client::start(bastion.ssh("alice", &[to("web-1"), "true".into()]));
    again.reads("needs approval");
}

#[test]
fn revoking_ends_what_runs() {
    let bastion = Bastion::start();
    let request = bastion.open_grant(&[]);
    let terminal = Terminal::start(&bastion.ssh("alice", &[to("web-1")]));
    terminal.types("PS1=; echo $((40+2))th\r");
    terminal.sees("42th");
    let command = Client::start(bastion.ssh("alice", &[to("web-1"), "echo on; sleep 60".into()]));
    command.gets("on\n");
    let revoked = Instant::now();
    bastion.says("bob", &["revoke", &request, "--reason", "wrong host"]).well();
    assert!(command.ends().ends(79).contains("revoked"));
    assert_eq!(terminal.ends(), 79);
    assert!(revoked.elapsed() < Duration::from_secs(6), "both ended within {:?}", revoked.elapsed());
    bastion.audited("grant.revoke", &request);
}

#[test]
fn an_open_grant_is_used_again() {
    let bastion = Bastion::start();
    let request = bastion.open_grant(&[]);
    for word in ["one", "two"] {
        let seen = bastion.run("alice", &[to("web-1"), format!("echo {word}")]);
        assert_eq!((seen.well(), seen.err), (format!("{word}\n"), String::new()), "nothing is asked and nothing is said");
    }
    assert!(bastion.sessions().iter().all(|session| session["request"] == request.as_str()));
    let other = Client::start(bastion.ssh("bob", &[to("web-1"), "true".into()]));
    other.reads("needs approval");
}

#[test]
fn a_grant_for_once_is_used_once() {
    let bastion = Bastion::start();
    bastion.open_grant(&["--once"]);
    bastion.run("alice", &[to("web-1"), "true".into()]).well();
    let second = Client::start(bastion.ssh("alice", &[to("web-1"), "true".into()]));
    second.reads("needs approval");
}

#[test]
fn a_hang_up_is_not_a_withdrawal() {
    let bastion = Bastion::start();
    let client = Client::start(bastion.ssh("alice", &[to("web-1"), "true".into()]));
    let request = client.request();
    client.hangs_up();
    assert_eq!(bastion.state_of("alice", &request), "pending");
    let list = || bastion.says("alice", &["requests"]).well();
    until("the list says that the client left", SOON, || {
        list().lines().any(|line| line.contains(request.as_str()) && line.contains("client left "))
    });
    assert!(bastion.says("bob", &["requests"]).well().contains("client left "), "approvers see it too");
    bastion.approve(&request, &[]);
    assert_eq!(bastion.target.logins(), 0, "nobody was there to open it");
    let seen = bastion.run("alice", &[to("web-1"), "echo back".into()]);
    assert_eq!(seen.well(), "back\n");
    assert_eq!(bastion.sealed()["request"], request.as_str(), "the next connect passed on it");
    bastion.audited_with("request.decide", &[&request, "approve", "bob"]);
}

#[test]
fn equal_connects_join_one_request() {
    let bastion = Bastion::start();
    let first = Client::start(bastion.ssh("alice", &[to("web-1"), "echo first".into()]));
    let request = first.request();
    let second = Client::start(bastion.ssh("alice", &[to("web-1"), "echo second".into()]));
    assert_eq!(second.request(), request);
    bastion.approve(&request, &[]);
    assert_eq!((first.ends().out(), second.ends().out()), ("first\n".into(), "second\n".into()));
}

#[test]
fn a_missing_reason_is_asked_for() {
    let bastion = Bastion::start();
    let command = Client::start(bastion.ssh_without_reason("alice", &[to("web-1"), "echo ran".into()]));
    command.reads("waits for your reason");
    let said = command.err();
    let request = said.split(" waits for your reason").next().and_then(|before| before.split_whitespace().next_back());
    let request = request.unwrap_or_else(|| panic!("no id in {said}")).to_owned();
    let early = bastion.says("bob", &["approve", &request]);
    assert_ne!(early.status, 0, "nobody decides before the bytes are fixed: {early:?}");
    bastion.run("alice", &["bastion", "reason", &request, "'INC-7 the disk'"]).well();
    command.reads("needs approval");
    bastion.approve(&request, &[]);
    assert_eq!(command.ends().out(), "ran\n");

    let terminal = Terminal::start(&bastion.ssh_without_reason("mallory", &[to("web-1")]));
    terminal.sees("reason: ");
    terminal.types("INC-8 the other disk\r");
    let request = terminal.request();
    assert!(bastion.says("bob", &["show", &request]).well().contains("INC-8 the other disk"));
    terminal.types("\x03");
    assert_eq!(terminal.ends(), 77);
}

#[test]
fn what_policy_permits_is_not_held() {
    let bastion = Bastion::start();
    let seen = bastion.run("alice", &[to("dev-1"), "echo free".into()]);
    assert_eq!((seen.well(), seen.err), ("free\n".into(), String::new()));
    assert_eq!(bastion.sealed()["target"], "dev-1");
}

#[test]
fn a_refusal_tells_nobody_what_exists() {
    let bastion = Bastion::start();
    let says = |target: &str| bastion.run("alice", &[to(target), "true".into()]).ends(77).replace(target, "TARGET");
    assert_eq!(says("never-1"), says("nowhere-1"));
    assert!(says("nowhere-1").contains("console: ssh alice@bastion"), "{}", says("nowhere-1"));
    bastion.audited("refusal", "never-1");
    let jump = |target: &str| {
        let seen = bastion.run("alice", &["-J", "bastion", &format!("{}@{target}", login()), "true"]);
        (seen.status, seen.err.replace(target, "TARGET"))
    };
    assert_eq!(jump("never-1"), jump("nowhere-1"));
    assert!(!bastion.target.log().contains("Accepted"));
}

#[test]
fn a_status_and_a_signal_come_through() {
    let bastion = Bastion::start();
    for status in [0, 1, 75, 255] {
        assert_eq!(bastion.run("alice", &[to("dev-1"), format!("exit {status}")]).status, status);
    }
    let killed = bastion.run("alice", &["-v".into(), to("dev-1"), "kill -TERM $$".into()]);
    assert!(killed.err.contains("exit-signal"), "{killed:?}");
}

#[test]
fn standard_input_ends_and_output_goes_on() {
    for way in Way::BOTH {
        let bastion = Bastion::start();
        let mut words = way.to("dev-1");
        words.push("cat; sleep 0.3; echo after; exit 3".into());
        let mut client = Client::start(bastion.ssh("alice", &words));
        client.types(b"before ");
        client.gets("before ");
        client.closes_input();
        let seen = client.ends_within(SOON);
        assert_eq!((seen.status, seen.out().as_str()), (3, "before after\n"), "{way:?}");
    }
}
