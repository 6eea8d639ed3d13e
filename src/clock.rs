//! Whether the wall clock can be believed: the **D clock** rule (FC6), as a state machine without a clock.
//!
//! Whoever sets the clock could open a grant's window or let a recording's years pass at once. A step, or
//! a long absence in which steps would go unseen, blocks minting and approvals until the kernel has been
//! synchronised and steady for a minute, and disposal until a person accepts it. A block outlives the
//! process: what [`ClockRule::last`] returns is to be stored, at least with every change.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{Seen, Timestamp, about};

/// What is stored of the rule between runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Last {
    pub wall: Timestamp,
    pub boot: Duration,
    pub boot_id: String,
    /// Over all runs of this bastion.
    pub uptime: Duration,
    pub standing: Standing,
}

/// How far the clock is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Good,
    /// It has been synchronised and steady since; nobody has accepted it.
    Healed(Trouble),
    Blocked(Trouble),
}

/// What the clock did, and the wall time that it showed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trouble {
    pub what: What,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Back { by: Duration },
    Forward { by: Duration },
    Down { lasted: Duration, longer_than: Duration },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The sentence is kept, and read on another day.
        let at = self.at.utc().format("%Y-%m-%d %H:%MZ");
        match self.what {
            What::Back { by } => write!(f, "the clock went back {} s at {at}", by.as_secs()),
            What::Forward { by } => write!(f, "the clock went forward {} s at {at}", by.as_secs()),
            What::Down { lasted, longer_than } => {
                write!(f, "the bastion was down for {}, longer than {}", about(lasted), about(longer_than))
            }
        }
    }
}

/// How much is too much; [`Limits::default`] is the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub down: Duration,
    pub back: Duration,
    pub forward: Duration,
    pub steady: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { down: seconds(24 * 3600), back: seconds(5), forward: seconds(120), steady: seconds(60) }
    }
}

/// What an observation changed, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Minting, approvals and disposal are blocked.
    Blocked(Trouble),
    /// Minting and approvals are open again; disposal is not.
    Healed(Trouble),
}

/// How a start found the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Nothing is stored to compare it with.
    First,
    Good,
    /// An earlier run's trouble has healed and is still to be accepted.
    Healed(Trouble),
    /// New trouble, or an earlier run's.
    Blocked(Trouble),
}

/// The rule and what it has seen.
#[derive(Debug)]
pub struct ClockRule {
    limits: Limits,
    last: Last,
    /// Boot time since which every look found the clock synchronised and without a step.
    steady_since: Option<Duration>,
}

impl ClockRule {
    /// Begins a run, judging the time since the last one; that time is no uptime.
    pub fn start(last: Option<Last>, seen: &Seen, limits: Limits) -> (Self, Verdict) {
        let trouble = last.as_ref().and_then(|last| trouble(last, seen, limits));
        let (uptime, before) = last.map_or((Duration::ZERO, None), |last| (last.uptime, Some(last.standing)));
        let (standing, verdict) = match (trouble, before) {
            (Some(trouble), _) | (None, Some(Standing::Blocked(trouble))) => (Standing::Blocked(trouble), Verdict::Blocked(trouble)),
            (None, Some(Standing::Healed(trouble))) => (Standing::Healed(trouble), Verdict::Healed(trouble)),
            (None, Some(Standing::Good)) => (Standing::Good, Verdict::Good),
            (None, None) => (Standing::Good, Verdict::First),
        };
        let last = Last { wall: seen.wall, boot: seen.boot, boot_id: seen.boot_id.clone(), uptime, standing };
        (Self { limits, last, steady_since: seen.synchronised.then_some(seen.boot) }, verdict)
    }

