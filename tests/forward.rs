//! `ssh -L`, `-D`, `-R` and `-A`: ruled, held, recorded and ended like sessions, and no way around them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::harness::{Bastion, Client, Plan, SOON, Seen, Terminal, Way, free_port, login, until, until_some};

/// What answers at the target: each connection by `serve`.
fn service(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

/// Sends back what comes, and says goodbye after the other side has said all.
fn echo() -> u16 {
    service(|mut stream| {
        let mut copy = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut stream, &mut copy);
        let _ = copy.write_all(b"bye");
        let _ = copy.shutdown(Shutdown::Both);
    })
}

/// Says this, and then echoes.
fn greets(pieces: &'static [&'static [u8]]) -> u16 {
    service(move |mut stream| {
        let _ = stream.set_nodelay(true);
        for piece in pieces {
            let _ = stream.write_all(piece);
            // Pieces of their own on the wire: the next one only once something came, or the peer is gone.
            let _ = stream.set_read_timeout(Some(Duration::from_millis(30)));
            let _ = stream.read(&mut [0; 64]);
        }
        let _ = stream.set_read_timeout(None);
        let _ = std::io::copy(&mut stream.try_clone().unwrap(), &mut stream);
    })
}

fn to(port: u16) -> TcpStream {
    let stream = until_some("something listens", SOON, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

/// Says `text` and no more; returns all that comes back.
fn talk(port: u16, text: &str) -> String {
    let mut stream = to(port);
    let _ = stream.write_all(text.as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

/// `ssh -N` with these options, to a target.
fn forwarding(bastion: &Bastion, way: Way, target: &str, options: &[&str]) -> Client {
    let mut words: Vec<String> = vec!["-N".into(), "-o".into(), "ExitOnForwardFailure=yes".into()];
    words.extend(options.iter().map(|option| (*option).to_owned()));
    words.extend(way.to(target));
    Client::start(bastion.ssh("alice", &words))
}

fn rows(bastion: &Bastion, kind: &str) -> Vec<Value> {
    bastion.sessions().into_iter().filter(|row| row["kind"] == kind).collect()
}

/// Waits until so many forwards of that kind are over and sealed.
#[track_caller]
fn sealed(bastion: &Bastion, kind: &str, count: usize) -> Vec<Value> {
    until_some("forwards are sealed", SOON, || {
        let all = rows(bastion, kind);
        (all.iter().filter(|row| !row["sealed"].is_null()).count() >= count).then_some(all)
    })
}

fn transcript(bastion: &Bastion, row: &Value) -> String {
    bastion.opened(row["sealed"]["file"].as_str().unwrap())
}

#[test]
fn a_port_is_forwarded_both_ways_of_getting_there_and_recorded() {
    let bastion = Bastion::start();
    let port = echo();
    for way in Way::BOTH {
        let local = free_port();
        let client = forwarding(&bastion, way, "dev-1", &["-L", &format!("{local}:127.0.0.1:{port}")]);
        assert_eq!(talk(local, "hello"), "hellobye", "{way:?}: half closed, and the answer came");
        client.hangs_up();
    }
    let all = sealed(&bastion, "forward-local", 2);
    for row in &all {
        assert_eq!((row["to"].as_str(), row["outcome"].as_str()), (Some(&*format!("localhost:{port}")), Some("closed")), "{row}");
        let text = transcript(&bastion, row);
        assert!(
            text.contains("hello") && text.contains("bye") && text.contains(&format!("connection to localhost:{port}, from 127.0.0.1:")),
            "{text}"
        );
        assert!(text.contains("closed: 5 bytes from the client, 8 from the target"), "{text}");
    }
    bastion.audited_with("session.open", &["forward-local", &format!("localhost:{port}")]);
    let listed = bastion.says("alice", &["sessions"]).well();
    assert!(listed.contains(&format!("forward-local localhost:{port}")), "{listed}");
    let id = all[0]["session"].as_str().unwrap();
    bastion.says("carol", &["verify", id]).well();
    assert!(bastion.says("carol", &["replay", id]).well().contains("hello"));
}

#[test]
fn socks_leads_where_policy_permits_and_stock_curl_gets_through() {
    let bastion = Bastion::start();
    let port = service(|mut stream| {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nright");
    });
    let local = free_port();
    let client = forwarding(&bastion, Way::Jump, "dev-1", &["-D", &local.to_string()]);
    drop(to(local));
    let get = |url: String| {
        let mut curl = std::process::Command::new(super::harness::program("curl"));
        curl.args(["-sS", "-m", "20", "--socks5-hostname", &format!("127.0.0.1:{local}"), &url]);
        Client::start(curl).ends()
    };
    assert_eq!(get(format!("http://localhost:{port}/")).well(), "right");
    // Nothing listens there: that connection fails, and the next does not.
    assert_ne!(get(format!("http://localhost:{}/", free_port())).status, 0);
    // The way to a target's own door.
    assert_ne!(get(format!("http://localhost:{}/", bastion.target.port)).status, 0);
    assert_eq!(get(format!("http://127.0.0.1:{port}/")).well(), "right");
    bastion.audited_with("refusal", &["it leads to a target"]);
    client.hangs_up();
}

#[test]
fn the_target_listens_and_is_told_to_stop() {
    let bastion = Bastion::start();
    let port = echo();
    for way in Way::BOTH {
        let there = free_port();
        let client = forwarding(&bastion, way, "dev-1", &["-R", &format!("127.0.0.1:{there}:127.0.0.1:{port}")]);
        let again = std::thread::spawn(move || talk(there, "one"));
        assert_eq!(talk(there, "two"), "twobye", "{way:?}");
        assert_eq!(again.join().unwrap(), "onebye");
        client.hangs_up();
        until("nothing listens any more", SOON, || TcpStream::connect((Ipv4Addr::LOCALHOST, there)).is_err());
    }
    // Cancelled, it ends, and the connection that it was asked on goes on.
    let (there, control) = (free_port(), bastion.dir().join("control"));
    let path = format!("ControlPath={}", control.display());
    let listens = format!("127.0.0.1:{there}:127.0.0.1:{port}");
    let client = forwarding(&bastion, Way::Jump, "dev-1", &["-M", "-o", &path, "-R", &listens]);
    assert_eq!(talk(there, "three"), "threebye");
    let cancels = ["-o", &path, "-O", "cancel", "-R", &listens].map(str::to_owned);
    bastion.run("alice", &[&cancels[..], &Way::Jump.to("dev-1")[..]].concat()).well();
    until("nothing listens any more", SOON, || TcpStream::connect((Ipv4Addr::LOCALHOST, there)).is_err());
    let shares = ["-o", &path].map(str::to_owned);
    let command = ["echo on".to_owned()];
    assert_eq!(bastion.run("alice", &[&shares[..], &Way::Jump.to("dev-1")[..], &command[..]].concat()).well(), "on\n");
    client.hangs_up();
    for row in sealed(&bastion, "forward-remote", 3).into_iter().take(2) {
        let text = transcript(&bastion, &row);
        assert!(text.contains("connection 1") && text.contains("connection 2") && text.contains("closed: 6 bytes"), "{text}");
    }
}

#[test]
fn it_is_held_and_one_approval_serves_the_next() {
    let bastion = Bastion::start();
    let port = echo();
    let local = free_port();
    let mut words = vec!["-tt".to_owned(), "-L".into(), format!("{local}:localhost:{port}")];
    words.extend(Way::Jump.to("web-1"));
    let shell = Terminal::start(&bastion.ssh("alice", &words));
    bastion.approve(&shell.request(), &[]);
    shell.sees("is recorded");

    // The channel is open for the client's program, and nothing goes through until somebody agrees.
    let waiting = std::thread::spawn(move || talk(local, "first"));
    let request = until_some("the forward is asked for", SOON, || {
        let all = bastion.json("alice", &["requests", "--mine"]);
        all["requests"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["state"] == "pending" || one["state"] == "needs-reason")
            .map(|one| one["request"].as_str().unwrap().to_owned())
    });
    shell.sees(&format!("connection to localhost:{port}"));
    assert!(!waiting.is_finished());
    let card = bastion.says("bob", &["show", &request]).well();
    assert!(card.contains(&format!("connections to localhost:{port}")), "{card}");
    bastion.approve(&request, &[]);
    assert_eq!(waiting.join().unwrap(), "firstbye");

    // The same place again asks nobody.
    let mut running = to(local);
    running.write_all(b"x").unwrap();
    running.read_exact(&mut [0]).unwrap();
    assert_eq!(bastion.json("alice", &["requests", "--pending"])["requests"].as_array().unwrap().len(), 0);

    // Revoked, what runs is cut, and the shell of another approval goes on.
    bastion.says("bob", &["revoke", &request, "--reason", "enough"]).well();
    assert_eq!(running.read(&mut [0; 8]).unwrap_or(0), 0, "cut");
    shell.sees("revoked by bob: enough");
    shell.types("exit 5\n");
    assert_eq!(shell.ends(), 5);
    let outcomes: Vec<Value> = sealed(&bastion, "forward-local", 2).into_iter().map(|row| row["outcome"].clone()).collect();
    assert!(outcomes.iter().any(|outcome| outcome.as_str().unwrap().starts_with("revoked by bob")), "{outcomes:?}");
}

#[test]
fn nothing_is_forwarded_where_no_policy_says_so() {
    let bastion = Bastion::start();
    bastion.is_told("policies/access.cedar", |text| {
        text.replacen("action in Action::\"session\", resource);", "action in [Action::\"shell\", Action::\"exec\"], resource);", 1)
    });
    let (port, local) = (echo(), free_port());
    let mut words = vec!["-tt".to_owned(), "-A".into(), "-L".into(), format!("{local}:localhost:{port}")];
    words.extend(Way::Jump.to("dev-1"));
    let shell = Terminal::start(&bastion.ssh("alice", &words));
    shell.sees("is recorded");
    assert_eq!(talk(local, "hello"), "");
    shell.sees(&format!("connection to localhost:{port}: refused:"));
    shell.types("exit\n");
    assert_eq!(shell.ends(), 0);
    bastion.audited_with("refusal", &["no permit"]);

    let refused = forwarding(&bastion, Way::Named, "dev-1", &["-R", &format!("{}:localhost:{port}", free_port())]).ends();
    assert!(refused.status == 255 && refused.err.contains("remote port forwarding failed"), "{refused:?}");
    bastion.audited_with("refusal", &["forward-remote", "nothing permits"]);
    assert_eq!(rows(&bastion, "forward-local").len() + rows(&bastion, "forward-remote").len(), 0);
}

#[test]
fn no_forward_leads_to_a_target_or_to_another_ssh_server() {
    let bastion = Bastion::start();
    let ssh_in = |local: u16| -> Seen {
        // Another local user of a forward that somebody shares.
        let words = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=INFO", "-p"].map(String::from);
        let more = [local.to_string(), format!("{}@127.0.0.1", login()), "true".into()];
        Client::start(bastion.ssh("mallory", &[&words[..], &more[..]].concat())).ends()
    };
    let own = bastion.target.port;
    let pieces = greets(&[b"S", b"SH", b"-2.0-OpenSSH_9.2p1\r\n"]);
    let whole = greets(&[b"SSH-2.0-elsewhere\r\n"]);
    let locals = [free_port(), free_port(), free_port(), free_port()];
    let forward = |n: usize, destination: &str| format!("{}:{destination}", locals[n]);
    let options = [
        forward(0, &format!("127.0.0.1:{own}")),
        forward(1, "web-1:22"),
        forward(2, &format!("localhost:{pieces}")),
        forward(3, &format!("localhost:{whole}")),
    ];
    let words: Vec<&str> = options.iter().flat_map(|option| ["-L", option.as_str()]).collect();
    let client = forwarding(&bastion, Way::Jump, "dev-1", &words);
    drop(to(locals[3]));
    for (local, said) in [
        (locals[0], "a target of its own"),
        (locals[1], "ssh -J bastion web-1"),
        (locals[2], "an SSH server"),
        (locals[3], "an SSH server"),
    ] {
        let seen = ssh_in(local);
        assert!(seen.status == 255 && seen.err.contains(said), "{local}: {seen:?}");
    }
    client.hangs_up();
    assert!(sealed(&bastion, "forward-local", 2).iter().all(|row| row["outcome"].as_str().is_some_and(|outcome| {
        outcome.starts_with("killed by the bastion: it speaks SSH") || outcome == "client left" || outcome == "closed"
    })));
    // What says S and waits is no SSH server: PostgreSQL does.
    let (alone, local) = (greets(&[b"S"]), free_port());
    let client = forwarding(&bastion, Way::Named, "dev-1", &["-L", &format!("{local}:localhost:{alone}")]);
    let mut stream = to(local);
    let mut one = [0];
    stream.read_exact(&mut one).unwrap();
    assert_eq!(&one, b"S");
    client.hangs_up();

    // Through one target to another, in the words that ssh has for it.
    let chained =
        bastion.run("alice", &["-J".to_owned(), format!("bastion,{}@dev-1", login()), format!("{}@web-1", login()), "true".into()]);
    assert!(
        chained.status == 255 && chained.err.contains("a target of its own, not reached through another: ssh -J bastion web-1"),
        "{chained:?}"
    );
}

#[test]
fn hostile_places_are_refused_for_themselves_alone() {
    let bastion = Bastion::start();
    let (port, local) = (echo(), free_port());
    let options: Vec<String> =
        ["127.1", "0x7f000001", "0.0.0.0", "a_b..c"].iter().map(|host| format!("{}:{host}:{port}", free_port())).collect();
    let mut words: Vec<&str> = options.iter().flat_map(|option| ["-L", option.as_str()]).collect();
    let good = format!("{local}:localhost:{port}");
    let socket = format!("{}:{}/none", free_port(), bastion.dir().display());
    words.extend(["-L", &good, "-L", &socket]);
    let client = forwarding(&bastion, Way::Jump, "dev-1", &words);
    assert_eq!(talk(local, "before"), "beforebye");
    for option in options.iter().chain([&socket]) {
        assert_eq!(talk(option.split(':').next().unwrap().parse().unwrap(), "x"), "", "{option}");
    }
    assert_eq!(talk(local, "after"), "afterbye", "the rest goes on");
    client.hangs_up();
    bastion.audited_with("refusal", &["no place to forward to"]);
    bastion.audited_with("refusal", &["sockets are not forwarded"]);
}

#[test]
fn the_agent_goes_along_where_it_is_ruled() {
    let bastion = Bastion::start();
    let agent = bastion.dir().join("agent.sock");
    let mut ssh_agent = std::process::Command::new(super::harness::program("ssh-agent"));
    let mut ssh_agent = ssh_agent.args(["-D", "-a"]).arg(&agent).stdout(std::process::Stdio::null()).spawn().unwrap();
    until("the agent listens", SOON, || agent.exists());
    let mut add = std::process::Command::new(super::harness::program("ssh-add"));
    add.env("SSH_AUTH_SOCK", &agent).arg(bastion.key_of("alice"));
    assert_eq!(Client::start(add).ends().status, 0);
    let fingerprint = super::harness::public(&bastion.key_of("alice")).split_whitespace().nth(1).unwrap().to_owned();

    for way in Way::BOTH {
        let mut words = vec!["-A".to_owned(), "-o".to_owned(), format!("IdentityAgent={}", agent.display())];
        words.extend(way.to("dev-1"));
        words.push("ssh-add -L".into());
        let seen = bastion.run("alice", &words);
        assert!(seen.status == 0 && seen.out().contains(&fingerprint), "{way:?}: {seen:?}");
    }
    let row = sealed(&bastion, "exec", 2).remove(0);
    let text = transcript(&bastion, &row);
    assert!(text.contains("agent 1: opened by the target") && text.contains("bytes from the client, SHA-256"), "{text}");
    bastion.audited_with("session.open", &["\"agent\":true"]);

    // Not asked for, it is not there; not permitted, the session goes on without.
    let mut words = Way::Jump.to("dev-1");
    words.push("echo sock=$SSH_AUTH_SOCK".into());
    assert_eq!(bastion.run("alice", &words).well().trim(), "sock=");
    bastion.is_told("policies/access.cedar", |text| {
        format!("{text}\n@id(\"no-agents\") forbid (principal, action == Action::\"agent-forward\", resource);\n")
    });
    words.splice(0..0, ["-A".to_owned(), format!("-oIdentityAgent={}", agent.display())]);
    assert_eq!(bastion.run("alice", &words).well().trim(), "sock=");
    bastion.audited_with("refusal", &["agent-forward", "no-agents"]);
    let _ = ssh_agent.kill();
    let _ = ssh_agent.wait();
}

#[test]
fn bulk_in_both_directions_at_once_does_not_hang() {
    const BULK: usize = 48 << 20;
    let bastion = Bastion::with(Plan::default());
    let (port, local) = (echo(), free_port());
    let client = forwarding(&bastion, Way::Jump, "dev-1", &["-L", &format!("{local}:localhost:{port}")]);
    let mut stream = to(local);
    let mut writing = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let block: Vec<u8> = (0..1 << 16).map(|n: u32| (n % 251) as u8).collect();
        for _ in 0..BULK >> 16 {
            writing.write_all(&block).unwrap();
        }
        writing.shutdown(Shutdown::Write).unwrap();
    });
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut back = Vec::with_capacity(BULK + 3);
    stream.read_to_end(&mut back).unwrap();
    writer.join().unwrap();
    assert_eq!(back.len(), BULK + 3);
    assert!(back.chunks(1 << 16).take(BULK >> 16).all(|chunk| chunk.iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8)));
    client.hangs_up();
    let text = transcript(&bastion, &sealed(&bastion, "forward-local", 1)[0]);
    assert!(
        text.contains(&format!("closed: {BULK} bytes from the client, {} from the target", BULK + 3)),
        "the cap keeps digests of the rest"
    );
}
