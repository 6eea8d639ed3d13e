//! From an approved request to the right to open one session (**D grant row**).
//!
//! Authority is checked again here, against today's directory and over the stored signatures: what the
//! database says of a decision is not believed where the signed bytes say it. A grant whose approvals
//! no longer stand is void for good.

use serde_json::{Value, json};

use super::{ApprovalError, Approvals, Basis, OpenError, Opening};
use crate::access::certificate::Issued;
use crate::access::decision::{GrantedTerms, Level};
use crate::access::grant::Opened;
use crate::access::request::{ANY_SOURCE, RequestDocument};
use crate::access::ruling::{Hold, RecordLevel};
use crate::access::target::Target;
use crate::access::workflow::{Progress, SourceRule, source_rule};
use crate::access::{Grant, Principal, SecondFactor, Want};
use crate::audit::Event;
use crate::authority::evidence::{Asked, Evidence, Said, SignedSaid, VERSION};
use crate::config::Directory;
use crate::id::{Digest, Login, Person, RequestId, ScheduleName};
use crate::judge::{Authority, is_still_known, workflows_of};
use crate::store::Snapshot;
use crate::store::decisions::DecisionRow;
use crate::store::grants::{GrantRow, GrantState, NewSession, window};
use crate::time::Timestamp;

/// A grant that stands: who asked for what, who agreed, to what.
#[derive(Debug)]
struct Standing {
    document: RequestDocument,
    bytes: Vec<u8>,
    decisions: Vec<DecisionRow>,
    terms: GrantedTerms,
    by: Vec<Person>,
}

