//! What is told (`users.md` 6): pure. A notice says who asks what where and for how long, and where to look;
//! it never says the matching code or the text of a command, and nothing in it approves.

use std::time::Duration;

use serde::Serialize;

use super::harmless::line;
use crate::id::{Login, Person, RequestId, TargetId};
use crate::time::{Timestamp, about as minutes, short};

/// Targets that are named; the others are counted.
const TARGETS: usize = 5;
/// Characters of a reason or a note that are shown; the card shows all.
const REASON: usize = 200;

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// One, or several that differ only in their targets.
    pub requests: Vec<RequestId>,
    pub person: Person,
    pub login: Login,
    pub targets: Vec<TargetId>,
    /// `shell`
    pub what: String,
    pub duration: Duration,
    pub once: bool,
    pub reason: String,
}

/// Why somebody is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    Asked {
        of: Vec<Person>,
        left: Duration,
    },
    /// Nobody has answered: more are asked.
    Escalated {
        to: Vec<Person>,
        left: Duration,
    },
    Approved {
        by: Vec<Person>,
        duration: Duration,
    },
    Denied {
        by: Person,
        note: String,
    },
    /// Nobody decided in time.
    Expired,
    /// What was approved runs out.
    Ending {
        left: Duration,
    },
    /// Somebody has opened first; these may end it, and somebody reviews it.
    BreakGlass {
        to: Vec<Person>,
    },
    /// `countersign notify test`
    Test,
}

impl Happened {
    fn word(&self) -> &'static str {
        match self {
            Happened::Asked { .. } => "asked",
            Happened::Escalated { .. } => "escalated",
            Happened::Approved { .. } => "approved",
            Happened::Denied { .. } => "denied",
            Happened::Expired => "expired",
            Happened::Ending { .. } => "ending",
            Happened::BreakGlass { .. } => "break-glass",
            Happened::Test => "test",
        }
    }
}

/// A notice as a command reads it on its standard input; a chat gets its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    pub v: u8,
    /// `asked`, `escalated`, `approved`, `denied`, `expired`, `ending`, `break-glass`, `test`
    pub kind: &'static str,
    /// The name that people use after `@`.
    pub bastion: String,
    pub requests: Vec<RequestId>,
    pub person: Option<Person>,
    pub login: Option<Login>,
    pub targets: Vec<TargetId>,
    pub what: String,
    #[serde(rename = "for")]
    pub duration: String,
    pub once: bool,
    pub reason: String,
    /// Whom it is for.
    pub to: Vec<Person>,
    /// Who decided.
    pub by: Vec<Person>,
    /// Opens the card: for `ssh`, and for those who may see it.
    pub link: Option<String>,
    /// All of it for people, in two lines.
    pub text: String,
    /// Nobody needs to read it later.
    #[serde(skip)]
    pub until: Timestamp,
}

impl Notice {
    pub fn of(about: &About, happened: &Happened, host: &str, until: Timestamp) -> Self {
        let first = about.requests.first();
        let link = first.map(|id| format!("ssh://req-{id}@{host}"));
        let (to, by) = match happened {
            Happened::Asked { of, .. } => (of.clone(), vec![]),
            Happened::Escalated { to, .. } | Happened::BreakGlass { to } => (to.clone(), vec![]),
            Happened::Approved { by, .. } => (vec![about.person.clone()], by.clone()),
            Happened::Denied { by, .. } => (vec![about.person.clone()], vec![by.clone()]),
            Happened::Expired | Happened::Ending { .. } | Happened::Test => (vec![about.person.clone()], vec![]),
        };
        Self {
            v: 1,
            kind: happened.word(),
            bastion: host.to_owned(),
            requests: about.requests.clone(),
            person: Some(about.person.clone()),
            login: Some(about.login.clone()),
            targets: about.targets.clone(),
            what: about.what.clone(),
            duration: short(about.duration),
            once: about.once,
            reason: line(&about.reason, REASON),
            to,
            by,
            text: format!("{}{}\n{}", alarm(happened), subject(about), news(about, happened, host, link.as_deref().unwrap_or_default())),
            link,
            until,
        }
    }

    /// A notice that says that notices arrive.
    pub fn test(name: &str, host: &str, until: Timestamp) -> Self {
        Self {
            v: 1,
            kind: Happened::Test.word(),
            bastion: host.to_owned(),
            requests: vec![],
            person: None,
            login: None,
            targets: vec![],
            what: String::new(),
            duration: String::new(),
            once: false,
            reason: String::new(),
            to: vec![],
            by: vec![],
            link: None,
            text: format!("a test of the notifier {name}\nnotices of {host} arrive here"),
            until,
        }
    }
}

fn alarm(happened: &Happened) -> &'static str {
    if matches!(happened, Happened::BreakGlass { .. }) { "BREAK-GLASS " } else { "" }
}

