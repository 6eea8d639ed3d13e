//! Years of schedules walked with a given clock: each recording goes on its day, none before, none held.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::hold::{Conditions, Hold, HoldId, Predicate, Recorded, Release};
use super::period::Period;
use super::schedule::{Bound, Schedule, Schedules};
use super::step::{Next, step};
use super::terms::{BadTerms, Due, Terms, TermsOf};
use crate::access::canonical;
use crate::id::{Digest, ScheduleName, SessionId};
use crate::time::Timestamp;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const ZONES: [&str; 6] = ["UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia", "Asia/Kathmandu", "Australia/Lord_Howe"];
/// Name, floor and ceiling, each in months and days.
const SCHEDULES: [(&str, [u32; 2], [u32; 2]); 6] = [
    ("short", [0, 7], [0, 30]),
    ("month", [1, 0], [2, 0]),
    ("standard", [0, 90], [12, 0]),
    ("days", [0, 90], [0, 365]),
    ("long", [12, 0], [36, 0]),
    ("odd", [18, 0], [54, 3]),
];
const BOUNDS: [(&str, [u32; 2]); 3] = [("pii", [0, 30]), ("staff", [1, 0]), ("pci", [13, 0])];
/// Of schedules and labels.
const CASES: [(&[&str], &[&str]); 9] = [
    (&["short"], &[]),
    (&["month"], &["unbounded"]),
    (&["standard"], &[]),
    (&["days", "standard"], &[]),
    (&["short", "long"], &[]),
    (&["odd"], &[]),
    (&["standard"], &["pci"]),
    (&["long", "short"], &["pci"]),
    (&["standard"], &["pii", "staff"]),
];
/// Local times at which sessions end: leap days, ends of months, gaps and overlaps of several zones.
const ENDS: [&str; 16] = [
    "2008-02-29 12:00:00.000000",
    "2010-12-30 09:00:00.000000",
    "2010-12-31 00:00:00.000000",
    "2011-11-30 23:59:59.999999",
    "2011-09-30 12:00:00.000000",
    "2012-02-29 23:59:59.999999",
    "2023-01-31 23:59:59.999999",
    "2024-02-28 00:00:00.000000",
    "2024-02-29 23:59:59.999999",
    "2024-03-10 02:30:00.000000",
    "2024-03-31 02:30:00.000000",
    "2024-04-30 02:30:00.000001",
    "2024-10-27 02:30:00.000000",
    "2024-11-03 01:30:00.000000",
    "2024-12-31 23:59:59.999999",
    "2025-01-30 02:15:00.000000",
];

fn period([months, days]: [u32; 2]) -> Period {
    Period::new(months, days, 0).unwrap()
}

fn schedules(zone: Tz) -> Schedules {
    let by_name = SCHEDULES.map(|(name, keep, delete)| {
        let name: ScheduleName = name.parse().unwrap();
        (name.clone(), Schedule { name, keep_at_least: period(keep), delete_after: period(delete) })
    });
    let bounds = BOUNDS.map(|(label, at_most)| Bound { label: label.into(), at_most: period(at_most) });
    Schedules { by_name: by_name.into(), bounds: bounds.into(), zone, ..Schedules::default() }
}

/// The first instant at or after the local time that a wall clock in the zone shows.
fn ended(local: &str, zone: Tz) -> Timestamp {
    let mut local = NaiveDateTime::parse_from_str(local, "%Y-%m-%d %H:%M:%S%.f").unwrap();
    loop {
        if let Some(there) = zone.from_local_datetime(&local).earliest() {
            return Timestamp::from_micros(there.timestamp_micros());
        }
        local += chrono::TimeDelta::minutes(15);
    }
}

fn local_day(at: Timestamp, zone: Tz) -> NaiveDate {
    at.utc().with_timezone(&zone).date_naive()
}

