//! Who has to agree, how many of them, and what their decisions amount to: a pure state machine.
//! (stub: signatures only)

use std::collections::BTreeMap;
use std::time::Duration;

use super::decision::{GrantedTerms, Level, Verdict};
use crate::id::{Group, Person, WorkflowName};

/// A workflow of `approvals.toml`.
#[derive(Debug, Clone)]
pub struct Workflow {
    pub name: WorkflowName,
    /// In order; one for now.
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
    pub reason_required: bool,
    /// A regular expression over the whole reason.
    pub reason_pattern: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Stage {
    pub groups: Vec<Group>,
    pub people: Vec<Person>,
    pub quorum: u32,
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
    /// Names as the waiting text shows them: groups, then persons.
    pub approvers: Vec<String>,
    pub have: Vec<Person>,
    pub quorum: u32,
    pub level: Level,
}

/// Weighs decisions (in the order they came) over one track per workflow. The requester's own never
/// count, a person counts once, one decision counts in every track where the person is eligible and
/// the level suffices; terms are the meet of all; any denial by an eligible person ends all.
pub fn weigh(_workflows: &[&Workflow], _requester: &Person, _asked: &GrantedTerms, _decisions: &[Decided]) -> Progress {
    todo!()
}

impl Workflow {
    /// Whether this person may decide here (never the requester, checked by the caller as well).
    pub fn is_eligible(&self, _person: &Person, _groups: &[Group]) -> bool {
        todo!()
    }
}
