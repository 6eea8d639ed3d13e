//! The audit log on the auditor's machine: taken out whole, and verified without the bastion.

use std::io::{BufRead, BufReader, Write};

use anyhow::{Context, bail};
use serde_json::json;
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::bastion::{Bastion, Heard};
use super::say;
use super::trust::Known;
use crate::audit::checkpoint::{Checkpoint, LogVerifier};
use crate::audit::export::{AuditError, Summary, audit};
use crate::console::grammar::{AuditArgs, AuditVerifyArgs, AuditWhat, Verb};
use crate::console::render::{VERSION, visible};
use crate::console::reply::Reply;

/// Writes the whole log to standard output.
pub async fn export<R, W>(bastion: &mut Bastion<R, W>) -> anyhow::Result<u8>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let status = take(bastion, |line| match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("the log cannot be written out"),
    });
    status.await.map(|_| 0)
}

/// Hands every line of the bastion's log to `each`, until it says that it wants no more.
pub(super) async fn take<R, W>(bastion: &mut Bastion<R, W>, mut each: impl FnMut(&str) -> anyhow::Result<bool>) -> anyhow::Result<()>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    bastion.send(&Verb::Audit(AuditArgs { what: AuditWhat::Export })).await?;
    loop {
        let lines = match bastion.hear().await? {
            Heard::Event(Reply::AuditLines(lines)) => lines,
            Heard::Result(Reply::AuditLines(_)) => return Ok(()),
            _ => bail!("the bastion answers with something else than its log"),
        };
        for line in lines {
            if !each(&line)? {
                return Ok(());
            }
        }
    }
}

/// Verifies an exported log: nothing but the file, the key and the kept checkpoint are asked.
pub fn file(args: &AuditVerifyArgs, as_json: bool) -> anyhow::Result<u8> {
    let Some(path) = &args.file else { bail!("no file is named") };
    let file = std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let key = args.log_key.as_deref().map(str::parse::<LogVerifier>).transpose().context("--log-key")?;
    let known = kept(args, key.as_ref())?;
    judge(BufReader::new(file), key, known, as_json)
}

/// Fetches the bastion's log and verifies it here, against what this machine remembers.
pub async fn verify<R, W>(bastion: &mut Bastion<R, W>, args: &AuditVerifyArgs, known: &Known, as_json: bool) -> anyhow::Result<u8>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut log = tempfile::tempfile().context("no place for the log; set TMPDIR")?;
    take(bastion, |line| writeln!(log, "{line}").map(|()| true).context("the log cannot be kept; set TMPDIR")).await?;
    std::io::Seek::rewind(&mut log)?;
    let remembered = match kept(args, Some(&known.log_key))? {
        Some(kept) => kept,
        None => known.checkpoint.clone(),
    };
    judge(BufReader::new(log), Some(known.log_key.clone()), Some(remembered), as_json)
}

/// The checkpoint that was kept, in a file of its own.
fn kept(args: &AuditVerifyArgs, key: Option<&LogVerifier>) -> anyhow::Result<Option<Checkpoint>> {
    let Some(path) = &args.checkpoint else { return Ok(None) };
    let Some(key) = key else { bail!("--checkpoint needs --log-key: a checkpoint counts by its signature") };
    let note = String::from_utf8_lossy(&super::verify::small(path)?).into_owned();
    Ok(Some(key.verify(&note).with_context(|| format!("{}", path.display()))?))
}

fn judge(from: impl BufRead, key: Option<LogVerifier>, known: Option<Checkpoint>, as_json: bool) -> anyhow::Result<u8> {
    match audit(from, key, known, |_| {}) {
        Ok(summary) => {
            let text = if as_json { in_json(&summary) } else { in_words(&summary) };
            Ok(say(&text).err().unwrap_or(0))
        }
        Err(AuditError::Flaw(flaw)) => {
            let text = visible(&crate::console::with_causes(&flaw));
            if as_json {
                say(&(json!({ "v": VERSION, "good": false, "flaw": text }).to_string() + "\n")).ok();
            } else {
                eprintln!("countersign: {text}");
            }
            Ok(1)
        }
        Err(error @ AuditError::Read(_)) => Err(error.into()),
    }
}

fn in_words(summary: &Summary) -> String {
    let mut text = format!("countersign: the log is whole: {} rows, {} of them signed\n", summary.rows, summary.signed);
    if let Some((checkpoint, _)) = &summary.checkpoint {
        text.push_str(&format!("countersign: checkpoint: {} rows, root {}\n", checkpoint.size, checkpoint.root));
    }
    for recovery in summary.recoveries() {
        text.push_str(&format!("countersign: {}\n", visible(&recovery)));
    }
    if !summary.key_was_given {
        text.push_str("countersign: the key is the file's own word: give --log-key to know whose log this is\n");
    }
    if summary.signed == 0 && summary.rows > 0 {
        text.push_str("countersign: no checkpoint is in it: nothing says that these rows are the bastion's\n");
    }
    text
}

fn in_json(summary: &Summary) -> String {
    let Summary { rows, signed, checkpoint, key_was_given, recovered, went_back_from } = summary;
    let root = checkpoint.as_ref().map(|(checkpoint, _)| checkpoint.root);
    let recovered: Vec<_> = recovered.iter().map(|one| json!({ "at": one.at, "facts": one.facts })).collect();
    let told = json!({
        "v": VERSION, "good": true, "rows": rows, "signed": signed, "root": root, "key_was_given": key_was_given,
        "recovered": recovered, "went_back_from": went_back_from,
    });
    told.to_string() + "\n"
}
