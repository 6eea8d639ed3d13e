//! How requests and grants end: withdrawn, revoked, or because their time is over.

use serde_json::json;

use super::{ApprovalError, Approvals};
use crate::access::Principal;
use crate::access::request::MAX_REASON;
use crate::audit::Event;
use crate::id::{Person, RequestId};
use crate::judge::Authority;
use crate::store::grants::GrantState;
use crate::store::requests::{RequestRow, RequestState};
use crate::store::{StoreError, Tx};
use crate::time::Timestamp;

/// Rows that one sweep ends of each kind; what is left is a second older at the next.
const SWEPT: u32 = 256;

impl Approvals {
    /// Takes back an open request. Only its requester may.
    pub async fn withdraw(&self, id: RequestId, who: &Principal, now: Timestamp) -> Result<(), ApprovalError> {
        let person = who.person().clone();
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let row = tx.request(id).await?.filter(|row| row.person == person).ok_or(ApprovalError::Unknown(id))?;
                    if !row.state.is_open() {
                        return Err(ApprovalError::Already(id, row.state.word()));
                    }
                    let event = Event::request("request.withdraw", id, Some(&person), json!({ "digest": row.digest }));
                    tx.turn(&row, &RequestState::Withdrawn, Some(&person), event, now).await?;
                    Ok(())
                })
            })
            .await
    }

    /// Ends a grant and every session on it; its requester, its approvers and who may approve may.
    pub async fn revoke(&self, id: RequestId, who: &Principal, reason: &str, now: Timestamp) -> Result<(), ApprovalError> {
        let reason = reason.trim().to_owned();
        if reason.len() > MAX_REASON {
            return Err(ApprovalError::Reason(format!("it is {} bytes long; {MAX_REASON} are allowed", reason.len())));
        }
        let directory = self.directory();
        let mut snapshot = self.store.snapshot().await?;
        let row = snapshot.request(id).await?.ok_or(ApprovalError::Unknown(id))?;
        let grant = snapshot.grant(id).await?;
        let person = who.person().clone();
        let theirs = row.person == person || grant.as_ref().is_some_and(|grant| grant.approvers.contains(&person));
        if !theirs && !Authority::over(&directory, &self.document_of(&row)?, now).may_decide(&person) {
            return Err(ApprovalError::Unknown(id));
        }
        drop(snapshot);
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let grant = tx.grant(id).await?.ok_or(ApprovalError::NotGranted(id))?;
                    let event = Event::request("grant.revoke", id, Some(&person), json!({ "reason": reason }));
                    let ended = tx.end_grant(id, GrantState::Revoked, Some(&person), &reason, event, now).await?;
                    if ended { Ok(()) } else { Err(ApprovalError::Already(id, grant.state.word())) }
                })
            })
            .await
    }

    /// Whether a live session's grant has been revoked; who and why.
    pub async fn revoked(&self, id: RequestId) -> Result<Option<(Person, String)>, ApprovalError> {
        let grant = self.store.urgent_snapshot().await?.grant(id).await?;
        let revoked = grant.filter(|grant| grant.state == GrantState::Revoked);
        Ok(revoked.and_then(|grant| Some((grant.ended_by?, grant.why.unwrap_or_default()))))
    }

    /// Expires and voids what is due; called every second by the node's one sweeper.
    pub async fn sweep(&self, now: Timestamp) -> Result<(), ApprovalError> {
        if !self.store.snapshot().await?.is_anything_due(now).await? {
            return Ok(());
        }
        self.store.write(move |tx| Box::pin(async move { Ok::<_, ApprovalError>(sweep(tx, now).await?) })).await
    }
}

async fn sweep(tx: &mut Tx, now: Timestamp) -> Result<(), StoreError> {
    for row in tx.overdue(now, SWEPT).await? {
        overdue(tx, &row, now).await?;
    }
    for grant in tx.grants_over(now, SWEPT).await? {
        let (to, name, why) = match grant.first_used {
            None => (GrantState::Lapsed, "grant.lapse", "not used in time"),
            Some(_) => (GrantState::Ended, "grant.end", "its time is over"),
        };
        tx.end_grant(grant.request, to, None, why, Event::request(name, grant.request, None, json!({})), now).await?;
    }
    Ok(())
}

/// Ends one request that is due.
pub(super) async fn overdue(tx: &mut Tx, row: &RequestRow, now: Timestamp) -> Result<(), StoreError> {
    let to = row.overdue();
    let name = if to == RequestState::Void { "request.void" } else { "request.expire" };
    tx.turn(row, &to, None, Event::request(name, row.id, None, json!({ "digest": row.digest })), now).await?;
    Ok(())
}
