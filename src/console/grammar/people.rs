//! What people say of themselves and of others: away, back, suspended.

use std::str::FromStr;

use chrono::{Datelike, Days, NaiveTime, Weekday};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::typed::Moment;
use crate::id::Person;
use crate::time::Timestamp;

#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AwayArgs {
    /// Until its beginning, UTC: MON, 22:00, 2026-05-01, or RFC 3339
    #[arg(long, value_name = "MON", required_unless_present = "back", conflicts_with = "back")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// Who is asked in my place, at any hour; somebody who may decide there too
    #[arg(long, value_name = "PERSON", conflicts_with = "back")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<Person>,
    /// I am there again
    #[arg(long)]
    pub back: bool,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuspendArgs {
    /// A person, or `me`
    #[arg(value_name = "PERSON|me")]
    pub person: String,
    /// Why; the person reads it. May take the rest of the line
    #[arg(long, default_value = "")]
    #[serde(default)]
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnsuspendArgs {
    pub person: Person,
    /// Why. May take the rest of the line
    #[arg(long, required = true)]
    pub reason: String,
}

/// A day of the week that comes next, a time of day that comes next, or a moment; in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Until {
    text: String,
    is: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Day(Weekday),
    Clock(NaiveTime),
    At(Timestamp),
}

impl FromStr for Until {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let day = || text.parse::<Weekday>().ok().map(When::Day);
        let clock = || NaiveTime::parse_from_str(text.trim_end_matches('Z'), "%H:%M").ok().map(When::Clock);
        let moment = || text.parse::<Moment>().ok().map(|moment| When::At(moment.0));
        let is = day().or_else(clock).or_else(moment);
        let is = is.ok_or_else(|| format!("{text:?} is no day and no time: write MON, 22:00 (UTC), 2026-05-01 or RFC 3339"))?;
        Ok(Self { text: text.to_owned(), is })
    }
}

impl TryFrom<String> for Until {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Until> for String {
    fn from(until: Until) -> String {
        until.text
    }
}

impl Until {
    /// The moment that is meant, given when it was said; today's day of the week means the next one.
    pub fn after(&self, now: Timestamp) -> Timestamp {
        let today = now.utc().date_naive();
        let at = match self.is {
            When::At(at) => return at,
            When::Day(day) => {
                let ahead = (day.num_days_from_monday() + 7 - today.weekday().num_days_from_monday()) % 7;
                today.checked_add_days(Days::new(u64::from(if ahead == 0 { 7 } else { ahead }))).map(|day| day.and_time(NaiveTime::MIN))
            }
            When::Clock(time) => {
                let next = today.and_time(time);
                if next.and_utc() > now.utc() { Some(next) } else { next.checked_add_days(Days::new(1)) }
            }
        };
        at.map_or(now, |at| Timestamp::from_micros(at.and_utc().timestamp_micros()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_or_an_hour_is_the_next_one() {
        let at = |text: &str| Timestamp::from_micros(chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros());
        let now = at("2026-01-08T15:30:00Z"); // a Thursday
        for (text, moment) in [
            ("MON", "2026-01-12T00:00:00Z"),
            ("fri", "2026-01-09T00:00:00Z"),
            ("Thursday", "2026-01-15T00:00:00Z"),
            ("22:00", "2026-01-08T22:00:00Z"),
            ("09:00Z", "2026-01-09T09:00:00Z"),
            ("2026-02-01", "2026-02-01T00:00:00Z"),
            ("2026-01-08T18:00:00+01:00", "2026-01-08T17:00:00Z"),
        ] {
            assert_eq!(text.parse::<Until>().unwrap().after(now), at(moment), "{text}");
        }
        assert!("soon".parse::<Until>().unwrap_err().contains("write MON, 22:00 (UTC)"));
    }
}
