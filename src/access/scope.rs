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
        self.contains(&least(want))
    }

    /// Whether the certificate must be bound to these exact bytes (`force-command`).
    pub fn is_exact_for(&self, want: &Want) -> bool {
        matches!(want.without_agent(), Want::Exec(_)) && !self.0.contains(&Class::ExecAny)
    }

    /// The bytes that an approver has to read: those of a command asked for exactly.
    pub fn exact_commands(&self, want: &Want) -> Vec<Vec<u8>> {
        let command = want.command_bytes().filter(|_| self.is_exact_for(want));
        command.map(<[u8]>::to_vec).into_iter().collect()
    }

    pub fn contains(&self, other: &Scope) -> bool {
        other.0.iter().all(|class| self.0.contains(class) || self.0.iter().any(|ours| ours.contains(class)))
    }

    pub fn union(&self, other: &Scope) -> Scope {
        Scope(self.0.union(&other.0).cloned().collect())
    }

    /// What both hold.
    pub fn meet(&self, other: &Scope) -> Scope {
        Scope(self.0.iter().flat_map(|ours| other.0.iter().filter_map(|theirs| ours.meet(theirs))).collect())
    }

    /// As people read it: `shell (with exec and file transfer) · connections to localhost:5432`.
    pub fn words(&self) -> String {
        let starts = self.words_of_starts();
        let forwards = self.0.iter().filter_map(|class| match class {
            Class::AgentForward => Some("their agent".to_owned()),
            Class::ForwardLocal(to) => Some(format!("connections to {to}")),
            Class::ForwardRemote(on) => Some(format!("listening on {on}")),
            Class::ExecAny | Class::Exec(_) | Class::SftpRead | Class::SftpWrite | Class::Shell => None,
        });
        let all: Vec<String> = (!starts.is_empty()).then_some(starts).into_iter().chain(forwards).collect();
        all.join(" · ")
    }

    /// What of it starts something.
    fn words_of_starts(&self) -> String {
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
pub fn asked_for(want: &Want, reach: Reach, rule_want: &dyn Fn() -> Ruling, rule: &dyn Fn(Action) -> Ruling) -> Asked {
    if let Want::WithAgent(inner) = want {
        // The agent is another power than what is started: it is asked for beside it, never swept in.
        let agent = rule(Action::AgentForward);
        let Asked { scope, ruling } = asked_for(inner, reach, rule_want, rule);
        return Asked { scope: scope.union(&Scope([Class::AgentForward].into())), ruling: ruling.meet(agent) };
    }
    let ruling = rule_want();
    let Ruling::RequireApproval { .. } = &ruling else {
        return Asked { scope: least(want), ruling };
    };
    let needs_the_same = |other: &Ruling| other.workflows() == ruling.workflows() && !other.workflows().is_empty();
    let shell = rule(Action::Shell);
    let broad = match want {
        Want::Shell => true,
        Want::Exec(_) => reach == Reach::Widest && needs_the_same(&shell) && needs_the_same(&rule(Action::Exec)),
        Want::Sftp | Want::ForwardLocal(_) | Want::ForwardRemote(_) | Want::WithAgent(_) => false,
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
            classes.extend(classes_of.iter().cloned());
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
        Want::ForwardLocal(to) => [Class::ForwardLocal(to.clone())].into(),
        Want::ForwardRemote(on) => [Class::ForwardRemote(on.clone())].into(),
        Want::WithAgent(want) => return least(want).union(&Scope([Class::AgentForward].into())),
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
        let asked = asked_for(&Want::Shell, Reach::Widest, &|| held("lead"), &|_| held("lead"));
        assert_eq!(asked.scope.words(), "shell (with exec and file transfer)");
        let asked = asked_for(&Want::Exec(b"uptime".to_vec()), Reach::Widest, &|| held("lead"), &|_| held("lead"));
        assert!(asked.scope.covers(&Want::Shell));
    }

    #[test]
    fn a_command_with_a_ruling_of_its_own_asks_for_its_bytes() {
        let asked = asked_for(&Want::Exec(b"uptime".to_vec()), Reach::Widest, &|| held("peer"), &|_| held("lead"));
        assert!(asked.scope.covers(&Want::Exec(b"uptime".to_vec())));
        assert!(!asked.scope.covers(&Want::Exec(b"uptime ".to_vec())), "a trailing space is another command");
        assert!(!asked.scope.covers(&Want::Shell));
        assert!(asked.scope.is_exact_for(&Want::Exec(b"uptime".to_vec())));
    }

    #[test]
    fn the_agent_is_asked_for_beside_what_starts() {
        let want = Want::WithAgent(Box::new(Want::Shell));
        let permit = || Ruling::Permit(Terms::default());
        let agent_only = |action| if action == Action::AgentForward { held("lead") } else { permit() };
        let asked = asked_for(&want, Reach::Widest, &permit, &agent_only);
        assert_eq!(asked.scope.words(), "shell · their agent");
        assert_eq!(asked.ruling.workflows().len(), 1);
        let asked = asked_for(&want, Reach::Widest, &|| held("lead"), &|_| held("lead"));
        assert_eq!(asked.scope.words(), "shell (with exec and file transfer) · their agent");
        let asked = asked_for(&Want::Shell, Reach::Widest, &|| held("lead"), &|_| held("lead"));
        assert!(!asked.scope.covers(&want), "a shell's approval brings no agent");
    }

    #[test]
    fn a_forward_is_covered_by_its_place_alone() {
        let scope: Scope = serde_json::from_str(r#"["forward-local:localhost:*", "forward-remote:localhost:8080"]"#).unwrap();
        let local = |to: &str| Want::ForwardLocal(to.parse().unwrap());
        assert!(scope.covers(&local("localhost:5432")) && scope.covers(&local("127.0.0.1:80")));
        assert!(!scope.covers(&local("db:5432")) && !scope.covers(&Want::ForwardRemote("localhost:80".parse().unwrap())));
        assert!(scope.covers(&Want::ForwardRemote("localhost:8080".parse().unwrap())));
        assert!(!scope.covers(&Want::ForwardRemote("*:8080".parse().unwrap())), "all addresses are more than one");
        let narrow: Scope = serde_json::from_str(r#"["forward-local:*:5432"]"#).unwrap();
        assert_eq!(scope.meet(&narrow).words(), "connections to localhost:5432");
        assert_eq!(local("localhost:80").kind(), "forward-local");
        let asked = asked_for(&local("localhost:80"), Reach::Widest, &|| held("lead"), &|_| held("lead"));
        assert_eq!(asked.scope.words(), "connections to localhost:80", "nothing is swept in");
    }

    #[test]
    fn a_denied_action_is_not_swept_in() {
        let deny = || Ruling::Deny(crate::access::ruling::Denial::NoPermit);
        let asked =
            asked_for(&Want::Shell, Reach::Widest, &|| held("lead"), &|a| if a == Action::SftpWrite { deny() } else { held("lead") });
        assert!(!asked.scope.covers(&Want::Sftp));
    }
}
