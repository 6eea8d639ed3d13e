//! A lost disk: backed up while it serves, restored with what the log says since, and nobody is deceived.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::{Bastion, Client, Plan, SOON, Seen, login, program, until};

/// Seconds instead of years.
const MOMENTS: &str = "grace = \"1s\"\n[schedules.short]\nkeep_at_least = \"1s\"\ndelete_after = \"2s\"\n";

/// The bastion, an age key of an operator's, and a place for what is kept elsewhere.
struct Scene {
    bastion: Bastion,
    elsewhere: PathBuf,
}

impl Scene {
    fn with(plan: Plan) -> Self {
        let bastion = Bastion::with(plan);
        let elsewhere = bastion.dir().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        stock(Command::new(program("age-keygen")).arg("-o").arg(elsewhere.join("operator.key")));
        Self { bastion, elsewhere }
    }

    fn root(&self) -> PathBuf {
        self.bastion.dir().join("bastion")
    }

    fn file(&self, name: &str) -> String {
        self.elsewhere.join(name).to_str().unwrap().to_owned()
    }

    /// An operator on the bastion's machine; `-c DIR` is added.
    fn operator(&self, words: &[&str]) -> Seen {
        let (verb, rest) = words.split_first().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.arg(verb).arg("-c").arg(self.root()).args(rest).env("NO_COLOR", "1").env("HOME", &self.elsewhere);
        Client::start(command).ends()
    }

    fn backs_up(&self, name: &str) -> String {
        let key = stock(Command::new(program("age-keygen")).arg("-y").arg(self.file("operator.key")));
        let carol = self.bastion.key_of("carol").with_extension("pub");
        let file = self.file(name);
        self.operator(&["backup", &file, "--to", key.trim(), "--to", carol.to_str().unwrap()]).well();
        file
    }

    fn exports(&self, name: &str) -> String {
        let file = self.file(name);
        std::fs::write(&file, self.bastion.says("carol", &["audit", "export"]).well()).unwrap();
        file
    }

    /// All that a backup holds is gone; recordings and key files are on another disk.
    fn loses(&self, name: &str) {
        let lost = self.elsewhere.join(name);
        std::fs::create_dir(&lost).unwrap();
        for what in ["countersign.toml", "keys", "policies", "var/state"] {
            std::fs::rename(self.root().join(what), lost.join(what.replace('/', "-"))).unwrap();
        }
    }

    /// A restore that is refused, in one line, and leaves nothing behind.
    #[track_caller]
    fn refuses(&self, words: &[&str], why: &str) {
        let seen = self.operator(words);
        assert!(seen.status != 0 && seen.err.contains(why) && seen.err.lines().count() == 1, "{why}: {seen:?}");
        let left: Vec<_> = std::fs::read_dir(self.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["var"], "{why}");
        assert!(!self.root().join("var/state").exists());
    }

    /// alice runs a command on web-1 and has to wait for somebody.
    #[track_caller]
    fn is_held(&self) {
        let client = Client::start(self.bastion.ssh("alice", &[format!("{}=web-1@bastion", login()), "true".into()]));
        client.reads("needs approval");
        let request = client.request();
        client.hangs_up();
        self.bastion.says("alice", &["withdraw", &request]).well();
    }
}