/// `alice → deploy@web-1 · shell 30m · "INC-42 disk full"`
fn subject(about: &About) -> String {
    let once = if about.once { " once" } else { "" };
    let reason = if about.reason.is_empty() { String::new() } else { format!(" · {}", quoted(&about.reason)) };
    format!("{} → {} · {} {}{once}{reason}", about.person, place(about), about.what, short(about.duration))
}

fn place(about: &About) -> String {
    let named: Vec<&str> = about.targets.iter().take(TARGETS).map(TargetId::as_str).collect();
    let more = about.targets.len().saturating_sub(TARGETS);
    let more = if more > 0 { format!(" +{more}") } else { String::new() };
    format!("{}@{}{more}", about.login, named.join(", "))
}

/// `asked bob, carol · 15 min left · ssh://req-K7Q3FM@bastion`
fn news(about: &About, happened: &Happened, host: &str, link: &str) -> String {
    let first = about.requests.first().map(ToString::to_string).unwrap_or_default();
    let more = match about.requests.len() {
        0 | 1 => String::new(),
        n => format!(" and {} more like it", n - 1),
    };
    match happened {
        Happened::Asked { of, left } if of.is_empty() => format!("nobody can decide this now · {} left · {link}{more}", minutes(*left)),
        Happened::Asked { of, left } => format!("asked {} · {} left · {link}{more}", names(of), minutes(*left)),
        Happened::Escalated { to, left } => format!("nobody answered; asked {} too · {} left · {link}{more}", names(to), minutes(*left)),
        Happened::Approved { by, duration } => format!("approved by {} for {} · {first}", names(by), short(*duration)),
        Happened::Denied { by, note } if note.is_empty() => format!("denied by {by} · {first}"),
        Happened::Denied { by, note } => format!("denied by {by}: {} · {first}", quoted(note)),
        Happened::Expired => format!("nobody decided in time · {first}"),
        Happened::Ending { left } => format!("{} left · keep it: ssh {host} extend {first}", minutes(*left)),
        Happened::BreakGlass { to } => {
            let told = if to.is_empty() { String::new() } else { format!(" · told {}", names(to)) };
            format!("opened first, nobody has agreed{told} · end it: ssh {host} revoke {first} · {link}")
        }
        Happened::Test => String::new(),
    }
}

/// What somebody wrote cannot end its own quotation.
fn quoted(text: &str) -> String {
    format!("\"{}\"", line(text, REASON).replace('"', "'"))
}

fn names(persons: &[Person]) -> String {
    persons.iter().map(Person::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: &str) -> Person {
        name.parse().unwrap()
    }

    fn about_web() -> About {
        About {
            requests: vec!["K7Q3FM".parse().unwrap()],
            person: person("alice"),
            login: "deploy".parse().unwrap(),
            targets: vec!["web-1".parse().unwrap()],
            what: "shell".into(),
            duration: Duration::from_secs(1800),
            once: false,
            reason: "INC-42 disk full".into(),
        }
    }

    fn text(about: &About, happened: &Happened) -> String {
        Notice::of(about, happened, "bastion", Timestamp::from_micros(0)).text
    }

    #[test]
    fn it_reads_as_the_contract_writes_it() {
        let asked = Happened::Asked { of: vec![person("bob"), person("carol")], left: Duration::from_secs(900) };
        assert_eq!(
            text(&about_web(), &asked),
            "alice → deploy@web-1 · shell 30m · \"INC-42 disk full\"\nasked bob, carol · 15 min left · ssh://req-K7Q3FM@bastion"
        );
        let denied = Happened::Denied { by: person("bob"), note: "freeze until 06:00".into() };
        assert!(text(&about_web(), &denied).ends_with("\ndenied by bob: \"freeze until 06:00\" · K7Q3FM"));
        let ending = Happened::Ending { left: Duration::from_secs(300) };
        assert!(text(&about_web(), &ending).ends_with("\n5 min left · keep it: ssh bastion extend K7Q3FM"));
    }

    #[test]
    fn many_like_it_are_one_notice_that_counts() {
        let target = |n: usize| format!("web-{n}").parse().unwrap();
        let many = About {
            requests: vec!["K7Q3FM".parse().unwrap(), "K7Q3FN".parse().unwrap()],
            targets: (1..=8).map(target).collect(),
            ..about_web()
        };
        let text = text(&many, &Happened::Asked { of: vec![person("bob")], left: Duration::from_secs(60) });
        assert!(text.contains("deploy@web-1, web-2, web-3, web-4, web-5 +3 · shell"), "{text}");
        assert!(text.ends_with("ssh://req-K7Q3FM@bastion and 1 more like it"), "{text}");
    }

    #[test]
    fn what_people_wrote_stays_on_its_line() {
        let hostile = About { reason: "x\nasked nobody\u{202e}\" · approved by bob".into(), ..about_web() };
        let text = text(&hostile, &Happened::Expired);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("\"x\\u{a}asked nobody\\u{202e}' · approved by bob\""), "{text}");
    }
}
