//! `countersign verify`: whether a recording is what was sealed, and whether the log says so too.
//!
//! Everything is checked here, against the keys that this machine remembers or that were named: the
//! bastion only hands over files and rows. Exit status 1 if anything is wrong.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::bastion::{Bastion, WireError};
use super::complete::{self, Logged, NotCompared};
use super::fetch::{Fetched, Own, fetch};
use super::say;
use super::trust::{self, Known};
use crate::audit::row::Row;
use crate::audit::tree::{leaf, verify_consistency, verify_inclusion};
use crate::authority::SealVerifier;
use crate::console::grammar::{Purpose, SessionsArgs, Verb, VerifyArgs};
use crate::console::render::{VERSION, visible};
use crate::console::reply::{LogRow, RefusalKind, Reply, SessionLine};
use crate::console::with_causes;
use crate::id::{Digest, SessionId};
use crate::recording::Part;
use crate::recording::verify::{Files, Verified, verify};
use crate::time::Timestamp;
use crate::transcript::envelope::Identity;
use crate::transcript::expiry::Certificate;
use crate::transcript::manifest::Manifest;

impl VerifyArgs {
    /// Whether a file on this machine is meant, and not a session.
    pub fn is_file(&self) -> bool {
        self.what.as_deref().is_some_and(|what| what.contains('/') || what.contains('.') || Path::new(what).is_file())
    }
}

/// Clocks of two machines may differ by so much.
const SKEW: std::time::Duration = std::time::Duration::from_secs(300);

/// More than any manifest, signature, key file or key has.
const SMALL: u64 = 256 * 1024;

/// What came of looking at one recording.
enum Found {
    Good(String),
    /// The recording has gone, and that is proven.
    Gone(String),
    Bad(String),
}

/// Verifies one recording of the bastion's.
pub async fn session<R, W>(bastion: &mut Bastion<R, W>, args: &VerifyArgs, known: &Known, own: &Own, as_json: bool) -> anyhow::Result<u8>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let word = args.what.as_deref().unwrap_or("last").parse().map_err(anyhow::Error::msg)?;
    let fetched = fetch(bastion, &word, Purpose::Verify, known.checkpoint.size).await?;
    let name = fetched.evidence.session.to_string();
    let auditor = auditor(own, as_json);
    let found = judge(fetched, known, auditor.as_ref());
    told(&[(name, found)], None, as_json)
}

/// Verifies every recording that this person may replay.
pub async fn all<R, W>(bastion: &mut Bastion<R, W>, known: &Known, own: &Own, as_json: bool) -> anyhow::Result<u8>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let auditor = auditor(own, as_json);
    // Before the list: what is sealed meanwhile is listed and not missed.
    let logged = complete::logged(bastion, known).await?;
    let (mut found, mut not_yours, mut before) = (Vec::new(), 0, None);
    loop {
        let Reply::Sessions(sessions) = bastion.ask(&Verb::Sessions(SessionsArgs { before, ..SessionsArgs::default() })).await? else {
            bail!("the bastion answers with something else than sessions");
        };
        let Some(last) = sessions.last().map(|line| line.session) else { break };
        // Each page begins before the last one's end; a bastion that goes round in circles is stopped.
        if before.is_some_and(|before| last >= before) {
            bail!("the bastion lists the same sessions again");
        }
        before = Some(last);
        page(bastion, sessions, known, auditor.as_ref(), (&mut found, &mut not_yours)).await?;
    }
    if not_yours > 0 && !as_json {
        eprintln!("countersign: {not_yours} more are listed for you and not yours to look into");
    }
    let complete = logged.is_ok();
    found.extend(not_listed(logged, &found, as_json));
    told(&found, Some(complete), as_json)
}

