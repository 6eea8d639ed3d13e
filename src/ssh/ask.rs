//! What policy says of a channel, and how a refusal reads.

use std::sync::Arc;

use super::Bastion;
use super::channel::Status;
use super::session::Stop;
use crate::access::policy::There;
use crate::access::ruling::{Denial, Ruling};
use crate::access::scope::{Asked, Reach};
use crate::access::{Action, Principal, Target, Want};
use crate::approvals::OpenError;
use crate::config::Directory;
use crate::id::Login;
use crate::time::Timestamp;

/// What policy says, and of what.
pub struct Ruled {
    pub asked: Asked,
    /// The command is allowed by its text: a shell, or any other command, would be ruled otherwise. It
    /// then runs as `force-command` without terminal: a pager in it would be a shell that nobody allowed.
    pub by_text: bool,
}

/// Rules on what a channel wants and widens it to what is worth one approval. A denial is final and
/// nobody is asked in vain.
pub async fn rule(bastion: &Bastion, principal: &Principal, target: &Target, login: &Login, want: &Want) -> Result<Ruled, Stop> {
    let directory = bastion.directory();
    let console = console(&directory, principal);
    let opened_before = bastion.store.has_opened(principal.person(), &target.id).await.map_err(|error| {
        tracing::error!(%error, "cannot rule");
        Stop::new("refused: the bastion's state cannot be read; try again, or tell an operator", Status::Refused)
    })?;
    let there = There { who: principal, target, login, first_time: !opened_before, now: Timestamp::now() };
    let asked = directory.policy.ask(&there, want, Reach::Widest);
    if let Ruling::Deny(denial) = &asked.ruling {
        let wanted = format!("{login}@{}", target.id);
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
    let any_command = match (want, &asked.ruling) {
        (Want::Exec(_), Ruling::Permit(_)) => matches!(directory.policy.rule(&there.question(Action::Exec, None)), Ruling::Permit(_)),
        (Want::Exec(_), _) => !asked.scope.is_exact_for(want),
        (Want::Shell | Want::Sftp, _) => true,
    };
    Ok(Ruled { asked, by_text: !any_command })
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
        OpenError::Key(_) | OpenError::Schedule(_) | OpenError::Clock(_) => Stop::new(format!("refused: {error}"), Status::Refused),
        OpenError::Store(error) => {
            tracing::error!(%error, "a session could not be opened in the state");
            Stop::new("refused: the bastion's state cannot be written; try again, or tell an operator", Status::Refused)
        }
    }
}
