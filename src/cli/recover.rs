//! `countersign auditors recover`: an auditor opens what a crash has left, so that it can be sealed.
//!
//! The auditor's key stays here. What goes back is the key of one spool: the bastion, which wrote it, reads
//! what it wrote once more and seals it. Nothing else opens with that key.

use anyhow::{Context, bail};
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::bastion::{Bastion, WireError};
use super::fetch::Own;
use crate::console::grammar::{KeysWhat, RecoverArgs, SessionWord, Verb};
use crate::console::reply::{KeysReply, Reply, WaitingLine};
use crate::console::visible;
use crate::id::SessionId;
use crate::transcript::envelope::{self, Identity};

/// Recovers what waits, or the one that is named; exit status 1 if some could not be.
pub async fn run<R, W>(bastion: &mut Bastion<R, W>, args: &RecoverArgs, own: &Own) -> anyhow::Result<u8>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let KeysReply::Waiting(waiting) = ask(bastion, KeysWhat::Waiting).await? else {
        bail!("the bastion answers with something else than recordings");
    };
    let meant: Vec<&WaitingLine> = waiting.iter().filter(|line| is_meant(args, line)).collect();
    if meant.is_empty() {
        super::say("countersign: nothing that you may replay waits for an auditor\n").ok();
        return Ok(0);
    }
    let auditor = own.load()?;
    let mut failed = 0;
    for WaitingLine { session, person, target, .. } in meant {
        let what = format!("{session} ({person}, {target})");
        let text = match one(bastion, *session, &auditor).await {
            Ok(true) => format!("{what}: sealed as interrupted; look: countersign verify {session}"),
            Ok(false) => format!("{what}: the bastion died before anything was recorded; nothing is left to seal"),
            Err(error) => match error.downcast_ref::<WireError>() {
                Some(WireError::Refused(refusal)) => {
                    failed += 1;
                    format!("{what}: not sealed: {}", refusal.why)
                }
                Some(_) => return Err(error),
                None => {
                    failed += 1;
                    format!("{what}: not sealed: {error:#}")
                }
            },
        };
        super::say(&format!("countersign: {}\n", visible(&text))).ok();
    }
    Ok(u8::from(failed > 0))
}

fn is_meant(args: &RecoverArgs, line: &WaitingLine) -> bool {
    match &args.session {
        None | Some(SessionWord::Last) => true,
        Some(SessionWord::Begins(text)) => line.session.to_string().starts_with(text.as_str()),
    }
}

async fn one<R, W>(bastion: &mut Bastion<R, W>, session: SessionId, auditor: &Identity) -> anyhow::Result<bool>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let KeysReply::Envelope { envelope, .. } = ask(bastion, KeysWhat::Envelope { session }).await? else {
        bail!("the bastion answers with something else than an envelope");
    };
    let key = envelope::open(&envelope, auditor).context("your key does not open it: another auditor's may")?;
    let key_b64 = data_encoding::BASE64.encode(&key);
    match ask(bastion, KeysWhat::Unlock { session, key_b64 }).await? {
        KeysReply::Recovered { sealed, .. } => Ok(sealed),
        _ => bail!("the bastion answers with something else than that it was sealed"),
    }
}

async fn ask<R, W>(bastion: &mut Bastion<R, W>, what: KeysWhat) -> anyhow::Result<KeysReply>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    match bastion.ask(&Verb::Keys(what)).await? {
        Reply::Keys(reply) => Ok(*reply),
        _ => bail!("the bastion answers with something else than was asked"),
    }
}
