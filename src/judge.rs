//! Who may decide a request, by today's directory, and which stored decisions still stand.
//!
//! Asked at each decision and again at each opening (**D persons**): a decision of somebody who has
//! left the group, lost the key that signed or may no longer approve for the target counts for nothing.
//! It stands below the approvals, on bytes and a directory alone, so that whoever signs can judge by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key::{HashAlg, PublicKey};

use crate::access::decision::{BadDecision, GrantedTerms, Level, SignedDecision, Verdict};
use crate::access::kinds::one_of_each;
use crate::access::request::{RequestDocument, doc_duration};
use crate::access::target::Target;
use crate::access::workflow::{self, Approver, Away, Decided, Escalated, Progress, Times, TrackState, Turn, Workflow};
use crate::access::{ConsoleAction, People, Principal};
use crate::config::Directory;
use crate::id::{Digest, Group, Person, WorkflowName};
use crate::store::decisions::DecisionRow;
use crate::time::Timestamp;

/// The authority over one request, as of one moment. Where a workflow or a target of the request is
/// gone from the directory, nobody has any.
#[derive(Debug, Clone)]
pub struct Authority {
    workflows: Vec<Workflow>,
    requester: Person,
    asked: GrantedTerms,
    deciders: BTreeMap<Person, Decider>,
    /// It says that it opens first, and today that would be let.
    opens_first: bool,
}

#[derive(Debug, Clone)]
struct Decider {
    groups: Vec<Group>,
    keys: Vec<PublicKey>,
}

impl Authority {
    /// Over every target of the request: for deciding.
    pub fn over(directory: &Directory, document: &RequestDocument, now: Timestamp) -> Self {
        let found = document.targets.iter().map(|asked| directory.targets.find(asked.id.as_str()).filter(|t| t.pin() == asked.pin));
        let targets: Option<Vec<Arc<Target>>> = found.collect();
        // Five hundred targets of one kind are one question.
        let kinds = targets.as_ref().map(|targets| one_of_each(&directory.policy, targets.iter().map(|target| &**target)));
        Self::of(directory, document, kinds.as_deref(), now)
    }

    /// Over the one target that a session opens.
    pub fn over_one(directory: &Directory, document: &RequestDocument, target: &Target, now: Timestamp) -> Self {
        Self::of(directory, document, Some(&[target]), now)
    }

    fn of(directory: &Directory, document: &RequestDocument, targets: Option<&[&Target]>, now: Timestamp) -> Self {
        let asked = document.asked();
        let workflows = workflows_of(directory, document).filter(|_| targets.is_some()).unwrap_or_default();
        let mut deciders = BTreeMap::new();
        for entry in directory.people.iter() {
            let eligible = entry.name != document.person
                && !directory.people.is_suspended(&entry.name)
                && workflows.iter().any(|w| w.is_eligible(&entry.name, &entry.groups));
            let may = |target: &&Target| directory.policy.may(&entry.name, &entry.groups, ConsoleAction::Approve, target, now);
            if eligible && targets.unwrap_or_default().iter().all(may) {
                deciders.insert(entry.name.clone(), Decider { groups: entry.groups.clone(), keys: entry.keys.clone() });
            }
        }
        let names = workflows.iter().map(|workflow| &workflow.name);
        let opens_first = document.break_glass
            && document.extends.is_none()
            && targets.is_some_and(|targets| breaks_glass(directory, &document.person, names, targets, now));
        Self { workflows, requester: document.person.clone(), asked, deciders, opens_first }
    }

    pub fn may_decide(&self, person: &Person) -> bool {
        self.deciders.contains_key(person)
    }

    /// Everybody who may decide now, never the requester.
    pub fn deciders(&self) -> Vec<Person> {
        self.deciders.keys().cloned().collect()
    }

    pub fn groups(&self, person: &Person) -> Vec<Group> {
        self.deciders.get(person).map(|decider| decider.groups.clone()).unwrap_or_default()
    }

    pub fn asked(&self) -> &GrantedTerms {
        &self.asked
    }

    pub fn level(&self) -> Level {
        workflow::strictest(&self.refs())
    }

    pub fn names(&self) -> Vec<WorkflowName> {
        self.workflows.iter().map(|workflow| workflow.name.clone()).collect()
    }

    /// How long an approval waits for its first use.
    pub fn use_within(&self) -> Duration {
        self.workflows.iter().map(|workflow| workflow.use_within).min().unwrap_or_default()
    }

    /// Whether this person is asked in a later stage of some workflow, or once one asks wider.
    pub fn comes_later(&self, person: &Person, rows: &[DecisionRow]) -> bool {
        let groups = self.groups(person);
        let tracks = self.tracks(rows);
        self.workflows.iter().zip(&tracks).any(|(workflow, track)| {
            !track.is_filled() && workflow.stages.iter().skip(track.stage).any(|stage| stage.is_eligible(person, &groups))
        })
    }

    /// What the workflows ask and tell, each once.
    pub fn prompts(&self) -> Vec<String> {
        let mut prompts: Vec<String> = self.workflows.iter().filter_map(|workflow| workflow.prompt.clone()).collect();
        prompts.dedup();
        prompts
    }

    /// Since when somebody is asked: since the reason was known, from which the time to decide counts.
    pub fn asked_since(&self, document: &RequestDocument) -> Timestamp {
        let within = self.workflows.iter().map(|workflow| workflow.decide_within).min().unwrap_or_default();
        document.not_after().minus(within).max(document.made())
    }