/// A date some months and days on, by counting on a calendar on the wall.
fn on_the_wall(from: NaiveDate, [months, days]: [u32; 2], zone: Tz) -> NaiveDate {
    let month = from.month0() + months;
    let (year, month) = (from.year() + i32::try_from(month / 12).unwrap(), month % 12 + 1);
    let last = (1..=from.day()).rev().find_map(|day| NaiveDate::from_ymd_opt(year, month, day)).unwrap();
    let day = last + Days::new(days.into());
    // The day that Samoa left out when it changed sides.
    let left_out = zone == Tz::Pacific__Apia && day == NaiveDate::from_ymd_opt(2011, 12, 30).unwrap();
    if left_out { day + Days::new(1) } else { day }
}

/// A bastion as the sweep sees it.
struct Node {
    grace: Duration,
    /// It does not run in this time, nor does its uptime grow.
    down: Option<(Timestamp, Timestamp)>,
}

impl Node {
    fn runs(&self, at: Timestamp) -> bool {
        self.down.is_none_or(|(from, to)| at < from || at >= to)
    }

    fn uptime(&self, since: Timestamp, now: Timestamp) -> Duration {
        let off = self.down.map_or(Duration::ZERO, |(from, to)| to.min(now).since(from.max(since)));
        now.since(since) - off
    }

    /// Sweeps once a day, each hour around what is due, and whenever the last answer said; until erased.
    fn sweep(&self, due: &Due, from: Timestamp, years: u64, held: impl Fn(Timestamp) -> bool) -> Option<Timestamp> {
        let mut wake: BTreeSet<Timestamp> = (0..years * 366).map(|n| from.plus(DAY * u32::try_from(n).unwrap())).collect();
        for around in [due.keep_until, due.delete_by] {
            wake.extend((0..96).map(|n| around.minus(DAY * 2).plus(HOUR * n)));
        }
        wake.extend(self.down.map(|(_, back)| back));
        let mut marked: Option<Timestamp> = None;
        while let Some(now) = wake.pop_first() {
            if !self.runs(now) || now < from {
                continue;
            }
            match step(due, held(now), marked.map(|mark| self.uptime(mark, now)), self.grace, now) {
                Next::Keep { until } => {
                    assert!(until > now);
                    wake.insert(until);
                }
                Next::Held => marked = None,
                Next::Mark => {
                    assert!(marked.is_none());
                    marked = Some(now);
                    wake.insert(now);
                }
                Next::Wait { left } => {
                    assert!(!left.is_zero());
                    wake.insert(now.plus(left));
                }
                Next::Erase => {
                    assert!(self.uptime(marked.unwrap(), now) >= self.grace);
                    return Some(now);
                }
            }
        }
        None
    }
}

fn every_recording(mut walk: impl FnMut(Tz, &Schedules, Terms, [u32; 2], Timestamp, Due)) {
    for zone in ZONES.map(|name| name.parse::<Tz>().unwrap()) {
        let schedules = schedules(zone);
        for (case, ended) in CASES.iter().flat_map(|case| ENDS.map(|end| (case, ended(end, zone)))) {
            let names: Vec<ScheduleName> = case.0.iter().map(|name| name.parse().unwrap()).collect();
            let labels: Vec<String> = case.1.iter().map(|label| (*label).to_owned()).collect();
            let terms = schedules.terms(&names, &labels, Digest::of(b"policies")).unwrap();
            // Years later, from nothing but its bytes.
            let terms: Terms = canonical::decode(&canonical::encode(&terms)).unwrap();
            let due = terms.due(ended).unwrap();
            let day = |of: [u32; 2]| on_the_wall(local_day(ended, zone), of, zone);
            let ceilings = SCHEDULES.iter().filter(|of| case.0.contains(&of.0)).map(|of| of.2);
            let bounds = BOUNDS.iter().filter(|of| case.1.contains(&of.0)).map(|of| of.1);
            let longest = ceilings.max_by_key(|of| day(*of)).unwrap();
            let wanted = bounds.chain([longest]).min_by_key(|of| day(*of)).unwrap();
            walk(zone, &schedules, terms, wanted, ended, due);
        }
    }
}

