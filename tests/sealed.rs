//! Recordings as evidence: opened by stock tools, verified by nobody's word, gone on their day.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::{Bastion, Client, Plan, SOON, login, program, python, until};

/// Seconds instead of years.
const MOMENTS: &str = "grace = \"1s\"\n[schedules.short]\nkeep_at_least = \"1s\"\ndelete_after = \"2s\"\n";

fn to(target: &str) -> String {
    format!("{}={target}@bastion", login())
}

/// Runs a command on dev-1, which needs nobody, and waits for its sealed recording.
fn recorded(bastion: &Bastion, command: &str) -> serde_json::Value {
    let known = bastion.sessions().len();
    bastion.run("alice", &[to("dev-1"), command.into()]);
    until("it is listed", SOON, || bastion.sessions().len() > known);
    bastion.sealed()
}

fn id(session: &serde_json::Value) -> String {
    session["session"].as_str().unwrap().to_owned()
}

/// The body, and a file beside it.
fn body(bastion: &Bastion, session: &serde_json::Value) -> PathBuf {
    bastion.recordings().join(session["sealed"]["file"].as_str().unwrap())
}

fn beside(body: &Path, extension: &str) -> PathBuf {
    PathBuf::from(format!("{}{extension}", body.to_str().unwrap().strip_suffix(".cast.zst.age").unwrap()))
}

fn stock(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn stock_tools_alone_read_verify_and_play_it() {
    let bastion = Bastion::start();
    let session = recorded(&bastion, "printf 'bytes \\377\\000 and\\n'; echo apart >&2");
    let body = body(&bastion, &session);

    let cast = bastion.opened(session["sealed"]["file"].as_str().unwrap());
    std::fs::write(bastion.dir().join("one.cast"), cast).unwrap();
    // asciinema wants a terminal.
    let cat = format!("asciinema cat {}", bastion.dir().join("one.cast").display());
    let played = stock(Command::new(program("script")).args(["-qec", &cat, "/dev/null"]).env("LC_ALL", "C.UTF-8"));
    assert!(played.contains("bytes") && played.contains("apart"), "{played}");

    let signers = bastion.dir().join("allowed_signers");
    let seal_key = bastion.dir().join("bastion/keys/seal_key.pub");
    std::fs::write(&signers, format!("test {}\n", std::fs::read_to_string(&seal_key).unwrap().trim())).unwrap();
    let mut keygen = Command::new(program("ssh-keygen"));
    keygen.args(["-Y", "verify", "-n", "countersign-recording-v1", "-I", "test", "-f"]).arg(&signers);
    keygen.arg("-s").arg(beside(&body, ".json.sig")).stdin(std::fs::File::open(beside(&body, ".json")).unwrap());
    assert!(stock(&mut keygen).contains("Good"));

    let rebuilt = bastion.dir().join("rebuilt");
    std::fs::create_dir(&rebuilt).unwrap();
    let key = bastion.key_files().join(session["sealed"]["file"].as_str().unwrap().strip_prefix("sealed/").unwrap());
    let independent = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/independent/read.py");
    let mut read = Command::new(python());
    read.arg(independent).arg("--body").arg(&body).arg("--key-file").arg(beside(&key, ".key.age"));
    read.arg("--identity").arg(bastion.key_of("carol")).arg("--manifest").arg(beside(&body, ".json"));
    read.arg("--signature").arg(beside(&body, ".json.sig")).arg("--allowed-signers").arg(&signers).arg("--out").arg(&rebuilt);
    stock(&mut read);
    assert_eq!(std::fs::read(rebuilt.join("out")).unwrap(), b"bytes \xff\0 and\n");
    assert_eq!(std::fs::read(rebuilt.join("err")).unwrap(), b"apart\n");
}

#[test]
fn a_thief_of_the_disk_reads_nothing() {
    let bastion = Bastion::start();
    let canary = "canary-of-the-thief-4711";
    recorded(&bastion, &format!("echo {canary}; echo {canary} >&2"));
    // The database keeps the digest of a command, never its text.
    until("the spool is gone", SOON, || std::fs::read_dir(bastion.recordings().join("spool")).unwrap().next().is_none());
    let mut look = vec![bastion.dir().join("bastion")];
    while let Some(path) = look.pop() {
        if path.is_dir() {
            look.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(canary.len()).any(|window| window == canary.as_bytes()), "{} shows it", path.display());
    }
}

#[test]
fn verify_names_what_was_done_to_a_recording() {
    let bastion = Bastion::start();
    let (one, two) = (recorded(&bastion, "echo one"), recorded(&bastion, "echo two"));
    let verify = |session: &serde_json::Value| bastion.says("carol", &["verify", &id(session)]);
    assert!(verify(&one).well().contains(": good: alice"));
    let bad = |what: &str| {
        let seen = verify(&one);
        assert!(seen.status == 1 && seen.out().contains("BAD") && seen.out().contains(what), "{what}: {seen:?}");
    };
    let restore = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).unwrap();

    let path = body(&bastion, &one);
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    restore(&path, &flipped);
    bad("the body is not the one that was sealed");
    restore(&path, &whole[..whole.len() - 1]);
    bad("it was cut");
    restore(&path, &std::fs::read(body(&bastion, &two)).unwrap());
    bad("the body");
    restore(&path, &whole);

    // Another session's files in this one's place, all of them together: only the log can tell.
    for extension in [".json", ".json.sig"] {
        let (own, other) = (beside(&path, extension), beside(&body(&bastion, &two), extension));
        let kept = std::fs::read(&own).unwrap();
        restore(&own, &std::fs::read(&other).unwrap());
        bad("not signed");
        restore(&own, &kept);
    }
    let swapped: Vec<(PathBuf, Vec<u8>)> = ["", ".json", ".json.sig"]
        .iter()
        .map(|extension| {
            let (own, other) = match *extension {
                "" => (path.clone(), body(&bastion, &two)),
                extension => (beside(&path, extension), beside(&body(&bastion, &two), extension)),
            };
            let kept = std::fs::read(&own).unwrap();
            restore(&own, &std::fs::read(other).unwrap());
            (own, kept)
        })
        .collect();
    bad("");
    swapped.iter().for_each(|(path, bytes)| restore(path, bytes));

    std::fs::remove_file(&path).unwrap();
    assert_ne!(verify(&one).status, 0);
    let all = bastion.says("carol", &["verify", "--all"]);
    assert!(all.status != 0, "{all:?}");
    restore(&path, &whole);
    let all = bastion.says("carol", &["verify", "--all"]);
    assert!(all.well().contains("2 verified: 2 good, 0 lawfully gone, 0 bad"), "{all:?}");
}

