//! No terminal: one line at once and one every 8 s, on standard error alone; a status for each end; nothing in a
//! stream that a protocol owns.

use std::io::Write as _;

use crate::harness::{Bastion, Client, Plan, Way, login, until};

/// Everything that a client prints which somebody else reads: nothing on standard output, and of ours
/// nothing but lines that say whose they are.
#[track_caller]
fn is_clean(what: &str, out: &[u8], err: &str) {
    assert!(out.is_empty(), "{what}: {}", String::from_utf8_lossy(out));
    let own = |line: &str| {
        ["Connection closed", "lost connection", "rsync", "fatal: ", "Please make sure", "and the repository"]
            .iter()
            .any(|known| line.contains(known))
    };
    assert!(err.lines().all(|line| line.is_empty() || line.starts_with("countersign: ") || own(line)), "{what}: {err}");
}

/// The file tools while they are held, and when the answer is no.
#[test]
fn held_tools_say_a_line_every_eight_seconds_and_keep_their_streams_clean() {
    let bastion = Bastion::start();
    std::fs::write(bastion.dir().join("here"), "here").unwrap();
    let conf = bastion.dir().join("people/alice.conf").display().to_string();
    let tools = [
        "exec ssh -T $F $TO cat",
        "exec ssh -T $F $TO",
        "exec ssh -T $F -s $TO sftp",
        "exec ssh -tt $F $TO cat",
        "exec sftp -q $F -b - $TO",
        "exec scp -q $F here $TO:there",
        "exec scp -q -O $F here $TO:there",
        "exec rsync -e \"ssh $F\" here $TO:there",
        "GIT_SSH_COMMAND=\"ssh $F\" exec git ls-remote ssh://$TO/there.git",
    ];
    let mut all = Vec::new();
    for way in Way::BOTH {
        let to = if way == Way::Jump { format!("{}@web-1", login()) } else { format!("{}=web-1@bastion", login()) };
        let jump = if way == Way::Jump { " -J bastion" } else { "" };
        for tool in tools {
            let mut command = bastion.sh("alice", tool);
            command.env("F", format!("-F {conf} -o SendEnv=LC_COUNTERSIGN_REASON -o ServerAliveInterval=1 -o ServerAliveCountMax=2{jump}"));
            command.env("TO", &to).env("LC_COUNTERSIGN_REASON", crate::harness::REASON);
            all.push((format!("{way:?} {tool}"), Client::start(command)));
        }
    }
    let mut requests = Vec::new();
    for (tool, client) in &all {
        client.reads_within("still waiting 0:08", std::time::Duration::from_secs(20));
        let said = client.err();
        assert!(said.lines().count() <= 3 && said.lines().all(|line| line.starts_with("countersign: ")), "{tool}: {said}");
        is_clean(tool, &client.out(), &said);
        requests.push(client.request());
    }
    requests.sort();
    requests.dedup();
    assert_eq!(requests.len(), 2, "one for file transfer, one for everything: {requests:?}");
    for request in &requests {
        bastion.says("bob", &["deny", request, "--note", "no"]).well();
    }
    for (tool, client) in all {
        let seen = client.ends();
        is_clean(&tool, &seen.out, &seen.err);
        assert!(seen.err.contains("denied by bob"), "{tool}: {seen:?}");
        let status = if tool.contains("exec ssh") { seen.status == 77 } else { seen.status != 0 };
        assert!(status, "{tool}: {seen:?}");
    }
    assert_eq!(bastion.target.logins(), 0);
}

