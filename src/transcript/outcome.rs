//! How a session ended, in the words that the database, the listings and the transcript keep.

use std::fmt;
use std::str::FromStr;

use super::event::Exit;

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Exited(Exit),
    /// The channel closed with no status.
    Closed,
    ClientLeft,
    TargetLost {
        why: String,
    },
    TargetRefused {
        why: String,
    },
    Expired,
    Revoked {
        by: String,
        why: String,
    },
    Killed {
        by: String,
        why: String,
    },
    RecordingFailed {
        why: String,
    },
    Shutdown,
    /// The bastion died; the spool was cut at its last good record.
    Interrupted,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not how a session ends")]
pub struct NotAnOutcome(String);

impl fmt::Display for Outcome {
    /// Writes one line without control characters; [`Outcome::from_str`] reads it back exactly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Exited(Exit::Status(status)) => write!(f, "exited {status}"),
            Outcome::Exited(Exit::Signal { name, core_dumped, message }) => {
                write!(f, "signal {}", Word(name))?;
                f.write_str(if *core_dumped { ", core dumped" } else { "" })?;
                if message.is_empty() { Ok(()) } else { write!(f, ": {}", Rest(message)) }
            }
            Outcome::Closed => f.write_str("closed"),
            Outcome::ClientLeft => f.write_str("client left"),
            Outcome::TargetLost { why } => write!(f, "target lost: {}", Rest(why)),
            Outcome::TargetRefused { why } => write!(f, "target refused: {}", Rest(why)),
            Outcome::Expired => f.write_str("expired"),
            Outcome::Revoked { by, why } => write!(f, "revoked by {}: {}", Word(by), Rest(why)),
            Outcome::Killed { by, why } => write!(f, "killed by {}: {}", Word(by), Rest(why)),
            Outcome::RecordingFailed { why } => write!(f, "recording failed: {}", Rest(why)),
            Outcome::Shutdown => f.write_str("shutdown"),
            Outcome::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl FromStr for Outcome {
    type Err = NotAnOutcome;
    fn from_str(text: &str) -> Result<Self, NotAnOutcome> {
        read(text).ok_or_else(|| NotAnOutcome(text.chars().take(80).collect()))
    }
}

fn read(text: &str) -> Option<Outcome> {
    let plain = match text {
        "closed" => Some(Outcome::Closed),
        "client left" => Some(Outcome::ClientLeft),
        "expired" => Some(Outcome::Expired),
        "shutdown" => Some(Outcome::Shutdown),
        "interrupted" => Some(Outcome::Interrupted),
        _ => None,
    };
    if plain.is_some() {
        return plain;
    }
    if let Some(status) = text.strip_prefix("exited ") {
        return status.parse().ok().map(|status| Outcome::Exited(Exit::Status(status)));
    }
    if let Some(rest) = text.strip_prefix("signal ") {
        let (name, message) = rest.split_once(": ").unwrap_or((rest, ""));
        let (name, core_dumped) = match name.strip_suffix(", core dumped") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let exit = Exit::Signal { name: unescape(name)?, core_dumped, message: unescape(message)? };
        return Some(Outcome::Exited(exit));
    }
    let (what, why) = text.split_once(": ")?;
    let why = unescape(why)?;
    match what {
        "target lost" => Some(Outcome::TargetLost { why }),
        "target refused" => Some(Outcome::TargetRefused { why }),
        "recording failed" => Some(Outcome::RecordingFailed { why }),
        _ => {
            if let Some(by) = what.strip_prefix("revoked by ") {
                return Some(Outcome::Revoked { by: unescape(by)?, why });
            }
            let by = unescape(what.strip_prefix("killed by ")?)?;
            Some(Outcome::Killed { by, why })
        }
    }
}

/// Text up to the end of the line.
struct Rest<'a>(&'a str);
/// Text that something follows: it may not hold the separators.
struct Word<'a>(&'a str);

impl fmt::Display for Rest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(self.0, |c| c.is_control() || c == '\\', f)
    }
}

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(self.0, |c| c.is_control() || matches!(c, '\\' | ':' | ','), f)
    }
}

fn escape(text: &str, hide: impl Fn(char) -> bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for c in text.chars() {
        if hide(c) { write!(f, "\\u{{{:x}}}", u32::from(c))? } else { write!(f, "{c}")? }
    }
    Ok(())
}

fn unescape(text: &str) -> Option<String> {
    let mut pieces = text.split('\\');
    let mut plain = pieces.next()?.to_owned();
    for piece in pieces {
        let (code, rest) = piece.strip_prefix("u{")?.split_once('}')?;
        plain.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
        plain.push_str(rest);
    }
    Some(plain)
}

impl Outcome {
    /// Its first words, without names and texts that people or targets chose: for what stands in the clear.
    pub fn kind(&self) -> String {
        match self {
            Outcome::Exited(Exit::Status(status)) => format!("exited {status}"),
            Outcome::Exited(Exit::Signal { .. }) => "signal".into(),
            Outcome::Closed => "closed".into(),
            Outcome::ClientLeft => "client left".into(),
            Outcome::TargetLost { .. } => "target lost".into(),
            Outcome::TargetRefused { .. } => "target refused".into(),
            Outcome::Expired => "expired".into(),
            Outcome::Revoked { .. } => "revoked".into(),
            Outcome::Killed { .. } => "killed".into(),
            Outcome::RecordingFailed { .. } => "recording failed".into(),
            Outcome::Shutdown => "shutdown".into(),
            Outcome::Interrupted => "interrupted".into(),
        }
    }