/// Recordings that the log knows of and the list does not.
fn not_listed(logged: Result<Logged, NotCompared>, found: &[(String, Found)], as_json: bool) -> Vec<(String, Found)> {
    match logged {
        Ok(logged) => {
            let listed = found.iter().filter_map(|(session, _)| session.parse().ok()).collect();
            if logged.unsealed() > 0 && !as_json {
                eprintln!("countersign: {} more were opened and have no seal yet: countersign sessions", logged.unsealed());
            }
            let hidden = |(session, row): (SessionId, u64)| {
                let why = format!(
                    "row {row} of the log says that it was sealed, and it is not shown: hidden, or on a target that you may not replay"
                );
                (session.to_string(), Found::Bad(why))
            };
            logged.hidden(&listed).into_iter().map(hidden).collect()
        }
        Err(NotCompared::NotYours) => {
            if !as_json {
                eprintln!("countersign: the log is for those who may audit: whether this list is complete was not checked");
            }
            Vec::new()
        }
        Err(NotCompared::Flawed(flaw)) => vec![("log".to_owned(), Found::Bad(with_causes(&flaw)))],
    }
}

async fn page<R, W>(
    bastion: &mut Bastion<R, W>,
    sessions: Vec<SessionLine>,
    known: &Known,
    auditor: Option<&Identity>,
    (found, not_yours): (&mut Vec<(String, Found)>, &mut usize),
) -> anyhow::Result<()>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    for SessionLine { session, sealed, .. } in sessions {
        if sealed.is_none() {
            continue;
        }
        let one =
            match fetch(bastion, &session.to_string().parse().map_err(anyhow::Error::msg)?, Purpose::Verify, known.checkpoint.size).await {
                Ok(fetched) => judge(fetched, known, auditor),
                // Said of this one; the others are looked at all the same.
                Err(error) => match error.downcast_ref::<WireError>() {
                    // One's own sessions are listed too; to look into them takes policy's `replay`. What is hidden so
                    // from somebody who may audit is missed when the list is held against the log.
                    Some(WireError::Refused(refusal)) if refusal.kind == RefusalKind::Refused => {
                        *not_yours += 1;
                        continue;
                    }
                    Some(WireError::Refused(refusal)) => Found::Bad(refusal.why.clone()),
                    Some(_) => return Err(error),
                    None => Found::Bad(format!("{error:#}")),
                },
            };
        found.push((session.to_string(), one));
    }
    Ok(())
}

/// Opens the contents where a key is there; says so where none is.
fn auditor(own: &Own, as_json: bool) -> Option<Identity> {
    match own.load() {
        Ok(identity) => Some(identity),
        Err(error) if !as_json => {
            eprintln!("countersign: only the outside is checked: {}", visible(&format!("{error:#}")));
            None
        }
        Err(_) => None,
    }
}

fn judge(fetched: Fetched, known: &Known, auditor: Option<&Identity>) -> Found {
    let session = fetched.evidence.session;
    let key_file = match fetched.key_file() {
        Ok(key_file) => key_file,
        Err(error) => return Found::Bad(error.to_string()),
    };
    let Fetched { evidence, body } = fetched;
    let Some(body) = body else { return gone(&evidence.manifest, &evidence, known) };
    let files = Files { manifest: evidence.manifest.as_slice(), signature: &evidence.signature, key_file: key_file.as_deref(), body };
    let verified = match verify(files, &known.seal_key, auditor) {
        Ok(verified) => verified,
        Err(flaw) => return Found::Bad(with_causes(&flaw)),
    };
    if verified.manifest.session != session {
        return Found::Bad(format!("it is the recording of {}: one stands in another's place", verified.manifest.session));
    }
    let Some(row) = &evidence.sealed else { return Found::Bad("no row of the log says that it was sealed".into()) };
    if let Err(why) = logged(row, "session.seal", known, &session.to_string(), verified.digest) {
        return Found::Bad(why);
    }
    Found::Good(described(&verified, "signed, logged, the body as sealed"))
}

/// Checks that a row is in the log that this machine knows, and speaks of exactly this manifest. A tree that
/// the log's key signed but that does not continue what was seen proves nothing: it was made for this answer.
fn logged(row: &LogRow, name: &str, known: &Known, session: &str, manifest: Digest) -> Result<Row, String> {
    let checkpoint = known.log_key.verify(&row.checkpoint).map_err(|error| format!("the checkpoint of its row: {error}"))?;
    let seen = (known.checkpoint.size, known.checkpoint.root);
    if seen.0 > 0 && !verify_consistency(seen, (checkpoint.size, checkpoint.root), &row.continues) {
        return Err(format!("row {} is in a log that does not continue the one that this machine knows", row.seq));
    }
    let read = Row::read(row.line.as_bytes()).map_err(|error| format!("row {} of the log: {}", row.seq, with_causes(&error)))?;
    let index = row.seq.saturating_sub(1);
    if read.seq != row.seq || !verify_inclusion(index, leaf(row.line.as_bytes()), (checkpoint.size, checkpoint.root), &row.proof) {
        return Err(format!("row {} is not in the signed log", row.seq));
    }
    let fact = |key: &str| read.facts.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if read.name != name || fact("session") != session {
        return Err(format!("row {} of the log is about something else", row.seq));
    }
    if fact("manifest") != manifest.to_string() {
        return Err(format!("the log says that another manifest was sealed (row {}): this one was put in its place, or is older", row.seq));
    }
    Ok(read)
}

