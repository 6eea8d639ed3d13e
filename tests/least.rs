//! Less than was asked: shorter, once, narrower, later, over by a time; and the requester reads it.

use crate::harness::{Bastion, Client, REASON, Way, login};

fn to_web() -> String {
    format!("{}@web-1", login())
}

#[test]
fn a_narrower_scope_is_all_that_opens() {
    let bastion = Bastion::start();
    let words = |command: &str| [Way::Named.to("web-1"), vec![command.to_owned()]].concat();
    let client = Client::start(bastion.ssh("alice", &words("echo ran")));
    let request = client.request();

    // More than was asked is not signed, and not printed to be signed either.
    let more = bastion.says("bob", &["approve", &request, "--for", "3h"]);
    assert!(more.status != 0 && more.err.contains("is more"), "{more:?}");
    let nothing = bastion
        .run("bob", &["bastion", "decision", &request, "approve", "--from", "2100-01-01T00:00:00Z", "--until", "2099-01-01T00:00:00Z"]);
    assert!(nothing.ends(64).contains("it grants nothing"), "{nothing:?}");

    let scope = "exec:echo input; cat";
    let approved = bastion.approve(&request, &["--scope", scope, "--for", "15m", "--note", "the one command"]);
    assert!(approved.err.contains("you grant less: one exact command (echo input; cat), 15m from first use"), "{approved:?}");
    assert!(approved.out().contains(&format!("approved {request} for 15m. Wrong one? countersign revoke {request}")), "{approved:?}");
    let refused = client.ends();
    let said = refused.ends(77);
    assert!(
        said.contains("approved by bob for less: 15m of 30m, only one exact command (echo input; cat) (bob: \"the one command\")"),
        "{said}"
    );

    // That command opens, as force-command, and without input: a shell was asked for, and `bash -s` would be one.
    let mut exact = Client::start(bastion.ssh("alice", &words("echo input; cat")));
    exact.types(b"SECRET\n");
    assert_eq!(exact.ends().well(), "input\n");
    assert!(bastion.target.log().contains("force-command") || bastion.target.log().contains("forced"), "{}", bastion.target.log());
    let listed = bastion.says("alice", &["requests", "--mine"]).well();
    assert!(listed.lines().any(|line| line.contains(&request) && line.contains("one exact command") && line.contains("15m")), "{listed}");
    let card = bastion.says("alice", &["show", &request]).well();
    assert!(card.contains("said yes") && card.contains("the one command") && card.contains("signed (key) with SHA256:"), "{card}");
}

#[test]
fn a_window_opens_later_and_ends_when_it_was_said() {
    let bastion = Bastion::start();
    // The console's three lines take the same words.
    let client = Client::start(bastion.ssh("alice", &[Way::Jump.to("web-1"), vec!["echo ran".into()]].concat()));
    let request = client.request();
    let script = format!(
        "set -e; $SSH bastion decision {request} approve --from 2100-01-01T22:00:00Z --until 2100-01-02T06:00:00Z --once > d
         {} -q -Y sign -n countersign-decision-v1 -f {} d; $SSH bastion submit {request} < d.sig",
        crate::harness::program("ssh-keygen").display(),
        bastion.key_of("bob").display()
    );
    let submitted = Client::start(bastion.sh("bob", &script)).ends();
    assert!(submitted.well().contains("for 30m, one session, not before"), "{submitted:?}");
    let early = client.ends();
    assert!(early.ends(75).contains("not before") && early.err.contains("2100"), "{early:?}");
    let listed = bastion.says("alice", &["requests", "--mine"]).well();
    assert!(listed.contains("30m once from 22:00Z to 06:00Z"), "{listed}");
    bastion.audited_with("request.decide", &[&request, "from_us", "until_us"]);

    // Made ahead for later, approved now, and over by then: it has not begun, and another way in is asked for anew.
    let asked = bastion.json("alice", &["request", &to_web(), "--start", "2100-01-01T22:00:00Z", "--reason", REASON]);
    let ahead = asked["asked"]["card"]["request"].as_str().unwrap().to_owned();
    let earlier = bastion.says("bob", &["approve", &ahead, "--from", "2099-01-01T22:00:00Z"]);
    assert!(earlier.status != 0 && earlier.err.contains("an earlier start"), "{earlier:?}");
    bastion.approve(&ahead, &[]);
    let again = Client::start(bastion.ssh("alice", &[Way::Named.to("web-1"), vec!["true".into()]].concat()));
    again.reads("needs approval");
    assert_eq!(bastion.target.logins(), 0, "nothing has begun");

    // Over by a time that comes soon, whatever was granted from first use.
    let now = Client::start(bastion.sh("bob", "date -u -d '+20 seconds' +%FT%TZ")).ends().well();
    let request = again.request();
    bastion.approve(&request, &["--until", now.trim()]);
    again.ends().well();
    let ends = bastion.json("alice", &["grants"])["grants"][0]["ends"].as_str().unwrap().to_owned();
    assert_eq!(ends.get(..19), now.trim().get(..19), "{ends}");
}
