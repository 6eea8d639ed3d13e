//! Which approval takes which place: stage by stage, each person one place in all.
//!
//! A stage has a place for each group that has to agree and places for anybody up to its quorum. Places
//! are given by augmenting paths (Kuhn), so that one who could take several never keeps another from the
//! only one of theirs, and so that the order in which approvals came says nothing about the outcome.

use std::collections::BTreeMap;

use super::{Decided, Stage};
use crate::id::{Group, Person};

/// How far the stages of one workflow have come.
pub(super) struct Filled<'a> {
    /// The first stage with an empty place, else the last.
    pub stage: usize,
    /// Who has a place in it.
    pub have: Vec<&'a Person>,
    /// Every stage has come together.
    pub whole: bool,
}

struct Place<'a> {
    stage: usize,
    of: &'a Stage,
    /// The group that it is for.
    group: Option<&'a Group>,
}

impl Place<'_> {
    fn takes(&self, decided: &Decided) -> bool {
        match self.group {
            Some(group) => decided.groups.contains(group) || self.of.is_wider(&decided.groups),
            None => self.of.is_eligible(&decided.person, &decided.groups),
        }
    }
}

/// Gives out the places to approvals that count, in the order they came.
pub(super) fn fill<'a>(stages: &[Stage], approvals: &[&'a Decided]) -> Filled<'a> {
    let mut persons: Vec<&'a Decided> = Vec::new();
    for decided in approvals {
        if persons.iter().all(|known| known.person != decided.person) {
            persons.push(decided);
        }
    }
    let mut places: Vec<Place<'_>> = Vec::new();
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    for (n, stage) in stages.iter().enumerate() {
        let mut open = false;
        for at in 0..stage.needed() as usize {
            let group = stage.all.get(at);
            places.push(Place { stage: n, of: stage, group });
            let took = take(places.len() - 1, &places, &persons, &mut taken, &mut vec![false; persons.len()]);
            open |= !took;
            // Nobody is left for the others either: they are alike.
            if !took && group.is_none() {
                break;
            }
        }
        if open || n + 1 == stages.len() {
            let here = |place: usize| places.get(place).is_some_and(|place| place.stage == n);
            let have = taken.iter().filter(|(_, place)| here(**place)).filter_map(|(by, _)| persons.get(*by));
            return Filled { stage: n, have: have.map(|decided| &decided.person).collect(), whole: !open };
        }
    }
    Filled { stage: 0, have: Vec::new(), whole: false }
}

/// Finds somebody for a place, moving others to places that they could take as well.
fn take(place: usize, places: &[Place<'_>], persons: &[&Decided], taken: &mut BTreeMap<usize, usize>, seen: &mut [bool]) -> bool {
    let Some(wanted) = places.get(place) else { return false };
    for (by, decided) in persons.iter().enumerate() {
        if !wanted.takes(decided) || seen.get_mut(by).is_none_or(|seen| std::mem::replace(seen, true)) {
            continue;
        }
        let free = match taken.get(&by).copied() {
            None => true,
            Some(other) => take(other, places, persons, taken, seen),
        };
        if free {
            taken.insert(by, place);
            return true;
        }
    }
    false
}
