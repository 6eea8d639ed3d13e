//! The stages of a workflow: who is asked, how many of them, who else when they do not answer.

use std::collections::BTreeSet;

use toml::Spanned;

use super::approvals::{DAY, SECOND};
use super::fields::{Fields, File};
use crate::access::people::{People, PersonEntry};
use crate::access::workflow::{Escalation, Stage};
use crate::id::{Group, Person};
use crate::time::short;

const MAX_STAGES: usize = 8;
const MAX_QUORUM: usize = 100;
const MAX_GROUPS: usize = 32;
/// What stands in a stage, or in the workflow's own table where there is one stage.
const KEYS: [&str; 7] = ["approvers", "all", "people", "quorum", "within", "escalate_to", "escalate_after"];

/// A stage, and where it says how many have to agree.
pub(super) type Placed = (Stage, usize);

/// Reads the stages of a workflow; none where they have a mistake.
pub(super) fn read(file: File<'_>, name: &Spanned<&str>, fields: &mut Fields<'_>, people: &People) -> Vec<Placed> {
    if !fields.has("stages") {
        let at = name.span().start;
        return stage(file, name.get_ref(), at, fields, people).into_iter().collect();
    }
    for key in KEYS {
        if fields.has(key) {
            let fix = format!("move it into [[workflows.{}.stages]]", name.get_ref());
            file.error(fields.place(key), format!("{key} stands beside stages"), fix);
        }
    }
    let stages = fields.list_of_tables("stages");
    if stages.is_empty() {
        let fix = "write approvers = [\"GROUP\"] and quorum = 1";
        file.error(fields.place("stages"), format!("{} has no stage", name.get_ref()), fix);
    }
    if let Some(one_more) = stages.get(MAX_STAGES) {
        let what = format!("{} has {} stages; {MAX_STAGES} are allowed", name.get_ref(), stages.len());
        file.error(one_more.offset, what, "two holds on the same policy run in parallel");
    }
    let each = stages.into_iter().take(MAX_STAGES).map(|mut fields| {
        let at = fields.offset;
        let read = stage(file, name.get_ref(), at, &mut fields, people);
        fields.finish();
        read
    });
    each.collect::<Option<Vec<Placed>>>().unwrap_or_default()
}

/// Reads who and how many, and checks that so many exist.
fn stage(file: File<'_>, workflow: &str, at: usize, fields: &mut Fields<'_>, people: &People) -> Option<Placed> {
    let groups: Vec<Spanned<Group>> = fields.words("approvers");
    let all: Vec<Spanned<Group>> = fields.words("all");
    let named: Vec<Spanned<Person>> = fields.words("people");
    let wider: Vec<Spanned<Group>> = fields.words("escalate_to");
    let has_quorum = fields.has("quorum");
    let quorum = fields.count("quorum", 1..=MAX_QUORUM);
    let quorum_at = if has_quorum { fields.place("quorum") } else { at };
    let within = fields.duration_within("within", SECOND..=30 * DAY);
    let after = fields.duration_within("escalate_after", SECOND..=30 * DAY);
    if after.is_some() && !fields.has("escalate_to") {
        file.error(fields.place("escalate_after"), "escalate_after says when, and nobody says to whom", "add escalate_to = [\"GROUP\"]");
    }
    if groups.is_empty() && all.is_empty() && named.is_empty() {
        file.error(at, format!("{workflow} names nobody who may approve"), "add approvers = [\"GROUP\"] or people = [\"alice\"]");
        return None;
    }
    if groups.len() + all.len() + wider.len() > MAX_GROUPS {
        file.error(at, format!("{workflow} names more than {MAX_GROUPS} groups"), "make one group of them in people.toml");
        return None;
    }
    for person in named.iter().filter(|person| people.named(person.get_ref()).is_none()) {
        file.error(person.span().start, format!("there is no person {}", person.get_ref()), "add them to people.toml or remove the name");
    }
    let nobody_at_all = people.iter().next().is_none();
    for group in groups.iter().chain(&all).chain(&wider).filter(|group| !nobody_at_all && people.members(group.get_ref()).next().is_none())
    {
        file.warning(
            group.span().start,
            format!("nobody is in the group {}", group.get_ref()),
            "add it to somebody's groups in people.toml",
        );
    }
    let inner = |words: Vec<Spanned<Group>>| words.into_iter().map(Spanned::into_inner).collect::<Vec<Group>>();
    if let Some(quorum) = quorum.filter(|quorum| *quorum < all.len()) {
        let what = format!("{quorum} to agree cannot be one of each of {} groups", all.len());
        file.error(quorum_at, what, "a person counts for one group: leave quorum out, or write at least as many");
    }
    let escalate_at = fields.place("escalate_to");
    let stage = Stage {
        groups: inner(groups),
        all: inner(all),
        people: named.into_iter().map(Spanned::into_inner).collect(),
        quorum: u32::try_from(quorum.unwrap_or(1)).unwrap_or(1),
        within,
        escalation: (!wider.is_empty()).then(|| Escalation { to: inner(wider), after }),
    };
    if let (Some(within), Some(after)) = (within, after)
        && after >= within
    {
        let what = format!("escalate_after {} is not before within {} is over", short(after), short(within));
        file.error(fields.place("escalate_after"), what, "escalate while somebody can still decide");
    }
    let members = members(&stage, people);
    let first = Stage { escalation: None, ..stage.clone() };
    if stage.escalation.is_some() && !members.is_empty() && members.iter().all(|person| is_member(&first, people, person)) {
        file.warning(escalate_at, format!("escalate_to adds nobody: they all are approvers of {workflow} already"), "name a wider group");
    }
    if !members.is_empty() && stage.needed() as usize > members.len() {
        let what = format!("{workflow} needs {} to agree but has only {}", stage.needed(), members.len());
        file.error(quorum_at, what, "lower quorum or add approvers");
    }
    Some((stage, quorum_at))
}

fn is_member(stage: &Stage, people: &People, person: &Person) -> bool {
    people.named(person).is_some_and(|entry: &PersonEntry| stage.is_eligible(&entry.name, &entry.groups))
}

/// Everybody who may decide in a stage, be it only once it has escalated.
pub(super) fn members(stage: &Stage, people: &People) -> BTreeSet<Person> {
    people.iter().filter(|entry| stage.is_eligible(&entry.name, &entry.groups)).map(|entry| entry.name.clone()).collect()
}
