//! Suspending a person (`users.md` 17): who has to be out at once, whatever the files say yet.
//!
//! Policy's `suspend` on every target, and always oneself; the way back is for others. It ends what they run,
//! voids what they asked for and were granted, and lets them in no more, until it is lifted.

use serde_json::json;

use super::Approvals;
use crate::access::kinds::Kind;
use crate::access::request::MAX_REASON;
use crate::access::{ConsoleAction, Principal};
use crate::audit::Event;
use crate::id::Person;
use crate::store::StoreError;
use crate::store::suspensions::{Cut, Suspension};
use crate::time::Timestamp;

#[derive(Debug, thiserror::Error)]
pub enum SuspendError {
    #[error("is for those who may suspend on every target; yourself: suspend me")]
    NotYours,
    #[error("there is no person {0}")]
    Nobody(Person),
    #[error("{0} is suspended already")]
    Already(Person),
    #[error("{0} is not suspended")]
    NotSuspended(Person),
    #[error("{0} is suspended in people.toml as well: an operator takes that line out")]
    InFiles(Person),
    #[error("the reason is {0} bytes long; 1 to {MAX_REASON} are allowed")]
    Reason(usize),
    #[error("the state cannot be read or written")]
    Store(#[from] StoreError),
}

impl Approvals {
    /// A gate event: what cannot be written down does not happen (FC5).
    pub async fn suspend(&self, person: &Person, who: &Principal, reason: &str, now: Timestamp) -> Result<Cut, SuspendError> {
        let own = person == who.person();
        if !own && !self.may_suspend(who, now) {
            return Err(SuspendError::NotYours);
        }
        let reason = reason.trim();
        // Who has lost a key has no time for more.
        if reason.len() > MAX_REASON || (reason.is_empty() && !own) {
            return Err(SuspendError::Reason(reason.len()));
        }
        if self.directory().people.named(person).is_none() {
            return Err(SuspendError::Nobody(person.clone()));
        }
        let facts = json!({ "by": who.person(), "key": who.fingerprint(), "source": who.source(), "person": person, "reason": reason });
        let suspension = Suspension { person: person.clone(), by: who.person().clone(), reason: reason.to_owned(), at: now };
        let cut = self.store.suspend(suspension, Event::new("person.suspend", facts)).await?;
        cut.ok_or_else(|| SuspendError::Already(person.clone()))
    }

    pub async fn unsuspend(&self, person: &Person, who: &Principal, reason: &str, now: Timestamp) -> Result<(), SuspendError> {
        // Nobody lifts what was put on themselves, however fast.
        if person == who.person() || !self.may_suspend(who, now) {
            return Err(SuspendError::NotYours);
        }
        let reason = reason.trim();
        if reason.is_empty() || reason.len() > MAX_REASON {
            return Err(SuspendError::Reason(reason.len()));
        }
        let facts = json!({ "by": who.person(), "key": who.fingerprint(), "source": who.source(), "person": person, "reason": reason });
        if !self.store.unsuspend(person, who.person(), Event::new("person.unsuspend", facts), now).await? {
            let in_files = self.directory().people.is_suspended_in_files(person);
            return Err(if in_files { SuspendError::InFiles(person.clone()) } else { SuspendError::NotSuspended(person.clone()) });
        }
        Ok(())
    }

    fn may_suspend(&self, who: &Principal, now: Timestamp) -> bool {
        let directory = self.directory();
        let may = |kind: &Kind| directory.policy.may(who.person(), who.groups(), ConsoleAction::Suspend, &kind.like, now);
        !directory.kinds.is_empty() && directory.kinds.iter().all(may)
    }
}
