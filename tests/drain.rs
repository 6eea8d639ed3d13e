//! A bastion that goes: announced, drained or at once, each with a word and every recording sealed.

use std::time::Duration;

use crate::harness::{Bastion, Client, Plan, SOON, Terminal, login, until};

fn to(target: &str) -> String {
    format!("{}={target}@bastion", login())
}

/// dora may announce a restart.
fn bastion(limits: &str) -> Bastion {
    let bastion = Bastion::with(Plan { limits: limits.into(), ..Plan::default() });
    let file = bastion.policy_file("access.cedar");
    let whole = std::fs::read_to_string(&file).unwrap();
    let drain = "@id(\"restarts\") permit (principal == Person::\"dora\", action == Action::\"drain\", resource);";
    std::fs::write(&file, format!("{whole}\n{drain}")).unwrap();
    bastion.reloads();
    bastion.audited("policy.reload", "before");
    bastion
}

/// A shell in a terminal on web-1, under a grant; returns it too.
fn shell(bastion: &Bastion) -> (Terminal, String) {
    let request = bastion.open_grant(&[]);
    let terminal = Terminal::start(&bastion.ssh("alice", &[to("web-1")]));
    terminal.sees("is recorded");
    terminal.types("echo ready $((6*7))\r");
    terminal.sees("ready 42");
    (terminal, request)
}

fn piped(bastion: &Bastion) -> Client {
    let mut client = Client::start(bastion.ssh("alice", &[to("dev-1"), "cat".into()]));
    client.types(b"here\n");
    client.gets("here\n");
    client
}

/// `HH:MM` in UTC, so many minutes from now.
fn minutes_ahead(minutes: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + minutes * 60;
    format!("{:02}:{:02}", now / 3600 % 24, now / 60 % 60)
}

#[test]
fn an_announced_restart_is_told_to_terminals_and_to_who_waits() {
    let mut bastion = bastion("");
    let (terminal, request) = shell(&bastion);
    let pipe = piped(&bastion);
    let held = Client::start(bastion.ssh("mallory", &[to("web-1"), "true".into()]));
    let asked = held.request();
    let at = minutes_ahead(30);
    assert_eq!(bastion.says("bob", &["drain", "--at", &at]).status, 77, "only who may");
    assert_eq!(bastion.says("dora", &["drain"]).status, 64);

    bastion.says("dora", &["drain", "--at", &at, "--reason", "new kernel"]).well();

    terminal.sees(&format!("countersign: bastion restarts {at}Z (in "));
    terminal.sees(&format!("): new kernel; {request} stays valid to "));
    terminal.sees("the same command brings you back");
    held.reads(&format!("bastion restarts {at}Z"));
    held.reads(&format!("{asked} stays asked"));
    bastion.audited_with("bastion.drain", &["dora", "new kernel"]);
    assert_eq!(bastion.run("alice", &[to("dev-1"), "echo still open".into()]).well(), "still open\n");

    bastion.says("dora", &["drain", "--cancel"]).well();

    terminal.sees("countersign: bastion goes on");
    held.reads("countersign: bastion goes on");

    // An announcement whose time has come.
    let soon = chrono::Utc::now() + chrono::Duration::seconds(4);
    bastion.says("dora", &["drain", "--at", &soon.to_rfc3339()]).well();
    bastion.ends();

    pipe.reads("countersign: the bastion is stopping; the same command brings you back");
    assert_eq!(pipe.err().lines().count(), 1, "nothing but the end is said where a protocol owns the stream: {}", pipe.err());
    pipe.ends().ends(79);
    assert_eq!(terminal.ends(), 79);
    let seen = held.ends();
    assert!(seen.ends(79).contains(&format!("the bastion restarts; {asked} stays asked")), "{seen:?}");

    bastion.serve();
    assert_eq!(bastion.state_of("mallory", &asked), "pending", "who waited is not forgotten");
    assert!(bastion.sessions().iter().all(|session| !session["sealed"].is_null()));
    assert_eq!(bastion.run("alice", &[to("web-1"), "echo back".into()]).well(), "back\n", "{request} stays valid");
}

#[test]
fn what_runs_may_finish_within_the_time_for_it() {
    let mut bastion = bastion("drain = \"1m\"");
    let (terminal, request) = shell(&bastion);
    let mut pipe = piped(&bastion);
    let path = bastion.dir().join("cm").display().to_string();
    let _master = Client::start(bastion.ssh("alice", &["-M", "-N", "-S", &path, &to("dev-1")]));
    until("the shared connection is there", SOON, || std::path::Path::new(&path).exists());

    bastion.terminates();

    terminal.sees("countersign: bastion restarts ");
    terminal.sees(&format!("; {request} stays valid to "));
    let new = Client::start(bastion.ssh("alice", &["-S", &path, &to("dev-1"), "true"])).ends();
    assert!(new.ends(79).contains("the bastion restarts and opens nothing new"), "{new:?}");
    let outside = bastion.run("alice", &[to("dev-1"), "true".into()]);
    assert_eq!(outside.status, 255, "nobody is let in: {outside:?}");
    pipe.types(b"still\n");
    pipe.gets("still\n");
    assert_eq!(pipe.ends().err, "");
    terminal.types("exit 3\r");
    assert_eq!(terminal.ends(), 3);
    bastion.ends();
}

#[test]
fn a_second_signal_ends_what_drains() {
    let mut bastion = bastion("drain = \"10m\"");
    let pipe = piped(&bastion);
    bastion.terminates();
    until("it drains", SOON, || bastion.log().contains("draining, 1 sessions run"));
    bastion.terminates();
    pipe.reads_within("countersign: the bastion is stopping", Duration::from_secs(5));
    pipe.ends().ends(79);
    bastion.ends();
    bastion.serve();
    assert_eq!(bastion.sealed()["outcome"], "shutdown");
}