/// A recording that has gone: the certificate has to be the bastion's, about this manifest, and logged.
fn gone(manifest: &[u8], evidence: &crate::console::reply::Evidence, known: &Known) -> Found {
    let Some(expired) = &evidence.expired else { return Found::Bad("it is gone, and no certificate says that it was its time".into()) };
    let certificate = match Certificate::signed(&expired.certificate, &expired.signature, &known.seal_key) {
        Ok(certificate) => certificate,
        Err(error) => return Found::Bad(with_causes(&error)),
    };
    let digest = Digest::of(manifest);
    if certificate.session != evidence.session || certificate.manifest != digest {
        return Found::Bad("the certificate of its end is about another recording".into());
    }
    let row = match logged(&expired.row, "session.dispose", known, &evidence.session.to_string(), digest) {
        Ok(row) => row,
        Err(why) => return Found::Bad(why),
    };
    if certificate.erased_us > row.at || row.at > Timestamp::now().plus(SKEW) {
        return Found::Bad(format!(
            "its certificate says that it was erased {}, its row of the log is of {}",
            certificate.erased_us, row.at
        ));
    }
    // What goes has to be what was sealed: else a manifest with a shorter term could stand in for it.
    let Some(sealed) = &evidence.sealed else { return Found::Bad("no row of the log says that it was sealed".into()) };
    if let Err(why) = logged(sealed, "session.seal", known, &evidence.session.to_string(), digest) {
        return Found::Bad(why);
    }
    // The day is recomputed from the terms in the manifest, not taken from the certificate.
    match Manifest::read(manifest).map_err(|error| error.to_string()).and_then(|manifest| certificate.on_time(&manifest)) {
        Ok(()) => {
            Found::Gone(format!("gone on schedule {}, due {}, erased {}", certificate.schedule, certificate.due_us, certificate.erased_us))
        }
        Err(why) => Found::Bad(why),
    }
}

/// `outside` is what was checked besides the contents.
fn described(verified: &Verified, outside: &str) -> String {
    let Verified { manifest, contents, .. } = verified;
    let due =
        manifest.retention.due(manifest.ended_us).map(|due| format!("; goes by {} ({})", due.delete_by, due.schedule)).unwrap_or_default();
    let what = format!("{} {}@{} {}", manifest.person, manifest.login, manifest.target, manifest.kind);
    match contents {
        None => format!("{what}: {outside}; contents not opened{due}"),
        Some(contents) => match &contents.cut {
            Some(cut) => {
                format!("{what}: whole up to byte {} of its spool, where the bastion was interrupted ({}){due}", cut.offset, cut.why)
            }
            None => format!("{what}: whole, {} events{due}", contents.events),
        },
    }
}

