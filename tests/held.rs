//! While somebody is waited for: text flows, keys and gigabytes are taken, a hang-up is seen at once.

use std::time::{Duration, Instant};

use crate::harness::{Bastion, Client, Terminal, Way, login, pause, until};

/// What a bastion may hold at its peak while a gigabyte is piped into a held command.
const PEAK: u64 = 120 << 20;

#[test]
fn text_flows_while_keys_are_typed() {
    let bastion = Bastion::start();
    let terminal = Terminal::start(&bastion.ssh("alice", &[format!("{}=web-1@bastion", login())]));
    let request = terminal.request();
    for _ in 0..200 {
        terminal.types("k");
        pause(Duration::from_millis(10));
    }
    terminal.sees("waiting 00:04");
    terminal.sees("waiting 00:06");
    bastion.approve(&request, &[]);
    terminal.sees("approved by bob");
    terminal.types("exit 0\r");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn text_flows_while_a_gigabyte_is_piped_in() {
    for way in Way::BOTH {
        let bastion = Bastion::start();
        let mut command = bastion.sh("alice", "head -c 1000000000 /dev/zero | $SSH -o SendEnv=LC_COUNTERSIGN_REASON $TO 'wc -c'");
        command.env("TO", way.to("web-1").join(" ")).env("LC_COUNTERSIGN_REASON", "INC-42");
        let client = Client::start(command);
        let request = client.request();
        client.reads_within("still waiting 0:08", Duration::from_secs(12));
        client.reads_within("still waiting 0:16", Duration::from_secs(12));
        let peak = bastion.peak_memory();
        assert!(peak < PEAK, "{way:?}: {} MB at the peak", peak >> 20);
        bastion.approve(&request, &[]);
        let seen = client.ends_within(crate::harness::LONG);
        assert_eq!(seen.well().trim(), "1000000000", "{way:?}");
    }
}

#[test]
fn keep_alives_are_answered() {
    for way in Way::BOTH {
        let bastion = Bastion::start();
        let mut words: Vec<String> = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=3"].map(String::from).into();
        words.extend(way.to("web-1"));
        words.push("echo alive".into());
        let mut client = Client::start(bastion.ssh("alice", &words));
        let request = client.request();
        pause(Duration::from_secs(10));
        assert!(client.is_running(), "{way:?}: {}", client.err());
        bastion.approve(&request, &[]);
        assert_eq!(client.ends().well(), "alive\n", "{way:?}");
    }
}

#[test]
fn a_hang_up_is_seen_at_once() {
    for way in Way::BOTH {
        let bastion = Bastion::start();
        let mut words = way.to("web-1");
        words.push("true".into());
        let client = Client::start(bastion.ssh("alice", &words));
        let request = client.request();
        let waiters = || bastion.json("alice", &["show", &request]).to_string().contains("\"waiters\":1");
        assert!(waiters());
        client.hangs_up();
        let left = Instant::now();
        until("nobody waits any more", Duration::from_secs(5), || !waiters());
        assert!(left.elapsed() < Duration::from_secs(3), "{way:?}: {:?}", left.elapsed());
    }
}

#[test]
fn a_hang_up_in_the_middle_of_a_gigabyte_is_seen_too() {
    let bastion = Bastion::start();
    let zero = std::fs::File::open("/dev/zero").unwrap();
    let client = Client::fed(bastion.ssh("alice", &[format!("{}=web-1@bastion", login()), "wc -c".into()]), zero.into());
    let request = client.request();
    // By now every window and queue on the way is full.
    client.reads("still waiting 0:08");
    client.hangs_up();
    until("nobody waits any more", Duration::from_secs(5), || {
        bastion.json("alice", &["show", &request]).to_string().contains("\"waiters\":0")
    });
}

#[test]
fn what_was_typed_at_a_held_command_arrives() {
    let bastion = Bastion::start();
    let mut client = Client::start(bastion.ssh("alice", &[format!("{}=web-1@bastion", login()), "cat".into()]));
    let request = client.request();
    client.types(b"\x03 is data here\n");
    client.closes_input();
    bastion.approve(&request, &[]);
    assert_eq!(client.ends().well(), "\u{3} is data here\n");
}

#[test]
fn several_are_held_on_one_connection() {
    let bastion = Bastion::start();
    let path = bastion.dir().join("cm").display().to_string();
    let to = format!("{}=web-1@bastion", login());
    let _master = Client::start(bastion.ssh("alice", &["-M", "-N", "-S", &path, &to]));
    until("the shared connection is there", Duration::from_secs(10), || std::path::Path::new(&path).exists());
    let clients: Vec<Client> = (0..5).map(|n| Client::start(bastion.ssh("alice", &["-S", &path, &to, &format!("echo {n}")]))).collect();
    let requests: Vec<String> = clients.iter().map(Client::request).collect();
    assert!(requests.iter().all(|request| *request == requests[0]), "equal power is asked once: {requests:?}");
    bastion.approve(&requests[0], &[]);
    for (n, client) in clients.into_iter().enumerate() {
        assert_eq!(client.ends().well(), format!("{n}\n"));
    }
}

/// A terminal is not a person: ansible runs its commands with one, and answers nothing.
#[test]
fn a_command_with_a_terminal_is_asked_nothing() {
    let bastion = Bastion::start();
    let mut client = Client::start(bastion.ssh("alice", &["-tt".into(), format!("{}=web-1@bastion", login()), "cat".into()]));
    client.reads_within("needs approval: 1 of leads", Duration::from_secs(5));
    let request = client.request();
    client.types(b"typed while it is held\n");
    client.reads_within("still waiting 0:08", Duration::from_secs(12));
    let said = client.err();
    assert_eq!(said.lines().count(), 2, "one line at once, one after 8 s: {said}");
    assert!(!said.contains("reason:") && !said.contains("Ctrl-C"), "nothing is asked: {said}");
    assert!(client.out().is_empty());

    bastion.approve(&request, &[]);

    client.gets("typed while it is held\r\n");
    client.types(b"\x04");
    let seen = client.ends();
    assert!(!seen.err.contains("approved by"), "nobody reads it: {seen:?}");
    seen.well();
}

#[test]
fn a_packet_of_one_interrupt_withdraws_a_command_with_a_terminal() {
    let bastion = Bastion::start();
    let mut client = Client::start(bastion.ssh("alice", &["-tt".into(), format!("{}=web-1@bastion", login()), "cat".into()]));
    let request = client.request();
    client.types(b"a\x03b\n");
    client.reads_within("still waiting 0:08", Duration::from_secs(12));
    assert_eq!(bastion.state_of("alice", &request), "pending", "within a packet it is data");

    client.types(b"\x03");

    bastion.comes_to("alice", &request, "withdrawn");
    let seen = client.ends();
    assert!(seen.ends(77).contains("withdrawn"), "{seen:?}");
    bastion.audited_with("request.withdraw", &[&request, "alice"]);
    assert_eq!(bastion.target.logins(), 0, "nothing reached the target");
}
