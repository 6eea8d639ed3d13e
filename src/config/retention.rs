//! `policies/retention.toml`: how long recordings are kept, by name.

use super::fields::File;
use crate::id::ScheduleName;
use crate::retention::schedule::{Schedule, Schedules};
use crate::time::short;

pub(super) fn read(file: File<'_>) -> Schedules {
    file.parse(|file, mut fields| {
        let mut schedules = Schedules::new();
        for (name, mut table) in fields.tables("schedules") {
            let keep = table.duration("keep_at_least");
            let keep = table.required("keep_at_least", keep, "\"90d\"");
            let delete = table.duration("delete_after");
            let delete = table.required("delete_after", delete, "\"1y\"");
            let at = table.place("delete_after");
            table.finish();
            let name = match name.get_ref().parse::<ScheduleName>() {
                Ok(name) => name,
                Err(why) => {
                    file.error(name.span().start, why, "write [schedules.standard]");
                    continue;
                }
            };
            // A schedule with a mistake keeps its name, so that policies are not blamed for it.
            let keep_at_least = keep.or(delete).unwrap_or_default();
            let delete_after = delete.unwrap_or(keep_at_least);
            if delete_after < keep_at_least {
                let what = format!("delete_after {} is shorter than keep_at_least {}", short(delete_after), short(keep_at_least));
                file.error(at, what, "delete after the floor has passed, not before");
            }
            schedules.insert(name.clone(), Schedule { name, keep_at_least, delete_after });
        }
        fields.finish();
        schedules
    })
}
