//! The process that signs: what a node that was taken over can have signed, and what it cannot.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use countersign::access::canonical;
use countersign::authority::wire::{MAX_FRAME, VERSION};
use countersign::config::Directory;
use countersign::time::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Bastion, SOON, Way, keygen, login, program, public, until, until_some};

/// A pen, and somebody who holds the node's end of its socket.
struct Pen {
    child: Child,
    node: UnixStream,
    log: PathBuf,
    asked: u64,
    ready: Value,
}

impl Pen {
    fn start(bastion: &Bastion) -> Self {
        let (node, its) = UnixStream::pair().unwrap();
        node.set_read_timeout(Some(SOON)).unwrap();
        let log = bastion.dir().join("pen.log");
        let err = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.arg("pen").arg(bastion.root()).env_clear();
        let child = command.stdin(OwnedFd::from(its)).stdout(Stdio::null()).stderr(err).spawn().unwrap();
        drop(command);
        let mut pen = Self { child, node, log, asked: 0, ready: Value::Null };
        pen.ready = pen.hears()["answer"].clone();
        assert!(pen.ready["ready"]["ca"].is_string(), "{}", pen.ready);
        pen
    }

    fn hears(&mut self) -> Value {
        let mut length = [0; 4];
        self.node.read_exact(&mut length).unwrap();
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        self.node.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    fn is_sent(&mut self, body: &[u8]) {
        self.node.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).unwrap();
        self.node.write_all(body).unwrap();
    }

    /// A certificate, or why there is none.
    fn is_asked(&mut self, ask: &Value) -> Result<String, String> {
        self.asked += 1;
        let frame = json!({ "v": VERSION, "id": self.asked, "ask": ask });
        self.is_sent(&canonical::encode(&frame));
        let said = self.hears();
        assert!(said["id"] == self.asked || said["id"] == 0, "{said}");
        let text = |kind: &str| said["answer"][kind].as_str().map(str::to_owned);
        text("signed").ok_or_else(|| text("refused").unwrap_or_else(|| panic!("{said}")))
    }

    #[track_caller]
    fn refuses(&mut self, what: &str, ask: &Value, why: &str) {
        let refused = self.is_asked(ask).expect_err(what);
        assert!(refused.contains(why), "{what}: {refused}");
    }

    fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn ends(mut self) {
        drop(self.node);
        until("the pen ends with its node", SOON, || self.child.try_wait().unwrap().is_some());
    }
}

