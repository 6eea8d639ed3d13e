use proptest::prelude::*;

use super::*;
use crate::access::action::Action;
use crate::access::target::PrincipalStyle;
use crate::id::Login;

const WORKFLOWS: [&str; 3] = ["lead", "peer", "head"];
const SCHEDULES: [&str; 2] = ["short", "long"];

fn vocabulary() -> Vocabulary {
    Vocabulary {
        workflows: WORKFLOWS.iter().map(|w| w.parse().unwrap()).collect(),
        schedules: SCHEDULES.iter().map(|s| s.parse().unwrap()).collect(),
    }
}

fn parse(text: &str) -> PolicySet {
    PolicySet::parse(text, &vocabulary()).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn problems(text: &str) -> Vec<PolicyProblem> {
    PolicySet::parse(text, &vocabulary()).expect_err("it loads")
}

fn target(labels: &[&str]) -> Target {
    Target {
        id: "web-1".parse().unwrap(),
        host: "10.0.0.5".into(),
        port: 22,
        aliases: [].into(),
        labels: labels.iter().map(|l| (*l).to_owned()).collect(),
        logins: vec!["deploy".parse().unwrap()],
        host_keys: vec![],
        host_cas: vec![],
        principal: PrincipalStyle::LoginAtTarget,
        entry: crate::access::target::Entry::default(),
    }
}

/// A question with everything that a test may want to turn.
#[derive(Debug)]
struct Scene {
    person: Person,
    groups: Vec<Group>,
    target: Target,
    login: Login,
    source: std::net::IpAddr,
    now: Timestamp,
}

/// Monday, 5 January 2026, 12:34 UTC.
const MONDAY: Timestamp = Timestamp::from_micros(1_767_616_440_000_000);

impl Scene {
    fn of(groups: &[&str], labels: &[&str]) -> Self {
        Self {
            person: "alice".parse().unwrap(),
            groups: groups.iter().map(|g| g.parse().unwrap()).collect(),
            target: target(labels),
            login: "deploy".parse().unwrap(),
            source: "192.0.2.7".parse().unwrap(),
            now: MONDAY,
        }
    }

    fn question(&self, action: Action) -> Question<'_> {
        Question {
            person: &self.person,
            groups: &self.groups,
            target: &self.target,
            login: &self.login,
            action,
            command: None,
            to: None,
            source: self.source,
            now: self.now,
            first_time: false,
            mfa: false,
            inner_auth: true,
        }
    }

    fn rule(&self, policy: &PolicySet, action: Action) -> Ruling {
        policy.rule(&self.question(action))
    }

    fn exec(&self, policy: &PolicySet, command: Option<&str>) -> Ruling {
        policy.rule(&Question { command, ..self.question(Action::Exec) })
    }

    fn may(&self, policy: &PolicySet, action: ConsoleAction) -> bool {
        policy.may(&self.person, &self.groups, action, &self.target, self.now)
    }
}

/// The example of the design, word for word.
const DESIGN: &str = r#"
    @id("sre-deploy")
    permit (principal in Group::"sre", action in [Action::"shell", Action::"exec"], resource) when { context.login == "deploy" };
    @id("leads-approve")
    permit (principal in Group::"leads", action == Action::"approve", resource);
    @id("prod-needs-a-lead") @hold("lead") @message("production: one lead must agree")
    forbid (principal, action, resource in Label::"env=prod") unless { principal in Group::"oncall" };
    @id("pci-never") @message("nobody enters the card hall")
    forbid (principal, action, resource in Label::"pci");
"#;