/// Why a grant does not stand.
#[derive(Debug)]
enum Fallen {
    /// For this opening; another may still use it.
    Unfit(&'static str),
    /// For good.
    Void(&'static str),
}

impl Approvals {
    /// Finds an open grant of this person, key, source, target and login that covers `want` and went
    /// through every workflow that today's ruling needs.
    pub async fn usable(
        &self,
        who: &Principal,
        target: &Target,
        login: &Login,
        want: &Want,
        holds: &[Hold],
        now: Timestamp,
    ) -> Result<Option<RequestId>, ApprovalError> {
        let directory = self.directory();
        let mut snapshot = self.store.snapshot().await?;
        let asker = (who.person(), who.fingerprint(), who.source_block());
        let grants = snapshot.grants_reaching((asker.0, &asker.1, &asker.2), (&target.id, target.pin()), login).await?;
        for grant in grants {
            let satisfied = holds.iter().all(|hold| grant.workflows.contains(&hold.workflow));
            if !satisfied || grant.unusable(now).is_some() {
                continue;
            }
            let wanted = Wanted { who, target, login, want };
            if self.standing(&mut snapshot, &grant, &wanted, &directory, now).await?.is_ok() {
                return Ok(Some(grant.request));
            }
        }
        Ok(None)
    }

    /// Uses the grant (or records that policy asks nobody) in one transaction with the session's row,
    /// the certificate's serial and their audit rows. Returns the evidence bytes with the grant:
    /// canonical JSON of the request's bytes and every decision with its signature.
    pub async fn open(&self, opening: Opening, now: Timestamp) -> Result<(Grant, Vec<u8>), OpenError> {
        if let Some(why) = self.clock.why_not_mint() {
            return Err(OpenError::Clock(why));
        }
        let directory = self.directory();
        if !is_still_known(&directory, &opening.principal, now) {
            return Err(OpenError::Key(opening.principal.fingerprint()));
        }
        // Z-06: what was ruled under another set is ruled again, not opened.
        if directory.digest != opening.policy {
            return Err(OpenError::PolicyChanged);
        }
        match opening.basis {
            Basis::Permitted => {
                let bound = opening.terms.longest_grant;
                let evidence = Evidence::of_policy(directory.digest).bytes();
                let mut new = new_session(&directory, opening, (None, "none"), now)?;
                new.opened.granted_for = bound.unwrap_or_default();
                new.ends_at_most = bound.map(|bound| now.plus(bound));
                let grant =
                    self.store.write(move |tx| Box::pin(async move { Ok::<_, OpenError>(tx.open_permitted(new, now).await?) })).await?;
                Ok((grant, evidence))
            }
            Basis::Approved(request) => self.open_approved(request, opening, &directory, now).await,
        }
    }

    async fn open_approved(
        &self,
        id: RequestId,
        mut opening: Opening,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<(Grant, Vec<u8>), OpenError> {
        let mut snapshot = self.store.urgent_snapshot().await?;
        let grant = snapshot.grant(id).await?.ok_or(OpenError::Unusable(id, "was not approved"))?;
        if let Some(why) = grant.unusable(now) {
            return Err(OpenError::Unusable(id, why));
        }
        let wanted = Wanted { who: &opening.principal, target: &opening.target, login: &opening.login, want: &opening.want };
        let standing = self.standing(&mut snapshot, &grant, &wanted, directory, now).await?;
        let extensions = extensions(&mut snapshot, &grant).await?;
        drop(snapshot);
        let standing = match standing {
            Ok(standing) => standing,
            Err(Fallen::Unfit(why)) => return Err(OpenError::Unusable(id, why)),
            Err(Fallen::Void(why)) => {
                self.void(id, why, now).await?;
                return Err(OpenError::Unusable(id, why));
            }
        };
        let (evidence, proof) = (evidence(directory, &standing, extensions), standing.proof());
        let exact = standing.terms.scope.is_exact_for(&opening.want);
        // A window that has not begun is no longer than policy and workflows give today.
        let today = grant.workflows.iter().filter_map(|name| directory.workflows.get(name)).map(|workflow| workflow.longest_grant);
        let closes = standing.terms.ends().map(|ends| ends.since(now));
        let granted = today.chain(opening.terms.longest_grant).chain(closes).fold(window(&standing.terms), std::cmp::Ord::min);
        let want = opening.want.clone();
        if standing.document.break_glass {
            opening.terms.record = RecordLevel::Full;
            opening
                .terms
                .retain
                .extend(grant.workflows.iter().filter_map(|name| directory.workflows.get(name)?.break_glass.clone()?.retain));
        }
        let mut new = new_session(directory, opening, (Some(id), proof), now)?;
        new.opened.exact = exact;
        new.opened.rescue = grant.workflows.iter().any(|name| directory.workflows.get(name).is_some_and(|workflow| workflow.rescue));
        // A command that the approver chose in place of a shell comes without input: `bash -s` is a shell.
        let asked_exactly = standing.document.scope.is_exact_for(&want);
        new.opened.stdin = !exact || (standing.document.stdin && asked_exactly);
        new.opened.overrun = standing.document.overrun();
        new.opened.approvers = standing.by;
        new.opened.break_glass = standing.document.break_glass;
        new.opened.granted_for = granted;
        let opened = self
            .store
            .write(move |tx| {
                Box::pin(async move {
                    if let Some(opened) = tx.open_on_grant(id, granted, new, now).await? {
                        return Ok(opened);
                    }
                    // Somebody was first; the row says who.
                    let why = tx.grant(id).await?.and_then(|grant| grant.unusable(now)).unwrap_or("was used");
                    Err(OpenError::Unusable(id, why))
                })
            })
            .await?;
        Ok((opened, evidence))
    }

    /// Whether this grant carries this want of this person there, by its signed bytes and by who may
    /// decide today.
    async fn standing(
        &self,
        snapshot: &mut Snapshot,
        grant: &GrantRow,
        wanted: &Wanted<'_>,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<Result<Standing, Fallen>, crate::store::StoreError> {
        let Some(row) = snapshot.request(grant.request).await? else { return Ok(Err(Fallen::Void("has lost its request"))) };
        let decisions = snapshot.decisions(grant.request).await?;
        let Ok(document) = self.document_of(&row) else {
            return Ok(Err(Fallen::Void("was changed after it was asked")));
        };
        if !wanted.is_asked_in(&document) {
            return Ok(Err(Fallen::Unfit("is for somebody or something else")));
        }
        if document.source == ANY_SOURCE && source_rule(&workflows_of(directory, &document).unwrap_or_default()) != SourceRule::Any {
            return Ok(Err(Fallen::Void("is for any address, which its workflow does not allow any more")));
        }
        let authority = Authority::over_one(directory, &document, wanted.target, now);
        let Progress::Approved { terms, by } = authority.weigh_proven(&decisions, row.digest, &self.bastion) else {
            return Ok(Err(Fallen::Void("has approvals that no longer stand")));
        };
        let terms = terms.meet(&grant.terms);
        if !terms.scope.covers(wanted.want) {
            return Ok(Err(Fallen::Unfit("does not reach that far")));
        }
        if let Some(why) = terms.closed(now) {
            return Ok(Err(Fallen::Unfit(why)));
        }
        Ok(Ok(Standing { document, bytes: row.bytes, decisions, terms, by }))
    }

    async fn void(&self, id: RequestId, why: &'static str, now: Timestamp) -> Result<(), OpenError> {
        tracing::warn!(request = %id, why, "a grant is void");
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let event = Event::request("grant.void", id, None, json!({ "why": why }));
                    tx.end_grant(id, GrantState::Void, None, why, event, now).await?;
                    Ok(())
                })
            })
            .await
    }
}

/// What somebody wants to open.
struct Wanted<'a> {
    who: &'a Principal,
    target: &'a Target,
    login: &'a Login,
    want: &'a Want,
}

