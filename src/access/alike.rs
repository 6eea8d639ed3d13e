//! Requests that are one question, asked of several targets: what one notice tells, what one look and one
//! signature decide (`users.md` 3), and what a denial goes on denying (`users.md` 15).
//!
//! All of it is read from the documents that are signed over. Whoever calls two requests alike that are
//! not lets an approver sign for something that they were not shown.

use std::collections::{BTreeMap, BTreeSet};

use super::canonical;
use super::request::RequestDocument;
use crate::id::{Digest, TargetId};

impl RequestDocument {
    /// The digest that requests share which differ in nothing but their targets: who, with which key, from
    /// where, as which login, for what, how long, through which workflows and why. Never two extensions of
    /// different approvals.
    pub fn but_target(&self) -> Digest {
        let asked = serde_json::json!({ "what": self.question(), "why": self.reason, "needs": self.workflows() });
        Digest::of(&canonical::encode(&serde_json::json!({ "asked": asked, "key": self.key, "source": self.source })))
    }

    /// Whether both are one question about different targets: one notice tells of both.
    pub fn same_but_target(&self, other: &RequestDocument) -> bool {
        self.but_target() == other.but_target()
    }

    /// Whether one look decides both (`approve --like`): same person, login, classes, time, reason and
    /// workflows. The key and the address may differ; [`oddities`] says so.
    pub fn is_like(&self, other: &RequestDocument) -> bool {
        self.question() == other.question() && self.reason == other.reason && self.workflows() == other.workflows()
    }

    /// Whether who was denied `self` is asking for it again: the same question, about some target that was
    /// in it. The reason and the workflows do not make it another.
    pub fn denies(&self, asked: &RequestDocument) -> bool {
        let same = self.question() == asked.question() && self.key == asked.key && self.source == asked.source;
        same && asked.targets.iter().any(|target| self.has_target(&target.id))
    }

    pub fn has_target(&self, id: &TargetId) -> bool {
        self.targets.binary_search_by(|target| target.id.cmp(id)).is_ok()
    }

    fn question(&self) -> serde_json::Value {
        serde_json::json!({
            "bastion": self.bastion, "person": self.person, "login": self.login, "scope": self.scope, "commands": self.commands,
            "env": self.env, "stdin": self.stdin, "for_us": self.for_us, "once": self.once, "start_us": self.start_us,
            "extends": self.extends.as_ref().map(|extends| extends.request),
        })
    }

    fn workflows(&self) -> BTreeSet<&str> {
        self.needs.iter().map(|needs| needs.workflow.as_str()).collect()
    }
}

/// What a bastion knows of a target beside the signed bytes; for the eye, not for the signature.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    pub labels: BTreeSet<String>,
    /// The person has opened it before.
    pub opened: bool,
}

/// Names and labels that are said one by one; of the others only how many there are.
const SAID: usize = 5;

/// How many targets these requests have, what some of them are and others are not, and which their person
/// never opened: `214 targets · 3 are pci · web-213, web-214 never before`.
pub fn oddities(documents: &[&RequestDocument], known: &BTreeMap<TargetId, Known>) -> String {
    let targets: BTreeSet<&TargetId> = documents.iter().flat_map(|document| &document.targets).map(|target| &target.id).collect();
    let mut said = vec![counted(targets.len(), "target")];
    let mut labels: BTreeMap<&str, usize> = BTreeMap::new();
    for label in targets.iter().filter_map(|id| known.get(*id)).flat_map(|known| &known.labels) {
        *labels.entry(label).or_default() += 1;
    }
    let (all, mut some): (Vec<_>, Vec<_>) = labels.into_iter().partition(|(_, count)| *count == targets.len());
    if !all.is_empty() {
        let all: Vec<&str> = all.into_iter().map(|(label, _)| label).collect();
        said.push(format!("all {}", some_of(&all)));
    }
    // The rarest first: it is what nobody expects.
    some.sort_by_key(|(label, count)| (*count, *label));
    said.extend(some.iter().take(SAID).map(|(label, count)| format!("{count} {} {label}", if *count == 1 { "is" } else { "are" })));
    if some.len() > SAID {
        said.push(format!("{} more labels", some.len() - SAID));
    }
    let new: Vec<&str> = targets.iter().filter(|id| known.get(**id).is_some_and(|known| !known.opened)).map(|id| id.as_str()).collect();
    match new.len() {
        0 => {}
        n if n == targets.len() && n > 1 => said.push("none ever before".into()),
        _ => said.push(format!("{} never before", some_of(&new))),
    }
    let differ = |what: &str, of: BTreeSet<&str>| (of.len() > 1).then(|| format!("{} {what}: {}", of.len(), some_of(&Vec::from_iter(of))));
    said.extend(differ("addresses", documents.iter().map(|document| document.source.as_str()).collect()));
    said.extend(differ("keys", documents.iter().map(|document| document.key.as_str()).collect()));
    said.join(" · ")
}

