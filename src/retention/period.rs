//! Periods of the calendar: what a year or a month is depends on when it begins.
//!
//! A due date has to come out the same for whoever recomputes it, so a period has one text for people
//! (`1y6mo`) and one for documents (ISO 8601, `P1Y6M`), and one rule for adding it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Days, LocalResult, Months, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Months and days of the calendar, then seconds; never nothing, at most two hundred years.
///
/// The order is that of the fields, not of length: whether `1mo` is longer than `30d` depends on the month.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period {
    months: u32,
    days: u32,
    seconds: u64,
}

/// Says why a text is not a period, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a period: {why}")]
pub struct NotAPeriod {
    pub given: String,
    pub why: String,
}

impl Period {
    /// Two hundred years.
    pub const LONGEST: Self = Self { months: 200 * 12, days: 0, seconds: 0 };

    pub fn new(months: u32, days: u32, seconds: u64) -> Result<Self, NotAPeriod> {
        let period = Self { months, days, seconds };
        let refuse = |why: &str| Err(NotAPeriod { given: period.to_string(), why: why.into() });
        if period == (Self { months: 0, days: 0, seconds: 0 }) {
            return refuse("it is nothing; write at least 1s");
        }
        let all = u64::from(months) * MONTH + u64::from(days) * DAY;
        if all.saturating_add(seconds) > LONGEST { refuse("it is longer than two hundred years; write at most 200y") } else { Ok(period) }
    }

    /// Returns when a period that began at `from` is over.
    ///
    /// Months and days move the local date; a day that a month lacks becomes its last. The local time
    /// of day stays: where it does not exist it is the first that does, where it exists twice the
    /// earlier. Seconds are counted after that, as they pass. Beyond what the calendar can say the
    /// answer is late, never early: what is computed here is deleted.
    pub fn after(self, from: Timestamp, zone: Tz) -> Timestamp {
        let moved = if self.months == 0 && self.days == 0 { Some(from) } else { self.moved(from, zone) };
        moved.unwrap_or_else(|| from.plus(self.at_most())).max(from).plus(Duration::from_secs(self.seconds))
    }

    fn moved(self, from: Timestamp, zone: Tz) -> Option<Timestamp> {
        let utc = DateTime::from_timestamp_micros(from.micros())?.naive_utc();
        let local = local(utc, zone)?;
        let moved = local.checked_add_months(Months::new(self.months))?.checked_add_days(Days::new(self.days.into()))?;
        let utc = instant(moved, zone)?;
        Some(Timestamp::from_micros(utc.and_utc().timestamp_micros()))
    }

    /// Months and days at their longest, and a day for the zone.
    fn at_most(self) -> Duration {
        Duration::from_secs((u64::from(self.months) * 31 + u64::from(self.days) + 1) * DAY)
    }

    fn parts(self) -> [u64; 6] {
        let (months, seconds) = (u64::from(self.months), self.seconds);
        [months / 12, months % 12, u64::from(self.days), seconds / 3600, seconds / 60 % 60, seconds % 60]
    }

    /// ISO 8601: `P1Y6M`, `PT12H`.
    fn iso(self) -> String {
        let mut text = String::from("P");
        for ((n, unit), is_time) in self.parts().into_iter().zip("YMDHMS".chars()).zip([false, false, false, true, true, true]) {
            if n > 0 {
                if is_time && !text.contains('T') {
                    text.push('T');
                }
                text.push_str(&format!("{n}{unit}"));
            }
        }
        text
    }

    fn from_iso(text: &str) -> Option<Self> {
        let parts = text.strip_prefix('P')?;
        let (date, time) = parts.split_once('T').unwrap_or((parts, ""));
        let [years, months, days] = designated(date, ['Y', 'M', 'D'])?;
        let [hours, minutes, seconds] = designated(time, ['H', 'M', 'S'])?;
        let months = years.checked_mul(12)?.checked_add(months)?;
        let seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(seconds)?;
        let period = Self::new(u32::try_from(months).ok()?, u32::try_from(days).ok()?, seconds).ok()?;
        (period.iso() == text).then_some(period)
    }
}

/// Reads `1Y6M`: each designator at most once, in this order, and nothing else.
fn designated(mut text: &str, units: [char; 3]) -> Option<[u64; 3]> {
    let mut parts = [0; 3];
    for (part, unit) in parts.iter_mut().zip(units) {
        if let Some((number, rest)) = text.split_once(unit) {
            *part = number.parse().ok()?;
            text = rest;
        }
    }
    text.is_empty().then_some(parts)
}