fn stock(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn recorded(bastion: &Bastion, command: &str) -> String {
    let known = bastion.sessions().len();
    bastion.run("alice", &[format!("{}=dev-1@bastion", login()), command.into()]);
    until("it is listed", SOON, || bastion.sessions().len() > known);
    bastion.sealed()["session"].as_str().unwrap().to_owned()
}

/// Where a grant stands, in the database's words.
fn grant(bastion: &Bastion, request: &str) -> String {
    let script = "import sqlite3,sys\nprint(sqlite3.connect('file:'+sys.argv[1]+'?mode=ro',uri=True).execute('select state from grants where request=?',sys.argv[2:]).fetchone()[0])";
    let database = bastion.state().join("countersign.db");
    stock(Command::new(program("python3")).args(["-c", script]).arg(database).arg(request)).trim().to_owned()
}

#[test]
fn a_lost_state_comes_back_without_what_was_used_revoked_or_disposed_of() {
    let mut scene = Scene::with(Plan { retention: Some(MOMENTS), ..Plan::default() });
    let older = scene.exports("older.jsonl");
    let used = scene.bastion.open_grant(&["--once"]);
    let revoked = scene.bastion.open_grant(&["--for", "20m"]);
    let (goes, stays) = (recorded(&scene.bastion, "echo goes"), recorded(&scene.bastion, "echo stays"));

    // Backed up while it serves: by stock tools, whoever is named reads it, and it holds no key file.
    let backup = scene.backs_up("monday");
    assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    for identity in [PathBuf::from(scene.file("operator.key")), scene.bastion.key_of("carol")] {
        let list = format!("age -d -i {} {backup} | tar t", identity.display());
        let list = stock(Command::new("bash").args(["-o", "pipefail", "-c", &list]));
        for name in ["manifest.json", "countersign.toml", "countersign.db", "keys/user_ca", "policies/access.cedar", "log.checkpoint"] {
            assert!(list.lines().any(|line| line == name), "{name}\n{list}");
        }
        assert!(!list.contains("key-files") && !list.contains(".age") && !list.contains("recovery") && !list.contains("sealed"), "{list}");
    }
    scene.bastion.audited("backup.make", "sha256");

    // What happens after it.
    scene.bastion.run("alice", &[format!("{}=web-1@bastion", login()), "true".into()]).well();
    scene.bastion.says("bob", &["revoke", &revoked, "--reason", "wrong one"]).well();
    scene.bastion.says("alice", &["request", &format!("{}@web-1", login()), "--reason", "later", "--for", "7m"]).well();
    scene.bastion.says("carol", &["hold", &stays, "--reason", "LIT-14"]).well();
    until("one is gone", Duration::from_secs(60), || {
        scene.bastion.says("carol", &["retention", "run"]).well();
        scene.bastion.audit().iter().any(|(name, _)| name == "session.dispose")
    });
    let export = scene.exports("export.jsonl");
    let unknown = recorded(&scene.bastion, "echo after the export");
    scene.bastion.says("carol", &["whoami"]).well();
    scene.bastion.says("dora", &["whoami"]).well();

    // Nothing is overwritten; then the disk goes.
    let key = scene.file("operator.key");
    let with = |log: &str| ["restore", &backup, "--identity", &key, "--log", log, "--reason", "disk failure"].map(str::to_owned);
    fn words(all: &[String]) -> Vec<&str> {
        all.iter().map(String::as_str).collect()
    }
    let there = scene.operator(&words(&with(&export)));
    assert!(there.status != 0 && there.err.contains("nothing is overwritten") && there.err.contains("mkdir "), "{there:?}");
    scene.bastion.dies();
    scene.loses("lost");

    // Each of these is one clear error.
    let forged = scene.file("forged.jsonl");
    let text = std::fs::read_to_string(&export).unwrap();
    std::fs::write(&forged, text.replacen("wrong one", "right one", 1)).unwrap();
    let others = scene.file("others.jsonl");
    std::fs::write(&others, text.replace("countersign/test", "countersign/best")).unwrap();
    let flipped = scene.file("flipped");
    let mut bytes = std::fs::read(&backup).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&flipped, bytes).unwrap();
    let bob = scene.bastion.key_of("bob").to_str().unwrap().to_owned();
    let reason = ["--reason", "disk failure"];
    scene.refuses(&words(&with(&older)), "it is older");
    scene.refuses(&words(&with(&forged)), "cannot be used as the log");
    scene.refuses(&words(&with(&others)), "does not name a key of the log");
    scene.refuses(
        &[&["restore", &flipped, "--identity", &key, "--log", &export][..], &reason].concat(),
        "the backup was changed, cut, or is none",
    );
    scene.refuses(&[&["restore", &backup, "--identity", &bob, "--log", &export][..], &reason].concat(), "not for this key");
    scene.refuses(&[&["restore", &backup, "--log", &export][..], &reason].concat(), "name another key: --identity KEY");
    assert_eq!(scene.operator(&[&["restore", &backup, "--identity", &key][..], &reason].concat()).status, 64);

    let said = scene.operator(&words(&with(&export))).well();
    assert!(said.contains("Missing: ") && said.contains("every recording is held") && said.contains("1 adopted again"), "{said}");
    scene.bastion.serve();

    // Whoever remembers more is told, once, and goes on.
    let told = scene.bastion.says("carol", &["whoami"]);
    told.well();
    let line = told.err.lines().find(|line| line.starts_with("countersign: the log went back ")).unwrap_or_else(|| panic!("{told:?}"));
    assert!(line.contains(" entries: restored ") && line.contains("(\"disk failure\"). Missing: "), "{line}");
    assert!(!scene.bastion.says("carol", &["whoami"]).err.contains("went back"));
    assert!(scene.bastion.says("dora", &["whoami"]).err.contains("went back"));

    // Used means used, revoked means revoked, and what is not proven has to be asked for again.
    assert_eq!((grant(&scene.bastion, &revoked), grant(&scene.bastion, &used)), ("revoked".into(), "void".into()));
    let kept = scene.bastion.json("alice", &["grants"]).to_string();
    assert!(!kept.contains(&used) && !kept.contains(&revoked), "{kept}");
    scene.is_held();

    // The tombstone stands, and the hold; the recording that no row knew is there again.
    assert!(scene.bastion.says("carol", &["verify", &goes]).well().contains("gone on schedule short"));
    scene.bastion.says("carol", &["retention", "run"]).well();
    for session in [&stays, &unknown] {
        assert!(scene.bastion.says("carol", &["verify", session]).well().contains("whole"), "{session}");
    }
    assert!(scene.bastion.says("carol", &["retention", "plan"]).well().contains("held"));
    assert!(scene.bastion.says("carol", &["verify", "--all"]).well().contains(" 0 bad"));
    assert!(scene.bastion.says("carol", &["replay", &unknown]).well().contains("after the export"));

    // The log says so, with and without the bastion.
    let verified = scene.bastion.says("carol", &["audit", "verify"]).well();
    assert!(verified.contains("the log is whole") && verified.contains("disk failure"), "{verified}");
    let later = scene.exports("later.jsonl");
    let offline = stock(Command::new(env!("CARGO_BIN_EXE_countersign")).args(["audit", "verify", &later]));
    assert!(offline.contains("countersign: the log went back "), "{offline}");
    let edited = std::fs::read_to_string(&later).unwrap().replacen("disk failure", "disk's fault", 1);
    std::fs::write(scene.file("edited.jsonl"), edited).unwrap();
    let mut tampered = Command::new(env!("CARGO_BIN_EXE_countersign"));
    assert_eq!(
        Client::start({
            tampered.args(["audit", "verify", &scene.file("edited.jsonl")]);
            tampered
        })
        .ends()
        .status,
        1
    );

    // Rolled back once more without a word: no recovery that was heard of before explains it.
    scene.bastion.stops();
    let restored = database(&scene.bastion.state());
    let copy = scene.root().join("var/recordings/log.checkpoint");
    let old_copy = std::fs::read(&copy).unwrap();
    scene.bastion.serve();
    recorded(&scene.bastion, "echo more");
    scene.bastion.says("carol", &["whoami"]).well();
    scene.bastion.stops();
    database(&scene.bastion.state()).iter().skip(1).for_each(|(path, _)| std::fs::remove_file(path).unwrap());
    restored.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    assert!(scene.bastion.try_serve_under(&[]).is_err());
    assert!(scene.bastion.log().contains("countersign restore BACKUP --log EXPORT"), "{}", scene.bastion.log());
    std::fs::write(&copy, old_copy).unwrap();
    scene.bastion.serve();
    let seen = scene.bastion.says("carol", &["whoami"]);
    assert!(seen.status != 0 && seen.err.contains("no log.recovered says why"), "{seen:?}");
}

