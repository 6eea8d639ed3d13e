use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::audit::checkpoint::LogKey;
use crate::audit::recovery::{self, Facts};
use crate::audit::row::V1;
use crate::audit::tree::Tree;
use crate::time::Timestamp;

const NAME: &str = "countersign/b-7f3a";

fn key() -> LogKey {
    LogKey::new(NAME.into(), &[1; 32]).unwrap()
}

/// A log of `rows` rows as a file's lines, with a checkpoint after every `every` rows.
fn log(rows: u64, every: u64, word: &str) -> Vec<Vec<u8>> {
    let (mut tree, mut prev, mut lines) = (Tree::new(), NO_ROW, vec![head(&key().verifier())]);
    for seq in 1..=rows {
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        let row = Row { v: V1, seq, at, name: "session.open".into(), facts: json!({ "person": word }), prev };
        prev = row.leaf();
        tree.push(prev);
        lines.push(row.encode());
        if seq % every == 0 {
            lines.push(checkpoint_line(&key().sign(&key().checkpoint(seq, tree.root()))));
        }
    }
    lines
}

/// The checkpoint of the first `rows` rows of such a log.
fn known(rows: u64, word: &str) -> Checkpoint {
    verify(&log(rows, rows, word), None).unwrap().checkpoint.unwrap().0
}

fn verify(lines: &[Vec<u8>], known: Option<Checkpoint>) -> Result<Summary, Flaw> {
    let mut file = lines.join(&b'\n');
    file.push(b'\n');
    audit(&*file, Some(key().verifier()), known, |_| ()).map_err(|error| match error {
        AuditError::Flaw(flaw) => flaw,
        AuditError::Read(error) => panic!("{error}"),
    })
}

fn says(lines: &[Vec<u8>], kept: Option<Checkpoint>) -> String {
    verify(lines, kept).unwrap_err().to_string()
}

/// Where row `seq` stands among the lines.
fn place(seq: u64, every: u64) -> usize {
    (seq + (seq - 1) / every) as usize
}

#[test]
fn a_good_log_verifies_with_and_without_what_is_known() {
    let lines = log(25, 10, "anna");
    let summary = verify(&lines, Some(known(10, "anna"))).unwrap();
    assert_eq!((summary.rows, summary.signed, summary.key_was_given), (25, 20, true));
    let (checkpoint, note) = summary.checkpoint.unwrap();
    assert_eq!(key().verifier().verify(&note), Ok(checkpoint));

    let mut rows = 0;
    let summary = audit(&*lines.join(&b'\n'), None, Some(known(23, "anna")), |row| rows += u64::from(row.seq == rows + 1)).unwrap();
    assert_eq!((summary.rows, rows, summary.key_was_given), (25, 25, false));
    assert_eq!(
        verify(&lines[..1], None).unwrap(),
        Summary { rows: 0, signed: 0, checkpoint: None, key_was_given: true, recovered: vec![], went_back_from: None }
    );
}

#[test]
fn a_cut_or_forked_log_does_not_pass_what_is_known() {
    // Yesterday's file, whole and signed, is still a cut one for who kept today's checkpoint.
    assert_eq!(says(&log(42, 10, "anna"), Some(known(50, "anna"))), "the log was cut: a checkpoint of 50 rows is known, here are 42");
    let forked = "the log forked: its first 30 rows are not those of the checkpoint that is known";
    assert_eq!(says(&log(42, 10, "bert"), Some(known(30, "anna"))), forked);
    assert_eq!(says(&log(30, 10, "bert"), Some(known(30, "anna"))), forked);
}

