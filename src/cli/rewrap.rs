//! `countersign auditors rewrap --add NAME`: older recordings for an auditor who came later.
//!
//! Key file after key file comes here, is opened with the auditor's own key, wrapped to today's auditors and
//! opened once more before it goes back: the bastion could not tell. Whom it is wrapped to is the bastion's
//! word, so the keys are shown first. What was wrapped stays so; a second run goes on with the rest.

use std::io::IsTerminal as _;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::bastion::{Bastion, WireError};
use super::fetch::Own;
use super::terminal;
use super::trust::Known;
use crate::console::grammar::{KeysWhat, Purpose, RewrapArgs, SessionWord, Verb};
use crate::console::reply::{Closed, KeyReader, KeysReply, Reply};
use crate::console::visible;
use crate::id::{Digest, SessionId};
use crate::recording::{open_key_file, verify};
use crate::transcript::envelope::{self, Identity, Recipient};

/// Between two lines of progress where there is no terminal.
const EVERY: u64 = 100;

/// What became of the recordings so far.
#[derive(Debug, Default)]
struct Done {
    wrapped: u64,
    /// Gone on schedule meanwhile.
    gone: u64,
    /// Not wrapped, and why: the first few.
    failed: u64,
    why: Vec<String>,
}

const NAMED: usize = 5;

/// Wraps what is left; exit status 1 if some could not be.
pub async fn run<R, W>(bastion: &mut Bastion<R, W>, args: &RewrapArgs, known: &Known, own: &Own, yes: bool) -> anyhow::Result<u8>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut page = closed(bastion, args, None).await?;
    let readers = readers(&page.readers)?;
    if page.left == 0 {
        eprintln!("countersign: {} reads every recording that you may replay; nothing is to be done", args.add);
        return Ok(0);
    }
    let total = page.left;
    confirm(args, &page, &readers, yes)?;
    let auditor = own.load()?;
    let mut done = Done::default();
    loop {
        for session in std::mem::take(&mut page.sessions) {
            match one(bastion, session, known, &auditor, &readers).await {
                Ok(()) => done.wrapped += 1,
                Err(error) => done.failed_with(session, error)?,
            }
            progress(&done, total);
        }
        let Some(behind) = page.behind else { break };
        let next = closed(bastion, args, Some(behind)).await?;
        // What was shown is what is used: whoever changes the auditors meanwhile is asked about anew.
        if self::readers(&next.readers)? != readers || next.behind.is_some_and(|next| next <= behind) {
            bail!("the auditors changed meanwhile; look at the keys again: countersign auditors rewrap --add {}", args.add);
        }
        page = next;
    }
    told(args, &done)
}

impl Done {
    /// Counts what the bastion, or what it handed over, says of one recording; anything else ends the run.
    fn failed_with(&mut self, session: SessionId, error: anyhow::Error) -> anyhow::Result<()> {
        match error.downcast_ref::<WireError>() {
            Some(WireError::Refused(refusal)) if refusal.why.contains("on schedule") => self.gone += 1,
            Some(WireError::Refused(refusal)) => self.fail(session, &refusal.why),
            Some(_) => return Err(error),
            None => self.fail(session, &format!("{error:#}")),
        }
        Ok(())
    }

    fn fail(&mut self, session: SessionId, why: &str) {
        self.failed += 1;
        if self.why.len() < NAMED {
            self.why.push(format!("{session}: {why}"));
        }
    }
}

async fn closed<R, W>(bastion: &mut Bastion<R, W>, args: &RewrapArgs, behind: Option<SessionId>) -> anyhow::Result<Closed>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    match bastion.ask(&Verb::Keys(KeysWhat::Closed { to: args.add.clone(), since: args.since, behind })).await? {
        Reply::Keys(reply) => match *reply {
            KeysReply::Closed(closed) => Ok(closed),
            _ => bail!("the bastion answers with something else than recordings"),
        },
        _ => bail!("the bastion answers with something else than recordings"),
    }
}

