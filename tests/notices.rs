//! Notices: what approvers and requesters are told, by webhook and by command, and what a bad hook cannot do.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::harness::{Bastion, Client, Plan, SOON, login, program, until};

const SECRET: &str = "canary-of-the-secret";

/// A server of webhooks on this machine.
struct Hook {
    child: Child,
    port: u16,
    seen: PathBuf,
}

impl Hook {
    fn start(dir: &Path, tls: Option<(&Path, &Path)>) -> Self {
        let seen = dir.join(if tls.is_some() { "seen-tls" } else { "seen" });
        let mut command = Command::new(program("python3"));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/hook.py")).arg(&seen).arg(SECRET);
        command.args(tls.into_iter().flat_map(|(certificate, key)| [certificate, key]));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, port: port.trim().parse().unwrap(), seen }
    }

    fn seen(&self, temper: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.seen).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|seen| seen["temper"] == temper).collect()
    }

    fn texts(&self, temper: &str) -> Vec<String> {
        self.seen(temper).iter().map(|seen| seen["body"]["text"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn secret_file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// An authority of our own, and a server's certificate by it.
fn certificates(dir: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ours &&
        openssl req -newkey rsa:2048 -nodes -keyout hook.key -out hook.csr -subj /CN=localhost &&
        printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\n' >ext &&
        openssl x509 -req -in hook.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out hook.pem -days 2 -extfile ext";
    let made = Command::new("sh").args(["-c", script]).current_dir(dir).env("PATH", std::env::var_os("PATH").unwrap()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (dir.join("ca.pem"), dir.join("hook.pem"), dir.join("hook.key"))
}

#[test]
fn people_are_told_and_bad_hooks_delay_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let (ca, certificate, key) = certificates(at);
    let (hook, tls) = (Hook::start(at, None), Hook::start(at, Some((&certificate, &key))));
    let address = secret_file(at, "chat.url", &format!("http://127.0.0.1:{}/ok/canary-of-the-address\n", hook.port));
    let secret = secret_file(at, "chat.secret", &format!("{SECRET}\n"));
    let paged = at.join("paged");
    let mut settings = format!(
        "[notifiers.chat]\nwebhook_file = {address:?}\nsecret_file = {secret:?}\n
         [notifiers.page]\ncommand = [\"/bin/sh\", \"-c\", \"cat >>{}\"]\n
         [notifiers.wrong]\nwebhook = \"https://localhost:{}/ok\"\n",
        paged.display(),
        tls.port
    );
    for temper in ["500", "404", "redirect", "megabytes", "hang"] {
        settings.push_str(&format!("[notifiers.x-{temper}]\nwebhook = \"http://127.0.0.1:{}/{temper}\"\n", hook.port));
    }
    let mut bastion = Bastion::with(Plan { settings, ..Plan::default() });
    let all = "notify = [\"x-hang\", \"x-500\", \"x-404\", \"x-redirect\", \"x-megabytes\", \"wrong\", \"page\", \"chat\"]\n";
    let approvals = bastion.policy_file("approvals.toml");
    std::fs::write(&approvals, format!("{all}{}", std::fs::read_to_string(&approvals).unwrap())).unwrap();
    bastion.stops();
    bastion.logs_at("trace");
    bastion.serve();

    let to = format!("{}@web-1", login());
    let reason = "INC-42 <!channel> & @here \"disk\" \u{202e}full";
    let asked = bastion.json("alice", &["request", &to, "--for", "30m", "--reason", reason]);
    let card = &asked["asked"]["card"];
    let (request, code) = (card["request"].as_str().unwrap().to_owned(), card["code"].as_str().unwrap().to_owned());
    // The same once more joins, and tells nobody anything.
    bastion.json("alice", &["request", &to, "--for", "30m", "--reason", reason]);
    until("the chat is told who is asked", SOON, || !hook.seen("ok").is_empty());
    let subject = format!("alice → {to} · shell 30m · \"INC-42 &lt;!channel&gt; &amp; \u{ff20}here 'disk' \\u{{202e}}full\"");
    assert_eq!(hook.texts("ok"), [format!("{subject}\nasked bob, dora · 15 min left · ssh://req-{request}@bastion")]);
    assert_eq!(hook.seen("ok")[0]["signed"], true);

    bastion.approve(&request, &["--for", "10m"]);
    until("the chat is told that it is approved", SOON, || hook.seen("ok").len() == 2);
    assert_eq!(hook.texts("ok")[1], format!("{subject}\napproved by bob for 10m · {request}"));
    until("the command has read both", SOON, || std::fs::read_to_string(&paged).unwrap_or_default().lines().count() == 2);
    let page = std::fs::read_to_string(&paged).unwrap();
    let first: Value = serde_json::from_str(page.lines().next().unwrap()).unwrap();
    assert_eq!((&first["kind"], &first["to"], &first["person"]), (&"asked".into(), &serde_json::json!(["bob", "dora"]), &"alice".into()));

    // What is wrong with the others, and of whom somebody has to look.
    let said = || bastion.says("carol", &["status", "--json"]).json();
    until("two that failed three times are troubles", SOON, || {
        let troubles = said()["status"]["troubles"].to_string();
        troubles.contains("x-500 failed") && troubles.contains("wrong failed")
    });
    let status = said();
    let why = |name: &str| {
        let lines = status["status"]["notifiers"].as_array().unwrap();
        let line = lines.iter().find(|line| line["notifier"] == name).unwrap();
        (line["delivered"].as_u64().unwrap(), line["why"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(why("x-megabytes"), (2, String::new()));
    assert_eq!(why("x-404"), (0, "it answered 404".into()));
    assert_eq!(why("x-redirect"), (0, "it answered 302: redirects are not followed".into()));
    assert_eq!(why("x-500"), (0, "it answered 500".into()));
    assert!(why("wrong").1.contains("certificate"), "{:?}", why("wrong"));
    assert!(hook.seen("followed").is_empty() && tls.seen("ok").is_empty());
    // Sent once each where trying again is of no use.
    assert_eq!((hook.seen("redirect").len(), hook.seen("404").len()), (2, 2));

    let everything = format!("{}{}{page}{}", bastion.log(), std::fs::read_to_string(&hook.seen).unwrap(), status);
    for canary in ["canary-of-the-address", SECRET, &code] {
        assert!(!everything.contains(canary), "{canary} is in a notice, an answer or the log");
    }

    // By day: one notice, and what is wrong before anybody needs it.
    bastion.operator(&["notify", "test", "chat"]).well();
    assert!(hook.texts("ok")[2].starts_with("a test of the notifier chat\n"));
    let tested = bastion.operator(&["notify", "test", "x-500"]);
    assert!(tested.ends(1).contains("x-500 did not take the notice: it answered 500"), "{tested:?}");
    let untrusted = bastion.operator(&["notify", "test", "wrong"]);
    assert!(untrusted.ends(1).contains("certificate") && !untrusted.err.contains("localhost"), "{untrusted:?}");
    let mut trusting = Command::new(env!("CARGO_BIN_EXE_countersign"));
    trusting.args(["notify", "test", "wrong", "-c"]).arg(bastion.root()).env("SSL_CERT_FILE", &ca);
    Client::start(trusting).ends().well();
    assert_eq!(tls.seen("ok").len(), 1);

    // The pen reads policies and no secret of a notifier: it stays where they are read again.
    bastion.reloads();
    bastion.has_reloaded();
    bastion.says("alice", &["request", &to, "--for", "7m", "--reason", "INC-43 after a reload"]).well();
    assert!(!bastion.log().contains("the pen ended"), "{}", bastion.log());

    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&approvals, std::fs::read_to_string(&approvals).unwrap().replace("\"chat\"", "\"chatt\"")).unwrap();
    let checked = bastion.operator(&["check"]);
    let found = format!("{}{}", checked.out(), checked.err);
    assert!(checked.status == 78 && found.contains(&format!("chmod 600 {}", secret.display())), "{checked:?}");
    assert!(found.contains("countersign.toml has no [notifiers.chatt]") && !found.contains(SECRET), "{found}");
}

#[test]
fn a_notice_leads_to_a_card_and_whoever_waits_reads_who_looks() {
    let bastion = Bastion::start();
    let asking = Client::start(bastion.ssh("alice", &[format!("{}=web-1@bastion", login()), "echo in".into()]));
    let request = asking.request();

    // Nothing but ssh: the card, and what bob can do. mallory learns nothing.
    let card = bastion.run("bob", &[format!("req-{}@bastion", request.to_lowercase())]).well();
    assert!(card.contains("INC-42 disk full") && card.contains(&format!("countersign:   countersign approve {request}")), "{card}");
    assert!(card.contains(&format!("ssh bastion decision {request} approve >d")) && card.contains(&format!("deny {request}")), "{card}");
    asking.reads("· bob is looking");
    let stranger = bastion.run("mallory", &[format!("req-{request}@bastion")]);
    assert!(stranger.ends(77).contains("is unknown or not yours"), "{stranger:?}");
    let own = bastion.run("alice", &[format!("req-{request}@bastion")]).well();
    assert!(own.contains(&format!("countersign:   ssh bastion withdraw {request}")) && own.contains("looking   bob"), "{own}");
    // Who looked at their own, or may not decide, is not said to be looking.
    let listed = bastion.json("dora", &["requests", "--pending"]);
    assert_eq!(listed["requests"][0]["looking"], serde_json::json!(["bob"]), "{listed}");

    bastion.approve(&request, &[]);
    assert_eq!(asking.ends().well(), "in\n");
}
