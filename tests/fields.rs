//! Bad input, field by field: each field of a decision and of a request with what does not belong there, rightly
//! signed and rightly spelled. One clear error each, and the same process goes on.

use std::process::Stdio;

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::harness::{Bastion, Client, Token, login};

/// What stands nowhere in a decision. A text too long, numbers beyond, other kinds, nothing.
fn hostile() -> Vec<Value> {
    let deep = (0..60).fold(json!(1), |inner, _| json!([inner]));
    vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(1.5),
        json!(9_007_199_254_740_993_u64),
        json!(u64::MAX),
        json!(""),
        json!("\u{202e}\u{1b}[2J\0"),
        json!("x".repeat(5000)),
        json!([]),
        json!([null]),
        json!(["exec:"]),
        json!({}),
        json!({ "v": 1 }),
        deep,
    ]
}

/// Every path in a document.
fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
    if !at.is_empty() {
        found.push(at.to_owned());
    }
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, inner)| paths(inner, &format!("{at}/{name}"), found)),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, inner)| paths(inner, &format!("{at}/{n}"), found)),
        _ => {}
    }
}

/// Each field replaced by each hostile value, left out, and joined by one more.
fn bent(document: &Value) -> Vec<Value> {
    let mut places = Vec::new();
    paths(document, "", &mut places);
    let mut all = Vec::new();
    for place in &places {
        for value in hostile() {
            let mut one = document.clone();
            *one.pointer_mut(place).unwrap() = value;
            all.push(one);
        }
        let (above, name) = place.rsplit_once('/').unwrap();
        let mut less = document.clone();
        let mut more = document.clone();
        if let Some(fields) = less.pointer_mut(above).and_then(Value::as_object_mut) {
            fields.remove(name);
            all.push(less);
        }
        if let Some(fields) = more.pointer_mut(above).and_then(Value::as_object_mut) {
            fields.insert("also".into(), json!(1));
            all.push(more);
        }
    }
    all.retain(|one| one != document);
    all
}

/// Whether it differs by another note, or by leaving out what may be left out.
fn is_less(one: &Value, decision: &Value) -> bool {
    let mut same = one.clone();
    if one["note"].as_str().is_some_and(|note| note.len() <= 1024) {
        same["note"] = decision["note"].clone();
    }
    for name in ["from_us", "until_us", "commands"] {
        if let Some(terms) = same.pointer_mut("/terms").and_then(Value::as_object_mut) {
            terms.entry(name).or_insert_with(|| decision["terms"][name].clone());
        }
    }
    same == *decision
}

/// Says these calls on the companion's wire; returns an answer for each. One conversation may get a hundred wrong.
fn wire(bastion: &Bastion, person: &str, calls: &[Value]) -> Vec<Value> {
    calls.chunks(90).flat_map(|some| conversation(bastion, person, some)).collect()
}

fn conversation(bastion: &Bastion, person: &str, calls: &[Value]) -> Vec<Value> {
    let input = bastion.dir().join("calls");
    std::fs::write(&input, calls.iter().map(|call| format!("{call}\n")).collect::<String>()).unwrap();
    let ssh = bastion.ssh(person, &["-T", "-s", "bastion", "countersign-v1"]);
    let seen = Client::fed(ssh, Stdio::from(std::fs::File::open(input).unwrap())).ends();
    let said: Vec<Value> = seen.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answers: Vec<Value> = said.into_iter().filter(|line| line["event"].is_null()).collect();
    assert_eq!(answers.len(), calls.len(), "{seen:?}");
    answers
}

/// One sentence that says what is wrong, and nothing that acts on a terminal.
fn is_one_clear_error(answer: &Value) -> bool {
    let why = answer["error"]["why"].as_str().unwrap_or_default();
    !why.is_empty() && why.len() < 2000 && !why.chars().any(|c| c.is_control() || c == '\u{202e}')
}

#[test]
fn each_field_of_a_decision_and_of_a_request() {
    let token = Token::new(21);
    let bastion = Bastion::start();
    let groups = "[people.bob]\ngroups = [\"engineers\", \"leads\"]\nkeys = [";
    bastion.is_told("policies/people.toml", |text| text.replacen(groups, &format!("{groups}\"{}\", ", token.public()), 1));
    let pid = bastion.pid();
    let to = format!("{}@web-1", login());
    let request = json!({ "targets": [to], "for": "20m", "reason": "INC-42 disk full", "exec": "uptime", "once": true, "start": "22:00Z" });
    let call = |n: usize, verb: &str, args: &Value| json!({ "v": 1, "id": n, "verb": verb, "args": args });

    // A request: what fits is made or joined, all else is one error; none of it harms.
    let bent_requests = bent(&request);
    let calls: Vec<Value> = bent_requests.iter().enumerate().map(|(n, args)| call(n, "request", args)).collect();
    for (answer, args) in wire(&bastion, "alice", &calls).iter().zip(&bent_requests) {
        assert!(answer["result"].is_object() || is_one_clear_error(answer), "{args}: {answer}");
    }
    let made = wire(&bastion, "alice", &[call(0, "request", &request)]);
    let made = made[0]["result"]["asked"]["card"]["request"].as_str().unwrap().to_owned();

    let printed =
        bastion.run("bob", &["bastion", "decision", &made, "approve", "--scope", "exec:uptime", "--from", "22:30", "--until", "23:00"]);
    let mut decision: Value = serde_json::from_str(&printed.well()).unwrap();
    decision["key"] = json!(token.fingerprint());
    decision["note"] = json!("n");
    let brings = |n: usize, document: &Value| {
        let bytes = serde_json::to_vec(document).unwrap();
        let signature = token.signs("countersign-decision-v1", &bytes, Token::TOUCHED);
        call(n, "decide", &json!({ "document_b64": BASE64.encode(&bytes), "signature": signature }))
    };
    let mut bent_decisions = bent(&decision);
    bent_decisions.retain(|one| !is_less(one, &decision));
    let calls: Vec<Value> = bent_decisions.iter().enumerate().map(|(n, document)| brings(n, document)).collect();
    for (answer, document) in wire(&bastion, "bob", &calls).iter().zip(&bent_decisions) {
        let text: String = document.to_string().chars().take(1500).collect();
        assert!(is_one_clear_error(answer), "{text}: {answer}");
    }
    assert_eq!(bastion.state_of("alice", &made), "pending");

    // Unbent it is taken, by the same process.
    let taken = wire(&bastion, "bob", &[brings(0, &decision)]);
    assert_eq!(taken[0]["result"]["decided"]["requests"][0]["state"], "approved", "{taken:?}");
    assert_eq!(bastion.pid(), pid);
    assert!(!bastion.log().contains("panicked"), "{}", bastion.log());
}