/// What the state has of an approved request, as evidence.
fn evidence(bastion: &Bastion, request: &str) -> Value {
    let script = "import sqlite3,sys,json,base64 as b
c=sqlite3.connect('file:'+sys.argv[1]+'?mode=ro',uri=True)
e=lambda x:b.b64encode(x).decode()
q=e(c.execute('select bytes from requests where id=?',(sys.argv[2],)).fetchone()[0])
d=[dict(person=r[0],at_us=r[1],level=r[2],verdict=r[3],terms=json.loads(r[4]) if r[4] else None,signed=dict(bytes_b64=e(r[5]),sig=r[6]) if r[5] else None)
 for r in c.execute('select person,at,level,verdict,terms,bytes,signature from decisions where request=? order by ordinal',(sys.argv[2],))]
print(json.dumps(dict(request_b64=q,decisions=d)))";
    let output =
        Command::new(program("python3")).args(["-c", script]).arg(bastion.state().join("countersign.db")).arg(request).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Puts evidence into an ask.
fn with_evidence(ask: &Value, request: &Value) -> Value {
    let mut ask = ask.clone();
    let evidence = json!({ "v": 1, "request": request, "extensions": [], "policy": ask["session"]["policy"] });
    ask["session"]["evidence_b64"] = b64(&canonical::encode(&evidence)).into();
    ask
}

fn b64(bytes: &[u8]) -> String {
    data_encoding::BASE64.encode(bytes)
}

fn with(ask: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut changed = ask.clone();
    change(&mut changed["session"]);
    changed
}

/// What an honest node asks with, for alice's shell on a target. The serial is one that nobody had.
fn honest(bastion: &Bastion, directory: &Directory, target: &str) -> Value {
    let subject = bastion.dir().join("subject");
    if !subject.exists() {
        keygen(&subject);
    }
    let target = directory.targets.find(target).unwrap();
    let now = Timestamp::now();
    let ask = json!({ "session": {
        "session": "01J9ZV6T3M8Q4W2R5Y7A1B3C5D", "serial": fresh_serial(), "subject": public(&subject),
        "person": "alice", "key": public(&bastion.key_of("alice")), "certificate": null, "source": "127.0.0.1",
        "second_factor": false, "first_time": true, "target": target.id, "pin": target.pin(), "login": login(),
        "want": "shell", "command_b64": null, "endpoint": null, "agent": false, "exact": false, "pty": true,
        "opened_us": now, "ends_us": null, "seen_from": "127.0.0.1", "policy": directory.digest, "evidence_b64": "",
    }});
    with_evidence(&ask, &Value::Null)
}

fn fresh_serial() -> String {
    ((rand::random::<u64>() >> 1) | 1).to_string()
}

fn anew(ask: &Value) -> Value {
    with(ask, |ask| ask["serial"] = fresh_serial().into())
}

/// Every message that a relay of an attacker's would like to be believed.
#[test]
fn a_relay_that_was_taken_over_cannot_mint() {
    let mut bastion = Bastion::start();
    // A second account that policy would let alice ask for.
    let two = format!("logins = [\"{}\", \"other\"]", login());
    bastion.is_told("policies/targets.toml", |text| text.replace(&format!("logins = [\"{}\"]", login()), &two));
    let once = bastion.open_grant(&["--for", "10m", "--once"]);
    let exact = bastion.open_grant(&["--exec", "id"]);
    let (once_evidence, exact_evidence) = (evidence(&bastion, &once), evidence(&bastion, &exact));
    bastion.stops();

    let directory = Directory::load(&bastion.root()).unwrap();
    let mut pen = Pen::start(&bastion);
    let status = std::fs::read_to_string(format!("/proc/{}/status", pen.child.id())).unwrap();
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "Threads:\t1"] {
        assert!(status.lines().any(|found| found == line), "{line}: {status}");
    }

    let ends = |minutes: u64| json!(Timestamp::now().plus(std::time::Duration::from_secs(60 * minutes)));
    let good = with(&with_evidence(&honest(&bastion, &directory, "web-1"), &once_evidence), |ask| ask["ends_us"] = ends(9));
    let other_pin = json!(directory.targets.find("db-1").unwrap().pin());

    // Not what was approved.
    pen.refuses("another login", &with(&good, |ask| ask["login"] = "other".into()), "another login");
    pen.refuses("no login", &with(&good, |ask| ask["login"] = "nobody".into()), "no such login");
    let db = with(&good, |ask| (ask["target"], ask["pin"]) = ("db-1".into(), other_pin.clone()));
    pen.refuses("another target", &db, "another target");
    pen.refuses("another host's pin", &with(&good, |ask| ask["pin"] = other_pin), "another host");
    pen.refuses("a longer time", &with(&good, |ask| ask["ends_us"] = ends(11)), "is the end");
    pen.refuses("no end", &with(&good, |ask| ask["ends_us"] = Value::Null), "is the end");
    pen.refuses("another person's key", &with(&good, |ask| ask["key"] = public(&bastion.key_of("mallory")).into()), "not alice's");
    let mallory = with(&good, |ask| (ask["person"], ask["key"]) = ("mallory".into(), public(&bastion.key_of("mallory")).into()));
    pen.refuses("another person", &mallory, "somebody else");
    pen.refuses("another address", &with(&good, |ask| ask["source"] = "192.0.2.7".into()), "another address");
    pen.refuses("from an hour ago", &with(&good, |ask| ask["opened_us"] = json!(1_700_000_000_000_000u64)), "not now");
    pen.refuses("a second factor that nobody has", &with(&good, |ask| ask["second_factor"] = true.into()), "no second factor");
    pen.refuses("forbidden altogether", &honest(&bastion, &directory, "never-1"), "never");
    let old = with(&good, |ask| ask["policy"] = "00".repeat(32).into());
    pen.refuses("an old policy", &old, "not those that the node rules by");

    // Not approved at all.
    pen.refuses("as if policy permitted it", &with_evidence(&good, &Value::Null), "wants the approval of lead");
    let forged = |change: &dyn Fn(&mut Value)| {
        let mut forged = once_evidence.clone();
        change(&mut forged);
        with_evidence(&good, &forged)
    };
    pen.refuses("nobody's decision", &forged(&|it| it["decisions"] = json!([])), "no approvals that stand");
    let unsigned = forged(&|it| (it["decisions"][0]["signed"], it["decisions"][0]["level"]) = (Value::Null, "key".into()));
    pen.refuses("an unsigned decision of level key", &unsigned, "no approvals that stand");
    pen.refuses("alice's own", &forged(&|it| it["decisions"][0]["person"] = "alice".into()), "no approvals that stand");
    pen.refuses("dora's instead", &forged(&|it| it["decisions"][0]["person"] = "dora".into()), "no approvals that stand");
    pen.refuses("the decision on another", &forged(&|it| it["request_b64"] = exact_evidence["request_b64"].clone()), "");
    for (field, step) in [("bytes_b64", 5), ("sig", 7)] {
        let text = once_evidence["decisions"][0]["signed"][field].as_str().unwrap();
        for at in (0..text.len()).step_by(step) {
            let mut flipped = text.to_owned().into_bytes();
            flipped[at] ^= 1;
            if let Ok(flipped) = String::from_utf8(flipped)
                // The armour's own lines are nobody's word.
                && !(field == "sig" && text.get(..at).is_some_and(|before| before.lines().count() <= 1 || text[at..].lines().count() <= 1))
            {
                let forged = forged(&|it| it["decisions"][0]["signed"][field] = flipped.clone().into());
                pen.refuses(&format!("byte {at} of {field}"), &forged, "");
            }
        }
    }

    // Further than was approved.
    let id = with(&with_evidence(&good, &exact_evidence), |ask| {
        (ask["want"], ask["command_b64"], ask["exact"], ask["pty"]) = ("exec".into(), b64(b"id").into(), true.into(), false.into());
    });
    pen.refuses("a shell on one command's approval", &with_evidence(&good, &exact_evidence), "does not reach that far");
    pen.refuses("another command", &with(&id, |ask| ask["command_b64"] = b64(b"reboot").into()), "does not reach that far");
    pen.refuses("the command not bound", &with(&id, |ask| ask["exact"] = false.into()), "has to be in the certificate");
    let forward = with(&good, |ask| (ask["want"], ask["endpoint"]) = ("forward-local".into(), "db:5432".into()));
    pen.refuses("a forward", &forward, "");
    pen.refuses("her agent with it", &with(&good, |ask| ask["agent"] = true.into()), "");
    pen.refuses("a terminal for it", &with(&id, |ask| ask["pty"] = true.into()), "has to be in the certificate");
    let probe = json!({ "probe": { "asks": "clock", "principal": format!("{}@web-1", login()), "serial": "7", "subject": good["session"]["subject"],
        "by": "root", "seen_from": "127.0.0.1" }});
    pen.refuses("a probe", &probe, "for sessions alone");

    // Not asked at all.
    for garbage in [&b"garbage"[..], b"", b"{}", &[0xff; 1000], &vec![b'['; 50_000], &vec![b' '; MAX_FRAME + 1]] {
        pen.is_sent(garbage);
        let said = pen.hears();
        assert!(said["id"] == 0 && said["answer"]["refused"].is_string(), "{said}");
    }
    assert!(pen.is_running(), "the same process");

    // What was approved, once.
    let certificate = pen.is_asked(&good).unwrap();
    let shown = shown(bastion.dir(), &certificate);
    let principals = shown.lines().skip_while(|line| line.trim() != "Principals:").nth(1).unwrap().trim();
    assert_eq!(principals, format!("{}@web-1", login()), "{shown}");
    assert!(shown.contains("source-address 127.0.0.1/32") && shown.contains(&format!("/{once}/alice")), "{shown}");
    pen.refuses("the same once more", &good, "was used");
    pen.refuses("a grant that was used up", &anew(&good), "was used");
    let id = anew(&id);
    pen.is_asked(&id).unwrap();
    pen.refuses(
        "a serial that was used",
        &with(&honest(&bastion, &directory, "dev-1"), |ask| ask["serial"] = good["session"]["serial"].clone()),
        "serial",
    );
    pen.is_asked(&honest(&bastion, &directory, "dev-1")).unwrap();

    // Another process knows it too.
    let log = std::fs::read_to_string(&pen.log).unwrap();
    assert!(log.matches("does not sign").count() > 25, "{log}");
    pen.ends();
    let mut pen = Pen::start(&bastion);
    pen.refuses("a grant that was used up", &anew(&good), "was used");
    pen.refuses("a serial that was used", &id, "serial");
    pen.is_asked(&anew(&id)).unwrap();
    pen.ends();
}

