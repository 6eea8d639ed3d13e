//! `kill -9` in the middle of sessions, and a disk that is full: what was seen is in the recording.

use std::path::Path;
use std::time::Duration;

use crate::harness::{Bastion, Client, Dice, Plan, SOON, Terminal, login, until};

const KILLS: usize = 100;

#[test]
fn what_a_client_saw_survives_a_kill() {
    let mut bastion = Bastion::start();
    bastion.open_grant(&["--for", "1h"]);
    let mut dice = Dice::new(9);
    for kill in 0..KILLS {
        let known = bastion.sessions().len();
        let to = format!("{}=web-1@bastion", login());
        // A command's output, and a terminal's on every fifth turn.
        let command = Client::start(bastion.ssh("alice", &[to.clone(), "while :; do echo line $((n+=1)); done".into()]));
        let terminal = (kill % 5 == 0)
            .then(|| Terminal::start(&bastion.ssh("alice", &["-tt".into(), to, "while :; do echo turn $((n+=1)); done".into()])));
        if let Some(terminal) = &terminal {
            terminal.sees("turn 9");
        }
        let enough = 1 + dice.below(400_000) as usize;
        command.gets_bytes(enough, SOON);

        bastion.dies();

        let seen = command.ends();
        assert_ne!(seen.status, 0);
        let screen = terminal.map(|terminal| (terminal.screen(), terminal.ends()));
        bastion.serve();
        let sessions = bastion.sessions();
        assert_eq!(sessions.len(), known + 1 + usize::from(screen.is_some()), "kill {kill}");
        let mut outputs: Vec<Vec<u8>> = sessions[known..].iter().map(|session| interrupted(&bastion, session)).collect();
        holds(&mut outputs, &seen.out, kill);
        if let Some((screen, _)) = screen {
            // What the client itself says of its lost connection is not the session's.
            let said = ["Connection ", "client_loop: "].iter().filter_map(|word| screen.find(word)).min().unwrap_or(screen.len());
            holds(&mut outputs, &screen.as_bytes()[..said], kill);
        }
    }
}

/// One of the recordings begins with all that was seen; it is taken away.
fn holds(outputs: &mut Vec<Vec<u8>>, seen: &[u8], kill: usize) {
    let at = outputs.iter().position(|output| output.starts_with(seen));
    let at = at.unwrap_or_else(|| {
        let lengths: Vec<usize> = outputs.iter().map(Vec::len).collect();
        let tail = String::from_utf8_lossy(&seen[seen.len().saturating_sub(60)..]).into_owned();
        panic!("kill {kill}: {} bytes were seen (…{tail:?}), the recordings have {lengths:?}", seen.len())
    });
    outputs.remove(at);
}

/// The output of a session that recovery has sealed as interrupted.
fn interrupted(bastion: &Bastion, session: &serde_json::Value) -> Vec<u8> {
    assert!(session["outcome"].as_str().is_some_and(|outcome| outcome.contains("interrupted")), "{session}");
    let file = session["sealed"]["file"].as_str().unwrap_or_else(|| panic!("not sealed: {session}"));
    output_of(&bastion.opened(file))
}

/// Rebuilds standard output from asciicast v2 lines.
fn output_of(text: &str) -> Vec<u8> {
    let mut lines =
        text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    let header = lines.next().expect("a header");
    assert_eq!(header["version"], 2);
    let in_terminal = header["env"]["TERM"].is_string();
    let base64 = |text: &str| data_encoding::BASE64.decode(text.as_bytes()).expect("base 64");
    let mut output = Vec::new();
    // What is drawn differently than it came is announced by a `q` with the stream and the bytes.
    let mut announced: Option<serde_json::Value> = None;
    for event in lines {
        let text = event[2].as_str().expect("text");
        let own = || serde_json::from_str::<serde_json::Value>(text).expect("JSON inside");
        match event[1].as_str().expect("a code") {
            "q" => announced = Some(own()),
            "b" if own()["stream"] == "out" => output.extend(base64(own()["b64"].as_str().expect("bytes"))),
            "o" => match announced.take() {
                Some(other) if other["stream"] != "out" => {}
                Some(ours) if ours["b64"].is_string() => output.extend(base64(ours["b64"].as_str().unwrap_or_default())),
                Some(_) | None if in_terminal => output.extend(text.as_bytes()),
                Some(_) | None => output.extend(text.replace("\r\n", "\n").as_bytes()),
            },
            _ => {}
        }
    }
    output
}

