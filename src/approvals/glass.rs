//! Break-glass: opening first, where policy and every workflow let it, with a review after (`users.md` 22).
//!
//! It is a request like any other, whose bytes say so, and its grant is given in the same transaction. Nobody
//! has agreed: what stands in for the approvals is asked of the directory again at each opening (`judge`).
//! Everybody who may decide is told at once, and may deny or revoke it; its sessions are recorded in full and kept
//! until somebody else has reviewed them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::submit::{DENIED_FOR, asked_workflows, denied_lately, fresh_id, given};
use super::{Approvals, Ask, RequestState, SubmitError};
use crate::access::request::RequestDocument;
use crate::access::{OpeningContext, Principal};
use crate::audit::Event;
use crate::id::{Digest, RequestId, WorkflowName};
use crate::judge;
use crate::store::Tx;
use crate::store::grants::{GrantRow, GrantState};
use crate::store::requests::NewRequest;
use crate::store::waiters::Waiter;
use crate::time::{Timestamp, short};

impl Approvals {
    /// Whether this could be opened first: every workflow lets it, and policy this person, there.
    pub fn may_break_glass(&self, who: &Principal, ask: &Ask, now: Timestamp) -> bool {
        let directory = self.directory();
        let workflows = ask.holds.iter().map(|hold| &hold.workflow);
        let targets: Vec<_> = ask.targets.iter().map(|target| &**target).collect();
        judge::breaks_glass(&directory, who.person(), workflows, &targets, now)
    }

    /// Makes a request and its grant at once.
    pub async fn break_glass(&self, who: &Principal, mut ask: Ask, now: Timestamp) -> Result<RequestId, SubmitError> {
        if let Some(why) = self.clock.why_not_mint() {
            return Err(SubmitError::Clock(why));
        }
        let directory = self.directory();
        if !judge::is_still_known(&directory, who, now) || !self.may_break_glass(who, &ask, now) {
            return Err(SubmitError::BreakGlass);
        }
        let workflows = asked_workflows(&directory, &ask)?;
        // No longer than is offered to whoever asks: who needs more asks while it runs.
        let most = workflows.iter().map(|workflow| workflow.default_grant).chain(ask.terms.longest_grant).min().unwrap_or_default();
        if let Some(asked) = ask.duration.filter(|asked| *asked > most) {
            return Err(SubmitError::TooLong { asked: short(asked), longest: short(most) });
        }
        ask.start = None;
        ask.duration = Some(ask.duration.unwrap_or(most));
        let reason = given(&workflows, ask.reason.as_deref()).map_err(SubmitError::Reason)?;
        let reason = reason.ok_or_else(|| SubmitError::Reason("break-glass needs one: --reason '…'".into()))?;
        let mut document = self.document(who, &ask, &workflows, Some(reason), &directory, now)?;
        document.break_glass = true;
        let names: BTreeSet<WorkflowName> = document.needs.iter().map(|needs| needs.workflow.clone()).collect();
        let names = names.into_iter().collect();
        let use_within = workflows.iter().map(|workflow| workflow.use_within).min().unwrap_or_default();
        let new = NewRequest {
            state: RequestState::Approved,
            waiter: Waiter::Nobody,
            linger: Duration::ZERO,
            due: document.not_after(),
            context: OpeningContext::of(who, Vec::new(), now),
        };
        let use_by = now.plus(use_within);
        self.store.write(move |tx| Box::pin(open_first(tx, document, new, names, (use_by, now)))).await
    }
}

/// Approvals by break-glass of one person that nobody has used yet.
const MOST_UNUSED: usize = 8;

/// Makes the request and its grant, or neither.
async fn open_first(
    tx: &mut Tx,
    mut document: RequestDocument,
    mut new: NewRequest,
    workflows: Vec<WorkflowName>,
    (use_by, now): (Timestamp, Timestamp),
) -> Result<RequestId, SubmitError> {
    // The published directory may lag behind a suspension by a moment; the row does not.
    if tx.is_suspended(&document.person).await? {
        return Err(SubmitError::BreakGlass);
    }
    // Who was told no does not break the glass instead, nor again.
    if let Some(SubmitError::DeniedLately { by, ago, .. }) = denied_lately(tx, &document, now).await? {
        return Err(SubmitError::BreakGlassDenied { by, ago });
    }
    if let Some((by, at)) = tx.break_glass_ended(&document.person, now.minus(DENIED_FOR)).await? {
        return Err(SubmitError::BreakGlassDenied { by, ago: now.since(at) });
    }
    let unused = tx.break_glass_unused(&document.person, now).await?;
    if unused >= MOST_UNUSED {
        return Err(SubmitError::BreakGlassUnused(unused));
    }
    document.request = fresh_id(tx).await?;
    new.context.opened = tx.opened_of(&document.person, &document.targets).await?;
    let facts = json!({
        "digest": Digest::of(&document.bytes()), "key": document.key, "source": document.source, "login": document.login,
        "targets": document.targets, "for_us": document.for_us, "reason": document.reason, "policy": document.policy,
    });
    let event = Event::request("request.break-glass", document.request, Some(&document.person), facts);
    tx.insert_request(&document, new, event, now).await?;
    tx.give_grant(&GrantRow {
        request: document.request,
        state: GrantState::Open,
        person: document.person.clone(),
        key: document.key.clone(),
        source: document.source.clone(),
        login: document.login.clone(),
        workflows,
        uses_left: document.once.then_some(1),
        terms: document.asked(),
        approvers: Vec::new(),
        given_at: now,
        starts_at: now,
        use_by,
        first_used: None,
        ends_at: None,
        ended_at: None,
        ended_by: None,
        why: None,
    })
    .await?;
    // Whoever waits for the same may pass.
    tx.wake_waiting(&document.person).await?;
    Ok(document.request)
}