    /// Whether a session that ended so may have had this exit. A session may end otherwise after its target's
    /// process did; texts were cut, so their beginnings are compared.
    pub fn agrees_with(&self, exit: &Exit) -> bool {
        const BEGINNING: usize = 256;
        let alike = |one: &str, other: &str| one.chars().take(BEGINNING).eq(other.chars().take(BEGINNING));
        match (self, exit) {
            (Outcome::Exited(Exit::Status(said)), Exit::Status(found)) => said == found,
            (
                Outcome::Exited(Exit::Signal { name, core_dumped, message }),
                Exit::Signal { name: other, core_dumped: dumped, message: text },
            ) => alike(name, other) && core_dumped == dumped && alike(message, text),
            (Outcome::Exited(Exit::Status(_)), Exit::Signal { .. }) | (Outcome::Exited(Exit::Signal { .. }), Exit::Status(_)) => false,
            (
                Outcome::Closed
                | Outcome::ClientLeft
                | Outcome::TargetLost { .. }
                | Outcome::TargetRefused { .. }
                | Outcome::Expired
                | Outcome::Revoked { .. }
                | Outcome::Killed { .. }
                | Outcome::RecordingFailed { .. }
                | Outcome::Shutdown
                | Outcome::Interrupted,
                Exit::Status(_) | Exit::Signal { .. },
            ) => true,
        }
    }

    /// The same with every free text cut to `bytes`, and the cut said: an end record has to fit into
    /// the space that was kept for it.
    pub fn shortened(self, bytes: usize) -> Self {
        let cut = |text: String| super::record::shorten(&text, bytes).into_owned();
        match self {
            Outcome::Exited(Exit::Signal { name, core_dumped, message }) => {
                Outcome::Exited(Exit::Signal { name: cut(name), core_dumped, message: cut(message) })
            }
            Outcome::TargetLost { why } => Outcome::TargetLost { why: cut(why) },
            Outcome::TargetRefused { why } => Outcome::TargetRefused { why: cut(why) },
            Outcome::Revoked { by, why } => Outcome::Revoked { by: cut(by), why: cut(why) },
            Outcome::Killed { by, why } => Outcome::Killed { by: cut(by), why: cut(why) },
            Outcome::RecordingFailed { why } => Outcome::RecordingFailed { why: cut(why) },
            Outcome::Exited(Exit::Status(_))
            | Outcome::Closed
            | Outcome::ClientLeft
            | Outcome::Expired
            | Outcome::Shutdown
            | Outcome::Interrupted => self,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_outcome() -> impl Strategy<Value = Outcome> {
        let text = || any::<String>();
        prop_oneof![
            any::<u32>().prop_map(|s| Outcome::Exited(Exit::Status(s))),
            (text(), any::<bool>(), text()).prop_map(|(name, core_dumped, message)| Outcome::Exited(Exit::Signal {
                name,
                core_dumped,
                message
            })),
            Just(Outcome::Closed),
            Just(Outcome::ClientLeft),
            text().prop_map(|why| Outcome::TargetLost { why }),
            text().prop_map(|why| Outcome::TargetRefused { why }),
            Just(Outcome::Expired),
            (text(), text()).prop_map(|(by, why)| Outcome::Revoked { by, why }),
            (text(), text()).prop_map(|(by, why)| Outcome::Killed { by, why }),
            text().prop_map(|why| Outcome::RecordingFailed { why }),
            Just(Outcome::Shutdown),
            Just(Outcome::Interrupted),
        ]
    }

    #[test]
    fn it_reads_as_people_say_it() {
        let killed = Outcome::Killed { by: "bob".into(), why: "wrong host: web-2".into() };
        assert_eq!(killed.to_string(), "killed by bob: wrong host: web-2");
        let signal = Exit::Signal { name: "SEGV".into(), core_dumped: true, message: String::new() };
        assert_eq!(Outcome::Exited(signal).to_string(), "signal SEGV, core dumped");
        assert!("exited".parse::<Outcome>().is_err());
        assert!("killed by bob".parse::<Outcome>().is_err());
        assert!("target lost: \\u{zz}".parse::<Outcome>().is_err());
    }

    #[test]
    fn an_exit_is_held_against_the_outcome() {
        let exited = |n| Outcome::Exited(Exit::Status(n));
        let killed = |message: &str| Exit::Signal { name: "TERM".into(), core_dumped: false, message: message.into() };
        assert!(exited(3).agrees_with(&Exit::Status(3)) && !exited(3).agrees_with(&Exit::Status(4)));
        assert!(!exited(3).agrees_with(&killed("")) && !Outcome::Exited(killed("")).agrees_with(&Exit::Status(0)));
        assert!(!Outcome::Exited(killed("one")).agrees_with(&killed("two")));
        let long = killed(&"x".repeat(5000));
        assert!(Outcome::Exited(long.clone()).shortened(1024).agrees_with(&long));
        assert!(Outcome::Expired.agrees_with(&Exit::Status(0)), "it ended by its window, a moment later");
    }

    proptest! {
        #[test]
        fn words_are_one_line_and_lose_nothing(outcome in any_outcome()) {
            let words = outcome.to_string();
            prop_assert!(!words.chars().any(char::is_control));
            prop_assert_eq!(words.parse::<Outcome>().unwrap(), outcome);
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = text.parse::<Outcome>();
        }
    }
}
