//! What may be shown of requests and grants, and to whom. Rendered from the stored bytes; a column
//! says only where a request stands.

use super::{ApprovalError, Approvals, RequestState, turns};
use crate::access::decision::{GrantedTerms, Level};
use crate::access::habit;
use crate::access::kinds::one_of_each;
use crate::access::request::{RequestDocument, matching_code};
use crate::access::workflow::{TrackState, Turn};
use crate::access::{ConsoleAction, Principal, Target};
use crate::config::Directory;
use crate::id::{Digest, Person, RequestId};
use crate::judge::Authority;
use crate::store::Snapshot;
use crate::store::decisions::DecisionRow;
use crate::store::grants::{GrantFilter, GrantRow};
use crate::store::requests::{RequestFilter, RequestRow};
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub struct RequestView {
    pub id: RequestId,
    pub state: RequestState,
    /// Read from the stored bytes; before the reason is known, what they will say without it.
    pub document: RequestDocument,
    pub bytes: Vec<u8>,
    /// Of `bytes`; meaningless while `NeedsReason`.
    pub digest: Digest,
    pub code: String,
    /// When it was looked at.
    pub seen: Timestamp,
    pub tracks: Vec<TrackState>,
    /// The strictest level that any track asks for.
    pub level: Level,
    /// What its workflows ask for a reason, and tell whoever decides.
    pub prompts: Vec<String>,
    /// Whose turn it is, for each workflow that waits.
    pub turns: Vec<Turn>,
    /// Who is asked now, never the requester.
    pub asked: Vec<Person>,
    /// Everybody who may decide at some time or say no at any.
    pub deciders: Vec<Person>,
    /// When approved: what was granted, and by whom.
    pub granted: Option<GrantedTerms>,
    pub approvers: Vec<Person>,
    /// In the order they came.
    pub decisions: Vec<DecisionRow>,
    pub waiters: u32,
    /// When the last waiter left, if nobody waits.
    pub left_at: Option<Timestamp>,
    /// When it ends undecided: `not_after`, or sooner once its last waiter has left.
    pub due: Timestamp,
    /// Who may decide and has opened its card just now.
    pub looking: Vec<Person>,
}

/// A grant with the request that it answers.
#[derive(Debug, Clone)]
pub struct GrantView {
    pub request: RequestView,
    pub grant: GrantRow,
}

impl Approvals {
    /// The id of the request whose stored bytes have this digest: what a refused decision was about.
    pub async fn named(&self, digest: Digest) -> Result<Option<RequestId>, ApprovalError> {
        Ok(self.store.snapshot().await?.request_digested(digest).await?.map(|row| row.id))
    }

    pub async fn view(&self, id: RequestId) -> Result<Option<RequestView>, ApprovalError> {
        self.view_at(id, Timestamp::now()).await
    }

    /// Lists the requests that this person may see, newest first.
    pub async fn requests(&self, filter: &RequestFilter, who: &Principal, now: Timestamp) -> Result<Vec<RequestView>, ApprovalError> {
        let directory = self.directory();
        let mut snapshot = self.store.snapshot().await?;
        let mut seen = Vec::new();
        for row in snapshot.requests(filter).await? {
            let view = self.view_of(&mut snapshot, row, &directory, now).await?;
            if self.may_see(&view, who, now) {
                seen.push(view);
            }
        }
        Ok(seen)
    }

    /// Lists the grants whose requests this person may see, newest first.
    pub async fn grants(&self, filter: &GrantFilter, who: &Principal, now: Timestamp) -> Result<Vec<GrantView>, ApprovalError> {
        let directory = self.directory();
        let mut snapshot = self.store.snapshot().await?;
        let mut seen = Vec::new();
        for grant in snapshot.grants(filter).await? {
            let Some(row) = snapshot.request(grant.request).await? else { continue };
            let request = self.view_of(&mut snapshot, row, &directory, now).await?;
            if self.may_see(&request, who, now) {
                seen.push(GrantView { request, grant });
            }
        }
        Ok(seen)
    }

    /// Whether this person may see a request and its grant: the requester, who may decide or has
    /// decided it, and auditors, who may replay on every target of it. Everybody else is told that it
    /// is unknown.
    pub fn may_see(&self, view: &RequestView, who: &Principal, now: Timestamp) -> bool {
        let person = who.person();
        let denied = matches!(&view.state, RequestState::Denied { by, .. } if by == person);
        if view.document.person == *person || view.deciders.contains(person) || view.approvers.contains(person) || denied {
            return true;
        }
        let directory = self.directory();
        let Some(entry) = directory.people.named(person) else { return false };
        let targets: Option<Vec<_>> = view.document.targets.iter().map(|asked| directory.targets.find(asked.id.as_str())).collect();
        let may = |target: &Target| directory.policy.may(person, &entry.groups, ConsoleAction::Replay, target, now);
        targets.is_some_and(|targets| one_of_each(&directory.policy, targets.iter().map(|target| &**target)).into_iter().all(may))
    }

    /// What an approver should look at twice, in words.
    pub async fn unusual(&self, document: &RequestDocument, now: Timestamp) -> Result<Vec<String>, ApprovalError> {
        Ok(self.unusual_of(&[document], now).await?.into_iter().flatten().collect())
    }

    /// The same for each of several requests of one person.
    pub async fn unusual_of(&self, documents: &[&RequestDocument], now: Timestamp) -> Result<Vec<Vec<String>>, ApprovalError> {
        let Some(first) = documents.first() else { return Ok(Vec::new()) };
        let habit = self.store.snapshot().await?.habit(&first.person, now.minus(habit::LATELY)).await?;
        let each = |document: &&RequestDocument| habit::unusual(document, &habit).iter().map(ToString::to_string).collect();
        Ok(documents.iter().map(each).collect())
    }

    pub(super) async fn view_at(&self, id: RequestId, now: Timestamp) -> Result<Option<RequestView>, ApprovalError> {
        let directory = self.directory();
        let mut snapshot = self.store.snapshot().await?;
        match snapshot.request(id).await? {
            Some(row) => self.view_of(&mut snapshot, row, &directory, now).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn view_of(
        &self,
        snapshot: &mut Snapshot,
        row: RequestRow,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<RequestView, ApprovalError> {
        let document = self.document_of(&row)?;
        let decisions = snapshot.decisions(row.id).await?;
        let grant = snapshot.grant(row.id).await?;
        let authority = Authority::over(directory, &document, now);
        let known = (&authority, decisions.as_slice());
        let turns =
            if row.state.is_open() { turns::turns_of(snapshot, row.id, &document, known, directory, now).await? } else { Vec::new() };
        let due = turns.iter().map(|turn| turn.ends).chain([row.due]).min().unwrap_or(row.due);
        let (granted, approvers) = grant.map(|grant| (Some(grant.terms), grant.approvers)).unwrap_or_default();
        Ok(RequestView {
            id: row.id,
            state: row.state,
            code: matching_code(&row.digest),
            tracks: authority.tracks(&decisions),
            level: authority.level(),
            asked: turns::asked(&turns),
            seen: now,
            deciders: authority.deciders(),
            prompts: authority.prompts(),
            granted,
            approvers,
            decisions,
            waiters: row.waiters,
            left_at: row.left_at,
            due,
            turns,
            looking: self.looking.at(row.id),
            document,
            bytes: row.bytes,
            digest: row.digest,
        })
    }
}
