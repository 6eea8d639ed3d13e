//! Many hosts: patterns in place of names, files beside `targets.toml`, and what an operator does to them.

use crate::harness::{Bastion, Client, SOON, Sshd, Way, keygen, login, public, until};

/// A bastion with `*.staging` (no approval) and `prod-*.staging` (a lead has to agree), and the one host
/// that there is: prod-1.staging, with a certificate for that name.
fn staging() -> (Bastion, Sshd) {
    let bastion = Bastion::start();
    let host_ca = bastion.dir().join("host_ca_of_staging");
    keygen(&host_ca);
    let host = Sshd::certified(&bastion.dir().join("staging"), "prod-1.staging", &bastion.user_ca(), &host_ca);
    let family = |pattern: &str, labels: &str| {
        let (port, login, ca) = (host.port, login(), public(&host_ca));
        format!(
            "[targets.\"{pattern}\"]\naddress = \"{{name}}.localhost:{port}\"\nlabels = [{labels}]\nlogins = [\"{login}\"]\nhost_ca = [\"{ca}\"]\n\n"
        )
    };
    let text = family("*.staging", "") + &family("prod-*.staging", "\"env=prod\"");
    std::fs::create_dir(bastion.policy_file("targets.d")).unwrap();
    std::fs::write(bastion.policy_file("targets.d/staging.toml"), text).unwrap();
    bastion.operator(&["check"]).well();
    bastion.reloads();
    until("the patterns are read", SOON, || bastion.says("alice", &["targets"]).out().contains("prod-*.staging"));
    (bastion, host)
}

#[test]
fn a_pattern_stands_for_the_host_that_was_named() {
    let (bastion, host) = staging();
    let to = |way: Way, target: &str, command: &str| {
        let mut words = way.to(target);
        words.push(command.into());
        words
    };
    let held = Client::start(bastion.ssh("alice", &to(Way::Named, "prod-1.staging", "cat $SSH_USER_AUTH")));
    let request = held.request();
    // Read again while it waits: the request is about the same host still.
    bastion.reloads();
    bastion.approve(&request, &[]);
    held.ends().well();
    bastion.audited_with("certificate.issue", &[&request, &format!("{}@prod-1.staging", login())]);
    assert_eq!(bastion.run("alice", &to(Way::Jump, "prod-1.staging", "echo jumped")).well(), "jumped\n");
    assert_eq!(bastion.run("alice", &to(Way::Named, "PROD-1.Staging", "echo again")).well(), "again\n", "the grant is of that name");
    assert_eq!(host.logins(), 3);

    // A sibling: the host answers, and proves to be another.
    for way in Way::BOTH {
        let seen = bastion.run("alice", &to(way, "web-1.staging", "echo never"));
        let said = seen.ends(69);
        assert!(
            said.contains(
                "web-1.staging shows a certificate for prod-1.staging; what counts is a certificate for web-1.staging by host CA SHA256:"
            ),
            "{said}"
        );
        assert!(said.contains("(targets.d/staging.toml:5)"), "{said}");
    }
    assert_eq!(host.logins(), 3, "no certificate of ours reached it");

    // No piece of a pattern is two pieces, nor an id of a request, nor for those who may not ask.
    for target in ["a.b.staging", "staging", "x.staging.example", "req-k7q3fm.staging"] {
        assert_eq!(bastion.run("alice", &to(Way::Named, target, "true")).status, 77, "{target}");
        assert_eq!(bastion.run("alice", &to(Way::Jump, target, "true")).status, 255, "{target}");
    }
    let (one, other) = (to(Way::Named, "web-1.staging", "true"), to(Way::Named, "web-1.nowhere", "true"));
    let (one, other) = (bastion.run("hugo", &one).ends(77).to_owned(), bastion.run("hugo", &other).ends(77).to_owned());
    assert_eq!(one.replace("staging", "nowhere"), other, "whether a name fits a pattern is not told");

    bastion.says("alice", &["request", &format!("{}@prod-2.staging", login()), "--reason", "x"]).well();
    let listed = bastion.says("alice", &["targets"]).well();
    assert!(listed.contains("\n*.staging "), "{listed}");
}

#[test]
fn a_reimaged_host_is_pinned_anew_and_hosts_are_imported() {
    let bastion = Bastion::start();
    let to = |target: &str| [format!("{}={target}@bastion", login()), "echo in".to_owned()];
    let file = bastion.policy_file("targets.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let line = before.lines().position(|line| line == "[targets.changed-1]").unwrap() + 5;
    let seen = bastion.run("alice", &to("changed-1"));
    let said = seen.ends(69);
    let fix = "Reimaged? An operator runs: countersign targets pin changed-1 --key '…' --reason …";
    assert!(said.contains(&format!("(targets.toml:{line}). {fix}")), "{said}");

    let key = bastion.target.host_key();
    let pinned = bastion.operator(&["targets", "pin", "changed-1", "--key", &key, "--reason", "made anew", "CHG-7"]);
    assert!(pinned.ends(0).contains(&format!("(targets.toml:{line})")), "{pinned:?}");
    bastion.audited_with("target.pin", &["changed-1", "made anew CHG-7", "targets.toml"]);
    let after = std::fs::read_to_string(&file).unwrap();
    let changed: Vec<_> = before.lines().zip(after.lines()).filter(|(was, is)| was != is).collect();
    assert_eq!((before.lines().count(), changed.len()), (after.lines().count(), 1), "{changed:?}");

    let table = format!(
        "name,address,labels,logins,host_key\nweb-1,,,,{key}\ndev-1,,,,ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKSo1nQLcBr8uebNUaw4YpMsQtOzg9axUZBPMx+GmlMO\n"
    );
    let csv = bastion.dir().join("hosts.csv");
    let import = |text: &str, more: &[&str]| {
        std::fs::write(&csv, text).unwrap();
        let mut words = vec!["targets", "import", csv.to_str().unwrap(), "--from", "csv", "--login", login()];
        words.extend(more);
        bastion.operator(&words)
    };
    let refused = import(&table, &[]);
    let said = refused.ends(1);
    assert!(said.contains("dev-1 shows SHA256:") && said.contains("targets pin dev-1 --key 'ssh-ed25519 AAAA"), "{said}");
    assert!(said.contains("nothing was written: 1 conflict"), "{said}");

    let address = format!("127.0.0.1:{}", bastion.target.port);
    let table = format!("name,address,labels,host_key\nfresh-2,{address},,{key}\nweb-1,,,{key}\nkeyless,,,\nBad Name,,,{key}\n");
    let refused = import(&table, &["--dry-run"]);
    assert!(refused.ends(78).contains("targets.d/imported.toml:"), "{refused:?}");
    let table = table.replace("Bad Name", "good-name");
    let shown = import(&table, &["--dry-run"]).well();
    assert!(shown.starts_with("[targets.\"fresh-2\"]\n") && !bastion.policy_file("targets.d").exists(), "{shown}");
    let wrote = import(&table, &[]);
    assert!(wrote.ends(0).contains("wrote to policies/targets.d/imported.toml: 2 targets, 1 there already, 1 left out"), "{wrote:?}");
    assert!(import(&table, &[]).ends(0).contains("nothing to write: 0 targets, 3 there already"), "a second time changes nothing");

    bastion.target.also_is("fresh-2");
    bastion.reloads();
    for target in ["changed-1", "fresh-2"] {
        until(&format!("{target} is reachable"), SOON, || bastion.run("alice", &to(target)).out() == "in\n");
    }
}
