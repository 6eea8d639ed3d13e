//! SIGHUP: what an operator edited counts from then on, or not at all.

use std::time::Duration;

use crate::harness::{Bastion, Client, SOON, login, until};

fn to(target: &str) -> String {
    format!("{}={target}@bastion", login())
}

#[test]
fn a_new_target_is_reachable_after_a_reload() {
    let bastion = Bastion::start();
    bastion.enrols("fresh-1");
    bastion.run("alice", &[to("fresh-1"), "true".into()]).ends(77);

    bastion.reloads();

    until("fresh-1 is reachable", SOON, || bastion.run("alice", &[to("fresh-1"), "echo fresh".into()]).out() == "fresh\n");
}

#[test]
fn a_broken_edit_keeps_what_was_loaded() {
    let bastion = Bastion::start();
    let mut held = Client::start(bastion.ssh("alice", &[to("web-1"), "echo ran".into()]));
    let request = held.request();
    for (name, nonsense) in [
        ("targets.toml", "[targets.broken\n"),
        ("people.toml", "[people.nobody]\nkeys = [\"no key\"]\n"),
        ("access.cedar", "permit (principal, action,\n"),
    ] {
        let file = bastion.policy_file(name);
        let whole = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{whole}\n{nonsense}")).unwrap();
        let before = bastion.log().len();
        bastion.reloads();
        until(&format!("the bastion says what is wrong with {name}"), SOON, || {
            bastion.log().get(before..).is_some_and(|said| said.contains(&format!("{name}:")))
        });
        assert_eq!(bastion.run("alice", &[to("dev-1"), "echo still here".into()]).well(), "still here\n", "{name}");
        assert!(held.is_running(), "{name}: {}", held.err());
        bastion.audited("policy.refuse", name);
        std::fs::write(&file, whole).unwrap();
    }
    bastion.approve(&request, &[]);
    assert_eq!(held.ends().well(), "ran\n", "who waited went on waiting");

    bastion.enrols("fresh-1");
    bastion.reloads();
    until("a mended directory is read", SOON, || bastion.run("alice", &[to("fresh-1"), "true".into()]).status == 0);
}

/// Adds to a file of `policies/`.
fn adds(bastion: &Bastion, name: &str, text: &str) {
    let file = bastion.policy_file(name);
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{whole}\n{text}")).unwrap();
}

/// Takes the table `[NAME]` out of a file of `policies/`.
fn removes(bastion: &Bastion, file: &str, table: &str) {
    let file = bastion.policy_file(file);
    let whole = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = whole.split_once(&format!("[{table}]\n")).unwrap_or_else(|| panic!("{table} in {whole}"));
    let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
    std::fs::write(&file, format!("{before}{after}")).unwrap();
}

/// A session that echoes, up and running.
fn live(bastion: &Bastion, person: &str, target: &str) -> Client {
    let mut client = Client::start(bastion.ssh(person, &[to(target), "cat".into()]));
    client.types(b"here\n");
    client.gets("here\n");
    client
}

/// Ends with 79 and this line, within two seconds.
#[track_caller]
fn is_ended(client: Client, why: &str) {
    client.reads_within(&format!("countersign: ended: the policy changed ({why})"), Duration::from_secs(2));
    client.ends().ends(79);
}

#[test]
fn a_no_ends_what_runs_and_a_new_hold_asks_again() {
    let bastion = Bastion::start();
    bastion.open_grant(&[]);
    let (dev, mut web) = (live(&bastion, "alice", "dev-1"), live(&bastion, "alice", "web-1"));
    let held = Client::start(bastion.ssh("mallory", &[to("web-1"), "echo ran".into()]));
    let first = held.request();
    let unused = bastion.open_grant(&["--once"]);

    adds(&bastion, "approvals.toml", "[workflows.second]\napprovers = [\"leads\"]\n");
    adds(
        &bastion,
        "access.cedar",
        "@id(\"freeze\") forbid (principal, action in Action::\"session\", resource == Target::\"dev-1\");
         @id(\"also\") @hold(\"second\") forbid (principal, action in Action::\"session\", resource == Target::\"web-1\");",
    );
    bastion.reloads();

    is_ended(dev, "freeze");
    held.reads(&format!("countersign: the policy changed: {first} is void"));
    held.reads("(prod-needs-a-lead) and 1 of leads (also)");
    let again = held.err().rsplit("request ").next().unwrap()[..6].to_owned();
    assert_ne!(again, first);
    assert_eq!(held.err().matches("reason INC-42").count(), 2, "the reason goes along: {}", held.err());
    bastion.approve(&again, &[]);
    assert_eq!(held.ends().well(), "ran\n");
    web.types(b"still\n");
    web.gets("still\n");
    bastion.audited("policy.reload", "before");
    bastion.audited_with("request.void", &[&first, "the policy changed (also)"]);
    bastion.audited_with("grant.void", &[&unused, "the policy changed (also)"]);
    bastion.audited_with("session.end", &["revoked by the policy: freeze"]);
    assert_eq!(bastion.run("alice", &[to("dev-1"), "true".into()]).status, 77);
}

#[test]
fn who_or_what_is_removed_goes_at_once() {
    let bastion = Bastion::start();
    let (alices, mallorys) = (live(&bastion, "alice", "dev-1"), live(&bastion, "mallory", "dev-1"));
    let held = Client::start(bastion.ssh("mallory", &[to("web-1"), "echo ran".into()]));
    let request = held.request();
    let watching = Client::start(bastion.companion("mallory", &["requests", "--watch"]));
    watching.gets(&request);

    removes(&bastion, "people.toml", "people.mallory");
    bastion.reloads();

    is_ended(mallorys, "mallory is not known here any more");
    assert!(held.ends().ends(77).contains("your key is not known here any more"));
    assert_ne!(watching.ends().status, 0);
    bastion.audited_with("request.void", &[&request, "mallory is not known here any more"]);
    let mut alices = alices;
    assert!(alices.is_running());

    removes(&bastion, "targets.toml", "targets.dev-1");
    bastion.reloads();

    is_ended(alices, "dev-1 is not a target any more");
}

#[test]
fn a_policy_that_gives_less_time_shortens_what_runs() {
    let bastion = Bastion::start();
    let request = bastion.open_grant(&["--for", "30m"]);
    let held = Client::start(bastion.ssh("alice", &[to("web-1"), "echo in; sleep 60".into()]));
    held.gets("in\n");
    let free = Client::start(bastion.ssh("alice", &[to("dev-1"), "echo in; sleep 60".into()]));
    free.gets("in\n");
    bastion.is_told("policies/approvals.toml", |text| {
        text.replace("offered = \"30m\"\nlongest = \"4h\"", "offered = \"1s\"\nlongest = \"1s\"")
    });
    assert!(held.ends().ends(79).contains(&format!("{request} ended")));
    bastion.audited("grant.shorten", &request);
    bastion.is_told("policies/access.cedar", |text| text.replace("@id(\"engineers\")", "@id(\"engineers\") @grant(\"1s\")"));
    free.ends().ends(79);
}
