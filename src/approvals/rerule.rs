//! After a reload everything that is still open is ruled again, each with the context it was asked in
//! (**D policy change**). What policy forbids now is void, whether it waits or was granted; a new hold
//! voids what waits and what nobody has used, never a live session. Nothing is ever widened: an opening
//! asks policy once more, and a session that runs keeps what it was given.

use serde_json::json;

use super::{ApprovalError, Approvals};
use crate::access::action::Class;
use crate::access::policy::Question;
use crate::access::request::RequestDocument;
use crate::access::ruling::Ruling;
use crate::access::workflow::Workflow;
use crate::access::{Action, Grant, OpeningContext, Target};
use crate::audit::Event;
use crate::config::Directory;
use crate::id::RequestId;
use crate::judge::{is_still_known, workflows_of};
use crate::store::grants::{GrantFilter, GrantRow};
use crate::store::requests::{RequestFilter, RequestRow, RequestState};
use crate::time::Timestamp;

/// Rows that are looked at; a bastion has not so many open ones (`limits.pending`).
const READ: u32 = 20_000;

/// What a reload has voided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reruled {
    pub requests: usize,
    pub grants: usize,
}

/// Why something does not stand under the directory as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fallen {
    /// Forbidden, or somebody or something in it is gone: for good, used or not.
    Forbidden(String),
    /// Somebody has to agree who was not asked.
    Held(String),
    /// Nobody has to agree any more: who waits may pass.
    Free,
}

impl Fallen {
    pub(super) fn why(self) -> String {
        match self {
            Fallen::Forbidden(why) | Fallen::Held(why) => why,
            Fallen::Free => "nobody has to agree any more".into(),
        }
    }
}

/// What is voided: a request that waits, or a grant.
enum Void {
    Request(RequestId, String),
    Grant {
        id: RequestId,
        unused: bool,
        why: String,
    },
    /// A window that runs and is longer than policy and workflows give now.
    Shorter {
        id: RequestId,
        ends: Timestamp,
    },
}

impl Approvals {
    /// Rules again on every open request and grant by today's directory.
    pub async fn rerule(&self, now: Timestamp) -> Result<Reruled, ApprovalError> {
        let mut snapshot = self.store.snapshot().await?;
        let requests = snapshot.requests(&RequestFilter { open_only: true, person: None, limit: READ }).await?;
        let mut granted = Vec::new();
        for grant in snapshot.grants(&GrantFilter { open_only: true, person: None, limit: READ }).await? {
            granted.push((snapshot.request(grant.request).await?, grant));
        }
        drop(snapshot);
        let directory = self.directory();
        // Policy over hundreds of requests and targets takes the processor for a while.
        let fallen = tokio::task::spawn_blocking(move || {
            let waiting = requests.iter().filter_map(|row| Some(Void::Request(row.id, row_fallen(&directory, row, Fit::Every)?.why())));
            let granted = granted.iter().filter_map(|(row, grant)| {
                let used = grant.first_used.is_some();
                let row = row.as_ref()?;
                let Some(fallen) = row_fallen(&directory, row, if used { Fit::Any } else { Fit::Every }) else {
                    return shorter(&directory, row, grant);
                };
                match fallen {
                    Fallen::Forbidden(why) => Some(Void::Grant { id: grant.request, unused: false, why }),
                    Fallen::Held(why) if !used => Some(Void::Grant { id: grant.request, unused: true, why }),
                    Fallen::Held(_) | Fallen::Free => None,
                }
            });
            waiting.chain(granted).collect::<Vec<Void>>()
        });
        let fallen = fallen.await.unwrap_or_else(|error| {
            // What is stale is caught again when it is decided or opened.
            tracing::error!(%error, "what is pending could not be ruled again");
            Vec::new()
        });
        // Others may have to be asked now.
        self.store.write(|tx| Box::pin(async move { Ok::<_, ApprovalError>(tx.look_at_all().await?) })).await?;
        let mut done = Reruled::default();
        for void in fallen {
            match void {
                Void::Request(id, why) => done.requests += usize::from(self.void_request(id, why, now).await?),
                Void::Shorter { id, ends } => {
                    let ends = ends.max(now);
                    let shortened =
                        self.store.write(move |tx| Box::pin(async move { Ok::<_, ApprovalError>(tx.shorten_grant(id, ends, now).await?) }));
                    shortened.await?;
                }
                Void::Grant { id, unused, why } => {
                    let event = Event::request("grant.void", id, None, json!({ "why": changed(&why) }));
                    let voided = self.store.write(move |tx| {
                        Box::pin(async move { Ok::<_, ApprovalError>(tx.void_grant(id, unused, &changed(&why), event, now).await?) })
                    });
                    done.grants += usize::from(voided.await?);
                }
            }
        }
        Ok(done)
    }

