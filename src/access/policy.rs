//! Cedar: permits and plain forbids are the base, `@hold` forbids come after. (stub: signatures only)

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::action::{Action, ConsoleAction};
use super::ruling::Ruling;
use super::target::Target;
use crate::id::{Group, Login, Person, ScheduleName, WorkflowName};
use crate::time::Timestamp;

/// One question to the policy: may this person do this, there, now.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    pub person: &'a Person,
    pub groups: &'a [Group],
    pub target: &'a Target,
    pub login: &'a Login,
    pub action: Action,
    pub command: Option<&'a str>,
    pub source: IpAddr,
    pub now: Timestamp,
    /// Nobody has opened this target as this person before.
    pub first_time: bool,
    pub mfa: bool,
    /// Whether the person proved their key on the inner connection too (always true so far).
    pub inner_auth: bool,
}

/// The names that annotations may mention.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    pub workflows: BTreeSet<WorkflowName>,
    pub schedules: BTreeSet<ScheduleName>,
}

/// Something wrong in the policy text, at a byte offset.
#[derive(Debug, Clone)]
pub struct PolicyProblem {
    pub offset: usize,
    pub what: String,
    pub fix: String,
}

/// A validated set of policies.
#[derive(Debug)]
pub struct PolicySet {}

impl PolicySet {
    pub fn parse(_text: &str, _vocabulary: &Vocabulary) -> Result<Self, Vec<PolicyProblem>> {
        todo!()
    }

    pub fn rule(&self, _question: &Question<'_>) -> Ruling {
        todo!()
    }

    /// Whether a console action on this target is permitted; any error is a no.
    pub fn may(&self, _person: &Person, _groups: &[Group], _action: ConsoleAction, _target: &Target, _now: Timestamp) -> bool {
        todo!()
    }
}
