//! What a recording carries from its opening, so that its due date can be recomputed without the directory.
//!
//! Anyone who has the manifest and the session's end comes to the same answer. Only the rules of time
//! zones are the reader's own: where a country has changed its clocks since, the answer moves with them.

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::period::Period;
use crate::id::{Digest, ScheduleName};
use crate::time::Timestamp;

/// The schedules and bounds that applied when the session was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    pub schedules: Vec<TermsOf>,
    /// Every label bound that matched; which is the tightest can depend on the calendar.
    pub at_most: Vec<Period>,
    /// IANA name.
    pub zone: String,
    /// Of the directory's policies.
    pub policy: Digest,
}

/// One schedule, as it read then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermsOf {
    pub name: ScheduleName,
    pub keep_at_least: Period,
    pub delete_after: Period,
}

/// When a recording may go and when it has to be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The schedule whose `delete_after` is the latest.
    pub schedule: ScheduleName,
    /// Never after `delete_by`.
    pub keep_until: Timestamp,
    pub delete_by: Timestamp,
}

impl Due {
    /// Where no day can be computed: kept until somebody looks.
    pub fn never() -> Self {
        let end = Timestamp::from_micros(i64::MAX);
        Self { schedule: ScheduleName::unknown(), keep_until: end, delete_by: end }
    }
}

/// Says why no due date follows from a recording's terms; what has none is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTerms {
    #[error("the retention terms name no schedule")]
    NoSchedule,
    #[error("the retention terms name the time zone {0:?}, which is not known here")]
    UnknownZone(String),
}

impl Terms {
    /// Computes the due date of a recording from its session's end.
    ///
    /// Of several schedules the longest floor and the longest ceiling apply, each compared as the
    /// instant it comes to from this end, and a floor lifts a ceiling that is below it. Then the
    /// earliest label bound cuts both.
    pub fn due(&self, ended: Timestamp) -> Result<Due, BadTerms> {
        let zone: Tz = self.zone.parse().map_err(|_| BadTerms::UnknownZone(self.zone.clone()))?;
        let ends = |period: Period| period.after(ended, zone);
        let floor = self.schedules.iter().map(|of| ends(of.keep_at_least)).max().ok_or(BadTerms::NoSchedule)?;
        let (mut delete_by, mut schedule) = (None, None);
        for of in &self.schedules {
            // Of equals the first decides, so that everybody names the same one.
            if delete_by < Some(ends(of.delete_after)) {
                (delete_by, schedule) = (Some(ends(of.delete_after)), Some(of.name.clone()));
            }
        }
        let (ceiling, schedule) = (delete_by.ok_or(BadTerms::NoSchedule)?, schedule.ok_or(BadTerms::NoSchedule)?);
        let delete_by = self.at_most.iter().map(|bound| ends(*bound)).fold(ceiling.max(floor), Timestamp::min);
        Ok(Due { schedule, keep_until: floor.min(delete_by), delete_by })
    }
}
