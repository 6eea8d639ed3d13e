//! The one file that reads a clock. Everything else is given `now`.
//!
//! Wall time ([`Timestamp`]) is for what people read and for what is kept; deadlines of live sessions
//! are [`boottime`], which nobody can set back and which goes on while the machine sleeps.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    pub fn now() -> Self {
        Self(Utc::now().timestamp_micros())
    }

    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(micros_of(by)))
    }

    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(micros_of(by)))
    }

    /// Returns how long ago `earlier` was, nothing if it is still to come.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    pub fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Hours and minutes, always with the zone: `14:48Z`.
    pub fn clock(self) -> String {
        self.utc().format("%H:%MZ").to_string()
    }
}

/// Microseconds of a duration, as they stand in signed documents and in the database.
pub fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.utc().to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Time since the machine started, sleep included (CLOCK_BOOTTIME).
pub fn boottime() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// One look at the clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub wall: Timestamp,
    /// `CLOCK_BOOTTIME`
    pub boot: Duration,
    /// `/proc/sys/kernel/random/boot_id`; across boots, boot times cannot be compared.
    pub boot_id: String,
    /// Whether the kernel says that its clock is synchronised (`adjtimex`: no `STA_UNSYNC`).
    pub synchronised: bool,
}

/// Takes a look at the clocks. Whether the kernel's clock is synchronised is asked of
/// systemd (`timedatectl`, which asks `adjtimex`); where there is none it counts as not synchronised.
pub async fn seen() -> Seen {
    static BOOT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let boot_id = BOOT.get_or_init(|| std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned());
    Seen { wall: Timestamp::now(), boot: boottime(), boot_id: boot_id.clone(), synchronised: is_synchronised().await }
}

/// How long one answer of systemd's counts.
const SYNCHRONISED_FOR: Duration = Duration::from_secs(15);

async fn is_synchronised() -> bool {
    static KNOWN: std::sync::Mutex<Option<(Duration, bool)>> = std::sync::Mutex::new(None);
    let now = boottime();
    let known = *KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, is)) = known.filter(|(at, _)| now.saturating_sub(*at) < SYNCHRONISED_FOR) {
        return is;
    }
    let mut command = tokio::process::Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let asked = tokio::time::timeout(Duration::from_secs(2), command.output()).await;
    let is = matches!(asked, Ok(Ok(output)) if output.stdout.starts_with(b"yes"));
    *KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some((now, is));
    is
}

/// Writes a duration as people say it, to the coarsest unit that loses nothing: `30m`, `1h30m`, `45s`.
pub fn short(duration: Duration) -> String {
    let all = duration.as_secs();
    let (d, h, m, s) = (all / 86_400, all / 3600 % 24, all / 60 % 60, all % 60);
    let mut text = String::new();
    for (n, unit) in [(d, 'd'), (h, 'h'), (m, 'm'), (s, 's')] {
        if n > 0 {
            text.push_str(&format!("{n}{unit}"));
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Says when something will be, both ways: `in 15 min (14:48Z)`.
pub fn at(when: Timestamp, now: Timestamp) -> String {
    if when < now {
        return format!("{} ago ({})", about(now.since(when)), when.clock());
    }
    format!("in {} ({})", about(when.since(now)), when.clock())
}

/// Rounds a duration to one unit: `40 s`, `15 min`, `3 h`, `2 days`.
pub fn about(duration: Duration) -> String {
    let s = duration.as_secs_f64();
    if s < 90.0 {
        format!("{} s", s.round())
    } else if s < 90.0 * 60.0 {
        format!("{} min", (s / 60.0).round())
    } else if s < 36.0 * 3600.0 {
        format!("{} h", (s / 3600.0).round())
    } else {
        format!("{} days", (s / 86_400.0).round())
    }
}

/// Reads a duration as people write it: `30m`, `1h 30m`, `2 days`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|_| format!("{text:?} is not a duration: write 30m, 1h or 90s"))?;
    if duration.is_zero() || duration > Duration::from_secs(10 * 366 * 86_400) {
        return Err(format!("{text:?} is out of range: more than nothing, at most ten years"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(short(Duration::from_secs(1800)), "30m");
        assert_eq!(short(Duration::from_secs(5400)), "1h30m");
        assert_eq!(about(Duration::from_secs(899)), "15 min");
        assert!(parse_duration("0s").is_err());
        assert!(parse_duration("soon").is_err());
    }

    #[test]
    fn a_time_is_never_bare() {
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        assert_eq!(at(now.plus(Duration::from_secs(900)), now), "in 15 min (22:28Z)");
    }
}