#[test]
fn a_recording_goes_on_its_day_and_a_held_one_does_not() {
    let bastion = Bastion::with(Plan { retention: Some(MOMENTS), ..Plan::default() });
    let (goes, stays) = (recorded(&bastion, "echo goes"), recorded(&bastion, "echo stays"));
    let copy = std::fs::read(body(&bastion, &goes)).unwrap();
    let held = bastion.says("carol", &["hold", &id(&stays), "--reason", "LIT-14 asked for it"]);
    assert!(held.well().contains("1 held"), "{held:?}");

    until("one is gone", Duration::from_secs(60), || {
        bastion.says("carol", &["retention", "run"]).well();
        bastion.audit().iter().any(|(name, _)| name == "session.dispose")
    });
    let key = bastion.key_files().join(goes["sealed"]["file"].as_str().unwrap().strip_prefix("sealed/").unwrap());
    assert!(!beside(&key, ".key.age").exists() && !body(&bastion, &goes).exists());
    let seen = bastion.says("carol", &["verify", &id(&goes)]);
    assert!(seen.well().contains("gone on schedule short"), "{seen:?}");
    let replay = bastion.says("carol", &["replay", &id(&goes)]);
    assert!(replay.status == 77 && replay.err.contains("has gone on schedule"), "{replay:?}");

    // A copy that somebody made of the body is worth nothing: its key is nowhere any more.
    let kept = bastion.dir().join("copy.cast.zst.age");
    std::fs::write(&kept, copy).unwrap();
    let mut age = Command::new(program("age"));
    age.arg("-d").arg("-i").arg(bastion.key_of("carol")).arg(&kept);
    assert!(!age.output().unwrap().status.success());

    let stays = id(&stays);
    assert!(bastion.says("carol", &["verify", &stays]).well().contains("whole"));
    assert!(bastion.says("carol", &["retention", "plan"]).well().contains("held"));
    bastion.says("alice", &["release", &stays, "--reason", "mine"]).ends(77);
    bastion.says("carol", &["release", &stays, "--reason", "settled"]).well();
    until("the other is gone too", Duration::from_secs(60), || {
        bastion.says("carol", &["retention", "run"]).well();
        bastion.audit().iter().filter(|(name, _)| name == "session.dispose").count() == 2
    });
    let all = bastion.says("carol", &["verify", "--all"]);
    assert!(all.well().contains("2 lawfully gone, 0 bad"), "{all:?}");
}

