//! Taking a decision: who may, on what, how strongly; then quorum, all requests of it or none.

use serde_json::json;

use super::turns::turns_of;
use super::{ApprovalError, Approvals, RequestView, Said};
use crate::access::Principal;
use crate::access::decision::{BadDecision, GrantedTerms, Level, MAX_NOTE, SignedDecision, Verdict};
use crate::access::request::{RequestDocument, matching_code};
use crate::access::workflow::Progress;
use crate::audit::Event;
use crate::config::Directory;
use crate::id::{Digest, Person, RequestId};
use crate::judge::{Authority, done, is_still_known};
use crate::store::decisions::{DecisionRow, SignedRow, verdict_word};
use crate::store::grants::{GrantRow, GrantState};
use crate::store::requests::{RequestRow, RequestState};
use crate::store::{Snapshot, Tx};
use crate::time::Timestamp;

/// One request that a decision is on, with what was checked before the transaction. The document
/// cannot change under its digest; the state can, and is looked at again.
#[derive(Debug)]
struct Case {
    id: RequestId,
    digest: Digest,
    document: RequestDocument,
    authority: Authority,
    decision: DecisionRow,
}

impl Approvals {
    /// Takes a decision: authority, level, quorum, deny final. Returns the requests' new state.
    ///
    /// All requests of a signed decision are decided or none. A denial also takes back an approval
    /// that nobody has used yet, so that it wins whichever of the two came first.
    pub async fn decide(&self, said: Said, approver: &Principal, now: Timestamp) -> Result<Vec<RequestView>, ApprovalError> {
        self.decide_all(vec![said], approver, now).await
    }

