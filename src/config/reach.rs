//! Whether somebody can be asked at every hour of the week.

use super::approvals::Placed;
use super::fields::File;
use crate::access::hours::{self, Hours};
use crate::access::people::People;
use crate::access::workflow::{Approver, Stage, reached};

/// Warns of stages that at some hour have fewer people in reach than have to agree. `file` is approvals.toml.
pub(super) fn always_somebody(file: File<'_>, workflows: &[Placed], people: &People) {
    for placed in workflows {
        for (n, stage) in placed.workflow.stages.iter().enumerate() {
            if let Some(what) = gap(placed.workflow.name.as_str(), stage, people) {
                file.warning(placed.quorum_at(n), what, "widen hours in people.toml, or add approvers or escalate_to");
            }
        }
    }
}

fn gap(workflow: &str, stage: &Stage, people: &People) -> Option<String> {
    let entries = people.iter().filter(|entry| stage.is_eligible(&entry.name, &entry.groups));
    let approvers: Vec<Approver<'_>> = entries
        .map(|entry| Approver { person: &entry.name, groups: &entry.groups, hours: people.hours(&entry.name), away: None })
        .collect();
    let needed = stage.needed() as usize;
    // Too few at any hour is another mistake, which is said elsewhere.
    if approvers.len() < needed || approvers.iter().filter(|one| one.hours.is_none()).count() >= needed {
        return None;
    }
    let at = hours::week().find(|hour| reached(stage, &approvers, *hour) < needed)?;
    let in_reach = match reached(stage, &approvers, at) {
        0 => format!("nobody of {workflow} is in reach"),
        n => format!("only {n} of the {needed} that {workflow} needs are in reach"),
    };
    let hours: Vec<String> = approvers.iter().filter_map(|one| Some((one.person, one.hours?))).map(told).collect();
    Some(format!("at {} {in_reach} ({})", at.utc().format("%a %H:%MZ"), hours.join(", ")))
}

fn told((person, hours): (&crate::id::Person, &Hours)) -> String {
    format!("{person} {hours}")
}
