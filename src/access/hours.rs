//! When somebody wants to be asked: `Mon-Fri 08-18 Europe/Berlin`, by the clock on their wall.
//!
//! Hours say who is asked, never who may decide: whoever decides outside theirs is awake.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, Offset, TimeZone, Timelike, Utc, Weekday};
use chrono_tz::Tz;

use crate::time::Timestamp;

const DAYS: [Weekday; 7] = [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri, Weekday::Sat, Weekday::Sun];
/// Minutes of a day.
const DAY: u32 = 24 * 60;

/// Days of the week, from a minute to a minute, in a zone. To a minute that is not later means: of the next day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    /// From Monday: whether they begin on that day.
    days: [bool; 7],
    from: u32,
    to: u32,
    zone: Tz,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHours {
    #[error("write days, hours and a zone: Mon-Fri 08-18 Europe/Berlin")]
    Form,
    #[error("{0:?} are not days: use Mon-Fri, Sat,Sun or daily")]
    Days(String),
    #[error("{0:?} are not hours: use 08-18 or 22:30-06:30")]
    Times(String),
    #[error("{0:?} is not an IANA time zone: use one such as Europe/Berlin or UTC")]
    Zone(String),
}

impl FromStr for Hours {
    type Err = BadHours;
    fn from_str(text: &str) -> Result<Self, BadHours> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [days, times, zone] = words.as_slice() else { return Err(BadHours::Form) };
        let bad_times = || BadHours::Times((*times).to_owned());
        let (from, to) = times.split_once('-').ok_or_else(bad_times)?;
        let (from, to) = (minute(from).ok_or_else(bad_times)?, minute(to).ok_or_else(bad_times)?);
        if from == DAY {
            return Err(bad_times());
        }
        let days = read_days(days).ok_or_else(|| BadHours::Days((*days).to_owned()))?;
        let zone = zone.parse().map_err(|_| BadHours::Zone((*zone).to_owned()))?;
        Ok(Self { days, from, to, zone })
    }
}

fn minute(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':').unwrap_or((text, "00"));
    let two = |text: &str| text.parse::<u32>().ok().filter(|_| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()));
    let (hour, minute) = (two(hour)?, two(minute)?);
    (minute < 60 && hour * 60 + minute <= DAY).then_some(hour * 60 + minute)
}

fn read_days(text: &str) -> Option<[bool; 7]> {
    if text == "daily" {
        return Some([true; 7]);
    }
    let mut days = [false; 7];
    let index = |name: &str| {
        let day = name.parse::<Weekday>().ok().filter(|_| name.len() == 3)?;
        Some(day.num_days_from_monday() as usize)
    };
    for part in text.split(',') {
        let (first, last) = part.split_once('-').map_or_else(|| (index(part), index(part)), |(a, b)| (index(a), index(b)));
        let (first, last) = (first?, last?);
        // `Sat-Mon` goes over the end of the week.
        let count = (last + 7 - first) % 7;
        (0..=count).for_each(|n| days.iter_mut().skip((first + n) % 7).take(1).for_each(|day| *day = true));
    }
    Some(days)
}

impl Hours {
    /// Whether it is now one of these hours.
    pub fn hold(&self, now: Timestamp) -> bool {
        let local = self.local(now);
        let minute = local.hour() * 60 + local.minute();
        if self.from < self.to {
            self.is_day(local.date()) && (self.from..self.to).contains(&minute)
        } else {
            let yesterday = local.date().checked_sub_days(Days::new(1));
            (self.is_day(local.date()) && minute >= self.from) || (yesterday.is_some_and(|day| self.is_day(day)) && minute < self.to)
        }
    }

