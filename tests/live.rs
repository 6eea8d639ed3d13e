//! Sessions while they run: who sees them, who looks on, who ends them.

use std::time::{Duration, Instant};

use crate::harness::{Bastion, Client, SOON, Terminal, login, program, until};

fn to(target: &str) -> String {
    format!("{}={target}@bastion", login())
}

/// alice's shell on dev-1, where policy asks nobody.
fn shell(bastion: &Bastion) -> Terminal {
    let terminal = Terminal::start(&bastion.ssh("alice", &[to("dev-1")]));
    terminal.sees("is recorded");
    terminal.types("PS1=; stty -echo; echo rea''dy\r");
    terminal.sees("ready");
    terminal
}

#[test]
fn a_session_without_a_grant_is_listed_and_killed() {
    let bastion = Bastion::start();
    let alice = shell(&bastion);
    alice.types("echo $$ >$HOME/pid; cat\r");
    let pid = bastion.dir().join("target/home/pid");
    until("the shell has written its number", SOON, || std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n')));

    // bob may end it but not replay it, and still sees it; mallory sees nothing.
    let live = bastion.json("bob", &["sessions", "--live"]);
    let one = &live["sessions"][0];
    assert_eq!(
        (one["person"].as_str(), one["request"].is_null(), one["live"]["bytes_out"].as_u64() > Some(0)),
        (Some("alice"), true, true)
    );
    let listed = bastion.run("bob", &["bastion", "sessions", "--live"]).well();
    for word in ["SESSION", "127.0.0.1", "@dev-1", "none needed", "IDLE", one["session"].as_str().unwrap()] {
        assert!(listed.contains(word), "{word} in {listed}");
    }
    // In colour on a terminal, unless the person said no; on a narrow one without what matters least.
    let look = |no_colour: &str| {
        let mut command = bastion.ssh("bob", &["-o", "SendEnv=NO_COLOR", "-t", "bastion", "sessions", "--live"]);
        let terminal = Terminal::start(command.env("NO_COLOR", no_colour));
        terminal.sees("alice");
        terminal.sees("  open");
        let screen = terminal.screen();
        assert_eq!(terminal.ends(), 0);
        screen
    };
    assert!(look("").contains("\u{1b}[32m"));
    let narrow = look("1");
    assert!(!narrow.contains('\u{1b}') && narrow.contains("ENDS") && !narrow.contains("KIND"), "{narrow}");
    assert!(bastion.says("mallory", &["sessions", "--live"]).well().contains("no session that you may see"));
    let id = one["session"].as_str().unwrap().to_owned();
    let refused = bastion.run("mallory", &["bastion", "kill", &id, "--reason", "mine"]);
    assert!(refused.ends(77).contains("is unknown or not yours"), "{refused:?}");
    assert_eq!(bastion.run("bob", &["bastion", "kill", &id]).status, 64, "nobody is cut off without a reason");

    let began = Instant::now();
    let killed = bastion.run("bob", &["bastion", "kill", "last", "--reason", "wrong host, sorry"]).well();
    assert!(killed.contains(&format!("killed {id}: alice on {}@dev-1", login())), "{killed}");
    alice.sees("countersign: ended by bob: wrong host, sorry");
    assert_eq!(alice.ends(), 79);
    assert!(began.elapsed() < Duration::from_secs(3), "both legs within 2 s, and the way there: {:?}", began.elapsed());
    let process = format!("/proc/{}", std::fs::read_to_string(&pid).unwrap().trim());
    until("what ran on the target has gone", SOON, || !std::path::Path::new(&process).exists());

    let sealed = bastion.sealed();
    assert_eq!(sealed["outcome"], "killed by bob: wrong host, sorry");
    bastion.audited_with("session.kill", &[&id, "bob", "wrong host"]);
    let again = bastion.says("bob", &["kill", &id, "--reason", "again"]);
    assert!(again.ends(77).contains("has ended (killed by bob: wrong host, sorry)"), "{again:?}");
}

#[test]
fn a_shell_is_watched_and_its_person_knows() {
    let bastion = Bastion::start();
    let alice = shell(&bastion);
    alice.types("printf 'be''fore \\033[31mred\\033[0m \\033]0;title\\007\\n'\r");
    alice.sees("before");
    let refused = bastion.run("mallory", &["bastion", "watch", "last"]);
    assert!(refused.ends(77).contains("last is none"), "{refused:?}");

    // Late, in a terminal of the stock client: the picture as it is, and then what comes.
    let bob = Terminal::start(&bastion.ssh("bob", &["-t", "bastion", "watch", "last"]));
    bob.sees("watching alice");
    bob.sees("before");
    assert!(!bob.screen().contains("title"), "{}", bob.screen());
    alice.sees("countersign: bob watches this session");
    assert_eq!(bastion.json("carol", &["sessions", "--live"])["sessions"][0]["live"]["watchers"], serde_json::json!(["bob"]));
    // Beside it the companion, as lines, and as JSON.
    let carol = Client::start(bastion.companion("carol", &["watch", "last"]));
    carol.reads("watching alice");
    let json = Client::start(bastion.companion("carol", &["watch", "last", "--json"]));
    json.gets("\"watch\"");
    alice.types("echo af''ter; echo never-$((1+1))\r");
    alice.sees("never-2");
    bob.sees("after");
    bob.sees("never-2");
    bob.types("q");
    assert_eq!(bob.ends(), 0);
    alice.sees("countersign: bob no longer watches");
    alice.types("exit 4\r");
    assert_eq!(alice.ends(), 4);
    let seen = carol.ends();
    assert!(seen.out().contains("before red\n") && seen.out().contains("after\nnever-2\n"), "{seen:?}");
    assert!(seen.out().ends_with("-- exited 4\n") && !seen.out.contains(&0x1b), "{seen:?}");
    let events = json.ends().well();
    let last: serde_json::Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!(last["seen"].as_array().unwrap().last().unwrap()["outcome"], "exited 4", "{events}");
    let watched = bastion.audit().into_iter().filter(|(name, facts)| name == "session.watch" && facts["of"] == "alice").count();
    assert_eq!(watched, 3, "each watcher, and not whom it was refused to");
    let over = bastion.run("bob", &["bastion", "watch", "last"]);
    assert!(over.ends(77).contains("nothing runs"), "{over:?}");
}

#[test]
fn a_command_is_watched_as_events() {
    let bastion = Bastion::start();
    let request = bastion.open_grant(&[]);
    let mut alice = Client::start(bastion.ssh("alice", &[to("web-1"), "echo one; read x; echo got $x".into()]));
    alice.gets("one");
    let bob = Client::start(bastion.ssh("bob", &["bastion".to_owned(), "watch".into(), request]));
    bob.gets("out 4 bytes: one");
    alice.types(b"secret\n");
    let seen = bob.ends();
    assert!(seen.out().contains("in 7 bytes\n") && !seen.out().contains("in 7 bytes: "), "input is counted: {seen:?}");
    assert!(seen.out().contains("out 11 bytes: got secret") && seen.out().contains("-- exited 0"), "{seen:?}");
    assert!(seen.err.contains("watching alice"), "{seen:?}");
    alice.ends().well();
}

#[test]
fn manual_pages_are_roff_and_completions_are_shell() {
    let dir = tempfile::tempdir().unwrap();
    let countersign = || std::process::Command::new(env!("CARGO_BIN_EXE_countersign"));
    let made = Client::start({
        let mut command = countersign();
        command.arg("man").arg(dir.path());
        command
    });
    assert!(made.ends().well().contains("man -l"));
    let pages: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(pages.len() > 30 && pages.contains(&dir.path().join("countersign-watch.1")), "{pages:?}");
    let mut groff = std::process::Command::new(program("groff"));
    let read = groff.args(["-man", "-ww", "-Tutf8", "-K", "utf8"]).args(&pages).output().unwrap();
    assert!(read.status.success() && read.stderr.is_empty(), "{}", String::from_utf8_lossy(&read.stderr));
    assert!(String::from_utf8_lossy(&read.stdout).contains("Look on while a session runs"));
    for shell in ["bash", "zsh", "fish"] {
        let mut command = countersign();
        command.args(["completions", shell]);
        let script = Client::start(command).ends().well();
        assert!(script.contains("sessions") && script.contains("approve"), "{shell}");
        if shell == "bash" {
            let file = dir.path().join("countersign.bash");
            std::fs::write(&file, script).unwrap();
            let asks = format!(
                ". {}; COMP_WORDS=(countersign wa); COMP_CWORD=1; _countersign countersign wa countersign; echo ${{COMPREPLY[@]}}",
                file.display()
            );
            let completed = std::process::Command::new("bash").args(["-c", &asks]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "watch", "{completed:?}");
        }
    }
}
