//! A console over a real directory, state and recordings, for the tests beside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{HashAlg, LineEnding, PrivateKey};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::access::{Principal, VerifiedKey};
use crate::approvals::Approvals;
use crate::audit::checkpoint::LogKey;
use crate::config::Directory;
use crate::console::wire::{self, Lines, Said};
use crate::console::{Console, Terminal};
use crate::id::RequestId;
use crate::recording::{Durability, Protection, Recordings, Settings};
use crate::retention::disposal::Disposal;
use crate::store::Store;
use crate::store::clock::Clock;
use crate::store::log::Log;
use crate::time::Timestamp;

/// alice asks, bob and carol decide, erin audits, hugo may do nothing, oskar asks for staging only.
const PEOPLE: [(&str, &str); 6] =
    [("alice", "sre"), ("bob", "leads"), ("carol", "leads"), ("erin", "auditors"), ("hugo", "guests"), ("oskar", "interns")];

const ACCESS: &str = r#"
@id("sre") permit (principal in Group::"sre", action in Action::"session", resource) when { context.login == "deploy" };
@id("interns") permit (principal in Group::"interns", action in Action::"session", resource in Label::"env=staging");
@id("prod") @hold("lead") @message("one lead must agree") forbid (principal, action in Action::"session", resource in Label::"env=prod");
@id("staging") @hold("peer") forbid (principal, action in Action::"session", resource in Label::"env=staging");
@id("pci") forbid (principal, action in Action::"session", resource in Label::"pci");
@id("no-agents") forbid (principal, action == Action::"agent-forward", resource);
@id("decide") permit (principal in Group::"leads", action == Action::"approve", resource);
@id("replay") permit (principal in Group::"auditors", action == Action::"replay", resource);
"#;

const APPROVALS: &str = r#"
[workflows.lead]
approvers = ["leads"]
offered = "30m"
[workflows.peer]
approvers = ["leads"]
signature = "connection"
reason = "optional"
[presets.vscode]
scope = ["exec:*", "sftp", "forward-local:localhost:*"]
[presets.git]
scope = ["exec:*", "agent-forward"]
"#;

#[derive(Debug)]
pub struct Scene {
    pub console: Console,
    pub dir: TempDir,
    keys: BTreeMap<&'static str, PrivateKey>,
    _directory: watch::Sender<Arc<Directory>>,
}

