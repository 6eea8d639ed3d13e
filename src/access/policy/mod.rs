//! Cedar: permits and plain forbids are the base, forbids with `@hold` come after.
//!
//! The base is decided exactly as Cedar decides it, and its no is final. Only then are the holds asked,
//! and every one that matches counts: no permit can take an approval away. Whatever cannot be
//! evaluated is a denial. What did not pass strict validation against our schema, or carries an
//! annotation that we do not know, was never loaded. Nobody outside this folder speaks Cedar.

mod annotations;
mod command;
mod network;
mod parse;
mod question;
mod text;
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Authorizer, Decision, Response};

use self::annotations::Annotations;
use super::action::{Action, ConsoleAction, Want};
use super::endpoint::Endpoint;
use super::family::TargetPattern;
use super::ruling::{Denial, Hold, RecordLevel, Ruling, Terms};
use super::scope::{Asked, Reach, asked_for};
use super::target::Target;
use crate::id::{Group, Person, ScheduleName, TargetId, WorkflowName};
use crate::time::Timestamp;

use self::question::Seen;
pub use self::question::{Question, There};

/// The names that annotations may mention.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    pub workflows: BTreeSet<WorkflowName>,
    pub schedules: BTreeSet<ScheduleName>,
}

/// Something wrong in the policy text, at a byte offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblem {
    pub offset: usize,
    pub what: String,
    pub fix: String,
}

/// Something that a policy names, which only the rest of the configuration can know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    pub offset: usize,
    pub of: Mentioned,
    pub id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mentioned {
    Group,
    Label,
    Person,
    Target,
}

/// A validated set of policies, kept in memory; a ruling asks it at most twice.
#[derive(Debug, Clone)]
pub struct PolicySet {
    base: cedar_policy::PolicySet,
    holds: cedar_policy::PolicySet,
    by_id: BTreeMap<String, Annotations>,
    mentions: Vec<Mention>,
    /// The targets and patterns that some policy names.
    named: BTreeSet<String>,
    warnings: Vec<PolicyProblem>,
    /// What policies compare commands with.
    commands: BTreeSet<String>,
    /// Where forwards may lead or listen that policies tell from others.
    places: BTreeSet<Endpoint>,
}

/// An action, with the command or the place that policies may tell from others.
pub type Case<'a> = (Action, Option<&'a str>, Option<&'a Endpoint>);

impl PolicySet {
    /// Reads, validates and lints a policy text; every problem at once.
    pub fn parse(text: &str, vocabulary: &Vocabulary) -> Result<Self, Vec<PolicyProblem>> {
        parse::parse(text, vocabulary)
    }

    /// Rules on one question: the base first, then the holds.
    pub fn rule(&self, question: &Question<'_>) -> Ruling {
        let asked = match question.ask() {
            Ok(asked) => asked,
            Err(error) => return Ruling::Deny(Denial::Error { policy: "(question)".into(), error }),
        };
        let authorizer = Authorizer::new();
        let base = authorizer.is_authorized(&asked.request, &self.base, &asked.entities);
        if let Some(denial) = failure(&base) {
            return Ruling::Deny(denial);
        }
        let matched = self.reasons(&base);
        if base.decision() == Decision::Deny {
            return Ruling::Deny(forbidden(&matched));
        }
        let held = authorizer.is_authorized(&asked.request, &self.holds, &asked.entities);
        if let Some(denial) = failure(&held) {
            return Ruling::Deny(denial);
        }
        let holding = self.reasons(&held);
        let holds: BTreeSet<Hold> = holding.iter().filter_map(|(id, a)| a.as_hold(id)).collect();
        if holds.len() != holding.len() {
            // Cannot be: the set of holds is made of policies that carry one.
            return Ruling::Deny(Denial::Error { policy: "(holds)".into(), error: "a hold without a workflow matched".into() });
        }
        let terms = terms(&matched, &holding);
        if holds.is_empty() { Ruling::Permit(terms) } else { Ruling::RequireApproval { terms, holds: holds.into_iter().collect() } }
    }

