//! What the files say of each other: names that policies mention, and approvals nobody could give.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::approvals::Placed;
use super::fields::File;
use super::stages::members;
use crate::access::action::{Action, ConsoleAction};
use crate::access::kinds::Kind;
use crate::access::people::{People, PersonEntry};
use crate::access::policy::{Mentioned, PolicySet, Question};
use crate::access::target::{Target, Targets};
use crate::access::workflow::{Stage, stuck};
use crate::id::Person;
use crate::time::Timestamp;

/// Noon of a Monday and the night of a Sunday: what is asked about where a time is needed.
const NOON: Timestamp = Timestamp::from_micros(1_767_614_400_000_000);
const NIGHT: Timestamp = Timestamp::from_micros(1_767_495_600_000_000);

/// Warns of names in the policies that match nobody and nothing: a hold on a misspelt label holds nobody.
pub(super) fn mentioned(file: File<'_>, policy: &PolicySet, people: &People, targets: &Targets) {
    let groups: BTreeSet<&str> = people.iter().flat_map(|person| &person.groups).map(|group| group.as_str()).collect();
    let labels = targets.labels();
    let anything = targets.iter().next().is_some() || targets.families().next().is_some();
    let anybody = people.iter().next().is_some();
    for mention in policy.mentions() {
        let id = mention.id.as_str();
        let (known, what, fix) = match mention.of {
            Mentioned::Group => {
                (!anybody || groups.contains(id), "nobody is in the group", "add it to somebody's groups in people.toml, or correct it")
            }
            Mentioned::Label => {
                (!anything || labels.contains(id), "no target has the label", "add it to a target's labels in targets.toml, or correct it")
            }
            Mentioned::Person => (is_person(people, id), "there is no person", "add them to people.toml, or correct it"),
            Mentioned::Target => (is_target_id(targets, id), "there is no target", "use the name in [targets.NAME], not an alias"),
        };
        if !known {
            file.warning(mention.offset, format!("{what} {id:?}"), fix);
        }
    }
}

fn is_person(people: &People, id: &str) -> bool {
    id.parse().is_ok_and(|name| people.named(&name).is_some())
}

/// A target's id, or a pattern as it is written.
fn is_target_id(targets: &Targets, id: &str) -> bool {
    targets.find(id).is_some_and(|target| target.id.as_str() == id) || targets.families().any(|family| family.pattern.as_str() == id)
}

/// Reports workflows whose approvers are too few as soon as one of them asks: nobody decides on their
/// own request, and a person counts in one stage only. `file` is approvals.toml.
pub(super) fn nobody_left(file: File<'_>, workflows: &[Placed], policy: &PolicySet, people: &People, kinds: &[Kind]) {
    for placed in workflows {
        let workflow = &placed.workflow;
        let entries: Vec<&PersonEntry> = people.iter().filter(|entry| workflow.is_eligible(&entry.name, &entry.groups)).collect();
        let stuck = |all: &[&PersonEntry]| stuck(workflow, all.iter().map(|entry| (&entry.name, entry.groups.as_slice())));
        if let Some(stage) = stuck(&entries) {
            let members = workflow.stages.get(stage).map(|stage| members(stage, people)).unwrap_or_default();
            // Of a stage that has too few by itself `stages` has said so.
            if workflow.stages.get(stage).is_some_and(|stage| !members.is_empty() && stage.needed() as usize <= members.len()) {
                let names: Vec<&str> = members.iter().map(Person::as_str).collect();
                let what = format!(
                    "stage {} of {} can never come together: a person counts once in all stages and groups, and it has only {}",
                    stage + 1,
                    workflow.name,
                    names.join(", ")
                );
                file.error(placed.quorum_at(stage), what, "add approvers or lower quorum");
            }
            continue;
        }
        let may = |person: &PersonEntry, target: &Target| {
            [NOON, NIGHT].iter().any(|now| policy.may(&person.name, &person.groups, ConsoleAction::Approve, target, *now))
        };
        let held = entries.iter().filter_map(|member| {
            let (place, target) = held_by(workflow.name.as_str(), member, policy, kinds)?;
            let rest: Vec<&PersonEntry> = entries.iter().copied().filter(|other| other.name != member.name && may(other, target)).collect();
            stuck(&rest).map(|stage| (member, place, rest, stage))
        });
        if let Some((member, place, rest, stage)) = { held }.next() {
            let needed = workflow.stages.get(stage).map_or(1, Stage::needed);
            let of_stage =
                |entry: &&&PersonEntry| workflow.stages.get(stage).is_some_and(|stage| stage.is_eligible(&entry.name, &entry.groups));
            let rest: Vec<&str> = rest.iter().filter(of_stage).map(|other| other.name.as_str()).collect();
            let rest = if rest.is_empty() { "nobody".to_owned() } else { rest.join(", ") };
            let what = format!(
                "{} needs {needed} to agree, but {} may ask for {place} and nobody decides on their own request: that leaves {rest}",
                workflow.name, member.name
            );
            file.error(placed.quorum_at(stage), what, "add an approver or lower quorum");
        }
    }
}

/// Warns of workflows whose approvers policy lets approve nothing. `file` is approvals.toml.
pub(super) fn may_approve(file: File<'_>, workflows: &[Placed], policy: &PolicySet, people: &People, kinds: &[Kind]) {
    for placed in workflows {
        let workflow = &placed.workflow;
        let members = workflow.stages.iter().flat_map(|stage| members(stage, people));
        let members: Vec<&PersonEntry> = members.filter_map(|member| people.named(&member)).collect();
        let may = |person: &PersonEntry, target: &Target| policy.may(&person.name, &person.groups, ConsoleAction::Approve, target, NOON);
        if !members.is_empty() && !kinds.is_empty() && !members.iter().any(|person| kinds.iter().any(|kind| may(person, &kind.like))) {
            let what = format!("no approver of {} is permitted to approve anything", workflow.name);
            file.warning(placed.quorum_at(0), what, "add a permit for action == Action::\"approve\" to access.cedar");
        }
    }
}

/// Finds something that this person may ask for and that this workflow holds: `deploy@web-1`.
fn held_by<'a>(workflow: &str, person: &PersonEntry, policy: &PolicySet, kinds: &'a [Kind]) -> Option<(String, &'a Target)> {
    for target in kinds.iter().map(|kind| &kind.like) {
        for login in &target.logins {
            for action in Action::ALL {
                for now in [NOON, NIGHT] {
                    let ruling = policy.rule(&Question {
                        person: &person.name,
                        groups: &person.groups,
                        target,
                        login,
                        action,
                        command: None,
                        to: None,
                        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
                        now,
                        first_time: false,
                        mfa: true,
                        inner_auth: true,
                    });
                    if ruling.workflows().iter().any(|name| name.as_str() == workflow) {
                        let pattern = target.entry.family.as_ref().map(ToString::to_string);
                        return Some((format!("{login}@{}", pattern.unwrap_or_else(|| target.id.to_string())), target));
                    }
                }
            }
        }
    }
    None
}
