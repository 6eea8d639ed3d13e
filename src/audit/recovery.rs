//! The row that says that a log went on from an older state: a backup was put back (`users.md` 7).
//!
//! `log.recovered` is the first row after the rows that were still there. It is signed like any row, by the
//! checkpoints that count it; those name the time of the last one, so that whoever keeps a checkpoint can
//! tell a recovery that is news from one that is an old excuse. Always true of what [`Recovery::read`]
//! returns: it stands right behind the rows that it says are left, and they are not more than there were.

use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::row::Row;
use super::{Event, LogPoint};
use crate::id::Digest;
use crate::time::Timestamp;

/// The row's name.
pub const NAME: &str = "log.recovered";

/// The longest reason, in bytes.
pub const MAX_REASON: usize = 1024;

/// The facts of the row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// What the bastion still knew that there had been: the last checkpoint beside its recordings.
    pub old_size: u64,
    pub old_root: Digest,
    /// What is left: the rows before this one.
    pub new_size: u64,
    pub new_root: Digest,
    /// Who put it back, as the operating system calls them.
    pub by: String,
    pub reason: String,
    /// When the backup was made.
    pub backup_us: Timestamp,
}

/// A `log.recovered` where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// When it was put back; no two recoveries of a log have the same time.
    pub at: Timestamp,
    pub facts: Facts,
}

#[derive(Debug, thiserror::Error)]
pub enum BadRecovery {
    #[error("its facts are not those of a {NAME}")]
    Form(#[from] serde_json::Error),
    #[error("it stands in another place than it says, or more rows are left than there were")]
    Place,
    #[error("its reason is longer than {MAX_REASON} bytes")]
    Reason,
}

impl Facts {
    pub fn old(&self) -> LogPoint {
        LogPoint { size: self.old_size, root: self.old_root }
    }

    pub fn event(&self) -> Event {
        Event::new(NAME, serde_json::json!(self))
    }
}

impl Recovery {
    /// Reads a row; `None` if it is about something else.
    pub fn read(row: &Row) -> Result<Option<Self>, BadRecovery> {
        if row.name != NAME {
            return Ok(None);
        }
        let facts: Facts = serde_json::from_value(row.facts.clone())?;
        if facts.reason.len() > MAX_REASON || facts.by.len() > MAX_REASON {
            return Err(BadRecovery::Reason);
        }
        let follows = facts.new_size.checked_add(1) == Some(row.seq);
        if !follows || facts.old_size < facts.new_size || (facts.old_size == facts.new_size && facts.old_root != facts.new_root) {
            return Err(BadRecovery::Place);
        }
        Ok(Some(Self { at: row.at, facts }))
    }

    /// Whether this is why a log does not come to a checkpoint that was kept: it took rows of it away, and
    /// the checkpoint was signed before it.
    pub fn explains(&self, kept: &Checkpoint) -> bool {
        Some(self.at) > kept.recovered && self.facts.new_size < kept.size
    }

    /// What a person reads once, made harmless by who shows it; `seen` is how many rows they, or their machine,
    /// had seen.
    pub fn words(&self, seen: u64) -> String {
        let Facts { old_size, new_size, reason, .. } = &self.facts;
        let (last, left) = ((*old_size).max(seen), *new_size);
        let day = self.at.utc().format("%-d %b");
        match last.saturating_sub(left) {
            0 => format!("the state was restored {day} (\"{reason}\"). No row of the log is missing."),
            1 => format!("the log went back 1 entry: restored {day} (\"{reason}\"). Missing: {}.", grouped(last)),
            n => {
                let (from, n) = (grouped(left.saturating_add(1)), grouped(n));
                format!("the log went back {n} entries: restored {day} (\"{reason}\"). Missing: {from}-{}.", grouped(last))
            }
        }
    }
}

/// `48,213`
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::audit::checkpoint::LogKey;
    use crate::audit::row::{NO_ROW, V1};

    fn facts(old: u64, new: u64) -> Facts {
        let root = |n: u64| Digest([n as u8; 32]);
        let (by, reason) = ("root".into(), "disk failure".into());
        let backup_us = Timestamp::from_micros(1);
        Facts { old_size: old, old_root: root(old), new_size: new, new_root: root(new), by, reason, backup_us }
    }

    fn row(seq: u64, facts: &Facts) -> Row {
        // 14 January 2026
        let at = Timestamp::from_micros(1_768_388_061_000_000);
        Row { v: V1, seq, at, name: NAME.into(), facts: json!(facts), prev: NO_ROW }
    }

    #[test]
    fn it_is_said_in_these_words() {
        let words = |old, new, seen| Recovery::read(&row(new + 1, &facts(old, new))).unwrap().unwrap().words(seen);
        let promised = r#"the log went back 223 entries: restored 14 Jan ("disk failure"). Missing: 47,991-48,213."#;
        assert_eq!(words(48_213, 47_990, 0), promised);
        // Who has seen more than the bastion remembers misses more.
        assert_eq!(words(47_990, 47_990, 48_213), promised);
        assert_eq!(words(8, 7, 8), r#"the log went back 1 entry: restored 14 Jan ("disk failure"). Missing: 8."#);
        assert_eq!(words(7, 7, 7), r#"the state was restored 14 Jan ("disk failure"). No row of the log is missing."#);
    }

    #[test]
    fn one_in_the_wrong_place_or_form_is_none() {
        let bad = |seq, facts: &Facts| Recovery::read(&row(seq, facts)).is_err();
        assert!(!bad(8, &facts(9, 7)));
        assert!(bad(9, &facts(9, 7)) && bad(7, &facts(9, 7)) && bad(8, &facts(6, 7)));
        assert!(bad(8, &Facts { old_root: Digest([0; 32]), ..facts(7, 7) }));
        assert!(bad(8, &Facts { reason: "x".repeat(MAX_REASON + 1), ..facts(9, 7) }));
        assert!(Recovery::read(&Row { facts: json!({}), ..row(8, &facts(9, 7)) }).is_err());
        assert_eq!(Recovery::read(&Row { name: "session.open".into(), ..row(8, &facts(9, 7)) }).unwrap(), None);
    }

    #[test]
    fn it_excuses_what_was_kept_before_it_and_nothing_else() {
        let recovery = Recovery::read(&row(8, &facts(9, 7))).unwrap().unwrap();
        let kept = |size, recovered| Checkpoint {
            recovered,
            ..LogKey::new("countersign/b-1".into(), &[1; 32]).unwrap().checkpoint(size, Digest([0; 32]))
        };
        assert!(recovery.explains(&kept(8, None)) && recovery.explains(&kept(90, None)));
        // These rows are still there; and a checkpoint signed after it has come to terms with it.
        assert!(!recovery.explains(&kept(7, None)));
        assert!(!recovery.explains(&kept(9, Some(recovery.at))));
        assert!(recovery.explains(&kept(9, Some(Timestamp::from_micros(0)))));
    }

    #[test]
    fn numbers_are_grouped() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (48_213, "48,213"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(n), text);
        }
    }
}