#[test]
fn each_recording_goes_on_its_day_and_none_before() {
    let mut walked = 0;
    every_recording(|zone, schedules, terms, wanted, ended, due| {
        let node = Node { grace: schedules.grace, down: None };
        let erased = node.sweep(&due, ended, 8, |_| false).unwrap();
        let day = on_the_wall(local_day(ended, zone), wanted, zone);
        assert_eq!(local_day(due.delete_by, zone), day, "{zone} {ended} {terms:?}");
        assert_eq!(erased, due.delete_by, "{zone} {ended} {terms:?}");
        walked += 1;
    });
    assert_eq!(walked, ZONES.len() * CASES.len() * ENDS.len());
}

#[test]
fn what_is_held_stays_until_released_and_then_has_its_whole_grace() {
    let (alice, target) = ("alice".parse().unwrap(), "pay-7".parse().unwrap());
    every_recording(|zone, schedules, terms, _, ended, due| {
        let session = SessionId::new(ended);
        let facts = Recorded { person: &alice, target: &target, session, request: None, started: ended.minus(HOUR), ended: Some(ended) };
        let on = Conditions { target: Some("pay-*".parse().unwrap()), until: Some(ended), ..Conditions::default() };
        // Placed in the middle of the grace, released after a hundred days.
        let placed = due.delete_by.minus(HOUR);
        let released = due.delete_by.plus(DAY * 100);
        let mut hold = Hold {
            id: HoldId::new(placed),
            case: None,
            on: Predicate::try_from(on).unwrap(),
            reason: "letter".into(),
            attached: None,
            by: "erin".parse().unwrap(),
            placed,
            released: None,
        };
        let node = Node { grace: schedules.grace, down: None };
        let held = |now| now >= placed && now < released && hold.covers(&facts);
        let erased = node.sweep(&due, ended, 8, held).unwrap();
        assert!(erased >= released.plus(node.grace) && erased <= released.plus(node.grace + DAY), "{zone} {ended} {terms:?}");
        assert_eq!(node.sweep(&due, ended, 8, |now| now >= placed && hold.covers(&facts)), None);
        hold.released = Some(Release { by: "erin".parse().unwrap(), at: released, reason: "settled".into() });
        assert!(!hold.covers(&facts));
    });
}

#[test]
fn grace_is_time_that_the_bastion_ran() {
    every_recording(|zone, schedules, terms, _, ended, due| {
        // It goes down an hour after the mark and comes back three days later.
        let mark = due.delete_by.minus(schedules.grace);
        let node = Node { grace: schedules.grace, down: Some((mark.plus(HOUR), mark.plus(DAY * 3))) };
        let erased = node.sweep(&due, ended, 8, |_| false).unwrap();
        assert_eq!(erased, mark.plus(DAY * 3 - HOUR + node.grace), "{zone} {ended} {terms:?}");
    });
}

#[test]
fn terms_are_fixed_strict_and_say_what_they_lack() {
    let schedules = schedules(Tz::Europe__Berlin);
    let name = |text: &str| text.parse::<ScheduleName>().unwrap();
    let policy = Digest::of(b"policies");
    let terms = schedules.terms(&[name("standard"), name("days"), name("standard")], &["pii".into(), "staff".into()], policy).unwrap();
    let text = String::from_utf8(canonical::encode(&terms)).unwrap();
    let expected = format!(
        r#"{{"at_most":["P30D","P1M"],"policy":"{policy}","schedules":[{{"delete_after":"P365D","keep_at_least":"P90D","name":"days"}},{{"delete_after":"P1Y","keep_at_least":"P90D","name":"standard"}}],"zone":"Europe/Berlin"}}"#
    );
    assert_eq!(text, expected);
    assert!(serde_json::from_str::<Terms>(&text.replace("\"zone\"", "\"also\":1,\"zone\"")).is_err());
    assert_eq!(schedules.terms(&[name("never")], &[], policy), Err(name("never")));

    let now = Timestamp::from_micros(DateTime::parse_from_rfc3339("2024-01-10T12:00:00Z").unwrap().timestamp_micros());
    // 2024 has a leap day, so that a year is the longer; equal ceilings are the first schedule's.
    assert_eq!(Terms { at_most: vec![], ..terms.clone() }.due(now).unwrap().schedule, name("standard"));
    assert_eq!(Terms { at_most: vec![], ..terms.clone() }.due(now.plus(DAY * 90)).unwrap().schedule, name("days"));
    // February's month is tighter than thirty days, January's is not.
    assert_eq!(terms.due(now).unwrap().delete_by, now.plus(DAY * 30));
    assert_eq!(terms.due(now.plus(DAY * 25)).unwrap().delete_by, now.plus(DAY * (25 + 29)));
    assert_eq!(Terms { schedules: vec![], ..terms.clone() }.due(now), Err(BadTerms::NoSchedule));
    assert_eq!(Terms { zone: "Mars/Base".into(), ..terms }.due(now), Err(BadTerms::UnknownZone("Mars/Base".into())));
}

