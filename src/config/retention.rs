//! `policies/retention.toml`: how long recordings are kept, by name and by label.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono_tz::Tz;

use super::fields::{Fields, File};
use crate::id::ScheduleName;
use crate::retention::period::Period;
use crate::retention::schedule::{Bound, Schedule, Schedules};
use crate::time::{Timestamp, short};

/// Reads the file; `labels` are those that targets have.
pub(super) fn read(file: File<'_>, labels: &BTreeSet<&str>) -> Schedules {
    file.parse(|file, mut fields| {
        let zone = zone(file, &mut fields);
        let mut schedules = Schedules { zone, ..Schedules::default() };
        schedules.grace = grace(file, &mut fields).unwrap_or(schedules.grace);
        for (name, table) in fields.tables("schedules") {
            match name.get_ref().parse::<ScheduleName>() {
                Ok(word) => schedules.by_name.extend([(word.clone(), schedule(file, word, table, zone))]),
                Err(why) => file.error(name.span().start, why, "write [schedules.standard]"),
            }
        }
        for (label, mut table) in fields.tables("labels") {
            let at_most = table.word::<Period>("at_most");
            let at_most = table.required("at_most", at_most, "\"30d\"");
            table.finish();
            if !labels.is_empty() && !labels.contains(label.get_ref()) {
                let what = format!("no target has the label {:?}", label.get_ref());
                file.warning(label.span().start, what, "add it to a target's labels in targets.toml, or correct it");
            }
            let label = label.into_inner().to_owned();
            schedules.bounds.extend(at_most.map(|at_most| Bound { label, at_most: at_most.into_inner() }));
        }
        default(file, &mut fields, &mut schedules);
        fields.finish();
        schedules
    })
}

/// The zone that days are counted in.
fn zone(file: File<'_>, fields: &mut Fields<'_>) -> Tz {
    let Some(name) = fields.string("zone") else { return Tz::UTC };
    name.get_ref().parse().unwrap_or_else(|_| {
        let what = format!("{:?} is not a time zone", name.get_ref());
        file.error(name.span().start, what, "write an IANA name: zone = \"Europe/Berlin\"");
        Tz::UTC
    })
}

/// What applies where policy names no schedule: a recording without an end is never meant.
fn default(file: File<'_>, fields: &mut Fields<'_>, schedules: &mut Schedules) {
    let fix = "name one of the schedules here: default = \"standard\"";
    let Some(named) = fields.word::<ScheduleName>("default") else {
        let mut names = schedules.by_name.keys();
        match (names.next(), names.next()) {
            (Some(only), None) => schedules.default = Some(only.clone()),
            (Some(_), Some(_)) if !fields.has("default") => {
                file.error(0, "there are several schedules, and no default for what policy leaves open", fix);
            }
            (None, _) if !fields.has("default") && !fields.has("schedules") => {
                let fix = "write [schedules.standard] with keep_at_least = \"90d\" and delete_after = \"1y\"";
                file.error(0, "there is no schedule: recordings would have no end", fix);
            }
            _ => {}
        }
        return;
    };
    if schedules.by_name.contains_key(named.get_ref()) {
        schedules.default = Some(named.into_inner());
    } else {
        file.error(named.span().start, format!("there is no schedule {}", named.get_ref()), fix);
    }
}

fn grace(file: File<'_>, fields: &mut Fields<'_>) -> Option<Duration> {
    let grace = fields.duration("grace")?;
    if grace > MAX_GRACE {
        let what = format!("grace {} is longer than {}", short(grace), short(MAX_GRACE));
        file.error(fields.place("grace"), what, "a recording is marked that long before it goes: write grace = \"1d\"");
    }
    Some(grace)
}

fn schedule(file: File<'_>, name: ScheduleName, mut table: Fields<'_>, zone: Tz) -> Schedule {
    let keep = table.word::<Period>("keep_at_least");
    let keep = table.required("keep_at_least", keep, "\"90d\"").map(|keep| keep.into_inner());
    let delete = table.word::<Period>("delete_after");
    let delete = table.required("delete_after", delete, "\"1y\"").map(|delete| delete.into_inner());
    let at = table.place("delete_after");
    table.finish();
    if let (Some(keep), Some(delete)) = (keep, delete)
        && let Some(when) = shorter(delete, keep, zone)
    {
        let what = format!("delete_after {delete} is shorter than keep_at_least {keep}{when}");
        file.error(at, what, "delete after the floor has passed, not before");
    }
    // A schedule with a mistake keeps its name, so that policies are not blamed for it.
    Schedule { name, keep_at_least: keep.unwrap_or(Period::LONGEST), delete_after: delete.unwrap_or(Period::LONGEST) }
}

/// Says for which ends of sessions one period is over before the other: nothing more if for all.
///
/// A month is not a number of days, so every day of some years is tried: a leap year with those around
/// it, and the turn of 2100, which is none.
fn shorter(one: Period, other: Period, zone: Tz) -> Option<String> {
    let days = |from: i64, n: i64| (0..n).map(move |day| Timestamp::from_micros((from + day * 86_400) * 1_000_000));
    let ends: Vec<Timestamp> = days(FIRST_OF_2023, 5 * 366).chain(days(FIRST_OF_2095, 10 * 366)).collect();
    let early: Vec<&Timestamp> = ends.iter().filter(|end| one.after(**end, zone) < other.after(**end, zone)).collect();
    let first = early.first()?.utc().with_timezone(&zone).date_naive();
    Some(if early.len() == ends.len() { String::new() } else { format!(" for a session that ends on {first}") })
}

const MAX_GRACE: Duration = Duration::from_secs(30 * 86_400);
/// Noon, in seconds since 1970.
const FIRST_OF_2023: i64 = 1_672_574_400;
const FIRST_OF_2095: i64 = 3_944_721_600;
