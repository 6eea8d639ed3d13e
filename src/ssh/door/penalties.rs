//! Penalties of sources that misbehave at the door (PURE), as sshd's PerSourcePenalties: each offence
//! adds seconds, a source is refused once more than [`MIN`] has gathered, and time alone forgives.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::access::source::Block;

/// How somebody left without having logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offence {
    /// Tried, and failed.
    AuthFailed,
    /// Never tried.
    NoAuth,
    /// Stayed until the grace was over.
    Grace,
}

impl Offence {
    const fn penalty(self) -> Duration {
        Duration::from_secs(match self {
            Offence::AuthFailed => 5,
            Offence::NoAuth => 1,
            Offence::Grace => 10,
        })
    }
}

/// Less than this is not enforced: somebody who mistypes is no attacker.
const MIN: Duration = Duration::from_secs(15);
/// Nobody is refused for longer.
const MAX: Duration = Duration::from_secs(600);
/// Sources remembered; beyond, the one whose penalty ends first is forgotten.
const SOURCES: usize = 65_536;

/// What each source has gathered; times are on any clock that only goes forward.
#[derive(Debug, Default)]
pub struct Penalties {
    by_source: HashMap<Block, Penalty>,
    /// The same by their ends, so that what is over and what is over first are found at once.
    by_end: BTreeSet<(Duration, Block)>,
}

#[derive(Debug, Clone, Copy)]
struct Penalty {
    ends: Duration,
    enforced: bool,
}

impl Penalties {
    /// Adds an offence to what the source has gathered.
    pub fn punish(&mut self, source: Block, offence: Offence, now: Duration) {
        self.forgive(now);
        let before = self.by_source.remove(&source);
        if let Some(before) = before {
            self.by_end.remove(&(before.ends, source));
        } else if self.by_source.len() >= SOURCES
            && let Some((_, forgotten)) = self.by_end.pop_first()
        {
            self.by_source.remove(&forgotten);
        }
        let ends = before.map_or(now, |before| before.ends).saturating_add(offence.penalty()).min(now.saturating_add(MAX));
        // Once enforced it is to its end, or a source would come back every few seconds.
        let enforced = before.is_some_and(|before| before.enforced) || ends.saturating_sub(now) >= MIN;
        self.by_source.insert(source, Penalty { ends, enforced });
        self.by_end.insert((ends, source));
    }

    /// How much longer the source is refused, if it is.
    pub fn refuse(&self, source: Block, now: Duration) -> Option<Duration> {
        let penalty = self.by_source.get(&source)?;
        (penalty.enforced && penalty.ends > now).then(|| penalty.ends.saturating_sub(now))
    }

    /// Forgets what is over.
    fn forgive(&mut self, now: Duration) {
        while let Some((ends, source)) = self.by_end.first().copied()
            && ends <= now
        {
            self.by_end.pop_first();
            self.by_source.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn source(n: u32) -> Block {
        Block::of(IpAddr::V4(Ipv4Addr::from_bits(n)))
    }

    #[test]
    fn a_few_mistakes_are_no_offence_and_many_are() {
        let mut penalties = Penalties::default();
        for _ in 0..2 {
            penalties.punish(source(1), Offence::AuthFailed, s(100));
            assert_eq!(penalties.refuse(source(1), s(100)), None);
        }
        penalties.punish(source(1), Offence::AuthFailed, s(100));
        assert_eq!(penalties.refuse(source(1), s(100)), Some(s(15)));
        assert_eq!(penalties.refuse(source(2), s(100)), None, "a neighbour");
        assert_eq!(penalties.refuse(source(1), s(114)), Some(s(1)), "it is served to its end");
        assert_eq!(penalties.refuse(source(1), s(115)), None);
        penalties.punish(source(1), Offence::NoAuth, s(115));
        assert_eq!(penalties.refuse(source(1), s(115)), None, "what is over is forgotten");
    }

    #[test]
    fn two_who_stayed_too_long_are_enough_and_ten_minutes_the_most() {
        let mut penalties = Penalties::default();
        penalties.punish(source(1), Offence::Grace, s(0));
        penalties.punish(source(1), Offence::Grace, s(0));
        assert_eq!(penalties.refuse(source(1), s(0)), Some(s(20)));
        for _ in 0..1000 {
            penalties.punish(source(1), Offence::Grace, s(5));
        }
        assert_eq!(penalties.refuse(source(1), s(5)), Some(MAX));
    }

    #[test]
    fn somebody_who_only_looks_in_now_and_then_is_never_refused() {
        let mut penalties = Penalties::default();
        for second in 0..10_000 {
            penalties.punish(source(1), Offence::NoAuth, s(second));
            assert_eq!(penalties.refuse(source(1), s(second)), None);
        }
    }

    #[test]
    fn a_source_more_than_can_be_remembered_forgets_the_one_that_is_over_first() {
        let mut penalties = Penalties::default();
        for _ in 0..4 {
            penalties.punish(source(u32::MAX), Offence::Grace, s(0));
        }
        for n in 0..u32::try_from(SOURCES).unwrap() + 10 {
            penalties.punish(source(n), Offence::AuthFailed, s(0));
        }
        assert_eq!(penalties.by_source.len(), SOURCES);
        assert_eq!(penalties.refuse(source(u32::MAX), s(1)), Some(s(39)), "the worst stays");
        penalties.punish(source(7), Offence::NoAuth, s(1000));
        assert_eq!(penalties.by_source.len(), 1, "what is over takes no room");
    }

    proptest! {
        /// Nobody is refused for longer than the most, and both sides of the memory agree.
        #[test]
        fn memory_and_penalties_are_bounded(
            deeds in prop::collection::vec((0u32..20, 0u64..30, prop_oneof![Just(Offence::Grace), Just(Offence::NoAuth), Just(Offence::AuthFailed)]), 0..200),
        ) {
            let (mut penalties, mut now) = (Penalties::default(), s(0));
            for (who, later, offence) in deeds {
                now += s(later);
                penalties.punish(source(who), offence, now);
                prop_assert_eq!(penalties.by_source.len(), penalties.by_end.len());
                for (block, penalty) in &penalties.by_source {
                    prop_assert!(penalties.by_end.contains(&(penalty.ends, *block)));
                    prop_assert!(penalties.refuse(*block, now).is_none_or(|left| left <= MAX));
                }
            }
        }
    }
}