fn local(utc: NaiveDateTime, zone: Tz) -> Option<NaiveDateTime> {
    let offset = zone.offset_from_utc_datetime(&utc).fix().local_minus_utc();
    utc.checked_add_signed(TimeDelta::seconds(offset.into()))
}

/// The UTC instant at which clocks in `zone` first show `wanted`, or else go past it.
fn instant(wanted: NaiveDateTime, zone: Tz) -> Option<NaiveDateTime> {
    match zone.offset_from_local_datetime(&wanted) {
        LocalResult::Single(offset) => back(wanted, offset.fix().local_minus_utc()),
        LocalResult::Ambiguous(a, b) => back(wanted, a.fix().local_minus_utc().max(b.fix().local_minus_utc())),
        LocalResult::None => past(wanted, zone),
    }
}

fn back(local: NaiveDateTime, offset: i32) -> Option<NaiveDateTime> {
    local.checked_sub_signed(TimeDelta::seconds(offset.into()))
}

/// Finds the second at which clocks jump over `wanted`: before it they show less, from it on more.
///
/// No offset reaches two days, and clocks that never show `wanted` cannot pass it but by a jump, so
/// halving the time between ends at one.
fn past(wanted: NaiveDateTime, zone: Tz) -> Option<NaiveDateTime> {
    let wanted = wanted.and_utc().timestamp();
    let (mut before, mut after) = (wanted - 2 * 86_400, wanted + 2 * 86_400);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        let shown = local(DateTime::<Utc>::from_timestamp(middle, 0)?.naive_utc(), zone)?;
        if shown.and_utc().timestamp() > wanted { after = middle } else { before = middle }
    }
    Some(DateTime::<Utc>::from_timestamp(after, 0)?.naive_utc())
}

impl fmt::Display for Period {
    /// Writes the coarsest units that lose nothing: `1y6mo`, `90d`, `1h30m`; a day is never 24 hours.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts().into_iter().zip(["y", "mo", "d", "h", "m", "s"]);
        let text: String = parts.filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
        f.pad(if text.is_empty() { "0s" } else { &text })
    }
}

impl fmt::Debug for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Period {
    type Err = NotAPeriod;
    /// Reads what people write: `90d`, `1y 6mo`, `2 weeks`; each unit once, the largest first.
    fn from_str(text: &str) -> Result<Self, NotAPeriod> {
        // Nobody needs to read more than the beginning of a hostile value.
        let given: String = text.chars().take(48).collect();
        let refuse = |why: String| NotAPeriod { given: given.clone(), why };
        let (mut months, mut days, mut seconds) = (0, 0, 0);
        let mut last = None;
        let mut rest = text;
        while !rest.is_empty() {
            let (number, unit, left) = part(rest).map_err(refuse)?;
            if last.is_some_and(|last| last >= unit) {
                return Err(refuse("write each unit once and the largest first: 1y6mo".into()));
            }
            let (sum, size) = match unit {
                Unit::Year => (&mut months, 12),
                Unit::Month => (&mut months, 1),
                Unit::Week => (&mut days, 7),
                Unit::Day => (&mut days, 1),
                Unit::Hour => (&mut seconds, 3600),
                Unit::Minute => (&mut seconds, 60),
                Unit::Second => (&mut seconds, 1),
            };
            *sum += u64::from(number) * size;
            last = Some(unit);
            rest = left;
        }
        if last.is_none() {
            return Err(refuse("it is empty; write 90d, 1y6mo or 12h".into()));
        }
        // What a `u32` cannot hold is far beyond the longest period, and refused as such.
        let whole = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self::new(whole(months), whole(days), seconds).map_err(|error| refuse(error.why))
    }
}

impl TryFrom<String> for Period {
    type Error = NotAPeriod;
    fn try_from(text: String) -> Result<Self, NotAPeriod> {
        let why = || "write ISO 8601 with every part in its largest unit: P1Y6M, P90D, PT12H".into();
        Self::from_iso(&text).ok_or_else(|| NotAPeriod { given: text.chars().take(48).collect(), why: why() })
    }
}

impl From<Period> for String {
    fn from(period: Period) -> String {
        period.iso()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Year,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
}

/// Splits `6mo 30d` after its first number and unit.
fn part(text: &str) -> Result<(u32, Unit, &str), String> {
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let (word, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len()));
    if digits.is_empty() || digits.starts_with('0') {
        return Err("write whole numbers above 0, each with its unit: 90d, 1y6mo or 12h".into());
    }
    let number = digits.parse().map_err(|_| format!("{digits:.12}… is too large a number; write at most 200y"))?;
    let unit = match word {
        "y" | "year" | "years" => Unit::Year,
        "mo" | "month" | "months" => Unit::Month,
        "w" | "week" | "weeks" => Unit::Week,
        "d" | "day" | "days" => Unit::Day,
        "h" | "hour" | "hours" => Unit::Hour,
        "m" | "min" | "minute" | "minutes" => Unit::Minute,
        "s" | "sec" | "second" | "seconds" => Unit::Second,
        "M" => return Err("M is no unit; write mo for months, m for minutes".into()),
        "" => return Err(format!("{number} has no unit; write {number}d for days")),
        _ => return Err(format!("{word:.12?} is no unit; use y mo w d h m s")),
    };
    let left = rest.strip_prefix(' ').unwrap_or(rest);
    if left.is_empty() && !rest.is_empty() { Err("remove the space at its end".into()) } else { Ok((number, unit, left)) }
}