    /// Rules on a want and widens it to what is worth one approval.
    pub fn ask(&self, there: &There<'_>, want: &Want, reach: Reach) -> Asked {
        self.ask_by(want, reach, |case| self.rule(&there.about(case)))
    }

    /// The same as if they had given their second factor.
    pub fn ask_with_second_factor(&self, there: &There<'_>, want: &Want, reach: Reach) -> Asked {
        self.ask_by(want, reach, |case| self.rule(&Question { mfa: true, ..there.about(case) }))
    }

    fn ask_by(&self, want: &Want, reach: Reach, rule: impl Fn(Case<'_>) -> Ruling) -> Asked {
        let rule_want = || {
            // What goes with it is ruled beside it.
            let starts = want.without_agent();
            let rulings = starts.actions().into_iter().map(|action| rule((action, starts.command(), starts.endpoint())));
            rulings.reduce(Ruling::meet).unwrap_or(Ruling::Deny(Denial::NoPermit))
        };
        asked_for(want, reach, &rule_want, &|action| rule((action, None, None)))
    }

    /// Whether this is denied for want of a second factor alone.
    pub fn lacks_second_factor(&self, question: &Question<'_>) -> bool {
        let denied = |question: &Question<'_>| matches!(self.rule(question), Ruling::Deny(_));
        !question.mfa && denied(question) && !denied(&Question { mfa: true, ..question.clone() })
    }

    /// The commands that some policy tells from others: whoever may run nothing else may still run these.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        self.commands.iter().map(String::as_str)
    }

