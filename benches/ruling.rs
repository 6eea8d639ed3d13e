//! What a ruling costs over many policies: one question, and a whole `check`-like load of the directory.
//!
//! Prints figures and asserts nothing about time. `cargo bench --bench ruling`

#![allow(clippy::unwrap_used, reason = "a benchmark says what it expects by unwrapping it")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use countersign::access::policy::{PolicySet, Question, Vocabulary};
use countersign::access::target::Target;
use countersign::access::{Action, Ruling};
use countersign::config::Directory;
use countersign::id::Group;
use countersign::time::Timestamp;

/// Questions that one figure is the median of.
const ASKED: usize = 201;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("bastion");
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["init", root.to_str().unwrap(), "--host", "bastion.example.org"])
        .args(["--auditor", "carol=age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let targets = "[targets.web-1]\naddress = \"10.0.0.5\"\nlabels = [\"env=prod\", \"app=n7\"]\nlogins = [\"deploy\"]\nhost_keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKSo1nQLcBr8uebNUaw4YpMsQtOzg9axUZBPMx+GmlMO\"]\n";
    std::fs::write(root.join("policies/targets.toml"), targets).unwrap();
    let directory = Directory::load(&root).unwrap();
    let target = directory.targets.find("web-1").unwrap().clone();
    for policies in [10, 100, 1_000, 4_000] {
        figure(policies, &target);
    }
}

/// Half permits by group and login, half holds by label, as directories of that size look.
fn figure(policies: usize, target: &Target) {
    let mut text = String::new();
    for n in 0..policies / 2 {
        let (group, label) = (n % 200, n % 300);
        writeln!(
            text,
            "@id(\"permit-{n}\") permit (principal in Group::\"team-{group}\", action in [Action::\"shell\", Action::\"exec\"], resource in Label::\"app=n{label}\") when {{ context.login == \"deploy\" }};
             @id(\"hold-{n}\") @hold(\"lead\") forbid (principal, action in Action::\"session\", resource in Label::\"app=n{label}\") unless {{ principal in Group::\"oncall-{group}\" }};"
        )
        .unwrap();
    }
    let workflows: BTreeSet<_> = ["lead".parse().unwrap()].into();
    let began = Instant::now();
    let policy = PolicySet::parse(&text, &Vocabulary { workflows, ..Vocabulary::default() }).unwrap();
    let parsed = began.elapsed();
    let groups: Vec<Group> = vec!["team-7".parse().unwrap()];
    let (person, login) = ("alice".parse().unwrap(), "deploy".parse().unwrap());
    let question = Question {
        person: &person,
        groups: &groups,
        target,
        login: &login,
        action: Action::Shell,
        command: None,
        to: None,
        source: "192.0.2.7".parse().unwrap(),
        now: Timestamp::now(),
        first_time: false,
        mfa: false,
        inner_auth: true,
    };
    assert!(policies < 100 || matches!(policy.rule(&question), Ruling::RequireApproval { .. }), "the question is held");
    let mut took: Vec<Duration> = (0..ASKED)
        .map(|_| {
            let began = Instant::now();
            let _ = black_box(policy.rule(black_box(&question)));
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default();
    println!("{policies:>6} policies: loaded in {parsed:.1?}, a ruling p50 {:.2?}, p99 {:.2?}", at(50), at(99));
}
