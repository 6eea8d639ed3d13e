//! No way around: what looks like less than it is, and what somebody else opened.

use crate::harness::{Bastion, Client, Seen, Way, login, program, until};

fn to(bastion: &Bastion, person: &str, way: Way, words: &[&str]) -> Seen {
    let (flags, command): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.starts_with('-'));
    let mut all: Vec<String> = flags.into_iter().map(str::to_owned).collect();
    all.extend(way.to("web-1"));
    all.extend(command.into_iter().map(str::to_owned));
    bastion.run(person, &all)
}

/// Shell text is never parsed: a file transfer with a shell behind it is a command like any other, and
/// asks for as much as a shell.
#[test]
fn a_command_that_looks_like_a_transfer_is_a_command() {
    let bastion = Bastion::start();
    for way in Way::BOTH {
        for (flag, command) in [("-tt", "scp -t /tmp/x; bash"), ("-oRequestTTY=force", "bash --rcfile x"), ("-T", "rsync --server; sh")] {
            to(&bastion, "hugo", way, &[flag, command]).ends(77);
        }
        to(&bastion, "hugo", way, &["-s", "sftp"]).ends(77);
    }
    assert_eq!(bastion.target.logins(), 0, "who may run one command runs none of these");

    let mut words = vec!["-tt".to_owned()];
    words.extend(Way::Jump.to("web-1"));
    words.push("scp -t /tmp/x; bash".into());
    let mut client = Client::start(bastion.ssh("alice", &words));
    let request = client.request();
    let card = bastion.says("bob", &["show", &request]).well();
    assert!(card.contains("shell (with exec and file transfer)"), "the approver reads what it is: {card}");
    bastion.approve(&request, &[]);
    client.types(b"\x04");
    client.types(b"echo $((40+2))th; exit 4\n");
    let seen = client.ends();
    assert!(seen.out().contains("42th"), "{seen:?}");
    let session = bastion.sealed();
    let replay = bastion.says("carol", &["replay", session["session"].as_str().unwrap(), "--speed", "1000"]).well();
    assert!(replay.contains("42th"), "what the shell behind it did is on the record: {replay}");
}

#[test]
fn an_exact_grant_is_for_that_command_without_a_terminal() {
    let bastion = Bastion::start();
    bastion.open_grant(&["--exec", "cat"]);
    for way in Way::BOTH {
        let seen = to(&bastion, "alice", way, &["-tt", "cat"]);
        assert!(seen.ends(77).contains("without -t"), "{way:?} {seen:?}");
        // Anything else is asked for anew.
        for words in [&["cat; bash"][..], &["-T"], &["-s", "sftp"]] {
            let mut all: Vec<String> = words.iter().filter(|word| word.starts_with('-')).map(ToString::to_string).collect();
            all.extend(way.to("web-1"));
            all.extend(words.iter().filter(|word| !word.starts_with('-')).map(ToString::to_string));
            let client = Client::start(bastion.ssh("alice", &all));
            client.request();
            client.hangs_up();
        }
    }
    assert_eq!(bastion.target.logins(), 0, "nothing ran");
}

/// Whether a jump's target is unknown, forbidden, or has another port: one answer, one kind of row.
#[test]
fn the_refusal_of_a_jump_tells_nothing() {
    let bastion = Bastion::start();
    let refused = ["never-1:22", "no-such-1:22", "web-1:23", "127.0.0.1:22", "169.254.169.254:80", "localhost:22", "x y:22"];
    let answers: Vec<(i32, Vec<u8>, String)> = refused
        .iter()
        .map(|to| {
            let seen = bastion.run("alice", &["-o", "LogLevel=INFO", "-W", to, "bastion"]);
            (seen.status, seen.out, seen.err.replace(to, "X").replace(to.rsplit_once(':').unwrap().0, "X"))
        })
        .collect();
    assert!(answers[0].0 != 0 && answers[0].1.is_empty(), "{:?}", answers[0]);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    bastion.refused("jump to", refused.len());
    let facts: Vec<String> =
        bastion.audit().into_iter().filter(|(name, _)| name == "refusal").map(|(_, facts)| facts.to_string()).collect();
    assert!(facts.iter().all(|facts| facts.contains("no such target for this person")), "{facts:?}");
}

/// A connection through one's own jump lets nobody else in, and leads nowhere else.
#[test]
fn a_jump_is_its_persons_alone_and_ends_at_its_target() {
    let bastion = Bastion::start();
    let port = crate::harness::free_port().to_string();
    let forward = format!("{port}:web-1:22");
    let _shared = Client::start(bastion.ssh("alice", &["-N", "-L", &forward, "-o", "ExitOnForwardFailure=yes", "bastion"]));
    until("the forwarded port listens", crate::harness::SOON, || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
    let through = |person: &str| {
        let to = format!("{}@127.0.0.1", login());
        bastion.run(person, &["-o", "HostKeyAlias=web-1", "-p", &port, &to, "true"])
    };
    let other = through("mallory");
    assert!(other.ends(255).contains("Permission denied"), "{other:?}");
    bastion.audited_with("refusal", &["mallory", "alice's jump", "the inner person is another"]);

    // A jump beyond the target is a forwarding of that target's session, not a jump.
    let beyond = [format!("-Jbastion,{}@web-1", login()), format!("{}@dev-1", login()), "true".into()];
    let seen = bastion.run("alice", &beyond);
    assert_eq!((seen.status, seen.out().as_str()), (255, ""), "{seen:?}");
    assert_eq!(bastion.target.logins(), 0, "nothing reached a target");
}

/// What was opened on a grant is no way in once the grant has been revoked.
#[test]
fn a_shared_connection_outlives_no_grant() {
    let bastion = Bastion::start();
    for way in Way::BOTH {
        let request = bastion.open_grant(&[]);
        let path = bastion.dir().join(format!("cm-{way:?}")).display().to_string();
        let words = |more: &[&str]| {
            let mut words: Vec<String> = more.iter().map(ToString::to_string).collect();
            words.extend(["-S".into(), path.clone()]);
            words.extend(way.to("web-1"));
            words
        };
        let master = Client::start(bastion.ssh("alice", &words(&["-M", "-N"])));
        until("the shared connection is there", crate::harness::SOON, || std::path::Path::new(&path).exists());
        let mut cat = words(&[]);
        cat.push("cat".into());
        let mut running = Client::start(bastion.ssh("alice", &cat));
        running.types(b"runs\n");
        running.gets("runs");
        bastion.says("bob", &["revoke", &request, "--reason", "enough"]).well();
        assert!(running.ends().ends(79).contains("revoked"), "{way:?}");
        let mut words = words(&[]);
        words.push("true".into());
        let again = Client::start(bastion.ssh("alice", &words));
        let anew = again.request();
        assert_ne!(anew, request, "{way:?}: held again");
        bastion.says("alice", &["withdraw", &anew]).well();
        again.ends().ends(77);
        let stop = std::process::Command::new(program("ssh")).args(["-S", &path, "-O", "exit", "any"]).output().unwrap();
        assert!(stop.status.success(), "{way:?}: the connection itself is still there");
        drop(master);
    }
}
