//! The bastion's side of the wire: calls in turn, each answered before the next is read.

use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, AsyncWrite, BufReader};

use super::Console;
use super::grammar::{RequestsArgs, SessionWord, Verb};
use super::live;
use super::reply::{Asked, Evidence, Refusal, RefusalKind, Reply};
use super::run::changed;
use super::viewer::PACE;
use super::wire::{self, LineError, Lines, MAX_BULK, MAX_REQUEST, Said, read_call, say, say_bytes};
use crate::access::Principal;
use crate::recording::Sight;
use crate::time::Timestamp;

/// Calls that one conversation may get wrong.
const PATIENCE: u32 = 100;

/// Serves calls until the companion hangs up; a line that cannot be one ends the conversation.
pub(super) async fn serve(
    console: &Console,
    who: &Principal,
    input: impl AsyncRead + Unpin + Send,
    mut out: impl AsyncWrite + Unpin + Send,
) -> std::io::Result<u32> {
    let mut lines = Lines::new(BufReader::new(input), MAX_REQUEST);
    let mut wrong = 0;
    let mut next = lines.next().await;
    loop {
        let line = match next {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(0),
            Err(LineError::Io(error)) => return Err(error),
            Err(error @ (LineError::TooLong(_) | LineError::Cut | LineError::Bulk(_))) => {
                let refusal = unreadable(console, who, &error.to_string());
                say(&mut out, None, Said::Error(refusal)).await?;
                return Ok(RefusalKind::Usage.status());
            }
        };
        next = match read_call(&line) {
            Ok((id, verb)) => match answer(console, who, id, &verb, &mut lines, &mut out).await? {
                Some(interrupting) => interrupting,
                None => lines.next().await,
            },
            Err(bad) => {
                say(&mut out, bad.id, Said::Error(unreadable(console, who, &bad.why))).await?;
                wrong += 1;
                if wrong >= PATIENCE {
                    return Ok(RefusalKind::Usage.status());
                }
                lines.next().await
            }
        };
    }
}

fn unreadable(console: &Console, who: &Principal, why: &str) -> Refusal {
    let mut refusal = console.act(who, Timestamp::now()).refusal(RefusalKind::Usage, "the call", why);
    refusal.what = format!("{}:", wire::SUBSYSTEM);
    refusal
}

/// The line that came while an answer was still going on, if one did: it ends that answer.
type Interrupting = Option<Result<Option<Vec<u8>>, LineError>>;

async fn answer<R: AsyncBufRead + Unpin + Send>(
    console: &Console,
    who: &Principal,
    id: u64,
    verb: &Verb,
    lines: &mut Lines<R>,
    out: &mut (impl AsyncWrite + Unpin + Send),
) -> std::io::Result<Interrupting> {
    if let Verb::Requests(args @ RequestsArgs { watch: true, .. }) = verb {
        return watch(console, who, id, args, lines, out).await;
    }
    if let Verb::Watch { session } = verb {
        return look_on(console, who, id, session, lines, out).await;
    }
    match console.execute(who, verb, Timestamp::now()).await {
        Ok(Reply::Asked(asked)) if verb.waits() => {
            return wait(console, who, id, asked, lines, out).await;
        }
        Ok(Reply::Recording(evidence)) => hand_over(console, who, id, evidence, out).await?,
        Ok(Reply::AuditLines(_)) => hand_over_log(console, who, id, out).await?,
        Ok(reply) => say(out, Some(id), Said::Result(reply)).await?,
        Err(refusal) => say(out, Some(id), Said::Error(refusal)).await?,
    }
    Ok(None)
}

async fn wait<R: AsyncBufRead + Unpin + Send>(
    console: &Console,
    who: &Principal,
    id: u64,
    asked: Box<Asked>,
    lines: &mut Lines<R>,
    out: &mut (impl AsyncWrite + Unpin + Send),
) -> std::io::Result<Interrupting> {
    say(out, Some(id), Said::Event(Reply::Asked(asked.clone()))).await?;
    tokio::select! {
        decided = console.decided(who, asked.card.request) => {
            let said = match decided {
                Ok(card) => Said::Result(Reply::Asked(Box::new(Asked { card, waited: true, ..*asked }))),
                Err(refusal) => Said::Error(refusal),
            };
            say(out, Some(id), said).await?;
            Ok(None)
        }
        line = lines.next() => Ok(Some(line)),
    }
}