    /// Takes several decisions of one person at once, all or none.
    pub async fn decide_all(&self, said: Vec<Said>, approver: &Principal, now: Timestamp) -> Result<Vec<RequestView>, ApprovalError> {
        let directory = self.directory();
        if said.iter().any(|said| said.verdict() == Verdict::Approve)
            && let Some(why) = self.clock.why_not_mint()
        {
            return Err(ApprovalError::Clock(why));
        }
        if !is_still_known(&directory, approver, now) {
            return Err(BadDecision::Key.into());
        }
        let mut cases = Vec::new();
        for said in said {
            cases.extend(self.cases(said, approver, &directory, now).await?);
        }
        let ids: Vec<RequestId> = cases.iter().map(|case| case.id).collect();
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    for case in cases {
                        settle(tx, case, now).await?;
                    }
                    Ok::<_, ApprovalError>(())
                })
            })
            .await?;
        let mut views = Vec::with_capacity(ids.len());
        for id in ids {
            views.extend(self.view_at(id, now).await?);
        }
        Ok(views)
    }

    /// Checks all that does not depend on what others decide meanwhile.
    async fn cases(&self, said: Said, approver: &Principal, directory: &Directory, now: Timestamp) -> Result<Vec<Case>, ApprovalError> {
        let mut snapshot = self.store.snapshot().await?;
        match said {
            Said::Signed(signed) => {
                self.is_for_us(&signed, approver, directory)?;
                let mut cases = Vec::new();
                for digest in &signed.document().requests {
                    let row = snapshot.request_digested(*digest).await?.ok_or(ApprovalError::NoSuchRequest(*digest))?;
                    let document = signed.document();
                    let decision = DecisionRow {
                        person: approver.person().clone(),
                        groups: vec![],
                        verdict: document.verdict,
                        terms: document.terms.clone(),
                        note: document.note.clone(),
                        level: signed.level(),
                        signed: Some(SignedRow {
                            bytes: signed.bytes().to_vec(),
                            signature: signed.signature().to_owned(),
                            key: document.key.clone(),
                        }),
                        at: now,
                    };
                    cases.push(self.case(&mut snapshot, row, decision, approver, directory, now).await?);
                }
                Ok(cases)
            }
            Said::OnConnection { request, approver: said_by, verdict, code, terms, note } => {
                if said_by.person() != approver.person() {
                    return Err(BadDecision::Approver(said_by.person().to_string()).into());
                }
                if note.len() > MAX_NOTE {
                    return Err(BadDecision::Note.into());
                }
                if verdict == Verdict::Approve && approver.key().certificate().is_some() {
                    return Err(BadDecision::Certified.into());
                }
                let row = snapshot.request(request).await?.ok_or(ApprovalError::Unknown(request))?;
                let decision = DecisionRow {
                    person: approver.person().clone(),
                    groups: vec![],
                    verdict,
                    terms,
                    note,
                    level: Level::Connection,
                    signed: None,
                    at: now,
                };
                let digest = row.digest;
                let case = self.case(&mut snapshot, row, decision, approver, directory, now).await?;
                let repeats = code.as_deref().map(|code| code.eq_ignore_ascii_case(&matching_code(&digest)));
                match (verdict, repeats) {
                    (_, Some(false)) | (Verdict::Approve, None) => Err(ApprovalError::Code(request)),
                    (_, Some(true)) | (Verdict::Deny, None) => Ok(vec![case]),
                }
            }
        }
    }

    /// Checks again what the verification was told by its caller.
    fn is_for_us(&self, signed: &SignedDecision, approver: &Principal, directory: &Directory) -> Result<(), BadDecision> {
        let document = signed.document();
        if document.bastion != self.bastion {
            Err(BadDecision::Bastion(document.bastion.clone()))
        } else if document.approver != *approver.person() {
            Err(BadDecision::Approver(document.approver.to_string()))
        } else if directory.people.by_key(signed.key()).is_none_or(|entry| entry.name != document.approver) {
            Err(BadDecision::Key)
        } else {
            Ok(())
        }
    }

    async fn case(
        &self,
        snapshot: &mut Snapshot,
        row: RequestRow,
        mut decision: DecisionRow,
        approver: &Principal,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<Case, ApprovalError> {
        let id = row.id;
        if row.person == *approver.person() {
            return Err(ApprovalError::Own);
        }
        let document = self.document_of(&row)?;
        let authority = Authority::over(directory, &document, now);
        if !authority.may_decide(approver.person()) {
            let view = self.view_of(snapshot, row, directory, now).await?;
            let seen = self.may_see(&view, approver, now);
            return Err(if seen { ApprovalError::NotEligible(id) } else { ApprovalError::Unknown(id) });
        }
        is_decidable(&row, decision.verdict, now)?;
        if row.state == RequestState::Pending {
            self.is_their_turn(snapshot, &row, &document, &authority, (approver.person(), decision.verdict), (directory, now)).await?;
        }
        if decision.verdict == Verdict::Approve {
            let (needs, has) = (authority.level(), decision.level);
            if has < needs {
                return Err(ApprovalError::Level { request: id, needs: needs.words(), has: has.as_str() });
            }
            let terms = decision.terms.get_or_insert_with(|| authority.asked().clone());
            is_within(terms, &document, now)?;
        }
        decision.groups = authority.groups(approver.person());
        Ok(Case { id, digest: row.digest, document, authority, decision })
    }

    /// Refuses a decision that comes after its stage is over, and a yes before its stage has begun. A no
    /// counts at any time.
    async fn is_their_turn(
        &self,
        snapshot: &mut Snapshot,
        row: &RequestRow,
        document: &RequestDocument,
        authority: &Authority,
        (person, verdict): (&Person, Verdict),
        (directory, now): (&Directory, Timestamp),
    ) -> Result<(), ApprovalError> {
        let rows = snapshot.decisions(row.id).await?;
        let turns = turns_of(snapshot, row.id, document, (authority, &rows), directory, now).await?;
        if turns.iter().any(|turn| turn.ends <= now) {
            return Err(ApprovalError::Already(row.id, RequestState::Expired.word()));
        }
        let said = rows.iter().any(|earlier| earlier.person == *person && earlier.verdict == verdict);
        if verdict == Verdict::Deny || said || turns.iter().any(|turn| turn.may.contains(person)) {
            return Ok(());
        }
        let tracks = authority.tracks(&rows);
        let waits = tracks.iter().filter(|track| !track.is_filled());
        let now = waits.map(|track| track.approvers.join(", ")).collect::<Vec<_>>().join(" and ");
        Err(if authority.comes_later(person, &rows) {
            ApprovalError::NotYet { id: row.id, now }
        } else {
            ApprovalError::NotNeeded { id: row.id, now }
        })
    }

    /// Reads a row's document; the bytes have to be those of its digest and say its id.
    pub(super) fn document_of(&self, row: &RequestRow) -> Result<RequestDocument, ApprovalError> {
        let document = RequestDocument::read(&row.bytes)?;
        let intact = Digest::of(&row.bytes) == row.digest && document.request == row.id && document.person == row.person;
        if intact && document.bastion == self.bastion { Ok(document) } else { Err(ApprovalError::NoSuchRequest(row.digest)) }
    }
}

/// Whether the state that was read allows this verdict.
fn is_decidable(row: &RequestRow, verdict: Verdict, now: Timestamp) -> Result<(), ApprovalError> {
    match (&row.state, verdict) {
        (RequestState::NeedsReason, _) => Err(ApprovalError::NoReasonYet(row.id)),
        (RequestState::Pending, _) if row.due <= now => Err(ApprovalError::Already(row.id, row.overdue().word())),
        (RequestState::Pending, _) | (RequestState::Approved, Verdict::Deny) => Ok(()),
        (
            RequestState::Approved | RequestState::Denied { .. } | RequestState::Withdrawn | RequestState::Expired | RequestState::Void,
            _,
        ) => Err(ApprovalError::Already(row.id, row.state.word())),
    }
}

