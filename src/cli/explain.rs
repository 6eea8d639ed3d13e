//! `countersign policy explain PERSON LOGIN@TARGET ACTION -c DIR`: what would be ruled, by which policy,
//! and whom it would take. Asks the same policy set as the bastion, from the directory alone.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use crate::access::action::{Action, ConsoleAction, Want};
use crate::access::people::PersonEntry;
use crate::access::policy::{Case, Question};
use crate::access::ruling::{Denial, Ruling, Terms};
use crate::access::workflow::{Stage, Workflow};
use crate::access::{Scope, Target, scope};
use crate::config::Directory;
use crate::config::asked::Imagined;
use crate::console::grammar::ExplainArgs;
use crate::console::visible;
use crate::id::{Login, Person, WorkflowName};
use crate::retention::terms::Due;
use crate::time::{Timestamp, short};

/// What is asked, resolved.
struct Asked<'a> {
    directory: &'a Directory,
    person: &'a PersonEntry,
    target: &'a Target,
    login: Login,
    args: &'a ExplainArgs,
    now: Timestamp,
}

/// An answer; `--json` prints it as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explained {
    pub person: Person,
    pub login: Option<Login>,
    pub target: String,
    pub action: String,
    /// RFC 3339, in UTC.
    pub at: String,
    pub source: IpAddr,
    pub ruling: Verdict,
    /// Permits that matched, or the forbid that says no.
    pub policies: Vec<PolicyLine>,
    pub holds: Vec<HoldLine>,
    pub terms: Option<TermsLine>,
    /// What one approval would cover, in words.
    pub scope: Option<String>,
    /// What this person may ask for on this target at that time: `shell as deploy`.
    pub instead: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Permit,
    Hold,
    Deny,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicyLine {
    pub id: String,
    /// Line of access.cedar, from 1.
    pub line: Option<usize>,
    pub message: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HoldLine {
    pub policy: PolicyLine,
    pub workflow: WorkflowName,
    /// Names as the waiting text shows them.
    pub approvers: Vec<String>,
    pub quorum: u32,
    pub signature: String,
    pub decide_within: String,
    /// Who is asked first at that time; never who asks.
    pub asked: Vec<Person>,
    /// All of them where there are several, or where one asks wider.
    pub stages: Vec<StageLine>,
    /// Those of the first stage who are not asked at that time: `carol 08-18 Berlin`.
    pub absent: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageLine {
    pub approvers: Vec<String>,
    pub quorum: u32,
    pub within: Option<String>,
    pub escalate_to: Vec<String>,
    pub escalate_after: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TermsLine {
    /// The longest window; `None` where policy sets no end.
    pub grant: Option<String>,
    /// The window without `--for`.
    pub offered: Option<String>,
    pub record: String,
    pub schedule: String,
    pub keep_at_least: String,
    pub delete_after: String,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error("there is no person {0}; there are {1}")]
    Person(Person, String),
    #[error("there is no target {0:?}; there are {1}")]
    Target(String, String),
    #[error("{0} is no login of {1}; there are {2}")]
    Login(Login, String, String),
    #[error("{0:?} is not an action; use {1}")]
    Action(String, String),
    #[error("--to is for forward-local and forward-remote, not for {0}")]
    To(String),
    #[error("--command is for exec, not for {0}")]
    Command(String),
}

/// Names of a list, the first few of them.
fn some<T: ToString>(names: impl Iterator<Item = T>) -> String {
    let mut names: Vec<String> = names.map(|name| name.to_string()).collect();
    let more = names.len().saturating_sub(8);
    names.truncate(8);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    if names.is_empty() { "none".into() } else { format!("{}{more}", names.join(", ")) }
}

/// Answers from the directory alone.
pub fn explain(directory: &Directory, args: &ExplainArgs, now: Timestamp) -> Result<Explained, ExplainError> {
    let person = directory.people.named(&args.person);
    let person = person.ok_or_else(|| ExplainError::Person(args.person.clone(), some(directory.people.iter().map(|p| &p.name))))?;
    let target = directory.targets.find(&args.place.target);
    let target =
        target.ok_or_else(|| ExplainError::Target(args.place.target.clone(), some(directory.targets.iter().map(|target| &target.id))))?;
    let login = target.account(args.place.login.as_ref(), &person.name);
    let login = login.ok_or_else(|| {
        let named = args.place.login.clone().or_else(|| person.name.as_str().parse().ok());
        let logins = some(target.logins.iter());
        named.map_or(ExplainError::Action(args.action.clone(), logins.clone()), |named| {
            ExplainError::Login(named, target.id.to_string(), logins.clone())
        })
    })?;
    let asked = Asked { directory, person, target: &target, login, args, now: args.at.unwrap_or(now) };
    let console = ConsoleAction::ALL.into_iter().find(|action| action.as_str() == args.action);
    if args.command.is_some() && args.action != "exec" {
        return Err(ExplainError::Command(args.action.clone()));
    }
    if args.to.is_some() && !["forward-local", "forward-remote"].contains(&args.action.as_str()) {
        return Err(ExplainError::To(args.action.clone()));
    }
    match (wants(args), console) {
        (Some((actions, want)), _) => Ok(asked.opening(&actions, want)),
        (None, Some(action)) => Ok(asked.console(action)),
        (None, None) => {
            let opens = ["shell", "exec", "sftp"].into_iter().chain(Action::ALL.into_iter().skip(2).map(Action::as_str));
            Err(ExplainError::Action(args.action.clone(), some(opens).to_string() + ", " + &consoles()))
        }
    }
}

fn consoles() -> String {
    ConsoleAction::ALL.map(ConsoleAction::as_str).join(", ")
}

/// The actions that all have to be allowed, and the want that a channel would have, if one has.
fn wants(args: &ExplainArgs) -> Option<(Vec<Action>, Option<Want>)> {
    let command = args.command.as_deref();
    match args.action.as_str() {
        "shell" => Some((vec![Action::Shell], Some(Want::Shell))),
        "exec" => Some((vec![Action::Exec], command.map(|command| Want::Exec(command.as_bytes().to_vec())))),
        "sftp" => Some((vec![Action::SftpRead, Action::SftpWrite], Some(Want::Sftp))),
        "sftp-read" => Some((vec![Action::SftpRead], None)),
        "sftp-write" => Some((vec![Action::SftpWrite], None)),
        "forward-local" => Some((vec![Action::ForwardLocal], args.to.clone().map(Want::ForwardLocal))),
        "forward-remote" => Some((vec![Action::ForwardRemote], args.to.clone().map(Want::ForwardRemote))),
        "agent-forward" => Some((vec![Action::AgentForward], None)),
        _ => None,
    }
}

impl Asked<'_> {
    fn rule(&self, login: &Login, (action, command, to): Case<'_>) -> Ruling {
        self.directory.policy.rule(&Question {
            person: &self.person.name,
            groups: &self.person.groups,
            target: self.target,
            login,
            action,
            command,
            to,
            source: self.args.source,
            now: self.now,
            first_time: self.args.first_time,
            mfa: self.args.mfa,
            inner_auth: true,
        })
    }

    fn opening(&self, actions: &[Action], want: Option<Want>) -> Explained {
        let rule_want = || {
            let rulings =
                actions.iter().map(|action| self.rule(&self.login, (*action, self.args.command.as_deref(), self.args.to.as_ref())));
            rulings.reduce(Ruling::meet).unwrap_or(Ruling::Deny(Denial::NoPermit))
        };
        let ruling = rule_want();
        let scope = want
            .map(|want| scope::asked_for(&want, scope::Reach::Widest, &rule_want, &|action| self.rule(&self.login, (action, None, None))));
        let scope = scope.filter(|asked| matches!(asked.ruling, Ruling::RequireApproval { .. })).map(|asked| Scope::words(&asked.scope));
        let empty = self.empty(Some(self.login.clone()));
        match ruling {
            Ruling::Deny(denial) => self.denied(&denial, Explained { instead: self.instead(), ..empty }),
            Ruling::Permit(terms) => Explained {
                ruling: Verdict::Permit,
                policies: terms.policies.iter().map(|id| self.policy(id)).collect(),
                terms: Some(self.terms(&terms, &[])),
                ..empty
            },
            Ruling::RequireApproval { terms, holds } => {
                let workflows: Vec<&Workflow> = holds.iter().filter_map(|hold| self.directory.workflows.get(&hold.workflow)).collect();
                let held: Vec<HoldLine> = holds
                    .iter()
                    .filter_map(|hold| Some(self.hold(self.directory.workflows.get(&hold.workflow)?, &hold.policy, &workflows)))
                    .collect();
                let permits = terms.policies.iter().filter(|id| !holds.iter().any(|hold| hold.policy == **id));
                Explained {
                    ruling: Verdict::Hold,
                    policies: permits.map(|id| self.policy(id)).collect(),
                    holds: held,
                    terms: Some(self.terms(&terms, &workflows)),
                    scope,
                    ..empty
                }
            }
        }
    }

    fn console(&self, action: ConsoleAction) -> Explained {
        let policy = &self.directory.policy;
        let empty = self.empty(None);
        match policy.why(&self.person.name, &self.person.groups, action, self.target, self.now) {
            Ok(policies) => Explained { ruling: Verdict::Permit, policies: policies.iter().map(|id| self.policy(id)).collect(), ..empty },
            Err(denial) => self.denied(&denial, empty),
        }
    }

    fn denied(&self, denial: &Denial, empty: Explained) -> Explained {
        let policies = match denial {
            Denial::NoPermit => Vec::new(),
            Denial::Forbidden { policy, .. } => vec![self.policy(policy)],
            Denial::Error { policy, error } => {
                vec![PolicyLine { message: Some(format!("cannot be evaluated: {error}")), ..self.policy(policy) }]
            }
        };
        Explained { policies, ..empty }
    }

    fn empty(&self, login: Option<Login>) -> Explained {
        Explained {
            person: self.person.name.clone(),
            login,
            target: self.target.id.to_string(),
            action: match &self.args.command {
                Some(command) => format!("{} {:?}", self.args.action, command),
                None if let Some(to) = &self.args.to => format!("{} {to}", self.args.action),
                None => self.args.action.clone(),
            },
            at: self.now.utc().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            source: self.args.source,
            ruling: Verdict::Deny,
            policies: Vec::new(),
            holds: Vec::new(),
            terms: None,
            scope: None,
            instead: Vec::new(),
        }
    }

    /// A policy with its place in access.cedar.
    fn policy(&self, id: &str) -> PolicyLine {
        let text = self.directory.texts.get("access.cedar").map(String::as_str).unwrap_or_default();
        let mark = format!("@id({id:?})");
        let line = text.lines().position(|line| line.contains(&mark)).map(|line| line + 1);
        PolicyLine { id: id.to_owned(), line, message: self.directory.policy.message(id).map(str::to_owned) }
    }

    fn hold(&self, workflow: &Workflow, policy: &str, all: &[&Workflow]) -> HoldLine {
        let imagined = Imagined {
            directory: self.directory,
            requester: &self.person.name,
            target: self.target,
            workflows: &[workflow],
            at: self.now,
            waited: Duration::ZERO,
        };
        let absent = imagined.turns(&[]).iter().flat_map(|turn| &turn.absent).map(|absent| absent.words(self.now)).collect();
        let stage = workflow.stages.first();
        let told = workflow.stages.len() > 1 || workflow.stages.iter().any(|stage| stage.within.is_some() || stage.escalation.is_some());
        HoldLine {
            policy: self.policy(policy),
            workflow: workflow.name.clone(),
            approvers: stage.map(Stage::approvers).unwrap_or_default(),
            quorum: stage.map_or(0, Stage::needed),
            signature: crate::access::workflow::strictest(all).as_str().to_owned(),
            decide_within: short(workflow.decide_within),
            asked: imagined.asked(&[]),
            stages: workflow.stages.iter().filter(|_| told).map(StageLine::of).collect(),
            absent,
        }
    }

    fn terms(&self, terms: &Terms, workflows: &[&Workflow]) -> TermsLine {
        let longest = workflows.iter().map(|workflow| workflow.longest_grant).chain(terms.longest_grant).min();
        let offered = workflows.iter().map(|workflow| workflow.default_grant).min();
        let offered = offered.map(|offered: Duration| longest.map_or(offered, |longest| offered.min(longest)));
        let schedules: Vec<_> = terms.retain.iter().cloned().collect();
        let labels: Vec<String> = self.target.labels.iter().cloned().collect();
        let directory = self.directory;
        let due = directory.schedules.terms(&schedules, &labels, directory.digest).ok().and_then(|terms| terms.due(self.now).ok());
        let due = due.unwrap_or_else(Due::never);
        let away = |when: Timestamp| crate::time::about(when.since(self.now));
        let (schedule, keep, delete) = (due.schedule.to_string(), away(due.keep_until), away(due.delete_by));
        TermsLine {
            grant: longest.map(short),
            offered: offered.map(short),
            record: terms.record.as_str().to_owned(),
            schedule,
            keep_at_least: keep,
            delete_after: delete,
        }
    }

    /// What else they may ask for there.
    fn instead(&self) -> Vec<String> {
        let mut instead = Vec::new();
        for login in self.target.accounts(&self.person.name) {
            for action in Action::ALL {
                match self.rule(&login, (action, None, None)) {
                    Ruling::Deny(_) => {}
                    Ruling::Permit(_) => instead.push(format!("{} as {login}", action.as_str())),
                    Ruling::RequireApproval { .. } => instead.push(format!("{} as {login} (needs approval)", action.as_str())),
                }
            }
            for (action, _, place) in self.directory.policy.cases() {
                let Some(place) = place else { continue };
                let any = instead.iter().any(|known| known.starts_with(&format!("{} as {login}", action.as_str())));
                if !any && !matches!(self.rule(&login, (action, None, Some(place))), Ruling::Deny(_)) {
                    instead.push(format!("{} {place} as {login}", action.as_str()));
                }
            }
            for command in self.directory.policy.commands() {
                let any = instead.iter().any(|known| known.starts_with(&format!("exec as {login}")));
                if !any && !matches!(self.rule(&login, (Action::Exec, Some(command), None)), Ruling::Deny(_)) {
                    instead.push(format!("exec {command:?} as {login}"));
                }
            }
        }
        instead
    }
}

/// As people read it.
pub fn text(explained: &Explained) -> String {
    let Explained { person, login, target, action, at, source, ruling, policies, holds, terms, scope, instead } = explained;
    let place = login.as_ref().map_or(target.clone(), |login| format!("{login}@{target}"));
    let mut out = format!("{person} → {place} · {} · {at} from {source}\n\n", visible(action));
    let mut row = |name: &str, text: &str| out.push_str(&format!("  {name:<12} {}\n", visible(text)));
    let by: Vec<String> = policies.iter().map(PolicyLine::words).collect();
    match ruling {
        Verdict::Permit => row("permitted", &format!("by {}", by.join(", "))),
        Verdict::Deny if by.is_empty() => row("denied", "nothing permits it; nobody is asked"),
        Verdict::Deny => row("denied", &format!("by {}; nobody is asked", by.join(", "))),
        Verdict::Hold => row("held", &format!("permitted by {}, and somebody has to agree first", by.join(", "))),
    }
    for hold in holds {
        let HoldLine { policy, workflow, approvers, quorum, signature, decide_within, asked, stages, absent } = hold;
        row("", "");
        row("hold", &policy.words());
        if stages.is_empty() {
            row("workflow", &format!("{workflow}: {quorum} of {}, signature {signature}, within {decide_within}", approvers.join(", ")));
        } else {
            row("workflow", &format!("{workflow}: signature {signature}, within {decide_within}"));
        }
        for (n, stage) in stages.iter().enumerate() {
            row(&format!("stage {}", n + 1), &stage.words());
        }
        let names: Vec<&str> = asked.iter().map(Person::as_str).collect();
        let absent = if absent.is_empty() { String::new() } else { format!(" ({})", absent.join(", ")) };
        let names = if names.is_empty() { "nobody can decide this then".to_owned() } else { names.join(", ") };
        row("asked", &format!("{names}{absent}"));
    }
    if terms.is_some() || !instead.is_empty() || scope.is_some() {
        row("", "");
    }
    if let Some(scope) = scope {
        row("covers", scope);
    }
    if let Some(TermsLine { grant, offered, record, schedule, keep_at_least, delete_after }) = terms {
        match (grant, offered) {
            (Some(grant), Some(offered)) => row("window", &format!("{offered}, at most {grant}")),
            (Some(grant), None) => row("window", &format!("at most {grant}")),
            (None, _) => row("window", "no end"),
        }
        row("recorded", &format!("{record}; {schedule}: kept {keep_at_least}, gone after {delete_after}"));
    }
    if !instead.is_empty() {
        row("may there", &instead.join(", "));
    }
    // A row without words is a blank line.
    out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

impl StageLine {
    fn of(stage: &Stage) -> Self {
        let escalation = stage.escalation.as_ref();
        Self {
            approvers: stage.approvers(),
            quorum: stage.needed(),
            within: stage.within.map(short),
            escalate_to: escalation.map(|escalation| escalation.to.iter().map(ToString::to_string).collect()).unwrap_or_default(),
            escalate_after: escalation.and_then(|escalation| escalation.after).map(short),
        }
    }

    /// `1 of sre-leads, within 10m; heads asked too after 5m`
    fn words(&self) -> String {
        let within = self.within.as_ref().map(|within| format!(", within {within}")).unwrap_or_default();
        let after = match &self.escalate_after {
            Some(after) => format!(" after {after}, at once where too few are in reach"),
            None => " where too few are in reach".into(),
        };
        let wider = if self.escalate_to.is_empty() { String::new() } else { format!("; {} asked too{after}", self.escalate_to.join(", ")) };
        format!("{} of {}{within}{wider}", self.quorum, self.approvers.join(", "))
    }
}

impl PolicyLine {
    /// `prod-needs-a-lead (access.cedar:65): production: one lead must agree`
    fn words(&self) -> String {
        let line = self.line.map(|line| format!(" (access.cedar:{line})")).unwrap_or_default();
        let message = self.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        format!("{}{line}{message}", self.id)
    }
}