const DAY: u64 = 86_400;
/// A twelfth of a mean Gregorian year, rounded down, so that 200 years are within the bound.
const MONTH: u64 = 2_629_746;
const LONGEST: u64 = 200 * 12 * MONTH;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_micros(DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
    }

    #[test]
    fn periods_end_where_the_calendar_says() {
        let cases = [
            // A day that the month lacks is its last.
            ("1y", "UTC", "2024-02-29T12:00:00Z", "2025-02-28T12:00:00Z"),
            ("4y", "UTC", "2024-02-29T12:00:00Z", "2028-02-29T12:00:00Z"),
            ("4y", "UTC", "2096-02-29T12:00:00Z", "2100-02-28T12:00:00Z"),
            ("1mo", "UTC", "2025-01-31T23:59:59.999999Z", "2025-02-28T23:59:59.999999Z"),
            ("1mo1d", "UTC", "2024-01-31T00:00:00Z", "2024-03-01T00:00:00Z"),
            // The date is the local one.
            ("1mo", "Europe/Berlin", "2025-01-30T23:30:00Z", "2025-02-27T23:30:00Z"),
            // The local time of day stays over a change of the clocks; seconds do not care.
            ("1d", "Europe/Berlin", "2025-03-29T11:00:00Z", "2025-03-30T10:00:00Z"),
            ("24h", "Europe/Berlin", "2025-03-29T11:00:00Z", "2025-03-30T11:00:00Z"),
            // 02:30 does not exist: 03:00, which is 01:00Z. Then the seconds.
            ("1d", "Europe/Berlin", "2025-03-29T01:30:00.5Z", "2025-03-30T01:00:00Z"),
            ("1d30m", "Europe/Berlin", "2025-03-29T01:30:00Z", "2025-03-30T01:30:00Z"),
            // 02:30 exists twice: the earlier, in summer time.
            ("1d", "Europe/Berlin", "2025-10-25T00:30:00Z", "2025-10-26T00:30:00Z"),
            ("1d", "America/New_York", "2025-11-01T05:30:00Z", "2025-11-02T05:30:00Z"),
            // From the later of the two, a day on: the same time of day.
            ("1d", "America/New_York", "2025-11-02T06:30:00Z", "2025-11-03T06:30:00Z"),
            // 30 December 2011 does not exist there: the first moment of the 31st.
            ("1d", "Pacific/Apia", "2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z"),
            ("1mo", "Asia/Kathmandu", "2025-02-28T18:15:00Z", "2025-03-31T18:15:00Z"),
        ];
        for (period, zone, from, to) in cases {
            let ends = period.parse::<Period>().unwrap().after(at(from), zone.parse().unwrap());
            assert_eq!(ends, at(to), "{period} from {from} in {zone}");
        }
    }

    #[test]
    fn what_people_write_is_read_and_said_back() {
        let cases = [
            ("90d", "90d", "P90D"),
            ("1y", "1y", "P1Y"),
            ("6mo", "6mo", "P6M"),
            ("7y 30d", "7y30d", "P7Y30D"),
            ("1y6mo", "1y6mo", "P1Y6M"),
            ("18 months", "1y6mo", "P1Y6M"),
            ("12h", "12h", "PT12H"),
            ("2w", "14d", "P14D"),
            ("1 week 3 days", "10d", "P10D"),
            ("30min", "30m", "PT30M"),
            ("30m", "30m", "PT30M"),
            ("90min", "1h30m", "PT1H30M"),
            ("24h", "24h", "PT24H"),
            ("1d45s", "1d45s", "P1DT45S"),
            ("200y", "200y", "P200Y"),
            ("73048d", "73048d", "P73048D"),
        ];
        for (written, said, iso) in cases {
            let period: Period = written.parse().unwrap();
            assert_eq!(period.to_string(), said);
            assert_eq!(serde_json::to_string(&period).unwrap(), format!("{iso:?}"));
        }
    }

    #[test]
    fn what_is_no_period_says_what_to_write() {
        let cases = [
            ("", "it is empty; write 90d, 1y6mo or 12h"),
            ("1M", "M is no unit; write mo for months, m for minutes"),
            ("1fortnight", "\"fortnight\" is no unit; use y mo w d h m s"),
            ("30", "30 has no unit; write 30d for days"),
            ("0d", "write whole numbers above 0, each with its unit: 90d, 1y6mo or 12h"),
            ("-1d", "write whole numbers above 0, each with its unit: 90d, 1y6mo or 12h"),
            ("1.5y", "1 has no unit; write 1d for days"),
            ("1y1y", "write each unit once and the largest first: 1y6mo"),
            ("30d 7y", "write each unit once and the largest first: 1y6mo"),
            ("1d ", "remove the space at its end"),
            ("1y  6mo", "write whole numbers above 0, each with its unit: 90d, 1y6mo or 12h"),
            ("201y", "it is longer than two hundred years; write at most 200y"),
            ("200y1s", "it is longer than two hundred years; write at most 200y"),
            ("4294967295y", "it is longer than two hundred years; write at most 200y"),
            ("99999999999999999999d", "999999999999… is too large a number; write at most 200y"),
        ];
        for (written, why) in cases {
            assert_eq!(written.parse::<Period>().unwrap_err().to_string(), format!("{written:?} is not a period: {why}"));
        }
        for wrong in
            ["P", "PT", "P1W", "P18M", "P0D", "P01D", "P+1D", "P1D1Y", "P1YT", "PT60S", "PT1D", "p1y", "P1Y ", "P201Y", "1y", "P１Y"]
        {
            assert!(serde_json::from_value::<Period>(wrong.into()).is_err(), "{wrong}");
        }
    }

    /// Every zone, every hour of a few days: what clocks never show is found, and nothing is early.
    #[test]
    fn no_zone_has_a_time_that_is_lost() {
        let day: Period = "1d".parse().unwrap();
        for zone in chrono_tz::TZ_VARIANTS {
            for start in ["2011-12-27T00:00:00Z", "2025-03-28T00:00:00Z", "2025-10-24T00:00:00Z"] {
                for hour in 0..96 {
                    let from = at(start).plus(Duration::from_secs(hour * 3600 + 1799));
                    let wanted = local(from.utc().naive_utc(), zone).unwrap() + Days::new(1);
                    let ends = day.after(from, zone).utc().naive_utc();
                    let before = local(ends - TimeDelta::microseconds(1), zone).unwrap();
                    assert!(local(ends, zone).unwrap() >= wanted && before < wanted, "{zone} {from}");
                }
            }
        }
    }

    fn any_period() -> impl Strategy<Value = Period> {
        let part = |most: u64| prop_oneof![Just(0), 0..most];
        (part(2401), part(73_100), part(200_000_000)).prop_filter_map("a period", |(months, days, seconds)| {
            Period::new(u32::try_from(months).ok()?, u32::try_from(days).ok()?, seconds).ok()
        })
    }

    proptest! {
        #[test]
        fn both_texts_read_back(period in any_period()) {
            prop_assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
            let json = serde_json::to_string(&period).unwrap();
            prop_assert_eq!(serde_json::from_str::<Period>(&json).unwrap(), period);
        }

        #[test]
        fn any_text_is_a_period_or_an_error(text in "\\PC*|[PT0-9YMDHSymowdhins ]{0,24}") {
            if let Ok(period) = text.parse::<Period>() {
                prop_assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
            }
            if let Ok(period) = Period::try_from(text.clone()) {
                prop_assert_eq!(String::from(period), text);
            }
        }

        #[test]
        fn no_instant_is_too_far(period in any_period(), from in any::<i64>(), zone in prop::sample::select(&chrono_tz::TZ_VARIANTS[..])) {
            let from = Timestamp::from_micros(from);
            let ends = period.after(from, zone);
            prop_assert!(ends > from || ends.micros() == i64::MAX || period.seconds == 0 && ends == from);
        }

        #[test]
        fn a_later_end_is_never_due_days_earlier(period in any_period(), from in 0i64..4_000_000_000, gap in 0u64..400_000, zone in prop::sample::select(&chrono_tz::TZ_VARIANTS[..])) {
            let from = Timestamp::from_micros(from * 1_000_000);
            let later = from.plus(Duration::from_secs(gap));
            // Hours that clocks show twice, and days that a short month folds into its last, may change places; not more.
            let slack = Duration::from_secs(if period.months == 0 && period.days == 0 { 0 } else { 26 * 3600 });
            prop_assert!(period.after(later, zone).plus(slack) >= period.after(from, zone));
        }
    }
}
