use std::collections::BTreeSet;

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
            ..Stage::default()
        }],
        level,
        decide_within: 15 * minute,
        longest_grant: 60 * minute,
        default_grant: 30 * minute,
        use_within: 15 * minute,
        linger: 5 * minute,
        overrun: 5 * minute,
        reason_required: false,
        prompt: None,
        rescue: false,
        break_glass: None,
        notify: vec![],
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
        at: Timestamp::from_micros(0),
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
        (0u8..3).prop_map(|n| Class::Exec(crate::id::Digest([n; 32]))),
        crate::access::endpoint::tests::any_endpoint().prop_map(Class::ForwardLocal)
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
        at: Timestamp::from_micros(0),
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

mod stages {
    //! Stages, groups of which one each has to agree, hours, absences: over random interleavings.

    use super::*;
    use crate::access::hours::Hours;

    const START: i64 = 1_767_614_400_000_000; // a Monday noon

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_micros(START).plus(Duration::from_secs(60 * minutes))
    }

    fn groups(names: &[&str]) -> Vec<Group> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn staged(stages: Vec<Stage>) -> Workflow {
        Workflow { stages, ..workflow("staged", &[], &[], 1, Level::Key) }
    }

    fn stage(names: &[&str], quorum: u32) -> Stage {
        Stage { groups: groups(names), quorum, ..Stage::default() }
    }

    fn says(name: &str, of: &[&str], minutes: u64) -> Decided {
        Decided { at: at(minutes), ..approves(name, of, Level::Key) }
    }

    fn is_approved(workflow: &Workflow, decisions: &[Decided]) -> bool {
        matches!(weigh(&[workflow], &person("alice"), &asked(), decisions), Progress::Approved { .. })
    }

    #[test]
    fn a_person_with_several_hats_keeps_nobody_from_theirs() {
        let workflow = staged(vec![stage(&["leads"], 1), stage(&["sec"], 1)]);
        let both = says("carol", &["leads", "sec"], 1);
        let lead = says("bob", &["leads"], 2);
        assert!(is_approved(&workflow, &[both.clone(), lead.clone()]), "carol as sec, bob as lead");
        assert!(is_approved(&workflow, &[lead, both.clone()]));
        assert!(!is_approved(&workflow, &[both]), "two stages are two persons");
    }

    #[test]
    fn one_of_each_is_one_person_for_each() {
        let each = staged(vec![Stage { all: groups(&["leads", "sec"]), quorum: 1, ..Stage::default() }]);
        let carol = says("carol", &["leads", "sec"], 1);
        assert!(!is_approved(&each, std::slice::from_ref(&carol)), "not one for two");
        assert!(!is_approved(&each, &[says("bob", &["leads"], 1), says("dave", &["leads"], 2)]), "not two of one");
        assert!(is_approved(&each, &[says("bob", &["leads"], 1), carol.clone()]));
        let third = staged(vec![Stage { all: groups(&["leads", "sec"]), quorum: 3, ..Stage::default() }]);
        assert!(!is_approved(&third, &[says("bob", &["leads"], 1), carol.clone()]));
        assert!(is_approved(&third, &[says("bob", &["leads"], 1), carol, says("dave", &["leads"], 2)]));
        let TrackState { approvers, quorum, .. } = tracks(&[&each], &person("alice"), &[]).remove(0);
        assert_eq!((approvers.as_slice(), quorum), (["leads and sec".to_owned()].as_slice(), 2));
    }

    /// bob and dave lead, gina heads; alice asks.
    struct Scene {
        hours: BTreeMap<&'static str, Hours>,
        away: Vec<Away>,
        escalated: Vec<Escalated>,
        decisions: Vec<Decided>,
    }

    const STAFF: [(&str, &[&str]); 4] = [("alice", &["leads"]), ("bob", &["leads"]), ("dave", &["leads"]), ("erin", &["heads"])];

    impl Scene {
        fn new() -> Self {
            Self { hours: BTreeMap::new(), away: vec![], escalated: vec![], decisions: vec![] }
        }

        fn turn(&self, workflow: &Workflow, now: u64) -> Option<Turn> {
            let names: Vec<(Person, Vec<Group>)> = STAFF.iter().map(|(name, of)| (person(name), groups(of))).collect();
            let approvers: Vec<Approver<'_>> = names
                .iter()
                .map(|(person, groups)| Approver {
                    person,
                    groups,
                    hours: self.hours.get(person.as_str()),
                    away: self.away.iter().find(|away| away.person == *person),
                })
                .collect();
            let times = Times { asked: at(0), not_after: at(60), now: at(now) };
            turns(&[workflow], &person("alice"), &self.decisions, &approvers, &self.escalated, times).pop()
        }

        fn asked(&self, workflow: &Workflow, now: u64) -> Vec<String> {
            self.turn(workflow, now).map(|turn| turn.asked.iter().map(Person::to_string).collect()).unwrap_or_default()
        }
    }

    fn escalating() -> Workflow {
        let escalation = Escalation { to: groups(&["heads"]), after: Some(Duration::from_secs(600)) };
        staged(vec![Stage { escalation: Some(escalation), ..stage(&["leads"], 1) }])
    }

    #[test]
    fn who_does_not_answer_is_helped_and_may_still_decide() {
        let (scene, workflow) = (Scene::new(), escalating());
        assert_eq!(scene.asked(&workflow, 0), ["bob", "dave"], "never who asks");
        let turn = scene.turn(&workflow, 9).unwrap();
        assert_eq!((turn.wider, turn.next, turn.ends), (None, at(10), at(60)));
        let turn = scene.turn(&workflow, 10).unwrap();
        assert_eq!(turn.wider, Some((groups(&["heads"]), Wider::Unanswered(Duration::from_secs(600)))));
        assert_eq!(scene.asked(&workflow, 10), ["bob", "dave", "erin"]);
        assert!(is_approved(&workflow, &[says("erin", &["heads"], 11)]));
    }

    #[test]
    fn nobody_there_means_that_others_are_asked_at_once() {
        let (mut scene, workflow) = (Scene::new(), escalating());
        scene.away = vec![Away { person: person("bob"), since: at(0), until: at(5), instead: None }];
        scene.hours.insert("dave", "Mon-Fri 14-18 UTC".parse().unwrap());
        let turn = scene.turn(&workflow, 1).unwrap();
        assert_eq!(turn.wider, Some((groups(&["heads"]), Wider::TooFew)));
        assert_eq!(turn.asked, [person("erin")]);
        assert_eq!(turn.may, [person("bob"), person("dave"), person("erin")], "who decides outside their hours is awake");
        let words: Vec<String> = turn.absent.iter().map(|absent| absent.words(at(1))).collect();
        assert_eq!(words, ["bob away until 12:05Z", "dave 14-18 UTC"]);
        assert_eq!(turn.next, at(5), "bob is back");
        assert_eq!(scene.asked(&workflow, 6), ["bob"]);
        // Back again, but it was written down.
        scene.escalated = vec![Escalated { workflow: workflow.name.clone(), stage: 0, at: at(1) }];
        assert_eq!(scene.asked(&workflow, 6), ["bob", "erin"]);
    }

    #[test]
    fn a_stand_in_is_asked_at_any_hour() {
        let (mut scene, workflow) = (Scene::new(), escalating());
        scene.hours.insert("dave", "Mon-Fri 14-18 UTC".parse().unwrap());
        scene.away = vec![Away { person: person("bob"), since: at(0), until: at(5), instead: Some(person("dave")) }];
        assert_eq!(scene.asked(&workflow, 1), ["dave"]);
        assert_eq!(scene.asked(&workflow, 6), ["bob"], "and then no more");
        scene.away.push(Away { person: person("dave"), since: at(0), until: at(5), instead: None });
        assert_eq!(scene.asked(&workflow, 1), ["erin"], "who is away stands in for nobody");
    }

    #[test]
    fn the_next_stage_is_asked_when_the_one_before_has_come_together() {
        let later = Stage { within: Some(Duration::from_secs(300)), ..stage(&["heads"], 1) };
        let workflow = staged(vec![stage(&["leads"], 1), later]);
        let mut scene = Scene::new();
        assert_eq!(scene.asked(&workflow, 1), ["bob", "dave"]);
        scene.decisions = vec![says("bob", &["leads"], 5)];
        let turn = scene.turn(&workflow, 6).unwrap();
        assert_eq!((turn.stage, turn.since, turn.ends, turn.asked), (1, at(5), at(10), vec![person("erin")]));
        scene.decisions.push(says("erin", &["heads"], 7));
        assert_eq!(scene.turn(&workflow, 8), None);
    }

    #[test]
    fn days_are_named_as_people_do() {
        for (when, words) in [
            ("2026-01-05T18:00:00Z", "18:00Z"),
            ("2026-01-06T00:00:00Z", "Tue"),
            ("2026-01-09T08:30:00Z", "Fri 08:30Z"),
            ("2026-01-20T00:00:00Z", "20 Jan"),
        ] {
            let when = chrono::DateTime::parse_from_rfc3339(when).unwrap().timestamp_micros();
            assert_eq!(day(Timestamp::from_micros(when), at(0)), words);
        }
    }

    fn any_stage() -> impl Strategy<Value = Stage> {
        let some = |most| proptest::sample::subsequence(&GROUPS[..], 0..=most);
        let people = proptest::sample::subsequence(&PEOPLE[..], 0..=2);
        let minutes = |most: u64| proptest::option::of((1..most).prop_map(|n| Duration::from_secs(60 * n)));
        (some(2), some(2), some(1), people, 0u32..3, minutes(60), minutes(30)).prop_map(|(any, all, to, people, quorum, within, after)| {
            Stage {
                groups: groups(&any),
                all: groups(&all),
                people: people.iter().map(|name| person(name)).collect(),
                quorum,
                within,
                escalation: (!to.is_empty()).then(|| Escalation { to: groups(&to), after }),
            }
        })
    }

    fn any_staged() -> impl Strategy<Value = Workflow> {
        (proptest::collection::vec(any_stage(), 1..4), any_level()).prop_map(|(stages, level)| Workflow { level, ..staged(stages) })
    }

    fn any_tracks() -> impl Strategy<Value = Vec<Workflow>> {
        let named = |(n, workflow): (usize, Workflow)| Workflow { name: format!("w{n}").parse().unwrap(), ..workflow };
        proptest::collection::vec(any_staged(), 1..4).prop_map(move |all| all.into_iter().enumerate().map(named).collect())
    }

    /// Decisions in the order they came, a few minutes between them.
    fn any_decisions() -> impl Strategy<Value = Vec<Decided>> {
        proptest::collection::vec((any_decision(false), 0u64..10), 0..9).prop_map(|all| {
            let mut minutes = 0;
            all.into_iter()
                .map(|(decided, more)| {
                    minutes += more;
                    Decided { at: at(minutes), ..decided }
                })
                .collect()
        })
    }

    /// Tries every way to give the places to the persons.
    fn can_be_placed(stages: &[Stage], persons: &[&Decided]) -> bool {
        let places: Vec<(&Stage, Option<&Group>)> =
            stages.iter().flat_map(|stage| (0..stage.needed() as usize).map(move |n| (stage, stage.all.get(n)))).collect();
        fn place(places: &[(&Stage, Option<&Group>)], persons: &[&Decided]) -> bool {
            let Some(((stage, group), rest)) = places.split_first() else { return true };
            persons.iter().enumerate().any(|(n, one)| {
                let fits = match group {
                    Some(group) => one.groups.contains(group) || stage.is_wider(&one.groups),
                    None => stage.is_eligible(&one.person, &one.groups),
                };
                let others: Vec<&Decided> = persons.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, one)| *one).collect();
                fits && place(rest, &others)
            })
        }
        place(&places, persons)
    }

    proptest! {
        #[test]
        fn it_is_enough_exactly_where_every_place_can_be_taken(workflow in any_staged(), decisions in any_decisions()) {
            let counts = |d: &&Decided| d.person != person("alice") && d.level >= workflow.level;
            let mut persons: Vec<&Decided> = Vec::new();
            for decided in decisions.iter().filter(counts) {
                if persons.iter().all(|known| known.person != decided.person) {
                    persons.push(decided);
                }
            }
            prop_assert_eq!(is_approved(&workflow, &decisions), can_be_placed(&workflow.stages, &persons));
        }

        #[test]
        fn stages_never_go_back_and_nobody_is_asked_out_of_turn(workflows in any_tracks(), decisions in any_decisions(), late in 0u64..60) {
            let refs: Vec<&Workflow> = workflows.iter().collect();
            let (requester, level) = (person("alice"), strictest(&refs));
            let names: Vec<(Person, Vec<Group>)> = PEOPLE.iter().enumerate().map(|(n, name)| (person(name), groups_of(n))).collect();
            let approvers: Vec<Approver<'_>> =
                names.iter().map(|(person, groups)| Approver { person, groups, hours: None, away: None }).collect();
            let mut before = vec![0; refs.len()];
            for count in 0..=decisions.len() {
                let so_far = &decisions[..count];
                for (known, track) in before.iter_mut().zip(tracks(&refs, &requester, so_far)) {
                    prop_assert!(track.stage >= *known, "stages in order");
                    *known = track.stage;
                }
                let now = so_far.last().map_or(at(0), |last| last.at).plus(Duration::from_secs(60 * late));
                let times = Times { asked: at(0), not_after: at(200), now };
                for turn in turns(&refs, &requester, so_far, &approvers, &[], times) {
                    let workflow = refs.iter().find(|workflow| workflow.name == turn.workflow).unwrap();
                    let stage = &workflow.stages[turn.stage];
                    prop_assert!(!turn.may.contains(&requester), "never who asks");
                    for person in &turn.may {
                        let said = so_far.iter().any(|d| d.person == *person && d.level >= level);
                        let (_, groups) = names.iter().find(|(name, _)| name == person).unwrap();
                        let early = turn.wider.is_none() && !stage.is_first(person, groups);
                        prop_assert!(!said && stage.is_eligible(person, groups) && !early);
                    }
                    prop_assert!(turn.asked.iter().all(|person| turn.may.contains(person)));
                    prop_assert!(turn.since >= at(0) && turn.ends <= at(200));
                    prop_assert!(turn.next > now || turn.next == turn.ends, "what is to come is ahead, or it is over");
                }
            }
        }

        #[test]
        fn what_is_asked_changes_no_sooner_than_it_says(workflow in any_staged(), decisions in any_decisions(), part in 0.0f64..1.0) {
            let names: Vec<(Person, Vec<Group>)> = PEOPLE.iter().enumerate().map(|(n, name)| (person(name), groups_of(n))).collect();
            let hours: Hours = "Mon-Fri 12:20-13 UTC".parse().unwrap();
            let away = Away { person: person("bob"), since: at(0), until: at(40), instead: Some(person("dave")) };
            let approvers: Vec<Approver<'_>> = names
                .iter()
                .map(|(person, groups)| Approver {
                    person,
                    groups,
                    hours: (person.as_str() > "carol").then_some(&hours),
                    away: (person.as_str() == "bob").then_some(&away),
                })
                .collect();
            let now = decisions.last().map_or(at(0), |last| last.at);
            let look = |now| turns(&[&workflow], &person("alice"), &decisions, &approvers, &[], Times { asked: at(0), not_after: at(100), now });
            if let Some(turn) = look(now).pop() {
                let later = now.plus(turn.next.since(now).mul_f64(part * 0.999));
                let then = look(later).pop().unwrap();
                // Why it asks wider may become another reason.
                prop_assert_eq!((then.asked, then.may, then.wider.is_some()), (turn.asked, turn.may, turn.wider.is_some()));
            }
        }
    }
}
