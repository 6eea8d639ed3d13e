//! What `retention.toml` says: schedules by name, upper bounds by label, the zone that days are counted in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono_tz::Tz;

use super::period::Period;
use super::terms::{Terms, TermsOf};
use crate::id::{Digest, ScheduleName};

/// A floor and a ceiling, both counted from a session's end: nobody deletes before the one, and by the
/// other the recording is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    pub name: ScheduleName,
    pub keep_at_least: Period,
    /// Never over before `keep_at_least`, whenever the session ends.
    pub delete_after: Period,
}

/// The longest that recordings of targets with a label may be kept; it beats every schedule's floor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub label: String,
    pub at_most: Period,
}

/// Everything that `retention.toml` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedules {
    pub by_name: BTreeMap<ScheduleName, Schedule>,
    /// Applies where policy names none.
    pub default: Option<ScheduleName>,
    pub bounds: Vec<Bound>,
    pub zone: Tz,
    /// How long a recording stays marked before it is erased, in time that the bastion ran.
    pub grace: Duration,
}

impl Default for Schedules {
    /// Nothing named, nothing bounded, days as in UTC, a day of grace.
    fn default() -> Self {
        Self { by_name: BTreeMap::new(), default: None, bounds: Vec::new(), zone: Tz::UTC, grace: Duration::from_secs(86_400) }
    }
}

impl Schedules {
    /// Fixes what applies to a recording, from the schedules that policy named for it and the labels of its target.
    ///
    /// A recording keeps these terms: a later change of `retention.toml` neither shortens nor lengthens
    /// them. An unknown schedule is returned as the error; the directory refuses to load such policies.
    pub fn terms(&self, names: &[ScheduleName], labels: &[String], policy: Digest) -> Result<Terms, ScheduleName> {
        let mut names: BTreeSet<&ScheduleName> = names.iter().collect();
        if names.is_empty() {
            names.extend(&self.default);
        }
        let known = |name: &ScheduleName| self.by_name.get(name).map(TermsOf::from).ok_or_else(|| name.clone());
        let schedules = names.into_iter().map(known).collect::<Result<_, _>>()?;
        let at_most: BTreeSet<Period> = self.bounds.iter().filter(|b| labels.contains(&b.label)).map(|b| b.at_most).collect();
        Ok(Terms { schedules, at_most: at_most.into_iter().collect(), zone: self.zone.name().to_owned(), policy })
    }
}

impl From<&Schedule> for TermsOf {
    fn from(schedule: &Schedule) -> Self {
        let Schedule { name, keep_at_least, delete_after } = schedule;
        Self { name: name.clone(), keep_at_least: *keep_at_least, delete_after: *delete_after }
    }
}
