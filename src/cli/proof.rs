//! `show REQ --proof` and `verify REQ.proof`: what was approved, as files that prove it without the bastion.

mod files;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::bastion::Bastion;
use super::say;
use super::trust::{self, Known};
use super::verify::small;
use crate::access::proof::{Entry, Manifest, Proof, Said, Signer, VERSION as PROOF_VERSION};
use crate::access::request::RequestDocument;
use crate::audit::checkpoint::{Checkpoint, LogVerifier};
use crate::audit::row::Row;
use crate::audit::tree::{leaf, verify_consistency, verify_inclusion};
use crate::console::grammar::Verb;
use crate::console::render::{VERSION, visible};
use crate::console::reply::{LogRow, ProofParts, Reply};
use crate::console::text;
use crate::console::with_causes;
use crate::id::{Digest, RequestId};

pub use files::is_proof;

/// Fetches a proof, checks it here, and writes it: into a directory, or a tar where the name says so.
pub async fn show<R, W>(
    bastion: &mut Bastion<R, W>,
    request: RequestId,
    output: Option<PathBuf>,
    known: &Known,
    as_json: bool,
) -> anyhow::Result<u8>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Reply::Proof(parts) = bastion.ask(&Verb::Proof { request, from: known.checkpoint.size }).await? else {
        bail!("the bastion answers with something else than a proof");
    };
    if parts.request != request {
        bail!("the bastion answers with the proof of {}", parts.request);
    }
    let proof = proof(*parts)?;
    let seen = Log { key: known.log_key.clone(), seen: Some(known.checkpoint.clone()) };
    let judged = judge(&proof, Some(&seen)).context("what the bastion handed over proves nothing, and is not written")?;
    let output = output.unwrap_or_else(|| PathBuf::from(format!("{request}.proof")));
    files::write(&output, &format!("{request}.proof"), &proof.files())?;
    if as_json {
        return told(&proof, Ok(judged), true);
    }
    let shown = output.display();
    let mut text = format!("countersign: {shown} holds what was asked and signed; in it, with stock tools:\n");
    text.extend(proof.commands().iter().map(|line| format!("  {line}\n")));
    text.push_str(&format!("countersign: or all of it, anywhere: countersign verify {shown}\n"));
    Ok(say(&visible_lines(&text)).err().unwrap_or(0))
}

/// Verifies a proof on this machine.
pub fn file(path: &Path, log_key: Option<&Path>, as_json: bool) -> anyhow::Result<u8> {
    let proof = match Proof::read(&files::read(path)?) {
        Ok(proof) => proof,
        Err(bad) => bail!("{} is no proof: {}", path.display(), with_causes(&bad)),
    };
    let key = match log_key {
        Some(path) => Some(String::from_utf8_lossy(&small(path)?).trim().parse::<LogVerifier>().context("--log-key")?),
        None => trust::remembered_log_key(&trust::state_dir(), &proof.manifest.bastion)?,
    };
    let seen = key.map(|key| Log { key, seen: None });
    told(&proof, judge(&proof, seen.as_ref()), as_json)
}

fn proof(parts: ProofParts) -> anyhow::Result<Proof> {
    let ProofParts { request, bastion, state, bytes, decisions, signers, log, log_key } = parts;
    let mut signed = BTreeMap::new();
    let mut entries = Vec::new();
    for (n, part) in decisions.into_iter().enumerate() {
        let file = match (part.decision_b64, part.signature) {
            (Some(bytes), Some(signature)) => {
                let file = Proof::file_of(n + 1, &part.person);
                let bytes = data_encoding::BASE64.decode(bytes.as_bytes()).context("a decision is not base 64")?;
                signed.insert(file.clone(), (bytes, signature));
                Some(file)
            }
            (None, None) => None,
            _ => bail!("the bastion hands over half a decision"),
        };
        entries.push(Entry { person: part.person, verdict: part.verdict, level: part.level, at: part.at, file });
    }
    let manifest = Manifest {
        v: PROOF_VERSION,
        kind: "proof".into(),
        bastion,
        request,
        digest: Digest::of(&bytes),
        state: state.word().to_owned(),
        decisions: entries,
        log_key,
    };
    let signers = signers.into_iter().map(|part| Signer { person: part.person, key: part.key, left: part.left }).collect();
    let log = log.iter().map(|row| serde_json::to_string(row).context("a row cannot be written")).collect::<Result<_, _>>()?;
    let proof = Proof { manifest, request: bytes, signed, signers, log };
    // As it will be read: what does not survive that is not written.
    let files: BTreeMap<String, Vec<u8>> = proof.files().into_iter().collect();
    Ok(Proof::read(&files)?)
}

