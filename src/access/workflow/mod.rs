//! Who has to agree, how many of them, and what their decisions amount to: a pure state machine.
//!
//! Always true here, whatever the order in which approvals come: the requester counts for nothing; a
//! person counts once, however many keys they have; one denial by somebody who may decide ends it;
//! nobody can grant more than was asked. A workflow that cannot be filled is never filled.
//!
//! What decisions amount to ([`weigh`]) depends on no clock, so that whoever has their signatures comes
//! to the same end. Whose turn it is ([`turns`]) depends on one: stages follow each other, and people
//! are asked in their hours.

mod places;
mod turn;

use std::collections::BTreeMap;
use std::time::Duration;

use super::decision::{GrantedTerms, Level, Verdict};
use crate::id::{Group, NotifierName, Person, ScheduleName, WorkflowName};
use crate::time::Timestamp;

pub use turn::{Absent, Approver, Away, Escalated, Times, Turn, Wider, absent_words, day, reached, turns};

/// A workflow of `approvals.toml`.
#[derive(Debug, Clone)]
pub struct Workflow {
    pub name: WorkflowName,
    /// In order: the next one is asked when the one before has come together.
    pub stages: Vec<Stage>,
    pub level: Level,
    /// Nobody may decide after this long.
    pub decide_within: Duration,
    /// The longest window that can be granted.
    pub longest_grant: Duration,
    /// The window offered when the requester names none.
    pub default_grant: Duration,
    /// An approved request lapses when nobody uses it for this long.
    pub use_within: Duration,
    /// How long a request of something other than a shell stays after its last waiter left.
    pub linger: Duration,
    /// How long the cut waits for an answer, where more time was asked for before the end.
    pub overrun: Duration,
    pub reason_required: bool,
    /// What whoever asks is asked, and whoever decides reads.
    pub prompt: Option<String>,
    /// What it agrees to may begin on a disk that is nearly full.
    pub rescue: bool,
    /// Whoever policy lets break-glass opens first and is reviewed after.
    pub break_glass: Option<BreakGlass>,
    /// Who takes notices of its requests to people.
    pub notify: Vec<NotifierName>,
    /// A regular expression over the whole reason.
    pub reason_pattern: Option<String>,
    pub source: SourceRule,
}

/// What opening first costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BreakGlass {
    /// Its recordings are kept by this schedule too, beside being kept until they are reviewed.
    pub retain: Option<ScheduleName>,
}

/// Whether a grant fits only the address that it was asked from (**D scope**). Behind a carrier's NAT the
/// address is another for each connection (`users.md` 19).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceRule {
    Any,
    Address,
}

/// The strictest of all; of no workflow at all as well.
pub fn source_rule<'a>(workflows: impl IntoIterator<Item = &'a Workflow>) -> SourceRule {
    workflows.into_iter().map(|workflow| workflow.source).max().unwrap_or(SourceRule::Address)
}

/// Who has to agree at a time.
#[derive(Debug, Clone, Default)]
pub struct Stage {
    /// Members of any of these may decide …
    pub groups: Vec<Group>,
    /// … and one of each of these has to, each person for one group.
    pub all: Vec<Group>,
    pub people: Vec<Person>,
    /// In persons; never fewer than `all` has groups.
    pub quorum: u32,
    /// The request ends when the stage has not come together after this long.
    pub within: Option<Duration>,
    pub escalation: Option<Escalation>,
}

/// Who is asked as well when too few answer.
#[derive(Debug, Clone)]
pub struct Escalation {
    pub to: Vec<Group>,
    /// Counted from when the stage was asked; at once where too few of it are in reach. `None`: only then.
    pub after: Option<Duration>,
}

pub type Workflows = BTreeMap<WorkflowName, Workflow>;

/// A decision as it was verified and stored.
#[derive(Debug, Clone)]
pub struct Decided {
    pub person: Person,
    pub groups: Vec<Group>,
    pub verdict: Verdict,
    pub terms: Option<GrantedTerms>,
    pub level: Level,
    pub note: String,
    /// When it came.
    pub at: Timestamp,
}

/// Where a request stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    Waiting { tracks: Vec<TrackState> },
    Approved { terms: GrantedTerms, by: Vec<Person> },
    Denied { by: Person, note: String },
}

#[derive(Debug, Clone, PartialEq)]
pub struct TrackState {
    pub workflow: WorkflowName,
    /// The stage that is asked, from 0; of so many.
    pub stage: usize,
    pub stages: usize,
    /// Names as the waiting text shows them: groups, then persons.
    pub approvers: Vec<String>,
    pub have: Vec<Person>,
    pub quorum: u32,
    pub level: Level,
}

impl TrackState {
    pub fn is_filled(&self) -> bool {
        self.have.len() >= self.quorum.max(1) as usize
    }
}

