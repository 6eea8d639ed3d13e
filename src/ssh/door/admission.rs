//! Who may come in and who has to wait or go (PURE): counts of those who have not logged in yet, in all
//! and by source, and the bounded queue behind them.
//!
//! Always true: never more than `all` are inside, never more of one source than its cap; the queue is
//! bounded. When it gets crowded somebody has to go, and that is the one who has been longest inside of the
//! source with the most, unless that is the newcomer's own: a flood turns itself away, not others.

use std::collections::{HashMap, VecDeque};

use crate::access::source::Block;
use crate::config::Limits;

/// Chance in percent of an early drop where they begin; it rises to certainty at the cap (sshd's
/// MaxStartups start:rate:full).
const RATE: usize = 30;
/// Places in the queue, in all and for one source.
const WAITING: usize = 256;
const WAITING_OF_ONE: usize = 16;

/// One who knocked.
pub type Id = u64;

/// A source and how many of it may be inside.
#[derive(Debug, Clone, Copy)]
pub struct Knocker {
    pub block: Block,
    pub cap: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Enter(Id),
    /// Somebody else has to go for it.
    EnterFor(Id, Leaver),
    Wait(Id),
    TurnAway(Crowd),
}

/// Who has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaver {
    pub id: Id,
    pub block: Block,
}

/// Why somebody is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowd {
    /// By lot, before the cap is reached.
    Early,
    /// No place inside, nor in the queue.
    Full,
}

/// Everybody who has not logged in.
#[derive(Debug, Default)]
pub struct Admission {
    inside: HashMap<Block, Inside>,
    count: usize,
    waiting: VecDeque<(Id, Knocker)>,
    last: Id,
}

/// Those of one source, longest first.
#[derive(Debug)]
struct Inside {
    ids: VecDeque<Id>,
    cap: usize,
}

impl Admission {
    /// Decides on somebody who knocks; `roll` is drawn anew from 0…99 each time.
    pub fn knock(&mut self, who: Knocker, roll: usize, limits: &Limits) -> Verdict {
        self.last += 1;
        let id = self.last;
        if self.count_of(who.block) >= who.cap {
            return self.wait(id, who);
        }
        let crowded = self.count >= limits.unauthenticated;
        if !crowded && roll >= self.chance(limits) {
            self.enter(id, who);
            return Verdict::Enter(id);
        }
        match self.busier_than(who) {
            Some(leaver) => {
                self.leave(leaver.block, leaver.id);
                self.enter(id, who);
                Verdict::EnterFor(id, leaver)
            }
            None if crowded => self.wait(id, who),
            None => Verdict::TurnAway(Crowd::Early),
        }
    }

    /// Somebody inside has logged in or gone. Says whether they still were.
    pub fn leave(&mut self, block: Block, id: Id) -> bool {
        let Some(inside) = self.inside.get_mut(&block) else { return false };
        let Some(at) = inside.ids.iter().position(|other| *other == id) else { return false };
        inside.ids.remove(at);
        self.count -= 1;
        if inside.ids.is_empty() {
            self.inside.remove(&block);
        }
        true
    }

    /// Lets in the first of the queue for whom there is a place now.
    pub fn call(&mut self, limits: &Limits) -> Option<Id> {
        if self.count >= limits.unauthenticated {
            return None;
        }
        let at = self.waiting.iter().position(|(_, who)| self.count_of(who.block) < who.cap)?;
        let (id, who) = self.waiting.remove(at)?;
        self.enter(id, who);
        Some(id)
    }