fn shown(dir: &Path, certificate: &str) -> String {
    let file = dir.join("shown-cert.pub");
    std::fs::write(&file, certificate).unwrap();
    let output = Command::new(program("ssh-keygen")).arg("-L").arg("-f").arg(&file).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The seed of a key file, as it lies in the memory of whoever has read it.
fn seed(path: &Path) -> Vec<u8> {
    let key = russh::keys::ssh_key::PrivateKey::from_openssh(std::fs::read_to_string(path).unwrap()).unwrap();
    key.key_data().ed25519().unwrap().private.to_bytes().to_vec()
}

/// Whether a process has these bytes anywhere it could write them.
fn holds(pid: u32, secret: &[u8]) -> bool {
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    maps.lines().filter(|line| line.contains(" rw")).any(|line| {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        memory.read_exact_at(&mut bytes, from).is_ok() && bytes.windows(secret.len()).any(|window| window == secret)
    })
}

#[test]
fn the_node_never_has_the_key_and_the_pen_has_nothing_else() {
    let mut bastion = Bastion::start();
    let to_dev = [&Way::Jump.to("dev-1")[..], &["true".into()]].concat();
    assert_eq!(bastion.run("alice", &to_dev).status, 0);
    let pen = bastion.pen().expect("a pen runs");
    assert!(bastion.run("alice", &["bastion", "setup", "known_hosts"]).status == 0, "which reads keys");

    for fd in std::fs::read_dir(format!("/proc/{pen}/fd")).unwrap() {
        let link = std::fs::read_link(fd.unwrap().path()).unwrap().display().to_string();
        let own = ["socket:", "anon_inode:", "/dev/null", "pen.record", "pen.lock", "bastion.log", "pipe:"];
        assert!(own.iter().any(|own| link.contains(own)), "the pen has {link}");
    }
    assert_eq!(std::fs::read(format!("/proc/{pen}/environ")).unwrap(), b"");
    // Only root may look into processes that forbid it.
    if login() == "root" {
        let secret = seed(&bastion.root().join("keys/user_ca"));
        assert!(holds(pen, &secret), "where else would it be");
        assert!(!holds(bastion.pid(), &secret), "the node has the user CA's key in its memory");
        assert!(holds(bastion.pid(), &seed(&bastion.root().join("keys/host_ca"))), "this looks where keys would be");
    }

    // It goes with the node, however that goes.
    bastion.dies();
    until("the pen ends with its node", SOON, || !Path::new(&format!("/proc/{pen}/exe")).exists());
    bastion.serve();
    assert_eq!(bastion.run("alice", &to_dev).status, 0);
}

#[test]
fn a_pen_that_dies_is_replaced_and_until_then_nothing_opens() {
    let bastion = Bastion::start();
    let to_dev = [&Way::Named.to("dev-1")[..], &["true".into()]].concat();
    let kill = |pid: u32| assert!(Command::new(program("kill")).args(["-KILL", &pid.to_string()]).status().unwrap().success());
    let first = bastion.pen().expect("a pen runs");
    kill(first);
    let second = until_some("another pen runs", SOON, || bastion.pen().filter(|pen| *pen != first));
    until("sessions open again", SOON, || bastion.run("alice", &to_dev).status == 0);

    // One that cannot start says why, to everybody.
    let key = bastion.root().join("keys/user_ca");
    let mode = |mode: &str| assert!(Command::new(program("chmod")).arg(mode).arg(&key).status().unwrap().success());
    mode("644");
    kill(second);
    until("the trouble is told", SOON, || {
        let said = bastion.says("carol", &["status"]);
        said.status == 1 && said.out().contains("pen: ") && said.out().contains("chmod 600")
    });
    let refused = bastion.run("alice", &to_dev);
    assert!(refused.status == 77 && refused.err.contains("no certificate"), "{refused:?}");
    bastion.audited("certificate.refuse", "chmod 600");
    mode("600");
    until("sessions open again", SOON, || bastion.run("alice", &to_dev).status == 0);

    // One that reads other policies than the node rules by signs nothing; a reload has both read the same.
    let third = bastion.pen().expect("a pen runs");
    let file = bastion.policy_file("approvals.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"15m\"", "\"16m\"")).unwrap();
    assert_eq!(bastion.run("alice", &to_dev).status, 0, "an edit is none before it is read");
    kill(third);
    until("another pen runs", SOON, || bastion.pen().is_some_and(|pen| pen != third));
    until("it reads the edit", SOON, || bastion.run("alice", &to_dev).err.contains("not those that the node rules by"));
    bastion.has_reloaded();
    assert_eq!(bastion.run("alice", &to_dev).status, 0);

    // A file that took another's place is not what the pen may read: another pen does.
    let settings = bastion.root().join("countersign.toml");
    let next = bastion.root().join("countersign.toml.next");
    std::fs::copy(&settings, &next).unwrap();
    std::fs::rename(&next, &settings).unwrap();
    std::fs::write(&file, text).unwrap();
    bastion.has_reloaded();
    until("sessions open again", SOON, || bastion.run("alice", &to_dev).status == 0);
}