#[test]
fn a_hold_by_conditions_reaches_what_comes_later() {
    let bastion = Bastion::with(Plan { retention: Some(MOMENTS), ..Plan::default() });
    let gone = recorded(&bastion, "echo before");
    until("it is gone", Duration::from_secs(60), || {
        bastion.says("carol", &["retention", "run"]).well();
        bastion.audit().iter().any(|(name, _)| name == "session.dispose")
    });
    let held = bastion.says("carol", &["hold", "--case", "LIT-14", "--person", "alice", "--target", "dev-*", "--reason", "asked for"]);
    assert!(held.well().contains(&format!("0 held, 1 already lawfully gone (certificates {})", id(&gone))), "{held:?}");
    assert!(bastion.says("carol", &["hold", "--reason", "everything"]).ends(64).contains("a hold needs a condition"));
    let later = recorded(&bastion, "echo later");
    std::thread::sleep(Duration::from_secs(5));
    bastion.says("carol", &["retention", "run"]).well();
    assert!(bastion.says("carol", &["replay", &id(&later)]).well().contains("later"));
    assert!(bastion.says("carol", &["retention", "plan"]).well().contains("held: LIT-14"));
}

/// Changes the database as somebody with root would.
fn meddles(bastion: &Bastion, sql: &str) {
    let script = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1])\nc.executescript('drop trigger audit_keeps; drop trigger audit_forgets_nothing; drop trigger checkpoints_forget_nothing;'+sys.argv[2])\nc.commit()";
    stock(Command::new(program("python3")).args(["-c", script]).arg(bastion.state().join("countersign.db")).arg(sql));
}

#[test]
fn rows_that_root_edits_deletes_or_reorders_are_named() {
    let forge = "update audit set line = replace(line, 'alice', 'mallo') where seq = 2;";
    let delete = "delete from audit where seq = 3;";
    let swap = "update audit set seq = -1 where seq = 2; update audit set seq = 2 where seq = 3; update audit set seq = 3 where seq = -1;";
    for (sql, named) in [(forge, "row 2"), (delete, "row 3 is missing"), (swap, "row 2")] {
        let mut bastion = Bastion::start();
        recorded(&bastion, "true");
        bastion.says("carol", &["audit", "verify"]).well();
        meddles(&bastion, sql);
        let seen = bastion.says("carol", &["audit", "verify"]);
        assert!(seen.status == 1 && seen.err.contains(named), "{sql}: {seen:?}");
        // Who has the rows back in order for the tree's sake is found by their text, offline.
        bastion.dies();
        let started = bastion.try_serve_under(&[]);
        assert!(started.is_err() == (sql != forge), "a log with a hole is not served: {}", bastion.log());
    }
}

#[test]
fn yesterdays_database_is_refused_by_the_bastion_and_by_companions() {
    let mut bastion = Bastion::start();
    recorded(&bastion, "echo monday");
    bastion.says("carol", &["whoami"]).well();
    bastion.stops();
    let yesterday: Vec<(PathBuf, Vec<u8>)> = std::fs::read_dir(bastion.state())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("countersign.db")))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    let copy = bastion.recordings().join("log.checkpoint");
    let old_copy = std::fs::read(&copy).unwrap();
    bastion.serve();
    recorded(&bastion, "echo tuesday");
    bastion.says("carol", &["verify", "last"]).well();
    bastion.stops();
    for entry in std::fs::read_dir(bastion.state()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("countersign.db")) {
            std::fs::remove_file(path).unwrap();
        }
    }
    for (path, bytes) in &yesterday {
        std::fs::write(path, bytes).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    assert!(bastion.try_serve_under(&[]).is_err());
    assert!(bastion.log().contains("the database is older than the recordings"), "{}", bastion.log());
    // Whoever also puts the copy back deceives the bastion, and not those who have seen more.
    std::fs::write(&copy, old_copy).unwrap();
    bastion.serve();
    let seen = bastion.says("carol", &["sessions"]);
    assert!(seen.status != 0 && seen.err.contains("went back"), "{seen:?}");
}

#[test]
fn an_exported_log_is_verified_offline() {
    let bastion = Bastion::start();
    recorded(&bastion, "true");
    let export = bastion.says("carol", &["audit", "export"]).well();
    let file = bastion.dir().join("log.jsonl");
    std::fs::write(&file, &export).unwrap();
    let offline = |file: &Path| {
        let mut companion = bastion.companion("carol", &["audit", "verify", file.to_str().unwrap()]);
        companion.env_remove("COUNTERSIGN_BASTION").env("COUNTERSIGN_SSH", "false");
        Client::start(companion).ends()
    };
    assert!(offline(&file).well().contains("the log is whole"));
    std::fs::write(&file, export.replacen("dev-1", "web-1", 1)).unwrap();
    assert_eq!(offline(&file).status, 1);
    bastion.says("alice", &["audit", "export"]).ends(77);
    let stock_client = bastion.run("carol", &["bastion", "audit export"]);
    assert!(stock_client.well().starts_with("{\"countersign_log\":1"), "{stock_client:?}");
}