    /// Takes a look, once a second or so; each is compared with the one before it.
    ///
    /// A slewed clock never adds up to a step: the kernel slews `CLOCK_BOOTTIME` with it, and a second
    /// holds milliseconds of drift.
    pub fn observe(&mut self, seen: &Seen) -> Option<Change> {
        let trouble = trouble(&self.last, seen, self.limits);
        if seen.boot_id == self.last.boot_id {
            self.last.uptime = self.last.uptime.saturating_add(seen.boot.saturating_sub(self.last.boot));
        }
        self.last = Last { wall: seen.wall, boot: seen.boot, boot_id: seen.boot_id.clone(), ..self.last.clone() };
        if let Some(trouble) = trouble {
            self.steady_since = seen.synchronised.then_some(seen.boot);
            self.last.standing = Standing::Blocked(trouble);
            return Some(Change::Blocked(trouble));
        }
        self.steady_since = if seen.synchronised { self.steady_since.or(Some(seen.boot)) } else { None };
        let steady = self.steady_since.is_some_and(|since| seen.boot.saturating_sub(since) >= self.limits.steady);
        match self.last.standing {
            Standing::Blocked(trouble) if steady => {
                self.last.standing = Standing::Healed(trouble);
                Some(Change::Healed(trouble))
            }
            Standing::Good | Standing::Healed(_) | Standing::Blocked(_) => None,
        }
    }

    /// Opens everything, because a person says that the clock is right; returns what was accepted.
    ///
    /// This is also the way out of a block on a machine without NTP.
    pub fn accept(&mut self) -> Option<Trouble> {
        match std::mem::replace(&mut self.last.standing, Standing::Good) {
            Standing::Good => None,
            Standing::Healed(trouble) | Standing::Blocked(trouble) => Some(trouble),
        }
    }

    /// Whether certificates may be issued and requests decided.
    pub fn may_mint(&self) -> bool {
        match self.last.standing {
            Standing::Good | Standing::Healed(_) => true,
            Standing::Blocked(_) => false,
        }
    }

    /// Whether recordings may be marked and erased.
    pub fn may_dispose(&self) -> bool {
        match self.last.standing {
            Standing::Good => true,
            Standing::Healed(_) | Standing::Blocked(_) => false,
        }
    }

    /// Returns how long this bastion has run, over all its runs; it never goes back.
    pub fn uptime(&self) -> Duration {
        self.last.uptime
    }

    /// Returns what is in the way of minting or of disposal.
    pub fn why(&self) -> Option<&Trouble> {
        match &self.last.standing {
            Standing::Good => None,
            Standing::Healed(trouble) | Standing::Blocked(trouble) => Some(trouble),
        }
    }

    /// Returns what the next run has to be started with.
    pub fn last(&self) -> &Last {
        &self.last
    }
}

