//! What policy knew when something was first asked, besides who wants what where. After a reload the
//! same question is asked again with it (**D policy change**): an hour that has passed since is no change
//! of policy.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::certificate::Issued;
use super::policy::Question;
use super::principal::Principal;
use super::{Action, People, Target};
use crate::id::{Login, Person, TargetId};
use crate::time::Timestamp;

/// The context of an opening.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpeningContext {
    pub source: IpAddr,
    #[serde(rename = "at_us")]
    pub at: Timestamp,
    /// Of the targets that are meant, those that the person had opened before.
    pub opened: Vec<TargetId>,
    pub mfa: bool,
    pub inner_auth: bool,
    /// The certificate that named the person, where no list of keys did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Box<Issued>>,
}

impl OpeningContext {
    pub fn of(who: &Principal, opened: Vec<TargetId>, at: Timestamp) -> Self {
        let certificate = who.key().certificate().map(|certificate| Box::new(Issued::of(certificate)));
        Self { source: who.source(), at, opened, mfa: who.second_factor().is_some(), inner_auth: true, certificate }
    }

    /// The question about one action on one target, with the groups that the person is in by `people`;
    /// `None` if there is no such person.
    pub fn question<'a>(
        &'a self,
        people: &'a People,
        person: &Person,
        (target, login): (&'a Target, &'a Login),
        action: Action,
        command: Option<&'a str>,
    ) -> Option<Question<'a>> {
        let entry = people.named(person)?;
        Some(Question {
            person: &entry.name,
            groups: &entry.groups,
            target,
            login,
            action,
            command,
            to: None,
            source: self.source,
            now: self.at,
            first_time: !self.opened.contains(&target.id),
            mfa: self.mfa,
            inner_auth: self.inner_auth,
        })
    }
}
