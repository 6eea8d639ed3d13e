//! What a signature by the pen costs: asked over its socket, ruled again, verified, recorded on the disk, signed.
//!
//! Prints figures and asserts nothing about time. `cargo bench --bench pen`

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark says what it expects by unwrapping it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use countersign::access::decision::{self, DecisionDocument, GrantedTerms, Level, Verdict};
use countersign::access::request::{self, Needs, RequestDocument, TargetPin};
use countersign::access::{Class, Scope};
use countersign::authority::evidence::{self, Asked, Evidence, Said, SignedSaid};
use countersign::authority::pen::Pen;
use countersign::authority::wire::{Ask, SessionAsk};
use countersign::config::Directory;
use countersign::id::{Digest, SessionId};
use countersign::pen::{self, Launch, Purpose};
use countersign::time::Timestamp;
use russh::keys::ssh_key::{HashAlg, LineEnding, PrivateKey};

/// Signatures that one figure is of.
const SIGNED: usize = 500;
/// Asked for at once.
const TOGETHER: usize = 64;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::make(dir.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let program = Some(PathBuf::from(env!("CARGO_BIN_EXE_countersign")));
        let began = Instant::now();
        let pen = pen::start(Launch { program, quiet: true, ..Launch::new(&scene.root, Purpose::Sessions) }).await.unwrap();
        println!("ready after {:.1?}, of which most is reading the directory", began.elapsed());
        for (what, target, evidence) in [
            ("policy asks nobody", "dev-1", Evidence::of_policy(scene.directory.digest).bytes()),
            ("one approval, signed with Ed25519", "web-1", scene.approved()),
        ] {
            let mut took = Vec::new();
            for _ in 0..SIGNED {
                let ask = scene.ask(target, &evidence);
                let began = Instant::now();
                pen.signed(Ask::Session(Box::new(ask))).await.unwrap();
                took.push(began.elapsed());
            }
            took.sort_unstable();
            let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default();
            println!(
                "{what}: p50 {:.2?}, p99 {:.2?}; {TOGETHER} at once: {:.1?} for all",
                at(50),
                at(99),
                crowd(&pen, &scene, target, &evidence).await
            );
        }
    });
}

async fn crowd(pen: &Pen, scene: &Scene, target: &str, evidence: &[u8]) -> Duration {
    let asks: Vec<SessionAsk> = (0..TOGETHER).map(|_| scene.ask(target, evidence)).collect();
    let began = Instant::now();
    let mut all = tokio::task::JoinSet::new();
    for ask in asks {
        let pen = pen.clone();
        all.spawn(async move { pen.signed(Ask::Session(Box::new(ask))).await.unwrap() });
    }
    while let Some(signed) = all.join_next().await {
        signed.unwrap();
    }
    began.elapsed()
}

struct Scene {
    root: PathBuf,
    directory: Directory,
    subject: String,
    alice: PrivateKey,
    bob: PrivateKey,
}

