//! What is unusual about a request, held against what its person did lately (PURE; `users.md` 5).
//!
//! It only makes an approver look twice: nothing is allowed or refused by it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::request::{ANY_SOURCE, RequestDocument};
use super::source::Block;
use crate::id::TargetId;
use crate::time::Timestamp;

/// What lies further back is forgotten.
pub const LATELY: Duration = Duration::from_secs(30 * 24 * 3600);
/// Below so many sessions there is no hour that somebody usually works at.
const ENOUGH: u32 = 5;
/// Targets named one by one.
const NAMED: usize = 2;

/// What a person opened lately, as far as it is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Habit {
    pub targets: BTreeSet<TargetId>,
    pub sources: BTreeSet<IpAddr>,
    /// Sessions by the hour at which they began, UTC.
    pub hours: [u32; 24],
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusual {
    FirstTimeOn(Vec<TargetId>),
    /// Nobody saw this person begin within an hour of it.
    Hour(Timestamp),
    Address,
}

/// Says what differs, the hosts first.
pub fn unusual(document: &RequestDocument, habit: &Habit) -> Vec<Unusual> {
    let mut found = Vec::new();
    let new: Vec<TargetId> = document.targets.iter().map(|target| &target.id).filter(|id| !habit.targets.contains(*id)).cloned().collect();
    if !new.is_empty() {
        found.push(Unusual::FirstTimeOn(new));
    }
    let made = document.made();
    let hour = usize::try_from(made.micros() / 3_600_000_000 % 24).unwrap_or(0);
    let near: u32 = [hour + 23, hour, hour + 1].iter().filter_map(|hour| habit.hours.get(hour % 24)).sum();
    if habit.hours.iter().sum::<u32>() >= ENOUGH && near == 0 {
        found.push(Unusual::Hour(made));
    }
    let known = |source: &IpAddr| Block::of(*source).to_string() == document.source;
    if document.source != ANY_SOURCE && !habit.sources.is_empty() && !habit.sources.iter().any(known) {
        found.push(Unusual::Address);
    }
    found
}

/// `first time on web-1` · `02:58Z` · `new address`
impl fmt::Display for Unusual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusual::FirstTimeOn(targets) => {
                let named: Vec<&str> = targets.iter().take(NAMED).map(TargetId::as_str).collect();
                write!(f, "first time on {}", named.join(", "))?;
                match targets.len().saturating_sub(NAMED) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Unusual::Hour(at) => write!(f, "{}", at.utc().format("%H:%MZ")),
            Unusual::Address => f.write_str("new address"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::request::TargetPin;
    use crate::access::request::tests::sample;
    use crate::id::Digest;

    /// 2023-11-14T22:13Z, the hour of the sample.
    const HOUR: usize = 22;

    fn usual() -> Habit {
        let mut hours = [0; 24];
        hours[HOUR - 1] = 9;
        Habit { targets: ["web-1".parse().unwrap()].into(), sources: ["192.0.2.7".parse().unwrap()].into(), hours }
    }

    fn words(document: &RequestDocument, habit: &Habit) -> String {
        unusual(document, habit).iter().map(ToString::to_string).collect::<Vec<_>>().join(" · ")
    }

    #[test]
    fn what_somebody_always_does_is_not_marked() {
        assert_eq!(words(&sample(), &usual()), "");
    }

    #[test]
    fn what_differs_is_named() {
        let mut habit = usual();
        habit.hours = [0; 24];
        habit.hours[9] = 7;
        assert_eq!(words(&RequestDocument { source: "198.51.100.1/32".into(), ..sample() }, &habit), "22:13Z · new address");
        let pin = |name: &str| TargetPin { id: name.parse().unwrap(), pin: Digest([1; 32]) };
        let many = RequestDocument { targets: ["a", "b", "c", "web-1"].map(pin).to_vec(), ..sample() };
        assert_eq!(words(&many, &usual()), "first time on a, b and 1 more");
    }

    #[test]
    fn a_newcomer_has_no_hours_and_no_address() {
        assert_eq!(words(&sample(), &Habit::default()), "first time on web-1");
        let mut once = usual();
        once.hours = [0; 24];
        once.hours[3] = ENOUGH - 1;
        assert_eq!(words(&sample(), &once), "");
        assert_eq!(words(&RequestDocument { source: ANY_SOURCE.into(), ..sample() }, &usual()), "");
    }

    #[test]
    fn midnight_lies_between_two_neighbours() {
        let mut habit = usual();
        habit.hours = [0; 24];
        habit.hours[23] = 5;
        let midnight = RequestDocument { made_us: 1_700_006_400_000_000, ..sample() };
        assert_eq!(Timestamp::from_micros(1_700_006_400_000_000).utc().format("%H:%M").to_string(), "00:00");
        assert_eq!(words(&midnight, &habit), "");
    }
}