fn is_within(granted: &GrantedTerms, document: &RequestDocument, now: Timestamp) -> Result<(), ApprovalError> {
    let asked = document.asked();
    if let Some(what) = granted.beyond(&asked, now) {
        return Err(ApprovalError::More(what.to_owned()));
    }
    let only_less_time = GrantedTerms { for_us: granted.for_us, ..asked };
    if document.extends.is_some() && *granted != only_less_time {
        return Err(ApprovalError::More("an extension is more time or less of it, and nothing else".into()));
    }
    Ok(())
}

/// Writes the decision and what it leads to. Any error undoes the whole decision.
async fn settle(tx: &mut Tx, case: Case, now: Timestamp) -> Result<(), ApprovalError> {
    let Case { id, digest, document, authority, decision } = case;
    let row = tx.request(id).await?.ok_or(ApprovalError::Unknown(id))?;
    if row.digest != digest {
        return Err(ApprovalError::NoSuchRequest(digest));
    }
    is_decidable(&row, decision.verdict, now)?;
    if tx.is_suspended(&decision.person).await? {
        return Err(BadDecision::Key.into());
    }
    let before = tx.decisions(id).await?;
    if before.iter().any(|earlier| earlier.person == decision.person && earlier.verdict == decision.verdict) {
        return Err(ApprovalError::Already(id, done(decision.verdict)));
    }
    tx.insert_decision(id, &decision).await?;
    let person = &decision.person;
    let all: Vec<DecisionRow> = before.into_iter().chain([decision.clone()]).collect();
    let event = |state: &str, granted: Option<&GrantedTerms>| {
        let signed = decision.signed.as_ref().map(|signed| Digest::of(&signed.bytes));
        let facts = json!({
            "digest": digest, "verdict": verdict_word(decision.verdict), "level": decision.level.as_str(),
            "decision": signed, "state": state, "granted": granted,
        });
        Event::request("request.decide", id, Some(person), facts)
    };
    match authority.weigh(&all) {
        Progress::Waiting { tracks } => {
            tx.append(event(row.state.word(), None), now).await?;
            let earlier = authority.tracks(all.get(..all.len() - 1).unwrap_or_default());
            for track in tracks.iter().filter(|track| earlier.iter().any(|e| e.workflow == track.workflow && e.stage < track.stage)) {
                let facts = json!({ "workflow": track.workflow, "stage": track.stage + 1, "of": track.stages });
                tx.append(Event::request("request.stage", id, Some(person), facts), now).await?;
            }
            tx.wake(id);
            Ok(())
        }
        Progress::Denied { by, note } => {
            if row.state == RequestState::Approved && !tx.void_unused(id, &by, "denied", now).await? {
                return Err(ApprovalError::Already(id, "approved and in use; revoke it"));
            }
            let denied = RequestState::Denied { by: by.clone(), note };
            let event = event(denied.word(), None);
            was_first(tx.turn(&row, &denied, Some(&by), event, now).await?, &row)
        }
        Progress::Approved { terms, by } => {
            if terms.scope.0.is_empty() {
                return Err(ApprovalError::NothingLeft(id));
            }
            let event = event(RequestState::Approved.word(), Some(&terms));
            match &document.extends {
                None => tx.give_grant(&grant(&document, &authority, terms, by, now)).await?,
                Some(extends) => {
                    let more = std::time::Duration::from_micros(terms.for_us);
                    if !tx.extend_grant(extends, id, (more, document.overrun()), now).await? {
                        return Err(ApprovalError::Already(extends.request, "over, and cannot be extended"));
                    }
                }
            }
            was_first(tx.turn(&row, &RequestState::Approved, None, event, now).await?, &row)
        }
    }
}

fn was_first(turned: bool, row: &RequestRow) -> Result<(), ApprovalError> {
    if turned { Ok(()) } else { Err(ApprovalError::Already(row.id, row.state.word())) }
}

fn grant(
    document: &RequestDocument,
    authority: &Authority,
    terms: GrantedTerms,
    approvers: Vec<crate::id::Person>,
    now: Timestamp,
) -> GrantRow {
    let starts_at = terms.starts().unwrap_or(now).max(now);
    let lapses = starts_at.plus(authority.use_within());
    GrantRow {
        request: document.request,
        state: GrantState::Open,
        person: document.person.clone(),
        key: document.key.clone(),
        source: document.source.clone(),
        login: document.login.clone(),
        workflows: authority.names(),
        uses_left: terms.once.then_some(1),
        use_by: terms.ends().map_or(lapses, |ends| ends.min(lapses)),
        terms,
        approvers,
        given_at: now,
        starts_at,
        first_used: None,
        ends_at: None,
        ended_at: None,
        ended_by: None,
        why: None,
    }
}