    /// Somebody in the queue waits no longer. Says whether they still did.
    pub fn give_up(&mut self, id: Id) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|(waiting, _)| *waiting != id);
        self.waiting.len() < before
    }

    fn count_of(&self, block: Block) -> usize {
        self.inside.get(&block).map_or(0, |inside| inside.ids.len())
    }

    fn enter(&mut self, id: Id, who: Knocker) {
        let inside = self.inside.entry(who.block).or_insert_with(|| Inside { ids: VecDeque::new(), cap: who.cap });
        inside.ids.push_back(id);
        self.count += 1;
    }

    fn wait(&mut self, id: Id, who: Knocker) -> Verdict {
        let of_this = self.waiting.iter().filter(|(_, other)| other.block == who.block).count();
        if self.waiting.len() >= WAITING || of_this >= WAITING_OF_ONE {
            return Verdict::TurnAway(Crowd::Full);
        }
        self.waiting.push_back((id, who));
        Verdict::Wait(id)
    }

    /// Chance of an early drop, in percent.
    fn chance(&self, limits: &Limits) -> usize {
        let (from, full) = (limits.early_drop_from, limits.unauthenticated);
        match self.count.checked_sub(from) {
            Some(over) if full > from => RATE + (100 - RATE) * over / (full - from),
            _ => 0,
        }
    }

    /// The one who has been longest inside of the source that fills most of its cap, if the newcomer's
    /// own would still fill less of its own.
    fn busier_than(&self, who: Knocker) -> Option<Leaver> {
        // a/b < c/d without fractions: ad < cb.
        let fills_less = |(a, b): (usize, usize), (c, d): (usize, usize)| a * d < c * b;
        let share = |inside: &Inside| (inside.ids.len(), inside.cap);
        let (block, busiest) =
            self.inside.iter().reduce(|one, other| if fills_less(share(one.1), share(other.1)) { other } else { one })?;
        let own = (self.count_of(who.block) + 1, who.cap);
        let id = busiest.ids.front()?;
        fills_less(own, share(busiest)).then_some(Leaver { id: *id, block: *block })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    /// Never an early drop, and always one where there may be.
    const LUCKY: usize = 99;
    const UNLUCKY: usize = 0;

    fn from(source: u32) -> Knocker {
        Knocker { block: Block::of(IpAddr::V4(Ipv4Addr::from_bits(source))), cap: 16 }
    }

    fn enters(admission: &mut Admission, source: u32) -> Id {
        match admission.knock(from(source), LUCKY, &Limits::default()) {
            Verdict::Enter(id) => id,
            other => panic!("{source} does not enter: {other:?}"),
        }
    }

    #[test]
    fn the_seventeenth_of_a_source_waits_for_one_to_leave() {
        let (mut admission, limits) = (Admission::default(), Limits::default());
        let first = enters(&mut admission, 1);
        (0..15).for_each(|_| {
            enters(&mut admission, 1);
        });
        let Verdict::Wait(waiting) = admission.knock(from(1), LUCKY, &limits) else { panic!("it does not wait") };
        enters(&mut admission, 2);
        assert_eq!(admission.call(&limits), None, "nobody has left");
        assert!(admission.leave(from(1).block, first) && !admission.leave(from(1).block, first));
        assert_eq!(admission.call(&limits), Some(waiting));
        assert_eq!(admission.call(&limits), None);
        (0..WAITING_OF_ONE).for_each(|_| assert!(matches!(admission.knock(from(1), LUCKY, &limits), Verdict::Wait(_))));
        assert_eq!(admission.knock(from(1), LUCKY, &limits), Verdict::TurnAway(Crowd::Full));
    }

    #[test]
    fn whoever_waits_can_give_up_and_is_not_called() {
        let (mut admission, limits) = (Admission::default(), Limits::default());
        let first = enters(&mut admission, 1);
        (0..15).for_each(|_| {
            enters(&mut admission, 1);
        });
        let Verdict::Wait(waiting) = admission.knock(from(1), LUCKY, &limits) else { panic!("it does not wait") };
        assert!(admission.give_up(waiting) && !admission.give_up(waiting));
        admission.leave(from(1).block, first);
        assert_eq!(admission.call(&limits), None);
    }

    #[test]
    fn early_drops_begin_at_64_with_30_percent_and_end_at_certainty() {
        let (mut admission, limits) = (Admission::default(), Limits::default());
        (0..63).for_each(|n| {
            enters(&mut admission, n);
        });
        assert!(matches!(admission.knock(from(100), UNLUCKY, &limits), Verdict::Enter(_)), "63 inside are no crowd");
        assert_eq!(admission.chance(&limits), 30);
        assert_eq!(admission.knock(from(101), 29, &limits), Verdict::TurnAway(Crowd::Early));
        assert!(matches!(admission.knock(from(102), 30, &limits), Verdict::Enter(_)));
        (0..191).for_each(|n| {
            enters(&mut admission, 1000 + n);
        });
        assert_eq!((admission.count, admission.chance(&limits)), (256, 100));
    }

    #[test]
    fn a_flood_of_many_sources_makes_room_for_somebody_who_is_alone() {
        let (mut admission, limits) = (Admission::default(), Limits::default());
        for n in 0..limits.unauthenticated {
            enters(&mut admission, u32::try_from(n % 50).unwrap());
        }
        let Verdict::EnterFor(id, leaver) = admission.knock(from(1000), LUCKY, &limits) else { panic!("it does not enter") };
        assert_eq!(admission.inside[&leaver.block].ids.len(), 5, "of one of those with six");
        assert!(!admission.leave(leaver.block, leaver.id), "it has gone already");
        for _ in 0..3 {
            assert!(
                !matches!(admission.knock(from(3), UNLUCKY, &limits), Verdict::EnterFor(..) | Verdict::Enter(_)),
                "the flood gets nothing"
            );
        }
        assert!(admission.leave(from(1000).block, id), "and the one who is alone stays");
    }

    #[test]
    fn a_shared_source_is_measured_by_its_own_cap() {
        let (mut admission, limits) = (Admission::default(), Limits { unauthenticated: 40, ..Limits::default() });
        let office = Knocker { cap: 64, ..from(1) };
        (0..30).for_each(|_| assert!(matches!(admission.knock(office, LUCKY, &limits), Verdict::Enter(_))));
        (0..10).for_each(|_| {
            enters(&mut admission, 2);
        });
        let Verdict::EnterFor(_, leaver) = admission.knock(from(3), LUCKY, &limits) else { panic!("it does not enter") };
        assert_eq!(leaver.block, from(2).block, "10 of 16 is more than 30 of 64");
    }

    #[derive(Debug, Clone)]
    enum Deed {
        Knock(u32, usize),
        Leave(usize),
        GiveUp(usize),
        Call,
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let deed = prop_oneof![
            6 => (0u32..30, 0usize..100).prop_map(|(who, roll)| Deed::Knock(who, roll)),
            2 => any::<prop::sample::Index>().prop_map(|at| Deed::Leave(at.index(1000))),
            1 => any::<prop::sample::Index>().prop_map(|at| Deed::GiveUp(at.index(1000))),
            1 => Just(Deed::Call),
        ];
        prop::collection::vec(deed, 0..400)
    }

    proptest! {
        /// Whatever happens in whatever order: the caps hold, counts are exact, and all places come back.
        #[test]
        fn the_caps_hold_and_no_place_is_lost(deeds in deeds()) {
            let limits = Limits { unauthenticated: 40, early_drop_from: 10, ..Limits::default() };
            let (mut admission, mut inside, mut queue) = (Admission::default(), Vec::new(), Vec::new());
            for deed in deeds {
                match deed {
                    Deed::Knock(who, roll) => match admission.knock(from(who), roll, &limits) {
                        Verdict::Enter(id) => inside.push((from(who).block, id)),
                        Verdict::EnterFor(id, leaver) => {
                            inside.retain(|place| *place != (leaver.block, leaver.id));
                            inside.push((from(who).block, id));
                        }
                        Verdict::Wait(id) => queue.push((from(who).block, id)),
                        Verdict::TurnAway(_) => {}
                    },
                    Deed::Leave(at) if !inside.is_empty() => {
                        let (block, id) = inside.remove(at % inside.len());
                        prop_assert!(admission.leave(block, id));
                    }
                    Deed::GiveUp(at) if !queue.is_empty() => {
                        let (_, id) = queue.remove(at % queue.len());
                        prop_assert!(admission.give_up(id));
                    }
                    Deed::Call => {
                        if let Some(id) = admission.call(&limits) {
                            let at = queue.iter().position(|(_, waiting)| *waiting == id).unwrap();
                            inside.push(queue.remove(at));
                        }
                    }
                    Deed::Leave(_) | Deed::GiveUp(_) => {}
                }
                prop_assert_eq!(admission.count, inside.len());
                prop_assert_eq!(admission.waiting.len(), queue.len());
                prop_assert!(inside.len() <= 40 && queue.len() <= WAITING);
                prop_assert!(admission.inside.values().all(|of_one| (1..=16).contains(&of_one.ids.len())));
            }
            for (block, id) in inside {
                prop_assert!(admission.leave(block, id));
            }
            prop_assert!(admission.inside.is_empty() && admission.count == 0);
        }
    }
}
