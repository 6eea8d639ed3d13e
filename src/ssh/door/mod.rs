//! The door: how many may stand in it who have not logged in, for how long, and who is not let in again
//! for a while. russh has no such limits; these are the design's section 12.
//!
//! [`admission`], [`penalties`] and [`tally`] decide, without clock, dice or sockets; this file lends them
//! those. Always true: whoever is inside without having logged in holds a [`Stranger`], and dropping it
//! gives the place to the next, whatever became of the connection.

pub mod admission;
pub mod penalties;
pub mod tally;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use self::admission::{Admission, Id, Knocker, Leaver, Verdict};
use self::penalties::{Offence, Penalties};
use self::tally::{Failure, Tally};
use super::flow::Cut;
use crate::access::source::Block;
use crate::audit::Event;
use crate::config::Limits;
use crate::time::{Timestamp, boottime, short};

/// How long somebody waits for a place.
const QUEUE: Duration = Duration::from_secs(5);

/// How far a connection has come. Told by `front`, read by whoever has to end it in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing that could let anybody in was tried.
    Silent,
    /// A key or a password was tried and refused.
    Refused,
    /// The first factor is proven and the second has been asked for: a person needs longer for that.
    SecondFactor,
    LoggedIn,
}

impl Stage {
    /// How long after its beginning a connection may still be here.
    pub fn grace(self, limits: &Limits) -> Duration {
        match self {
            Stage::Silent | Stage::Refused => limits.login_grace,
            Stage::SecondFactor | Stage::LoggedIn => limits.second_factor_grace.max(limits.login_grace),
        }
    }
}

/// Whether somebody left by themselves or stayed until they were put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    InTime,
    TooLate,
}

/// The door of one node, whatever it listens on.
#[derive(Debug, Default)]
pub struct Door {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// As the last who knocked found them; for those whose turn comes without a knock.
    limits: Limits,
    admission: Admission,
    penalties: Penalties,
    tally: Tally,
    /// Of everybody inside: how to put them out.
    cuts: HashMap<Id, Cut>,
    /// Of everybody who waits.
    turns: HashMap<Id, (Place, oneshot::Sender<Stranger>)>,
}

/// What becomes of somebody who knocks.
#[derive(Debug)]
pub enum Knock {
    Enter(Stranger),
    Wait(Turn),
    /// With what to tell them.
    TurnAway(String),
}

/// One who knocked, and whether from an address that many share.
#[derive(Debug, Clone, Copy)]
struct Place {
    id: Id,
    block: Block,
    shared: bool,
}

/// Somebody inside who has not logged in. Dropping it gives the place to the next.
#[derive(Debug)]
pub struct Stranger {
    door: Arc<Door>,
    place: Place,
    /// Ends the connection that uses it.
    pub cut: Cut,
}

/// A place in the queue. Dropping it gives up.
#[derive(Debug)]
pub struct Turn {
    door: Arc<Door>,
    place: Place,
    called: oneshot::Receiver<Stranger>,
}

impl Door {
    /// Decides on a connection that was accepted.
    pub fn knock(self: &Arc<Self>, source: IpAddr, limits: &Limits) -> Knock {
        let block = Block::of(source);
        let shared = limits.shared_sources.iter().any(|network| network.holds(block));
        let cap = if shared { limits.shared_unauthenticated } else { limits.unauthenticated_per_source };
        let mut state = self.state();
        if state.limits != *limits {
            state.limits = limits.clone();
        }
        if !shared && let Some(left) = state.penalties.refuse(block, boottime()) {
            state.tally.count(block, Failure::Penalised, Timestamp::now());
            return Knock::TurnAway(format!("too many failed logins from your address; try again in {}", short(left)));
        }
        let roll = usize::from(rand::random::<u8>()) * 100 / 256;
        match state.admission.knock(Knocker { block, cap }, roll, limits) {
            Verdict::Enter(id) => Knock::Enter(self.enter(&mut state, Place { id, block, shared })),
            Verdict::EnterFor(id, leaver) => {
                state.put_out(leaver);
                Knock::Enter(self.enter(&mut state, Place { id, block, shared }))
            }
            Verdict::Wait(id) => {
                let place = Place { id, block, shared };
                let (turn, called) = oneshot::channel();
                state.turns.insert(id, (place, turn));
                Knock::Wait(Turn { door: self.clone(), place, called })
            }
            Verdict::TurnAway(crowd) => {
                state.tally.count(block, crowd.into(), Timestamp::now());
                Knock::TurnAway("too many connections that have not logged in; try again in a moment".into())
            }
        }
    }

    /// How many are inside without a login, and how many wait.
    pub fn crowd(&self) -> (usize, usize) {
        let state = self.state();
        (state.cuts.len(), state.turns.len())
    }

