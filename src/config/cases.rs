//! `policies/cases/*.toml`: the policies' own tests. Each case is a question and the expected ruling.
//!
//! ```toml
//! [[case]]
//! person = "alice"
//! action = "shell"            # shell exec sftp sftp-read sftp-write forward-local forward-remote agent-forward, or a console action
//! target = "web-1"
//! login  = "deploy"           # not for console actions
//! expect = "hold:sre-lead"    # permit, deny, or hold:WORKFLOW[,WORKFLOW]
//! by     = "prod-needs-a-lead"
//! ```
//! Optional: `command`, `to` (HOST:PORT of a forward), `at` (RFC 3339; else a Monday noon), `source`, `first_time`, `mfa`, `inner_auth`.
//!
//! Of a hold also: `asked = ["bob"]`, who is asked then, once `yes = ["carol"]` have agreed and after it
//! has `waited = "10m"`; `enough = true`, whether those in `yes` are.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::asked::Imagined;
use super::fields::{Fields, File};
use super::problem::{Findings, Problem, Source};
use super::{Directory, files};
use crate::access::action::{Action, ConsoleAction};
use crate::access::endpoint::Endpoint;
use crate::access::people::PersonEntry;
use crate::access::policy::Question;
use crate::access::ruling::{Denial, Ruling};
use crate::access::target::Target;
use crate::access::workflow::Workflow;
use crate::id::{Login, Person, WorkflowName};
use crate::time::Timestamp;

/// Monday, 5 January 2026, noon UTC.
const MONDAY_NOON: Timestamp = Timestamp::from_micros(1_767_614_400_000_000);

/// One case that was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub file: PathBuf,
    /// Of its `[[case]]`, from 1.
    pub line: usize,
    /// `alice shell deploy@web-1`; empty where the case cannot be read.
    pub what: String,
    /// In the words of `expect`.
    pub expected: String,
    pub is: String,
    /// The policies that ruled so.
    pub by: Vec<String>,
    /// Nothing is a pass.
    pub problems: Vec<Problem>,
}

/// Runs every case of a directory; returns each, and what is wrong with the files around them.
pub fn run_each(directory: &Directory) -> (Vec<Ran>, Vec<Problem>) {
    let found = Findings::default();
    let mut ran = Vec::new();
    let dir = directory.root.join("policies/cases");
    let mut paths: Vec<_> = match std::fs::read_dir(&dir) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => Vec::new(),
    };
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        match read(path) {
            Ok(source) => {
                let before = found.errors();
                let mut cases = File { source: &source, found: &found }.parse(|file, fields| run_file(directory, file, fields));
                // Of what is not TOML only that is said.
                let said = found.errors_since(before);
                cases.iter_mut().for_each(|case| case.problems.retain(|problem| said.contains(problem)));
                ran.extend(cases);
            }
            Err(problem) => found.error(problem),
        }
    }
    let of_cases: Vec<&Problem> = ran.iter().flat_map(|ran| &ran.problems).collect();
    let around = found.into_sorted().0.into_iter().filter(|problem| !of_cases.contains(&problem)).collect();
    (ran, around)
}

/// Runs every case of a directory; returns what is wrong, and how many cases there were.
pub fn run_counted(directory: &Directory) -> (Vec<Problem>, usize) {
    let (ran, mut problems) = run_each(directory);
    let count = ran.len();
    problems.extend(ran.into_iter().flat_map(|ran| ran.problems));
    problems.sort();
    (problems, count)
}

/// Runs every case of a directory; an empty list is a pass.
pub fn run(directory: &Directory) -> Vec<Problem> {
    run_counted(directory).0
}

fn read(path: &Path) -> Result<Source, Problem> {
    let text = String::from_utf8(files::read(path)?).map_err(|_| Problem::whole(path, "it is not UTF-8", "save the file as UTF-8"))?;
    Ok(Source::new(path.to_owned(), text))
}

