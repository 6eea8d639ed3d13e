//! Auditors and their keys: one who comes later, what a crash leaves to them, a target that has left.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::{Bastion, Client, Plan, SOON, Seen, login, program, public, until};

fn to(target: &str) -> String {
    format!("{}={target}@bastion", login())
}

fn recorded(bastion: &Bastion, command: &str) -> serde_json::Value {
    let known = bastion.sessions().len();
    bastion.run("alice", &[to("dev-1"), command.into()]);
    until("it is listed", SOON, || bastion.sessions().len() > known);
    bastion.sealed()
}

fn id(session: &serde_json::Value) -> String {
    session["session"].as_str().unwrap().to_owned()
}

fn file(session: &serde_json::Value) -> &str {
    session["sealed"]["file"].as_str().unwrap()
}

fn key_file(bastion: &Bastion, session: &serde_json::Value) -> PathBuf {
    let dated = file(session).strip_prefix("sealed/").unwrap().strip_suffix(".cast.zst.age").unwrap();
    bastion.key_files().join(format!("{dated}.key.age"))
}

/// Edits a file of the directory and waits until it was read again.
fn edits(bastion: &Bastion, file: &Path, from: &str, to: &str) {
    let loads = || bastion.log().matches("countersign: reloaded").count();
    let (known, text) = (loads(), std::fs::read_to_string(file).unwrap());
    assert!(text.contains(from), "{from} is not in {text}");
    std::fs::write(file, text.replacen(from, to, 1)).unwrap();
    bastion.reloads();
    until("it was read again", SOON, || loads() > known);
}

fn names_auditor(bastion: &Bastion, name: &str, key: &str) {
    let settings = bastion.dir().join("bastion/countersign.toml");
    edits(bastion, &settings, "[recordings.auditors]\n", &format!("[recordings.auditors]\n{name} = \"{key}\"\n"));
}

/// `age -d` with a key; nothing if it does not open.
fn age(identity: &Path, file: &Path) -> Option<Vec<u8>> {
    let output = Command::new(program("age")).arg("-d").arg("-i").arg(identity).arg(file).output().unwrap();
    output.status.success().then_some(output.stdout)
}

/// A recording's transcript, by stock tools alone, with this key.
fn reads(bastion: &Bastion, identity: &Path, session: &serde_json::Value) -> Option<String> {
    let own = bastion.dir().join("own-of-it.key");
    std::fs::write(&own, age(identity, &key_file(bastion, session))?).unwrap();
    let packed = age(&own, &bastion.recordings().join(file(session)))?;
    Some(String::from_utf8(zstd::stream::decode_all(&packed[..]).unwrap()).unwrap())
}

/// What a program of somebody's own says on the wire, and what it hears.
fn on_the_wire(bastion: &Bastion, person: &str, calls: &[serde_json::Value]) -> Seen {
    let mut client = Client::start(bastion.ssh(person, &["-T", "-s", "bastion", "countersign-v1"]));
    for (id, args) in calls.iter().enumerate() {
        let call = serde_json::json!({ "v": 1, "id": id, "verb": "keys", "args": args });
        client.types(format!("{call}\n").as_bytes());
    }
    client.ends()
}

fn base64(bytes: &[u8]) -> String {
    data_encoding::BASE64.encode(bytes)
}

