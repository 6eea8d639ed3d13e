//! People who are not there: each says so of themselves, and may name who is asked in their place. That
//! gives nobody a right: whoever stands in has to be one who may decide there anyway.

use serde_json::json;

use super::{ApprovalError, Approvals};
use crate::access::Principal;
use crate::access::workflow::Away;
use crate::audit::Event;
use crate::config::Directory;
use crate::id::Person;
use crate::store::StoreError;
use crate::time::Timestamp;

/// Longer is no absence: an operator takes somebody out of people.toml.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(366 * 86_400);

#[derive(Debug, thiserror::Error)]
pub enum AwayError {
    #[error("that time is over")]
    Over,
    #[error("that is more than a year ahead; an operator takes you out of people.toml")]
    Far,
    #[error("there is no person {0}")]
    Nobody(Person),
    #[error("you cannot stand in for yourself")]
    Self_,
    #[error("{0} may decide nothing that you may: nobody can be asked in your place who is not asked anyway")]
    NotEligible(Person),
    #[error("you are not away")]
    NotAway,
    #[error("the state cannot be read or written")]
    Store(#[from] StoreError),
}

impl Approvals {
    /// Says that this person is away from now on.
    pub async fn go_away(&self, who: &Principal, until: Timestamp, instead: Option<Person>, now: Timestamp) -> Result<Away, AwayError> {
        if until <= now {
            return Err(AwayError::Over);
        }
        if until.since(now) > LONGEST {
            return Err(AwayError::Far);
        }
        if let Some(other) = &instead {
            stands_in(&self.directory(), who, other)?;
        }
        let away = Away { person: who.person().clone(), since: now, until, instead };
        let facts = json!({ "by": away.person, "key": who.fingerprint(), "until_us": until, "instead": away.instead });
        let (written, event) = (away.clone(), Event::new("person.away", facts));
        self.store.write(move |tx| Box::pin(async move { tx.goes_away(&written, event).await })).await?;
        Ok(away)
    }

    /// Says that this person is back.
    pub async fn come_back(&self, who: &Principal, now: Timestamp) -> Result<(), AwayError> {
        let person = who.person().clone();
        let event = Event::new("person.back", json!({ "by": person, "key": who.fingerprint() }));
        let back = self.store.write(move |tx| Box::pin(async move { tx.comes_back(&person, event, now).await })).await?;
        if back { Ok(()) } else { Err(AwayError::NotAway) }
    }

    /// Everybody who is away now.
    pub async fn away(&self, now: Timestamp) -> Result<Vec<Away>, ApprovalError> {
        Ok(self.store.absences(now).await?)
    }
}

/// Whether somebody may decide in some stage in which this person may.
fn stands_in(directory: &Directory, who: &Principal, other: &Person) -> Result<(), AwayError> {
    if other == who.person() {
        return Err(AwayError::Self_);
    }
    let entry = directory.people.named(other).ok_or_else(|| AwayError::Nobody(other.clone()))?;
    let stages = directory.workflows.values().flat_map(|workflow| &workflow.stages);
    let both = stages.filter(|stage| stage.is_eligible(who.person(), who.groups())).any(|stage| stage.is_eligible(other, &entry.groups));
    if both { Ok(()) } else { Err(AwayError::NotEligible(other.clone())) }
}
