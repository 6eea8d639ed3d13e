//! `policies/approvals.toml`: who has to agree, by the name that a `@hold` gives.
//!
//! A workflow has stages, in order; one for now. Where there is one, its keys may stand in the
//! workflow's own table: `approvers`, `people`, `quorum`.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::Spanned;

use super::fields::{Fields, File};
use crate::access::decision::Level;
use crate::access::people::People;
use crate::access::workflow::{SourceRule, Stage, Workflow};
use crate::id::{Group, Person, WorkflowName};
use crate::time::short;

/// A workflow, and where its only stage says how many have to agree.
pub(super) struct Placed {
    pub workflow: Workflow,
    pub quorum_at: usize,
}

const MAX_QUORUM: usize = 100;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

pub(super) fn read(file: File<'_>, people: &People) -> Vec<Placed> {
    file.parse(|file, mut fields| {
        let mut workflows = Vec::new();
        for (name, table) in fields.tables("workflows") {
            let read = workflow(file, &name, table, people);
            match name.get_ref().parse::<WorkflowName>() {
                Ok(name) => workflows.push(Placed { workflow: (read.0)(name), quorum_at: read.1 }),
                Err(why) => file.error(name.span().start, why, "write [workflows.sre-lead]"),
            }
        }
        fields.finish();
        workflows
    })
}

/// Everything of a workflow but its name.
fn workflow(
    file: File<'_>,
    name: &Spanned<&str>,
    mut fields: Fields<'_>,
    people: &People,
) -> (impl FnOnce(WorkflowName) -> Workflow, usize) {
    let stage = only_stage(file, name, &mut fields, people);
    let level = fields.choice("signature", &Level::ALL.map(|level| (level.as_str(), level)));
    let mut time = |key, default, most| fields.duration_within(key, SECOND..=most).unwrap_or(default);
    let decide_within = time("decide_within", minutes(15), 30 * DAY);
    let longest_grant = time("longest", minutes(240), 30 * DAY);
    let default_grant = time("offered", minutes(30).min(longest_grant), 30 * DAY);
    let use_within = time("use_within", minutes(15), 30 * DAY);
    let linger = time("linger", minutes(5), DAY);
    if default_grant > longest_grant {
        let what = format!("offered {} is longer than longest {}", short(default_grant), short(longest_grant));
        file.error(fields.place("offered"), what, "offer at most the longest grant");
    }
    let reason_required = fields.choice("reason", &[("required", true), ("optional", false)]).unwrap_or(true);
    let rescue = fields.boolean("rescue").unwrap_or(false);
    let reason_pattern = reason_pattern(file, &mut fields);
    let source = fields.choice("source", &[("address", SourceRule::Address), ("any", SourceRule::Any)]).unwrap_or(SourceRule::Address);
    if source == SourceRule::Any {
        let what = format!("a grant of {} opens from any address, not only from the one that asked", name.get_ref());
        file.warning(fields.place("source"), what, "keep it for people behind a carrier's NAT, whose address changes with each connection");
    }
    fields.finish();
    // A workflow with a mistake keeps its name, so that policies are not blamed for it.
    let nobody = Stage { groups: Vec::new(), people: Vec::new(), quorum: 1 };
    let (stage, quorum_at) = stage.unwrap_or((nobody, 0));
    let level = level.unwrap_or(Level::Key);
    let with_name = move |name| Workflow {
        name,
        stages: vec![stage],
        level,
        decide_within,
        longest_grant,
        default_grant,
        use_within,
        linger,
        reason_required,
        rescue,
        reason_pattern,
        source,
    };
    (with_name, quorum_at)
}

fn only_stage(file: File<'_>, name: &Spanned<&str>, fields: &mut Fields<'_>, people: &People) -> Option<(Stage, usize)> {
    if !fields.has("stages") {
        let (keys, at) = (fields, name.span().start);
        return stage(file, name.get_ref(), at, keys, people);
    }
    for key in ["approvers", "people", "quorum"] {
        if fields.has(key) {
            file.error(
                fields.place(key),
                format!("{key} stands beside stages"),
                format!("move it into [[workflows.{}.stages]]", name.get_ref()),
            );
        }
    }
    let mut stages = fields.list_of_tables("stages");
    if stages.len() > 1 {
        let at = stages.get(1).map_or(0, |second| second.offset);
        file.error(at, "stages are not supported yet: a workflow has one", "keep one stage; two holds on the same policy run in parallel");
        return None;
    }
    let mut only = match stages.pop() {
        Some(only) => only,
        None => {
            file.error(fields.place("stages"), format!("{} has no stage", name.get_ref()), "write approvers = [\"GROUP\"] and quorum = 1");
            return None;
        }
    };
    let at = only.offset;
    let read = stage(file, name.get_ref(), at, &mut only, people);
    only.finish();
    read
}

/// Reads who and how many, and checks that so many exist.
fn stage(file: File<'_>, workflow: &str, at: usize, fields: &mut Fields<'_>, people: &People) -> Option<(Stage, usize)> {
    let groups: Vec<Spanned<Group>> = fields.words("approvers");
    let named: Vec<Spanned<Person>> = fields.words("people");
    let has_quorum = fields.has("quorum");
    let quorum = fields.count("quorum", 1..=MAX_QUORUM);
    let quorum_at = if has_quorum { fields.place("quorum") } else { at };
    if groups.is_empty() && named.is_empty() {
        file.error(at, format!("{workflow} names nobody who may approve"), "add approvers = [\"GROUP\"] or people = [\"alice\"]");
        return None;
    }
    for person in named.iter().filter(|person| people.named(person.get_ref()).is_none()) {
        file.error(person.span().start, format!("there is no person {}", person.get_ref()), "add them to people.toml or remove the name");
    }
    let nobody_at_all = people.iter().next().is_none();
    for group in groups.iter().filter(|group| !nobody_at_all && people.members(group.get_ref()).next().is_none()) {
        file.warning(
            group.span().start,
            format!("nobody is in the group {}", group.get_ref()),
            "add it to somebody's groups in people.toml",
        );
    }
    let stage = Stage {
        groups: groups.into_iter().map(Spanned::into_inner).collect(),
        people: named.into_iter().map(Spanned::into_inner).collect(),
        quorum: u32::try_from(quorum.unwrap_or(1)).unwrap_or(1),
    };
    let members = members(&stage, people).len();
    if members > 0 && stage.quorum as usize > members {
        let what = format!("{workflow} needs {} to agree but has only {members}", stage.quorum);
        file.error(quorum_at, what, "lower quorum or add approvers");
    }
    Some((stage, quorum_at))
}

/// Everybody who may decide in a stage.
pub(super) fn members(stage: &Stage, people: &People) -> BTreeSet<Person> {
    let by_group = stage.groups.iter().flat_map(|group| people.members(group)).map(|entry| entry.name.clone());
    by_group.chain(stage.people.iter().filter(|person| people.named(person).is_some()).cloned()).collect()
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
