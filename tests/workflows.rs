//! Stages, who is asked when nobody answers, people who are away, and people who are out at once.

use std::time::Duration;

use super::harness::{Bastion, Client, SOON, Way, login, until};

/// The workflow of production with this stage, or these tables of stages; bob may suspend, and carol approve.
fn bastion(stage: &str, stages: &str) -> Bastion {
    let bastion = Bastion::start();
    let file = bastion.policy_file("access.cedar");
    let access = std::fs::read_to_string(&file).unwrap();
    let suspends = "@id(\"suspends\") permit (principal == Person::\"bob\", action == Action::\"suspend\", resource);
        @id(\"carol-too\") permit (principal == Person::\"carol\", action == Action::\"approve\", resource);";
    std::fs::write(&file, format!("{access}\n{suspends}\n")).unwrap();
    bastion.is_told("policies/approvals.toml", |text| {
        let text = text.replacen("approvers = [\"leads\"]\nsignature", &format!("{stage}\nsignature"), 1);
        text.replacen("[workflows.quick]", &format!("{stages}\n[workflows.quick]"), 1)
    });
    bastion
}

fn asks(bastion: &Bastion) -> Client {
    Client::start(bastion.ssh("alice", &[&Way::Named.to("web-1")[..], &["echo ran".into()]].concat()))
}

#[test]
fn nobody_answers_so_others_are_asked_too() {
    let bastion = bastion("people = [\"bob\"]\nescalate_to = [\"leads\"]\nescalate_after = \"3s\"\nprompt = \"Which ticket?\"", "");
    let held = asks(&bastion);
    let request = held.request();
    held.reads("asked bob");
    let card = bastion.says("bob", &["show", &request]).well();
    assert!(card.contains("  mind      Which ticket?\n"), "{card}");

    held.reads("countersign: nobody answered in 3 s; leads asked too");
    bastion.audited_with("request.escalate", &[&request, "unanswered", "leads"]);
    assert!(bastion.json("dora", &["show", &request])["request"]["asked"].to_string().contains("dora"));
    assert_eq!(bastion.says("dora", &["approve", &request]).status, 0);
    assert_eq!(held.ends().well(), "ran\n");
}

#[test]
fn one_is_away_and_another_stands_in_or_is_asked_at_once() {
    let bastion = bastion("people = [\"bob\"]\nescalate_to = [\"leads\"]", "");
    let refused = bastion.says("bob", &["away", "--until", "MON", "--instead", "mallory"]);
    assert!(refused.status == 64 && refused.err.contains("mallory may decide nothing that you may"), "{refused:?}");
    let noted =
        bastion.run("bob", &["bastion".to_owned(), "away".into(), "--until".into(), "MON".into(), "--instead".into(), "dora".into()]);
    assert!(noted.well().starts_with("countersign: noted: away bob until Mon, dora instead (in "), "{noted:?}");
    assert!(bastion.says("bob", &["status"]).out().contains("away      bob until Mon, dora instead\n"));
    bastion.audited_with("person.away", &["bob", "dora"]);

    let held = asks(&bastion);
    let request = held.request();
    held.reads("countersign: nobody can decide now (bob away until Mon); leads asked at once");
    let card = bastion.says("dora", &["show", &request]).well();
    assert!(card.contains("  asked     dora\n") && card.contains("  now       nobody can decide now (bob away until Mon)"), "{card}");
    // Whoever is away and decides is there.
    bastion.approve(&request, &[]);
    assert_eq!(held.ends().well(), "ran\n");
    assert!(bastion.says("bob", &["away", "--back"]).well().contains("bob is back"));
    assert!(bastion.says("bob", &["away", "--back"]).err.contains("are not away"));
}

#[test]
fn stages_are_asked_in_order_and_over_a_restart() {
    let stage = |people: &str| format!("[[workflows.lead.stages]]\npeople = {people}\n");
    let mut bastion = bastion("", &(stage("[\"bob\", \"dora\"]") + &stage("[\"dora\", \"carol\"]")));
    let held = asks(&bastion);
    let request = held.request();
    let early = bastion.says("carol", &["approve", &request]);
    assert!(early.status == 77 && early.err.contains("is for bob, dora to agree to first; you are asked after them"), "{early:?}");
    let said = bastion.approve(&request, &[]);
    assert!(said.err.contains("kept") || said.out().contains("kept"), "{said:?}");
    held.reads("countersign: stage 2 of 2: 1 of dora, carol · asked carol, dora");
    bastion.audited_with("request.stage", &[&request, "lead"]);

    bastion.stops();
    held.ends();
    bastion.serve();
    let again = asks(&bastion);
    assert_eq!(again.request(), request);
    assert_eq!(bastion.says("carol", &["approve", &request]).status, 0);
    assert_eq!(again.ends().well(), "ran\n");
}

#[test]
fn who_is_suspended_is_out_within_two_seconds_until_others_say_otherwise() {
    let mut bastion = bastion("approvers = [\"leads\"]", "");
    let to_dev = format!("{}=dev-1@bastion", login());
    let mut live = Client::start(bastion.ssh("mallory", &[to_dev.clone(), "cat".into()]));
    live.types(b"here\n");
    live.gets("here\n");
    let held = Client::start(bastion.ssh("mallory", &[&Way::Named.to("web-1")[..], &["true".into()]].concat()));
    let request = held.request();

    let refused = bastion.says("dora", &["suspend", "mallory", "--reason", "x"]);
    assert!(refused.status == 77 && refused.err.contains("is for those whom access.cedar permits Action::\"suspend\""), "{refused:?}");
    let done = bastion.says("bob", &["suspend", "mallory", "--reason", "laptop", "lost"]).well();
    assert!(done.contains("mallory is suspended: 1 sessions end now; requests void 1"), "{done}");

    live.reads_within("countersign: ended by bob: mallory is suspended: laptop lost", Duration::from_secs(2));
    assert_eq!(live.ends().status, 79);
    assert_eq!(held.ends().status, 77);
    bastion.audited_with("request.void", &[&request, "suspended"]);
    until("mallory is not let in", SOON, || bastion.run("mallory", &["bastion", "whoami"]).status == 255);
    let checked = bastion.operator(&["check"]);
    assert!(checked.out().contains("mallory is suspended, by bob") && checked.out().contains("(laptop lost)"), "{checked:?}");

    bastion.stops();
    bastion.serve();
    assert_eq!(bastion.run("mallory", &["bastion", "whoami"]).status, 255, "it survives a restart");
    bastion.is_told("policies/people.toml", |text| text.replacen("[people.mallory]\n", "[people.mallory]\nsuspended = true\n", 1));
    assert!(!bastion.operator(&["check"]).out().contains("mallory is suspended"), "the files agree");
    assert_eq!(bastion.run("mallory", &["bastion", "whoami"]).status, 255);
    bastion.is_told("policies/people.toml", |text| text.replacen("suspended = true\n", "", 1));
    assert_eq!(bastion.run("mallory", &["bastion", "whoami"]).status, 255, "the state still says so");
    bastion.says("bob", &["unsuspend", "mallory", "--reason", "found"]).well();
    until("mallory is let in again", SOON, || bastion.run("mallory", &["bastion", "whoami"]).status == 0);

    // Oneself, everybody may; the way back is for others.
    let own = bastion.run("mallory", &["bastion", "suspend", "me"]);
    assert!(own.well().contains("mallory is suspended"), "{own:?}");
    until("mallory is out", SOON, || bastion.run("mallory", &["bastion", "whoami"]).status == 255);
    bastion.audited_with("person.suspend", &["mallory"]);
}
