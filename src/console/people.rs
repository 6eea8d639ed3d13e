//! `away`, `suspend`, `unsuspend`.

use super::execute::Act;
use super::grammar::{AwayArgs, SuspendArgs, UnsuspendArgs};
use super::reply::{AwayLine, Next, Refusal, RefusalKind, Reply, SuspendedLine};
use crate::access::workflow::Away;
use crate::approvals::{AwayError, SuspendError};
use crate::causes::with_causes;
use crate::id::Person;

/// Who suspends themselves need not type their name.
const ME: &str = "me";

impl Act<'_> {
    pub(super) async fn away(&self, args: &AwayArgs) -> Result<Reply, Refusal> {
        let approvals = &self.console.approvals;
        let Some(until) = &args.until else {
            return match approvals.come_back(self.who, self.now).await {
                Ok(()) => Ok(Reply::Away(AwayLine { person: self.who.person().clone(), until: None, instead: None })),
                Err(error) => Err(self.not_away(&error)),
            };
        };
        let away = approvals.go_away(self.who, until.after(self.now), args.instead.clone(), self.now).await;
        away.map(|away| Reply::Away(AwayLine::of(away))).map_err(|error| self.not_away(&error))
    }

    fn not_away(&self, error: &AwayError) -> Refusal {
        match error {
            AwayError::Store(error) => self.down(error),
            AwayError::NotAway => self.refusal(RefusalKind::Refused, "you", "are not away"),
            other => {
                let mut refusal = self.refusal(RefusalKind::Usage, "away", &format!("was not noted: {other}"));
                refusal.next = vec![Next::Verb("away --until MON".into())];
                refusal
            }
        }
    }

    pub(super) async fn suspend(&self, args: &SuspendArgs) -> Result<Reply, Refusal> {
        let person = match args.person.as_str() {
            ME => self.who.person().clone(),
            name => name.parse::<Person>().map_err(|bad| self.refusal(RefusalKind::Usage, "suspend", &bad.to_string()))?,
        };
        let cut = self.console.approvals.suspend(&person, self.who, &args.reason, self.now).await;
        let cut = cut.map_err(|error| self.not_suspended("suspend", &error))?;
        Ok(Reply::Suspended(Box::new(SuspendedLine {
            person,
            by: self.who.person().clone(),
            reason: args.reason.trim().to_owned(),
            at: self.now,
            sessions: cut.sessions,
            requests: cut.requests as u64,
            grants: cut.grants as u64,
        })))
    }

    pub(super) async fn unsuspend(&self, args: &UnsuspendArgs) -> Result<Reply, Refusal> {
        let lifted = self.console.approvals.unsuspend(&args.person, self.who, &args.reason, self.now).await;
        lifted.map(|()| Reply::Unsuspended(args.person.clone())).map_err(|error| self.not_suspended("unsuspend", &error))
    }

    fn not_suspended(&self, verb: &str, error: &SuspendError) -> Refusal {
        match error {
            SuspendError::Store(error) => self.down(error),
            SuspendError::NotYours => {
                let why = "is for those whom access.cedar permits Action::\"suspend\" on every target, and never for oneself";
                self.refusal(RefusalKind::Refused, verb, why)
            }
            SuspendError::Reason(0) => {
                let mut refusal = self.refusal(RefusalKind::Usage, verb, "needs a reason");
                refusal.next = vec![Next::Verb(format!("{verb} PERSON --reason '…'"))];
                refusal
            }
            other => self.refusal(RefusalKind::Refused, verb, &format!("changes nothing: {}", with_causes(other))),
        }
    }
}

impl AwayLine {
    pub fn of(away: Away) -> Self {
        Self { person: away.person, until: Some(away.until), instead: away.instead }
    }
}