impl Scene {
    fn make(dir: &Path) -> Self {
        let root = dir.join("bastion");
        let made = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["init", root.to_str().unwrap(), "--host", "bastion.example.org"])
            .args(["--auditor", "carol=age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let keys: Vec<PrivateKey> = ["alice", "bob", "subject"].map(|name| key(dir, name)).into();
        let [alice, bob, subject] = <[PrivateKey; 3]>::try_from(keys).unwrap();
        let line = |key: &PrivateKey| key.public_key().to_openssh().unwrap();
        let people = format!(
            "[people.alice]\ngroups = [\"engineers\"]\nkeys = [\"{}\"]\n[people.bob]\ngroups = [\"leads\"]\nkeys = [\"{}\"]\n",
            line(&alice),
            line(&bob)
        );
        let target = |id: &str, label: &str| {
            format!(
                "[targets.{id}]\naddress = \"192.0.2.5\"\nlabels = [\"{label}\"]\nlogins = [\"deploy\"]\nhost_keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKSo1nQLcBr8uebNUaw4YpMsQtOzg9axUZBPMx+GmlMO\"]\n"
            )
        };
        for (file, text) in [
            ("people.toml", people),
            ("targets.toml", target("web-1", "env=prod") + &target("dev-1", "env=dev")),
            ("access.cedar", ACCESS.to_owned()),
            ("approvals.toml", "[workflows.lead]\napprovers = [\"leads\"]\nsignature = \"key\"\nlongest = \"2h\"\n".to_owned()),
        ] {
            std::fs::write(root.join("policies").join(file), text).unwrap();
        }
        let _ = std::fs::remove_dir_all(root.join("policies/cases"));
        let directory = Directory::load(&root).unwrap_or_else(|problems| panic!("{problems:?}"));
        std::fs::create_dir_all(&directory.config.state).unwrap();
        Self { root, directory, subject: line(&subject), alice, bob }
    }

    fn ask(&self, target: &str, evidence: &[u8]) -> SessionAsk {
        let target = self.directory.targets.find(target).unwrap();
        let now = Timestamp::now();
        SessionAsk {
            session: SessionId::new(now),
            serial: ((rand::random::<u64>() >> 1) | 1).to_string(),
            subject: self.subject.clone(),
            person: "alice".parse().unwrap(),
            key: self.alice.public_key().to_openssh().unwrap(),
            certificate: None,
            source: [192, 0, 2, 7].into(),
            second_factor: false,
            first_time: false,
            target: target.id.clone(),
            pin: target.pin(),
            login: "deploy".parse().unwrap(),
            want: "shell".into(),
            command: None,
            endpoint: None,
            agent: false,
            exact: false,
            pty: true,
            opened: now,
            ends: Some(now.plus(Duration::from_secs(60))),
            seen_from: [192, 0, 2, 1].into(),
            policy: self.directory.digest,
            evidence: evidence.to_vec(),
        }
    }

    /// alice's request for web-1, and bob's signature.
    fn approved(&self) -> Vec<u8> {
        let (now, target) = (Timestamp::now(), self.directory.targets.find("web-1").unwrap());
        let document = RequestDocument {
            v: request::VERSION,
            kind: "request".into(),
            bastion: self.directory.config.bastion.clone(),
            request: "K7Q3FM".parse().unwrap(),
            nonce: vec![7; 16],
            person: "alice".parse().unwrap(),
            key: self.alice.public_key().fingerprint(HashAlg::Sha256).to_string(),
            source: "192.0.2.7/32".into(),
            targets: vec![TargetPin { id: target.id.clone(), pin: target.pin() }],
            login: "deploy".parse().unwrap(),
            scope: Scope([Class::Shell].into()),
            commands: vec![],
            env: vec![],
            stdin: true,
            for_us: 3_600_000_000,
            once: false,
            made_us: request::doc_micros(now),
            not_after_us: request::doc_micros(now.plus(Duration::from_secs(900))),
            start_us: None,
            reason: "INC-42".into(),
            needs: vec![Needs { workflow: "lead".parse().unwrap(), policy: "prod-needs-a-lead".into(), message: None }],
            policy: self.directory.digest,
            extends: None,
            break_glass: false,
            overrun_us: None,
        };
        let bytes = document.bytes();
        let terms = GrantedTerms { for_us: document.for_us, scope: document.scope.clone(), ..GrantedTerms::default() };
        let decided = DecisionDocument {
            v: decision::VERSION,
            kind: "decision".into(),
            bastion: document.bastion.clone(),
            requests: vec![Digest::of(&bytes)],
            verdict: Verdict::Approve,
            terms: Some(terms.clone()),
            note: String::new(),
            approver: "bob".parse().unwrap(),
            key: self.bob.public_key().fingerprint(HashAlg::Sha256).to_string(),
            time_us: request::doc_micros(now),
        };
        let signed = decided.bytes();
        let sig = self.bob.sign(decision::NAMESPACE, HashAlg::Sha512, &signed).unwrap().to_pem(LineEnding::LF).unwrap();
        let said = Said {
            person: "bob".parse().unwrap(),
            at: now,
            level: Level::Key,
            verdict: Verdict::Approve,
            terms: Some(terms),
            signed: Some(SignedSaid { bytes: signed, sig }),
        };
        let request = Some(Asked { bytes, decisions: vec![said] });
        Evidence { v: evidence::VERSION, request, extensions: vec![], policy: self.directory.digest }.bytes()
    }
}

fn key(dir: &Path, name: &str) -> PrivateKey {
    let path = dir.join(name);
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status().unwrap();
    assert!(made.success());
    PrivateKey::from_openssh(std::fs::read_to_string(&path).unwrap()).unwrap()
}

const ACCESS: &str = r#"
@id("engineers") permit (principal in Group::"engineers", action in Action::"session", resource);
@id("prod-needs-a-lead") @hold("lead") forbid (principal, action in Action::"session", resource in Label::"env=prod");
@id("leads-decide") permit (principal in Group::"leads", action == Action::"approve", resource);
"#;