    async fn void_request(&self, id: RequestId, why: String, now: Timestamp) -> Result<bool, ApprovalError> {
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let Some(row) = tx.request(id).await?.filter(|row| row.state.is_open()) else { return Ok(false) };
                    let event = Event::request("request.void", id, None, json!({ "digest": row.digest, "why": changed(&why) }));
                    Ok(tx.turn(&row, &RequestState::Void, None, event, now).await?)
                })
            })
            .await
    }
}

/// Why a live session may not go on under this directory, in brackets behind "the policy changed"; a new
/// hold does not end it.
pub fn session_fallen(directory: &Directory, grant: &Grant, context: &OpeningContext) -> Option<String> {
    let person = grant.principal.person();
    if directory.people.named(person).is_none() {
        return Some(format!("{person} is not known here any more"));
    }
    if directory.people.is_suspended(person) {
        return Some(format!("{person} is suspended"));
    }
    // As of its opening: that a certificate is over by now ends nothing, that it was revoked does.
    if !is_still_known(directory, &grant.principal, context.at) {
        return Some(format!("the key {} is not {person}'s any more", grant.principal.fingerprint()));
    }
    let target = match directory.targets.find(grant.target.id.as_str()).filter(|target| target.id == grant.target.id) {
        Some(target) if target.pin() != grant.target.pin() => return Some(format!("{} is another host now", target.id)),
        Some(target) if target.accounts(person).contains(&grant.login) => target,
        Some(target) => return Some(format!("{} is no login of {} any more", grant.login, target.id)),
        None => return Some(format!("{} is not a target any more", grant.target.id)),
    };
    let rule = |action: Action| {
        let question = context.question(&directory.people, person, (&*target, &grant.login), action, grant.want.command())?;
        Some(directory.policy.rule(&Question { to: grant.want.endpoint(), ..question }))
    };
    match grant.want.actions().into_iter().filter_map(rule).reduce(Ruling::meet)? {
        Ruling::Deny(denial) => Some(denial.brief()),
        Ruling::Permit(_) | Ruling::RequireApproval { .. } => None,
    }
}

/// How long a session that nobody had to agree to may last under this directory.
pub fn session_longest(directory: &Directory, grant: &Grant, context: &OpeningContext) -> Option<std::time::Duration> {
    let person = grant.principal.person();
    let target = directory.targets.find(grant.target.id.as_str())?;
    let rule = |action: &Action| {
        let question = context.question(&directory.people, person, (&*target, &grant.login), *action, grant.want.command())?;
        Some(directory.policy.rule(&Question { to: grant.want.endpoint(), ..question }))
    };
    match grant.want.actions().iter().filter_map(rule).reduce(Ruling::meet)? {
        Ruling::Permit(terms) | Ruling::RequireApproval { terms, .. } => terms.longest_grant,
        Ruling::Deny(_) => None,
    }
}

fn changed(why: &str) -> String {
    format!("the policy changed ({why})")
}

/// Of several targets: whether each has to stand, or one is enough to keep it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Every,
    Any,
}

/// Where a window that runs is longer than it could be now: its end as of its first use.
fn shorter(directory: &Directory, row: &RequestRow, grant: &GrantRow) -> Option<Void> {
    let (since, ends) = (grant.first_used?, grant.ends_at?);
    let document = RequestDocument::read(&row.bytes).ok()?;
    let context = row.context.clone().unwrap_or_else(|| context_of(&document));
    let latest = since.plus(longest(directory, &document, &context, &workflows_of(directory, &document)?));
    (latest < ends).then_some(Void::Shorter { id: grant.request, ends: latest })
}

fn row_fallen(directory: &Directory, row: &RequestRow, fit: Fit) -> Option<Fallen> {
    // Bytes that cannot be read are refused where they are used.
    let document = RequestDocument::read(&row.bytes).ok()?;
    let context = row.context.clone().unwrap_or_else(|| context_of(&document));
    fallen(directory, &document, &context, fit)
}