#[test]
fn a_forward_is_ruled_by_where_it_leads() {
    let policy = parse(
        r#"
        @id("psql") permit (principal, action == Action::"forward-local", resource)
        when { context has to && context has port && context.to == "localhost" && [5432, 5433].contains(context.port) };
        @id("net") permit (principal, action == Action::"forward-local", resource)
        when { context has address && context.address.isInRange(ip("10.1.0.0/16")) };
        @id("listen") permit (principal, action == Action::"forward-remote", resource) when { context has to && context.to == "localhost" };
    "#,
    );
    let scene = Scene::of(&[], &[]);
    let permits = |action, to: &str| {
        let to = to.parse().unwrap();
        matches!(policy.rule(&Question { to: Some(&to), ..scene.question(action) }), Ruling::Permit(_))
    };
    for (to, expected) in [
        ("localhost:5432", true),
        ("127.0.0.1:5433", true),
        ("localhost:22", false),
        ("localhost:*", false),
        ("db:5432", false),
        ("10.1.2.3:9", true),
        ("10.2.0.0:9", false),
        ("*:5432", false),
    ] {
        assert_eq!(permits(Action::ForwardLocal, to), expected, "{to}");
    }
    assert!(permits(Action::ForwardRemote, "localhost:9000") && !permits(Action::ForwardRemote, "*:9000"));
    assert_eq!(scene.rule(&policy, Action::ForwardLocal), Ruling::Deny(Denial::NoPermit));
    assert_eq!(scene.rule(&policy, Action::AgentForward), Ruling::Deny(Denial::NoPermit));
    let places: Vec<String> = policy.places().map(ToString::to_string).collect();
    assert!(places.contains(&"localhost:5433".to_owned()) && places.contains(&"*:5432".to_owned()), "{places:?}");
}