    /// Whether any stage may ask wider.
    pub fn escalates(&self) -> bool {
        self.workflows.iter().flat_map(|workflow| &workflow.stages).any(|stage| stage.escalation.is_some())
    }

    /// Whose turn it is, by the decisions that stand today.
    pub fn turns(&self, people: &People, rows: &[DecisionRow], away: &[Away], escalated: &[Escalated], times: Times) -> Vec<Turn> {
        let approvers: Vec<Approver<'_>> = self
            .deciders
            .iter()
            .map(|(person, decider)| Approver {
                person,
                groups: &decider.groups,
                hours: people.hours(person),
                away: away.iter().find(|away| away.person == *person),
            })
            .collect();
        workflow::turns(&self.refs(), &self.requester, &self.standing(rows), &approvers, escalated, times)
    }

    pub fn tracks(&self, rows: &[DecisionRow]) -> Vec<TrackState> {
        workflow::tracks(&self.refs(), &self.requester, &self.standing(rows))
    }

    /// Weighs the decisions that stand today.
    pub fn weigh(&self, rows: &[DecisionRow]) -> Progress {
        match workflow::weigh(&self.refs(), &self.requester, &self.asked, &self.standing(rows)) {
            // No longer than is offered to whoever asks.
            Progress::Waiting { .. } if self.opens_first => {
                let offered = self.workflows.iter().map(|workflow| doc_duration(workflow.default_grant)).min().unwrap_or_default();
                Progress::Approved { terms: GrantedTerms { for_us: self.asked.for_us.min(offered), ..self.asked.clone() }, by: Vec::new() }
            }
            progress => progress,
        }
    }

    /// Weighs what can be proven: of each signed decision what its bytes say under its signature, and
    /// nothing of its columns. A signature that no longer verifies with a key of its person, or bytes
    /// that speak of another request, count for nothing.
    pub fn weigh_proven(&self, rows: &[DecisionRow], request: Digest, bastion: &str) -> Progress {
        let proven: Vec<DecisionRow> = rows.iter().filter_map(|row| self.proven(row, request, bastion).ok()).collect();
        self.weigh(&proven)
    }

    fn proven(&self, row: &DecisionRow, request: Digest, bastion: &str) -> Result<DecisionRow, BadDecision> {
        let Some(signed) = &row.signed else {
            return Ok(DecisionRow { level: Level::Connection, ..row.clone() });
        };
        let keys = self.deciders.get(&row.person).map(|decider| decider.keys.as_slice()).unwrap_or_default();
        let decision = SignedDecision::verify(signed.bytes.clone(), &signed.signature, &row.person, keys, bastion, row.at)?;
        let document = decision.document();
        if document.requests.binary_search(&request).is_err() {
            return Err(BadDecision::Requests);
        }
        Ok(DecisionRow {
            verdict: document.verdict,
            terms: document.terms.clone(),
            note: document.note.clone(),
            level: decision.level(),
            ..row.clone()
        })
    }

    fn standing(&self, rows: &[DecisionRow]) -> Vec<Decided> {
        rows.iter().filter_map(|row| self.stands(row)).collect()
    }

    fn stands(&self, row: &DecisionRow) -> Option<Decided> {
        let decider = self.deciders.get(&row.person)?;
        let holds_key = |key: &String| decider.keys.iter().any(|known| known.fingerprint(HashAlg::Sha256).to_string() == *key);
        if row.signed.as_ref().is_some_and(|signed| !holds_key(&signed.key)) {
            return None;
        }
        Some(Decided {
            person: row.person.clone(),
            groups: decider.groups.clone(),
            verdict: row.verdict,
            terms: row.terms.clone(),
            level: row.level,
            note: row.note.clone(),
            at: row.at,
        })
    }

    fn refs(&self) -> Vec<&Workflow> {
        self.workflows.iter().collect()
    }
}

/// The workflows that a request has to go through, each once; `None` if one is gone.
pub fn workflows_of(directory: &Directory, document: &RequestDocument) -> Option<Vec<Workflow>> {
    let mut names: Vec<&WorkflowName> = document.needs.iter().map(|needs| &needs.workflow).collect();
    names.sort();
    names.dedup();
    names.into_iter().map(|name| directory.workflows.get(name).cloned()).collect()
}

/// Whether this person may open first there, and be reviewed after: each of the workflows lets it, and policy
/// permits them `break-glass` on each target.
pub fn breaks_glass<'a>(
    directory: &Directory,
    person: &Person,
    workflows: impl IntoIterator<Item = &'a WorkflowName>,
    targets: &[&Target],
    now: Timestamp,
) -> bool {
    let Some(entry) = directory.people.named(person) else { return false };
    let mut workflows = workflows.into_iter().peekable();
    let some = workflows.peek().is_some() && !targets.is_empty();
    let lets = |name| directory.workflows.get(name).is_some_and(|workflow| workflow.break_glass.is_some());
    let may = |target: &&Target| directory.policy.may(person, &entry.groups, ConsoleAction::BreakGlass, target, now);
    some && workflows.all(lets) && one_of_each(&directory.policy, targets.iter().copied()).iter().all(may)
}

/// Whether the key that somebody came with, or its certificate, still names them.
pub fn is_still_known(directory: &Directory, who: &Principal, now: Timestamp) -> bool {
    who.again(&directory.people, now).is_ok()
}

/// What people may say of a verdict.
pub fn done(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Approve => "approved by you",
        Verdict::Deny => "denied by you",
    }
}