/// `complete`: whether the list was held against the log, where there is one.
fn told(found: &[(String, Found)], complete: Option<bool>, as_json: bool) -> anyhow::Result<u8> {
    let bad = found.iter().filter(|(_, one)| matches!(one, Found::Bad(_))).count();
    let gone = found.iter().filter(|(_, one)| matches!(one, Found::Gone(_))).count();
    if as_json {
        let lines: Vec<Value> = found
            .iter()
            .map(|(session, one)| match one {
                Found::Good(text) => json!({ "session": session, "verdict": "whole", "text": text }),
                Found::Gone(text) => json!({ "session": session, "verdict": "expired", "text": text }),
                Found::Bad(text) => json!({ "session": session, "verdict": "bad", "text": visible(text) }),
            })
            .collect();
        let mut answer = json!({ "v": VERSION, "verified": lines });
        if let (Some(complete), Some(answer)) = (complete, answer.as_object_mut()) {
            answer.insert("complete".into(), complete.into());
        }
        say(&(answer.to_string() + "\n")).ok();
        return Ok(u8::from(bad > 0));
    }
    let mut text = String::new();
    for (session, one) in found {
        match one {
            Found::Good(what) | Found::Gone(what) => text.push_str(&format!("{session}: good: {}\n", visible(what))),
            Found::Bad(what) => text.push_str(&format!("{session}: BAD: {}\n", visible(what))),
        }
    }
    if found.len() != 1 {
        text.push_str(&format!(
            "countersign: {} verified: {} good, {gone} lawfully gone, {bad} bad{}\n",
            found.len(),
            found.len() - bad - gone,
            if complete == Some(false) { "; not held against the log" } else { "" }
        ));
    }
    Ok(say(&text).err().unwrap_or(u8::from(bad > 0)))
}

/// Verifies files on this machine: a body or a manifest, with what lies beside it.
pub fn file(args: &VerifyArgs, own: &Own, as_json: bool) -> anyhow::Result<u8> {
    let named = PathBuf::from(args.what.as_deref().unwrap_or_default());
    let name = named.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(stem) = Part::ALL.iter().filter_map(|part| name.strip_suffix(part.extension())).min_by_key(|stem| stem.len()) else {
        bail!(
            "{} is none of a recording's files: they end in {} or {}",
            named.display(),
            Part::Body.extension(),
            Part::Manifest.extension()
        );
    };
    let beside = |part: Part| named.with_file_name(format!("{stem}{}", part.extension()));
    let read = |path: &Path| small(path);
    let manifest = read(&beside(Part::Manifest))?;
    let signature = String::from_utf8_lossy(&read(&beside(Part::Signature))?).into_owned();
    let seal_key = seal_key(args, &manifest)?;
    let body = [Part::Body, Part::Plain].map(beside).into_iter().find(|path| path.is_file());
    let Some(body) = body else { bail!("{} is not there: name it, or fetch it from a copy", beside(Part::Body).display()) };
    let body = File::open(&body).with_context(|| format!("{} cannot be read", body.display()))?;
    let key_path = args.key_file.clone().or_else(|| Some(beside(Part::Key)).filter(|path| path.is_file()));
    let key_file = key_path.as_deref().map(read).transpose()?;
    let auditor = key_file.as_ref().and_then(|_| auditor(own, as_json));
    // Without its key file only the outside can be looked at; that is said, and not an error of the recording.
    let outside_only = key_file.is_none() && Manifest::read(&manifest).is_ok_and(|manifest| manifest.body.recipient.is_some());
    let files = Files { manifest: &manifest, signature: &signature, key_file: key_file.as_deref().or(Some(&[])), body };
    let found = match verify(files, &seal_key, auditor.as_ref()) {
        Ok(verified) if verified.manifest.session.to_string() != stem => {
            Found::Bad(format!("it is the recording of {}: its files were renamed", verified.manifest.session))
        }
        Ok(verified) => Found::Good(described(&verified, "signed, the body as sealed")),
        Err(flaw) => Found::Bad(with_causes(&flaw)),
    };
    if outside_only && !as_json {
        eprintln!("countersign: no key file is here, so the contents are not opened: --key-file FILE");
    }
    told(&[(stem.to_owned(), found)], None, as_json)
}

/// Reads a file that is small where it is what it should be; of a longer one only so much that this shows.
pub fn small(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SMALL).read_to_end(&mut bytes));
    read.with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(bytes)
}

/// The seal key: named, or remembered from this bastion.
fn seal_key(args: &VerifyArgs, manifest: &[u8]) -> anyhow::Result<SealVerifier> {
    let bastion = Manifest::read(manifest)?.bastion;
    match &args.seal_key {
        Some(path) => {
            let line = String::from_utf8_lossy(&small(path)?).into_owned();
            SealVerifier::new(&bastion, line.trim()).with_context(|| format!("{}", path.display()))
        }
        None => trust::remembered_seal_key(&trust::state_dir(), &bastion)?
            .with_context(|| format!("the seal key of {bastion} is not known here: --seal-key FILE (its keys/seal_key.pub)")),
    }
}
