//! `break_glass` and `retain` of a workflow: whoever policy lets break-glass opens first.

use super::approvals::Placed;
use super::fields::{Fields, File};
use crate::access::workflow::BreakGlass;
use crate::id::ScheduleName;
use crate::retention::schedule::Schedules;

/// Whether it may be opened first, and where its schedule is named.
pub(super) fn read(file: File<'_>, fields: &mut Fields<'_>) -> (Option<BreakGlass>, usize) {
    let opens = fields.boolean("break_glass").unwrap_or(false);
    let retain = fields.word::<ScheduleName>("retain");
    let at = fields.place("retain");
    if !opens && retain.is_some() {
        file.error(at, "retain belongs to workflows with break_glass = true", "policies name schedules with @retain(\"SCHEDULE\")");
    }
    (opens.then(|| BreakGlass { retain: retain.map(toml::Spanned::into_inner) }), at)
}

/// Reports schedules that are not there, and what would be opened first without anybody being told.
pub(super) fn mentioned(file: File<'_>, workflows: &[Placed], schedules: &Schedules) {
    for Placed { workflow, retain_at, notify_at, .. } in workflows {
        let Some(glass) = &workflow.break_glass else { continue };
        if let Some(unknown) = glass.retain.as_ref().filter(|name| !schedules.by_name.contains_key(*name)) {
            let known: Vec<&str> = schedules.by_name.keys().map(ScheduleName::as_str).collect();
            file.error(*retain_at, format!("there is no schedule {unknown}"), format!("there are {}", known.join(", ")));
        }
        if workflow.notify.is_empty() {
            let what = format!("{} lets people open first, and no notifier tells anybody", workflow.name);
            file.warning(*notify_at, what, "write notify = [\"chat\"], with [notifiers.chat] in countersign.toml");
        }
    }
}