#[test]
fn a_log_of_another_name_or_key_is_refused() {
    let with = |key: LogKey| says(&[head(&key.verifier())], None);
    assert_eq!(
        with(LogKey::new(NAME.into(), &[2; 32]).unwrap()),
        format!("the log of {NAME} names another key than the one that is known")
    );
    assert_eq!(
        with(LogKey::new("countersign/b-x".into(), &[1; 32]).unwrap()),
        format!("this is the log of countersign/b-x, not of {NAME}")
    );
    let other = Checkpoint { origin: "countersign/b-x".into(), ..known(1, "anna") };
    assert_eq!(says(&log(1, 1, "anna"), Some(other)), format!("this is the log of {NAME}, not of countersign/b-x"));
    let vkey = key().verifier();
    let head = |text: String| says(&[text.into_bytes()], None);
    assert!(head(format!(r#"{{"countersign_log":1,"origin":"b","vkey":"{vkey}"}}"#)).contains("does not name a key of the log"));
    assert!(head(format!(r#"{{"countersign_log":2,"origin":"{NAME}","vkey":"{vkey}"}}"#)).contains("version 2"));
    assert!(head(r#"{"countersign_log":3,"keys":[]}"#.into()).contains("version 3"));
    assert!(head(String::new()).contains("does not say whose"));
    assert!(matches!(Audit::new(None, None).finish(), Err(Flaw::Empty)));
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused() {
    let good = log(20, 10, "anna");
    let with = |at: usize, note: String| {
        let mut lines = good.clone();
        lines[at] = checkpoint_line(&note);
        says(&lines, None)
    };
    let root = Digest([9; 32]);
    assert_eq!(
        with(22, key().sign(&key().checkpoint(20, root))),
        "rows 11 to 20 are not those that were signed: the checkpoint of 20 rows has another root"
    );
    assert_eq!(with(22, key().sign(&key().checkpoint(22, root))), "rows 21 to 22 are missing: after 20 comes the checkpoint of 22 rows");
    assert_eq!(with(22, key().sign(&key().checkpoint(19, root))), "the checkpoint of 19 rows stands after row 20");
    let stranger = LogKey::new(NAME.into(), &[2; 32]).unwrap();
    assert_eq!(with(22, stranger.sign(&key().checkpoint(20, root))), format!("the checkpoint after row 20 is not signed by {NAME}"));
    let forged = key().sign(&key().checkpoint(20, root)).replacen("20", "21", 1);
    assert_eq!(with(22, forged), format!("the checkpoint after row 20 has a wrong signature by {NAME}"));
    assert!(with(22, "nothing".into()).contains("begins like a checkpoint and is none"));

    let mut two = good.clone();
    two.insert(12, checkpoint_line(&key().sign(&key().checkpoint(10, root))));
    assert_eq!(says(&two, None), "two roots are signed for the first 10 rows: the log itself forked");
}

/// A log that was restored to its first `left` rows of `old`, and went on for `more` of another kind.
fn restored(left: u64, old: u64, more: u64) -> Vec<Vec<u8>> {
    let mut lines = log(left, left, "anna");
    let (mut tree, mut prev) = (Tree::new(), NO_ROW);
    for line in lines.iter().filter(|line| line.starts_with(b"{\"at_us\"")) {
        prev = tree::leaf(line);
        tree.push(prev);
    }
    let facts = Facts {
        old_size: old,
        old_root: if old == left { tree.root() } else { Digest([9; 32]) },
        new_size: left,
        new_root: tree.root(),
        by: "root".into(),
        reason: "disk failure".into(),
        backup_us: Timestamp::from_micros(1),
    };
    let at = Timestamp::from_micros(1_768_388_061_000_000);
    for seq in left + 1..=left + 1 + more {
        let (name, facts) = if seq == left + 1 { (recovery::NAME, json!(facts)) } else { ("session.open", json!({ "person": "bert" })) };
        let row = Row { v: V1, seq, at, name: name.into(), facts, prev };
        prev = row.leaf();
        tree.push(prev);
        lines.push(row.encode());
    }
    let last = Checkpoint { recovered: Some(at), ..key().checkpoint(tree.size(), tree.root()) };
    lines.push(checkpoint_line(&key().sign(&last)));
    lines
}

#[test]
fn a_log_that_says_why_it_went_back_is_whole_and_says_what_is_missing() {
    let lines = restored(20, 30, 5);
    let told = |kept: Option<Checkpoint>| verify(&lines, kept).unwrap().recoveries().collect::<Vec<_>>();
    let words = [r#"the log went back 10 entries: restored 14 Jan ("disk failure"). Missing: 21-30."#];
    assert_eq!(told(None), words);
    assert_eq!(told(Some(known(20, "anna"))), words, "these rows are all still there");
    assert_eq!(told(Some(known(23, "anna"))), words);
    let longer = r#"the log went back 30 entries: restored 14 Jan ("disk failure"). Missing: 21-50."#;
    assert_eq!(told(Some(known(50, "anna"))), [longer], "who kept more misses more");
    let whole = verify(&restored(20, 20, 5), Some(known(20, "anna"))).unwrap();
    assert_eq!(whole.went_back_from, None);
}

#[test]
fn a_recovery_excuses_no_other_tampering() {
    let lines = restored(20, 30, 5);
    // Rows from before it, and a checkpoint that was signed after it.
    assert!(says(&lines, Some(known(20, "bert"))).contains("forked"));
    let after = verify(&restored(20, 30, 9), None).unwrap().checkpoint.unwrap().0;
    assert!(says(&lines, Some(after)).contains("the log was cut"));
    // One that speaks of other rows than it stands behind, or that the checkpoint behind it does not name.
    let row = lines.iter().position(|line| line.windows(13).any(|part| part == b"log.recovered")).unwrap();
    let changed = |from: &str, to: &str| {
        let mut lines = lines.clone();
        lines[row] = String::from_utf8(lines[row].clone()).unwrap().replacen(from, to, 1).into_bytes();
        verify(&lines, None).unwrap_err()
    };
    assert!(matches!(changed("\"new_size\":20", "\"new_size\":19"), Flaw::Recovery { row: 21, .. }));
    assert!(matches!(changed("\"by\"", "\"bi\""), Flaw::Recovery { row: 21, .. }));
    let root = known(20, "anna").root.to_string();
    assert!(matches!(changed(&root, &Digest([8; 32]).to_string()), Flaw::NotRecovered { row: 21 }));
    let mut forgetful = lines.clone();
    let last = verify(&lines, None).unwrap().checkpoint.unwrap().0;
    *forgetful.last_mut().unwrap() = checkpoint_line(&key().sign(&Checkpoint { recovered: None, ..last }));
    assert!(matches!(verify(&forgetful, None), Err(Flaw::Forgetful { rows: 26 })));
}

#[test]
fn what_is_not_a_row_is_named_by_its_place() {
    let with = |line: &[u8]| {
        let mut lines = log(20, 10, "anna");
        lines.insert(place(17, 10), line.to_vec());
        verify(&lines, None).unwrap_err()
    };
    for garbage in [&b""[..], b"{}", b"null", b"\xff", b"{\"checkpoints\":1}", &head(&key().verifier())] {
        assert!(matches!(with(garbage), Flaw::NotARow { row: 17, .. }), "{garbage:?}");
    }
    assert!(matches!(with(br#"{"v":2}"#), Flaw::Version { row: 17, version: 2 }));
    assert!(matches!(with(&vec![b'x'; 10 * MAX_BYTES]), Flaw::TooLong { row: 17 }));
    assert!(matches!(with(br#"{"checkpoint":1}"#), Flaw::NotACheckpoint { after: 16, .. }));
}

#[test]
fn a_flaw_that_is_overlooked_does_not_end_in_a_summary() {
    let mut audit = Audit::new(None, None);
    let lines = log(3, 3, "anna");
    audit.line(&lines[0]).unwrap();
    assert!(audit.line(&lines[2]).is_err());
    assert!(matches!(audit.line(&lines[1]), Err(Flaw::Over)));
    assert!(matches!(audit.finish(), Err(Flaw::Over)));
}

#[test]
fn a_file_that_cannot_be_read_is_no_shorter_log() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("disk"))
        }
    }
    let lines = log(10, 10, "anna").join(&b'\n');
    let file = std::io::BufReader::new(lines.chain(Broken));
    assert!(matches!(audit(file, None, None, |_| ()), Err(AuditError::Read(_))));
}

fn edited(line: &[u8]) -> Vec<u8> {
    let mut row = Row::read(line).unwrap();
    row.facts = json!({ "person": "mallory" });
    row.encode()
}

proptest! {
    #[test]
    fn a_single_bad_row_is_named((rows, bad) in (2u64..60).prop_flat_map(|n| (Just(n), 1..=n)), every in 1u64..20) {
        let good = log(rows, every, "anna");
        let at = place(bad, every);
        let covered = rows - rows % every;
        prop_assert_eq!(verify(&good, None).unwrap().signed, covered);

        let mut lines = good.clone();
        lines[at] = edited(&lines[at]);
        match verify(&lines, None) {
            // The row after it shows it, or a checkpoint that stands between does.
            Err(Flaw::Changed { row }) => prop_assert_eq!(row, bad),
            Err(Flaw::NotSigned { from, to }) => prop_assert!(bad == to && from == to - every + 1),
            // Nothing after it, no checkpoint: the one edit that no file can show, and the summary says so.
            Ok(summary) => prop_assert!(bad == rows && summary.signed < rows),
            other => prop_assert!(false, "edited {bad} of {rows}: {other:?}"),
        }
        prop_assert!(verify(&lines, Some(known(rows, "anna"))).is_err());

        let mut lines = good.clone();
        lines.remove(at);
        match verify(&lines, None) {
            Err(Flaw::Missing { from, to } | Flaw::MissingSigned { from, to }) => prop_assert_eq!((from, to), (bad, bad)),
            Ok(summary) => prop_assert!(bad == rows && summary.signed < rows && summary.rows == rows - 1),
            other => prop_assert!(false, "deleted {bad} of {rows}: {other:?}"),
        }
        prop_assert!(verify(&lines, Some(known(rows, "anna"))).is_err());

        let mut lines = good.clone();
        lines.insert(at + 1, lines[at].clone());
        let flaw = verify(&lines, None).unwrap_err();
        prop_assert!(matches!(flaw, Flaw::OutOfOrder { row, after } if row == bad && after == bad), "{flaw}");

        if bad < rows {
            let mut lines = good.clone();
            lines.swap(at, place(bad + 1, every));
            let flaw = verify(&lines, None).unwrap_err();
            prop_assert!(matches!(flaw, Flaw::Missing { from, to } if from == bad && to == bad), "{flaw}");
        }
    }

    #[test]
    fn a_changed_byte_is_never_overlooked(at: prop::sample::Index, byte: u8, rows in 1u64..12) {
        let file = log(rows, rows, "anna").join(&b'\n');
        let mut changed = file.clone();
        let at = at.index(changed.len());
        changed[at] = byte;
        let read = audit(&*changed, Some(key().verifier()), Some(known(rows, "anna")), |_| ());
        prop_assert_eq!(read.is_ok(), changed == file);
    }

    #[test]
    fn any_bytes_are_a_flaw_and_no_panic(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
        prop_assert!(verify(&lines, None).is_err());
    }
}