fn run_file(directory: &Directory, file: File<'_>, mut fields: Fields<'_>) -> Vec<Ran> {
    let cases = fields.list_of_tables("case");
    fields.finish();
    let mut all = Vec::new();
    for case in cases {
        let place = file.source.problem(case.offset, "", "");
        let before = file.found.errors();
        let mut ran = Ran {
            file: place.file,
            line: place.line,
            what: String::new(),
            expected: String::new(),
            is: String::new(),
            by: Vec::new(),
            problems: Vec::new(),
        };
        if let Some(case) = Case::read(directory, file, case) {
            ran.what = case.words();
            ran.expected = words(case.expect.get_ref());
            if let Some((is, by)) = case.check(directory, file) {
                ran.is = words(&is);
                ran.by = by;
            }
        }
        ran.problems = file.found.errors_since(before);
        all.push(ran);
    }
    all
}

/// What a case asks about.
#[derive(Clone, Copy)]
enum Asks {
    Open(&'static [Action]),
    Console(ConsoleAction),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    Permit,
    Deny,
    Hold(BTreeSet<String>),
}

struct Case<'a> {
    person: &'a PersonEntry,
    asks: Asks,
    target: Arc<Target>,
    login: Option<Login>,
    command: Option<String>,
    to: Option<Endpoint>,
    now: Timestamp,
    source: IpAddr,
    first_time: bool,
    mfa: bool,
    inner_auth: bool,
    expect: Spanned<Expected>,
    by: Vec<Spanned<String>>,
    hold: OfHold,
}

/// What a case says of the people whom a hold asks.
struct OfHold {
    yes: Vec<Spanned<Person>>,
    waited: Duration,
    asked: Option<(usize, Vec<Person>)>,
    enough: Option<(usize, bool)>,
}

impl<'a> Case<'a> {
    fn read(directory: &'a Directory, file: File<'_>, mut fields: Fields<'_>) -> Option<Self> {
        let person = fields.word::<Person>("person");
        let person = fields.required("person", person, "\"alice\"").and_then(|name| {
            let person = directory.people.named(name.get_ref());
            if person.is_none() {
                file.error(name.span().start, format!("there is no person {}", name.get_ref()), "use one of people.toml");
            }
            person
        });
        let asks = fields.string("action");
        let asks = fields.required("action", asks, "\"shell\"").and_then(|action| asks_about(file, &action));
        let target = fields.string("target");
        let target = fields.required("target", target, "\"web-1\"").and_then(|name| {
            let target = directory.targets.find(name.get_ref());
            if target.is_none() {
                file.error(name.span().start, format!("there is no target {:?}", name.get_ref()), "use one of targets.toml");
            }
            target
        });
        let login = fields.word::<Login>("login").map(Spanned::into_inner);
        let login = if matches!(asks, Some(Asks::Open(_))) { fields.required("login", login, "\"deploy\"") } else { login };
        let expect = fields.string("expect");
        let expect = fields.required("expect", expect, "\"permit\"").and_then(|text| expected(file, &text));
        let by = if fields.is_list("by") { fields.strings("by") } else { fields.string("by").into_iter().collect() };
        let by: Vec<Spanned<String>> = by.into_iter().map(|id| Spanned::new(id.span(), (*id.get_ref()).to_owned())).collect();
        for id in by.iter().filter(|id| !directory.policy.ids().any(|known| known == id.get_ref())) {
            file.error(id.span().start, format!("there is no policy with @id({:?})", id.get_ref()), "use one of access.cedar");
        }
        let hold = OfHold::read(directory, file, &mut fields);
        let case = Self {
            hold,
            command: fields.string("command").map(|text| (*text.get_ref()).to_owned()),
            to: fields.word("to").map(Spanned::into_inner),
            now: time(file, &mut fields),
            source: fields.word("source").map_or(IpAddr::from([192, 0, 2, 1]), Spanned::into_inner),
            first_time: fields.boolean("first_time").unwrap_or(false),
            mfa: fields.boolean("mfa").unwrap_or(false),
            inner_auth: fields.boolean("inner_auth").unwrap_or(true),
            person: person?,
            asks: asks?,
            target: target?,
            login,
            expect: expect?,
            by,
        };
        fields.finish();
        Some(case)
    }

    /// `hugo exec "uptime" deploy@web-1`
    fn words(&self) -> String {
        let action = match self.asks {
            Asks::Open(actions) => actions.iter().map(|action| action.as_str()).collect::<Vec<_>>().join("+"),
            Asks::Console(action) => action.as_str().to_owned(),
        };
        let command = self.command.as_ref().map(|command| format!(" {command:?}")).unwrap_or_default();
        let to = self.to.as_ref().map(|to| format!(" {to}")).unwrap_or_default();
        let place = self.login.as_ref().map_or(self.target.id.to_string(), |login| format!("{login}@{}", self.target.id));
        format!("{} {action}{command}{to} {place}", self.person.name)
    }

