//! More time for what runs: asked, signed for, and no further than that.

use super::harness::{Bastion, Client, REASON, SOON, Way, until};

/// alice runs this on a grant of six seconds; it counts as long as it lives.
const COUNTS: &str = "i=0; while [ $i -lt 60 ]; do echo tick $i; i=$((i+1)); sleep 0.5; done";

#[test]
fn a_session_goes_on_to_where_its_extension_was_signed_for() {
    let bastion = Bastion::start();
    let request = bastion.open_grant(&["--for", "6s"]);
    let client = Client::start(bastion.ssh("alice", &[&Way::Named.to("web-1")[..], &[COUNTS.into()]].concat()));
    client.gets("tick 1\n");

    // From outside, without saying which: there is only one.
    let asked = bastion.json("alice", &["extend", "--for", "5s"]);
    let extension = asked["asked"]["card"]["request"].as_str().unwrap().to_owned();
    assert_ne!(extension, request);
    let card = bastion.says("bob", &["show", &extension]).well();
    assert!(card.contains(&format!("extends   {request}, running for")) && card.contains("it opens nothing"), "{card}");
    assert!(card.contains(REASON), "the reason it was given for stands: {card}");
    bastion.approve(&extension, &[]);
    bastion.audited_with("grant.extend", &[&request, &extension]);

    // Past the first end, and not past the second.
    let seen = client.ends();
    assert_eq!(seen.status, 79, "{seen:?}");
    let ticks = seen.out().lines().count();
    assert!((14..=24).contains(&ticks), "eleven seconds are twenty-two halves: {ticks}");
    until("the grant is over", SOON, || bastion.json("alice", &["grants"])["grants"].as_array().unwrap().is_empty());
    let late = bastion.says("alice", &["extend", &request, "--for", "5s"]);
    assert_eq!(late.status, 77, "{late:?}");
    assert!(late.err.contains("is over"), "{late:?}");
}

#[test]
fn an_extension_is_refused_where_it_cannot_be() {
    let bastion = Bastion::start();
    let none = bastion.says("alice", &["extend"]);
    assert!(none.status == 77 && none.err.contains("finds nothing of yours that runs on an approval"), "{none:?}");
    let request = bastion.open_grant(&["--for", "30m"]);
    let unused = bastion.says("alice", &["extend", &request]);
    assert!(unused.status == 77 && unused.err.contains("has not begun"), "{unused:?}");

    let client = Client::start(bastion.ssh("alice", &[&Way::Jump.to("web-1")[..], &["echo in; cat".into()]].concat()));
    client.gets("in\n");
    // Somebody else's, and more than the workflow gives in all.
    let stranger = bastion.says("mallory", &["extend", &request]);
    assert!(stranger.status == 77 && stranger.err.contains("unknown or not yours"), "{stranger:?}");
    let long = bastion.says("alice", &["extend", &request, "--for", "10h"]);
    assert!(long.status == 77 && long.err.contains("more can be asked for"), "{long:?}");
    // Denied, it changes nothing; nobody extends what was revoked.
    let session = bastion.sessions().pop().unwrap()["session"].as_str().unwrap().to_owned();
    let asked = bastion.json("alice", &["extend", &session, "--for", "1m", "--reason", "INC-43 one more table"]);
    let extension = asked["asked"]["card"]["request"].as_str().unwrap().to_owned();
    bastion.says("bob", &["revoke", &request]).well();
    assert_eq!(client.ends().status, 79);
    let late = bastion.says("bob", &["approve", &extension]);
    assert!(late.status == 77 && late.err.contains("cannot be extended"), "{late:?}");
}

#[test]
fn the_cut_waits_for_the_answer_to_who_asked_before_the_end() {
    let bastion = Bastion::start();
    let counts = [&Way::Named.to("web-1")[..], &[COUNTS.into()]].concat();
    let runs = |seconds: &str| {
        let request = bastion.open_grant(&["--for", seconds]);
        let client = Client::start(bastion.ssh("alice", &counts));
        client.gets("tick 1\n");
        let asked = bastion.json("alice", &["extend", &request, "--for", "20s"]);
        (request, client, asked["asked"]["card"]["request"].as_str().unwrap().to_owned())
    };

    // Denied after its end, it ends at once.
    let (request, mut client, extension) = runs("4s");
    bastion.audited_with("session.overrun", &[&request, &extension]);
    assert!(client.is_running(), "{}", client.err());
    let card = bastion.says("bob", &["show", &extension]).well();
    assert!(card.contains("what runs goes on past its end") && card.contains("running for"), "{card}");
    let late = Client::start(bastion.ssh("alice", &counts));
    late.reads("needs approval");
    late.hangs_up();
    bastion.says("bob", &["deny", &extension, "--note", "enough"]).well();
    let denied = client.ends();
    assert!(denied.ends(79).contains("ended"), "{denied:?}");

    // Agreed to, it goes on to twenty seconds after its first end, and no second warning is due.
    let (request, mut client, extension) = runs("4s");
    bastion.audited_with("session.overrun", &[&request, &extension]);
    bastion.approve(&extension, &[]);
    client.gets("tick 20\n");
    assert!(client.is_running(), "{}", client.err());
    bastion.says("alice", &["revoke", &request]).well();
    client.ends().ends(79);

    // Where nobody answers, it ends when the signed terms say so.
    bastion.is_told("policies/approvals.toml", |text| text.replace("longest = \"4h\"", "longest = \"4h\"\noverrun = \"2s\""));
    let (request, client, extension) = runs("4s");
    let seen = client.ends();
    assert!(seen.ends(79).contains(&format!("{request} ended")), "{seen:?}");
    bastion.comes_to("alice", &extension, "expired");
    let ticks = seen.out().lines().count();
    assert!((9..=16).contains(&ticks), "six seconds are twelve halves: {ticks}");
}
