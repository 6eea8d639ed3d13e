//! The second factor: who is asked, what a code is worth, and what it is not.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::{Bastion, Client, Raw, SOON, Seen, keygen, login, until};

const PARTIAL: &str = "failure keyboard-interactive partial=1";
const NO: &str = "failure keyboard-interactive partial=0";
const NO_KEY: &str = "failure publickey partial=0";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Waits for a moment with some seconds left in its step, so that "one step ago" stays that.
fn early_in_a_step() {
    until("a step begins", Duration::from_secs(40), || now() % 30 < 15);
}

/// Somebody's app.
struct App([u8; 20]);

impl App {
    /// An operator enrols a person; what they scan.
    fn enrol(bastion: &Bastion, person: &str) -> Self {
        let mut enroll = Command::new(env!("CARGO_BIN_EXE_countersign"));
        enroll.args(["totp", "enroll", person, "-c"]).arg(bastion.root());
        let link = Client::start(enroll).ends().well();
        let secret = link.split_once("secret=").unwrap().1.split_once('&').unwrap().0.to_owned();
        Self(data_encoding::BASE32_NOPAD.decode(secret.as_bytes()).unwrap().try_into().unwrap())
    }

    /// What it shows so many steps from now.
    fn code(&self, steps: i64) -> String {
        let totp = totp_rs::Builder::new().with_secret(self.0).build().unwrap();
        totp.generate(now().checked_add_signed(steps * 30).unwrap()).to_string()
    }

    /// A code that it does not show anywhere near now.
    fn wrong(&self) -> String {
        let near: Vec<String> = (-3..=3).map(|steps| self.code(steps)).collect();
        (0..).map(|n| format!("{n:06}")).find(|code| !near.contains(code)).unwrap()
    }
}

/// A bastion where dev-1 wants a second factor of everybody, and these persons have one.
fn bastion_with<const N: usize>(enrolled: [&str; N]) -> (Bastion, [App; N]) {
    let bastion = Bastion::start();
    let apps = enrolled.map(|person| App::enrol(&bastion, person));
    let access = bastion.policy_file("access.cedar");
    let policy =
        "@id(\"dev-wants-it\") forbid (principal, action in Action::\"session\", resource == Target::\"dev-1\") unless { context.mfa };\n";
    let text = std::fs::read_to_string(&access).unwrap();
    std::fs::write(&access, format!("{text}\n{policy}")).unwrap();
    bastion.is_told("policies/people.toml", |text| text.replace("[people.bob]\n", "[people.bob]\nsecond_factor = \"always\"\n"));
    (bastion, apps)
}

/// `ssh` of somebody who types this code whenever they are asked.
fn types(bastion: &Bastion, person: &str, code: &str, words: &[String]) -> Seen {
    let askpass: PathBuf = bastion.dir().join(format!("{person}-types"));
    std::fs::write(&askpass, "#!/bin/sh\nprintf '%s\\n' \"$1\" >>\"$0.asked\"\nprintf '%s\\n' \"$CODE\"\n").unwrap();
    std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o700)).unwrap();
    let conf = bastion.dir().join(format!("people/{person}.conf"));
    let own = std::fs::read_to_string(&conf).unwrap();
    let asking = bastion.dir().join(format!("people/{person}-asking.conf"));
    std::fs::write(&asking, own.replace("BatchMode yes", "BatchMode no\n  NumberOfPasswordPrompts 1")).unwrap();
    let mut ssh = Command::new(crate::harness::program("ssh"));
    ssh.arg("-F").arg(asking).args(words);
    ssh.env("SSH_ASKPASS", &askpass).env("SSH_ASKPASS_REQUIRE", "force").env("CODE", code);
    Client::start(ssh).ends()
}