fn readers(named: &[KeyReader]) -> anyhow::Result<Vec<Recipient>> {
    named.iter().map(|reader| reader.key.parse().with_context(|| format!("the key of {} is none", reader.auditor))).collect()
}

/// Shows whom the keys of the recordings are wrapped to, and asks.
fn confirm(args: &RewrapArgs, page: &Closed, readers: &[Recipient], yes: bool) -> anyhow::Result<()> {
    eprintln!("countersign: {} recordings are wrapped anew, so that these read them, and nobody else:", page.left);
    for (named, key) in page.readers.iter().zip(readers) {
        let added = if named.auditor == args.add { "  (added)" } else { "" };
        eprintln!("countersign:   {:<12} {}{added}", visible(named.auditor.as_str()), visible(&key.fingerprint()));
    }
    if yes {
        return Ok(());
    }
    let prompt = "countersign: a wrong key here reads all of them. Compared with their owners? Go on? [y/N] ";
    match terminal::ask(prompt) {
        Ok(answer) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        Ok(_) => bail!("nothing was changed"),
        Err(error) => Err(error).context("nothing was changed: there is no terminal to ask on; with --yes nobody is asked"),
    }
}

/// Wraps one key anew.
async fn one<R, W>(
    bastion: &mut Bastion<R, W>,
    session: SessionId,
    known: &Known,
    auditor: &Identity,
    readers: &[Recipient],
) -> anyhow::Result<()>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let word: SessionWord = session.to_string().parse().map_err(anyhow::Error::msg)?;
    let Reply::Recording(evidence) = bastion.ask(&Verb::Fetch { session: word, purpose: Purpose::Rewrap, from: 0 }).await? else {
        bail!("the bastion answers with something else than a key file");
    };
    let manifest = verify::signed_manifest(&evidence.manifest, &evidence.signature, &known.seal_key)?;
    if manifest.session != session {
        bail!("the bastion hands over the key file of {}", manifest.session);
    }
    let recipient = manifest.body.recipient.context("it is not encrypted")?;
    let old = evidence.key_file_b64.context("its key file is missing: nobody can read it")?;
    let old = data_encoding::BASE64.decode(old.as_bytes()).context("its key file is not base 64")?;
    // That this is the key of this very recording says the manifest.
    let own = open_key_file(&old, auditor, &recipient).context("your key does not open it")?;
    let text = envelope::open(&old, auditor)?;
    let new = envelope::wrap(&text, readers.iter())?;
    let again = open_key_file(&new, auditor, &recipient).context("you would read it no more: your key is not among today's auditors")?;
    if again.recipient() != own.recipient() {
        bail!("it was wrapped to nothing that opens it");
    }
    let verb = KeysWhat::Rewrap { session, old: Digest::of(&old), key_file_b64: data_encoding::BASE64.encode(&new) };
    match bastion.ask(&Verb::Keys(verb)).await? {
        Reply::Keys(reply) if *reply == KeysReply::Rewrapped(session) => Ok(()),
        _ => bail!("the bastion answers with something else than that it was replaced"),
    }
}

fn progress(done: &Done, total: u64) {
    let at = done.wrapped + done.gone + done.failed;
    match std::io::stderr().is_terminal() {
        true => eprint!("\rcountersign: {at} of {total} "),
        false if at.is_multiple_of(EVERY) => eprintln!("countersign: {at} of {total}"),
        false => {}
    }
}

fn told(args: &RewrapArgs, done: &Done) -> anyhow::Result<u8> {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    for why in &done.why {
        eprintln!("countersign: not wrapped: {}", visible(why));
    }
    let gone = if done.gone > 0 { format!(", {} gone on schedule", done.gone) } else { String::new() };
    let failed = if done.failed > 0 { format!(", {} not", done.failed) } else { String::new() };
    super::say(&format!("countersign: {} wrapped anew, {} reads them now{gone}{failed}\n", done.wrapped, args.add)).ok();
    Ok(u8::from(done.failed > 0))
}