    /// The log's rows of a minute that is over.
    pub fn refusals_of_the_minute(&self, now: Timestamp) -> Vec<Event> {
        self.state().tally.take_minute(now)
    }

    /// The log's rows of all that is counted and in none yet.
    pub fn last_refusals(&self) -> Vec<Event> {
        self.state().tally.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, state: &mut State, place: Place) -> Stranger {
        let cut = Cut::default();
        state.cuts.insert(place.id, cut.clone());
        Stranger { door: self.clone(), place, cut }
    }

    /// Lets in whoever is next, now that there may be a place.
    fn call(self: &Arc<Self>) {
        let mut state = self.state();
        let State { limits, admission, .. } = &mut *state;
        let Some(id) = admission.call(limits) else { return };
        let Some((place, turn)) = state.turns.remove(&id) else { return };
        let stranger = self.enter(&mut state, place);
        drop(state);
        // Gone meanwhile: dropped unheard, the place goes on to the next.
        let _ = turn.send(stranger);
    }
}

impl State {
    fn put_out(&mut self, leaver: Leaver) {
        self.tally.count(leaver.block, Failure::Displaced, Timestamp::now());
        if let Some(cut) = self.cuts.remove(&leaver.id) {
            cut.now();
        }
    }
}

impl Turn {
    /// Waits for a place; `None` once that takes too long.
    pub async fn come(mut self) -> Option<Stranger> {
        timeout(QUEUE, &mut self.called).await.ok()?.ok()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.door.state();
        if state.admission.give_up(self.place.id) {
            state.turns.remove(&self.place.id);
            state.tally.count(self.place.block, Failure::Late, Timestamp::now());
        }
    }
}

impl Stranger {
    /// Remembers how they left, where that was without a login.
    pub fn leave(self, stage: Stage, left: Left) {
        let offence = match (stage, left) {
            (Stage::LoggedIn, _) => return,
            (_, Left::TooLate) => Offence::Grace,
            (Stage::Refused | Stage::SecondFactor, Left::InTime) => Offence::AuthFailed,
            (Stage::Silent, Left::InTime) => Offence::NoAuth,
        };
        let mut state = self.door.state();
        state.tally.count(self.place.block, Failure::Offence(offence), Timestamp::now());
        if !self.place.shared {
            state.penalties.punish(self.place.block, offence, boottime());
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut state = self.door.state();
        state.cuts.remove(&self.place.id);
        // Whoever was put out has left already, for somebody who has the place now.
        let left = state.admission.leave(self.place.block, self.place.id);
        drop(state);
        if left {
            self.door.call();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knock(door: &Arc<Door>, source: &str) -> Knock {
        let limits =
            Limits { unauthenticated_per_source: 1, shared_sources: vec!["198.51.100.0/24".parse().unwrap()], ..Limits::default() };
        door.knock(source.parse().unwrap(), &limits)
    }

    fn enters(door: &Arc<Door>, source: &str) -> Stranger {
        match knock(door, source) {
            Knock::Enter(stranger) => stranger,
            other => panic!("{source} does not enter: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_place_goes_to_the_next_who_still_waits() {
        let door = Arc::new(Door::default());
        let first = enters(&door, "192.0.2.1");
        let (Knock::Wait(gone), Knock::Wait(waits)) = (knock(&door, "192.0.2.1"), knock(&door, "192.0.2.1")) else { panic!("no queue") };
        drop(gone);
        drop(first);
        let second = waits.come().await.expect("it is called");
        let Knock::Wait(third) = knock(&door, "192.0.2.1") else { panic!("the place is taken") };
        // Called, and gone before it hears of it.
        drop(second);
        drop(third);
        drop(enters(&door, "192.0.2.1"));
        let state = door.state();
        assert!(state.cuts.is_empty() && state.turns.is_empty());
    }

    #[test]
    fn failures_shut_the_door_for_their_source_but_not_for_a_shared_one() {
        let door = Arc::new(Door::default());
        for _ in 0..4 {
            enters(&door, "192.0.2.1").leave(Stage::Refused, Left::InTime);
            enters(&door, "198.51.100.9").leave(Stage::Refused, Left::InTime);
            enters(&door, "192.0.2.2").leave(Stage::LoggedIn, Left::InTime);
        }
        assert!(matches!(knock(&door, "192.0.2.1"), Knock::TurnAway(why) if why.ends_with("try again in 19s")));
        drop((enters(&door, "198.51.100.9"), enters(&door, "192.0.2.2")));
        let rows = door.last_refusals();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].facts["counts"], serde_json::json!({ "auth_failed": 4, "penalised": 1 }));
    }
}