/// The log's key that counts, and how far the log was seen.
struct Log {
    key: LogVerifier,
    seen: Option<Checkpoint>,
}

struct Judged {
    document: RequestDocument,
    said: Vec<Said>,
    /// Rows that are in the signed log; `None` where its key is not known here.
    rows: Option<usize>,
}

fn judge(proof: &Proof, log: Option<&Log>) -> anyhow::Result<Judged> {
    let (document, said) = proof.check()?;
    let Some(log) = log else { return Ok(Judged { document, said, rows: None }) };
    let mut decided = Vec::new();
    for line in &proof.log {
        let row: LogRow = serde_json::from_str(line).context("log.jsonl has a line that is no row")?;
        let read = proven(&row, log)?;
        if read.facts.get("request").and_then(Value::as_str) != Some(proof.manifest.request.as_str()) {
            bail!("row {} of the log is about something else", row.seq);
        }
        if read.name == "request.decide" {
            decided.extend(read.facts.get("decision").and_then(Value::as_str).map(str::to_owned));
        }
    }
    for (bytes, _) in proof.signed.values() {
        if !decided.contains(&Digest::of(bytes).to_string()) {
            bail!("no row of the log says that the decision {} was taken", Digest::of(bytes));
        }
    }
    Ok(Judged { document, said, rows: Some(proof.log.len()) })
}

fn proven(row: &LogRow, log: &Log) -> anyhow::Result<Row> {
    let checkpoint = log.key.verify(&row.checkpoint).with_context(|| format!("the checkpoint of row {}", row.seq))?;
    let signed = (checkpoint.size, checkpoint.root);
    if let Some(seen) = log.seen.as_ref().filter(|seen| seen.size > 0)
        && !verify_consistency((seen.size, seen.root), signed, &row.continues)
    {
        bail!("row {} is in a log that does not continue the one that this machine knows", row.seq);
    }
    let read = Row::read(row.line.as_bytes()).with_context(|| format!("row {} of the log", row.seq))?;
    if read.seq != row.seq || !verify_inclusion(row.seq.saturating_sub(1), leaf(row.line.as_bytes()), signed, &row.proof) {
        bail!("row {} is not in the signed log", row.seq);
    }
    Ok(read)
}

fn told(proof: &Proof, judged: anyhow::Result<Judged>, as_json: bool) -> anyhow::Result<u8> {
    let request = proof.manifest.request;
    let (good, text, lines) = match judged {
        Err(error) => (false, format!("{error:#}"), Vec::new()),
        Ok(Judged { document, said, rows }) => {
            let targets = document.targets.len();
            let first = document.targets.first().map(|target| target.id.to_string()).unwrap_or_default();
            let whole = if targets > 1 { format!("{first} +{}", targets - 1) } else { first };
            let text = format!(
                "{} asked for {} as {} on {whole}; {}",
                document.person,
                document.scope.words(),
                document.login,
                match rows {
                    Some(rows) => format!("{rows} rows of the log prove it"),
                    None => "the log's key is not known here: --log-key FILE".to_owned(),
                }
            );
            (true, text, said.iter().map(|said| decided(said, &document)).collect())
        }
    };
    if as_json {
        let verdict = if good { "whole" } else { "bad" };
        let lines: Vec<String> = lines.iter().map(|line| visible(line)).collect();
        let one = json!({ "request": request, "verdict": verdict, "text": visible(&text), "decisions": lines });
        say(&(json!({ "v": VERSION, "verified": [one] }).to_string() + "\n")).ok();
        return Ok(u8::from(!good));
    }
    let word = if good { "good" } else { "BAD" };
    let mut out = format!("{request}: {word}: {}\n", visible(&text));
    out.extend(lines.iter().map(|line| format!("  {}\n", visible(line))));
    Ok(say(&out).err().unwrap_or(u8::from(!good)))
}

fn decided(said: &Said, asked: &RequestDocument) -> String {
    match said {
        Said::Signed { entry, document } => {
            let what = match &document.terms {
                Some(terms) => format!("yes to {}", text::granted(terms, entry.at)),
                None => "no".to_owned(),
            };
            let note = if document.note.is_empty() { String::new() } else { format!(": {:?}", document.note) };
            format!("{} said {what}, {}, signed ({}) with {}{note}", entry.person, entry.at, entry.level.as_str(), document.key)
        }
        Said::Unsigned(entry) => {
            format!("{} said something of {} at {} that nobody signed: the bastion's word", entry.person, asked.request, entry.at)
        }
    }
}

fn visible_lines(text: &str) -> String {
    text.lines().map(|line| visible(line) + "\n").collect()
}
