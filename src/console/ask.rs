//! What a request made ahead of connecting asks for: today's rulings over every target it names.
//! Pure: who, where and what in, an ask or the reason for none out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::grammar::{Destination, RequestArgs};
use super::reply::{Part, Would};
use crate::access::policy::There;
use crate::access::preset::NoPreset;
use crate::access::request::MAX_TARGETS;
use crate::access::ruling::{Hold, Terms};
use crate::access::scope::{Asked, Reach};
use crate::access::{Class, Principal, Ruling, Scope, Target, Want};
use crate::config::Directory;
use crate::id::{Login, TargetId, WorkflowName};
use crate::time::Timestamp;

/// What has to be approved.
#[derive(Debug)]
pub struct Ahead {
    pub targets: Vec<Arc<Target>>,
    pub login: Login,
    pub scope: Scope,
    pub holds: Vec<Hold>,
    pub terms: Terms,
    pub commands: Vec<Vec<u8>>,
    pub stdin: bool,
    /// Named too, but policy lets the person in there without asking anybody.
    pub free: Vec<TargetId>,
    /// Which targets need which workflows, where not all need the same.
    pub parts: Vec<Part>,
}

/// Why nothing is asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Nothing {
    /// Unknown, or nothing that this person may ask for: one answer for both, and one for all of them.
    NotYours(Vec<Destination>),
    /// Policy asks nobody.
    Free(Vec<Destination>),
    /// The targets' default logins differ.
    Logins(Login, Login),
    /// More than one request may name.
    TooMany(usize),
    Preset(NoPreset),
    /// What of a preset is not theirs, on the first target where something is not, and on how many it is so.
    Beyond(TargetId, Vec<Class>, usize),
}

/// Rules on every target at once; a pattern stands for those of the person's own that it fits now.
/// `opened` are the targets that the person has opened before.
pub fn ahead(
    directory: &Directory,
    who: &Principal,
    args: &RequestArgs,
    opened: &BTreeSet<TargetId>,
    now: Timestamp,
) -> Result<Ahead, Nothing> {
    let preset = args.preset.as_deref().map(|name| directory.presets.named(name)).transpose().map_err(Nothing::Preset)?;
    let want = args.exec.as_ref().map_or(Want::Shell, |command| Want::Exec(command.clone().into_bytes()));
    let mut rulings = Rulings { directory, who, want: &want, preset, opened, now, known: BTreeMap::new(), beyond: Vec::new() };
    let (mut found, mut not_yours): (Vec<Found>, Vec<Destination>) = (Vec::new(), Vec::new());
    for named in &args.targets {
        let before = found.len();
        match named.pattern() {
            Some(pattern) => {
                let fits = |target: &&Arc<Target>| std::iter::once(&target.id).chain(&target.aliases).any(|name| pattern.matches(name));
                let own = directory.targets.iter().filter(fits).filter_map(|target| rulings.on(target.clone(), named.login.as_ref()));
                found.extend(own);
            }
            None => {
                let target = directory.targets.find(&named.target);
                found.extend(target.and_then(|target| rulings.on(target, named.login.as_ref())));
            }
        }
        if found.len() == before {
            not_yours.push(named.clone());
        }
    }
    rulings.beyond.sort();
    if let Some((target, classes)) = rulings.beyond.first().cloned() {
        return Err(Nothing::Beyond(target, classes, rulings.beyond.len()));
    }
    if !not_yours.is_empty() {
        return Err(Nothing::NotYours(not_yours));
    }
    found.sort_by(|a, b| a.target.id.cmp(&b.target.id));
    // One target under two names is asked for once.
    found.dedup_by(|a, b| a.target.id == b.target.id && a.login == b.login);
    if found.len() > MAX_TARGETS {
        return Err(Nothing::TooMany(found.len()));
    }
    let first = found.first().map(|one| one.login.clone());
    if let Some((one, other)) = first.and_then(|one| Some((one.clone(), found.iter().find(|other| other.login != one)?.login.clone()))) {
        return Err(Nothing::Logins(one, other));
    }
    together(found, &want, preset.is_some())
}

/// One target with what policy says there.
struct Found {
    target: Arc<Target>,
    login: Login,
    asked: Asked,
}

/// Rulings on targets, one for all that policy cannot tell apart.
struct Rulings<'a> {
    directory: &'a Directory,
    who: &'a Principal,
    want: &'a Want,
    preset: Option<&'a Scope>,
    opened: &'a BTreeSet<TargetId>,
    now: Timestamp,
    known: BTreeMap<Alike, Asked>,
    /// Own targets where something of the preset is not this person's.
    beyond: Vec<(TargetId, Vec<Class>)>,
}

