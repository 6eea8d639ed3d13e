//! What an approver grants: what was asked, or less. Signed as part of a decision.

use serde::{Deserialize, Serialize};

use super::action::Class;
use super::request::doc_time;
use super::scope::Scope;
use crate::id::Digest;
use crate::time::Timestamp;

/// Never more than was asked. Two documents that grant the same have the same bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantedTerms {
    /// From first use, in microseconds.
    pub for_us: u64,
    pub once: bool,
    pub scope: Scope,
    /// Texts of exact commands that the approver chose, in the order of their digests, so that whoever reads the
    /// decision later can read them too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// Not before; `None` is as asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_us: Option<u64>,
    /// Over by then, whenever it was used first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_us: Option<u64>,
}

impl GrantedTerms {
    /// The least of both: shorter, once if either says so, the narrower scope, the window that lies in both.
    pub fn meet(&self, other: &GrantedTerms) -> GrantedTerms {
        let scope = self.scope.meet(&other.scope);
        let mut commands: Vec<String> = self.commands.iter().chain(&other.commands).cloned().collect();
        commands.retain(|command| scope.0.contains(&exact(command)));
        commands.sort_by_key(|command| exact(command));
        commands.dedup();
        GrantedTerms {
            for_us: self.for_us.min(other.for_us),
            once: self.once || other.once,
            scope,
            commands,
            from_us: self.from_us.max(other.from_us),
            until_us: self.until_us.into_iter().chain(other.until_us).min(),
        }
    }

    /// Whether its commands are texts of exact classes in its scope, each once, in order.
    pub(super) fn is_well_formed(&self) -> bool {
        let classes: Vec<Class> = self.commands.iter().map(|command| exact(command)).collect();
        let sorted = classes.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        sorted && classes.iter().all(|class| self.scope.0.contains(class))
    }

    /// How these terms go beyond what was asked, if they do; an approval has to leave something.
    pub fn beyond(&self, asked: &GrantedTerms, now: Timestamp) -> Option<&'static str> {
        let opens = self.starts().max(asked.starts()).unwrap_or(now).max(now);
        if self.for_us > asked.for_us {
            Some("a longer time")
        } else if asked.once && !self.once {
            Some("one session was asked for")
        } else if !asked.scope.contains(&self.scope) {
            Some("a wider scope")
        } else if self.from_us.is_some_and(|from| asked.from_us.is_some_and(|asked| from < asked)) {
            Some("an earlier start")
        } else if self.for_us == 0 || self.scope.0.is_empty() || self.ends().is_some_and(|ends| ends <= opens) {
            Some("it grants nothing; deny instead")
        } else {
            None
        }
    }

    pub fn starts(&self) -> Option<Timestamp> {
        self.from_us.map(doc_time)
    }

    pub fn ends(&self) -> Option<Timestamp> {
        self.until_us.map(doc_time)
    }

    /// Why nothing can be opened now, as the end of a sentence about it.
    pub fn closed(&self, now: Timestamp) -> Option<&'static str> {
        if self.starts().is_some_and(|starts| now < starts) {
            Some("has not begun yet")
        } else if self.ends().is_some_and(|ends| ends <= now) {
            Some("is over")
        } else {
            None
        }
    }
}

fn exact(command: &str) -> Class {
    Class::Exec(Digest::of(command.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms() -> impl Strategy<Value = GrantedTerms> {
        let classes = proptest::collection::btree_set(
            prop_oneof![Just(Class::Shell), Just(Class::ExecAny), Just(Class::SftpRead), Just(exact("uptime")), Just(exact("id"))],
            0..4,
        );
        let at = || proptest::option::of(0u64..100);
        (0u64..100, any::<bool>(), classes, at(), at()).prop_map(|(for_us, once, classes, from_us, until_us)| {
            let mut commands: Vec<String> = ["uptime", "id"].map(String::from).into();
            commands.retain(|command| classes.contains(&exact(command)));
            commands.sort_by_key(|command| exact(command));
            GrantedTerms { for_us, once, scope: Scope(classes), commands, from_us, until_us }
        })
    }

    proptest! {
        #[test]
        fn the_meet_is_within_both_in_whichever_order(a in terms(), b in terms(), c in terms()) {
            let both = a.meet(&b);
            prop_assert_eq!(&both, &b.meet(&a));
            prop_assert_eq!(both.meet(&c), a.meet(&b.meet(&c)));
            prop_assert_eq!(&both.meet(&a), &both);
            prop_assert!(both.is_well_formed());
            for one in [&a, &b] {
                prop_assert!(both.for_us <= one.for_us && both.once >= one.once && one.scope.contains(&both.scope));
                prop_assert!(both.from_us >= one.from_us);
                prop_assert!(one.until_us.is_none_or(|until| both.until_us.is_some_and(|both| both <= until)));
            }
        }
    }

    #[test]
    fn what_goes_beyond_is_named() {
        let now = Timestamp::from_micros(50);
        let asked = GrantedTerms { for_us: 10, scope: Scope([Class::ExecAny].into()), from_us: Some(60), ..GrantedTerms::default() };
        let less = GrantedTerms { from_us: None, ..asked.clone() };
        assert_eq!(less.beyond(&asked, now), None, "where nothing is said of the start, it is as asked");
        let exactly = GrantedTerms { scope: Scope([exact("uptime")].into()), commands: vec!["uptime".into()], ..less.clone() };
        assert_eq!(exactly.beyond(&asked, now), None, "a command of any command");
        for (terms, why) in [
            (GrantedTerms { for_us: 11, ..less.clone() }, "longer"),
            (GrantedTerms { scope: Scope([Class::Shell].into()), ..less.clone() }, "wider"),
            (GrantedTerms { from_us: Some(59), ..less.clone() }, "earlier"),
            (GrantedTerms { until_us: Some(60), ..less.clone() }, "nothing"),
            (GrantedTerms { until_us: Some(40), ..less.clone() }, "nothing"),
            (GrantedTerms { for_us: 0, ..less }, "nothing"),
        ] {
            assert!(terms.beyond(&asked, now).unwrap().contains(why), "{why}");
        }
    }
}