/// The files of a database that nobody has open, the database itself first.
fn database(state: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = ["countersign.db", "countersign.db-wal"].map(|name| state.join(name));
    files.into_iter().filter_map(|path| std::fs::read(&path).ok().map(|bytes| (path, bytes))).collect()
}

#[test]
fn with_the_whole_log_nothing_is_missing_and_without_any_all_is_void() {
    let mut scene = Scene::with(Plan::default());
    let open = scene.bastion.open_grant(&[]);
    assert!(scene.operator(&["backup", &scene.file("x")]).err.contains("--to age1"));
    let backup = scene.backs_up("backup");
    let session = recorded(&scene.bastion, "echo between");
    let export = scene.exports("export.jsonl");
    scene.bastion.stops();
    scene.loses("first");
    let key = scene.file("operator.key");
    let whole = ["restore", &backup, "--identity", &key, "--log", &export, "--disk-survived", "--reason", "moved to a new machine"];
    let said = scene.operator(&whole).well();
    assert!(said.contains("no row is missing") && !said.contains("held") && said.contains("1 open grants"), "{said}");
    scene.bastion.serve();
    let seen = scene.bastion.says("carol", &["verify", &session]);
    assert!(seen.well().contains("whole") && !seen.err.contains("went back"), "{seen:?}");
    assert_eq!(grant(&scene.bastion, &open), "void");
    scene.is_held();
    let verified = scene.bastion.says("carol", &["audit", "verify"]).well();
    assert!(verified.contains("No row of the log is missing."), "{verified}");

    scene.bastion.stops();
    scene.loses("second");
    let said = scene.operator(&["restore", &backup, "--identity", &key, "--without-log", "--reason", "and the export burnt"]).well();
    assert!(said.contains("no log was given") && said.contains("Missing: ") && said.contains("1 adopted again"), "{said}");
    scene.bastion.serve();
    let told = scene.bastion.says("carol", &["verify", "--all"]);
    assert!(told.well().contains(" 0 bad") || told.out().contains("whole"), "{told:?}");
    assert!(told.err.contains("(\"and the export burnt\"). Missing: "), "{told:?}");
    assert_eq!(grant(&scene.bastion, &open), "void");
}
