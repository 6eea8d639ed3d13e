//! What a person may ask for: today's rulings over every kind of target and login. Pure; called off the
//! event loop all the same, since there may be thousands of lines.

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
    for kind in &directory.kinds {
        for line in kind.like.accounts(who.person()).into_iter().filter_map(|login| like(directory, who, &kind.like, login, now)) {
            lines.extend(kind.targets.iter().map(|target| TargetLine {
                target: target.id.to_string(),
                aliases: target.aliases.iter().cloned().collect(),
                ..line.clone()
            }));
            lines.extend(kind.families.iter().map(|family| TargetLine { target: family.pattern.to_string(), ..line.clone() }));
        }
    }
    // Stable: a target's logins stay in their own order.
    lines.sort_by(|a, b| a.target.cmp(&b.target));
    lines
}

/// What policy says of every target like this one, under no name yet.
fn like(directory: &Directory, who: &Principal, target: &Target, login: Login, now: Timestamp) -> Option<TargetLine> {
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
    for (action, place) in
        [Action::ForwardLocal, Action::ForwardRemote].into_iter().flat_map(|action| directory.policy.places().map(move |p| (action, p)))
    {
        if free.iter().chain(&held).any(|known| known == action.as_str()) {
            continue;
        }
        match directory.policy.rule(&there.about((action, None, Some(place)))) {
            Ruling::Deny(_) => {}
            Ruling::Permit(_) => free.push(format!("{} {place}", action.as_str())),
            Ruling::RequireApproval { holds, .. } => {
                held.push(format!("{} {place}", action.as_str()));
                workflows.extend(holds.into_iter().map(|hold| hold.workflow));
            }
        }
    }
    let any = !free.is_empty() || !held.is_empty();
    any.then(|| TargetLine {
        target: String::new(),
        aliases: Vec::new(),
        labels: target.labels.iter().cloned().collect(),
        login,
        free,
        held,
        workflows: workflows.into_iter().collect(),
    })
}
