//! The turn of a connect beyond the limits of pending requests: it waits unread, in the order in which it
//! came, and goes on when a place is free (`users.md` 3). Who comes in numbers is not refused.
//!
//! The rows of the state say who has a place; this says only who is next, and is gone with the node. Bounded
//! are how many wait and how long; who hangs up leaves at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::Bastion;
use super::channel::{ClientChannel, Status};
use super::hold;
use super::session::Stop;
use crate::access::alike::counted;
use crate::approvals::SubmitError;
use crate::console::Phase;
use crate::id::{Person, RequestId};

/// Of one person so many wait; beyond, they are refused as if there were no queue.
const OF_ONE: usize = 512;
/// Of everybody.
const OF_ALL: usize = 4096;
/// Who has waited this long has waited in vain.
const AT_MOST: Duration = Duration::from_secs(3600);
/// How often who waits reads that they still do.
const LINE: Duration = Duration::from_secs(8);
/// The next one looks this often for a free place, whatever it was told.
const FIRST_LOOKS: Duration = Duration::from_secs(1);
/// The others look this often whether what they want was approved in another way.
const OTHERS_LOOK: Duration = Duration::from_secs(5);

/// Who waits for a place, person by person.
#[derive(Debug, Clone, Default)]
pub struct Queue(Arc<Mutex<HashMap<Person, Line>>>);

/// Those of one person, by when they came.
#[derive(Debug, Default)]
struct Line {
    next: u64,
    waiting: BTreeSet<u64>,
    moved: watch::Sender<()>,
}

impl Queue {
    fn lines(&self) -> MutexGuard<'_, HashMap<Person, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody waits who came before a newcomer of this person.
    pub fn is_waited_in(&self, person: &Person) -> bool {
        self.lines().contains_key(person)
    }

    /// Takes the last place in the line; `None` where too many wait.
    pub fn join(&self, person: &Person) -> Option<Place> {
        let mut lines = self.lines();
        let all: usize = lines.values().map(|line| line.waiting.len()).sum();
        let of_one = lines.get(person).map_or(0, |line| line.waiting.len());
        if all >= OF_ALL || of_one >= OF_ONE {
            return None;
        }
        let line = lines.entry(person.clone()).or_default();
        let ticket = line.next;
        line.next += 1;
        line.waiting.insert(ticket);
        let now = Instant::now();
        Some(Place { queue: self.clone(), person: person.clone(), ticket, moved: line.moved.subscribe(), came: now, said: now })
    }
}

/// A place in the line, until dropped.
#[derive(Debug)]
pub struct Place {
    queue: Queue,
    person: Person,
    ticket: u64,
    moved: watch::Receiver<()>,
    came: Instant,
    /// When the client last read that it waits.
    said: Instant,
}

impl Place {
    /// Whether everybody who came before has gone on.
    pub fn is_first(&self) -> bool {
        self.queue.lines().get(&self.person).is_none_or(|line| line.waiting.first().is_none_or(|first| *first >= self.ticket))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.queue.lines();
        let Some(line) = lines.get_mut(&self.person) else { return };
        line.waiting.remove(&self.ticket);
        line.moved.send_replace(());
        if line.waiting.is_empty() {
            lines.remove(&self.person);
        }
    }
}

/// Waits in turn until it may be worth asking once more, or says why that is over. What the client sends
/// stays unread; Ctrl-C at a terminal leaves the line.
pub async fn turn(
    bastion: &Bastion,
    place: Option<Place>,
    person: &Person,
    (client, terminal): (&ClientChannel, bool),
    behind: &SubmitError,
    hints: broadcast::Receiver<RequestId>,
) -> Result<Place, Stop> {
    let mut place = match place {
        Some(place) => place,
        None => {
            let host = &bastion.directory().config.host;
            let Some(place) = bastion.queue.join(person) else {
                let text = format!(
                    "refused: {}, and too many wait in turn already; list yours: ssh {host} requests --mine, then ssh {host} withdraw REQ",
                    words(behind)
                );
                return Err(Stop::new(text, Status::Undecided));
            };
            client.say(&format!("{}; this one waits in turn", words(behind))).await;
            place
        }
    };
    client.inbox.watch_interrupt(terminal);
    let turned = place.until_worth_it(bastion, client, behind, hints).await;
    client.inbox.watch_interrupt(false);
    turned.map(|()| place)
}

