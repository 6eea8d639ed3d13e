//! What policy says of one action, before anybody is asked.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::id::{ScheduleName, WorkflowName};

/// The policy's answer with its obligations; ignoring it is a compile error.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    Deny(Denial),
    Permit(Terms),
    RequireApproval { terms: Terms, holds: Vec<Hold> },
}

/// Why there is no way in. For the log; the person reads one fixed refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// No permit matched.
    NoPermit,
    /// A forbid without `@hold` matched; its id.
    Forbidden { policy: String, message: Option<String> },
    /// A policy could not be evaluated; which, and the engine's words.
    Error { policy: String, error: String },
}

impl Denial {
    /// What it was, in brackets behind a sentence: `prod-never`, `nothing permits it`.
    pub fn brief(&self) -> String {
        match self {
            Denial::NoPermit => "nothing permits it".into(),
            Denial::Forbidden { policy, .. } => policy.clone(),
            Denial::Error { policy, .. } => format!("{policy} cannot be evaluated"),
        }
    }
}

/// A `forbid` annotated with `@hold("WORKFLOW")` that matched: somebody has to agree first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hold {
    pub workflow: WorkflowName,
    /// The policy's `@id`.
    pub policy: String,
    /// The policy's `@message`.
    pub message: Option<String>,
}

/// Obligations from the annotations of all policies that matched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// `@grant`, the shortest.
    pub longest_grant: Option<Duration>,
    /// `@retain`, all of them: the longest applies, and only the schedules know which that is.
    pub retain: BTreeSet<ScheduleName>,
    /// `@record`, the fullest.
    pub record: RecordLevel,
    /// Ids of the policies that determined the ruling.
    pub policies: BTreeSet<String>,
}

/// How much of a session is kept, from least to most. What is withheld is still counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum RecordLevel {
    Metadata,
    /// What the person saw: standard output and error.
    #[default]
    Output,
    /// Also what they typed.
    Full,
}

impl RecordLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            RecordLevel::Metadata => "metadata",
            RecordLevel::Output => "output",
            RecordLevel::Full => "full",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [RecordLevel::Metadata, RecordLevel::Output, RecordLevel::Full].into_iter().find(|level| level.as_str() == text)
    }
}

impl Terms {
    /// Both obligations at once: shortest grant, every schedule, fullest record.
    pub fn meet(self, other: Terms) -> Terms {
        Terms {
            longest_grant: match (self.longest_grant, other.longest_grant) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
            retain: self.retain.into_iter().chain(other.retain).collect(),
            record: self.record.max(other.record),
            policies: self.policies.into_iter().chain(other.policies).collect(),
        }
    }
}

impl Ruling {
    /// The ruling over two actions that both have to be allowed.
    pub fn meet(self, other: Ruling) -> Ruling {
        match (self, other) {
            (Ruling::Deny(denial), _) | (_, Ruling::Deny(denial)) => Ruling::Deny(denial),
            (Ruling::Permit(a), Ruling::Permit(b)) => Ruling::Permit(a.meet(b)),
            (Ruling::RequireApproval { terms: a, holds }, Ruling::Permit(b))
            | (Ruling::Permit(a), Ruling::RequireApproval { terms: b, holds }) => Ruling::RequireApproval { terms: a.meet(b), holds },
            (Ruling::RequireApproval { terms: a, holds: x }, Ruling::RequireApproval { terms: b, holds: y }) => {
                let holds: BTreeSet<Hold> = x.into_iter().chain(y).collect();
                Ruling::RequireApproval { terms: a.meet(b), holds: holds.into_iter().collect() }
            }
        }
    }

    /// The workflows that somebody has to go through first.
    pub fn workflows(&self) -> BTreeSet<&WorkflowName> {
        match self {
            Ruling::RequireApproval { holds, .. } => holds.iter().map(|hold| &hold.workflow).collect(),
            Ruling::Deny(_) | Ruling::Permit(_) => BTreeSet::new(),
        }
    }
}
