//! What this machine remembers of each bastion: its seal key, its log's key, the last checkpoint.
//!
//! The first contact is trusted, as with `known_hosts`, and said. From then on another key, or a log that
//! does not continue the one that is remembered, stops whatever was to be done: a bastion that forgets
//! cannot be asked anything. One that was restored says so in its log (`audit/recovery.rs`): that is shown,
//! and accepted, once. Kept below `$XDG_STATE_HOME/countersign/bastions/`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::bastion::Bastion;
use crate::audit::checkpoint::{Checkpoint, LogVerifier};
use crate::audit::recovery::Recovery;
use crate::audit::row::Row;
use crate::audit::tree::{leaf, verify_consistency, verify_inclusion};
use crate::authority::SealVerifier;
use crate::console::grammar::Verb;
use crate::console::render::visible;
use crate::console::reply::{CheckpointLine, Reply};

/// What is known of one bastion.
#[derive(Debug, Clone)]
pub struct Known {
    pub seal_key: SealVerifier,
    pub log_key: LogVerifier,
    /// The last signed state of its log.
    pub checkpoint: Checkpoint,
}

/// The file of one bastion.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    seal_key: String,
    log_key: String,
    checkpoint: String,
}

/// A bastion whose log or keys are not the ones that are remembered.
#[derive(Debug, thiserror::Error)]
pub enum Distrust {
    #[error("{bastion} shows another {what} than before: {shown}, not {known}. If it was changed on purpose, remove {}", file.display())]
    Key { bastion: String, what: &'static str, shown: String, known: String, file: PathBuf },
    #[error("{name} was {known} before and is {shown} now: another bastion answers. If it was replaced on purpose, remove its line from {}", file.display())]
    Another { name: String, known: String, shown: String, file: PathBuf },
    #[error(
        "the log of {bastion} went back: it has {found} rows, this machine has seen {known}, and no log.recovered says why. Rows that were seen are gone: tell an auditor. \
         An operator who put an old state back does it with countersign restore instead. What was seen last: {}", file.display()
    )]
    WentBack { bastion: String, found: u64, known: u64, file: PathBuf },
    #[error("the log of {bastion} is not the one that this machine has seen: its first {known} rows were changed. What was seen last: {}", file.display())]
    Forked { bastion: String, known: u64, file: PathBuf },
}

pub fn state_dir() -> PathBuf {
    let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".local/state")));
    base.unwrap_or_default().join("countersign/bastions")
}

/// Asks for the last checkpoint, compares it with what is remembered in `dir`, and remembers it.
pub async fn greet<R, W>(bastion: &mut Bastion<R, W>, dir: &Path) -> anyhow::Result<Known>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    // Which bastion this is, its answer says; so what is remembered is found by a first question.
    let first = ask(bastion, 0).await?;
    let file = file_of(dir, &first.bastion)?;
    stands_for(dir, &bastion.name, &first.bastion)?;
    let remembered = match std::fs::read_to_string(&file) {
        Ok(text) => Some(toml::from_str::<Remembered>(&text).with_context(|| format!("{} cannot be read", file.display()))?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", file.display())),
    };
    let Some(remembered) = remembered else {
        let known = known(&first.bastion, &first.seal_key, &first.log_key, &first.note)?;
        remember(&file, &first)?;
        eprintln!(
            "countersign: first time at {}: seal key {}, log key {}; compare them with an operator's",
            first.bastion,
            known.seal_key.fingerprint(),
            known.log_key
        );
        return Ok(known);
    };
    let before = known(&first.bastion, &remembered.seal_key, &remembered.log_key, &remembered.checkpoint)?;
    let changed = |what, shown: &str, known: &str| Distrust::Key {
        bastion: first.bastion.clone(),
        what,
        shown: shown.to_owned(),
        known: known.to_owned(),
        file: file.clone(),
    };
    if first.seal_key != remembered.seal_key {
        bail!(changed("seal key", &first.seal_key, &remembered.seal_key));
    }
    if first.log_key != remembered.log_key {
        bail!(changed("log key", &first.log_key, &remembered.log_key));
    }
    let from = before.checkpoint.size;
    let second = ask(bastion, from).await?;
    let now = known(&second.bastion, &second.seal_key, &second.log_key, &second.note)?;
    let (old, new) = ((from, before.checkpoint.root), (now.checkpoint.size, now.checkpoint.root));
    let continues = from == 0 || second.proof.as_ref().is_some_and(|proof| verify_consistency(old, new, proof));
    if second.seal_key != first.seal_key || second.log_key != first.log_key {
        bail!(Distrust::Forked { bastion: second.bastion, known: from, file });
    }
    if continues {
        if now.checkpoint.size > from {
            remember(&file, &second)?;
        }
        return Ok(now);
    }
    match explained(&second, &before.checkpoint, &now.checkpoint) {
        Some(recovery) => {
            // What is remembered from now on names this recovery, so that it explains nothing twice.
            remember(&file, &second)?;
            eprintln!("countersign: {}", visible(&recovery.words(from)));
            Ok(now)
        }
        None if now.checkpoint.size < from => {
            bail!(Distrust::WentBack { bastion: second.bastion, found: now.checkpoint.size, known: from, file })
        }
        None => bail!(Distrust::Forked { bastion: second.bastion, known: from, file }),
    }
}

