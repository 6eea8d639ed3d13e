//! What policy says of a channel, and how a refusal reads.

use std::sync::Arc;

use tokio::sync::watch;

use super::Bastion;
use super::channel::Status;
use super::session::Stop;
use crate::access::policy::There;
use crate::access::ruling::{Denial, Ruling};
use crate::access::scope::{Asked, Reach};
use crate::access::{Action, OpeningContext, Principal, Target, Want};
use crate::approvals::OpenError;
use crate::config::Directory;
use crate::id::{Digest, Login};
use crate::time::Timestamp;

/// What policy says, and of what.
pub struct Ruled {
    pub asked: Asked,
    /// The command is allowed by its text: a shell, or any other command, would be ruled otherwise. It
    /// then runs as `force-command` without terminal: a pager in it would be a shell that nobody allowed.
    pub by_text: bool,
    /// What policy knew; a reload rules again with it.
    pub context: OpeningContext,
    /// Of the set that ruled.
    pub policy: Digest,
}

/// Who wants what where. Person, groups and target are taken from the directory anew at each ruling: a
/// wait may see several of them.
pub struct Asking<'a> {
    pub bastion: &'a Bastion,
    pub principal: Principal,
    pub target: Arc<Target>,
    pub login: Login,
    pub want: Want,
    /// The name of what is to be asked for with it.
    pub preset: Option<String>,
    /// Has changed once the directory is not the one that ruled last.
    pub changes: watch::Receiver<Arc<Directory>>,
}

impl<'a> Asking<'a> {
    pub fn new(bastion: &'a Bastion, principal: &Principal, target: Arc<Target>, login: Login, want: Want) -> Self {
        Self { bastion, principal: principal.clone(), target, login, want, preset: None, changes: bastion.directory.clone() }
    }

    /// Whether the directory has changed since the last ruling.
    pub fn is_outdated(&self) -> bool {
        self.changes.has_changed().unwrap_or(false)
    }

    /// Rules on what the channel wants and widens it to what is worth one approval. A denial is final and
    /// nobody is asked in vain.
    pub async fn rule(&mut self) -> Result<Ruled, Stop> {
        let directory = self.changes.borrow_and_update().clone();
        let console = console(&directory, &self.principal);
        let Ok(principal) = self.principal.again(&directory.people, Timestamp::now()) else {
            self.bastion.report_refusal(self.principal.clone(), self.wanted(), "the key, or its certificate, is not known any more");
            if directory.people.is_suspended(self.principal.person()) {
                return Err(Stop::new("refused: you are suspended here; an operator can tell you why", Status::Refused));
            }
            let what = if self.principal.key().certificate().is_some() { "certificate" } else { "key" };
            let text = format!("refused: your {what} is not known here any more; an operator can tell you why");
            return Err(Stop::new(text, Status::Refused));
        };
        self.principal = principal;
        let found = directory.targets.find(self.target.id.as_str()).filter(|target| target.id == self.target.id);
        match found.filter(|target| target.account(Some(&self.login), self.principal.person()).is_some()) {
            Some(target) => self.target = target,
            None => {
                self.bastion.report_refusal(self.principal.clone(), self.wanted(), "no such target for this person");
                return Err(unknown(directory.clone(), &self.principal, &self.wanted(), self.target.id.as_str(), &console).await);
            }
        }
        let Self { bastion, principal, target, login, want, preset, .. } = self;
        rule(bastion, &directory, (principal, target, login), (want, preset.as_deref()), &console).await
    }

    /// `deploy@web-1`
    fn wanted(&self) -> String {
        format!("{}@{}", self.login, self.target.id)
    }
}

