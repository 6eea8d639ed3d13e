//! Targets that policy cannot tell apart: a question about one of them is answered for all.
//!
//! Policy sees of a target its labels, and its name or its pattern's where some policy writes it down.
//! Five thousand hosts are a few dozen kinds; what goes over all targets goes over kinds instead.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::family::Family;
use super::policy::PolicySet;
use super::target::{Target, Targets};

/// Targets with one set of labels and logins.
#[derive(Debug)]
pub struct Kind {
    /// One of them, to ask about.
    pub like: Arc<Target>,
    pub targets: Vec<Arc<Target>>,
    /// Patterns whose members are of this kind, as far as no policy names one of them.
    pub families: Vec<Arc<Family>>,
}

/// Sorts all targets into kinds; made once for each directory.
pub fn kinds(policy: &PolicySet, targets: &Targets) -> Vec<Kind> {
    let mut kinds: BTreeMap<_, Kind> = BTreeMap::new();
    let key = |target: &Target| {
        let (labels, names) = policy.sees(target);
        let own = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect::<Vec<_>>();
        (own(labels), own(names), target.logins.clone())
    };
    let empty = |like: &Arc<Target>| Kind { like: like.clone(), targets: Vec::new(), families: Vec::new() };
    for target in targets.iter() {
        kinds.entry(key(target)).or_insert_with(|| empty(target)).targets.push(target.clone());
    }
    for family in targets.families() {
        let Some(example) = family.example().map(Arc::new) else { continue };
        kinds.entry(key(&example)).or_insert_with(|| empty(&example)).families.push(family.clone());
    }
    kinds.into_values().collect()
}

/// One of each kind, of these: for questions in which logins do not matter.
pub fn one_of_each<'t>(policy: &PolicySet, targets: impl IntoIterator<Item = &'t Target>) -> Vec<&'t Target> {
    let mut seen = BTreeMap::new();
    for target in targets {
        seen.entry(policy.sees(target)).or_insert(target);
    }
    seen.into_values().collect()
}
