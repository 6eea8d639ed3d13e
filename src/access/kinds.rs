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
#[derive(Debug, Clone)]
pub struct Kind {
    /// One of them, to ask about.
    pub like: Arc<Target>,
    /// Those that are listed, and members of patterns that some policy names.
    pub targets: Vec<Arc<Target>>,
    /// Patterns whose other members are of this kind.
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
    // A member that some policy names is a kind of its own, beside its pattern's.
    let named = policy.named().filter_map(|name| targets.find(name)).filter(|target| target.entry.family.is_some());
    let listed: Vec<Arc<Target>> = targets.iter().cloned().chain(named).collect();
    for target in &listed {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::family::{AddressTemplate, Family};
    use crate::access::policy::Vocabulary;
    use crate::access::target::{Entry, PrincipalStyle};

    #[test]
    fn targets_are_of_one_kind_as_far_as_policy_can_see() {
        let target = |id: &str, label: &str, login: &str| Target {
            id: id.parse().unwrap(),
            host: format!("{id}.example"),
            port: 22,
            aliases: [].into(),
            labels: [label.to_owned()].into(),
            logins: vec![login.parse().unwrap()],
            host_keys: vec![],
            host_cas: vec![],
            principal: PrincipalStyle::LoginAtTarget,
            entry: Entry::default(),
        };
        let family = Family {
            pattern: "*.staging".parse().unwrap(),
            address: AddressTemplate::default(),
            labels: ["a".to_owned()].into(),
            logins: vec!["x".parse().unwrap()],
            host_cas: vec![],
            principal: PrincipalStyle::LoginAtTarget,
            entry: Entry::default(),
        };
        let policy = "@id(\"p\") permit (principal, action == Action::\"shell\", resource) unless
            { [Target::\"w3\", Target::\"db.staging\", Target::\"none.prod\"].contains(resource) };";
        let policy = PolicySet::parse(policy, &Vocabulary::default()).unwrap();
        let listed =
            vec![target("w1", "a", "x"), target("w2", "a", "x"), target("w3", "a", "x"), target("w4", "b", "x"), target("w5", "a", "y")];
        let all = Targets::new(listed, vec![family]).unwrap();
        let mut heaps: Vec<String> = kinds(&policy, &all)
            .iter()
            .map(|kind| {
                let targets = kind.targets.iter().map(|target| target.id.to_string());
                targets.chain(kind.families.iter().map(|family| family.pattern.to_string())).collect::<Vec<_>>().join(" ")
            })
            .collect();
        heaps.sort();
        assert_eq!(heaps, ["db.staging", "w1 w2 *.staging", "w3", "w4", "w5"]);
        let found: Vec<Arc<Target>> = ["w1", "w2", "w5", "w3"].iter().filter_map(|name| all.find(name)).collect();
        let one: Vec<&str> = one_of_each(&policy, found.iter().map(|target| &**target)).iter().map(|target| target.id.as_str()).collect();
        assert_eq!(one, ["w1", "w3"], "logins do not matter to the console");
    }
}