    /// Asks the policies and compares; returns what is ruled and by which policies.
    fn check(&self, directory: &Directory, file: File<'_>) -> Option<(Expected, Vec<String>)> {
        let (is, by) = match self.asks {
            Asks::Console(action) => {
                let may = directory.policy.may(&self.person.name, &self.person.groups, action, &self.target, self.now);
                (if may { Expected::Permit } else { Expected::Deny }, None)
            }
            Asks::Open(actions) => match actions.iter().filter_map(|action| self.rule(directory, *action)).reduce(Ruling::meet) {
                Some(ruling) => judged(&ruling),
                None => return None,
            },
        };
        let ruled = Some((is.clone(), by.clone().unwrap_or_default()));
        self.check_hold(directory, file, &is);
        let at = self.expect.span().start;
        if is != *self.expect.get_ref() {
            let reason =
                by.as_ref().map(|by| by.join(", ")).filter(|by| !by.is_empty()).map(|by| format!(" (by {by})")).unwrap_or_default();
            file.error(
                at,
                format!("expected {}, is {}{reason}", words(self.expect.get_ref()), words(&is)),
                "correct the policies or the case",
            );
            return ruled;
        }
        for id in &self.by {
            match &by {
                Some(by) if by.contains(id.get_ref()) => {}
                Some(by) => {
                    let why = if by.is_empty() { "no policy".to_owned() } else { by.join(", ") };
                    file.error(
                        id.span().start,
                        format!("expected to be ruled by {}, is by {why}", id.get_ref()),
                        "correct the policies or the case",
                    );
                }
                None => file.error(id.span().start, "by has no meaning for a console action", "remove it"),
            }
        }
        ruled
    }

    /// Compares whom the holds ask, and what they would amount to.
    fn check_hold(&self, directory: &Directory, file: File<'_>, is: &Expected) {
        let OfHold { yes, waited, asked, enough } = &self.hold;
        let place = asked.as_ref().map(|(at, _)| *at).or(enough.map(|(at, _)| at));
        let Some(place) = place.or(yes.first().map(|yes| yes.span().start)) else { return };
        let Expected::Hold(names) = is else {
            file.error(place, "nobody is asked: no hold applies", "remove asked, yes and enough, or expect a hold");
            return;
        };
        let workflows: Vec<&Workflow> =
            names.iter().filter_map(|name| directory.workflows.get(&name.parse::<WorkflowName>().ok()?)).collect();
        let imagined = Imagined {
            directory,
            requester: &self.person.name,
            target: &self.target,
            workflows: &workflows,
            at: self.now,
            waited: *waited,
        };
        let yes: Vec<Person> = yes.iter().map(|yes| yes.get_ref().clone()).collect();
        if let Some((at, expected)) = asked {
            let is = imagined.asked(&yes);
            if is != *expected {
                let list = |people: &[Person]| match people {
                    [] => "nobody".to_owned(),
                    people => people.iter().map(Person::as_str).collect::<Vec<_>>().join(", "),
                };
                let what = format!("expected {} to be asked, is {}", list(expected), list(&is));
                file.error(*at, what, "correct the policies or the case");
            }
        }
        if let Some((at, expected)) = enough {
            let is = imagined.is_enough(&yes);
            if is != *expected {
                let what = format!("expected enough = {expected}, is {is}");
                file.error(*at, what, "correct the policies or the case");
            }
        }
    }

    fn rule(&self, directory: &Directory, action: Action) -> Option<Ruling> {
        Some(directory.policy.rule(&Question {
            person: &self.person.name,
            groups: &self.person.groups,
            target: &self.target,
            login: self.login.as_ref()?,
            action,
            command: self.command.as_deref(),
            to: self.to.as_ref(),
            source: self.source,
            now: self.now,
            first_time: self.first_time,
            mfa: self.mfa,
            inner_auth: self.inner_auth,
        }))
    }
}

