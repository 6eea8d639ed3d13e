//! How a node goes: announced, draining, stopping; and the verb that announces it (`users.md` 24).
//!
//! It ends everybody's sessions, so it is for those who may `drain` every target. Nothing of it outlives
//! the process: a start begins with [`Phase::Serving`].

use super::execute::Act;
use super::grammar::DrainArgs;
use super::reply::{Drain, Refusal, RefusalKind, Reply};
use crate::access::ConsoleAction;
use crate::audit::Event;
use crate::store::SessionFilter;
use crate::time::Timestamp;

/// How far a node is on its way out. Each phase is told to whoever is connected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Phase {
    #[default]
    Serving,
    /// Everything goes on until then.
    Announced { at: Timestamp, reason: String },
    /// Nothing new begins; what runs ends by itself, or then.
    Draining { at: Timestamp },
}

impl Phase {
    /// When sessions end, if they will.
    pub fn ends_at(&self) -> Option<Timestamp> {
        match self {
            Phase::Serving => None,
            Phase::Announced { at, .. } | Phase::Draining { at } => Some(*at),
        }
    }

    /// `bastion restarts 22:10Z (in 10 min): kernel`; nothing while it serves.
    pub fn words(&self, now: Timestamp) -> Option<String> {
        let at = self.ends_at()?;
        let left = crate::time::about(at.since(now));
        let reason = match self {
            Phase::Announced { reason, .. } if !reason.is_empty() => format!(": {}", super::visible(reason)),
            Phase::Serving | Phase::Announced { .. } | Phase::Draining { .. } => String::new(),
        };
        Some(format!("bastion restarts {} (in {left}){reason}", at.clock()))
    }
}

/// Farther ahead it would be forgotten.
const FARTHEST: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
const SESSIONS: u32 = 10_000;

impl Act<'_> {
    pub(super) async fn drain(&self, args: &DrainArgs) -> Result<Reply, Refusal> {
        if !self.may_everywhere(ConsoleAction::Drain) {
            return Err(self.refusal(RefusalKind::Refused, "drain", "is for those who may drain every target"));
        }
        let phase = match &args.at {
            Some(start) => Phase::Announced { at: start.after(self.now), reason: args.reason.clone() },
            None => Phase::Serving,
        };
        let at = phase.ends_at();
        if at.is_some_and(|at| at <= self.now || at.since(self.now) > FARTHEST) {
            return Err(self.refusal(RefusalKind::Usage, "drain", "is announced for a time within the next 24 hours: --at 22:10 (UTC)"));
        }
        if matches!(&*self.console.phase.borrow(), Phase::Draining { .. }) {
            return Err(self.refusal(RefusalKind::Refused, "drain", "has begun already: the bastion is stopping"));
        }
        // Logged first: it is a deed like a revocation.
        let name = if at.is_some() { "bastion.drain" } else { "bastion.drain-cancel" };
        let facts = serde_json::json!({
            "by": self.who.person(), "key": self.who.fingerprint(), "at_us": at.map(Timestamp::micros), "reason": args.reason,
        });
        self.console.store.report(Event::new(name, facts), self.now).await.map_err(|error| self.down(&error))?;
        self.console.phase.send_replace(phase);
        let filter = SessionFilter { live_only: true, limit: SESSIONS, ..SessionFilter::default() };
        let live = self.console.store.sessions(&filter).await.map_err(|error| self.down(&error))?;
        Ok(Reply::Drain(Drain { at, reason: args.reason.clone(), live: live.len() as u64 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_the_contract_writes_it() {
        let now = Timestamp::from_micros(1_700_000_000_000_000); // 22:13:20Z
        let at = now.plus(std::time::Duration::from_secs(600));
        assert_eq!(Phase::Serving.words(now), None);
        assert_eq!(Phase::Draining { at }.words(now).as_deref(), Some("bastion restarts 22:23Z (in 10 min)"));
        let announced = Phase::Announced { at, reason: "new kernel\u{1b}[2J".into() };
        assert_eq!(announced.words(now).as_deref(), Some("bastion restarts 22:23Z (in 10 min): new kernel\\u{1b}[2J"));
    }
}
