//! Exact commands: to the byte, with what belongs to them, and nothing beside.

use crate::harness::{Bastion, Client, Way, login};

#[test]
fn input_that_was_not_approved_goes_nowhere() {
    let bastion = Bastion::start();
    let request = bastion.open_grant(&["--exec", "cat"]);
    let card = bastion.says("bob", &["show", &request]).well();
    assert!(card.contains("closed"), "the approver reads that input is closed: {card}");
    for way in Way::BOTH {
        let mut words = way.to("web-1");
        words.push("cat".into());
        let mut client = Client::start(bastion.ssh("alice", &words));
        client.types(b"SECRET\n");
        let seen = client.ends();
        assert_eq!(seen.well(), "", "{way:?} {seen:?}");
        assert!(!seen.err.contains("SECRET"), "{way:?} {seen:?}");
    }
    assert_eq!(bastion.target.logins(), 2, "both ran");
}

#[test]
fn who_may_run_one_command_runs_it() {
    let bastion = Bastion::start();
    for way in Way::BOTH {
        let mut words = way.to("web-1");
        words.push("id -un".into());
        let seen = bastion.run("hugo", &words);
        assert_eq!((seen.well().trim(), seen.err.as_str()), (login(), ""), "{way:?}: nobody has to agree");
        let session = bastion.sealed();
        assert_eq!((session["person"].as_str(), session["target"].as_str()), (Some("hugo"), Some("web-1")), "{way:?}");
    }
}

#[test]
fn who_may_run_one_command_runs_no_other() {
    let bastion = Bastion::start();
    for way in Way::BOTH {
        for other in ["id -un ", "id", "id -un; id", ""] {
            let mut words = way.to("web-1");
            words.extend((!other.is_empty()).then(|| other.to_owned()));
            bastion.run("hugo", &words).ends(77);
        }
    }
    bastion.audited_with("refusal", &["hugo", "web-1"]);
    let with_terminal = bastion.run("hugo", &["-tt".into(), format!("{}=web-1@bastion", login()), "id -un".into()]);
    assert!(with_terminal.ends(77).contains("without -t"), "{with_terminal:?}");
    bastion.run("hugo", &[format!("{}=dev-1@bastion", login()), "id -un".into()]).ends(77);
    bastion.audited_with("refusal", &["hugo", "dev-1"]);
    assert_eq!(bastion.target.logins(), 0, "nothing reached the target");
}

#[test]
fn a_login_that_the_target_does_not_list_is_nobodys() {
    let bastion = Bastion::start();
    for person in ["hugo", "alice"] {
        bastion.run(person, &["postgres=web-1@bastion", "id -un"]).ends(77);
        bastion.audited_with("refusal", &[person, "postgres@web-1"]);
    }
    assert_eq!(bastion.target.logins(), 0, "nothing reached the target");
}
