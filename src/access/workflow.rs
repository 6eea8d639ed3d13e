//! Who has to agree, how many of them, and what their decisions amount to: a pure state machine.
//!
//! Always true here, whatever the order in which approvals come: the requester counts for nothing; a
//! person counts once, however many keys they have; one denial by somebody who may decide ends it;
//! nobody can grant more than was asked. A workflow that cannot be filled is never filled.

use std::collections::{BTreeMap, BTreeSet};
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
    /// What it agrees to may begin on a disk that is nearly full.
    pub rescue: bool,
    /// A regular expression over the whole reason.
    pub reason_pattern: Option<String>,
    pub source: SourceRule,
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

/// Shows the first stage that is not filled, else the last. A later stage takes nobody whom an
/// earlier one took: two stages mean two persons.
fn track(workflow: &Workflow, level: Level, approvals: &[&Decided]) -> TrackState {
    let mut taken: BTreeSet<&Person> = BTreeSet::new();
    // No stage, no way to agree: a quorum that nobody can fill.
    let mut state = TrackState { workflow: workflow.name.clone(), approvers: vec![], have: vec![], quorum: u32::MAX, level };
    for stage in &workflow.stages {
        let mut have: Vec<Person> = Vec::new();
        for decided in approvals {
            if stage.is_eligible(&decided.person, &decided.groups) && !have.contains(&decided.person) && taken.insert(&decided.person) {
                have.push(decided.person.clone());
            }
        }
        state.approvers = stage.approvers();
        state.have = have;
        state.quorum = stage.quorum.max(1);
        if !state.is_filled() {
            break;
        }
    }
    state
}

fn is_asked(workflows: &[&Workflow], decided: &Decided) -> bool {
    workflows.iter().any(|workflow| workflow.is_eligible(&decided.person, &decided.groups))
}

impl Workflow {
    /// Whether this person may decide here (never the requester, checked by the caller as well).
    pub fn is_eligible(&self, person: &Person, groups: &[Group]) -> bool {
        self.stages.iter().any(|stage| stage.is_eligible(person, groups))
    }
}

impl Stage {
    fn is_eligible(&self, person: &Person, groups: &[Group]) -> bool {
        self.people.contains(person) || self.groups.iter().any(|group| groups.contains(group))
    }

