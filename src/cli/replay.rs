//! A replay in the person's own terminal, decrypted on their own machine.

use tokio::io::{AsyncBufRead, AsyncWrite};

use super::bastion::Bastion;
use super::fetch::{Own, fetch};
use super::trust::Known;
use super::{say, terminal};
use crate::console::grammar::{Purpose, ReplayArgs};
use crate::console::render::answer;
use crate::console::reply::Reply;
use crate::console::{Keys, Look, Text, play};

/// Fetches a recording and plays it; with `--json`, says only what it is.
pub async fn run<R, W>(
    bastion: &mut Bastion<R, W>,
    args: ReplayArgs,
    known: &Known,
    own: &Own,
    look: Look,
    as_json: bool,
) -> anyhow::Result<u8>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let fetched = fetch(bastion, &args.session, Purpose::Replay, 0).await?;
    if as_json {
        return Ok(say(&answer(&Reply::Recording(Box::new(fetched.evidence)))).err().unwrap_or(0));
    }
    let body = fetched.open(&known.seal_key, own)?;
    let size = terminal::size().filter(|_| look.width.is_some());
    // On a terminal keys act at once; its modes come back when this ends.
    let raw = size.and_then(|_| terminal::raw().ok());
    let mut out = Text::new(tokio::io::stdout(), raw.is_some());
    match (&raw, terminal::keys()) {
        (Some(_), Ok(typed)) => play(body, &args, size, &mut Keys::new(typed), &mut out).await?,
        (None, _) | (_, Err(_)) => play(body, &args, size, &mut Keys::new(tokio::io::empty()), &mut out).await?,
    };
    Ok(0)
}
