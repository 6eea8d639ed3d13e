//! Ruling on several classes at once: each has to be allowed, and what any of them demands is demanded of
//! all (`users.md` 4, presets).

use super::{PolicySet, Question, There};
use crate::access::action::{Class, Want};
use crate::access::ruling::{Denial, Ruling};
use crate::access::scope::{Asked, Reach, Scope};

impl PolicySet {
    /// Rules on every class of `scope`, and with it on what somebody wants now, which is asked for too where the
    /// scope does not cover it; as if the second factor had been given, where `mfa` says so.
    pub fn ask_whole(&self, there: &There<'_>, scope: &Scope, want: Option<&Want>, mfa: bool) -> Asked {
        let wanted = want.map(|want| {
            let reach = if scope.covers(want) { Reach::Exact } else { Reach::Widest };
            let asked = if mfa { self.ask_with_second_factor(there, want, reach) } else { self.ask(there, want, reach) };
            (asked.ruling, if scope.covers(want) { scope.clone() } else { asked.scope.union(scope) })
        });
        let (ruling, scope) = wanted.map_or_else(|| (None, scope.clone()), |(ruling, scope)| (Some(ruling), scope));
        let rulings = scope.0.iter().map(|class| self.rule_class(there, class, mfa)).chain(ruling);
        let none = Ruling::Deny(Denial::NoPermit);
        Asked { ruling: rulings.reduce(Ruling::meet).unwrap_or(none), scope }
    }

    /// The classes that are denied, even with a second factor.
    pub fn denied_of(&self, there: &There<'_>, scope: &Scope) -> Vec<Class> {
        let denied = |class: &&Class| matches!(self.rule_class(there, class, true), Ruling::Deny(_));
        scope.0.iter().filter(denied).cloned().collect()
    }

    fn rule_class(&self, there: &There<'_>, class: &Class, mfa: bool) -> Ruling {
        let question = there.about((class.action(), None, class.endpoint()));
        self.rule(&Question { mfa: mfa || question.mfa, ..question })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::policy::Vocabulary;
    use crate::access::principal::{Principal, VerifiedKey};
    use crate::access::target::{Entry, PrincipalStyle, Target};
    use crate::access::{People, people::PersonEntry};
    use crate::time::Timestamp;
    use russh::keys::ssh_key::private::Ed25519Keypair;
    use russh::keys::ssh_key::{PrivateKey, PublicKey};

    const POLICY: &str = r#"
@id("p") permit (principal, action in [Action::"exec", Action::"shell", Action::"sftp"], resource);
@id("ports") permit (principal, action == Action::"forward-local", resource) when { context has to && context.to == "localhost" };
@id("lead") @hold("lead") forbid (principal, action in [Action::"exec", Action::"shell", Action::"sftp"], resource);
@id("head") @hold("head") forbid (principal, action == Action::"forward-local", resource);
"#;

    fn scope(classes: &[&str]) -> Scope {
        Scope(classes.iter().map(|class| class.parse().unwrap()).collect())
    }

    #[test]
    fn all_of_it_is_allowed_or_none_and_every_workflow_is_asked() {
        let known = Vocabulary { workflows: ["lead", "head"].map(|name| name.parse().unwrap()).into(), ..Vocabulary::default() };
        let policy = PolicySet::parse(POLICY, &known).unwrap();
        let key: PublicKey = PrivateKey::from(Ed25519Keypair::from_seed(&[1; 32])).public_key().clone();
        let entry = PersonEntry { name: "alice".parse().unwrap(), groups: vec![], keys: vec![key.clone()], accounts: vec![] };
        let people = People::new(vec![entry], &[]).unwrap();
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let who = Principal::identify(&people, VerifiedKey::proven(key), "192.0.2.7".parse().unwrap(), now).unwrap();
        let target = Target {
            id: "web-1".parse().unwrap(),
            host: "192.0.2.1".into(),
            port: 22,
            aliases: [].into(),
            labels: [].into(),
            logins: vec!["deploy".parse().unwrap()],
            host_keys: vec![],
            host_cas: vec![],
            principal: PrincipalStyle::LoginAtTarget,
            entry: Entry::default(),
        };
        let login = "deploy".parse().unwrap();
        let there = There { who: &who, target: &target, login: &login, first_time: false, now };
        let workflows = |asked: &Asked| asked.ruling.workflows().into_iter().map(ToString::to_string).collect::<Vec<_>>();
        let vscode = scope(&["exec:*", "sftp-read", "sftp-write", "forward-local:localhost:*"]);
        let asked = policy.ask_whole(&there, &vscode, None, false);
        assert_eq!((workflows(&asked), &asked.scope), (vec!["head".to_owned(), "lead".to_owned()], &vscode));
        // What is wanted now and covered adds nothing; what is not is asked for too.
        assert_eq!(policy.ask_whole(&there, &vscode, Some(&Want::Exec(b"bash".to_vec())), false).scope, vscode);
        assert!(policy.ask_whole(&there, &vscode, Some(&Want::Shell), false).scope.covers(&Want::Shell));
        // Any port of any host is more than was permitted.
        let more = scope(&["exec:*", "forward-local:*:443"]);
        assert!(matches!(policy.ask_whole(&there, &more, None, false).ruling, Ruling::Deny(_)));
        assert_eq!(policy.denied_of(&there, &more).iter().map(ToString::to_string).collect::<Vec<_>>(), ["forward-local:*:443"]);
        assert!(matches!(policy.ask_whole(&there, &Scope::default(), None, false).ruling, Ruling::Deny(_)), "nothing is nothing");
    }
}
