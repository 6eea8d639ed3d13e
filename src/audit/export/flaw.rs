//! What can be wrong with an exported log, in one sentence each that names the first bad row.
//!
//! Rows are called by the log's own numbering (`seq`, from 1). A flaw says what the file shows, and
//! blames no more than that: two rows that do not fit cannot say which of them was edited.

use crate::access::canonical::NotCanonical;
use crate::audit::recovery::BadRecovery;
use crate::audit::row::BadRow;

/// Says why a file is not the log that it claims to be, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    // Whose log it is.
    #[error("the file is empty: it does not even say whose log it is")]
    Empty,
    #[error("the first line does not say whose log this is")]
    Head(#[source] NotCanonical),
    #[error("the file is of version {0}, which is not known here")]
    Format(u64),
    #[error("the first line does not name a key of the log that it is said to be")]
    Key,
    #[error("this is the log of {here}, not of {wanted}")]
    OtherLog { here: String, wanted: String },
    #[error("the log of {origin} names another key than the one that is known")]
    OtherKey { origin: String },

    // Rows.
    #[error("the line in the place of row {row} is longer than a row can be")]
    TooLong { row: u64 },
    #[error("the line in the place of row {row} is not a row")]
    NotARow {
        row: u64,
        #[source]
        source: BadRow,
    },
    #[error("the row in the place of row {row} is of version {version}, which is not known here")]
    Version { row: u64, version: u64 },
    #[error("{} missing: {} comes {}", are(.from, .to), after(.from), .to.saturating_add(1))]
    Missing { from: u64, to: u64 },
    #[error("row {row} comes again or too late: it stands after row {after}")]
    OutOfOrder { row: u64, after: u64 },
    #[error("row {row} is not what row {} was written after: row {row} was changed, or the link in row {0} was", .row.saturating_add(1))]
    Changed { row: u64 },
    #[error("row 1 is not the first of a log: it says that it was written after another row")]
    NotFirst,
    #[error("row {row} says that the log was restored, and cannot be read")]
    Recovery {
        row: u64,
        #[source]
        source: BadRecovery,
    },
    #[error("row {row} says that the log was restored to other rows than those before it")]
    NotRecovered { row: u64 },

    // Checkpoints.
    #[error("the line after row {after} begins like a checkpoint and is none")]
    NotACheckpoint {
        after: u64,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the checkpoint after row {after} is not signed by {by}")]
    Unsigned { after: u64, by: String },
    #[error("the checkpoint after row {after} has a wrong signature by {by}")]
    Signature { after: u64, by: String },
    #[error("{} missing: {} comes the checkpoint of {} rows", are(.from, .to), after(.from), .to)]
    MissingSigned { from: u64, to: u64 },
    #[error("the checkpoint of {rows} rows stands after row {after}")]
    Misplaced { rows: u64, after: u64 },
    #[error("{} not {} signed: the checkpoint of {to} rows has another root", are(.from, .to), those(.from, .to))]
    NotSigned { from: u64, to: u64 },
    #[error("two roots are signed for the first {rows} rows: the log itself forked")]
    TwoRoots { rows: u64 },
    #[error("the checkpoint of {rows} rows does not say when the log was last restored, or says it wrongly")]
    Forgetful { rows: u64 },

    // Against the checkpoint that the auditor kept.
    #[error("the log was cut: a checkpoint of {known} rows is known, here are {here}")]
    Cut { known: u64, here: u64 },
    #[error("the log forked: its first {rows} rows are not those of the checkpoint that is known")]
    Forked { rows: u64 },

    #[error("a line before was refused; nothing after it is looked at")]
    Over,
}

fn are(from: &u64, to: &u64) -> String {
    if from == to { format!("row {from} is") } else { format!("rows {from} to {to} are") }
}

fn those(from: &u64, to: &u64) -> &'static str {
    if from == to { "the one that was" } else { "those that were" }
}

fn after(from: &u64) -> String {
    match from.saturating_sub(1) {
        0 => "first".to_owned(),
        before => format!("after {before}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flaw_is_one_sentence_with_the_row() {
        let says = [
            (Flaw::Missing { from: 17, to: 17 }, "row 17 is missing: after 16 comes 18"),
            (Flaw::Missing { from: 1, to: 3 }, "rows 1 to 3 are missing: first comes 4"),
            (Flaw::MissingSigned { from: 199, to: 200 }, "rows 199 to 200 are missing: after 198 comes the checkpoint of 200 rows"),
            (Flaw::OutOfOrder { row: 17, after: 20 }, "row 17 comes again or too late: it stands after row 20"),
            (Flaw::Changed { row: 17 }, "row 17 is not what row 18 was written after: row 17 was changed, or the link in row 18 was"),
            (
                Flaw::NotSigned { from: 101, to: 200 },
                "rows 101 to 200 are not those that were signed: the checkpoint of 200 rows has another root",
            ),
            (Flaw::NotSigned { from: 200, to: 200 }, "row 200 is not the one that was signed: the checkpoint of 200 rows has another root"),
            (Flaw::Cut { known: 500, here: 420 }, "the log was cut: a checkpoint of 500 rows is known, here are 420"),
            (Flaw::Forked { rows: 300 }, "the log forked: its first 300 rows are not those of the checkpoint that is known"),
        ];
        for (flaw, sentence) in says {
            assert_eq!(flaw.to_string(), sentence);
        }
    }
}
