//! Whose turn it is: what the pure rules of `access/workflow` say of a stored request, and the sweep that
//! acts on it when nobody decides: a stage asks wider, or its time is over.
//!
//! All of it follows from stored times; a row says only that a stage has asked wider, since that stays.
//! Each change of who is asked is hinted at: whoever tells people reads [`super::RequestView::asked`] and
//! tells those whom they have not told.

use std::time::Duration;

use serde_json::json;

use super::{ApprovalError, Approvals};
use crate::access::request::RequestDocument;
use crate::access::workflow::{Absent, Escalated, Times, Turn, Wider, absent_words};
use crate::audit::Event;
use crate::config::Directory;
use crate::id::{Group, Person, RequestId};
use crate::judge::Authority;
use crate::store::decisions::DecisionRow;
use crate::store::requests::{RequestRow, RequestState};
use crate::store::{Snapshot, StoreError, Tx};
use crate::time::{Timestamp, about};

/// Requests that one sweep looks at; what is left is a second later.
const LOOKED: u32 = 32;
/// The longest that nobody looks: clocks that go forward or back make an hour none, or two.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// Says whose turn it is now, by what is stored.
pub(super) async fn turns_of(
    snapshot: &mut Snapshot,
    id: RequestId,
    document: &RequestDocument,
    (authority, rows): (&Authority, &[DecisionRow]),
    directory: &Directory,
    now: Timestamp,
) -> Result<Vec<Turn>, StoreError> {
    let away = snapshot.absences(now).await?;
    let escalated = if authority.escalates() { snapshot.escalations(id).await? } else { Vec::new() };
    let times = Times { asked: authority.asked_since(document), not_after: document.not_after(), now };
    Ok(authority.turns(&directory.people, rows, &away, &escalated, times))
}

/// Who is asked in any of them, each once.
pub(super) fn asked(turns: &[Turn]) -> Vec<Person> {
    let mut asked: Vec<Person> = turns.iter().flat_map(|turn| turn.asked.iter().cloned()).collect();
    asked.sort();
    asked.dedup();
    asked
}

/// What everybody reads of it (`users.md` 16): `nobody can decide now (bob away until Mon, carol 08-18 Berlin);
/// heads asked at once`, `nobody answered in 10 min; heads asked too`.
pub fn turn_words(turn: &Turn, now: Timestamp) -> Option<String> {
    let groups = |groups: &[Group]| groups.iter().map(Group::as_str).collect::<Vec<_>>().join(", ");
    let who = if turn.reached == 0 { "nobody" } else { "too few" };
    let absent = |absent: &[Absent]| if absent.is_empty() { String::new() } else { format!(" ({})", absent_words(absent, now)) };
    match &turn.wider {
        Some((to, Wider::Unanswered(after))) => Some(format!("nobody answered in {}; {} asked too", about(*after), groups(to))),
        Some((to, Wider::TooFew)) => Some(format!("{who} can decide now{}; {} asked at once", absent(&turn.absent), groups(to))),
        None if turn.asked.is_empty() => Some(format!("nobody can decide now{}", absent(&turn.absent))),
        None => None,
    }
}

/// What is due on one request.
struct Move {
    id: RequestId,
    /// Decisions that were looked at: with another one it is looked at again.
    decisions: usize,
    over: Option<(String, usize)>,
    wider: Vec<(Escalated, Wider, Vec<Group>)>,
    next: Timestamp,
}

impl Approvals {
    /// Has stages ask wider and ends requests whose stage is over; called every second by the sweep.
    pub async fn move_on(&self, now: Timestamp) -> Result<(), ApprovalError> {
        let mut snapshot = self.store.snapshot().await?;
        let rows = snapshot.requests_to_look_at(now, LOOKED).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let directory = self.directory();
        let mut moves = Vec::with_capacity(rows.len());
        for row in rows {
            moves.push(self.due(&mut snapshot, &row, &directory, now).await?);
        }
        drop(snapshot);
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    for due in moves {
                        apply(tx, due, now).await?;
                    }
                    Ok::<_, ApprovalError>(())
                })
            })
            .await
    }

    async fn due(&self, snapshot: &mut Snapshot, row: &RequestRow, directory: &Directory, now: Timestamp) -> Result<Move, StoreError> {
        let decisions = snapshot.decisions(row.id).await?;
        let mut due = Move { id: row.id, decisions: decisions.len(), over: None, wider: Vec::new(), next: now.plus(LOOK_AGAIN) };
        // Bytes that cannot be read are refused where they are used.
        let Ok(document) = self.document_of(row) else { return Ok(due) };
        let authority = Authority::over(directory, &document, now);
        for turn in turns_of(snapshot, row.id, &document, (&authority, &decisions), directory, now).await? {
            if turn.ends <= now {
                due.over = Some((turn.workflow.to_string(), turn.stage));
            }
            if let Some((to, why)) = turn.wider {
                due.wider.push((Escalated { workflow: turn.workflow, stage: turn.stage, at: now }, why, to));
            }
            due.next = due.next.min(turn.next);
        }
        Ok(due)
    }
}

async fn apply(tx: &mut Tx, due: Move, now: Timestamp) -> Result<(), StoreError> {
    let Move { id, decisions, over, wider, next } = due;
    let Some(row) = tx.request(id).await?.filter(|row| row.state == RequestState::Pending) else { return Ok(()) };
    if tx.decisions(id).await?.len() != decisions {
        return Ok(());
    }
    if let Some((workflow, stage)) = over {
        let facts = json!({ "digest": row.digest, "workflow": workflow, "stage": stage + 1 });
        tx.turn(&row, &RequestState::Expired, None, Event::request("request.expire", id, None, facts), now).await?;
        return Ok(());
    }
    for (stage, why, to) in wider {
        if tx.escalate(id, &stage, why).await? {
            let facts = json!({ "workflow": stage.workflow, "stage": stage.stage + 1, "to": to, "why": why.as_str() });
            tx.append(Event::request("request.escalate", id, None, facts), now).await?;
        }
    }
    tx.look_again(id, next).await?;
    // Somebody else may be asked now, or nobody.
    tx.wake(id);
    Ok(())
}
