//! A schedule has a floor and a ceiling, both counted from a session's end. (stub: signatures only)

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::ScheduleName;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    pub name: ScheduleName,
    pub keep_at_least: Duration,
    pub delete_after: Duration,
}

pub type Schedules = BTreeMap<ScheduleName, Schedule>;
