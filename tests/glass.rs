//! Break-glass: who may opens first; everybody is told, everything is recorded, somebody else reviews it.

use serde_json::Value;

use super::harness::{Bastion, Client, Plan, SOON, login, until};

const RETENTION: &str = "default = \"short\"\n[schedules.short]\nkeep_at_least = \"1d\"\ndelete_after = \"2d\"\n
[schedules.long]\nkeep_at_least = \"1y\"\ndelete_after = \"2y\"\n";

const MAY: &str = "
@id(\"alice-may\")
permit (principal == Person::\"alice\", action == Action::\"break-glass\", resource in Label::\"env=prod\");
";

#[test]
fn who_may_opens_first_and_somebody_else_reviews_it() {
    let dir = tempfile::tempdir().unwrap();
    let paged = dir.path().join("paged");
    let settings = format!("[notifiers.page]\ncommand = [\"/bin/sh\", \"-c\", \"cat >>{}\"]\n", paged.display());
    let bastion = Bastion::with(Plan { settings, retention: Some(RETENTION), ..Plan::default() });
    bastion.is_told("policies/approvals.toml", |text| {
        text.replace("[workflows.lead]", "[workflows.lead]\nbreak_glass = true\nretain = \"long\"\nnotify = [\"page\"]")
    });
    bastion.is_told("policies/access.cedar", |text| text + MAY);
    let (to, named) = (format!("{}=web-1@bastion", login()), format!("{}@web-1", login()));

    // Offered where it is ruled, and nowhere else.
    let mut held = Client::start(bastion.ssh("alice", &[&to, "echo in; cat"]));
    held.reads(&format!("emergency: countersign request --break-glass {named}"));
    let other = Client::start(bastion.ssh("mallory", &[&to, "true"]));
    other.request();
    assert!(!other.err().contains("emergency"), "{}", other.err());
    let refused = bastion.says("mallory", &["request", "--break-glass", &named, "--reason", "INC-1"]);
    assert!(refused.ends(77).contains("break-glass is not open to you there"), "{refused:?}");
    let silent = bastion.says("alice", &["request", "--break-glass", &named]);
    assert!(silent.ends(64).contains("break-glass needs one"), "{silent:?}");

    // Whoever waits passes; everybody who may decide is told.
    let opened = bastion.json("alice", &["request", "--break-glass", &named, "--reason", "INC-1 all is down"]);
    let request = opened["asked"]["card"]["request"].as_str().unwrap().to_owned();
    held.gets("in\n");
    bastion.audited_with("request.break-glass", &[&request, "alice", "INC-1 all is down"]);
    until("the alarm is out", SOON, || std::fs::read_to_string(&paged).unwrap_or_default().contains("break-glass"));
    let page = std::fs::read_to_string(&paged).unwrap();
    let alarm: Value =
        page.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|seen| seen["kind"] == "break-glass").unwrap();
    let text = alarm["text"].as_str().unwrap();
    assert!(text.starts_with(&format!("BREAK-GLASS alice → {named} · shell 30m · \"INC-1 all is down\"\n")), "{text}");
    assert!(text.contains("told bob, dora") && text.contains(&format!("end it: ssh bastion revoke {request}")), "{text}");

    // It shows wherever somebody looks, and runs to its end before it is reviewed.
    let session = bastion.sessions().pop().unwrap();
    let id = session["session"].as_str().unwrap().to_owned();
    assert_eq!((&session["unreviewed"], &session["record"]), (&true.into(), &"full".into()), "{session}");
    let pending = bastion.json("bob", &["requests", "--pending"]);
    let listed = pending["requests"].as_array().unwrap().iter().find(|one| one["request"] == request.as_str()).unwrap();
    assert_eq!((&listed["break_glass"], &listed["unreviewed"]), (&true.into(), &true.into()));
    let status = bastion.says("bob", &["status"]);
    assert!(status.status == 1 && status.out().contains("review: 1 sessions"), "{status:?}");
    let early = bastion.says("bob", &["reviewed", &id, "--note", "looks fine"]);
    assert!(early.ends(77).contains("still runs"), "{early:?}");
    held.types(b"typed\n");
    held.gets("typed");
    held.ends().well();
    let sealed = bastion.sealed();
    assert!(bastion.opened(sealed["sealed"]["file"].as_str().unwrap()).contains("typed"));

    let waiting = bastion.says("bob", &["review"]).well();
    assert!(waiting.contains(&id) && waiting.contains("\"INC-1 all is down\""), "{waiting}");
    let own = bastion.says("alice", &["reviewed", &id, "--note", "my own"]);
    assert!(own.ends(77).contains("is unknown or not yours"), "{own:?}");
    bastion.says("bob", &["reviewed", &id, "--note", "as the incident says"]).well();
    bastion.audited_with("session.review", &["bob", &id, "as the incident says"]);
    let again = bastion.says("dora", &["reviewed", &id, "--note", "me too"]);
    assert!(again.ends(77).contains("waits for no review"), "{again:?}");
    assert_eq!(bastion.sessions().pop().unwrap()["reviewed_by"], "bob");
    bastion.says("bob", &["status"]).well();
    let due = bastion.json("carol", &["retention", "plan", "--within", "3y"]);
    assert_eq!(due["plan"][0]["schedule"], "long", "{due}");
}