/// How often somebody was asked so far.
fn asked(bastion: &Bastion, person: &str) -> usize {
    std::fs::read_to_string(bastion.dir().join(format!("{person}-types.asked"))).unwrap_or_default().lines().count()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn who_has_one_is_asked_where_it_counts_and_nobody_else() {
    let (bastion, [alice, bob]) = bastion_with(["alice", "bob"]);
    let (dev, jump) = (format!("{}=dev-1@bastion", login()), format!("{}@dev-1", login()));
    early_in_a_step();

    // Where nothing depends on it alice is not asked; where it does, she is, also at the inner end of a jump.
    assert_eq!(bastion.run("alice", &["bastion", "whoami"]).status, 0);
    assert_eq!(asked(&bastion, "alice"), 0);
    assert_eq!(types(&bastion, "alice", &alice.code(-1), &words(&[&dev, "echo in"])).well(), "in\n");
    assert_eq!(types(&bastion, "alice", &alice.code(0), &words(&["-J", "bastion", &jump, "echo jumped"])).well(), "jumped\n");
    assert_eq!(asked(&bastion, "alice"), 2);
    let opened = bastion.audit().into_iter().filter(|(name, _)| name == "session.open");
    assert!({ opened }.all(|(_, facts)| !facts["second_factor"].is_null()), "the log says so");
    // The same code again is worth nothing, and neither is no code.
    let again = types(&bastion, "alice", &alice.code(0), &words(&[&dev, "echo in"]));
    assert!(again.status != 0 && again.out().is_empty() && again.err.contains("Permission denied"), "{again:?}");
    let silent = bastion.run("alice", &[&dev, "echo in"]);
    assert!(silent.err.contains("Permission denied (keyboard-interactive)"), "{silent:?}");

    // Who has none is told how to get one, and is never asked.
    let none = bastion.run("mallory", &[&dev, "true"]);
    assert!(none.ends(77).contains("countersign: refused: this needs your second factor: you have none here yet"), "{none:?}");
    assert!(none.err.contains("countersign totp enroll mallory -c DIR"), "{none:?}");

    // bob is asked at every login, once for both ends of a jump.
    assert!(types(&bastion, "bob", &bob.code(-1), &words(&["bastion", "whoami"])).well().contains("bob"));
    assert_eq!(types(&bastion, "bob", &bob.code(0), &words(&["-J", "bastion", &jump, "echo jumped"])).well(), "jumped\n");
    assert_eq!(asked(&bastion, "bob"), 2);

    // Connected without it, before policy wanted it: the channel is refused, in words.
    let socket = bastion.dir().join("mux");
    let path = format!("ControlPath={}", socket.display());
    let quick = format!("{}=changed-1@bastion", login());
    let _master = Client::start(bastion.ssh("alice", &["-M", "-N", "-o", &path, &quick]));
    until("the master is there", SOON, || socket.exists());
    bastion.is_told("policies/access.cedar", |text| text.replace("Target::\"dev-1\"", "Target::\"changed-1\""));
    let refused = bastion.run("alice", &["-o", &path, &quick, "true"]);
    assert!(refused.ends(77).contains("this needs your second factor: connect again, not in BatchMode"), "{refused:?}");
}

/// every step is bound to one user name and one person, and a code is worth one login.
#[test]
fn a_code_is_worth_one_login_of_one_person() {
    let (bastion, [alice, bob, _dora]) = bastion_with(["alice", "bob", "dora"]);
    let own = |person: &str| bastion.key_of(person).display().to_string();
    let (alices, bobs, doras) = (own("alice"), own("bob"), own("dora"));
    let dev = format!("{}=dev-1", login());
    let memory = bastion.peak_memory();
    early_in_a_step();

    // Nobody is asked before a key has signed; a partial success is no failed try; the answer counts.
    let mut raw = Raw::connect(&bastion);
    assert_eq!(raw.says_all(&[&["kbd", "bob"], &["code", &bob.code(0)]]), [NO_KEY, NO_KEY]);
    for _ in 0..8 {
        assert_eq!(raw.says(&["sign", "bob", &bobs]), PARTIAL);
    }
    assert_eq!(raw.says(&["early", "bob"]), NO, "nothing opens in between");
    assert_eq!(raw.says(&["kbd", "bob"]), "info 1");
    assert_eq!(raw.says(&["count", "4294967295"]), NO);
    assert_eq!(raw.says_all(&[&["kbd", "bob"], &["code", &bob.code(-1), &bob.code(-1)]]), ["info 1", NO], "one answer to one question");
    assert_eq!(raw.says_all(&[&["kbd", "bob"], &["code", &bob.code(-1)]]), ["info 1", "success"]);
    assert!(raw.says(&["open", "whoami"]).contains("bob"));
    assert!(bastion.peak_memory() < memory + (32 << 20), "4294967295 answers took memory");

    // alice → bob → alice: each begins anew, whatever was proven before, in every order.
    let mut raw = Raw::connect(&bastion);
    assert_eq!(raw.says_all(&[&["sign", "bob", &bobs], &["kbd", "alice"]]), [PARTIAL, NO_KEY]);
    assert_eq!(raw.says(&["kbd", "bob"]), NO_KEY, "what bob had proven is gone too");
    assert_eq!(raw.says_all(&[&["sign", "bob", &bobs], &["none", "alice"], &["kbd", "bob"]]), [PARTIAL, NO_KEY, NO_KEY]);
    let mut raw = Raw::connect(&bastion);
    assert_eq!(raw.says_all(&[&["sign", "bob", &bobs], &["probe", "alice", &alices], &["kbd", "bob"]]), [PARTIAL, "pk-ok", NO_KEY]);
    // One user name, two keys: the code has to be the last one's who signed.
    assert_eq!(raw.says_all(&[&["sign", &dev, &alices], &["sign", &dev, &bobs], &["kbd", &dev]]), [PARTIAL, PARTIAL, "info 1"]);
    assert_eq!(raw.says(&["code", &alice.code(0)]), NO);
    assert_eq!(raw.says(&["sign", &dev, &alices]), PARTIAL);
    assert_eq!(
        raw.says_all(&[&["kbd", &dev], &["none", "alice"], &["code", &alice.code(-1)]]),
        ["info 1", NO_KEY, NO_KEY],
        "a prompt of before"
    );

    // Only the steps beside now, only upwards, each once; on two connections at once it is one of them.
    let one = || {
        let mut raw = Raw::connect(&bastion);
        assert_eq!(raw.says_all(&[&["sign", &dev, &alices], &["kbd", &dev]]), [PARTIAL, "info 1"]);
        raw
    };
    for (steps, good) in [(-2, false), (2, false), (0, true), (0, false), (-1, false)] {
        assert_eq!(one().says(&["code", &alice.code(steps)]), if good { "success" } else { NO }, "{steps}");
    }
    let code = alice.code(1);
    let (mut first, mut second) = (one(), one());
    let both = std::thread::scope(|scope| {
        let (a, b) = (scope.spawn(|| first.says(&["code", &code])), scope.spawn(|| second.says(&["code", &code])));
        [a.join().unwrap(), b.join().unwrap()]
    });
    assert_eq!(both.iter().filter(|said| *said == "success").count(), 1, "{both:?}");

    // dora is asked where it counts: dev-1 is not hers at all, so never.
    let mut raw = Raw::connect(&bastion);
    assert_eq!(raw.says(&["sign", &dev, &doras]), "success");
}

#[test]
fn five_wrong_codes_lock_one_person_and_no_state_lets_nobody_in() {
    let (mut bastion, [bob, carol]) = bastion_with(["bob", "carol"]);
    bastion.is_told("policies/people.toml", |text| format!("second_factor = \"always\"\n{text}"));
    let [bobs, carols] = ["bob", "carol"].map(|person| bastion.key_of(person).display().to_string());
    let stranger = bastion.dir().join("stranger-key");
    keygen(&stranger);
    let stranger = stranger.display().to_string();
    // Without a key of his nobody gets as far as guessing.
    let mut raw = Raw::connect(&bastion);
    for _ in 0..5 {
        assert_eq!(raw.says_all(&[&["sign", "bob", &stranger], &["code", "000000"]]), [NO_KEY, NO_KEY]);
        raw = Raw::connect(&bastion);
    }
    assert_eq!(raw.says(&["sign", "bob", &bobs]), PARTIAL);
    let wrong = bob.wrong();
    for _ in 0..4 {
        assert_eq!(raw.says_all(&[&["kbd", "bob"], &["code", &wrong]])[1], NO);
    }
    // What is no code is no guess, and the fifth guess is the last.
    assert_eq!(
        raw.says_all(&[&["kbd", "bob"], &["code", "hunter2"]]),
        ["info 1 countersign: that code is wrong or was used; wait for the next one", NO]
    );
    let mut raw = Raw::connect(&bastion);
    assert_eq!(raw.says_all(&[&["sign", "bob", &bobs], &["kbd", "bob"], &["code", &wrong]]), [PARTIAL, "info 1", NO]);
    let said = raw.says(&["kbd", "bob"]);
    assert!(said.starts_with("info 1 countersign: too many wrong codes; no code is taken before in 15 min"), "{said}");
    assert_eq!(raw.says(&["code", &bob.code(0)]), NO, "the right one too");
    bastion.audited_with("factor.lock", &["bob", "127.0.0.1"]);
    bastion.dies();
    bastion.serve();
    let mut raw = Raw::connect(&bastion);
    assert_eq!(raw.says_all(&[&["sign", "bob", &bobs], &["kbd", "bob"], &["code", &bob.code(0)]]), [PARTIAL, "info 1", NO]);
    assert_eq!(bastion.run("alice", &["bastion", "whoami"]).status, 0, "nobody else is locked");

    // where the state fails, the right code is no code.
    let rename = |from: &str, to: &str| {
        let script = "import sqlite3,sys;sqlite3.connect(sys.argv[1]).execute('alter table %s rename to %s' % (sys.argv[2], sys.argv[3]))";
        let database = bastion.state().join("countersign.db");
        let output = Command::new("python3").args(["-c", script]).arg(database).args([from, to]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    early_in_a_step();
    rename("second_factors", "away");
    let mut raw = Raw::connect(&bastion);
    assert_eq!(raw.says_all(&[&["sign", "carol", &carols], &["kbd", "carol"], &["code", &carol.code(0)]]), [PARTIAL, "info 1", NO]);
    let said = raw.says(&["kbd", "carol"]);
    assert!(said.contains("the bastion's state cannot be read or written"), "{said}");
    rename("away", "second_factors");
    assert_eq!(raw.says(&["code", &carol.code(0)]), "success");
}

/// A person takes longer to type a code than a client to sign.
#[test]
fn the_grace_is_longer_while_the_second_factor_is_outstanding() {
    let (bastion, [bob]) = bastion_with(["bob"]);
    bastion
        .is_told("countersign.toml", |text| text.replace("[limits]\n", "[limits]\nlogin_grace = \"3s\"\nsecond_factor_grace = \"6s\"\n"));
    early_in_a_step();
    let bobs = bastion.key_of("bob").display().to_string();
    let mut idle = Raw::connect(&bastion);
    let asked = || {
        let mut raw = Raw::connect(&bastion);
        let connected = Instant::now();
        assert_eq!(raw.says_all(&[&["sign", "bob", &bobs], &["kbd", "bob"]]), [PARTIAL, "info 1"]);
        (raw, connected)
    };
    let ((mut patient, since), (mut slow, since_too)) = (asked(), asked());
    crate::harness::pause(Duration::from_millis(3300).saturating_sub(since.elapsed()));
    assert_eq!(idle.says(&["none", "bob"]), "disconnect", "who has shown nothing is gone");
    assert_eq!(patient.says(&["code", &bob.code(0)]), "success");
    crate::harness::pause(Duration::from_millis(6300).saturating_sub(since_too.elapsed()));
    assert_eq!(slow.says(&["code", &bob.code(1)]), "disconnect", "and at twice the grace who has not typed");
    assert!(patient.says(&["open", "whoami"]).contains("bob"));
}
