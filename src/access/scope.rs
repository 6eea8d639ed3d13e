//! How far one approval reaches (**D scope**): which classes of actions are asked for together, and
//! whether what somebody holds covers what they want now.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::action::{Action, Class, Want};
use super::ruling::Ruling;
use crate::id::Digest;

/// A set of classes; in documents a sorted list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(pub BTreeSet<Class>);

impl Scope {
    /// Whether every class that `want` needs is in here.
    pub fn covers(&self, want: &Want) -> bool {
        match want {
            Want::Shell => self.0.contains(&Class::Shell),
            Want::Exec(bytes) => self.0.contains(&Class::ExecAny) || self.0.contains(&Class::Exec(Digest::of(bytes))),
            Want::Sftp => self.0.contains(&Class::SftpRead) && self.0.contains(&Class::SftpWrite),
        }
    }

    /// Whether the certificate must be bound to these exact bytes (`force-command`).
    pub fn is_exact_for(&self, want: &Want) -> bool {
        matches!(want, Want::Exec(_)) && !self.0.contains(&Class::ExecAny)
    }

    /// The bytes that an approver has to read: those of a command asked for exactly.
    pub fn exact_commands(&self, want: &Want) -> Vec<Vec<u8>> {
        let command = want.command_bytes().filter(|_| self.is_exact_for(want));
        command.map(<[u8]>::to_vec).into_iter().collect()
    }

    pub fn contains(&self, other: &Scope) -> bool {
        other.0.iter().all(|class| match class {
            Class::Exec(_) => self.0.contains(class) || self.0.contains(&Class::ExecAny),
            Class::ExecAny | Class::SftpRead | Class::SftpWrite | Class::Shell => self.0.contains(class),
        })
    }

    pub fn union(&self, other: &Scope) -> Scope {
        Scope(self.0.union(&other.0).copied().collect())
    }

    /// What both hold: an exact command lies within `exec:*`.
    pub fn meet(&self, other: &Scope) -> Scope {
        let held_by = |scope: &Scope, class: &Class| scope.contains(&Scope([*class].into()));
        let ours = self.0.iter().filter(|class| held_by(other, class));
        let theirs = other.0.iter().filter(|class| held_by(self, class));
        Scope(ours.chain(theirs).copied().collect())
    }

    /// As people read it: `shell (with exec and file transfer)`.
    pub fn words(&self) -> String {
        let shell = self.0.contains(&Class::Shell);
        let any = self.0.contains(&Class::ExecAny);
        let exact = self.0.iter().filter(|c| matches!(c, Class::Exec(_))).count();
        let files = match (self.0.contains(&Class::SftpRead), self.0.contains(&Class::SftpWrite)) {
            (true, true) => Some("file transfer"),
            (true, false) => Some("reading files"),
            (false, true) => Some("writing files"),
            (false, false) => None,
        };
        let mut rest: Vec<&str> = Vec::new();
        if any {
            rest.push("exec");
        }
        rest.extend(files);
        match (shell, exact) {
            (true, 0) if rest.is_empty() => "shell".into(),
            (true, 0) => format!("shell (with {})", rest.join(" and ")),
            (false, 0) => rest.join(" and "),
            (_, n) => {
                if shell {
                    rest.insert(0, "shell");
                }
                let exact = if n == 1 { "one exact command".to_owned() } else { format!("{n} exact commands") };
                if rest.is_empty() { exact } else { format!("{} and {exact}", rest.join(", ")) }
            }
        }
    }
}

/// What has to be asked for so that `want` may happen, and the ruling over all of it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub scope: Scope,
    pub ruling: Ruling,
}

/// How far a command's request may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// As far as it is no more power.
    Widest,
    /// These bytes and no others (`--exec`).
    Exact,
}

/// Widens a want to the scope worth one approval.
///
/// A shell, or a command where a shell would be ruled alike, asks for shell, `exec:*` and sftp
/// together as far as today's rulings need the same workflows: it is no more power, and nobody is
/// asked three times. A command whose ruling differs from a shell's asks for its exact bytes.
/// `rule_want` rules the want itself, `rule` an action with no command given.
pub fn asked_for(want: &Want, reach: Reach, rule_want: impl FnOnce() -> Ruling, rule: impl Fn(Action) -> Ruling) -> Asked {
    let ruling = rule_want();
    let Ruling::RequireApproval { .. } = &ruling else {
        return Asked { scope: least(want), ruling };
    };
    let needs_the_same = |other: &Ruling| other.workflows() == ruling.workflows() && !other.workflows().is_empty();
    let shell = rule(Action::Shell);
    let broad = match want {
        Want::Shell => true,
        Want::Exec(_) => reach == Reach::Widest && needs_the_same(&shell) && needs_the_same(&rule(Action::Exec)),
        Want::Sftp => false,
    };
    if !broad {
        return Asked { scope: least(want), ruling };
    }
    let mut classes = BTreeSet::new();
    let mut whole = ruling.clone();
    let sftp = rule(Action::SftpRead).meet(rule(Action::SftpWrite));
    for (classes_of, of) in
        [(&[Class::Shell][..], shell), (&[Class::ExecAny][..], rule(Action::Exec)), (&[Class::SftpRead, Class::SftpWrite][..], sftp)]
    {
        if needs_the_same(&of) {
            classes.extend(classes_of);
            whole = whole.meet(of);
        }
    }
    Asked { scope: Scope(classes), ruling: whole }
}

/// The classes of exactly this want.
pub fn least(want: &Want) -> Scope {
    Scope(match want {
        Want::Shell => [Class::Shell].into(),
        Want::Exec(bytes) => [Class::Exec(Digest::of(bytes))].into(),
        Want::Sftp => [Class::SftpRead, Class::SftpWrite].into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::ruling::{Hold, Terms};

    fn held(workflow: &str) -> Ruling {
        let hold = Hold { workflow: workflow.parse().unwrap(), policy: "p".into(), message: None };
        Ruling::RequireApproval { terms: Terms::default(), holds: vec![hold] }
    }

    #[test]
    fn equal_power_is_asked_once() {
        let asked = asked_for(&Want::Shell, Reach::Widest, || held("lead"), |_| held("lead"));
        assert_eq!(asked.scope.words(), "shell (with exec and file transfer)");
        let asked = asked_for(&Want::Exec(b"uptime".to_vec()), Reach::Widest, || held("lead"), |_| held("lead"));
        assert!(asked.scope.covers(&Want::Shell));
    }

    #[test]
    fn a_command_with_a_ruling_of_its_own_asks_for_its_bytes() {
        let asked = asked_for(&Want::Exec(b"uptime".to_vec()), Reach::Widest, || held("peer"), |_| held("lead"));
        assert!(asked.scope.covers(&Want::Exec(b"uptime".to_vec())));
        assert!(!asked.scope.covers(&Want::Exec(b"uptime ".to_vec())), "a trailing space is another command");
        assert!(!asked.scope.covers(&Want::Shell));
        assert!(asked.scope.is_exact_for(&Want::Exec(b"uptime".to_vec())));
    }

    #[test]
    fn a_denied_action_is_not_swept_in() {
        let deny = || Ruling::Deny(crate::access::ruling::Denial::NoPermit);
        let asked = asked_for(&Want::Shell, Reach::Widest, || held("lead"), |a| if a == Action::SftpWrite { deny() } else { held("lead") });
        assert!(!asked.scope.covers(&Want::Sftp));
    }
}
