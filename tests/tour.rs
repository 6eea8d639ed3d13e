//! The demo tells its own story, or says which step did not happen.

use std::process::Command;
use std::time::Duration;

use crate::harness::Client;

#[test]
fn the_tour_shows_every_step() {
    let mut tour = Command::new(env!("CARGO_BIN_EXE_countersign"));
    tour.args(["demo", "--tour"]).env("NO_COLOR", "1").env_remove("COUNTERSIGN_BASTION").env_remove("SSH_AUTH_SOCK");
    let seen = Client::start(tour).ends_within(Duration::from_secs(120));
    let out = seen.well();
    for step in [
        "needs approval",
        "approved",
        "countersign/",
        "deploy@web-1",
        "Principals",
        "denied by",
        "withdrawn",
        ": good: ",
        "gone on schedule",
        "the log is whole",
    ] {
        assert!(out.contains(step), "{step:?} is missing in: {out}");
    }
}

#[test]
fn the_demo_waits_and_cleans_up() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_countersign"));
    demo.args(["demo"]).env("NO_COLOR", "1");
    let demo = Client::start(demo);
    demo.gets("Ctrl-C");
    let text = String::from_utf8(demo.out()).unwrap();
    let config = text.split("ssh -F ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a line to paste").to_owned();
    let dir = std::path::Path::new(&config).ancestors().nth(2).unwrap().to_owned();
    assert!(dir.exists(), "{}", dir.display());
    demo.interrupts();
    demo.ends().well();
    assert!(!dir.exists(), "{} is still there", dir.display());
}