pub(super) fn fallen(directory: &Directory, document: &RequestDocument, context: &OpeningContext, fit: Fit) -> Option<Fallen> {
    let person = &document.person;
    let Some(entry) = directory.people.named(person) else {
        return Some(Fallen::Forbidden(format!("{person} is not known here any more")));
    };
    if directory.people.is_suspended(person) {
        return Some(Fallen::Forbidden(format!("{person} is suspended")));
    }
    let listed = entry.keys.iter().any(|key| key.fingerprint(Default::default()).to_string() == document.key);
    let certified = context.certificate.as_ref().is_some_and(|issued| issued.stands(&directory.people, &document.key));
    if !listed && !certified {
        return Some(Fallen::Forbidden(format!("the key {} is not {person}'s any more", document.key)));
    }
    if workflows_of(directory, document).is_none() {
        return Some(Fallen::Forbidden("one of its workflows is gone".into()));
    }
    let mut each = Vec::new();
    for asked in &document.targets {
        let found = directory.targets.find(asked.id.as_str()).filter(|target| target.id == asked.id);
        each.push(match found {
            None => Err(format!("{} is not a target any more", asked.id)),
            Some(target) if target.pin() != asked.pin => Err(format!("{} is another host now", asked.id)),
            Some(target) if !target.accounts(person).contains(&document.login) => {
                Err(format!("{} is no login of {} any more", document.login, asked.id))
            }
            Some(target) => match ruled(directory, document, context, &target) {
                Ruling::Deny(denial) if document.targets.len() > 1 => Err(format!("{} on {}", denial.brief(), target.id)),
                Ruling::Deny(denial) => Err(denial.brief()),
                ruling => Ok(ruling),
            },
        });
    }
    let first = each.iter().find_map(|one| one.as_ref().err().cloned());
    let lost = match fit {
        Fit::Every => first.is_some(),
        Fit::Any => each.iter().all(Result::is_err),
    };
    if lost {
        return first.map(Fallen::Forbidden);
    }
    let ruling = each.into_iter().flatten().reduce(Ruling::meet)?;
    let Ruling::RequireApproval { holds, .. } = ruling else { return Some(Fallen::Free) };
    let new = holds.into_iter().find(|hold| !document.needs.iter().any(|needs| needs.workflow == hold.workflow));
    new.map(|hold| Fallen::Held(hold.policy))
}

/// How long it may run in all, by its workflows and by today's rulings on its targets.
pub(super) fn longest(
    directory: &Directory,
    document: &RequestDocument,
    context: &OpeningContext,
    workflows: &[Workflow],
) -> std::time::Duration {
    let targets = document.targets.iter().filter_map(|asked| directory.targets.find(asked.id.as_str()));
    let ruled = targets.filter_map(|target| match ruled(directory, document, context, &target) {
        Ruling::Permit(terms) | Ruling::RequireApproval { terms, .. } => terms.longest_grant,
        Ruling::Deny(_) => Some(std::time::Duration::ZERO),
    });
    workflows.iter().map(|workflow| workflow.longest_grant).chain(ruled).min().unwrap_or_default()
}

/// Everything that was asked for, on one target.
fn ruled(directory: &Directory, document: &RequestDocument, context: &OpeningContext, target: &Target) -> Ruling {
    let rule = |class: &Class, command: Option<&str>| {
        let action = class.action();
        let mut question = context.question(&directory.people, &document.person, (target, &document.login), action, command)?;
        // Made ahead, as if it had been given; who comes without it is asked then.
        question.to = class.endpoint();
        question.mfa |= directory.policy.lacks_second_factor(&question);
        Some(directory.policy.rule(&question))
    };
    let mut commands = document.commands.iter();
    let rulings = document.scope.0.iter().filter_map(|class| match class {
        // In the order of their digests, as the set has them.
        Class::Exec(_) => rule(class, commands.next().map(String::as_str)),
        _ => rule(class, None),
    });
    rulings.reduce(Ruling::meet).unwrap_or(Ruling::Deny(crate::access::ruling::Denial::NoPermit))
}

/// For a request of an earlier version: what its bytes say.
fn context_of(document: &RequestDocument) -> OpeningContext {
    let address = document.source.split('/').next().and_then(|address| address.parse().ok());
    OpeningContext {
        source: address.unwrap_or(std::net::IpAddr::from([0, 0, 0, 0])),
        at: document.made(),
        opened: document.targets.iter().map(|target| target.id.clone()).collect(),
        mfa: false,
        inner_auth: true,
        certificate: None,
    }
}
