//! What a person may ask for: today's rulings over every target and login. Pure, and slow with
//! thousands of targets: called off the event loop.

use std::collections::BTreeSet;

use super::reply::TargetLine;
use crate::access::policy::There;
use crate::access::{Action, Principal, Ruling, Target};
use crate::config::Directory;
use crate::id::{Login, WorkflowName};
use crate::time::Timestamp;

/// Lists the targets and logins on which policy rules some action other than a denial.
pub fn targets(directory: &Directory, who: &Principal, now: Timestamp) -> Vec<TargetLine> {
    let mut lines = Vec::new();
    for target in directory.targets.iter() {
        lines.extend(target.accounts(who.person()).into_iter().filter_map(|login| line(directory, who, target, login, now)));
    }
    lines
}

fn line(directory: &Directory, who: &Principal, target: &Target, login: Login, now: Timestamp) -> Option<TargetLine> {
    let (mut free, mut held) = (Vec::new(), Vec::new());
    let mut workflows: BTreeSet<WorkflowName> = BTreeSet::new();
    let there = There { who, target, login: &login, first_time: false, now };
    for action in Action::ALL {
        match directory.policy.rule(&there.question(action, None)) {
            Ruling::Deny(_) => {}
            Ruling::Permit(_) => free.push(action.as_str().to_owned()),
            Ruling::RequireApproval { holds, .. } => {
                held.push(action.as_str().to_owned());
                workflows.extend(holds.into_iter().map(|hold| hold.workflow));
            }
        }
    }
    for command in directory.policy.commands() {
        if free.iter().chain(&held).any(|action| action == Action::Exec.as_str()) {
            break;
        }
        match directory.policy.rule(&there.question(Action::Exec, Some(command))) {
            Ruling::Deny(_) => {}
            Ruling::Permit(_) => free.push(format!("exec {}", super::visible(command))),
            Ruling::RequireApproval { holds, .. } => {
                held.push(format!("exec {}", super::visible(command)));
                workflows.extend(holds.into_iter().map(|hold| hold.workflow));
            }
        }
    }
    let any = !free.is_empty() || !held.is_empty();
    any.then(|| TargetLine {
        target: target.id.clone(),
        aliases: target.aliases.iter().cloned().collect(),
        labels: target.labels.iter().cloned().collect(),
        login,
        free,
        held,
        workflows: workflows.into_iter().collect(),
    })
}