fn sha256(path: &Path) -> String {
    let output = Command::new(program("sha256sum")).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// A file encrypted by the stock `age`.
fn wrapped(to: &[&str], text: &str) -> Vec<u8> {
    let mut command = Command::new(program("age"));
    for key in to {
        command.arg("-r").arg(key);
    }
    let mut client = Client::fed(command, std::process::Stdio::piped());
    client.types(text.as_bytes());
    let seen = client.ends();
    assert_eq!(seen.status, 0, "{seen:?}");
    seen.out
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn an_auditor_who_comes_later_reads_what_was_recorded_before() {
    let bastion = Bastion::start();
    let vault = bastion.dir().join("vault.key");
    assert!(Command::new(program("age-keygen")).arg("-o").arg(&vault).output().unwrap().status.success());
    let text = std::fs::read_to_string(&vault).unwrap();
    names_auditor(&bastion, "vault", text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap());
    let sessions: Vec<_> = ["one", "two", "three"].map(|word| recorded(&bastion, &format!("echo {word}"))).into();
    let (carol, dora) = (bastion.key_of("carol"), bastion.key_of("dora"));
    assert!(reads(&bastion, &dora, &sessions[0]).is_none());
    let unknown = bastion.says("carol", &["auditors", "rewrap", "--add", "dora"]);
    assert!(unknown.ends(64).contains("none of those whom recordings are encrypted to"), "{unknown:?}");
    names_auditor(&bastion, "dora", &public(&dora));

    // The connection is cut behind the first recording: greeting, list, key file, done.
    let cut = bastion.dir().join("cut.sh");
    let ssh =
        bastion.companion("carol", &[]).get_envs().find_map(|(name, value)| (name == "COUNTERSIGN_SSH").then(|| value.unwrap().to_owned()));
    std::fs::write(&cut, format!("{} \"$@\" | {{ sed -u 4q; kill -KILL $$; }}\n", ssh.unwrap().to_str().unwrap())).unwrap();
    let mut companion = bastion.companion("carol", &["auditors", "rewrap", "--add", "dora"]);
    companion.env("COUNTERSIGN_SSH", format!("bash {}", cut.display()));
    assert_ne!(Client::start(companion).ends().status, 0);
    let done = sessions.iter().filter(|session| reads(&bastion, &dora, session).is_some()).count();
    assert!((1..3).contains(&done), "{done} were wrapped before the cut");

    let left = 3 - done;
    let again = bastion.says("carol", &["auditors", "rewrap", "--add", "dora"]);
    assert!(again.well().contains(&format!("{left} wrapped anew, dora reads them now")), "{again:?}");
    assert!(again.err.contains("dora") && again.err.contains("SHA256:") && again.err.contains("(added)"), "{again:?}");
    let nothing = bastion.says("carol", &["auditors", "rewrap", "--add", "dora"]);
    assert!(nothing.status == 0 && nothing.err.contains("nothing is to be done"), "{nothing:?}");

    for (session, word) in sessions.iter().zip(["one", "two", "three"]) {
        for identity in [&carol, &dora, &vault] {
            assert!(reads(&bastion, identity, session).unwrap().contains(word), "{}", identity.display());
        }
        bastion.audited_with("session.rewrap", &[&id(session), &sha256(&key_file(&bastion, session)), "carol"]);
    }
    assert!(bastion.says("carol", &["verify", "--all"]).well().contains("3 good"));
    // dora, with nothing but files.
    let body = bastion.recordings().join(file(&sessions[0]));
    let seal_key = bastion.dir().join("bastion/keys/seal_key.pub");
    let mut verify = Command::new(env!("CARGO_BIN_EXE_countersign"));
    verify.arg("verify").arg(&body).arg("--key-file").arg(key_file(&bastion, &sessions[0])).arg("--seal-key").arg(&seal_key);
    let verified = Client::start({
        verify.arg("--key").arg(&dora);
        verify
    })
    .ends();
    assert!(verified.well().contains("whole"), "{verified:?}");
    // An operator sees who has not shown for long that they can decrypt, beside the running node.
    let check = || {
        let mut check = Command::new(env!("CARGO_BIN_EXE_countersign"));
        check.args(["check", "-c"]).arg(bastion.root());
        Client::start(check).ends().well()
    };
    assert!(check().contains("carol is unproved since this key is named"));
    bastion.says("carol", &["auditors", "prove"]).well();
    assert!(!check().contains("carol is unproved"));
    // What is recorded from now on needs no wrapping.
    recorded(&bastion, "echo four");
    let nothing = bastion.says("carol", &["auditors", "rewrap", "--add", "dora"]);
    assert!(nothing.err.contains("nothing is to be done"), "{nothing:?}");
}

#[test]
fn what_opens_nothing_replaces_no_key_and_no_version_of_one_is_left_at_the_end() {
    let moments = "grace = \"1s\"\n[schedules.short]\nkeep_at_least = \"1s\"\ndelete_after = \"2s\"\n";
    let bastion = Bastion::with(Plan { retention: Some(moments), ..Plan::default() });
    bastion.says("carol", &["hold", "--person", "alice", "--reason", "while we look"]).well();
    let session = recorded(&bastion, "echo kept");
    let (path, carol) = (key_file(&bastion, &session), public(&bastion.key_of("carol")));
    let before = std::fs::read(&path).unwrap();
    let dora = public(&bastion.key_of("dora"));
    let length = age(&bastion.key_of("carol"), &path).unwrap().len();
    let offer = |person: &str, old: &str, new: &[u8]| {
        let call = serde_json::json!({ "rewrap": { "session": id(&session), "old": old, "key_file_b64": base64(new) } });
        let seen = on_the_wire(&bastion, person, &[call]);
        assert!(seen.out().contains("\"error\""), "{seen:?}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "the old one stays");
        seen.out()
    };
    let old = sha256(&path);
    assert!(offer("carol", &old, b"garbage").contains("no age file"));
    assert!(offer("carol", &old, &before[..before.len() - 1]).contains("bytes"));
    assert!(offer("carol", &old, &wrapped(&[&dora], &"x".repeat(length))).contains("not named"));
    assert!(offer("carol", &old, &wrapped(&[&carol, &dora], &"x".repeat(length))).contains("not named"));
    assert!(offer("carol", &old, &wrapped(&[&carol], "short")).contains("are expected"));
    assert!(offer("carol", &old, &vec![b'x'; 70_000]).contains("at most"));
    assert!(offer("carol", &"0".repeat(64), &before).contains("another one by now"));
    assert!(offer("alice", &old, &before).contains("unknown or not yours"));
    // What only looks right is found by whoever verifies, and the first one is still there.
    let fits = wrapped(&[&carol], &"x".repeat(length));
    let call = serde_json::json!({ "rewrap": { "session": id(&session), "old": old, "key_file_b64": base64(&fits) } });
    assert!(on_the_wire(&bastion, "carol", &[call]).out().contains("rewrapped"));
    let bad = bastion.says("carol", &["verify", &id(&session)]);
    assert!(bad.status == 1 && bad.out().contains("BAD"), "{bad:?}");
    let first = PathBuf::from(path.to_str().unwrap().replace(".key.age", ".sealed.key.age"));
    assert_eq!(std::fs::read(&first).unwrap(), before);
    std::fs::rename(&first, &path).unwrap();
    assert!(bastion.says("carol", &["verify", &id(&session)]).well().contains("whole"));

    names_auditor(&bastion, "dora", &dora);
    let wrapped = bastion.says("carol", &["auditors", "rewrap", "--add", "dora", "--since", "1h"]);
    assert!(wrapped.well().contains("1 wrapped anew"), "held or not: {wrapped:?}");
    assert_eq!(files(&bastion.key_files()).len(), 2, "the new one and the first");
    let hold = bastion.json("carol", &["retention", "show"]).to_string();
    let hold = hold.split("\"hold\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    bastion.says("carol", &["release", &hold, "--reason", "looked"]).well();
    until("it is gone", Duration::from_secs(60), || {
        bastion.says("carol", &["retention", "run"]).well();
        bastion.audit().iter().any(|(name, _)| name == "session.dispose")
    });
    assert_eq!(files(&bastion.key_files()), Vec::<PathBuf>::new(), "no version of any key");
    let call = serde_json::json!({ "rewrap": { "session": id(&session), "old": old, "key_file_b64": base64(&before) } });
    assert!(on_the_wire(&bastion, "carol", &[call]).out().contains("missing"));
    assert_eq!(files(&bastion.key_files()), Vec::<PathBuf>::new());
}

#[test]
fn what_a_crash_leaves_to_the_auditors_opens_to_nobody_else() {
    let mut bastion = Bastion::with(Plan { recordings: "recovery = \"auditors\"\n".into(), ..Plan::default() });
    let canary = "canary-before-the-crash";
    let command = Client::start(bastion.ssh("alice", &[to("dev-1"), format!("echo {canary}; exec sleep 300")]));
    command.gets(canary);
    bastion.dies();
    drop(command.hangs_up());

    let spool = files(&bastion.recordings().join("spool")).pop().expect("the spool is there");
    let bytes = std::fs::read(&spool).unwrap();
    let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let envelope = bastion.dir().join("envelope.age");
    std::fs::write(&envelope, &bytes[12..12 + length]).unwrap();
    for found in files(&bastion.dir().join("bastion")) {
        let bytes = std::fs::read(&found).unwrap();
        assert!(!bytes.windows(canary.len()).any(|window| window == canary.as_bytes()), "{} shows it", found.display());
        assert!(age(&found, &envelope).is_none(), "{} opens it", found.display());
    }
    assert_eq!(age(&bastion.key_of("carol"), &envelope).expect("carol's key opens it").len(), 32);

    // It waits, over more than one start.
    for _ in 0..2 {
        bastion.serve();
        let session = bastion.sessions().pop().unwrap();
        assert!(session["waits_for_auditor"] == true && session["sealed"].is_null(), "{session}");
        bastion.stops();
    }
    bastion.serve();
    assert_eq!(files(&bastion.recordings().join("recovery")).len(), 1, "no key of an earlier boot is kept for it");
    let session = id(&bastion.sessions().pop().unwrap());
    assert!(bastion.says("carol", &["sessions"]).well().contains("interrupted, waiting for an auditor"));
    let replay = bastion.says("carol", &["replay", &session]);
    let said = replay.ends(69);
    assert!(said.contains("waits for an auditor") && said.contains(&format!("countersign auditors recover {session}")), "{replay:?}");
    assert!(bastion.says("alice", &["auditors", "recover"]).well().contains("nothing that you may replay waits"));
    let key = serde_json::json!({ "unlock": { "session": session, "key_b64": base64(&[7; 32]) } });
    assert!(on_the_wire(&bastion, "carol", std::slice::from_ref(&key)).out().contains("not the key of its spool"));
    assert!(on_the_wire(&bastion, "alice", &[key]).out().contains("unknown or not yours"));
    assert!(spool.exists(), "what was refused changes nothing");

    let recovered = bastion.says("carol", &["auditors", "recover"]);
    assert!(recovered.well().contains("sealed as interrupted"), "{recovered:?}");
    assert!(!spool.exists());
    let listed = bastion.sealed();
    assert!(listed["waits_for_auditor"].is_null() && bastion.opened(file(&listed)).contains(canary), "{listed}");
    assert!(bastion.says("carol", &["verify", &session]).well().contains("where the bastion was interrupted"));
    bastion.audited_with("session.recover", &[&session, "carol"]);
    assert!(bastion.says("carol", &["auditors", "recover"]).well().contains("nothing"));
    // Who ends in peace needs nobody.
    recorded(&bastion, "echo after");
}

#[test]
fn a_recording_outlives_its_target() {
    let bastion = Bastion::start();
    let session = recorded(&bastion, "echo still here");
    let targets = bastion.policy_file("targets.toml");
    let text = std::fs::read_to_string(&targets).unwrap();
    let entry = text.split("\n\n").find(|entry| entry.contains("[targets.dev-1]")).unwrap();
    edits(&bastion, &targets, entry, "");
    assert!(bastion.says("carol", &["replay", &id(&session)]).well().contains("still here"));
    assert!(bastion.says("carol", &["verify", "--all"]).well().contains("whole"));
    bastion.says("bob", &["replay", &id(&session)]).ends(77);
    // A label could have taken it away, and nobody knows its labels any more.
    let access = bastion.policy_file("access.cedar");
    let pci =
        "@id(\"pci-is-not-replayed\")\nforbid (principal, action == Action::\"replay\", resource in Label::\"pci\");\n\n@id(\"never\")";
    edits(&bastion, &access, "@id(\"never\")", pci);
    bastion.says("carol", &["replay", &id(&session)]).ends(77);
}
