//! Approvals that are none: by the wrong person, with the wrong key, for the wrong bytes, too late, again.

use crate::harness::{Bastion, Client, Seen, login, program};

/// A bastion and a request that waits for web-1, with the client that waits.
fn held(bastion: &Bastion, person: &str) -> (Client, String) {
    let client = Client::start(bastion.ssh(person, &[format!("{}=web-1@bastion", login()), "echo ran".into()]));
    let request = client.request();
    (client, request)
}

/// The stock path: the decision's bytes from `ssh bastion decision`, edited, signed with `key` for
/// `namespace`, and brought back by bob.
fn submit(bastion: &Bastion, request: &str, edit: &str, key: &str, namespace: &str) -> Seen {
    let keygen = program("ssh-keygen");
    let script = format!(
        "set -e; $SSH bastion decision {request} approve > d; sed -i '{edit}' d; rm -f d.sig
         {} -q -Y sign -n {namespace} -f {} d; $SSH bastion submit {request} < d.sig",
        keygen.display(),
        bastion.key_of(key).display()
    );
    Client::start(bastion.sh("bob", &script)).ends()
}

#[test]
fn nobody_decides_on_their_own_request() {
    let bastion = Bastion::start();
    let (mut client, request) = held(&bastion, "bob");
    for words in [vec!["approve", &request], vec!["deny", &request, "--note", "x"]] {
        let seen = bastion.says("bob", &words);
        assert_ne!(seen.status, 0, "{words:?} {seen:?}");
    }
    assert!(client.is_running());
    assert_eq!(bastion.state_of("bob", &request), "pending");
    bastion.refused(&request, 2);
    assert_eq!(bastion.target.logins(), 0, "nothing reached the target");
    bastion.says("dora", &["approve", &request]).well();
    assert_eq!(client.ends().out(), "ran\n");
}

#[test]
fn who_is_not_asked_cannot_decide_or_see() {
    let bastion = Bastion::start();
    let (_client, request) = held(&bastion, "alice");
    let approve = bastion.says("mallory", &["approve", &request]);
    assert_ne!(approve.status, 0, "{approve:?}");
    let show = bastion.says("mallory", &["show", &request]);
    let unknown = bastion.says("mallory", &["show", "000000"]);
    assert_ne!(show.status, 0, "{show:?}");
    assert_eq!(show.err.replace(&request, "REQ"), unknown.err.replace("000000", "REQ"), "unknown and not yours are one answer");
    bastion.audited_with("refusal", &[&request, "mallory"]);
    assert_eq!(bastion.state_of("alice", &request), "pending");
}

#[test]
fn the_stock_tools_can_approve() {
    let bastion = Bastion::start();
    let (client, request) = held(&bastion, "alice");
    let seen = submit(&bastion, &request, "", "bob", "countersign-decision-v1");
    assert_eq!(seen.status, 0, "{seen:?}");
    assert_eq!(client.ends().out(), "ran\n");
}

#[test]
fn a_forged_signature_is_refused() {
    let bastion = Bastion::start();
    let (mut client, request) = held(&bastion, "alice");
    for (what, edit, key, namespace) in [
        ("another person's key", "", "mallory", "countersign-decision-v1"),
        ("other bytes", "s/approve/deny/", "bob", "countersign-decision-v1"),
        ("another namespace", "", "bob", "git"),
    ] {
        let seen = submit(&bastion, &request, edit, key, namespace);
        assert_ne!(seen.status, 0, "{what}: {seen:?}");
    }
    let nonsense = Client::start(bastion.sh("bob", &format!("echo nonsense | $SSH bastion submit {request}"))).ends();
    assert_ne!(nonsense.status, 0, "{nonsense:?}");
    assert!(client.is_running());
    assert_eq!(bastion.state_of("alice", &request), "pending");
    bastion.refused(&request, 4);
    assert_eq!(bastion.target.logins(), 0, "nothing reached the target");
}

#[test]
fn a_decision_counts_once() {
    let bastion = Bastion::start();
    let (client, request) = held(&bastion, "alice");
    let signed = submit(&bastion, &request, "", "bob", "countersign-decision-v1");
    assert_eq!(signed.status, 0, "{signed:?}");
    client.ends().well();
    let again = Client::start(bastion.sh("bob", &format!("$SSH bastion submit {request} < d.sig"))).ends();
    assert_ne!(again.status, 0, "the same signature again: {again:?}");
    bastion.refused(&request, 1);
    // The old signature under a new request.
    let (mut second, other) = held(&bastion, "mallory");
    assert_ne!(other, request);
    let moved =
        Client::start(bastion.sh("bob", &format!("$SSH bastion decision {other} approve > new; $SSH bastion submit {other} < d.sig")))
            .ends();
    assert_ne!(moved.status, 0, "an old signature for a new request: {moved:?}");
    assert!(second.is_running());
    assert_eq!(bastion.state_of("mallory", &other), "pending");
    bastion.refused(&other, 1);
    assert_eq!(bastion.target.logins(), 1, "the target saw alice's session and no other");
}

#[test]
fn what_has_ended_cannot_be_approved() {
    let bastion = Bastion::start();
    let (client, request) = held(&bastion, "alice");
    let sign = format!(
        "set -e; $SSH bastion decision {request} approve > d; {} -q -Y sign -n countersign-decision-v1 -f {} d",
        program("ssh-keygen").display(),
        bastion.key_of("bob").display()
    );
    Client::start(bastion.sh("bob", &sign)).ends().well();
    bastion.says("alice", &["withdraw", &request]).well();
    client.ends().ends(77);
    let signed_before = Client::start(bastion.sh("bob", &format!("$SSH bastion submit {request} < d.sig"))).ends();
    assert_ne!(signed_before.status, 0, "signed before it was withdrawn: {signed_before:?}");
    let late = submit(&bastion, &request, "", "bob", "countersign-decision-v1");
    assert_ne!(late.status, 0, "withdrawn: {late:?}");
    assert_eq!(bastion.state_of("alice", &request), "withdrawn");
    bastion.audited("request.withdraw", &request);
    bastion.refused(&request, 2);
    assert_eq!(bastion.target.logins(), 0, "nothing reached the target");
    let again = Client::start(bastion.ssh("alice", &[format!("{}=web-1@bastion", login()), "echo ran".into()]));
    assert_ne!(again.request(), request, "a new connect is a new request");
}

#[test]
fn a_key_workflow_takes_no_word_for_it() {
    let bastion = Bastion::start();
    let (mut client, request) = held(&bastion, "alice");
    let said = client.err();
    let code = said
        .split("code ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or_else(|| panic!("no code in {said}"))
        .to_owned();
    let unsigned = bastion.run("bob", &["bastion", "approve", &request, &code]);
    assert_ne!(unsigned.status, 0, "{unsigned:?}");
    assert!(client.is_running());
    bastion.refused(&request, 1);
}

#[test]
fn an_approver_may_grant_less() {
    let bastion = Bastion::start();
    let (client, request) = held(&bastion, "alice");
    bastion.approve(&request, &["--once", "--note", "only this"]);
    assert_eq!(client.ends().out(), "ran\n");
    let second = Client::start(bastion.ssh("alice", &[format!("{}=web-1@bastion", login()), "true".into()]));
    second.reads("needs approval");
}
