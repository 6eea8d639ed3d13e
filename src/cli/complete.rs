//! Whether what a bastion lists is all that its log knows of: a recording that is merely not shown would
//! otherwise be missed by nobody.
//!
//! The log is taken out before the list is read, and verified here; every session that it says was sealed has
//! to be listed after it. Memory grows with the sessions, by some 100 bytes each.

use std::collections::{BTreeMap, BTreeSet};

use tokio::io::{AsyncBufRead, AsyncWrite};

use super::audit::take;
use super::bastion::{Bastion, WireError};
use super::trust::Known;
use crate::audit::export::{Audit, Flaw, Step};
use crate::audit::row::Row;
use crate::console::reply::RefusalKind;
use crate::id::SessionId;

/// What the log says of sessions.
#[derive(Debug, Default)]
pub struct Logged {
    opened: BTreeSet<SessionId>,
    /// With the row that says so.
    sealed: BTreeMap<SessionId, u64>,
}

/// Why there is nothing to compare with.
#[derive(Debug)]
pub enum NotCompared {
    /// The log is for others.
    NotYours,
    Flawed(Flaw),
}

/// Takes the log out and verifies it against what is known of the bastion.
pub async fn logged<R, W>(bastion: &mut Bastion<R, W>, known: &Known) -> anyhow::Result<Result<Logged, NotCompared>>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut audit = Audit::new(Some(known.log_key.clone()), Some(known.checkpoint.clone()));
    let (mut logged, mut flaw) = (Logged::default(), None);
    let taken = take(bastion, |line| {
        match audit.line(line.as_bytes()) {
            Ok(Step::Row(row)) => logged.row(&row),
            Ok(Step::Head | Step::Checkpoint(_)) => {}
            // The rest is passed by, so that the next question has an answer of its own.
            Err(found) => drop(flaw.get_or_insert(found)),
        }
        Ok(true)
    });
    match taken.await {
        Ok(()) => {}
        Err(error) => match error.downcast_ref::<WireError>() {
            Some(WireError::Refused(refusal)) if refusal.kind == RefusalKind::Refused => return Ok(Err(NotCompared::NotYours)),
            _ => return Err(error),
        },
    }
    Ok(match flaw {
        Some(flaw) => Err(NotCompared::Flawed(flaw)),
        None => audit.finish().map(|_| logged).map_err(NotCompared::Flawed),
    })
}

impl Logged {
    fn row(&mut self, row: &Row) {
        let session = || row.facts.get("session")?.as_str()?.parse().ok();
        match row.name.as_str() {
            "session.open" => self.opened.extend(session()),
            "session.seal" => self.sealed.extend(session().map(|session| (session, row.seq))),
            _ => {}
        }
    }

    /// Sessions that were sealed and are not among those, each with its row.
    pub fn hidden(&self, listed: &BTreeSet<SessionId>) -> Vec<(SessionId, u64)> {
        self.sealed.iter().filter(|(session, _)| !listed.contains(session)).map(|(session, seq)| (*session, *seq)).collect()
    }

    /// How many were opened and have no seal: they run, could not be recorded, or wait.
    pub fn unsealed(&self) -> usize {
        self.opened.iter().filter(|session| !self.sealed.contains_key(session)).count()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::audit::row::{NO_ROW, V1};
    use crate::time::Timestamp;

    #[test]
    fn what_was_sealed_and_is_not_listed_is_named() {
        let ids: Vec<SessionId> = (1..=3).map(|n| SessionId::new(Timestamp::from_micros(n * 1_000_000_000_000))).collect();
        let mut logged = Logged::default();
        let names = ["session.open", "session.seal"];
        for (n, (session, name)) in ids.iter().flat_map(|id| names.map(|name| (id, name))).take(5).enumerate() {
            let facts = json!({ "session": session });
            logged.row(&Row { v: V1, seq: n as u64 + 1, at: Timestamp::from_micros(0), name: name.into(), facts, prev: NO_ROW });
        }
        assert_eq!(logged.hidden(&[ids[0]].into()), vec![(ids[1], 4)]);
        assert!(logged.hidden(&ids[..2].iter().copied().collect()).is_empty());
        assert_eq!(logged.unsealed(), 1, "the third runs");
    }
}
