//! `policies/approvals.toml`: who has to agree, by the name that a `@hold` gives.
//!
//! A workflow has stages, in order. Where there is one, its keys may stand in the workflow's own table:
//! `approvers`, `people`, `quorum`, …

use std::time::Duration;

use toml::Spanned;

use super::fields::{Fields, File};
use super::{glass, presets, stages};
use crate::access::decision::Level;
use crate::access::people::People;
use crate::access::preset::Presets;
use crate::access::workflow::{SourceRule, Stage, Workflow};
use crate::id::{NotifierName, WorkflowName};
use crate::time::short;

/// A workflow, and where each of its stages says how many have to agree.
pub(super) struct Placed {
    pub workflow: Workflow,
    pub quorums: Vec<usize>,
    /// Where its notifiers are named.
    pub notify_at: usize,
    /// Where the schedule of what opens first is named.
    pub retain_at: usize,
}

impl Placed {
    /// Where a stage says how many, the first where nobody says which.
    pub fn quorum_at(&self, stage: usize) -> usize {
        self.quorums.get(stage).copied().unwrap_or_default()
    }
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
const MAX_PROMPT: usize = 200;

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

pub(super) fn read(file: File<'_>, people: &People) -> (Vec<Placed>, Presets) {
    file.parse(|file, mut fields| {
        let mut workflows = Vec::new();
        let usual = notified(&mut fields);
        for (name, mut table) in fields.tables("workflows") {
            let (notify, notify_at) = if table.has("notify") { notified(&mut table) } else { usual.clone() };
            let (break_glass, retain_at) = glass::read(file, &mut table);
            let read = workflow(file, &name, table, people);
            match name.get_ref().parse::<WorkflowName>() {
                Ok(name) => {
                    let workflow = Workflow { notify, break_glass, ..(read.0)(name) };
                    workflows.push(Placed { workflow, quorums: read.1, notify_at, retain_at });
                }
                Err(why) => file.error(name.span().start, why, "write [workflows.sre-lead]"),
            }
        }
        let presets = presets::read(file, &mut fields);
        fields.finish();
        (workflows, presets)
    })
}

/// Which notifiers are told, and where that stands: at a workflow, or above all for those that say nothing.
fn notified(fields: &mut Fields<'_>) -> (Vec<NotifierName>, usize) {
    let names = fields.words("notify").into_iter().map(Spanned::into_inner).collect();
    (names, fields.place("notify"))
}

/// Everything of a workflow but its name.
fn workflow(
    file: File<'_>,
    name: &Spanned<&str>,
    mut fields: Fields<'_>,
    people: &People,
) -> (impl FnOnce(WorkflowName) -> Workflow, Vec<usize>) {
    let stages = stages::read(file, name, &mut fields, people);
    let level = fields.choice("signature", &Level::ALL.map(|level| (level.as_str(), level)));
    let mut time = |key, default, most| fields.duration_within(key, SECOND..=most).unwrap_or(default);
    let decide_within = time("decide_within", minutes(15), 30 * DAY);
    let longest_grant = time("longest", minutes(240), 30 * DAY);
    let default_grant = time("offered", minutes(30).min(longest_grant), 30 * DAY);
    let use_within = time("use_within", minutes(15), 30 * DAY);
    let linger = time("linger", minutes(5), DAY);
    let overrun = fields.duration_within("overrun", Duration::ZERO..=minutes(60)).unwrap_or(minutes(5));
    if default_grant > longest_grant {
        let what = format!("offered {} is longer than longest {}", short(default_grant), short(longest_grant));
        file.error(fields.place("offered"), what, "offer at most the longest grant");
    }
    let reason_required = fields.choice("reason", &[("required", true), ("optional", false)]).unwrap_or(true);
    let rescue = fields.boolean("rescue").unwrap_or(false);
    let reason_pattern = reason_pattern(file, &mut fields);
    let prompt = prompt(file, &mut fields);
    let source = fields.choice("source", &[("address", SourceRule::Address), ("any", SourceRule::Any)]).unwrap_or(SourceRule::Address);
    if source == SourceRule::Any {
        let what = format!("a grant of {} opens from any address, not only from the one that asked", name.get_ref());
        file.warning(fields.place("source"), what, "keep it for people behind a carrier's NAT, whose address changes with each connection");
    }
    fields.finish();
    // A workflow with a mistake keeps its name, so that policies are not blamed for it.
    let (mut stages, quorums): (Vec<Stage>, Vec<usize>) = stages.into_iter().unzip();
    if stages.is_empty() {
        stages.push(Stage::default());
    }
    let level = level.unwrap_or(Level::Key);
    let with_name = move |name| Workflow {
        name,
        stages,
        level,
        decide_within,
        longest_grant,
        default_grant,
        use_within,
        linger,
        overrun,
        reason_required,
        prompt,
        rescue,
        break_glass: None,
        notify: Vec::new(),
        reason_pattern,
        source,
    };
    (with_name, quorums)
}

/// One line that people read.
fn prompt(file: File<'_>, fields: &mut Fields<'_>) -> Option<String> {
    let text = fields.string("prompt")?;
    if text.get_ref().is_empty() || text.get_ref().len() > MAX_PROMPT || text.get_ref().contains(char::is_control) {
        let fix = format!("write 1 to {MAX_PROMPT} bytes without control characters");
        file.error(text.span().start, format!("{:?} is not a prompt", text.get_ref().chars().take(48).collect::<String>()), fix);
        return None;
    }
    Some((*text.get_ref()).to_owned())
}

/// A pattern over the whole reason. It has to compile by itself too: `a)|(b` would escape the anchors.
fn reason_pattern(file: File<'_>, fields: &mut Fields<'_>) -> Option<String> {
    let text = fields.string("reason_pattern")?;
    let alone = regex::Regex::new(text.get_ref());
    match alone.and_then(|_| regex::Regex::new(&format!("^(?:{})$", text.get_ref()))) {
        Ok(_) => Some((*text.get_ref()).to_owned()),
        Err(error) => {
            let why = match error {
                regex::Error::Syntax(words) => words.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
                other => other.to_string(),
            };
            file.error(
                text.span().start,
                format!("reason_pattern is not a regular expression: {why}"),
                "write for example '(INC|CHG)-[0-9]+.*'",
            );
            None
        }
    }
}