/// What policy can see of a target, the login, and whether it is the first time.
type Alike = (Vec<String>, Vec<String>, Login, bool);

impl Rulings<'_> {
    /// Nothing where the person may ask for nothing.
    fn on(&mut self, target: Arc<Target>, login: Option<&Login>) -> Option<Found> {
        let Self { directory, who, want, preset, opened, now, known, beyond } = self;
        let login = target.account(login, who.person())?;
        let first_time = !opened.contains(&target.id);
        let (labels, names) = directory.policy.sees(&target);
        let own = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let there = There { who, target: &target, login: &login, first_time, now: *now };
        let asked = known.entry((own(labels), own(names), login.clone(), first_time)).or_insert_with(|| {
            if let Some(scope) = preset {
                let asked = directory.policy.ask_whole(&there, scope, None, false);
                return match asked.ruling {
                    Ruling::Deny(_) => directory.policy.ask_whole(&there, scope, None, true),
                    _ => asked,
                };
            }
            // `--exec` asks for exactly its bytes, whatever a shell would be ruled (**D scope**).
            let asked = directory.policy.ask(&there, want, Reach::Exact);
            match asked.ruling {
                // The second factor is given when they come; what is asked ahead is ruled again then.
                Ruling::Deny(_) => directory.policy.ask_with_second_factor(&there, want, Reach::Exact),
                _ => asked,
            }
        });
        let asked = asked.clone();
        if let (Some(scope), Ruling::Deny(_)) = (preset, &asked.ruling) {
            let denied = directory.policy.denied_of(&there, scope);
            // Where nothing of it is theirs, neither may the target be.
            if denied.len() < scope.0.len() {
                beyond.push((target.id.clone(), denied));
            }
        }
        (!matches!(asked.ruling, Ruling::Deny(_))).then_some(Found { target, login, asked })
    }
}

/// One ask over all: what all of them share, what any of them demands.
fn together(found: Vec<Found>, want: &Want, preset: bool) -> Result<Ahead, Nothing> {
    let (mut ahead, mut free): (Option<Ahead>, Vec<(Login, TargetId)>) = (None, Vec::new());
    let mut parts: BTreeMap<Vec<WorkflowName>, Vec<TargetId>> = BTreeMap::new();
    for Found { target, login, asked } in found {
        let workflows = asked.ruling.workflows().into_iter().cloned().collect();
        match asked.ruling {
            // Has been left out before.
            Ruling::Deny(_) => {}
            Ruling::Permit(_) => free.push((login, target.id.clone())),
            Ruling::RequireApproval { terms, holds } => {
                parts.entry(workflows).or_default().push(target.id.clone());
                ahead = Some(match ahead {
                    None => Ahead {
                        targets: vec![target],
                        stdin: preset || asked.scope.0.len() > 1 || *want == Want::Shell,
                        commands: if preset { Vec::new() } else { asked.scope.exact_commands(want) },
                        login,
                        scope: asked.scope,
                        holds,
                        terms,
                        free: Vec::new(),
                        parts: Vec::new(),
                    },
                    Some(so_far) => so_far.and(target, asked.scope, holds, terms),
                });
            }
        }
    }
    let Some(mut ahead) = ahead else {
        let named = free.into_iter().map(|(login, id)| Destination { login: Some(login), target: id.to_string() });
        return Err(Nothing::Free(named.collect()));
    };
    ahead.free = free.into_iter().map(|(_, id)| id).collect();
    if parts.len() > 1 {
        ahead.parts = parts.into_iter().map(|(workflows, targets)| Part { workflows, targets }).collect();
    }
    Ok(ahead)
}

impl Would {
    pub fn of(ahead: &Ahead) -> Self {
        let workflows: BTreeSet<&WorkflowName> = ahead.holds.iter().map(|hold| &hold.workflow).collect();
        Self {
            login: ahead.login.clone(),
            targets: ahead.targets.iter().map(|target| target.id.clone()).collect(),
            scope: ahead.scope.words(),
            workflows: workflows.into_iter().cloned().collect(),
            free: ahead.free.clone(),
            parts: ahead.parts.clone(),
        }
    }
}

impl Ahead {
    /// The same ask on one more target: the scope that both share, what both demand.
    fn and(mut self, target: Arc<Target>, scope: Scope, holds: Vec<Hold>, terms: Terms) -> Self {
        self.targets.push(target);
        self.scope = Scope(self.scope.0.intersection(&scope.0).cloned().collect());
        self.holds = self.holds.into_iter().chain(holds).collect::<BTreeSet<Hold>>().into_iter().collect();
        self.terms = self.terms.meet(terms);
        self
    }
}