async fn watch<R: AsyncBufRead + Unpin + Send>(
    console: &Console,
    who: &Principal,
    id: u64,
    args: &RequestsArgs,
    lines: &mut Lines<R>,
    out: &mut (impl AsyncWrite + Unpin + Send),
) -> std::io::Result<Interrupting> {
    let mut hints = console.approvals.hints();
    let verb = Verb::Requests(args.clone());
    let mut last = None;
    loop {
        match console.execute(who, &verb, Timestamp::now()).await {
            Ok(reply) if last.as_ref() != Some(&reply) => {
                say(out, Some(id), Said::Event(reply.clone())).await?;
                last = Some(reply);
            }
            Ok(_) => {}
            Err(refusal) => {
                say(out, Some(id), Said::Error(refusal)).await?;
                return Ok(None);
            }
        }
        tokio::select! {
            () = changed(&mut hints) => {}
            line = lines.next() => return Ok(Some(line)),
        }
    }
}

/// Sends what a running session shows, until it ends or the next line comes.
async fn look_on<R: AsyncBufRead + Unpin + Send>(
    console: &Console,
    who: &Principal,
    id: u64,
    session: &SessionWord,
    lines: &mut Lines<R>,
    out: &mut (impl AsyncWrite + Unpin + Send),
) -> std::io::Result<Interrupting> {
    let (watched, mut watcher) = match console.watch(who, session, Timestamp::now()).await {
        Ok(watching) => watching,
        Err(refusal) => {
            say(out, Some(id), Said::Error(refusal)).await?;
            return Ok(None);
        }
    };
    say(out, Some(id), Said::Event(Reply::Watch(Box::new(watched.clone())))).await?;
    let no_longer = console.may_no_longer_watch(who, &watched.target);
    tokio::pin!(no_longer);
    loop {
        let sights = tokio::select! {
            sights = watcher.next() => sights.unwrap_or_default(),
            line = lines.next() => return Ok(Some(line)),
            refusal = &mut no_longer => {
                say(out, Some(id), Said::Error(refusal)).await?;
                return Ok(None);
            }
        };
        let over = sights.is_empty() || sights.iter().any(|sight| matches!(sight, Sight::Ended(_)));
        let seen = Reply::Seen(live::seen(sights));
        say(out, Some(id), if over { Said::Result(seen) } else { Said::Event(seen) }).await?;
        if over {
            return Ok(None);
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Sends the whole log, piece by piece.
async fn hand_over_log(console: &Console, who: &Principal, id: u64, out: &mut (impl AsyncWrite + Unpin + Send)) -> std::io::Result<()> {
    let mut export = console.log.export();
    loop {
        match export.next().await {
            Ok(lines) if lines.is_empty() => return say(out, Some(id), Said::Result(Reply::AuditLines(lines))).await,
            Ok(lines) => say(out, Some(id), Said::Event(Reply::AuditLines(lines))).await?,
            Err(error) => {
                let refusal = console.act(who, Timestamp::now()).down(&error);
                return say(out, Some(id), Said::Error(refusal)).await;
            }
        }
    }
}

/// Sends the body that a recording's evidence announces, then the evidence again as the end.
async fn hand_over(
    console: &Console,
    who: &Principal,
    id: u64,
    evidence: Box<Evidence>,
    out: &mut (impl AsyncWrite + Unpin + Send),
) -> std::io::Result<()> {
    let refuse = |error: std::io::Error| Said::Error(console.act(who, Timestamp::now()).down(&error));
    let mut body = match evidence.body.as_ref().map(|line| console.recordings.body(&line.file)).transpose() {
        Ok(Some(body)) => tokio::fs::File::from_std(body),
        Ok(None) => return say(out, Some(id), Said::Result(Reply::Recording(evidence))).await,
        Err(error) => return say(out, Some(id), refuse(error)).await,
    };
    say(out, Some(id), Said::Event(Reply::Recording(evidence.clone()))).await?;
    let mut chunk = vec![0; MAX_BULK];
    loop {
        match body.read(&mut chunk).await {
            Ok(0) => return say(out, Some(id), Said::Result(Reply::Recording(evidence))).await,
            Ok(read) => say_bytes(out, id, chunk.get(..read).unwrap_or_default()).await?,
            Err(error) => return say(out, Some(id), refuse(error)).await,
        }
    }
}