/// The recovery that this machine has not heard of yet and that explains why the log is not the one that it
/// remembers: of several the one that took the most.
fn explained(line: &CheckpointLine, before: &Checkpoint, now: &Checkpoint) -> Option<Recovery> {
    let proven = line.recovered.iter().filter_map(|one| {
        let row = Row::read(one.line.as_bytes()).ok()?;
        let within = verify_inclusion(row.seq.checked_sub(1)?, leaf(one.line.as_bytes()), (now.size, now.root), &one.proof);
        Recovery::read(&row).ok().flatten().filter(|_| within)
    });
    // A checkpoint that does not name it would let it explain the next going-back as well.
    let news = proven.filter(|recovery| recovery.explains(before) && now.recovered >= Some(recovery.at));
    news.min_by_key(|recovery| recovery.facts.new_size)
}

/// Holds a name that people use to the bastion that it was the first time: one with another id has another
/// log and other keys, and could not be caught at anything.
fn stands_for(dir: &Path, name: &str, shown: &str) -> anyhow::Result<()> {
    let file = dir.join("names");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", file.display())),
    };
    let known = text.lines().filter_map(|line| line.rsplit_once(' ')).find(|(of, _)| *of == name);
    match known {
        Some((_, known)) if known == shown => Ok(()),
        Some((_, known)) => {
            bail!(Distrust::Another { name: name.to_owned(), known: known.to_owned(), shown: shown.to_owned(), file })
        }
        None => put(&file, &format!("{text}{name} {shown}\n")),
    }
}

/// The key of a bastion's log that this machine remembers.
pub fn remembered_log_key(dir: &Path, bastion: &str) -> anyhow::Result<Option<LogVerifier>> {
    let file = file_of(dir, bastion)?;
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            let remembered: Remembered = toml::from_str(&text).with_context(|| format!("{} cannot be read", file.display()))?;
            Ok(Some(remembered.log_key.parse()?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", file.display())),
    }
}

/// The seal key that this machine remembers of a bastion.
pub fn remembered_seal_key(dir: &Path, bastion: &str) -> anyhow::Result<Option<SealVerifier>> {
    let file = file_of(dir, bastion)?;
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            let remembered: Remembered = toml::from_str(&text).with_context(|| format!("{} cannot be read", file.display()))?;
            Ok(Some(SealVerifier::new(bastion, &remembered.seal_key)?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", file.display())),
    }
}

async fn ask<R, W>(bastion: &mut Bastion<R, W>, from: u64) -> anyhow::Result<CheckpointLine>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    match bastion.ask(&Verb::Checkpoint { from }).await? {
        Reply::Checkpoint(line) => Ok(*line),
        _ => bail!("the bastion answers with something else than a checkpoint"),
    }
}

fn known(bastion: &str, seal_key: &str, log_key: &str, note: &str) -> anyhow::Result<Known> {
    let seal_key = SealVerifier::new(bastion, seal_key).context("the seal key that the bastion names")?;
    let log_key: LogVerifier = log_key.parse().context("the log key that the bastion names")?;
    if log_key.name() != format!("countersign/{bastion}") {
        bail!("the log key of {bastion} is named {}", log_key.name());
    }
    let checkpoint = log_key.verify(note).context("the checkpoint that the bastion shows")?;
    Ok(Known { seal_key, log_key, checkpoint })
}

/// The bastion's id is a stranger's word until it is known to be harmless in a path.
fn file_of(dir: &Path, bastion: &str) -> anyhow::Result<PathBuf> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
    if bastion.is_empty() || bastion.len() > 64 || bastion.starts_with('.') || !bastion.chars().all(good) {
        bail!("the bastion calls itself {:?}, which is no bastion's id", bastion.chars().take(80).collect::<String>());
    }
    Ok(dir.join(format!("{bastion}.toml")))
}