impl Wanted<'_> {
    /// Whether exactly this person and key, from there or from anywhere, asked for this very host and login.
    fn is_asked_in(&self, document: &RequestDocument) -> bool {
        let pin = self.target.pin();
        document.person == *self.who.person()
            && document.key == self.who.fingerprint()
            && document.is_for_source(&self.who.source_block())
            && document.login == *self.login
            && document.targets.iter().any(|target| target.id == self.target.id && target.pin == pin)
    }
}

fn new_session(
    directory: &Directory,
    opening: Opening,
    (request, proof): (Option<RequestId>, &'static str),
    now: Timestamp,
) -> Result<NewSession, OpenError> {
    let schedules: Vec<ScheduleName> = opening.terms.retain.iter().cloned().collect();
    let labels: Vec<String> = opening.target.labels.iter().cloned().collect();
    let retention = directory.schedules.terms(&schedules, &labels, directory.digest).map_err(OpenError::Schedule)?;
    let Opening { session, principal, target, address, login, want, terms, by_text, basis: _, policy: _ } = opening;
    let (kind, command) = (want.kind(), want.command_bytes().map(Digest::of));
    let mut open = json!({
        "session": session, "request": request, "person": principal.person(), "key": principal.fingerprint(),
        "source": principal.source(), "target": target.id, "pin": target.pin(), "address": address.to_string(),
        "login": login, "kind": kind, "command": command, "policies": terms.policies,
        "second_factor": principal.second_factor().map(SecondFactor::at), "login_certificate": login_certificate(&principal),
    });
    if let (Some(to), Some(facts)) = (want.endpoint(), open.as_object_mut()) {
        facts.insert("to".into(), json!(to));
    }
    if let (true, Some(facts)) = (want.has_agent(), open.as_object_mut()) {
        facts.insert("agent".into(), json!(true));
    }
    let certificate = json!({
        "session": session, "request": request, "person": principal.person(),
        "principal": target.certificate_principal(&login), "approval": proof,
    });
    let opened = Opened {
        session,
        request,
        principal,
        target,
        address,
        login,
        want,
        exact: by_text,
        stdin: !by_text,
        rescue: false,
        break_glass: false,
        approvers: vec![],
        granted_for: std::time::Duration::ZERO,
        overrun: std::time::Duration::ZERO,
        ends_at: None,
        serial: 0,
        record: terms.record,
        retention,
        opened_at: now,
    };
    Ok(NewSession {
        opened,
        ends_at_most: None,
        kind,
        open: Event::new("session.open", open),
        certificate: Event::new("certificate.issue", certificate),
    })
}

/// The certificate that named the person, where one did.
fn login_certificate(who: &Principal) -> Option<Value> {
    let Issued { ca, serial, key_id } = who.key().certificate().map(Issued::of)?;
    let key_id: String = key_id.chars().take(256).collect();
    Some(json!({ "ca": ca, "serial": serial, "key_id": key_id }))
}

/// What a signer that trusts nobody needs to agree: the request's bytes and every decision with its
/// signature, the same of each extension, the digest of the policy set that ruled now.
fn evidence(directory: &Directory, standing: &Standing, extensions: Vec<Asked>) -> Vec<u8> {
    let request = Asked { bytes: standing.bytes.clone(), decisions: standing.decisions.iter().map(said).collect() };
    Evidence { v: VERSION, request: Some(request), extensions, policy: directory.digest }.bytes()
}

fn said(row: &DecisionRow) -> Said {
    Said {
        person: row.person.clone(),
        at: row.at,
        level: row.level,
        verdict: row.verdict,
        terms: row.terms.clone(),
        signed: row.signed.as_ref().map(|signed| SignedSaid { bytes: signed.bytes.clone(), sig: signed.signature.clone() }),
    }
}

/// The approved requests for more time on a grant that runs.
async fn extensions(snapshot: &mut Snapshot, grant: &GrantRow) -> Result<Vec<Asked>, crate::store::StoreError> {
    let Some(since) = grant.first_used else { return Ok(Vec::new()) };
    let mut extensions = Vec::new();
    for row in snapshot.approved_since(&grant.person, since).await? {
        let extends = RequestDocument::read(&row.bytes).ok().and_then(|document| document.extends);
        if extends.is_some_and(|extends| extends.request == grant.request) {
            let decisions = snapshot.decisions(row.id).await?.iter().map(said).collect();
            extensions.push(Asked { bytes: row.bytes, decisions });
        }
    }
    Ok(extensions)
}

impl Standing {
    /// What the log says of how it was approved: what came on a connection is this node's word alone.
    fn proof(&self) -> &'static str {
        let unsigned = self.decisions.iter().any(|row| row.signed.is_none() && self.by.contains(&row.person));
        match unsigned {
            // Nobody has agreed: that policy lets it stand is in the request's own bytes.
            _ if self.document.break_glass => "break-glass",
            true => Level::Connection.as_str(),
            false => "signed",
        }
    }
}