/// Judges two successive looks, of one run or of two.
///
/// Within one boot, what the wall clock moved more or less than boot time is a step. Across boots only
/// a step back shows, and a long absence stands for the steps forward that do not.
fn trouble(last: &Last, seen: &Seen, limits: Limits) -> Option<Trouble> {
    let found = |what| Some(Trouble { what, at: last.wall });
    let mut expected = last.wall;
    if last.boot_id == seen.boot_id {
        expected = expected.plus(seen.boot.saturating_sub(last.boot));
        let forward = seen.wall.since(expected);
        if forward > limits.forward {
            return found(What::Forward { by: forward });
        }
    }
    let (back, away) = (expected.since(seen.wall), seen.wall.since(last.wall));
    if back > limits.back {
        return found(What::Back { by: back });
    }
    if away > limits.down { found(What::Down { lasted: away, longer_than: limits.down }) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-05-01T14:01:00Z
    const NOON: Timestamp = Timestamp::from_micros(1_777_644_060_000_000);

    /// A machine with its two clocks.
    #[derive(Clone)]
    struct Machine {
        wall: Timestamp,
        boot: Duration,
        boots: u32,
        synchronised: bool,
    }

    impl Machine {
        fn new() -> Self {
            Self { wall: NOON, boot: secs(1000), boots: 1, synchronised: true }
        }

        fn look(&self) -> Seen {
            Seen { wall: self.wall, boot: self.boot, boot_id: format!("boot {}", self.boots), synchronised: self.synchronised }
        }

        fn pass(&mut self, time: Duration) {
            self.wall = self.wall.plus(time);
            self.boot += time;
        }

        fn step(&mut self, micros: i64) {
            self.wall = Timestamp::from_micros(self.wall.micros() + micros);
        }

        fn reboot(&mut self, off: Duration) {
            self.wall = self.wall.plus(off);
            (self.boot, self.boots) = (secs(20), self.boots + 1);
        }

        /// A second at a time, as a bastion looks.
        fn run(&mut self, rule: &mut ClockRule, seconds: u32) -> Vec<Change> {
            let look = |_| {
                self.pass(secs(1));
                rule.observe(&self.look())
            };
            (0..seconds).filter_map(look).collect()
        }
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn start(last: Option<Last>, machine: &Machine) -> (ClockRule, Verdict) {
        ClockRule::start(last, &machine.look(), Limits::default())
    }

    /// Through its bytes, as it is stored.
    fn stored(rule: &ClockRule) -> Option<Last> {
        serde_json::from_slice(&serde_json::to_vec(rule.last()).unwrap()).unwrap()
    }

    #[test]
    fn a_step_blocks_heals_after_a_steady_minute_and_is_accepted_by_a_person() {
        for (micros, says) in [
            (-3_600_000_000, "the clock went back 3600 s at 2026-05-01 14:03Z"),
            (3_600_000_000, "the clock went forward 3600 s at 2026-05-01 14:03Z"),
        ] {
            let mut machine = Machine::new();
            let (mut rule, verdict) = start(None, &machine);
            assert_eq!(verdict, Verdict::First);
            assert_eq!(machine.run(&mut rule, 120), []);
            machine.step(micros);
            let changes = machine.run(&mut rule, 1);
            let trouble = *rule.why().unwrap();
            assert_eq!(changes, [Change::Blocked(trouble)]);
            assert_eq!(trouble.to_string(), says);
            // The last second without synchronisation, and the minute begins anew.
            machine.run(&mut rule, 59);
            machine.synchronised = false;
            machine.run(&mut rule, 1);
            machine.synchronised = true;
            machine.run(&mut rule, 60);
            assert!(!rule.may_mint() && !rule.may_dispose());
            assert_eq!(machine.run(&mut rule, 1), [Change::Healed(trouble)]);
            assert!(rule.may_mint() && !rule.may_dispose());
            machine.run(&mut rule, 100_000);
            assert!(!rule.may_dispose());
            assert_eq!(rule.accept(), Some(trouble));
            assert!(rule.may_dispose() && rule.why().is_none() && rule.accept().is_none());
        }
    }

    #[test]
    fn steps_within_the_limits_and_slow_drift_block_nothing() {
        let mut machine = Machine::new();
        let (mut rule, _) = start(None, &machine);
        for micros in [-5_000_000, 120_000_000, -1_000_000] {
            machine.step(micros);
            assert_eq!(machine.run(&mut rule, 1), []);
        }
        for micros in [-5_000_001, 120_000_001] {
            machine.step(micros);
            assert_eq!(machine.run(&mut rule, 1).len(), 1);
        }
        rule.accept();
        // A day of 500 ppm, both ways: 43 s each.
        for micros in [-500, 500] {
            for _ in 0..86_400 {
                machine.step(micros);
                assert_eq!(machine.run(&mut rule, 1), []);
            }
        }
    }

    #[test]
    fn an_absence_is_judged_at_the_next_start() {
        let mut machine = Machine::new();
        let (mut rule, _) = start(None, &machine);
        machine.run(&mut rule, 3600);
        let begin = |change: &dyn Fn(&mut Machine)| {
            let mut machine = machine.clone();
            change(&mut machine);
            let (rule, verdict) = start(stored(&rule), &machine);
            assert_eq!(rule.uptime(), secs(3600));
            (verdict, rule.why().map_or(String::new(), Trouble::to_string))
        };
        let good = (Verdict::Good, String::new());
        assert_eq!(begin(&|m| m.reboot(secs(24 * 3600))), good);
        assert_eq!(begin(&|m| m.pass(secs(24 * 3600))), good);
        assert_eq!(begin(&|m| m.step(-5_000_000)), good);
        let says = |change: &dyn Fn(&mut Machine)| begin(change).1;
        assert_eq!(says(&|m| m.reboot(secs(31 * 3600))), "the bastion was down for 31 h, longer than 24 h");
        assert_eq!(says(&|m| m.pass(secs(31 * 3600))), "the bastion was down for 31 h, longer than 24 h");
        // Set while the bastion was stopped: within one boot that shows.
        assert_eq!(says(&|m| m.step(3600 * 1_000_000)), "the clock went forward 3600 s at 2026-05-01 15:01Z");
        assert_eq!(says(&|m| m.step(-6_000_000)), "the clock went back 6 s at 2026-05-01 15:01Z");
        let set_back = |m: &mut Machine| {
            m.reboot(secs(0));
            m.step(-6_000_000);
        };
        assert_eq!(says(&set_back), "the clock went back 6 s at 2026-05-01 15:01Z");
    }

    #[test]
    fn a_restart_lifts_no_block() {
        let mut machine = Machine::new();
        let (mut rule, _) = start(None, &machine);
        machine.step(-3_600_000_000);
        machine.run(&mut rule, 1);
        let trouble = *rule.why().unwrap();
        for _ in 0..3 {
            machine.reboot(secs(60));
            let verdict;
            (rule, verdict) = start(stored(&rule), &machine);
            assert_eq!(verdict, Verdict::Blocked(trouble));
            machine.run(&mut rule, 59);
            assert!(!rule.may_mint());
        }
        machine.run(&mut rule, 1);
        let (rule, verdict) = start(stored(&rule), &machine);
        assert_eq!(verdict, Verdict::Healed(trouble));
        assert!(rule.may_mint() && !rule.may_dispose());
    }

    #[test]
    fn without_time_from_the_network_only_a_person_opens() {
        let mut machine = Machine { synchronised: false, ..Machine::new() };
        let (rule, _) = start(None, &machine);
        assert!(rule.may_mint() && rule.may_dispose());
        machine.reboot(secs(90 * 86_400));
        let (mut rule, _) = start(stored(&rule), &machine);
        machine.run(&mut rule, 10_000);
        assert!(!rule.may_mint());
        assert!(rule.accept().is_some());
        assert!(rule.may_mint() && rule.may_dispose());
    }

    #[derive(Debug, Clone)]
    enum Act {
        Pass(u32),
        Step(i64),
        Synchronised(bool),
        Restart,
        Reboot(u32),
        Accept,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (1u32..90).prop_map(Act::Pass),
            2 => (-10_000_000i64..200_000_000).prop_map(Act::Step),
            1 => any::<i64>().prop_map(|n| Act::Step(n / 1024)),
            2 => any::<bool>().prop_map(Act::Synchronised),
            1 => Just(Act::Restart),
            1 => (0u32..200_000).prop_map(Act::Reboot),
            1 => Just(Act::Accept),
        ]
    }

    proptest! {
        /// Whatever happens: uptime never goes back and grows by what ran, no step goes by unblocked,
        /// only a person opens disposal, and minting opens only after a steady minute.
        #[test]
        fn the_rule_holds_whatever_happens(acts in prop::collection::vec(act(), 0..40)) {
            let mut machine = Machine::new();
            let (mut rule, _) = start(None, &machine);
            let (mut ran, mut trusted, mut calm) = (0u64, true, 0u32);
            for act in acts {
                let minted = rule.may_mint();
                match act {
                    Act::Pass(n) => {
                        machine.run(&mut rule, n);
                        ran += u64::from(n);
                        calm = if machine.synchronised { calm + n } else { 0 };
                        prop_assert!(minted || !rule.may_mint() || calm >= 60);
                    }
                    Act::Step(micros) => {
                        machine.wall = Timestamp::from_micros(machine.wall.micros().saturating_add(micros));
                        rule.observe(&machine.look());
                        if !(-5_000_000..=120_000_000).contains(&micros) {
                            prop_assert!(!rule.may_mint());
                            (trusted, calm) = (false, 0);
                        }
                    }
                    Act::Synchronised(is) => {
                        machine.synchronised = is;
                        rule.observe(&machine.look());
                        calm = if is { calm } else { 0 };
                    }
                    Act::Restart | Act::Reboot(_) => {
                        if let Act::Reboot(off) = act {
                            machine.reboot(secs(off.into()));
                            trusted &= off <= 86_400;
                        }
                        rule = start(stored(&rule), &machine).0;
                        calm = 0;
                        prop_assert!(minted || !rule.may_mint());
                    }
                    Act::Accept => {
                        rule.accept();
                        trusted = true;
                        prop_assert!(rule.may_mint());
                    }
                }
                prop_assert_eq!(rule.uptime(), secs(ran));
                prop_assert_eq!(rule.may_dispose(), trusted);
                prop_assert_eq!(rule.why().is_none(), trusted);
            }
        }
    }
}