    pub fn approvers(&self) -> Vec<String> {
        self.groups.iter().map(Group::to_string).chain(self.people.iter().map(Person::to_string)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::access::action::Class;
    use crate::access::scope::Scope;

    const PEOPLE: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "mallory"];
    const GROUPS: [&str; 3] = ["leads", "dba", "sec"];

    fn person(name: &str) -> Person {
        name.parse().unwrap()
    }

    fn workflow(name: &str, groups: &[&str], people: &[&str], quorum: u32, level: Level) -> Workflow {
        let minute = Duration::from_secs(60);
        Workflow {
            name: name.parse().unwrap(),
            stages: vec![Stage {
                groups: groups.iter().map(|g| g.parse().unwrap()).collect(),
                people: people.iter().map(|p| person(p)).collect(),
                quorum,
            }],
            level,
            decide_within: 15 * minute,
            longest_grant: 60 * minute,
            default_grant: 30 * minute,
            use_within: 15 * minute,
            linger: 5 * minute,
            reason_required: false,
            rescue: false,
            reason_pattern: None,
            source: SourceRule::Address,
        }
    }

    #[test]
    fn a_grant_is_for_any_address_only_where_every_workflow_says_so() {
        let strict = workflow("lead", &["leads"], &[], 1, Level::Key);
        let loose = Workflow { source: SourceRule::Any, ..workflow("phone", &["leads"], &[], 1, Level::Key) };
        assert_eq!(source_rule([&loose, &loose]), SourceRule::Any);
        assert_eq!(source_rule([&loose, &strict]), SourceRule::Address);
        assert_eq!(source_rule([]), SourceRule::Address);
    }

    fn asked() -> GrantedTerms {
        GrantedTerms { for_us: 1_800_000_000, scope: Scope([Class::Shell, Class::ExecAny].into()), ..GrantedTerms::default() }
    }

    fn approves(name: &str, groups: &[&str], level: Level) -> Decided {
        Decided {
            person: person(name),
            groups: groups.iter().map(|g| g.parse().unwrap()).collect(),
            verdict: Verdict::Approve,
            terms: Some(asked()),
            level,
            note: String::new(),
        }
    }

    #[test]
    fn a_quorum_of_two_is_not_filled_by_one_person_with_two_keys() {
        let pair = workflow("pair", &["leads"], &[], 2, Level::Key);
        let twice = [approves("bob", &["leads"], Level::Key), approves("bob", &["leads"], Level::Touch)];
        assert!(matches!(weigh(&[&pair], &person("alice"), &asked(), &twice), Progress::Waiting { .. }));
        let both = [approves("bob", &["leads"], Level::Key), approves("carol", &["leads"], Level::Key)];
        assert!(matches!(weigh(&[&pair], &person("alice"), &asked(), &both), Progress::Approved { by, .. } if by.len() == 2));
    }

    #[test]
    fn the_strictest_level_wins_across_tracks() {
        let soft = workflow("lead", &["leads"], &[], 1, Level::Connection);
        let hard = workflow("pci", &[], &["bob"], 1, Level::Touch);
        let key = [approves("bob", &["leads"], Level::Key)];
        assert!(matches!(weigh(&[&soft], &person("alice"), &asked(), &key), Progress::Approved { .. }));
        assert!(matches!(weigh(&[&soft, &hard], &person("alice"), &asked(), &key), Progress::Waiting { .. }));
        let touch = [approves("bob", &["leads"], Level::Touch)];
        assert!(matches!(weigh(&[&soft, &hard], &person("alice"), &asked(), &touch), Progress::Approved { .. }), "counts in both tracks");
    }

    #[test]
    fn nothing_is_approved_where_nobody_is_asked() {
        let everybody: Vec<Decided> = PEOPLE.iter().map(|p| approves(p, &GROUPS, Level::Touch)).collect();
        assert_eq!(weigh(&[], &person("alice"), &asked(), &everybody), Progress::Waiting { tracks: vec![] });
        let mut empty = workflow("empty", &[], &[], 0, Level::Connection);
        assert!(matches!(weigh(&[&empty], &person("alice"), &asked(), &everybody), Progress::Waiting { .. }));
        empty.stages.clear();
        assert!(matches!(weigh(&[&empty], &person("alice"), &asked(), &everybody), Progress::Waiting { .. }));
        let nobody = workflow("nobody", &["leads"], &[], 0, Level::Connection);
        assert!(matches!(weigh(&[&nobody], &person("alice"), &asked(), &[]), Progress::Waiting { .. }), "a quorum of 0 is one of 1");
    }

    #[test]
    fn a_second_stage_wants_a_second_person() {
        let mut staged = workflow("staged", &["leads"], &[], 1, Level::Key);
        staged.stages.extend(workflow("x", &["sec"], &[], 1, Level::Key).stages);
        let one = [approves("bob", &["leads", "sec"], Level::Key)];
        assert!(matches!(weigh(&[&staged], &person("alice"), &asked(), &one), Progress::Waiting { .. }));
        let two = [approves("bob", &["leads", "sec"], Level::Key), approves("carol", &["sec"], Level::Key)];
        assert!(matches!(weigh(&[&staged], &person("alice"), &asked(), &two), Progress::Approved { .. }));
    }

    #[test]
    fn an_approver_may_narrow_to_one_command() {
        let lead = workflow("lead", &["leads"], &[], 1, Level::Key);
        let exact = Scope([Class::Exec(crate::id::Digest([7; 32]))].into());
        let mut narrow = approves("bob", &["leads"], Level::Key);
        narrow.terms = Some(GrantedTerms { scope: exact.clone(), ..asked() });
        let Progress::Approved { terms, .. } = weigh(&[&lead], &person("alice"), &asked(), &[narrow]) else { panic!("not approved") };
        assert_eq!(terms.scope, exact);
    }

    fn any_level() -> impl Strategy<Value = Level> {
        prop_oneof![Just(Level::Connection), Just(Level::Key), Just(Level::Touch)]
    }

    fn any_scope() -> impl Strategy<Value = Scope> {
        let class = prop_oneof![
            Just(Class::Shell),
            Just(Class::ExecAny),
            Just(Class::SftpRead),
            (0u8..3).prop_map(|n| Class::Exec(crate::id::Digest([n; 32])))
        ];
        proptest::collection::btree_set(class, 1..4).prop_map(Scope)
    }

    fn any_terms() -> impl Strategy<Value = GrantedTerms> {
        (1u64..10_000, any::<bool>(), any_scope()).prop_map(|(for_us, once, scope)| GrantedTerms {
            for_us,
            once,
            scope,
            ..GrantedTerms::default()
        })
    }

    /// Groups follow from the person, as in a directory.
    fn groups_of(n: usize) -> Vec<Group> {
        GROUPS.iter().enumerate().filter(|(g, _)| (n + 1) & (1 << g) != 0).map(|(_, name)| name.parse().unwrap()).collect()
    }

    fn any_decision(deny: bool) -> impl Strategy<Value = Decided> {
        (0..PEOPLE.len(), any_level(), proptest::option::of(any_terms())).prop_map(move |(n, level, terms)| Decided {
            person: person(PEOPLE[n]),
            groups: groups_of(n),
            verdict: if deny { Verdict::Deny } else { Verdict::Approve },
            terms: terms.filter(|_| !deny),
            level,
            note: String::new(),
        })
    }

    fn any_workflow() -> impl Strategy<Value = Workflow> {
        let groups = proptest::sample::subsequence(&GROUPS[..], 0..=3);
        let people = proptest::sample::subsequence(&PEOPLE[..], 0..=2);
        (groups, people, 0u32..4, any_level()).prop_map(|(groups, people, quorum, level)| workflow("w", &groups, &people, quorum, level))
    }

    fn any_workflows() -> impl Strategy<Value = Vec<Workflow>> {
        proptest::collection::vec(any_workflow(), 0..4)
    }

    proptest! {
        #[test]
        fn the_order_of_approvals_does_not_matter(
            workflows in any_workflows(),
            (came, shuffled) in proptest::collection::vec(any_decision(false), 0..8).prop_flat_map(|d| (Just(d.clone()), Just(d).prop_shuffle())),
            asked in any_terms(),
        ) {
            let workflows: Vec<&Workflow> = workflows.iter().collect();
            let requester = person("alice");
            match (weigh(&workflows, &requester, &asked, &came), weigh(&workflows, &requester, &asked, &shuffled)) {
                (Progress::Approved { terms: a, by: x }, Progress::Approved { terms: b, by: y }) => {
                    prop_assert_eq!(a, b);
                    prop_assert_eq!(x.into_iter().collect::<BTreeSet<_>>(), y.into_iter().collect::<BTreeSet<_>>());
                }
                (Progress::Waiting { .. }, Progress::Waiting { .. }) => {}
                (a, b) => prop_assert!(false, "{a:?} in one order, {b:?} in another"),
            }
        }

        #[test]
        fn a_denial_dominates_wherever_it_comes(
            workflows in any_workflows(),
            approvals in proptest::collection::vec(any_decision(false), 0..8),
            denial in any_decision(true),
            at in any::<proptest::sample::Index>(),
            asked in any_terms(),
        ) {
            let workflows: Vec<&Workflow> = workflows.iter().collect();
            let mut decisions = approvals.clone();
            decisions.insert(at.index(approvals.len() + 1), denial.clone());
            let eligible = denial.person != person("alice") && workflows.iter().any(|w| w.is_eligible(&denial.person, &denial.groups));
            let progress = weigh(&workflows, &person("alice"), &asked, &decisions);
            if eligible {
                let ended = matches!(&progress, Progress::Denied { by, .. } if *by == denial.person);
                prop_assert!(ended, "{progress:?}");
            } else {
                prop_assert_eq!(progress, weigh(&workflows, &person("alice"), &asked, &approvals), "who is not asked changes nothing");
            }
        }

        #[test]
        fn never_more_than_was_asked_nor_than_anybody_granted(
            workflows in any_workflows(),
            decisions in proptest::collection::vec(any_decision(false), 0..8),
            asked in any_terms(),
        ) {
            let workflows: Vec<&Workflow> = workflows.iter().collect();
            if let Progress::Approved { terms, by } = weigh(&workflows, &person("alice"), &asked, &decisions) {
                let granted = decisions.iter().filter(|d| by.contains(&d.person) && d.level >= strictest(&workflows)).filter_map(|d| d.terms.as_ref());
                for bound in granted.chain([&asked]) {
                    prop_assert!(terms.for_us <= bound.for_us);
                    prop_assert!(terms.once || !bound.once);
                    prop_assert!(bound.scope.contains(&terms.scope));
                }
            }
        }

        #[test]
        fn what_is_approved_has_its_quorum_of_other_persons_in_every_track(
            workflows in any_workflows(),
            decisions in proptest::collection::vec(any_decision(false), 0..8),
            asked in any_terms(),
        ) {
            let workflows: Vec<&Workflow> = workflows.iter().collect();
            let level = strictest(&workflows);
            if let Progress::Approved { by, .. } = weigh(&workflows, &person("alice"), &asked, &decisions) {
                prop_assert!(!by.contains(&person("alice")));
                prop_assert!(!workflows.is_empty());
                for workflow in &workflows {
                    let persons: BTreeSet<&Person> = decisions
                        .iter()
                        .filter(|d| by.contains(&d.person) && d.level >= level && workflow.is_eligible(&d.person, &d.groups))
                        .map(|d| &d.person)
                        .collect();
                    prop_assert!(persons.len() >= workflow.stages[0].quorum.max(1) as usize);
                }
            }
        }
    }
}
