//! Counts of those who did not come in (PURE): one row of the log per source and minute, however many
//! knock (**D order**). Sources beyond [`SOURCES`] in one minute share a row.

use std::collections::BTreeMap;

use serde_json::json;

use super::admission::Crowd;
use super::penalties::Offence;
use crate::access::source::Block;
use crate::audit::Event;
use crate::time::Timestamp;

/// Rows of one minute, beside that of all the others.
const SOURCES: usize = 256;
const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

/// Why somebody did not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    Offence(Offence),
    /// Refused because of earlier offences.
    Penalised,
    /// Dropped by lot, before the cap.
    Early,
    /// No place, not even to wait.
    Full,
    /// Waited in the queue in vain.
    Late,
    /// Had to go for somebody of a quieter source.
    Displaced,
}

impl From<Crowd> for Failure {
    fn from(crowd: Crowd) -> Self {
        match crowd {
            Crowd::Early => Failure::Early,
            Crowd::Full => Failure::Full,
        }
    }
}

impl Failure {
    fn word(self) -> &'static str {
        match self {
            Failure::Offence(Offence::AuthFailed) => "auth_failed",
            Failure::Offence(Offence::NoAuth) => "no_auth",
            Failure::Offence(Offence::Grace) => "grace_over",
            Failure::Penalised => "penalised",
            Failure::Early => "early_drop",
            Failure::Full => "full",
            Failure::Late => "queued_in_vain",
            Failure::Displaced => "displaced",
        }
    }
}

type Counts = BTreeMap<Failure, u64>;

/// The counts of one minute.
#[derive(Debug, Default)]
pub struct Tally {
    since: Option<Timestamp>,
    by_source: BTreeMap<Block, Counts>,
    others: Counts,
}

impl Tally {
    pub fn count(&mut self, source: Block, failure: Failure, now: Timestamp) {
        self.since.get_or_insert(now);
        let room = self.by_source.len() < SOURCES || self.by_source.contains_key(&source);
        let counts = if room { self.by_source.entry(source).or_default() } else { &mut self.others };
        *counts.entry(failure).or_default() += 1;
    }

    /// The rows of a minute that is over.
    pub fn take_minute(&mut self, now: Timestamp) -> Vec<Event> {
        if self.since.is_some_and(|since| now.since(since) >= MINUTE) { self.take() } else { Vec::new() }
    }

    /// The rows so far; counting begins anew.
    pub fn take(&mut self) -> Vec<Event> {
        let Self { since, by_source, others } = std::mem::take(self);
        let Some(since) = since else { return Vec::new() };
        let row = |source: String, counts: Counts| {
            let counts: BTreeMap<_, _> = counts.into_iter().map(|(failure, count)| (failure.word(), count)).collect();
            Event::new("door.refusals", json!({ "source": source, "since": since, "counts": counts }))
        };
        let mut rows: Vec<Event> = by_source.into_iter().map(|(source, counts)| row(source.to_string(), counts)).collect();
        if !others.is_empty() {
            rows.push(row("others".into(), others));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn source(n: u32) -> Block {
        Block::of(IpAddr::V4(Ipv4Addr::from_bits(n)))
    }

    #[test]
    fn a_minute_is_one_row_for_each_source() {
        let (mut tally, start) = (Tally::default(), Timestamp::from_micros(0));
        for n in 0..1000 {
            tally.count(source(n % 2), Failure::Penalised, start);
        }
        tally.count(source(0), Failure::Offence(Offence::Grace), start.plus(MINUTE / 2));
        assert!(tally.take_minute(start.plus(MINUTE / 2)).is_empty());
        let rows = tally.take_minute(start.plus(MINUTE));
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].facts["counts"], json!({ "penalised": 500, "grace_over": 1 }));
        assert_eq!(rows[0].facts["source"], "0.0.0.0/32");
        assert!(tally.take().is_empty());
    }

    #[test]
    fn a_flood_from_everywhere_is_a_bounded_number_of_rows() {
        let mut tally = Tally::default();
        for n in 0..10_000 {
            tally.count(source(n), Failure::Early, Timestamp::from_micros(0));
        }
        let rows = tally.take();
        assert_eq!(rows.len(), SOURCES + 1);
        let all: u64 = rows.iter().filter_map(|row| row.facts["counts"]["early_drop"].as_u64()).sum();
        assert_eq!((all, rows[SOURCES].facts["source"].as_str()), (10_000, Some("others")));
    }
}
