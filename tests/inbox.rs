//! The approver's inbox in a terminal: looked at with one key, decided with one, unless it is unusual.

use std::process::Command;

use crate::harness::{Bastion, Client, Terminal, login};

#[test]
fn an_inbox_decides_with_one_key_what_is_usual_and_by_name_what_is_not() {
    let bastion = Bastion::start();
    let to = format!("{}=web-1@bastion", login());
    let alice = Client::start(bastion.ssh("alice", &[to.clone(), "echo through".into()]));
    let first = alice.request();
    // As a person runs it: what is decided on the screen is not asked for once more.
    let words = bastion.companion("bob", &["requests", "--watch"]);
    let mut inbox = Command::new(words.get_program());
    inbox.args(words.get_args().filter(|word| *word != "--yes"));
    inbox.envs(words.get_envs().filter_map(|(name, value)| Some((name, value?)))).env_remove("NO_COLOR").env_remove("SSH_AUTH_SOCK");
    let bob = Terminal::start(&inbox);
    bob.resize(110, 50);
    bob.sees(&first);
    bob.types("\r");
    let code_of = |request: &str| format!("code {}", bastion.json("alice", &["show", request])["request"]["code"].as_str().unwrap());
    bob.sees(&code_of(&first));
    bob.sees("first time on web-1");
    bob.types("ay\r");
    bob.sees("not approved");
    bob.types("aweb-1\r");
    bob.sees(&format!("approved {first}"));
    assert_eq!(alice.ends().well(), "through\n");
    bastion.comes_to("alice", &first, "approved");

    // The second time nothing is unusual, and one key is enough; what is signed verifies like any other.
    bastion.says("bob", &["revoke", &first, "--reason", "done"]).well();
    let alice = Client::start(bastion.ssh("alice", &[to.clone(), "echo again".into()]));
    let second = alice.request();
    bob.sees(&second);
    bob.types("\r");
    bob.sees(&code_of(&second));
    bob.types("a");
    bob.sees(&format!("approved {second}"));
    assert_eq!(alice.ends().well(), "again\n");
    bastion.audited_with("request.decide", &[&second, "bob", "key"]);

    // A denial is one key, also of what is unusual, and may say why.
    bastion.says("bob", &["revoke", &second, "--reason", "done"]).well();
    let alice = Client::start(bastion.ssh("alice", &[to, "echo never".into()]));
    let third = alice.request();
    bob.sees(&third);
    bob.types("\r");
    bob.sees(&code_of(&third));
    bob.types("D");
    bob.sees("is denied because: ");
    bob.types("freeze until 06:00\r");
    bob.sees(&format!("denied {third}"));
    assert!(alice.ends().ends(77).contains("freeze until 06:00"));
    bob.types("q");
    assert_eq!(bob.ends(), 0);
}
