//! A schedule has a floor and a ceiling, both counted from a session's end: nobody deletes before the
//! one, and by the other the recording is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::ScheduleName;

/// A schedule of `retention.toml`; `delete_after` is never shorter than `keep_at_least`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    pub name: ScheduleName,
    pub keep_at_least: Duration,
    pub delete_after: Duration,
}

pub type Schedules = BTreeMap<ScheduleName, Schedule>;
