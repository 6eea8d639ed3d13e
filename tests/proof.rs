//! What was approved, proven with nothing of ours: `docs/proof.md`, word by word.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Bastion, Client, login};

const PAGE: &str = include_str!("../docs/proof.md");

/// The commands of the page, for another request than its example.
fn commands(request: &str, digest: &str, stamp: &str) -> Vec<String> {
    let indented = PAGE.lines().filter_map(|line| line.strip_prefix("    "));
    indented.map(|line| line.replace("K7Q3FM", request).replace("DIGEST", digest).replace("20261125221400Z", stamp)).collect()
}

fn stock(dir: &Path, line: &str) -> i32 {
    let mut command = Command::new("bash");
    command.args(["-ec", line]).current_dir(dir);
    Client::start(command).ends().status
}

fn stamp(dir: &Path) -> String {
    let readme = std::fs::read_to_string(dir.join("README")).unwrap();
    readme.split("verify-time=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned()
}

#[test]
fn the_page_holds_before_and_after_its_approver_has_left() {
    let bastion = Bastion::start();
    let request = bastion.open_grant(&["--for", "20m"]);
    let client = Client::start(bastion.ssh("alice", &[format!("{}=web-1@bastion", login()), "echo ran".into()]));
    client.ends().well();

    // The page's own first command, run where it is to be written.
    let dir = bastion.dir().join(format!("{request}.proof"));
    let mut show = bastion.companion("carol", &["show", &request, "--proof"]);
    show.current_dir(bastion.dir());
    let shown = Client::start(show).ends().well();
    let digest = bastion.json("alice", &["show", &request])["request"]["digest"].as_str().unwrap().to_owned();
    let lines = commands(&request, &digest, &stamp(&dir));
    assert!(lines.len() >= 5, "{lines:?}");
    for line in &lines {
        match line.strip_prefix("countersign ") {
            Some(words) if words.starts_with("verify") => {
                let words: Vec<&str> = words.split(' ').collect();
                let mut verify = bastion.companion("carol", &words);
                verify.current_dir(bastion.dir());
                let said = Client::start(verify).ends().well();
                assert!(said.contains(&format!("{request}: good: alice asked for")) && said.contains("rows of the log prove it"), "{said}");
                assert!(said.contains("bob said yes to shell") && said.contains("signed (key) with SHA256:"), "{said}");
            }
            Some(words) if words.starts_with("show") => assert_eq!(words, format!("show {request} --proof")),
            Some(_) => {}
            None => {
                assert!(shown.contains(line.as_str()), "what the page says is what is printed: {line}\n{shown}");
                assert_eq!(stock(&dir, line), 0, "{line}");
            }
        }
    }
    let log = std::fs::read_to_string(dir.join("log.jsonl")).unwrap();
    for name in ["request.submit", "request.decide", "session.open", "certificate.issue"] {
        assert!(log.contains(&format!("\\\"name\\\":\\\"{name}\\\"")), "{name} is not in {log}");
    }

    // A byte of anything that was signed, and it is bad for us and for them.
    let verify = lines.iter().find(|line| line.starts_with("ssh-keygen")).unwrap();
    for file in ["request.json", "decision-1-bob.json", "decision-1-bob.json.sig", "allowed_signers", "manifest.json", "log.jsonl"] {
        let path = dir.join(file);
        let whole = std::fs::read(&path).unwrap();
        let mut broken = whole.clone();
        let middle = broken.len() / 2;
        broken[middle] = if broken[middle] == b'A' { b'B' } else { b'A' };
        std::fs::write(&path, broken).unwrap();
        let said = bastion.says("carol", &["verify", dir.to_str().unwrap()]);
        assert_eq!(said.status, 1, "{file}: {said:?}");
        if file.starts_with("decision") || file == "allowed_signers" {
            assert_ne!(stock(&dir, verify), 0, "{file}");
        }
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(stock(&dir, verify), 0);

    // bob leaves. What he signed before stays his.
    bastion.is_told("policies/people.toml", |text| {
        let at = text.find("[people.bob]").unwrap();
        let end = at + text[at..].find("\n\n").unwrap();
        format!("{}{}", &text[..at], &text[end..])
    });
    let tar = bastion.dir().join("later.tar");
    bastion.says("carol", &["show", &request, "--proof", "-o", tar.to_str().unwrap()]).well();
    assert_eq!(stock(bastion.dir(), &format!("rm -r {request}.proof; tar xf later.tar")), 0);
    let signers = std::fs::read_to_string(dir.join("allowed_signers")).unwrap();
    assert!(signers.starts_with("bob ") && signers.contains("valid-before="), "{signers}");
    assert_eq!(stock(&dir, verify), 0, "the same command: {verify}");
    let said = bastion.json("carol", &["verify", tar.to_str().unwrap()]);
    assert_eq!(said["verified"][0]["verdict"], "whole", "{said}");
    let again = bastion.says("carol", &["show", &request, "--proof", "-o", tar.to_str().unwrap()]);
    assert!(again.status != 0 && again.err.contains("cannot be written"), "what is there stays: {again:?}");
    let stranger = bastion.says("mallory", &["show", &request, "--proof"]);
    assert!(stranger.ends(77).contains("unknown or not yours"), "{stranger:?}");
}

#[test]
fn what_nobody_signed_is_called_that() {
    let bastion = Bastion::start();
    bastion.is_told("policies/approvals.toml", |text| text.replace("decide_within = \"2s\"", "signature = \"connection\""));
    let client = Client::start(bastion.ssh("alice", &[format!("{}=quick-1@bastion", login()), "echo ran".into()]));
    let request = client.request();
    let code = bastion.json("bob", &["show", &request])["request"]["code"].as_str().unwrap().to_owned();
    bastion.run("bob", &["bastion", "approve", &request, &code, "--for", "5m", "--once"]).well();
    assert_eq!(client.ends().out(), "ran\n");
    let dir = bastion.dir().join("unsigned");
    let shown = bastion.says("bob", &["show", &request, "--proof", "-o", dir.to_str().unwrap()]).well();
    assert!(!shown.contains("ssh-keygen"), "{shown}");
    assert!(std::fs::read_to_string(dir.join("README")).unwrap().contains("the word of the bastion"));
    let said = bastion.says("bob", &["verify", dir.to_str().unwrap()]).well();
    assert!(said.contains("that nobody signed: the bastion's word"), "{said}");
    let manifest: Value = serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["decisions"][0]["level"], "connection");
    assert!(bastion.run("bob", &["bastion", "show", &request, "--proof"]).ends(64).contains("countersign show"));
}