impl Place {
    async fn until_worth_it(
        &mut self,
        bastion: &Bastion,
        client: &ClientChannel,
        behind: &SubmitError,
        mut hints: broadcast::Receiver<RequestId>,
    ) -> Result<(), Stop> {
        let first = self.is_first();
        let again = Instant::now() + if first { FIRST_LOOKS } else { OTHERS_LOOK };
        let end = self.came + AT_MOST;
        let mut stop = bastion.stop.clone();
        let mut phase = bastion.phase.clone();
        loop {
            if matches!(&*phase.borrow_and_update(), Phase::Draining { .. }) {
                return Err(hold::going());
            }
            let line = self.said + LINE;
            tokio::select! {
                // Whatever the hint says: a lost one is one too.
                _ = hints.recv(), if first => return Ok(()),
                _ = self.moved.changed() => if !first && self.is_first() { return Ok(()) },
                () = tokio::time::sleep_until(again) => return Ok(()),
                () = tokio::time::sleep_until(line) => {
                    self.said = Instant::now();
                    let waited = self.came.elapsed().as_secs();
                    client.say(&format!("still waiting {}:{:02}, {}", waited / 60, waited % 60, words(behind))).await;
                }
                () = tokio::time::sleep_until(end) => {
                    let text = format!("no place was free in {}: {}", crate::time::short(AT_MOST), words(behind));
                    return Err(Stop::new(text, Status::Undecided));
                }
                _ = client.inbox.gone() => return Err(Stop { text: None, status: Status::Undecided }),
                () = client.inbox.interrupted() => return Err(Stop::new("left the line; nothing was asked", Status::Refused)),
                Ok(()) = phase.changed() => {}
                () = super::stopped(&mut stop) => return Err(hold::going()),
            }
        }
    }
}

/// `behind your 32 pending requests`
fn words(behind: &SubmitError) -> String {
    match behind {
        SubmitError::TooManyOfYours(0) => "behind others that wait for a place".into(),
        SubmitError::TooManyOfYours(n) => format!("behind your {}", counted(*n, "pending request")),
        SubmitError::TooMany(n) => format!("behind {} of everybody's", counted(*n, "pending request")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn person(name: &str) -> Person {
        name.parse().unwrap()
    }

    #[test]
    fn a_line_moves_in_order_and_each_person_has_one() {
        let queue = Queue::default();
        let (alice, bob) = (person("alice"), person("bob"));
        let first = queue.join(&alice).unwrap();
        let (second, third) = (queue.join(&alice).unwrap(), queue.join(&alice).unwrap());
        let other = queue.join(&bob).unwrap();
        assert!(first.is_first() && !second.is_first() && !third.is_first() && other.is_first());
        drop(second);
        assert!(!third.is_first());
        drop(first);
        assert!(third.is_first());
        drop((third, other));
        assert!(!queue.is_waited_in(&alice) && queue.lines().is_empty(), "nothing is kept of who has left");
    }

    #[test]
    fn a_line_is_bounded() {
        let queue = Queue::default();
        let places: Vec<Place> = (0..OF_ONE).map(|_| queue.join(&person("alice")).unwrap()).collect();
        assert!(queue.join(&person("alice")).is_none());
        assert!(queue.join(&person("bob")).is_some());
        drop(places);
        assert!(queue.join(&person("alice")).is_some());
    }

    #[tokio::test]
    async fn who_is_next_is_told() {
        let queue = Queue::default();
        let (first, mut second) = (queue.join(&person("alice")).unwrap(), queue.join(&person("alice")).unwrap());
        drop(first);
        tokio::time::timeout(Duration::from_secs(5), second.moved.changed()).await.unwrap().unwrap();
        assert!(second.is_first());
    }

    proptest! {
        /// Whoever leaves when: exactly the one who came first of those that are left is first.
        #[test]
        fn one_is_first_whoever_leaves(leave in proptest::collection::vec(any::<prop::sample::Index>(), 0..20)) {
            let queue = Queue::default();
            let mut places: Vec<Place> = (0..20).map(|_| queue.join(&person("alice")).unwrap()).collect();
            for index in leave {
                if places.is_empty() { break }
                places.remove(index.index(places.len()));
                for (n, place) in places.iter().enumerate() {
                    prop_assert_eq!(place.is_first(), n == 0);
                }
            }
        }
    }
}
