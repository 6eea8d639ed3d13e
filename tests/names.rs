//! What the user name says: a target in four spellings, or the console.

use crate::harness::{Bastion, login};

#[test]
fn a_target_has_four_spellings() {
    let bastion = Bastion::start();
    let login = login();
    for user in [format!("{login}=dev-1"), format!("{login}@dev-1"), format!("{login}%dev-1"), "dev-1".into(), "DEV-1".into()] {
        let seen = bastion.run("alice", &[&format!("{user}@bastion"), "id -un"]);
        assert_eq!(seen.well().trim(), login, "{user}");
    }
}

#[test]
fn the_persons_own_name_is_the_console() {
    let bastion = Bastion::start();
    for host in ["bastion", "alice@bastion"] {
        let seen = bastion.run("alice", &[host, "whoami"]);
        assert!(seen.well().contains("alice"), "{seen:?}");
    }
    let nonsense = bastion.run("alice", &["bastion", "frobnicate"]);
    assert_ne!(nonsense.status, 0, "{nonsense:?}");
    let other = bastion.run("alice", &["bob@bastion", "whoami"]);
    assert_eq!(other.status, 77, "another person's name is a target that is not there: {other:?}");
}

#[test]
fn a_malformed_name_is_said_to_be_one() {
    let bastion = Bastion::start();
    for user in ["=web-1", "de ploy=web-1", "deploy=", "deploy=web/1", "deploy=web,1"] {
        let seen = bastion.run("alice", &["-l", user, "bastion", "true"]);
        assert_eq!(seen.status, 64, "{user:?}: {seen:?}");
        assert!(seen.err.starts_with("countersign: "), "{seen:?}");
    }
}

#[test]
fn a_stranger_has_no_name() {
    let bastion = Bastion::start();
    crate::harness::keygen(&bastion.dir().join("nobody"));
    let key = bastion.dir().join("nobody");
    let options = [format!("IdentityFile={}", key.display())];
    let seen = bastion.run(
        "alice",
        &[
            "-F",
            "none",
            "-o",
            &options[0],
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-p",
            &bastion.port.to_string(),
            &format!("{}=dev-1@127.0.0.1", login()),
            "true",
        ],
    );
    assert_eq!(seen.status, 255, "{seen:?}");
    assert!(seen.err.contains("Permission denied"), "{seen:?}");
}
