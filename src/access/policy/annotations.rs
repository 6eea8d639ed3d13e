//! What our annotations mean. Cedar passes them through unread, so every unknown word is refused here.

use std::time::Duration;

use cedar_policy::{Effect, Policy};

use super::Vocabulary;
use crate::access::ruling::{Hold, RecordLevel};
use crate::id::{ScheduleName, WorkflowName};

/// A policy's annotations, understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Annotations {
    pub hold: Option<WorkflowName>,
    pub message: Option<String>,
    pub grant: Option<Duration>,
    pub retain: Option<ScheduleName>,
    pub record: Option<RecordLevel>,
}

/// One annotation that is not right: its key (empty for the policy itself), what and the fix.
pub(super) struct Wrong {
    pub key: String,
    pub what: String,
    pub fix: String,
}

const KNOWN: &str = "known are @id @hold @message @grant @retain @record";
const MAX_MESSAGE: usize = 200;

impl Annotations {
    pub fn as_hold(&self, id: &str) -> Option<Hold> {
        Some(Hold { workflow: self.hold.clone()?, policy: id.to_owned(), message: self.message.clone() })
    }

    /// Reads all of a policy's annotations, `@id` apart; every mistake goes to `wrong`.
    pub fn read(policy: &Policy, vocabulary: &Vocabulary, wrong: &mut Vec<Wrong>) -> Self {
        let mut read = Self::default();
        for (key, value) in policy.annotations() {
            let refused = match key {
                "id" => Ok(()),
                "hold" => hold(policy, value, vocabulary).map(|workflow| read.hold = Some(workflow)),
                "message" => message(value).map(|message| read.message = Some(message)),
                "grant" => grant(value).map(|grant| read.grant = Some(grant)),
                "retain" => retain(value, vocabulary).map(|schedule| read.retain = Some(schedule)),
                "record" => record(value).map(|level| read.record = Some(level)),
                _ => Err((format!("@{key} is not an annotation of ours"), KNOWN.to_owned())),
            };
            if let Err((what, fix)) = refused {
                wrong.push(Wrong { key: key.to_owned(), what, fix });
            }
        }
        let plain_forbid = policy.effect() == Effect::Forbid && policy.annotation("hold").is_none();
        for key in ["grant", "retain", "record"] {
            if plain_forbid && policy.annotation(key).is_some() {
                let what = format!("@{key} on a forbid without @hold has nothing to apply to");
                wrong.push(Wrong { key: key.to_owned(), what, fix: "put it on a permit or on a hold".into() });
            }
        }
        read
    }
}

/// Reads `@id`; it is what the log and the waiting text call the policy.
pub(super) fn id(policy: &Policy) -> Result<String, Wrong> {
    let wrong = |what: String| Wrong {
        key: if policy.annotation("id").is_some() { "id".into() } else { String::new() },
        what,
        fix: "begin the policy with @id(\"a-name-of-its-own\"), of a-z 0-9 . _ -".into(),
    };
    let given = policy.annotation("id").ok_or_else(|| wrong("the policy has no @id".into()))?;
    // The same alphabet as workflows: it stands in logs, in requests and on screens.
    given.parse::<WorkflowName>().map(String::from).map_err(|_| wrong(format!("{given:?} is not a policy's id")))
}

type Refused = (String, String);

fn hold(policy: &Policy, value: &str, vocabulary: &Vocabulary) -> Result<WorkflowName, Refused> {
    if policy.effect() == Effect::Permit {
        let fix = "a hold is a forbid: write forbid with @hold beside the permit".into();
        return Err(("@hold stands on a permit".into(), fix));
    }
    let known = value.parse().ok().filter(|name| vocabulary.workflows.contains(name));
    known.ok_or_else(|| {
        let names: Vec<&str> = vocabulary.workflows.iter().map(WorkflowName::as_str).collect();
        (format!("there is no workflow {value:?}"), format!("add [workflows.NAME] to approvals.toml{}", there_are(&names)))
    })
}

fn message(value: &str) -> Result<String, Refused> {
    let shown = |c: char| !c.is_control() && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if value.is_empty() || value.len() > MAX_MESSAGE || !value.chars().all(shown) {
        let fix = format!("write one line of at most {MAX_MESSAGE} bytes without control characters");
        return Err(("this @message cannot be shown".into(), fix));
    }
    Ok(value.to_owned())
}

fn grant(value: &str) -> Result<Duration, Refused> {
    crate::time::parse_duration(value).map_err(|why| (format!("@grant: {why}"), "write @grant(\"1h\")".into()))
}

fn retain(value: &str, vocabulary: &Vocabulary) -> Result<ScheduleName, Refused> {
    let known = value.parse().ok().filter(|name| vocabulary.schedules.contains(name));
    known.ok_or_else(|| {
        let names: Vec<&str> = vocabulary.schedules.iter().map(ScheduleName::as_str).collect();
        (format!("there is no schedule {value:?}"), format!("add [schedules.NAME] to retention.toml{}", there_are(&names)))
    })
}

fn record(value: &str) -> Result<RecordLevel, Refused> {
    RecordLevel::parse(value).ok_or_else(|| (format!("@record({value:?}) is not a level"), "use full, output or metadata".into()))
}

fn there_are(names: &[&str]) -> String {
    if names.is_empty() { String::new() } else { format!("; there are {}", names.join(", ")) }
}