#[test]
fn a_host_is_compared_whole() {
    let text = r#"@id("p") permit (principal, action == Action::"forward-local", resource) when { context has to && context.to like "*.example" };"#;
    let all = problems(text);
    let [problem] = all.as_slice() else { panic!("{all:?}") };
    assert!(problem.what.starts_with("\"like\" on context.to"), "{problem:?}");
    let all = problems(r#"@id("p") permit (principal, action == Action::"shell", resource) when { context has to && context.to == "x" };"#);
    assert!(all.iter().any(|problem| problem.fix.contains("forward") || problem.what.contains("never apply")), "{all:?}");
}

#[test]
fn the_base_is_asked_first_and_its_no_is_final() {
    let policy = parse(DESIGN);
    assert_eq!(Scene::of(&[], &["env=prod"]).rule(&policy, Action::Shell), Ruling::Deny(Denial::NoPermit), "nobody is asked in vain");
    let pci = Scene::of(&["sre"], &["env=prod", "pci"]).rule(&policy, Action::Shell);
    let message = Some("nobody enters the card hall".into());
    assert_eq!(pci, Ruling::Deny(Denial::Forbidden { policy: "pci-never".into(), message }));
    let Ruling::RequireApproval { terms, holds } = Scene::of(&["sre"], &["env=prod"]).rule(&policy, Action::Shell) else { panic!() };
    assert_eq!(holds.len(), 1);
    assert_eq!(holds[0].workflow.as_str(), "lead");
    assert_eq!(holds[0].policy, "prod-needs-a-lead");
    assert_eq!(holds[0].message.as_deref(), Some("production: one lead must agree"));
    assert_eq!(terms.policies.into_iter().collect::<Vec<_>>(), ["prod-needs-a-lead", "sre-deploy"]);
    assert!(matches!(Scene::of(&["sre", "oncall"], &["env=prod"]).rule(&policy, Action::Shell), Ruling::Permit(_)));
    assert!(matches!(Scene::of(&["sre"], &["env=staging"]).rule(&policy, Action::Shell), Ruling::Permit(_)));
    assert!(matches!(Scene::of(&["sre"], &["env=staging"]).rule(&policy, Action::SftpRead), Ruling::Deny(Denial::NoPermit)));
}

#[test]
fn a_hold_without_an_action_does_not_keep_leads_from_approving() {
    let policy = parse(DESIGN);
    assert!(Scene::of(&["leads"], &["env=prod"]).may(&policy, ConsoleAction::Approve));
    assert!(!Scene::of(&["leads"], &["env=prod"]).may(&policy, ConsoleAction::Replay));
    assert!(!Scene::of(&["leads"], &["pci"]).may(&policy, ConsoleAction::Approve), "a plain forbid forbids there too");
    assert!(!Scene::of(&["sre"], &["env=prod"]).may(&policy, ConsoleAction::Approve));
}

#[test]
fn every_matching_hold_counts_and_terms_are_met() {
    let policy = parse(
        r#"
        @id("a") @grant("4h") @retain("short") @record("metadata") permit (principal, action in Action::"session", resource);
        @id("b") @grant("2h") @record("metadata") permit (principal in Group::"sre", action in Action::"session", resource);
        @id("h1") @hold("lead") @retain("long") forbid (principal, action, resource in Label::"env=prod");
        @id("h2") @hold("peer") @grant("30m") forbid (principal, action in Action::"sftp", resource in Label::"env=prod");
        @id("h3") @hold("head") @record("full") forbid (principal, action, resource in Label::"dc=berlin");
    "#,
    );
    let Ruling::RequireApproval { terms, holds } = Scene::of(&["sre"], &["env=prod"]).rule(&policy, Action::SftpWrite) else { panic!() };
    assert_eq!(holds.iter().map(|h| h.workflow.as_str()).collect::<Vec<_>>(), ["lead", "peer"]);
    assert_eq!(terms.longest_grant, Some(std::time::Duration::from_secs(1800)));
    assert_eq!(terms.retain.iter().map(ScheduleName::as_str).collect::<Vec<_>>(), ["long", "short"]);
    assert_eq!(terms.record, RecordLevel::Metadata);
    let ruling = Scene::of(&["sre"], &["env=prod", "dc=berlin"]).rule(&policy, Action::Shell);
    let Ruling::RequireApproval { terms, .. } = ruling else { panic!() };
    assert_eq!(terms.record, RecordLevel::Full);
}

#[test]
fn a_permit_that_is_silent_on_recording_asks_for_the_default() {
    let metadata = r#"@id("a") @record("metadata") permit (principal, action in Action::"session", resource);"#;
    let silent = r#"@id("b") permit (principal in Group::"sre", action in Action::"session", resource);"#;
    let Ruling::Permit(terms) = Scene::of(&["sre"], &[]).rule(&parse(&format!("{metadata}{silent}")), Action::Shell) else { panic!() };
    assert_eq!(terms.record, RecordLevel::Output);
    let Ruling::Permit(terms) = Scene::of(&[], &[]).rule(&parse(&format!("{metadata}{silent}")), Action::Shell) else { panic!() };
    assert_eq!(terms.record, RecordLevel::Metadata);
}

#[test]
fn an_evaluation_error_is_a_denial_wherever_it_happens() {
    let permit = r#"@id("p") permit (principal, action in Action::"session", resource);"#;
    let overflow = "when { context.hour + 9223372036854775807 > 0 };";
    let base = parse(&format!(r#"{permit} @id("bad") forbid (principal, action in Action::"session", resource) {overflow}"#));
    let held = parse(&format!(r#"{permit} @id("bad") @hold("lead") forbid (principal, action in Action::"session", resource) {overflow}"#));
    for policy in [base, held] {
        let Ruling::Deny(Denial::Error { policy, error }) = Scene::of(&[], &[]).rule(&policy, Action::Shell) else { panic!() };
        assert_eq!(policy, "bad");
        assert!(error.contains("overflow"), "{error}");
    }
    let console = parse(
        r#"@id("p") permit (principal, action == Action::"kill", resource);
        @id("bad") permit (principal, action == Action::"kill", resource) when { context.hour + 9223372036854775807 > 0 };"#,
    );
    assert!(!Scene::of(&[], &[]).may(&console, ConsoleAction::Kill));
}

#[test]
fn the_context_says_what_it_is_meant_to() {
    let when =
        |condition: &str| parse(&format!(r#"@id("p") permit (principal, action in Action::"session", resource) when {{ {condition} }};"#));
    let scene = Scene::of(&[], &[]);
    for condition in [
        "context.login == \"deploy\"",
        "context.source.isInRange(ip(\"192.0.2.0/24\"))",
        "context.hour == 12 && context.minute == 34 && context.weekday == 1",
        "!context.first_time && !context.mfa && context.inner_auth",
    ] {
        assert!(matches!(scene.rule(&when(condition), Action::Shell), Ruling::Permit(_)), "{condition}");
    }
    let mapped = Scene { source: "::ffff:192.0.2.7".parse().unwrap(), ..Scene::of(&[], &[]) };
    let range = when("context.source.isInRange(ip(\"192.0.2.0/24\"))");
    assert!(matches!(mapped.rule(&range, Action::Shell), Ruling::Permit(_)), "a mapped address is the address");
}

#[test]
fn a_command_is_compared_whole() {
    let policy = parse(
        r#"@id("p") permit (principal, action == Action::"exec", resource)
        when { context has command && ["uptime", "systemctl restart nginx"].contains(context.command) };"#,
    );
    let scene = Scene::of(&[], &[]);
    assert!(matches!(scene.exec(&policy, Some("uptime")), Ruling::Permit(_)));
    for other in [Some("uptime "), Some("uptime; id"), Some("Uptime"), Some(""), None] {
        assert_eq!(scene.exec(&policy, other), Ruling::Deny(Denial::NoPermit), "{other:?}");
    }
    assert_eq!(scene.rule(&policy, Action::Shell), Ruling::Deny(Denial::NoPermit));
}

#[test]
fn every_way_around_the_whole_command_is_refused() {
    for (condition, operator) in [
        (r#"context.command like "systemctl *""#, "like"),
        (r#"context["command"] like "systemctl *""#, "like"),
        (r#"{"c": context.command}.c like "x*""#, "Record"),
        (r#"(if context.mfa then context.command else "x") like "x*""#, "if-then-else"),
        (r#"context.command != "rm""#, "!="),
        (r#"[context.command].containsAny(["x"])"#, "Set"),
        (r#"[{"c": context.command}].contains({"c": "x"})"#, "Record"),
    ] {
        let text =
            format!(r#"@id("p") permit (principal, action == Action::"exec", resource) when {{ context has command && {condition} }};"#);
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{condition}: {found:#?}");
        assert!(found[0].what.starts_with(&format!("{operator:?} on context.command")), "{condition}: {}", found[0].what);
        let word = if operator == "like" { "like" } else { "command" };
        assert!(text[found[0].offset..].starts_with(word), "{condition}: {}", &text[found[0].offset..]);
    }
    parse(r#"@id("p") permit (principal, action == Action::"exec", resource) when { context.login like "deploy-*" };"#);
}

/// Each text, the words it must be refused with, and the text at which the problem must point.
const REFUSED: [(&str, &str, &str); 22] = [
    (r#"permit (principal, action == Action::"shell", resource);"#, "the policy has no @id", "permit"),
    (r#"@id("") permit (principal, action == Action::"shell", resource);"#, "\"\" is not a policy's id", "@id"),
    (r#"@id("a b") permit (principal, action == Action::"shell", resource);"#, "\"a b\" is not a policy's id", "@id"),
    (
        "@id(\"x\") permit (principal, action == Action::\"shell\", resource);\n\n@id(\"x\") forbid (principal, action == Action::\"exec\", resource);",
        "@id(\"x\") is already the policy on line 1",
        "@id(\"x\") forbid",
    ),
    (r#"@id("x") @hodl("lead") forbid (principal, action, resource);"#, "@hodl is not an annotation of ours", "@hodl"),
    (r#"@id("x") @hold("lead") permit (principal, action == Action::"shell", resource);"#, "@hold stands on a permit", "@hold"),
    (r#"@id("x") @hold("nobody") forbid (principal, action, resource);"#, "there is no workflow \"nobody\"", "@hold"),
    (r#"@id("x") @hold forbid (principal, action, resource);"#, "there is no workflow \"\"", "@hold"),
    (r#"@id("x") @hold("lead") @retain("ever") forbid (principal, action, resource);"#, "there is no schedule \"ever\"", "@retain"),
    (r#"@id("x") @grant("soon") permit (principal, action == Action::"shell", resource);"#, "@grant: \"soon\" is not a duration", "@grant"),
    (r#"@id("x") @grant("0s") permit (principal, action == Action::"shell", resource);"#, "@grant: \"0s\" is out of range", "@grant"),
    (r#"@id("x") @record("all") permit (principal, action == Action::"shell", resource);"#, "@record(\"all\") is not a level", "@record"),
    (r#"@id("x") @record("full") forbid (principal, action, resource);"#, "@record on a forbid without @hold", "@record"),
    ("@id(\"x\") @message(\"\u{202e}evil\") forbid (principal, action, resource);", "this @message cannot be shown", "@message"),
    (
        r#"@id("x") @hold("lead") forbid (principal, action == Action::"approve", resource);"#,
        "@hold cannot hold \"approve\"",
        "Action::\"approve\"",
    ),
    (
        r#"@id("x") @hold("lead") forbid (principal, action, resource) when { action == Action::"replay" };"#,
        "@hold cannot hold \"replay\"",
        "Action::\"replay\"",
    ),
    (r#"@id("x") permit (principal, action == Action::"shel", resource);"#, "unrecognized action `Action::\"shel\"`", "Action::\"shel\""),
    (r#"@id("x") permit (principal in Role::"sre", action == Action::"shell", resource);"#, "unrecognized entity type `Role`", "Role"),
    (
        r#"@id("x") forbid (principal, action, resource) when { context.login == "root" };"#,
        "attribute `login` in context for Action::\"approve\" not found",
        "context.login",
    ),
    (
        r#"@id("x") permit (principal, action == Action::"exec", resource) when { context.command == "id" };"#,
        "unable to guarantee safety of access to optional attribute `command`",
        "context.command",
    ),
    (r#"@id("x") forbid (principal, action == Action::"sftp", resource);"#, "this policy can never apply", "@id"),
    (r#"@id("x") permit (principal == ?principal, action == Action::"shell", resource);"#, "template", "?principal, action"),
];

#[test]
fn what_is_wrong_is_refused_in_words_at_its_place() {
    for (text, words, at) in REFUSED {
        let found = problems(text);
        let fits = |problem: &PolicyProblem| problem.what.contains(words) && text[problem.offset..].starts_with(at);
        assert!(found.iter().any(fits), "{text}\nwanted {words} at {at}, found {found:#?}");
        assert!(found.iter().all(|problem| !problem.fix.is_empty() && !problem.what.contains('\n')), "{found:#?}");
    }
}

#[test]
fn a_second_factor_is_missed_only_where_it_would_turn_a_no() {
    let policy = parse(
        r#"@id("all") permit (principal, action in Action::"session", resource);
           @id("code") forbid (principal, action == Action::"shell", resource) unless { context.mfa };
           @id("held") @hold("lead") forbid (principal, action == Action::"exec", resource) unless { context.mfa };
           @id("never") forbid (principal, action in Action::"sftp", resource);"#,
    );
    let scene = Scene::of(&[], &[]);
    for action in Action::ALL {
        let question = scene.question(action);
        assert_eq!(policy.lacks_second_factor(&question), action == Action::Shell, "{action:?}");
        assert!(!policy.lacks_second_factor(&Question { mfa: true, ..question }), "{action:?}");
    }
    assert!(matches!(scene.rule(&policy, Action::Exec), Ruling::RequireApproval { .. }), "a hold without it is no denial");
}

#[test]
fn one_mistake_hides_no_other() {
    let found = problems(
        "@id(\"a\") permit (principal, action == Action::\"shel\", resource);\n\
         @id(\"b\") permit (principal action, resource);\n\
         @hodl permit (principal, action == Action::\"exec\", resource);\n\
         @id(\"c\") permit (principal, action, resource) when { principal.age > 3 };\n\
         trailing",
    );
    let lines: Vec<usize> = found.iter().map(|p| p.offset).collect();
    assert!(found.len() >= 6, "{found:#?}");
    assert!(lines.is_sorted());
}

#[test]
fn hostile_texts_are_refused_without_falling_over() {
    let when = |condition: &str| format!(r#"@id("x") permit (principal, action == Action::"shell", resource) when {{ {condition} }};"#);
    for nested in ["(", "[", "{a:", "!(", "if ("] {
        assert!(problems(&when(&nested.repeat(5000)))[0].what.contains("nest deeper"), "{nested}");
    }
    for chained in ["true && ", "!true || ", "context.", "1 + ", "if true then true else ", "true } unless { "] {
        let found = problems(&when(&format!("{} true", chained.repeat(5000))));
        assert!(found[0].what.contains("more than 256 operators"), "{chained}: {found:?}");
    }
    let most = when(&format!("true{}", " && context.hour != 25".repeat(85)));
    assert!(matches!(Scene::of(&[], &[]).rule(&parse(&most), Action::Shell), Ruling::Permit(_)), "what is let in can be evaluated");
    problems("\"never ends");
    problems("\u{0}\u{feff};;;");
    problems(&" ;".repeat(1000));
    assert!(PolicySet::parse("", &vocabulary()).is_ok(), "an empty set permits nothing");
}

#[test]
fn on_a_former_target_only_what_no_label_could_take_away_is_permitted() {
    let may = |text: &str| {
        let (person, groups) = ("carol".parse().unwrap(), ["auditors".parse().unwrap()]);
        parse(text).may_on_former(&person, &groups, ConsoleAction::Replay, &"web-1.staging".parse().unwrap(), MONDAY)
    };
    let all = r#"@id("a") permit (principal in Group::"auditors", action == Action::"replay", resource);"#;
    let but = |forbid: &str| format!("{all}\n@id(\"b\") forbid (principal, action == Action::\"replay\", resource) {forbid};");
    assert!(may(all));
    assert!(may(&but(r#"when { resource == Target::"db-1" }"#)), "its name is known");
    assert!(!may(&but(r#"when { resource in Label::"pci" }"#)));
    assert!(!may(&but(r#"unless { resource in Label::"env=dev" }"#)));
    assert!(!may(&but(r#"when { resource in Label::"pci" && !(resource in Label::"env=dev") }"#)));
    assert!(!may(&but(r#"when { resource in Target::"*.staging" }"#)));
    assert!(!may(r#"@id("a") permit (principal, action == Action::"replay", resource in Label::"env=dev");"#));
    assert!(!may(r#"@id("a") permit (principal in Group::"others", action == Action::"replay", resource);"#));
}

#[test]
fn our_schema_knows_every_action_that_we_ask_about() {
    let mut all: Vec<&str> = Action::ALL.iter().map(|a| a.as_str()).collect();
    all.extend(ConsoleAction::ALL.iter().map(|a| a.as_str()));
    let text: String = all.iter().map(|a| format!("@id(\"{a}\") permit (principal, action == Action::\"{a}\", resource);")).collect();
    let policy = parse(&text);
    for action in Action::ALL {
        let Ruling::Permit(terms) = Scene::of(&[], &[]).rule(&policy, action) else { panic!("{action:?}") };
        assert_eq!(terms.policies.iter().collect::<Vec<_>>(), [action.as_str()]);
    }
    for action in ConsoleAction::ALL {
        assert!(Scene::of(&[], &[]).may(&policy, action), "{action:?}");
    }
}

#[test]
fn a_permit_that_names_no_action_is_warned_of() {
    let policy = parse(r#"@id("x") permit (principal, action, resource);"#);
    assert!(policy.warnings()[0].what.contains("names no action"));
    assert!(parse(DESIGN).warnings().is_empty());
}

#[test]
fn mentions_are_found_where_they_stand() {
    let policy = parse(DESIGN);
    let mentioned: Vec<(Mentioned, &str, &str)> =
        policy.mentions().iter().map(|m| (m.of, m.id.as_str(), &DESIGN[m.offset..m.offset + 7])).collect();
    assert!(mentioned.contains(&(Mentioned::Group, "oncall", "Group::")));
    assert!(mentioned.contains(&(Mentioned::Label, "env=prod", "Label::")));
}

/// Policies that a property draws from: permits, plain forbids, holds.
fn fragment() -> impl Strategy<Value = (bool, bool, String)> {
    let group = prop::sample::select(vec!["principal", "principal in Group::\"sre\"", "principal in Group::\"oncall\""]);
    let action = prop::sample::select(vec!["action in Action::\"session\"", "action == Action::\"shell\"", "action in Action::\"sftp\""]);
    let label = prop::sample::select(vec!["resource", "resource in Label::\"env=prod\"", "resource in Label::\"pci\""]);
    let condition = prop::sample::select(vec![
        "",
        "when { context.login == \"deploy\" }",
        "unless { principal in Group::\"oncall\" }",
        "when { context.hour < 12 }",
        "unless { context.mfa }",
    ]);
    let notes = prop::sample::select(vec!["", "@grant(\"30m\")", "@record(\"full\")", "@record(\"metadata\")", "@retain(\"long\")"]);
    let hold = prop::option::of(prop::sample::select(WORKFLOWS.to_vec()));
    (any::<bool>(), hold, group, action, label, condition, notes).prop_map(|(permit, hold, group, action, label, condition, notes)| {
        let scope = format!("({group}, {action}, {label}) {condition};");
        match (permit, hold) {
            (true, _) => (true, false, format!("{notes} permit {scope}")),
            (false, Some(workflow)) => (false, true, format!("{notes} @hold(\"{workflow}\") forbid {scope}")),
            (false, None) => (false, false, format!("forbid {scope}")),
        }
    })
}

fn scene() -> impl Strategy<Value = Scene> {
    let groups = prop::sample::subsequence(vec!["sre", "oncall", "leads"], 0..=3);
    let labels = prop::sample::subsequence(vec!["env=prod", "pci", "dc=berlin"], 0..=3);
    (groups, labels, prop::sample::select(vec!["deploy", "root"]), 0i64..7 * 24).prop_map(|(groups, labels, login, hours)| Scene {
        login: login.parse().unwrap(),
        now: Timestamp::from_micros(MONDAY.micros() + hours * 3_600_000_000),
        ..Scene::of(&groups, &labels)
    })
}

fn text_of<'a>(fragments: impl IntoIterator<Item = (usize, &'a (bool, bool, String))>) -> String {
    fragments.into_iter().map(|(n, (_, _, text))| format!("@id(\"p{n}\") {text}\n")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// "Adding a permit can never remove an approval", nor lift a forbid, nor lengthen a grant, nor
    /// shorten a record.
    #[test]
    fn adding_a_permit_takes_nothing_away(
        before in prop::collection::vec(fragment(), 1..8), added in fragment(), scene in scene(), action in prop::sample::select(Action::ALL.to_vec())
    ) {
        prop_assume!(added.0);
        let old = scene.rule(&parse(&text_of(before.iter().enumerate())), action);
        let new = scene.rule(&parse(&text_of(before.iter().chain([&added]).enumerate())), action);
        match (&old, &new) {
            (Ruling::Deny(Denial::NoPermit), _) => {}
            (Ruling::Deny(_), _) => prop_assert_eq!(&old, &new),
            (Ruling::Permit(a), Ruling::Permit(b)) => prop_assert_eq!(&a.clone().meet(b.clone()), b),
            (Ruling::RequireApproval { terms: a, holds: x }, Ruling::RequireApproval { terms: b, holds: y }) => {
                prop_assert_eq!(x, y);
                prop_assert_eq!(&a.clone().meet(b.clone()), b);
            }
            _ => prop_assert!(false, "{:?} became {:?}", old, new),
        }
    }

    /// Without its holds a set rules exactly as Cedar decides; with them it only asks for more.
    #[test]
    fn the_base_is_decided_as_cedar_would(
        all in prop::collection::vec(fragment(), 1..10), scene in scene(), action in prop::sample::select(Action::ALL.to_vec())
    ) {
        let base = text_of(all.iter().enumerate().filter(|(_, (_, hold, _))| !hold));
        let asked = scene.question(action).ask().unwrap();
        let cedar: cedar_policy::PolicySet = base.parse().unwrap();
        let says = Authorizer::new().is_authorized(&asked.request, &cedar, &asked.entities).decision();
        let permitted = !matches!(scene.rule(&parse(&base), action), Ruling::Deny(_));
        prop_assert_eq!(permitted, says == Decision::Allow);
        let whole = scene.rule(&parse(&text_of(all.iter().enumerate())), action);
        prop_assert_eq!(!matches!(whole, Ruling::Deny(_)), permitted);
        // An engine that ignored @hold would fail closed.
        let ignorant: cedar_policy::PolicySet = text_of(all.iter().enumerate()).parse().unwrap();
        let blind = Authorizer::new().is_authorized(&asked.request, &ignorant, &asked.entities).decision();
        prop_assert_eq!(blind == Decision::Allow, matches!(whole, Ruling::Permit(_)));
    }

    /// The order in which policies stand changes nothing.
    #[test]
    fn order_does_not_matter(all in prop::collection::vec(fragment(), 1..8), scene in scene(), action in prop::sample::select(Action::ALL.to_vec())) {
        let forward = scene.rule(&parse(&text_of(all.iter().enumerate())), action);
        let backward = scene.rule(&parse(&text_of(all.iter().enumerate().rev())), action);
        prop_assert_eq!(forward, backward);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(@id\\(\"[a-z]\"\\)|permit|forbid|[(){}\\[\\];,\"\\\\/=&|!.]|when|context|command|like|\\PC|\\s){0,60}") {
        let _ = PolicySet::parse(&text, &vocabulary());
    }
}

#[test]
fn a_policy_may_name_a_pattern_and_one_of_its_members() {
    let policy = parse(
        r#"
        @id("all") permit (principal in Group::"sre", action in Action::"session", resource in Target::"*.staging");
        @id("but") forbid (principal, action, resource == Target::"db-1.staging");
        "#,
    );
    let mut scene = Scene::of(&["sre"], &["env=staging"]);
    let member = |name: &str, scene: &mut Scene| {
        scene.target.id = name.parse().unwrap();
        scene.target.entry.family = Some("*.staging".parse().unwrap());
    };
    assert_eq!(scene.rule(&policy, Action::Shell), Ruling::Deny(Denial::NoPermit), "a listed target is in no pattern");
    member("web-1.staging", &mut scene);
    assert!(matches!(scene.rule(&policy, Action::Shell), Ruling::Permit(_)));
    assert_eq!(policy.sees(&scene.target), (vec!["env=staging"], vec!["*.staging"]));
    member("db-1.staging", &mut scene);
    assert!(matches!(scene.rule(&policy, Action::Shell), Ruling::Deny(Denial::Forbidden { .. })));
    assert_eq!(policy.sees(&scene.target), (vec!["env=staging"], vec!["db-1.staging", "*.staging"]));
}