    /// Everything that may be ruled on its own: whoever may do nothing else may still do one of these.
    pub fn cases(&self) -> impl Iterator<Item = Case<'_>> {
        let actions = Action::ALL.into_iter().map(|action| (action, None, None));
        let commands = self.commands().map(|command| (Action::Exec, Some(command), None));
        let to = self.places().map(|place| (Action::ForwardLocal, None, Some(place)));
        let on = self.places().map(|place| (Action::ForwardRemote, None, Some(place)));
        actions.chain(commands).chain(to).chain(on)
    }

    /// The places that some policy tells from others.
    pub fn places(&self) -> impl Iterator<Item = &Endpoint> {
        self.places.iter()
    }

    /// Whether a console action on this target is permitted; any error is a no.
    ///
    /// Holds say who has to agree before a session opens; they neither permit nor forbid here.
    pub fn may(&self, person: &Person, groups: &[Group], action: ConsoleAction, target: &Target, now: Timestamp) -> bool {
        self.permits(person, groups, action, Seen::of(target), now)
    }

    /// The same for a target that is in the directory no more, so that nobody knows its labels, nor what it
    /// was derived from: permitted is what would be without any, with each label that a policy names, and
    /// with all of them.
    pub fn may_on_former(&self, person: &Person, groups: &[Group], action: ConsoleAction, target: &TargetId, now: Timestamp) -> bool {
        let named = |of: Mentioned| self.mentions.iter().filter(move |mention| mention.of == of).map(|mention| mention.id.as_str());
        let every: BTreeSet<String> = named(Mentioned::Label).map(str::to_owned).collect();
        let fits = |pattern: &&str| pattern.parse::<TargetPattern>().is_ok_and(|pattern| pattern.matches(target.as_str()));
        let families: Vec<&str> = named(Mentioned::Target).filter(fits).collect();
        let single = every.iter().map(|label| BTreeSet::from([label.clone()]));
        let guesses: Vec<BTreeSet<String>> = std::iter::once(BTreeSet::new()).chain(single).chain([every.clone()]).collect();
        guesses.iter().all(|labels| {
            [Vec::new(), families.clone()]
                .into_iter()
                .all(|families| self.permits(person, groups, action, Seen { id: target, labels, families }, now))
        })
    }

    fn permits(&self, person: &Person, groups: &[Group], action: ConsoleAction, target: Seen<'_>, now: Timestamp) -> bool {
        let Ok(asked) = question::ask_console(person, groups, action, target, now) else { return false };
        let base = Authorizer::new().is_authorized(&asked.request, &self.base, &asked.entities);
        failure(&base).is_none() && base.decision() == Decision::Allow
    }

    /// The targets and patterns that some policy names.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(String::as_str)
    }

    /// Which policies permit a console action, or which one does not.
    pub fn why(
        &self,
        person: &Person,
        groups: &[Group],
        action: ConsoleAction,
        target: &Target,
        now: Timestamp,
    ) -> Result<Vec<String>, Denial> {
        let asked = question::ask_console(person, groups, action, Seen::of(target), now)
            .map_err(|error| Denial::Error { policy: "(question)".into(), error })?;
        let base = Authorizer::new().is_authorized(&asked.request, &self.base, &asked.entities);
        let matched = self.reasons(&base);
        match failure(&base) {
            Some(denial) => Err(denial),
            None if base.decision() == Decision::Allow => Ok(matched.keys().map(|id| (*id).to_owned()).collect()),
            None => Err(forbidden(&matched)),
        }
    }

    /// The `@message` of a policy.
    pub fn message(&self, id: &str) -> Option<&str> {
        self.by_id.get(id)?.message.as_deref()
    }

    /// What policies can know of a target: its labels, and those of its names (its own, its pattern's) that
    /// some policy writes down. Two targets of which they see the same are ruled alike.
    pub fn sees<'t>(&self, target: &'t Target) -> (Vec<&'t str>, Vec<&'t str>) {
        let names = std::iter::once(target.id.as_str()).chain(target.entry.family.iter().map(|pattern| pattern.as_str()));
        (target.labels.iter().map(String::as_str).collect(), names.filter(|name| self.named.contains(*name)).collect())
    }

    /// What the policies name, for the configuration to know or to warn of.
    pub fn mentions(&self) -> &[Mention] {
        &self.mentions
    }

    /// What loads but is probably not meant.
    pub fn warnings(&self) -> &[PolicyProblem] {
        &self.warnings
    }

    /// The `@id` of every policy.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.by_id.keys().map(String::as_str)
    }

    /// The policies that determined a response, by id.
    fn reasons(&self, response: &Response) -> BTreeMap<&str, &Annotations> {
        response
            .diagnostics()
            .reason()
            .filter_map(|id| self.by_id.get_key_value(AsRef::<str>::as_ref(id)))
            .map(|(id, annotations)| (id.as_str(), annotations))
            .collect()
    }
}

/// The first evaluation error, by policy id.
fn failure(response: &Response) -> Option<Denial> {
    let errors = response.diagnostics().errors().map(|error| match error {
        cedar_policy::AuthorizationError::PolicyEvaluationError(error) => (error.policy_id().to_string(), error.inner().to_string()),
    });
    errors.min().map(|(policy, error)| Denial::Error { policy, error })
}

/// Why the base said no; of several forbids the first by id.
fn forbidden(matched: &BTreeMap<&str, &Annotations>) -> Denial {
    match matched.first_key_value() {
        Some((id, annotations)) => Denial::Forbidden { policy: (*id).to_owned(), message: annotations.message.clone() },
        None => Denial::NoPermit,
    }
}

/// The obligations of everything that matched. A permit that does not speak of recording asks for the
/// default: less is kept only where every permit that matched says so.
fn terms(permits: &BTreeMap<&str, &Annotations>, holds: &BTreeMap<&str, &Annotations>) -> Terms {
    let all = || permits.values().chain(holds.values());
    let records = permits.values().map(|a| a.record.unwrap_or_default()).chain(holds.values().filter_map(|a| a.record));
    Terms {
        longest_grant: all().filter_map(|a| a.grant).min(),
        retain: all().filter_map(|a| a.retain.clone()).collect(),
        record: records.max().unwrap_or(RecordLevel::Full),
        policies: permits.keys().chain(holds.keys()).map(|id| (*id).to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests;