/// `web-1, web-2 and 7 more`
pub fn some_of(names: &[&str]) -> String {
    let shown = names.iter().take(SAID).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SAID { format!("{shown} and {} more", names.len() - SAID) } else { shown }
}

/// `1 target`, `2 targets`
pub fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The digests of these requests' bytes as a decision names them: sorted, each once.
pub fn listed(digests: impl IntoIterator<Item = Digest>) -> Vec<Digest> {
    digests.into_iter().collect::<BTreeSet<Digest>>().into_iter().collect()
}

/// What stands for a list of requests where nobody signs it: 64 bits of the digest over their digests.
/// Another list has another; that it is said again shows that nothing came between showing and deciding.
pub fn list_code(digests: &[Digest]) -> String {
    let all: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
    Digest::of(&all).to_string().chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::action::Class;
    use crate::access::request::tests::sample;
    use crate::access::request::{Needs, TargetPin};
    use proptest::prelude::*;

    fn on(targets: &[&str]) -> RequestDocument {
        let mut targets: Vec<TargetPin> = targets.iter().map(|id| TargetPin { id: id.parse().unwrap(), pin: Digest([1; 32]) }).collect();
        targets.sort();
        RequestDocument { request: crate::id::RequestId::random(), targets, ..sample() }
    }

    /// One change of each kind to what is asked.
    fn changed(n: usize) -> RequestDocument {
        let mut other = on(&["web-2"]);
        match n {
            0 => other.person = "mallory".parse().unwrap(),
            1 => other.login = "root".parse().unwrap(),
            2 => other.scope.0 = [Class::ExecAny].into(),
            3 => other.for_us += 1,
            4 => other.once = true,
            5 => other.reason = "INC-43".into(),
            6 => other.needs = vec![Needs { workflow: "heads".parse().unwrap(), policy: "p".into(), message: None }],
            7 => other.start_us = Some(1),
            8 => other.stdin = false,
            _ => other.commands = vec!["reboot".into()],
        }
        other
    }

    #[test]
    fn what_differs_in_its_targets_only_is_alike() {
        let (one, two) = (on(&["web-1"]), on(&["web-2", "web-3"]));
        assert!(one.same_but_target(&two) && one.is_like(&two));
        for n in 0..10 {
            assert!(!one.same_but_target(&changed(n)) && !one.is_like(&changed(n)), "{n}");
        }
        let elsewhere = RequestDocument { source: "192.0.2.8/32".into(), ..on(&["web-2"]) };
        assert!(one.is_like(&elsewhere) && !one.same_but_target(&elsewhere), "another address is told apart, and said");
        assert!(oddities(&[&one, &elsewhere], &BTreeMap::new()).contains("2 addresses: 192.0.2.7/32, 192.0.2.8/32"));
    }

    #[test]
    fn a_denial_denies_each_of_its_targets_and_no_other() {
        let denied = on(&["web-1", "web-2"]);
        assert!(denied.denies(&on(&["web-2"])) && denied.denies(&on(&["db-1", "web-1"])));
        assert!(!denied.denies(&on(&["web-3"])));
        assert!(denied.denies(&changed(5)), "another reason is no other question");
        for n in [1, 2, 3, 4] {
            assert!(!denied.denies(&changed(n)), "{n}: less or other");
        }
    }

    #[test]
    fn oddities_read_as_the_contract_writes_them() {
        let names: Vec<String> = (1..=214).map(|n| format!("web-{n}")).collect();
        let documents: Vec<RequestDocument> = names.iter().map(|name| on(&[name])).collect();
        let known = names.iter().enumerate().map(|(n, name)| {
            let labels = if n < 3 { ["pci".to_owned()].into() } else { BTreeSet::new() };
            (name.parse().unwrap(), Known { labels, opened: n < 212 })
        });
        let refs: Vec<&RequestDocument> = documents.iter().collect();
        assert_eq!(oddities(&refs, &known.collect()), "214 targets · 3 are pci · web-213, web-214 never before");
        assert_eq!(oddities(&refs[..1], &BTreeMap::new()), "1 target");
        let new: BTreeMap<_, _> =
            names[..9].iter().map(|name| (name.parse().unwrap(), Known { labels: ["env=prod".into()].into(), opened: false })).collect();
        assert_eq!(oddities(&refs[..9], &new), "9 targets · all env=prod · none ever before");
    }

    proptest! {
        #[test]
        fn a_list_is_sorted_each_once_and_has_one_code(mut bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
            let digests = |bytes: &[u8]| listed(bytes.iter().map(|byte| Digest([*byte; 32])));
            let first = digests(&bytes);
            prop_assert!(first.windows(2).all(|pair| pair[0] < pair[1]));
            bytes.reverse();
            bytes.extend(bytes.clone());
            prop_assert_eq!(list_code(&digests(&bytes)), list_code(&first));
            if first.len() > 1 {
                prop_assert_ne!(list_code(&first[1..]), list_code(&first));
            }
        }
    }
}