/// 64, 69, 70, 75, 77 and 79, each said once on standard error.
#[test]
fn each_end_has_its_status() {
    let bastion = Bastion::with(Plan { tmpfs: Some(96), recordings: "free_floor_mb = 8\n".into(), ..Plan::default() });
    let ends = |way: Way, words: Vec<String>, status: i32, why: &str| {
        let mut all = vec!["-T".to_owned()];
        all.extend(words);
        let seen = bastion.run("alice", &all);
        assert!(seen.ends(status).contains(why), "{way:?} {seen:?}");
        is_clean(why, &seen.out, &seen.err);
    };
    let exec = |way: Way, target: &str| way.to(target).into_iter().chain(["cat".to_owned()]).collect::<Vec<_>>();
    let client = Client::start(bastion.ssh("alice", &exec(Way::Jump, "web-1")));
    bastion.says("bob", &["deny", &client.request(), "--note", "no"]).well();
    let seen = client.ends();
    assert!(seen.ends(77).contains("denied by bob"), "{seen:?}");
    for way in Way::BOTH {
        let malformed = match way {
            Way::Named => vec!["-l".to_owned(), "a b=web-1".into(), "bastion".into(), "cat".into()],
            Way::Jump => vec!["-Jbastion".into(), "-l".into(), "a b".into(), "web-1".into(), "cat".into()],
        };
        ends(way, malformed, 64, "countersign: ");
        ends(way, exec(way, "changed-1"), 69, "SHA256:");
        ends(way, exec(way, "quick-1"), 75, "in time");
        // A denial is good for a while, and says so to whoever comes again.
        let seen = bastion.run("alice", &exec(way, "web-1"));
        assert!(seen.ends(77).contains("--again"), "{way:?} {seen:?}");
        is_clean("denied", &seen.out, &seen.err);

        let mut running = Client::start(bastion.ssh("alice", &exec(way, "dev-1")));
        running.types(b"runs\n");
        running.gets("runs");
        let live = bastion.sessions().pop().unwrap()["session"].as_str().unwrap().to_owned();
        bastion.says("bob", &["kill", &live, "--reason", "enough"]).well();
        let seen = running.ends();
        assert_eq!((seen.status, seen.out().as_str()), (79, "runs\n"), "{way:?} {seen:?}");
        is_clean("killed", &[], &seen.err);
    }
    let dir = bastion.recordings();
    let mut ballast = std::fs::File::create(dir.join("ballast")).unwrap();
    let free = || rustix::fs::statvfs(&dir).map(|disk| disk.f_bavail * disk.f_frsize).unwrap();
    while free() > 4 << 20 {
        ballast.write_all(&vec![1; 1 << 18]).unwrap();
    }
    for way in Way::BOTH {
        ends(way, exec(way, "dev-1"), 70, "nearly full");
    }
}

/// What an editor does on a remote machine: a shell that a script feeds, killed while it is held, tried again by
/// hand, then kept open while much else runs on the same connection.
#[test]
fn an_editors_server_is_fed_by_a_script_and_tried_again() {
    let bastion = Bastion::start();
    let path = bastion.dir().join("cm").display().to_string();
    let connects = || {
        let mut words: Vec<String> = ["-T", "-M", "-S", &path, "-o", "ConnectTimeout=15"].map(String::from).into();
        words.extend(Way::Jump.to("web-1"));
        words.push("bash".into());
        Client::start(bastion.ssh("alice", &words))
    };
    let mut killed = connects();
    let request = killed.request();
    killed.types(b"echo never\n");
    let seen = killed.hangs_up();
    assert_eq!(seen.out(), "");
    until("nobody waits", crate::harness::SOON, || bastion.json("alice", &["show", &request]).to_string().contains("\"waiters\":0"));
    let card = bastion.says("bob", &["show", &request]).well();
    assert!(card.contains("left 0:"), "{card}");
    bastion.approve(&request, &[]);
    let _ = std::fs::remove_file(&path);

    let mut server = connects();
    server.types(b"set -e\nexec 2>&1\nuname -s\ncat <<'E' >server.sh\necho listening $1; while read x; do echo \"got $x\"; done\nE\nbash server.sh 4711\n");
    server.gets("Linux\nlistening 4711\n");
    let others: Vec<Client> = (0..8)
        .map(|n| {
            let mut words: Vec<String> = vec!["-S".into(), path.clone()];
            words.extend(Way::Jump.to("web-1"));
            words.push(format!("head -c {} /dev/zero | wc -c", (n + 1) * 100_000));
            Client::start(bastion.ssh("alice", &words))
        })
        .collect();
    server.types(b"one\n");
    server.gets("got one\n");
    for (n, client) in others.into_iter().enumerate() {
        assert_eq!(client.ends().well().trim(), ((n + 1) * 100_000).to_string());
    }
    server.types(b"two\n");
    server.gets("got two\n");
    assert_eq!(server.ends().status, 0);
    assert!(bastion.sessions().iter().all(|session| session["request"] == request.as_str()), "all on the one approval");
    assert_eq!(bastion.sessions().len(), 9);
}
