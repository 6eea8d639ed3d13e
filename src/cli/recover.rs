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
use crate::transcript::spool::KEY;

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
    // A key file holds more: a bastion that sends one in an envelope's place would learn a recording's key.
    if key.len() != KEY {
        bail!("what the bastion sends is no envelope of a spool; it gets nothing. Tell the other auditors");
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::wire::{Said, say};

    /// What a bastion learns that sends this as the envelope of a spool.
    async fn learns(plain: &[u8]) -> (anyhow::Result<bool>, String) {
        let (auditor, session) = (Identity::generate(), "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap());
        let envelope = envelope::wrap(plain, auditor.recipient().iter()).unwrap();
        let mut wire = Vec::new();
        let replies = [KeysReply::Envelope { session, envelope }, KeysReply::Recovered { session, sealed: true }];
        for (id, reply) in (1..).zip(replies) {
            say(&mut wire, Some(id), Said::Result(Reply::Keys(Box::new(reply)))).await.unwrap();
        }
        let mut heard = Vec::new();
        let done = one(&mut Bastion::over("bastion", &wire[..], &mut heard), session, &auditor).await;
        (done, String::from_utf8(heard).unwrap())
    }

    #[tokio::test]
    async fn a_spools_key_is_handed_over_and_no_other() {
        let (done, heard) = learns(&[7; KEY]).await;
        assert!(done.unwrap() && heard.contains(&data_encoding::BASE64.encode(&[7; KEY])), "{heard}");
        let secret = format!("# countersign recording 01ARZ3NDEKTSV4RRFFQ69G5FAV\n{}", Identity::generate().secret().unwrap().as_str());
        let (done, heard) = learns(secret.as_bytes()).await;
        assert!(done.unwrap_err().to_string().contains("no envelope of a spool"));
        assert!(!heard.contains("unlock"), "{heard}");
    }

    #[test]
    fn a_canary_is_handed_back_and_no_key() {
        use crate::console::canary_in;
        assert_eq!(canary_in(&[&b"countersign canary\n"[..], &[7; 32]].concat()), Some(&[7; 32][..]));
        for other in [&[7; 32][..], b"AGE-SECRET-KEY-1", b"countersign canary\n", &[&b"countersign canary\n"[..], &[7; 33]].concat()] {
            assert_eq!(canary_in(other), None);
        }
    }
}
