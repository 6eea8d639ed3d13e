//! A running session in the person's own terminal: pictures drawn here, from what the bastion sends.

use tokio::io::{AsyncBufRead, AsyncWrite};

use super::bastion::{Bastion, Heard, WireError};
use super::{say, terminal};
use crate::console::grammar::{SessionWord, Verb};
use crate::console::render::answer;
use crate::console::reply::Reply;
use crate::console::{Keys, Look, Text, Viewer};

/// Looks on until the session ends or the person leaves.
pub async fn run<R, W>(bastion: &mut Bastion<R, W>, session: &SessionWord, look: Look, as_json: bool) -> anyhow::Result<u8>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    bastion.send(&Verb::Watch { session: session.clone() }).await?;
    let watched = match bastion.hear().await? {
        Heard::Event(Reply::Watch(watched)) => watched,
        _ => return Err(WireError::Answer(bastion.name.clone()).into()),
    };
    if as_json {
        return follow(bastion, &Reply::Watch(watched)).await;
    }
    eprint!("{}", Viewer::opening(&watched));
    let size = terminal::size().filter(|_| look.width.is_some());
    let raw = size.and_then(|_| terminal::raw().ok());
    let typed = raw.as_ref().and_then(|_| terminal::keys().ok());
    let mut viewer = Viewer::new(&watched, size.filter(|_| typed.is_some()));
    let mut out = Text::new(tokio::io::stdout(), raw.is_some());
    match typed {
        Some(typed) => look_on(bastion, &mut viewer, &mut Keys::new(typed), &mut out).await,
        None => look_on(bastion, &mut viewer, &mut Keys::new(tokio::io::empty()), &mut out).await,
    }
}

async fn look_on<R, W, I>(
    bastion: &mut Bastion<R, W>,
    viewer: &mut Viewer,
    keys: &mut Keys<I>,
    out: &mut Text<tokio::io::Stdout>,
) -> anyhow::Result<u8>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
    I: tokio::io::AsyncRead + Unpin,
{
    loop {
        let heard = tokio::select! {
            heard = bastion.hear_at_last() => heard,
            () = keys.interrupted() => {
                out.say(&viewer.leave()).await?;
                return Ok(0);
            }
        };
        let (seen, over) = match heard {
            Ok(Heard::Event(Reply::Seen(seen))) => (seen, false),
            Ok(Heard::Result(Reply::Seen(seen))) => (seen, true),
            Ok(Heard::Event(_) | Heard::Result(_) | Heard::Bytes(_)) => return Err(WireError::Answer(bastion.name.clone()).into()),
            Err(error) => {
                out.say(&viewer.leave()).await?;
                return Err(error.into());
            }
        };
        out.say(&viewer.show(&seen)).await?;
        if over {
            return Ok(0);
        }
    }
}

/// Everything as it comes, a line each.
async fn follow<R, W>(bastion: &mut Bastion<R, W>, first: &Reply) -> anyhow::Result<u8>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let write = |reply: &Reply| say(&answer(reply));
    let mut wrote = write(first);
    loop {
        if let Err(status) = wrote {
            return Ok(status);
        }
        wrote = match bastion.hear_at_last().await? {
            Heard::Event(reply) => write(&reply),
            Heard::Result(reply) => return Ok(write(&reply).err().unwrap_or(0)),
            Heard::Bytes(_) => Ok(()),
        };
    }
}