    /// The next moment at which they begin or end; within the hour that clocks skip or repeat it may be an
    /// hour late.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let today = self.local(now).date();
        let days = (0..9).filter_map(|n| today.checked_sub_days(Days::new(1))?.checked_add_days(Days::new(n)));
        let edges = days.flat_map(|day| [self.instant(day, self.from), self.instant(day, self.to)]);
        let is = self.hold(now);
        edges.flatten().filter(|at| *at > now && self.hold(*at) != is).min()
    }

    fn is_day(&self, day: NaiveDate) -> bool {
        DAYS.iter().zip(self.days).any(|(known, is)| is && *known == day.weekday())
    }

    fn local(&self, at: Timestamp) -> NaiveDateTime {
        let utc = at.utc().naive_utc();
        let offset = self.zone.offset_from_utc_datetime(&utc).fix().local_minus_utc();
        utc.checked_add_signed(chrono::Duration::seconds(offset.into())).unwrap_or(utc)
    }

    /// When clocks in the zone show this minute of a day; where they skip it, an hour later.
    fn instant(&self, day: NaiveDate, minute: u32) -> Option<Timestamp> {
        let wanted = day.and_hms_opt(0, 0, 0)?.checked_add_signed(chrono::Duration::minutes(minute.into()))?;
        let found = |wanted: NaiveDateTime| self.zone.from_local_datetime(&wanted).earliest();
        let at = found(wanted).or_else(|| found(wanted.checked_add_signed(chrono::Duration::hours(1))?))?;
        Some(Timestamp::from_micros(at.with_timezone(&Utc).timestamp_micros()))
    }

    /// `08-18 Berlin`, with the days where today is none of them: what a person is told.
    pub fn brief(&self, now: Timestamp) -> String {
        let zone = self.zone.name().rsplit('/').next().unwrap_or_default().replace('_', " ");
        let times = format!("{}-{} {zone}", clock(self.from), clock(self.to));
        if self.is_day(self.local(now).date()) { times } else { format!("{} {times}", self.days_in_words()) }
    }

    fn days_in_words(&self) -> String {
        if self.days == [true; 7] {
            return "daily".into();
        }
        let mut runs: Vec<(Weekday, Weekday, usize)> = Vec::new();
        for day in DAYS.iter().zip(self.days).filter(|(_, is)| *is).map(|(day, _)| *day) {
            match runs.last_mut().filter(|(_, last, _)| last.succ() == day) {
                Some(run) => (run.1, run.2) = (day, run.2 + 1),
                None => runs.push((day, day, 1)),
            }
        }
        let run = |(first, last, count): &(Weekday, Weekday, usize)| match count {
            1 => first.to_string(),
            2 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        };
        runs.iter().map(run).collect::<Vec<_>>().join(",")
    }
}

fn clock(minute: u32) -> String {
    let (hour, minute) = (minute / 60, minute % 60);
    if minute == 0 { format!("{hour:02}") } else { format!("{hour:02}:{minute:02}") }
}

impl fmt::Display for Hours {
    /// As it is written in people.toml.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}-{} {}", self.days_in_words(), clock(self.from), clock(self.to), self.zone.name())
    }
}

