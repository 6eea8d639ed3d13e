//! Whom a request would ask, by the directory alone: for `policy explain` and the policies' own tests.

use std::time::Duration;

use super::Directory;
use crate::access::ConsoleAction;
use crate::access::decision::{GrantedTerms, Level, Verdict};
use crate::access::target::Target;
use crate::access::workflow::{Approver, Decided, Progress, Times, Turn, Workflow, turns, weigh};
use crate::access::{Class, Scope};
use crate::id::Person;
use crate::time::Timestamp;

/// A request that nobody makes.
#[derive(Debug, Clone, Copy)]
pub struct Imagined<'a> {
    pub directory: &'a Directory,
    pub requester: &'a Person,
    pub target: &'a Target,
    pub workflows: &'a [&'a Workflow],
    /// When it is asked, and how long it has waited.
    pub at: Timestamp,
    pub waited: Duration,
}

impl Imagined<'_> {
    fn approvers(&self) -> Vec<Approver<'_>> {
        let Self { directory, requester, target, workflows, .. } = self;
        let eligible = directory.people.iter().filter(|entry| {
            entry.name != **requester
                && workflows.iter().any(|workflow| workflow.is_eligible(&entry.name, &entry.groups))
                && directory.policy.may(&entry.name, &entry.groups, ConsoleAction::Approve, target, self.at)
        });
        let people = &directory.people;
        eligible
            .map(|entry| Approver { person: &entry.name, groups: &entry.groups, hours: people.hours(&entry.name), away: None })
            .collect()
    }

    /// What these persons would say.
    fn decided(&self, yes: &[Person]) -> Vec<Decided> {
        let approvers = self.approvers();
        let said = |person: &Person| {
            let approver = approvers.iter().find(|approver| approver.person == person)?;
            Some(Decided {
                person: person.clone(),
                groups: approver.groups.to_vec(),
                verdict: Verdict::Approve,
                terms: None,
                level: Level::Verified,
                note: String::new(),
                at: self.now(),
            })
        };
        yes.iter().filter_map(said).collect()
    }

    fn now(&self) -> Timestamp {
        self.at.plus(self.waited)
    }

    /// Whose turn it is after that wait, when these have said yes.
    pub fn turns(&self, yes: &[Person]) -> Vec<Turn> {
        let within = self.workflows.iter().map(|workflow| workflow.decide_within).min().unwrap_or_default();
        let times = Times { asked: self.at, not_after: self.at.plus(within), now: self.now() };
        turns(self.workflows, self.requester, &self.decided(yes), &self.approvers(), &[], times)
    }

    /// Who of all is asked then, each once, in order.
    pub fn asked(&self, yes: &[Person]) -> Vec<Person> {
        let mut asked: Vec<Person> = self.turns(yes).into_iter().flat_map(|turn| turn.asked).collect();
        asked.sort();
        asked.dedup();
        asked
    }

    /// Whether it would be approved if these said yes.
    pub fn is_enough(&self, yes: &[Person]) -> bool {
        let asked = GrantedTerms { for_us: 1, scope: Scope([Class::Shell].into()), ..GrantedTerms::default() };
        matches!(weigh(self.workflows, self.requester, &asked, &self.decided(yes)), Progress::Approved { .. })
    }
}