async fn rule(
    bastion: &Bastion,
    directory: &Directory,
    (principal, target, login): (&Principal, &Target, &Login),
    (want, preset): (&Want, Option<&str>),
    console: &str,
) -> Result<Ruled, Stop> {
    let opened_before = bastion.store.has_opened(principal.person(), &target.id).await.map_err(|error| {
        tracing::error!(%error, "cannot rule");
        Stop::new("refused: the bastion's state cannot be read; try again, or tell an operator", Status::Refused)
    })?;
    let now = Timestamp::now();
    let there = There { who: principal, target, login, first_time: !opened_before, now };
    let whole = preset.map(|name| directory.presets.named(name).map(|scope| (name, scope))).transpose();
    let whole = whole.map_err(|unknown| Stop::new(format!("refused: {unknown}; or unset COUNTERSIGN_PRESET"), Status::Malformed))?;
    // What a preset names is ruled whole, with what is wanted now.
    let ask = |mfa: bool| match (whole, mfa) {
        (Some((_, scope)), mfa) => directory.policy.ask_whole(&there, scope, Some(want), mfa),
        (None, false) => directory.policy.ask(&there, want, Reach::Widest),
        (None, true) => directory.policy.ask_with_second_factor(&there, want, Reach::Widest),
    };
    let asked = ask(false);
    if let Ruling::Deny(denial) = &asked.ruling {
        let wanted = format!("{login}@{}", target.id);
        if !matches!(ask(true).ruling, Ruling::Deny(_)) {
            bastion.report_refusal(principal.clone(), wanted, "no second factor");
            return Err(needs_second_factor(directory, principal));
        }
        if let Some((name, scope)) = whole
            && !matches!(directory.policy.ask_with_second_factor(&there, want, Reach::Widest).ruling, Ruling::Deny(_))
        {
            let beyond = directory.policy.denied_of(&there, scope).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            bastion.report_refusal(principal.clone(), wanted.clone(), &format!("the preset {name} goes beyond: {beyond}"));
            let text = format!(
                "refused: the preset {name} asks for {beyond}, which is not yours on {wanted}; connect without COUNTERSIGN_PRESET={name}; {console}"
            );
            return Err(Stop::new(text, Status::Refused));
        }
        let (why, said) = match denial {
            Denial::NoPermit => ("no permit".to_owned(), None),
            Denial::Forbidden { policy, message } => (format!("forbidden by {policy}"), message.clone()),
            Denial::Error { policy, error } => (format!("policy {policy} failed: {error}"), None),
        };
        tracing::info!(person = %principal.person(), wanted, why, "refused");
        bastion.report_refusal(principal.clone(), wanted.clone(), &why);
        let said = said.map(|said| format!(": {said}")).unwrap_or_default();
        return Err(Stop::new(format!("refused: {wanted} is unknown or not yours for this{said}; {console}"), Status::Refused));
    }
    let any_command = match (want.without_agent(), &asked.ruling) {
        (Want::Exec(_), Ruling::Permit(_)) => matches!(directory.policy.rule(&there.question(Action::Exec, None)), Ruling::Permit(_)),
        (Want::Exec(_), _) => !asked.scope.is_exact_for(want),
        (Want::Shell | Want::Sftp | Want::ForwardLocal(_) | Want::ForwardRemote(_) | Want::WithAgent(_), _) => true,
    };
    let opened = opened_before.then(|| target.id.clone()).into_iter().collect();
    Ok(Ruled { asked, by_text: !any_command, context: OpeningContext::of(principal, opened, now), policy: directory.digest })
}

/// What somebody reads who would be let in with a second factor.
fn needs_second_factor(directory: &Directory, principal: &Principal) -> Stop {
    let how = match directory.factors.of(principal.person()) {
        Some(_) => "connect again, not in BatchMode, and type the code when ssh asks".to_owned(),
        None => format!("you have none here yet; an operator makes one: countersign totp enroll {} -c DIR", principal.person()),
    };
    Stop::new(format!("refused: this needs your second factor: {how}"), Status::Refused)
}

/// Where a refused person goes on.
pub fn console(directory: &Directory, principal: &Principal) -> String {
    format!("console: ssh {}@{}", principal.person(), directory.config.host)
}

/// The one refusal for targets that do not exist and for those that are not this person's.
pub async fn unknown(directory: Arc<Directory>, principal: &Principal, wanted: &str, name: &str, console: &str) -> Stop {
    let nearby = crate::console::nearby(directory, principal.clone(), name).await;
    let nearby = if nearby.is_empty() { String::new() } else { format!(" Yours nearby: {}.", nearby.join(", ")) };
    let wanted = visible(wanted);
    Stop::new(format!("refused: {wanted} is unknown or not yours.{nearby} {console}"), Status::Refused)
}

/// What a client typed, harmless and short.
fn visible(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// What the person reads when the grant could not be used.
pub fn not_opened(error: OpenError) -> Stop {
    match error {
        OpenError::Unusable(id, why) => Stop::new(format!("refused: {id} {why}; connect again to ask anew"), Status::Refused),
        OpenError::PolicyChanged => Stop::new("refused: the policy changed just now; connect again", Status::Refused),
        OpenError::Key(_) | OpenError::Schedule(_) | OpenError::Clock(_) => Stop::new(format!("refused: {error}"), Status::Refused),
        OpenError::Store(error) => {
            tracing::error!(%error, "a session could not be opened in the state");
            Stop::new("refused: the bastion's state cannot be written; try again, or tell an operator", Status::Refused)
        }
    }
}