proptest! {
    /// Whatever the terms say and whenever it is asked, the floor stands, and the bound beats it.
    #[test]
    fn nobody_undercuts_the_floor(
        of in prop::collection::vec(((0u32..40, 1u32..400), (0u32..40, 1u32..400)), 1..4),
        bounds in prop::collection::vec((0u32..40, 1u32..400), 0..3),
        end in 0i64..4_000_000_000, asked in -90_000i64..90_000, waited in prop::option::of(0u64..200_000), grace in 0u64..200_000,
        zone in prop::sample::select(&chrono_tz::TZ_VARIANTS[..]),
    ) {
        let mut schedules = Schedules { zone, ..Schedules::default() };
        let mut names = Vec::new();
        for (n, (keep, delete)) in of.iter().enumerate() {
            let name: ScheduleName = format!("s{n}").parse().unwrap();
            let (keep_at_least, delete_after) = (period(keep.to_owned().into()), period(delete.to_owned().into()));
            schedules.by_name.insert(name.clone(), Schedule { name: name.clone(), keep_at_least, delete_after });
            names.push(name);
        }
        schedules.bounds = bounds.iter().map(|of| Bound { label: "pii".into(), at_most: period(of.to_owned().into()) }).collect();
        let ended = Timestamp::from_micros(end * 1_000_000);
        let due = schedules.terms(&names, &["pii".into()], Digest::of(b"")).unwrap().due(ended).unwrap();
        let floor = schedules.by_name.values().map(|of| of.keep_at_least.after(ended, zone)).max().unwrap();
        let bound = schedules.bounds.iter().map(|of| of.at_most.after(ended, zone)).min();
        prop_assert!(due.keep_until <= due.delete_by);
        prop_assert_eq!(due.keep_until, bound.map_or(floor, |bound| bound.min(floor)));
        prop_assert!(bound.is_none_or(|bound| due.delete_by <= bound));

        let (grace, marked) = (Duration::from_secs(grace), waited.map(Duration::from_secs));
        let now = Timestamp::from_micros(due.delete_by.micros() + asked * 1_000_000);
        prop_assert_eq!(step(&due, true, marked, grace, now), Next::Held);
        match step(&due, false, marked, grace, now) {
            Next::Keep { until } => prop_assert!(now < until && until <= due.delete_by),
            Next::Mark => prop_assert!(now >= due.delete_by.minus(grace)),
            Next::Wait { left } => prop_assert!(!left.is_zero()),
            Next::Erase => prop_assert!(now >= due.delete_by && marked.unwrap() >= grace),
            Next::Held => prop_assert!(false),
        }
    }
}

/// Terms of one year, for tests of what carries them.
pub(crate) fn year() -> Terms {
    let period = |text: &str| text.parse::<Period>().unwrap();
    let of = TermsOf { name: "a-year".parse().unwrap(), keep_at_least: period("90d"), delete_after: period("1y") };
    Terms { schedules: vec![of], at_most: vec![], zone: "UTC".into(), policy: Digest([9; 32]) }
}