impl Scene {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys: BTreeMap<_, _> = PEOPLE.iter().enumerate().map(|(n, (name, _))| (*name, key(n as u8))).collect();
        let directory = Arc::new(directory(&dir, &keys));
        let store = Store::open(&dir.path().join("countersign.db")).await.unwrap();
        let log_key = LogKey::new("countersign/b-1".into(), &[3; 32]).unwrap();
        let recordings = directory.config.recordings.clone();
        Recordings::make_dir(&recordings.dir).unwrap();
        let log = Log::open(store.clone(), log_key, recordings.dir.join("log.checkpoint")).await.unwrap();
        let settings = Settings {
            dir: recordings.dir,
            free_floor: 0,
            bulk_cap: 1 << 20,
            writers: 1,
            durability: Durability::Second,
            protection: Protection::Plain,
            bastion: "b-1".into(),
            seal_key: crate::authority::tests::seal_key(),
            log: log.head(),
        };
        let recordings = Recordings::open(settings).unwrap();
        let (keep, directory) = watch::channel(directory);
        let clock = Clock::open(store.clone(), crate::time::seen().await).await.unwrap();
        let disposal = Disposal::new(store.clone(), recordings.clone(), clock.clone(), "b-1".into());
        let approvals = Approvals::new(store.clone(), "b-1".into(), clock, directory.clone());
        Self { console: Console::new(approvals, store, recordings, log, disposal, directory), dir, keys, _directory: keep }
    }

    pub fn who(&self, name: &str) -> Principal {
        let directory = self.console.directory.borrow().clone();
        let key = VerifiedKey::proven(self.keys[name].public_key().clone());
        Principal::identify(&directory.people, key, "192.0.2.7".parse().unwrap(), Timestamp::now()).unwrap()
    }

    pub fn key(&self, name: &str) -> &PrivateKey {
        &self.keys[name]
    }

    /// Signs as `ssh-keygen -Y sign` does.
    pub fn signs(&self, name: &str, namespace: &str, bytes: &[u8]) -> String {
        self.keys[name].sign(namespace, HashAlg::Sha512, bytes).unwrap().to_pem(LineEnding::LF).unwrap()
    }

    /// One console line of the stock client: status, standard output, standard error.
    pub async fn says(&self, name: &str, line: &str) -> Said3 {
        self.says_with(name, line, b"", None).await
    }

    pub async fn says_with(&self, name: &str, line: &str, input: &[u8], terminal: Option<Terminal>) -> Said3 {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let who = self.who(name);
        let run = self.console.run(&who, line, terminal, input, &mut out, &mut err);
        let status = tokio::time::timeout(Duration::from_secs(30), run).await.expect("the console answers");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said3 { status, out: text(out), err: text(err) }
    }

    /// What the wire answers to these lines.
    pub async fn wire(&self, name: &str, lines: &str) -> (u32, Vec<wire::Line>) {
        let mut out = Vec::new();
        let who = self.who(name);
        let serve = self.console.wire(&who, lines.as_bytes(), &mut out);
        let status = tokio::time::timeout(Duration::from_secs(30), serve).await.expect("the wire answers");
        let mut said = Lines::new(&out[..], wire::MAX_REPLY);
        let mut answers = Vec::new();
        while let Some(line) = said.next().await.unwrap() {
            let line: wire::Line = serde_json::from_slice(&line).unwrap();
            if let Said::Bytes(length) = line.said {
                said.bytes(length).await.unwrap();
            }
            answers.push(line);
        }
        (status, answers)
    }

    /// alice asks for `what`; the id of her newest request.
    pub async fn asks(&self, name: &str, what: &str) -> RequestId {
        let said = self.says(name, &format!("request {what} --json")).await;
        let reply: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:?}"));
        reply["asked"]["card"]["request"].as_str().unwrap_or_else(|| panic!("{said:?}")).parse().unwrap()
    }

    /// The names of what was audited so far.
    pub async fn audited(&self) -> Vec<String> {
        self.console.store.audit(0, 10_000).await.unwrap().into_iter().map(|row| format!("{} {}", row.name, row.facts)).collect()
    }
}

#[derive(Debug)]
pub struct Said3 {
    pub status: u32,
    pub out: String,
    pub err: String,
}

fn key(n: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[n + 1; 32]))
}

fn directory(dir: &TempDir, keys: &BTreeMap<&'static str, PrivateKey>) -> Directory {
    let public = |key: &PrivateKey| key.public_key().to_openssh().unwrap();
    let host = public(&key(100));
    let people: String = PEOPLE
        .iter()
        .map(|(name, group)| format!("[people.{name}]\ngroups = [\"{group}\"]\nkeys = [\"{}\"]\n", public(&keys[name])))
        .collect();
    let targets: String = [
        ("web-1", "env=prod"),
        ("web-2", "env=prod"),
        ("stage-1", "env=staging"),
        ("stage-2", "env=staging"),
        ("dev-1", "env=dev"),
        ("pay-1", "pci"),
    ]
    .iter()
    .map(|(id, label)| {
        format!(
            "[targets.{id}]\naddress = \"192.0.2.1\"\nlabels = [\"{label}\"]\nlogins = [\"deploy\", \"root\"]\nhost_keys = [\"{host}\"]\n"
        )
    })
    .collect();
    std::fs::create_dir(dir.path().join("policies")).unwrap();
    let settings = "bastion = \"b-1\"\nhost = \"bastion\"\n[recordings]\nmode = \"plain\"\n";
    for (name, text) in [
        ("countersign.toml", settings),
        ("policies/people.toml", &people),
        ("policies/targets.toml", &targets),
        ("policies/access.cedar", ACCESS),
        ("policies/approvals.toml", APPROVALS),
        ("policies/retention.toml", "[schedules.short]\nkeep_at_least = \"7d\"\ndelete_after = \"30d\"\n"),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    Directory::load(dir.path()).unwrap_or_else(|problems| panic!("{problems:?}"))
}