/// Weighs decisions (in the order they came) over one track per workflow. The requester's own never
/// count, a person counts once, one decision counts in every track where the person is eligible and
/// the level suffices; terms are the meet of all; any denial by an eligible person ends all.
///
/// A denial counts at any level: nothing is gained by forging one. Without a workflow nobody can
/// agree, and so nothing is approved.
pub fn weigh(workflows: &[&Workflow], requester: &Person, asked: &GrantedTerms, decisions: &[Decided]) -> Progress {
    let mut may_count = decisions.iter().filter(|decided| decided.person != *requester && is_asked(workflows, decided));
    if let Some(denial) = may_count.clone().find(|decided| decided.verdict == Verdict::Deny) {
        return Progress::Denied { by: denial.person.clone(), note: denial.note.clone() };
    }
    let tracks = tracks(workflows, requester, decisions);
    if workflows.is_empty() || !tracks.iter().all(TrackState::is_filled) {
        return Progress::Waiting { tracks };
    }
    let mut by: Vec<Person> = Vec::new();
    let mut terms = asked.clone();
    let level = strictest(workflows);
    for decided in may_count.by_ref().filter(|decided| decided.level >= level) {
        if !by.contains(&decided.person) {
            by.push(decided.person.clone());
        }
        if let Some(granted) = &decided.terms {
            terms = terms.meet(granted);
        }
    }
    Progress::Approved { terms, by }
}

/// Shows how far each workflow is: who has agreed, of how many, at the strictest level of all.
pub fn tracks(workflows: &[&Workflow], requester: &Person, decisions: &[Decided]) -> Vec<TrackState> {
    let level = strictest(workflows);
    let approvals: Vec<&Decided> =
        decisions.iter().filter(|d| d.verdict == Verdict::Approve && d.person != *requester && d.level >= level).collect();
    workflows.iter().map(|workflow| track(workflow, level, &approvals)).collect()
}

/// The level that a decision must have to count, in whichever track.
pub fn strictest(workflows: &[&Workflow]) -> Level {
    // Of no workflow at all: nothing is approved anyway.
    workflows.iter().map(|workflow| workflow.level).max().unwrap_or(Level::Verified)
}

/// Shows the first stage that is not filled, else the last.
fn track(workflow: &Workflow, level: Level, approvals: &[&Decided]) -> TrackState {
    let filled = places::fill(&workflow.stages, approvals);
    let stage = workflow.stages.get(filled.stage);
    TrackState {
        workflow: workflow.name.clone(),
        stage: filled.stage,
        stages: workflow.stages.len(),
        approvers: stage.map(Stage::approvers).unwrap_or_default(),
        have: filled.have.into_iter().cloned().collect(),
        // No stage, no way to agree: a quorum that nobody can fill.
        quorum: stage.map_or(u32::MAX, Stage::needed),
        level,
    }
}

fn is_asked(workflows: &[&Workflow], decided: &Decided) -> bool {
    workflows.iter().any(|workflow| workflow.is_eligible(&decided.person, &decided.groups))
}

/// The first stage that could not come together if all of these agreed.
pub fn stuck<'p>(workflow: &Workflow, all: impl IntoIterator<Item = (&'p Person, &'p [Group])>) -> Option<usize> {
    let agrees = |(person, groups): (&Person, &[Group])| Decided {
        person: person.clone(),
        groups: groups.to_vec(),
        verdict: Verdict::Approve,
        terms: None,
        level: Level::Verified,
        note: String::new(),
        at: Timestamp::from_micros(0),
    };
    let all: Vec<Decided> = all.into_iter().map(agrees).collect();
    let filled = places::fill(&workflow.stages, &all.iter().collect::<Vec<_>>());
    (!filled.whole).then_some(filled.stage)
}

impl Workflow {
    /// Whether this person may decide here (never the requester, checked by the caller as well).
    pub fn is_eligible(&self, person: &Person, groups: &[Group]) -> bool {
        self.stages.iter().any(|stage| stage.is_eligible(person, groups))
    }
}

impl Stage {
    /// Whether this person may decide in this stage, be it only once it has escalated.
    pub fn is_eligible(&self, person: &Person, groups: &[Group]) -> bool {
        self.is_first(person, groups) || self.is_wider(groups)
    }

    /// Whether they are asked from the beginning.
    fn is_first(&self, person: &Person, groups: &[Group]) -> bool {
        self.people.contains(person) || self.groups.iter().chain(&self.all).any(|group| groups.contains(group))
    }

    /// Whether they are asked once it has escalated.
    fn is_wider(&self, groups: &[Group]) -> bool {
        self.escalation.as_ref().is_some_and(|escalation| escalation.to.iter().any(|group| groups.contains(group)))
    }

    /// How many persons it takes.
    pub fn needed(&self) -> u32 {
        self.quorum.max(u32::try_from(self.all.len()).unwrap_or(u32::MAX)).max(1)
    }

    /// Names as the waiting text shows them: groups, then persons.
    pub fn approvers(&self) -> Vec<String> {
        let all: Vec<&str> = self.all.iter().map(Group::as_str).collect();
        let all = (!all.is_empty()).then(|| all.join(" and "));
        all.into_iter().chain(self.groups.iter().map(Group::to_string)).chain(self.people.iter().map(Person::to_string)).collect()
    }
}

#[cfg(test)]
mod tests;