/// Each hour of a week without a change of clocks: what is looked at to see whether somebody is always there.
pub fn week() -> impl Iterator<Item = Timestamp> {
    // Monday, 5 January 2026.
    const MONDAY: Timestamp = Timestamp::from_micros(1_767_571_200_000_000);
    (0..7 * 24).map(|hour| MONDAY.plus(Duration::from_secs(3600 * hour)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_micros(chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
    }

    fn hours(text: &str) -> Hours {
        text.parse().unwrap()
    }

    #[test]
    fn they_follow_the_clock_on_the_wall() {
        let office = hours("Mon-Fri 08-18 Europe/Berlin");
        for (when, open) in [
            ("2026-01-05T06:59:59Z", false),
            ("2026-01-05T07:00:00Z", true), // Monday 08:00, winter
            ("2026-01-05T16:59:59Z", true),
            ("2026-01-05T17:00:00Z", false),
            ("2026-07-06T06:00:00Z", true), // Monday 08:00, summer
            ("2026-07-06T16:00:00Z", false),
            ("2026-01-03T12:00:00Z", false), // a Saturday
        ] {
            assert_eq!(office.hold(at(when)), open, "{when}");
        }
        assert_eq!(office.next(at("2026-01-05T06:00:00Z")), Some(at("2026-01-05T07:00:00Z")));
        assert_eq!(office.next(at("2026-01-09T17:00:00Z")), Some(at("2026-01-12T07:00:00Z")), "over the weekend");
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let night = hours("Fri 22-06 UTC");
        for (when, open) in [
            ("2026-01-09T21:59:00Z", false),
            ("2026-01-09T22:00:00Z", true), // Friday
            ("2026-01-10T05:59:00Z", true),
            ("2026-01-10T06:00:00Z", false),
            ("2026-01-09T03:00:00Z", false),
        ] {
            assert_eq!(night.hold(at(when)), open, "{when}");
        }
        let always = hours("daily 00-24 UTC");
        assert!(week().all(|hour| always.hold(hour)));
        assert_eq!(always.next(at("2026-01-09T21:59:00Z")), None);
    }

    #[test]
    fn a_person_reads_little() {
        let office = hours("Mon-Fri 08-18 Europe/Berlin");
        assert_eq!(office.brief(at("2026-01-05T20:00:00Z")), "08-18 Berlin");
        assert_eq!(office.brief(at("2026-01-03T12:00:00Z")), "Mon-Fri 08-18 Berlin");
        assert_eq!(hours("Sat,Sun 09:30-17 America/New_York").brief(at("2026-01-05T20:00:00Z")), "Sat,Sun 09:30-17 New York");
    }

    #[test]
    fn what_they_are_not_is_said() {
        for (text, why) in [
            ("08-18 Europe/Berlin", "write days, hours and a zone"),
            ("Mo-Fr 08-18 Europe/Berlin", "\"Mo-Fr\" are not days"),
            ("Mon-Fri 8-18 UTC", "\"8-18\" are not hours"),
            ("Mon-Fri 08-25 UTC", "\"08-25\" are not hours"),
            ("Mon-Fri 24-08 UTC", "are not hours"),
            ("Mon-Fri 08-18 Berlin", "\"Berlin\" is not an IANA time zone"),
        ] {
            let said = text.parse::<Hours>().unwrap_err().to_string();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    fn any_hours() -> impl Strategy<Value = Hours> {
        let zone = proptest::sample::select(&chrono_tz::TZ_VARIANTS[..]);
        (any::<[bool; 7]>(), 0..DAY, 0..=DAY, zone).prop_map(|(days, from, to, zone)| Hours { days, from, to, zone })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_again(hours in any_hours().prop_filter("no day at all", |hours| hours.days != [false; 7])) {
            prop_assert_eq!(hours.to_string().parse::<Hours>(), Ok(hours));
        }

        #[test]
        fn nothing_changes_before_the_next_change(hours in any_hours(), from in 1_500_000_000i64..2_000_000_000, part in 0.0f64..1.0) {
            // Where clocks never change.
            let hours = Hours { zone: Tz::UTC, ..hours };
            let now = Timestamp::from_micros(from * 1_000_000);
            if let Some(next) = hours.next(now) {
                prop_assert!(next > now && hours.hold(next) != hours.hold(now));
                let between = now.plus(next.since(now).mul_f64(part * 0.999));
                prop_assert_eq!(hours.hold(between), hours.hold(now), "{} at {}", hours, between);
            }
        }

        #[test]
        fn there_is_always_a_next_change_to_come(hours in any_hours(), from in 1_500_000_000i64..2_000_000_000) {
            let now = Timestamp::from_micros(from * 1_000_000);
            if let Some(next) = hours.next(now) {
                prop_assert!(next > now && hours.hold(next) != hours.hold(now), "{} after {}", hours, now);
            }
        }

        #[test]
        fn any_text_is_hours_or_one_error(text in "\\PC{0,40}") {
            let _ = text.parse::<Hours>();
        }
    }
}
