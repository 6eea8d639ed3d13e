//! Names that mean something to a shell, a path, a terminal, a reader or a parser, wherever one can be put:
//! refused, or kept as what it is. `hostile-names.json` lists them.

use std::process::Command;

use countersign::access::family::TargetPattern;
use countersign::id::{Group, Login, Person, RequestId, SessionId, TargetId};
use serde::Deserialize;

use crate::harness::{Bastion, Client, LONG, login, public, python};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    class: String,
    name: String,
    #[serde(default = "once")]
    times: usize,
    #[serde(default)]
    before: String,
    #[serde(default)]
    after: String,
}

fn once() -> usize {
    1
}

const NAMES: &str = "tests/hostile-names.json";

fn names() -> Vec<Name> {
    serde_json::from_str(include_str!("hostile-names.json")).expect("our own list")
}

#[test]
fn what_is_taken_for_a_name_can_mean_nothing_else() {
    let names = names();
    assert!(names.len() >= 300, "{}", names.len());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '*');
    let mut taken = 0;
    for Name { class, name, times, before, after } in names {
        let text = format!("{before}{}{after}", name.repeat(times));
        let mut words = vec![
            text.parse::<Person>().map(String::from),
            text.parse::<Group>().map(String::from),
            text.parse::<Login>().map(String::from),
            text.parse::<TargetId>().map(String::from),
            text.parse::<RequestId>().map(String::from),
            text.parse::<SessionId>().map(|id| id.to_string()),
        ];
        words.extend(text.parse::<TargetPattern>().map(|pattern| Ok(pattern.to_string())));
        for word in words.into_iter().flatten() {
            taken += 1;
            assert!(word.chars().all(plain) && !word.starts_with(['-', '.']) && word.len() <= 128, "{class}: {word:?}");
        }
        for line in [text.clone(), format!("show {text}"), format!("request {text}@web-1"), format!("deny K7Q3FM --note {text}")] {
            let _ = countersign::console::grammar::parse(&line);
        }
        if let Ok((host, _)) = countersign::config::parse_address(&text) {
            assert!(host.chars().all(plain), "{class}: {host:?}");
        }
        let shown = countersign::console::visible(&text);
        assert!(!shown.contains(|c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')), "{shown:?}");
    }
    assert!(taken > 0, "some are names, of nothing that is there");
}

#[test]
fn hostile_names_are_refused_or_inert_everywhere() {
    let bastion = Bastion::start();
    let pid = bastion.pid();
    let mut driver = Command::new(python());
    driver.arg(format!("{}/tests/clients/paramiko_hostile.py", env!("CARGO_MANIFEST_DIR")));
    driver.args(["127.0.0.1", &bastion.port.to_string()]).arg(bastion.key_of("alice"));
    driver.args([&public(&bastion.dir().join("bastion/keys/host_ed25519")), "alice", login()]);
    driver.arg(format!("{}/{NAMES}", env!("CARGO_MANIFEST_DIR")));
    let report = Client::start(driver).ends_within(LONG);
    assert_eq!(report.status, 0, "{report:?}");
    let report = report.json();

    let verdicts = |place: &str| report[place].as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
    let only = |place: &str, good: &[&str]| {
        let other: Vec<_> = verdicts(place).into_iter().filter(|verdict| !good.contains(verdict)).collect();
        assert!(other.is_empty(), "{place}: {other:?} in {report}");
    };
    only("user", &["64", "77", "disconnected"]);
    only("jump", &["refused 1"]);
    // Nothing, or a wish for help, is answered with help.
    only("command", &["0", "64", "77", "refused"]);
    only("wire", &["result", "error"]);
    only("reason", &["result", "error"]);
    assert!(report["reason"]["result"].as_u64().unwrap() > 50, "a reason is what somebody wrote: {report}");
    assert_eq!(report["dirty"], serde_json::json!([]), "nothing that acts on a terminal comes back");

    for name in ["$(id)", "../../etc/passwd", "%h", "deploy,root", "-oProxyCommand=x", "ａlice", "a\u{202e}b"] {
        let seen = bastion.run("alice", &["-l", name, "bastion", "true"]);
        assert!([64, 77, 255].contains(&seen.status), "{name:?}: {seen:?}");
    }

    assert_eq!(bastion.pid(), pid);
    assert_eq!(bastion.run("alice", &[format!("{}=dev-1@bastion", login()), "echo alive".into()]).well(), "alive\n");
    let rows = bastion.audit();
    let refusals = rows.iter().filter(|(name, _)| name == "refusal").count();
    assert!(refusals > 300, "{refusals} refusals in {} rows, each of which reads", rows.len());
    let harmless = |what: &str, text: &str| {
        let bad = text
            .chars()
            .find(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
        assert!(bad.is_none(), "{what} holds {bad:?}");
    };
    for (who, words) in [("bob", vec!["bastion", "requests"]), ("carol", vec!["bastion", "audit", "log", "-n", "1000"])] {
        harmless(words[1], &bastion.run(who, &words).well());
    }
    harmless("the bastion's own log", &bastion.log());
}
