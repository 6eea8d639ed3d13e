//! Making a request, joining one of equal scope, and fixing its bytes once its reason is known.

use std::time::Duration;

use regex::RegexBuilder;

use super::wait::no_waiter_yet;
use super::{Again, ApprovalError, Approvals, Ask, Joined, SubmitError};
use crate::access::action::Class;
use crate::access::alike::some_of;
use crate::access::canonical;
use crate::access::request::{self, ANY_SOURCE, MAX_REASON, MAX_TARGETS, Needs, RequestDocument, TargetPin};
use crate::access::workflow::{SourceRule, Workflow, source_rule};
use crate::access::{OpeningContext, Principal, Scope};
use crate::audit::Event;
use crate::config::{Directory, Limits};
use crate::id::{Digest, Person, RequestId};
use crate::judge::workflows_of;
use crate::store::requests::{NewRequest, RequestState};
use crate::store::waiters::Waiter;
use crate::store::{StoreError, Tx};
use crate::time::{Timestamp, short};

/// Client variables that a session may set on the target, in the words of the request.
pub const ENVIRONMENT: [&str; 5] = ["COLORTERM", "GIT_PROTOCOL", "LANG", "LC_*", "TERM"];
/// A denial stands for this long, unless somebody says that they ask again.
pub const DENIED_FOR: Duration = Duration::from_secs(600);
/// Longest command that can be asked for exactly, in bytes.
pub const MAX_COMMAND: usize = 32 * 1024;

impl Approvals {
    /// Makes a request, or joins the open one of equal scope (in one transaction).
    pub async fn submit(&self, who: &Principal, ask: Ask, now: Timestamp) -> Result<(RequestId, Joined), SubmitError> {
        let limits = self.directory().config.limits.clone();
        self.submit_within(limits, who, ask, now).await
    }

    /// Joins the open request of equal scope; a place for another is for those who came before.
    pub async fn join(&self, who: &Principal, ask: Ask, now: Timestamp) -> Result<(RequestId, Joined), SubmitError> {
        let limits = Limits { pending_per_person: 0, ..self.directory().config.limits.clone() };
        self.submit_within(limits, who, ask, now).await
    }

    async fn submit_within(&self, limits: Limits, who: &Principal, ask: Ask, now: Timestamp) -> Result<(RequestId, Joined), SubmitError> {
        let directory = self.directory();
        let workflows = asked_workflows(&directory, &ask)?;
        let reason = given(&workflows, ask.reason.as_deref()).map_err(SubmitError::Reason)?;
        let waits_for_reason = reason.is_none() && workflows.iter().any(|workflow| workflow.reason_required);
        let document = self.document(who, &ask, &workflows, reason, &directory, now)?;
        let linger = workflows.iter().map(|workflow| workflow.linger).min().unwrap_or_default();
        let new = NewRequest {
            state: if waits_for_reason { RequestState::NeedsReason } else { RequestState::Pending },
            waiter: ask.waiter,
            linger,
            due: no_waiter_yet(ask.waiter, linger, document.not_after(), now),
            context: OpeningContext::of(who, Vec::new(), now),
        };
        let again = ask.again;
        self.store.write(move |tx| Box::pin(join_or_insert(tx, document, new, (limits, again), now))).await
    }

    /// Fixes the bytes of a request that waits for its reason. Only its requester may. The nonce and
    /// the time it was made stay; the time to decide counts from now, when somebody is first asked.
    pub async fn give_reason(&self, id: RequestId, who: &Principal, reason: &str, now: Timestamp) -> Result<(), ApprovalError> {
        let row = self.store.snapshot().await?.request(id).await?.filter(|row| row.person == *who.person());
        let row = row.ok_or(ApprovalError::Unknown(id))?;
        if row.state != RequestState::NeedsReason {
            return Err(ApprovalError::Already(id, row.state.word()));
        }
        let mut document = RequestDocument::read(&row.bytes)?;
        let directory = self.directory();
        let workflows = workflows_of(&directory, &document).ok_or_else(|| ApprovalError::Reason(GONE.into()))?;
        let reason = given(&workflows, Some(reason)).map_err(ApprovalError::Reason)?;
        document.reason = reason.ok_or_else(|| ApprovalError::Reason("it is empty".into()))?;
        document.not_after_us = request::doc_micros(now.plus(decide_within(&workflows)));
        let person = who.person().clone();
        let fixed = self.store.write(move |tx| Box::pin(async move { fix(tx, document, &person, now).await })).await?;
        if fixed { Ok(()) } else { Err(self.changed_meanwhile(id).await) }
    }

    /// What to say when a compare-and-swap found that somebody was first.
    pub(super) async fn changed_meanwhile(&self, id: RequestId) -> ApprovalError {
        let read = async { self.store.snapshot().await?.request(id).await };
        match read.await {
            Ok(Some(row)) if row.state.is_open() => ApprovalError::Already(id, row.overdue().word()),
            Ok(Some(row)) => ApprovalError::Already(id, row.state.word()),
            Ok(None) => ApprovalError::Unknown(id),
            Err(error) => error.into(),
        }
    }