#[test]
fn a_recording_that_is_merely_not_shown_is_missed() {
    let mut bastion = Bastion::start();
    let hidden = id(&recorded(&bastion, "echo one"));
    recorded(&bastion, "echo two");
    let seen = bastion.says("carol", &["verify", "--all"]);
    assert!(seen.well().contains("2 verified: 2 good"), "{seen:?}");

    bastion.stops();
    meddles(&bastion, &format!("delete from sessions where id = '{hidden}';"));
    bastion.serve();
    let seen = bastion.says("carol", &["verify", "--all"]);
    seen.ends(1);
    assert!(seen.out().contains(&format!("{hidden}: BAD: row")) && seen.out().contains("it is not shown"), "{seen:?}");
}

#[test]
fn a_day_that_was_moved_in_the_database_erases_nothing() {
    let long = "grace = \"1s\"\n[schedules.short]\nkeep_at_least = \"1d\"\ndelete_after = \"2d\"\n";
    let mut bastion = Bastion::with(Plan { retention: Some(long), ..Plan::default() });
    let session = recorded(&bastion, "echo early");
    bastion.stops();
    let early = format!("update sessions set due = 1, keep_until = 1, marked = 2, marked_uptime = 0 where id = '{}';", id(&session));
    meddles(&bastion, &early);
    bastion.serve();
    until("it is found out", Duration::from_secs(60), || {
        bastion.says("carol", &["retention", "run"]).well();
        bastion.audit().iter().any(|(name, facts)| name == "session.unverified" && facts.to_string().contains("another day"))
    });
    assert!(body(&bastion, &session).exists());
    assert!(bastion.says("carol", &["verify", &id(&session)]).well().contains("whole"));
}

#[test]
fn nobody_but_an_auditor_opens_it() {
    let bastion = Bastion::start();
    let session = recorded(&bastion, "echo secret");
    bastion.says("bob", &["replay", &id(&session)]).ends(77);
    // carol may, but with another key she cannot.
    let companion = bastion.companion("carol", &["replay", &id(&session)]);
    let mut again = Command::new(env!("CARGO_BIN_EXE_countersign"));
    again.args(["--key"]).arg(bastion.key_of("bob")).args(["replay", &id(&session)]);
    for (name, value) in companion.get_envs() {
        if let Some(value) = value {
            again.env(name, value);
        }
    }
    let seen = Client::start(again).ends();
    assert!(seen.status != 0 && seen.err.contains("is not one of them"), "{seen:?}");
    let console = bastion.run("carol", &["bastion", &format!("replay {}", id(&session))]);
    assert!(console.ends(77).contains("plays on your machine only"), "{console:?}");
}

#[test]
fn the_policies_of_an_old_recording_can_still_be_read() {
    let bastion = Bastion::start();
    let session = recorded(&bastion, "true");
    let seal = bastion.audit().into_iter().find(|(name, facts)| name == "session.seal" && facts["session"] == session["session"]);
    let digest = seal.unwrap().1["retention"]["policy"].as_str().unwrap().to_owned();
    let file = bastion.policy_file("access.cedar");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{before}\n// edited\n")).unwrap();
    bastion.reloads();
    until("it was read again", SOON, || bastion.audit().iter().any(|(name, _)| name == "policy.reload"));
    let shown = bastion.says("carol", &["policy", "show", &digest[..12]]).well();
    assert!(shown.contains("@id(\"engineers\")") && !shown.contains("// edited"), "{shown}");
    bastion.says("alice", &["policy", "show", &digest]).ends(77);
}

#[test]
fn an_auditor_proves_that_the_key_is_not_lost() {
    let bastion = Bastion::start();
    assert!(bastion.says("carol", &["auditors", "list"]).well().contains("never"));
    bastion.says("carol", &["auditors", "prove"]).well();
    assert!(!bastion.says("carol", &["auditors", "list"]).well().contains("never"));
    bastion.audited("auditor.prove", "carol");
    bastion.says("alice", &["auditors", "prove"]).ends(77);
    bastion.says("alice", &["auditors", "list"]).ends(77);
}