impl OfHold {
    fn read(directory: &Directory, file: File<'_>, fields: &mut Fields<'_>) -> Self {
        let (has_asked, has_enough) = (fields.has("asked"), fields.has("enough"));
        let known = |people: Vec<Spanned<Person>>| {
            for person in people.iter().filter(|person| directory.people.named(person.get_ref()).is_none()) {
                file.error(person.span().start, format!("there is no person {}", person.get_ref()), "use one of people.toml");
            }
            people
        };
        let yes = known(fields.words("yes"));
        let mut asked: Vec<Person> = known(fields.words("asked")).into_iter().map(Spanned::into_inner).collect();
        asked.sort();
        let enough = fields.boolean("enough").filter(|_| has_enough);
        Self {
            yes,
            waited: fields.duration("waited").unwrap_or_default(),
            asked: has_asked.then(|| (fields.place("asked"), asked)),
            enough: enough.map(|enough| (fields.place("enough"), enough)),
        }
    }
}

fn asks_about(file: File<'_>, action: &Spanned<&str>) -> Option<Asks> {
    let opens: [(&str, &'static [Action]); 8] = [
        ("shell", &[Action::Shell]),
        ("exec", &[Action::Exec]),
        ("sftp", &[Action::SftpRead, Action::SftpWrite]),
        ("sftp-read", &[Action::SftpRead]),
        ("sftp-write", &[Action::SftpWrite]),
        ("forward-local", &[Action::ForwardLocal]),
        ("forward-remote", &[Action::ForwardRemote]),
        ("agent-forward", &[Action::AgentForward]),
    ];
    let open = opens.iter().find(|(name, _)| name == action.get_ref()).map(|(_, actions)| Asks::Open(actions));
    let console = || ConsoleAction::ALL.into_iter().find(|console| console.as_str() == *action.get_ref()).map(Asks::Console);
    let asks = open.or_else(console);
    if asks.is_none() {
        let known = opens.iter().map(|(name, _)| *name).chain(ConsoleAction::ALL.iter().map(|action| action.as_str()));
        let known: Vec<&str> = known.collect();
        file.error(action.span().start, format!("{:?} is not an action", action.get_ref()), format!("use {}", known.join(", ")));
    }
    asks
}

fn expected(file: File<'_>, text: &Spanned<&str>) -> Option<Spanned<Expected>> {
    let expected = match *text.get_ref() {
        "permit" => Expected::Permit,
        "deny" => Expected::Deny,
        other => match other.strip_prefix("hold:") {
            Some(names) => Expected::Hold(names.split(',').map(|name| name.trim().to_owned()).collect()),
            None => {
                file.error(text.span().start, format!("{other:?} is not a ruling"), "use permit, deny or hold:WORKFLOW[,WORKFLOW]");
                return None;
            }
        },
    };
    Some(Spanned::new(text.span(), expected))
}

fn time(file: File<'_>, fields: &mut Fields<'_>) -> Timestamp {
    let Some(text) = fields.string("at") else { return MONDAY_NOON };
    match chrono::DateTime::parse_from_rfc3339(text.get_ref()) {
        Ok(at) => Timestamp::from_micros(at.timestamp_micros()),
        Err(_) => {
            file.error(text.span().start, format!("{:?} is not a time", text.get_ref()), "write \"2026-01-05T03:00:00Z\"");
            MONDAY_NOON
        }
    }
}

/// The ruling in a case's words, and the policies that made it.
fn judged(ruling: &Ruling) -> (Expected, Option<Vec<String>>) {
    match ruling {
        Ruling::Permit(terms) => (Expected::Permit, Some(terms.policies.iter().cloned().collect())),
        Ruling::RequireApproval { terms, holds } => {
            let workflows = holds.iter().map(|hold| hold.workflow.to_string()).collect();
            (Expected::Hold(workflows), Some(terms.policies.iter().cloned().collect()))
        }
        Ruling::Deny(Denial::NoPermit) => (Expected::Deny, Some(Vec::new())),
        Ruling::Deny(Denial::Forbidden { policy, .. } | Denial::Error { policy, .. }) => (Expected::Deny, Some(vec![policy.clone()])),
    }
}

fn words(expected: &Expected) -> String {
    match expected {
        Expected::Permit => "permit".into(),
        Expected::Deny => "deny".into(),
        Expected::Hold(workflows) => format!("hold:{}", workflows.iter().map(String::as_str).collect::<Vec<_>>().join(",")),
    }
}