    pub(super) fn document(
        &self,
        who: &Principal,
        ask: &Ask,
        workflows: &[Workflow],
        reason: Option<String>,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<RequestDocument, SubmitError> {
        let (person, key, address) = request::asked_by(who);
        // The bytes say what is asked, so that the approver signs it and no address is compared later.
        let source = match source_rule(workflows) {
            SourceRule::Address => address,
            SourceRule::Any => ANY_SOURCE.to_owned(),
        };
        let exact = ask.scope.0.iter().all(|class| matches!(class, Class::Exec(_)));
        let mut needs: Vec<Needs> = ask
            .holds
            .iter()
            .map(|hold| Needs { workflow: hold.workflow.clone(), policy: hold.policy.clone(), message: hold.message.clone() })
            .collect();
        needs.sort();
        needs.dedup();
        let document = RequestDocument {
            v: request::VERSION,
            kind: "request".into(),
            bastion: self.bastion.clone(),
            request: RequestId::random(),
            nonce: rand::random::<[u8; 16]>().to_vec(),
            person,
            key,
            source,
            targets: pins(ask)?,
            login: ask.login.clone(),
            scope: ask.scope.clone(),
            commands: commands(&ask.scope, &ask.commands)?,
            env: ENVIRONMENT.map(String::from).to_vec(),
            stdin: ask.stdin || !exact,
            for_us: request::doc_duration(duration(ask, workflows)?),
            once: ask.once,
            made_us: request::doc_micros(now),
            not_after_us: request::doc_micros(now.plus(decide_within(workflows))),
            start_us: ask.start.map(request::doc_micros),
            reason: reason.unwrap_or_default(),
            needs,
            policy: directory.digest,
            overrun_us: workflows
                .iter()
                .map(|workflow| workflow.overrun)
                .min()
                .filter(|overrun| !overrun.is_zero())
                .map(request::doc_duration),
            extends: None,
            break_glass: false,
        };
        // What is stored must be readable again, with the longest reason that may still come.
        let room = if document.reason.is_empty() { MAX_REASON * 6 } else { 0 };
        if document.bytes().len() + room > canonical::MAX_BYTES {
            return Err(SubmitError::TooLarge);
        }
        Ok(document)
    }
}

const GONE: &str = "its workflow is not in approvals.toml any more; connect again";

pub(super) async fn join_or_insert(
    tx: &mut Tx,
    mut document: RequestDocument,
    mut new: NewRequest,
    (limits, again): (Limits, Again),
    now: Timestamp,
) -> Result<(RequestId, Joined), SubmitError> {
    if let Some(row) = tx.open_request_joining(document.joins()).await? {
        if row.due > now {
            tx.waiter_joins(&row, new.waiter, no_waiter_yet(new.waiter, row.linger, row.not_after, now)).await?;
            let facts = serde_json::json!({ "key": document.key, "source": document.source });
            if row.state == RequestState::NeedsReason && new.state == RequestState::Pending {
                let mut fixed = RequestDocument::read(&row.bytes)?;
                fixed.reason = document.reason;
                fixed.not_after_us = document.not_after_us;
                fix(tx, fixed, &document.person, now).await?;
            } else {
                tx.append(Event::request("request.join", row.id, Some(&document.person), facts), now).await?;
            }
            return Ok((row.id, Joined::Existing));
        }
        // The sweep has not come by yet; it must not keep a new request from being made.
        super::end::overdue(tx, &row, now).await?;
    }
    // Nobody is asked in vain, and nobody is notified (`users.md` 15).
    if again == Again::No
        && let Some(denied) = denied_lately(tx, &document, now).await?
    {
        return Err(denied);
    }
    let (theirs, everybodys) = tx.count_open(&document.person, now).await?;
    if theirs >= limits.pending_per_person {
        return Err(SubmitError::TooManyOfYours(theirs));
    }
    if everybodys >= limits.pending {
        return Err(SubmitError::TooMany(everybodys));
    }
    document.request = fresh_id(tx).await?;
    new.context.opened = tx.opened_of(&document.person, &document.targets).await?;
    let digest = Digest::of(&document.bytes());
    let facts = serde_json::json!({
        "digest": digest, "state": new.state.word(), "key": document.key, "source": document.source,
        "login": document.login, "targets": document.targets.len(), "policy": document.policy,
    });
    let event = Event::request("request.submit", document.request, Some(&document.person), facts);
    tx.insert_request(&document, new, event, now).await?;
    Ok((document.request, Joined::New))
}

/// Denials of one person that are looked through: the last ones.
const DENIALS: u32 = 200;

/// The last denial that still stands for some target of this, as the refusal that it is.
pub(super) async fn denied_lately(tx: &mut Tx, document: &RequestDocument, now: Timestamp) -> Result<Option<SubmitError>, StoreError> {
    for (row, at) in tx.denied_lately(&document.person, now.minus(DENIED_FOR), DENIALS).await? {
        let RequestState::Denied { by, note } = row.state else { continue };
        let Some(denied) = RequestDocument::read(&row.bytes).ok().filter(|denied| denied.denies(document)) else { continue };
        let both: Vec<&str> =
            document.targets.iter().filter(|target| denied.has_target(&target.id)).map(|target| target.id.as_str()).collect();
        let what = if both.len() == document.targets.len() { "this".to_owned() } else { some_of(&both) };
        return Ok(Some(SubmitError::DeniedLately { request: row.id, by, note, ago: now.since(at), what }));
    }
    Ok(None)
}

async fn fix(tx: &mut Tx, document: RequestDocument, by: &Person, now: Timestamp) -> Result<bool, StoreError> {
    let Some(row) = tx.request(document.request).await? else { return Ok(false) };
    // Whoever waits goes on waiting; who has left is still as long gone.
    let due = if row.waiters > 0 || row.waiter == Waiter::Nobody { document.not_after() } else { row.due.min(document.not_after()) };
    let facts = serde_json::json!({ "digest": Digest::of(&document.bytes()) });
    let event = Event::request("request.reason", document.request, Some(by), facts);
    tx.fix_bytes(&document, due, event, now).await
}

pub(super) async fn fresh_id(tx: &mut Tx) -> Result<RequestId, StoreError> {
    for _ in 0..8 {
        let id = RequestId::random();
        if !tx.is_known(id).await? {
            return Ok(id);
        }
    }
    Err(StoreError::Ids)
}

pub(super) fn asked_workflows(directory: &Directory, ask: &Ask) -> Result<Vec<Workflow>, SubmitError> {
    if ask.holds.is_empty() || ask.scope.0.is_empty() {
        return Err(SubmitError::Nothing);
    }
    let found = |name| directory.workflows.get(name).cloned().ok_or_else(|| SubmitError::Workflow(name.clone()));
    ask.holds.iter().map(|hold| found(&hold.workflow)).collect()
}

pub(super) fn decide_within(workflows: &[Workflow]) -> Duration {
    workflows.iter().map(|workflow| workflow.decide_within).min().unwrap_or_default()
}

/// What is asked for is refused if it is too long; what the workflow offers is cut to what policy allows.
fn duration(ask: &Ask, workflows: &[Workflow]) -> Result<Duration, SubmitError> {
    let bounds = workflows.iter().map(|workflow| workflow.longest_grant).chain(ask.terms.longest_grant);
    let longest = bounds.min().unwrap_or_default();
    match ask.duration {
        Some(asked) if asked > longest => Err(SubmitError::TooLong { asked: short(asked), longest: short(longest) }),
        Some(asked) => Ok(asked),
        None => Ok(workflows.iter().map(|workflow| workflow.default_grant).min().unwrap_or_default().min(longest)),
    }
}

fn pins(ask: &Ask) -> Result<Vec<TargetPin>, SubmitError> {
    let mut targets: Vec<TargetPin> = ask.targets.iter().map(|target| TargetPin { id: target.id.clone(), pin: target.pin() }).collect();
    targets.sort();
    targets.dedup();
    if targets.is_empty() || targets.len() > MAX_TARGETS { Err(SubmitError::Targets(targets.len())) } else { Ok(targets) }
}

/// The texts of exact commands in the order of their digests, as the approver will read them.
fn commands(scope: &Scope, given: &[Vec<u8>]) -> Result<Vec<String>, SubmitError> {
    let exact = scope.0.iter().filter_map(|class| match class {
        Class::Exec(digest) => Some(digest),
        _ => None,
    });
    exact
        .map(|digest| {
            let bytes = given.iter().find(|bytes| Digest::of(bytes) == *digest).ok_or(SubmitError::Command("its bytes are missing"))?;
            if bytes.len() > MAX_COMMAND {
                return Err(SubmitError::Command("it is longer than 32 KiB"));
            }
            let text = std::str::from_utf8(bytes).map_err(|_| SubmitError::Command("it is not UTF-8"))?;
            if text.contains('\0') { Err(SubmitError::Command("it contains a NUL byte")) } else { Ok(text.to_owned()) }
        })
        .collect()
}

/// A reason without the white space around it, if there is one and it fits every workflow.
pub(super) fn given(workflows: &[Workflow], reason: Option<&str>) -> Result<Option<String>, String> {
    let Some(reason) = reason.map(str::trim).filter(|reason| !reason.is_empty()) else { return Ok(None) };
    if reason.len() > MAX_REASON {
        return Err(format!("it is {} bytes long; {MAX_REASON} are allowed", reason.len()));
    }
    for workflow in workflows {
        let Some(pattern) = &workflow.reason_pattern else { continue };
        let whole = RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 20).build();
        let whole = whole.map_err(|_| format!("the reason_pattern of {} in approvals.toml is not a regular expression", workflow.name))?;
        if !whole.is_match(reason) {
            return Err(format!("{} wants it to match {pattern}", workflow.name));
        }
    }
    Ok(Some(reason.to_owned()))
}
