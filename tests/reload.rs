//! SIGHUP: what an operator edited counts from then on, or not at all.

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
        std::fs::write(&file, whole).unwrap();
    }
    bastion.approve(&request, &[]);
    assert_eq!(held.ends().well(), "ran\n", "who waited went on waiting");

    bastion.enrols("fresh-1");
    bastion.reloads();
    until("a mended directory is read", SOON, || bastion.run("alice", &[to("fresh-1"), "true".into()]).status == 0);
}
