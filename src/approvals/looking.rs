//! Who has a request's card before them (`users.md` 6): whoever waits reads that somebody is looking.
//!
//! In memory alone, and for a minute: nothing depends on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Approvals, RequestView};
use crate::id::{Person, RequestId};

/// A card that was opened counts as looked at for this long.
const LOOKS: Duration = Duration::from_secs(60);
/// Requests that are remembered; beyond, nobody is said to be looking.
const MOST: usize = 4096;
/// Persons that are remembered of one.
const MOST_OF_ONE: usize = 8;

/// Who looks at one card, each since when.
type Lookers = Vec<(Person, Instant)>;

#[derive(Debug, Clone, Default)]
pub(super) struct Looking {
    cards: Arc<Mutex<HashMap<RequestId, Lookers>>>,
}

impl Looking {
    /// Remembers one; true if they were not looking before.
    fn begins(&self, id: RequestId, person: &Person, now: Instant) -> bool {
        let mut cards = self.cards.lock().unwrap_or_else(PoisonError::into_inner);
        if cards.len() >= MOST {
            cards.retain(|_, looking| looking.iter().any(|(_, at)| *at + LOOKS > now));
        }
        if cards.len() >= MOST && !cards.contains_key(&id) {
            return false;
        }
        let looking = cards.entry(id).or_default();
        looking.retain(|(_, at)| *at + LOOKS > now);
        if let Some((_, at)) = looking.iter_mut().find(|(known, _)| known == person) {
            *at = now;
            return false;
        }
        let room = looking.len() < MOST_OF_ONE;
        if room {
            looking.push((person.clone(), now));
        }
        room
    }

    pub(super) fn at(&self, id: RequestId) -> Vec<Person> {
        let now = Instant::now();
        let cards = self.cards.lock().unwrap_or_else(PoisonError::into_inner);
        let looking = cards.get(&id).into_iter().flatten();
        looking.filter(|(_, at)| *at + LOOKS > now).map(|(person, _)| person.clone()).collect()
    }
}

impl Approvals {
    /// Somebody has opened a card; who waits is told if they may decide it.
    pub fn looks(&self, view: &RequestView, who: &Person) {
        if view.state.is_open() && view.deciders.contains(who) && self.looking.begins(view.id, who, Instant::now()) {
            self.store.hint(view.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_lasts_a_minute_and_is_new_once() {
        let (looking, id, bob) = (Looking::default(), RequestId::random(), "bob".parse().unwrap());
        let now = Instant::now();
        assert!(looking.begins(id, &bob, now) && !looking.begins(id, &bob, now));
        assert_eq!(looking.at(id), std::slice::from_ref(&bob));
        assert!(looking.begins(id, &bob, now + LOOKS + LOOKS), "again after a while");
        assert_eq!(looking.at(RequestId::random()), []);
    }
}