#[test]
fn a_full_disk_ends_sessions_with_a_message() {
    let bastion = Bastion::with(Plan { tmpfs: Some(200), ..Plan::default() });
    let to = format!("{}=dev-1@bastion", login());
    let talks = "echo before; while head -c 3000 /dev/urandom | base64; do sleep 0.01; done";
    let mut commands: Vec<Client> = (0..18).map(|_| Client::start(bastion.ssh("alice", &[to.clone(), talks.into()]))).collect();
    // One of them fast.
    commands.push(Client::start(
        bastion.ssh("alice", &[to.clone(), "echo before; while head -c 100000 /dev/urandom | base64; do :; done".into()]),
    ));
    let terminal = Terminal::start(&bastion.ssh("alice", &["-tt".into(), to.clone(), talks.into()]));
    commands.iter().for_each(|command| command.gets("before"));
    terminal.sees("before");

    fill(&bastion.recordings().join("ballast"));

    let mut seen: Vec<Vec<u8>> = Vec::new();
    for command in commands {
        let ended = command.ends_within(Duration::from_secs(60));
        assert!(ended.ends(70).lines().any(|line| line.starts_with("countersign: ")), "{}", ended.err);
        seen.push(ended.out);
    }
    terminal.sees_within("countersign: ", Duration::from_secs(60));
    assert_eq!(terminal.ends(), 70);
    let refused = bastion.run("alice", &[to.clone(), "true".into()]);
    assert_eq!(refused.status, 70, "no recording, no session: {refused:?}");

    std::fs::remove_file(bastion.recordings().join("ballast")).unwrap();
    until("there is room again", SOON, || bastion.run("alice", &[to.clone(), "true".into()]).status == 0);
    // What there was no room to seal is sealed by itself now.
    let spools = || std::fs::read_dir(bastion.recordings().join("spool")).unwrap().count();
    until("everything is sealed", Duration::from_secs(90), || spools() == 0);
    let mut recorded: Vec<Vec<u8>> = bastion
        .sessions()
        .iter()
        .filter_map(|session| session["sealed"]["file"].as_str().map(|file| output_of(&bastion.opened(file))))
        .collect();
    for out in seen {
        // Of a stream without a terminal ten megabytes are kept in full.
        let kept = out.len().min(10 << 20);
        let at = recorded.iter().position(|output| output.starts_with(&out[..kept]));
        recorded.remove(
            at.unwrap_or_else(|| panic!("{kept} bytes were seen, recorded are {:?}", recorded.iter().map(Vec::len).collect::<Vec<_>>())),
        );
    }
    assert!(bastion.says("carol", &["verify", "--all"]).well().contains(" 0 bad"));
}

/// Takes all the room that is left.
fn fill(ballast: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(ballast).unwrap();
    for size in [1 << 20, 4096, 1] {
        let block = vec![0; size];
        while file.write_all(&block).and_then(|()| file.flush()).is_ok() {}
    }
}

/// Moments instead of years: in this test recordings are sealed, marked and erased all the time.
const MOMENTS: &str = "grace = \"1s\"\n[schedules.short]\nkeep_at_least = \"1s\"\ndelete_after = \"2s\"\n";

#[test]
fn kills_during_sealing_and_disposal_leave_no_orphan_and_one_certificate_each() {
    let mut bastion = Bastion::with(Plan { retention: Some(MOMENTS), ..Plan::default() });
    let mut dice = Dice::new(23);
    let to = format!("{}=dev-1@bastion", login());
    for kill in 0..KILLS {
        // Short ones that end and are sealed, a bulk one, a terminal; and carol's sweep.
        let mut clients: Vec<Client> =
            (0..3).map(|n| Client::start(bastion.ssh("alice", &[to.clone(), format!("echo short {n}; sleep 0.0{n}")]))).collect();
        clients.push(Client::start(bastion.ssh("alice", &[to.clone(), "head -c 3000000 /dev/zero".into()])));
        let terminal = Terminal::start(&bastion.ssh("alice", &["-tt".into(), to.clone(), "echo on a terminal; sleep 0.05".into()]));
        let sweep = Client::start(bastion.companion("carol", &["retention", "run"]));
        // The grace counts the time that the bastion runs, so on every fifth turn it runs for a while.
        let longer = if kill % 5 == 4 { 1800 } else { 0 };
        let mut more = Vec::new();
        for _ in 0..longer / 300 {
            std::thread::sleep(Duration::from_millis(300));
            more.push(Client::start(bastion.companion("carol", &["retention", "run"])));
        }
        std::thread::sleep(Duration::from_millis(dice.below(450)));

        bastion.dies();

        drop((clients, terminal));
        more.into_iter().for_each(|sweep| drop(sweep.hangs_up()));
        sweep.hangs_up();
        bastion.serve();
    }
    let quiet = || std::fs::read_dir(bastion.recordings().join("spool")).unwrap().count() == 0;
    until("everything is sealed", SOON, quiet);
    crate::faults::no_orphans(&bastion);
    let rows = bastion.audit();
    let of = |name: &str| -> Vec<String> {
        rows.iter().filter(|(found, _)| found == name).map(|(_, facts)| facts["session"].as_str().unwrap().to_owned()).collect()
    };
    let (opened, ended, disposed) = (of("session.open"), of("session.end"), of("session.dispose"));
    assert_eq!(opened.len(), ended.len(), "every session that was opened has ended once");
    let once: std::collections::BTreeSet<&String> = disposed.iter().collect();
    assert_eq!(once.len(), disposed.len(), "one certificate per disposal");
    assert!(disposed.len() > 20, "disposal was under way: {}", disposed.len());
    let recovery = std::fs::read_dir(bastion.recordings().join("recovery")).unwrap().count();
    assert_eq!(recovery, 1, "only this boot's recovery key is left");
    let all = bastion.says("carol", &["verify", "--all"]);
    assert!(all.well().contains(" 0 bad"), "{all:?}");
    bastion.says("carol", &["audit", "verify"]).well();
}
