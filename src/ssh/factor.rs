//! The second factor at login: keyboard-interactive after a key (RFC 4256), as a partial success.
//!
//! Asked only of a person who has one enrolled, after their key or certificate has signed; what they type
//! is judged against the secret of exactly that person, for exactly that user name. Whoever is asked does
//! not get in without: an error, a late answer of the state, a code too many are all a no.

use std::borrow::Cow;

use russh::server::{Auth, Response};
use russh::{MethodKind, MethodSet};

use super::Bastion;
use super::front::Role;
use super::names::{self, Wanted};
use crate::access::Principal;
use crate::access::factor::{Answer, Ask};
use crate::access::policy::There;
use crate::config::Directory;
use crate::store::factors::Tried;
use crate::time::{Timestamp, at};

/// Somebody whose first factor is done and who is asked for the second.
#[derive(Debug)]
pub struct Asked {
    user: String,
    principal: Principal,
    /// What the last answer came to, for the next question.
    said: Option<String>,
}

/// Whether this person has to give their second factor before they are in: they have one, did not give
/// it yet, and are asked always, or policy denies something there that it would not with it.
pub fn is_needed(directory: &Directory, who: &Principal, user: &str, role: &Role, now: Timestamp) -> bool {
    let Some(enrolled) = directory.factors.of(who.person()).filter(|_| who.second_factor().is_none()) else { return false };
    match enrolled.ask {
        Ask::Always => true,
        Ask::WhenNeeded => turns_on_it(directory, who, user, role, now),
    }
}

fn turns_on_it(directory: &Directory, who: &Principal, user: &str, role: &Role, now: Timestamp) -> bool {
    let (target, login) = match role {
        Role::Inner { target, .. } => (directory.targets.find(target.id.as_str()), user.parse().ok()),
        Role::Outer => match names::wanted(user, who.person()) {
            Ok(Wanted::Target { login, name }) => (directory.targets.find(&name), login),
            Ok(Wanted::Console | Wanted::Card(_)) | Err(_) => return false,
        },
    };
    let Some(target) = target else { return false };
    let Some(login) = target.account(login.as_ref(), who.person()) else { return false };
    let there = There { who, target: &target, login: &login, first_time: false, now };
    directory.policy.cases().any(|case| directory.policy.lacks_second_factor(&there.about(case)))
}

/// The key was right; what is still missing is the code. Not a failed try.
pub fn first_is_done() -> Auth {
    Auth::Reject { proceed_with_methods: Some(MethodSet::from(&[MethodKind::KeyboardInteractive][..])), partial_success: true }
}

impl Asked {
    pub fn of(user: &str, principal: Principal) -> Self {
        Self { user: user.to_owned(), principal, said: None }
    }

    pub fn is_for(&self, user: &str) -> bool {
        self.user == user
    }

    /// The prompt, below what came of the last code.
    pub fn question(&mut self) -> Auth {
        let said = self.said.take().map(|said| format!("countersign: {said}"));
        Auth::Partial {
            name: Cow::Borrowed(""),
            instructions: said.map_or(Cow::Borrowed(""), Cow::Owned),
            prompts: Cow::Borrowed(&[(Cow::Borrowed("Code of your second factor: "), false)]),
        }
    }

    /// The principal with their second factor, if the one answer is their code and nobody used it before.
    ///
    /// Waits for the state, which answers within its deadline or not at all; nothing else runs on a
    /// connection before its login, so nobody is kept waiting by it.
    pub async fn answered(&mut self, bastion: &Bastion, mut answers: Response<'_>, now: Timestamp) -> Option<Principal> {
        let person = self.principal.person().clone();
        // The one answer to the one question; what is beyond is an attack or a mistake.
        let (Some(typed), None) = (answers.next(), answers.next()) else { return None };
        let directory = bastion.directory();
        // As the directory has both now: a reload may have taken the key or the secret away.
        let principal = self.principal.again(&directory.people, now).ok()?;
        let secret = &directory.factors.of(&person)?.secret;
        let step = match std::str::from_utf8(&typed).map_or(Answer::NoCode, |typed| secret.judge(typed, now)) {
            Answer::NoCode => {
                self.said = Some("a code is six digits".into());
                return None;
            }
            Answer::Wrong => None,
            Answer::Fits(step) => Some(step),
        };
        match bastion.store.try_second_factor(&person, step, principal.source(), now).await {
            Ok(Tried::Proven(factor)) => return principal.with_second_factor(factor.of(secret)),
            Ok(Tried::Refused) => {
                tracing::warn!(%person, source = %principal.source(), used = step.is_some(), "a wrong or used code");
                self.said = Some("that code is wrong or was used; wait for the next one".into());
            }
            Ok(Tried::Locked(until)) => {
                tracing::warn!(%person, source = %principal.source(), %until, "locked: too many wrong codes");
                self.said = Some(format!("too many wrong codes; no code is taken before {}", at(until, now)));
            }
            Err(error) => {
                tracing::error!(%person, error = crate::console::with_causes(&error), "a code could not be spent");
                self.said = Some("the bastion's state cannot be read or written; try again, or tell an operator".into());
            }
        }
        None
    }
}
