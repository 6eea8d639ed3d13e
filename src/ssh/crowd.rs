//! How many connections each person has logged in with: one key alone cannot take all descriptors of the
//! node. The door counts strangers; from the login on it is this.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::Person;

/// The connections of everybody, by person.
#[derive(Debug, Default)]
pub struct Crowd {
    people: Mutex<HashMap<Person, Count>>,
}

#[derive(Debug, Default)]
struct Count {
    connections: usize,
    /// Turned away since there was room last: one row of the log says it, not one each time.
    turned_away: bool,
}

/// One connection of a person, until dropped.
#[derive(Debug)]
pub struct Seat {
    crowd: Arc<Crowd>,
    person: Person,
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// The first time since there was room.
    pub is_news: bool,
}

impl Crowd {
    /// One connection more for this person, if they have fewer than `most`.
    pub fn enter(self: &Arc<Self>, person: &Person, most: usize) -> Result<Seat, Full> {
        let mut people = self.people();
        let count = people.entry(person.clone()).or_default();
        if count.connections >= most {
            return Err(Full { is_news: !std::mem::replace(&mut count.turned_away, true) });
        }
        count.connections += 1;
        count.turned_away = false;
        Ok(Seat { crowd: self.clone(), person: person.clone() })
    }

    /// The connections that are logged in.
    pub fn connections(&self) -> usize {
        self.people().values().map(|count| count.connections).sum()
    }

    fn people(&self) -> MutexGuard<'_, HashMap<Person, Count>> {
        // Nothing panics while holding it.
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut people = self.crowd.people();
        if let Some(count) = people.get_mut(&self.person) {
            count.connections -= 1;
            if count.connections == 0 {
                people.remove(&self.person);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_each_and_whoever_leaves_makes_room() {
        let crowd = Arc::<Crowd>::default();
        let (alice, bob) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let (first, _second) = (crowd.enter(&alice, 2).unwrap(), crowd.enter(&alice, 2).unwrap());
        assert_eq!(crowd.enter(&alice, 2).unwrap_err(), Full { is_news: true });
        assert_eq!(crowd.enter(&alice, 2).unwrap_err(), Full { is_news: false });
        let _bobs = crowd.enter(&bob, 2).expect("each has their own");
        assert_eq!(crowd.connections(), 3);
        drop(first);
        let _again = crowd.enter(&alice, 2).unwrap();
        assert_eq!(crowd.enter(&alice, 2).unwrap_err(), Full { is_news: true });
        drop(_bobs);
        assert_eq!(crowd.people().len(), 1, "nobody is remembered who is not there");
    }
}