fn remember(file: &Path, line: &CheckpointLine) -> anyhow::Result<()> {
    let remembered = Remembered { seal_key: line.seal_key.clone(), log_key: line.log_key.clone(), checkpoint: line.note.clone() };
    let text = toml::to_string(&remembered).context("what is known of the bastion cannot be written down")?;
    put(file, &text)
}

/// Writes a file, whole or not at all.
fn put(file: &Path, text: &str) -> anyhow::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let mut new = tempfile::NamedTempFile::new_in(dir).with_context(|| format!("{} cannot be written in", dir.display()))?;
    std::io::Write::write_all(&mut new, text.as_bytes()).with_context(|| format!("{} cannot be written", file.display()))?;
    new.persist(file).with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::checkpoint::LogKey;
    use crate::audit::recovery::{self, Facts};
    use crate::audit::row::{NO_ROW, V1};
    use crate::audit::tree::Tree;
    use crate::console::reply::RecoveredRow;
    use crate::console::wire::{Said, say};
    use crate::id::Digest;
    use crate::time::Timestamp;

    const SEAL: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBIbC8mXUGNEzmCwHbGkw2gPPXU2+nyTLAuhLwgWrLGJ";

    fn tree(rows: &[&str]) -> Tree {
        let mut tree = Tree::new();
        rows.iter().for_each(|row| tree.push(leaf(row.as_bytes())));
        tree
    }

    fn line(rows: &[&str], from: u64) -> CheckpointLine {
        let key = LogKey::new("countersign/b-1".into(), &[3; 32]).unwrap();
        let tree = tree(rows);
        CheckpointLine {
            bastion: "b-1".into(),
            note: key.sign(&key.checkpoint(tree.size(), tree.root())),
            proof: tree.consistency(from, &rows.iter().map(|row| leaf(row.as_bytes())).collect::<Vec<Digest>>()),
            log_key: key.verifier().to_string(),
            seal_key: SEAL.into(),
            recovered: vec![],
        }
    }

    /// A log that was restored to its first rows, and went on with `more`.
    fn restored(left: &[&str], (old, at): (u64, i64), more: &[&str]) -> CheckpointLine {
        let key = LogKey::new("countersign/b-1".into(), &[3; 32]).unwrap();
        let before = tree(left);
        let facts = Facts {
            old_size: old,
            old_root: Digest([9; 32]),
            new_size: before.size(),
            new_root: before.root(),
            by: "root".into(),
            reason: "disk failure".into(),
            backup_us: Timestamp::from_micros(1),
        };
        let at = Timestamp::from_micros(at);
        let row = Row { v: V1, seq: before.size() + 1, at, name: recovery::NAME.into(), facts: serde_json::json!(facts), prev: NO_ROW };
        let row = String::from_utf8(row.encode()).unwrap();
        let rows: Vec<&str> = left.iter().copied().chain([row.as_str()]).chain(more.iter().copied()).collect();
        let all = tree(&rows);
        let proof = all.inclusion(left.len() as u64, &[]).unwrap();
        let note = key.sign(&Checkpoint { recovered: Some(at), ..key.checkpoint(all.size(), all.root()) });
        CheckpointLine { note, proof: None, recovered: vec![RecoveredRow { line: row.clone(), proof }], ..line(&rows, 0) }
    }

    async fn greets(dir: &Path, answers: &[CheckpointLine]) -> anyhow::Result<Known> {
        let mut wire = Vec::new();
        for (n, answer) in answers.iter().enumerate() {
            say(&mut wire, Some(n as u64 + 1), Said::Result(Reply::Checkpoint(Box::new(answer.clone())))).await.unwrap();
        }
        let mut bastion = Bastion::over("bastion", &wire[..], tokio::io::sink());
        greet(&mut bastion, dir).await
    }

    #[tokio::test]
    async fn a_log_that_goes_on_is_followed_and_one_that_does_not_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let seen = ["a", "b", "c"];
        greets(dir.path(), &[line(&seen, 0)]).await.unwrap();
        let more = ["a", "b", "c", "d", "e"];
        assert_eq!(greets(dir.path(), &[line(&more, 0), line(&more, 3)]).await.unwrap().checkpoint.size, 5);
        assert_eq!(greets(dir.path(), &[line(&more, 0), line(&more, 5)]).await.unwrap().checkpoint.size, 5);
        let back = greets(dir.path(), &[line(&seen, 0), line(&seen, 5)]).await.unwrap_err().to_string();
        assert!(back.contains("went back: it has 3 rows, this machine has seen 5"), "{back}");
        let changed = ["a", "B", "c", "d", "e", "f"];
        let forked = greets(dir.path(), &[line(&changed, 0), line(&changed, 5)]).await.unwrap_err().to_string();
        assert!(forked.contains("its first 5 rows were changed"), "{forked}");
    }

    #[tokio::test]
    async fn a_log_that_says_why_it_went_back_is_accepted_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = line(&["a"], 0);
        greets(dir.path(), &[line(&["a", "b", "c", "d"], 0)]).await.unwrap();
        let back = restored(&["a", "b"], (4, 50), &[]);
        assert_eq!(greets(dir.path(), &[first.clone(), back.clone()]).await.unwrap().checkpoint.size, 3);

        // Root rolls the log back to right behind that row: it has been heard of, and explains nothing more.
        let (further, again) = (restored(&["a", "b"], (4, 50), &["x", "y"]), restored(&["a", "b"], (4, 50), &["z"]));
        remember(&dir.path().join("b-1.toml"), &further).unwrap();
        let refused = greets(dir.path(), &[first.clone(), again]).await.unwrap_err().to_string();
        assert!(refused.contains("went back"), "{refused}");
        // A second recovery, later than the first, is news again; one that is not proven is nothing.
        let second = restored(&["a"], (5, 60), &[]);
        let unproven = CheckpointLine { recovered: back.recovered.clone(), ..second.clone() };
        assert!(greets(dir.path(), &[first.clone(), unproven]).await.is_err());
        let mut forgetful = second.clone();
        forgetful.note = line(&["a", &second.recovered[0].line], 0).note;
        assert!(greets(dir.path(), &[first.clone(), forgetful]).await.is_err());
        assert_eq!(greets(dir.path(), &[first.clone(), second]).await.unwrap().checkpoint.size, 2);
    }

    #[tokio::test]
    async fn a_recovery_explains_only_rows_that_it_took() {
        let dir = tempfile::tempdir().unwrap();
        greets(dir.path(), &[line(&["a", "B"], 0)]).await.unwrap();
        let back = restored(&["a", "b"], (4, 50), &["x"]);
        let forked = greets(dir.path(), &[line(&["a"], 0), back]).await.unwrap_err().to_string();
        assert!(forked.contains("its first 2 rows were changed"), "{forked}");
    }

    #[tokio::test]
    async fn another_key_is_refused_and_a_hostile_name_is_no_path() {
        let dir = tempfile::tempdir().unwrap();
        greets(dir.path(), &[line(&["a"], 0)]).await.unwrap();
        let other = CheckpointLine { seal_key: SEAL.replace("IBIb", "IAIb"), ..line(&["a"], 0) };
        assert!(greets(dir.path(), &[other]).await.unwrap_err().to_string().contains("another seal key"));
        let hostile = CheckpointLine { bastion: "../../x".into(), ..line(&["a"], 0) };
        assert!(greets(dir.path(), &[hostile]).await.unwrap_err().to_string().contains("no bastion's id"));
    }
}
