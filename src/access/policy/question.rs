//! One question, as Cedar's request and entities: made fresh each time, from the directory's own words.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression, Schema};
use chrono::{Datelike, Timelike};

use super::Case;
use crate::access::action::{Action, ConsoleAction};
use crate::access::endpoint::Endpoint;
use crate::access::family::TargetPattern;
use crate::access::principal::Principal;
use crate::access::target::Target;
use crate::id::{Group, Login, Person, TargetId};
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
    /// Of a forward: where it leads or listens.
    pub to: Option<&'a Endpoint>,
    pub source: IpAddr,
    pub now: Timestamp,
    /// Nobody has opened this target as this person before.
    pub first_time: bool,
    /// Whether they gave their second factor on this connection, or on the one that carries it.
    pub mfa: bool,
    /// Whether the person proved their key on the inner connection too (always true so far).
    pub inner_auth: bool,
}

/// Who wants something, where, as whom, when: what every question about one channel shares.
#[derive(Debug, Clone, Copy)]
pub struct There<'a> {
    pub who: &'a Principal,
    pub target: &'a Target,
    pub login: &'a Login,
    pub first_time: bool,
    pub now: Timestamp,
}

impl<'a> There<'a> {
    pub fn about(&self, (action, command, to): Case<'a>) -> Question<'a> {
        Question { to, ..self.question(action, command) }
    }

    pub fn question(&self, action: Action, command: Option<&'a str>) -> Question<'a> {
        Question {
            person: self.who.person(),
            groups: self.who.groups(),
            target: self.target,
            login: self.login,
            action,
            command,
            to: None,
            source: self.who.source(),
            now: self.now,
            first_time: self.first_time,
            mfa: self.who.second_factor().is_some(),
            inner_auth: true,
        }
    }
}

pub(super) static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let (schema, _) = Schema::from_cedarschema_str(include_str!("countersign.cedarschema")).expect("our own schema is valid (tested)");
    schema
});

pub(super) static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let name = |name| EntityTypeName::from_str(name).expect("our own type names are valid (tested)");
    Types { person: name("Person"), group: name("Group"), target: name("Target"), label: name("Label"), action: name("Action") }
});

pub(super) struct Types {
    pub person: EntityTypeName,
    pub group: EntityTypeName,
    pub target: EntityTypeName,
    pub label: EntityTypeName,
    pub action: EntityTypeName,
}

/// A question in Cedar's terms.
pub(super) struct Asked {
    pub request: Request,
    pub entities: Entities,
}

impl Question<'_> {
    pub(super) fn ask(&self) -> Result<Asked, String> {
        let boolean = |name: &str, value| (name.to_owned(), RestrictedExpression::new_bool(value));
        let mut context = clock(self.now);
        context.push(("login".into(), RestrictedExpression::new_string(self.login.to_string())));
        context.push(("source".into(), RestrictedExpression::new_ip(self.source.to_canonical().to_string())));
        context.extend([boolean("first_time", self.first_time), boolean("mfa", self.mfa), boolean("inner_auth", self.inner_auth)]);
        if let (Action::Exec, Some(command)) = (self.action, self.command) {
            context.push(("command".into(), RestrictedExpression::new_string(command.to_owned())));
        }
        if let Some(to) = self.to.filter(|_| self.action.is_forward()) {
            context.extend(to.host().map(|host| ("to".to_owned(), RestrictedExpression::new_string(host.to_owned()))));
            context.extend(to.address().map(|address| ("address".to_owned(), RestrictedExpression::new_ip(address.to_string()))));
            context.extend(to.port().map(|port| ("port".to_owned(), RestrictedExpression::new_long(port.into()))));
        }
        ask(self.person, self.groups, self.action.as_str(), Seen::of(self.target), context)
    }
}

pub(super) fn ask_console(
    person: &Person,
    groups: &[Group],
    action: ConsoleAction,
    target: Seen<'_>,
    now: Timestamp,
) -> Result<Asked, String> {
    ask(person, groups, action.as_str(), target, clock(now))
}

/// A target as policy sees it: its name, its labels, and the patterns that it was derived from.
pub(super) struct Seen<'a> {
    pub id: &'a TargetId,
    pub labels: &'a BTreeSet<String>,
    pub families: Vec<&'a str>,
}

impl<'a> Seen<'a> {
    pub(super) fn of(target: &'a Target) -> Self {
        Self { id: &target.id, labels: &target.labels, families: target.entry.family.iter().map(TargetPattern::as_str).collect() }
    }
}

/// Hour, minute and weekday, in UTC.
fn clock(now: Timestamp) -> Vec<(String, RestrictedExpression)> {
    let utc = now.utc();
    let long = |name: &str, value: u32| (name.to_owned(), RestrictedExpression::new_long(value.into()));
    vec![long("hour", utc.hour()), long("minute", utc.minute()), long("weekday", utc.weekday().number_from_monday())]
}

fn ask(
    person: &Person,
    groups: &[Group],
    action: &str,
    target: Seen<'_>,
    context: Vec<(String, RestrictedExpression)>,
) -> Result<Asked, String> {
    let principal = uid(&TYPES.person, person.as_str());
    let resource = uid(&TYPES.target, target.id.as_str());
    let groups: HashSet<EntityUid> = groups.iter().map(|group| uid(&TYPES.group, group.as_str())).collect();
    let mut above: HashSet<EntityUid> = target.labels.iter().map(|label| uid(&TYPES.label, label)).collect();
    above.extend(target.families.iter().map(|pattern| uid(&TYPES.target, pattern)));
    let labels = above;
    let above: Vec<Entity> = groups.iter().chain(&labels).map(|of| Entity::new_no_attrs(of.clone(), HashSet::new())).collect();
    let both = [Entity::new_no_attrs(principal.clone(), groups), Entity::new_no_attrs(resource.clone(), labels)];
    let entities = Entities::from_entities(above.into_iter().chain(both), Some(&SCHEMA)).map_err(|error| error.to_string())?;
    let context = Context::from_pairs(context).map_err(|error| error.to_string())?;
    let request =
        Request::new(principal, uid(&TYPES.action, action), resource, context, Some(&SCHEMA)).map_err(|error| error.to_string())?;
    Ok(Asked { request, entities })
}

fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}
