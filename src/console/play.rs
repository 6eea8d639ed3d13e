//! A recording on somebody's terminal, or as plain text where there is none.
//!
//! Recorded bytes never reach the reader: a picture is drawn from an emulator's cells
//! (`recording::Screen`), text goes through `visible`. Reading happens on a thread of its own, a few
//! steps ahead; the reader who leaves ends it.

use std::io::{Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::grammar::ReplayArgs;
use super::render::visible;
use super::streams::{Keys, Text};
use crate::recording::{Player, Replay, ReplayError, Schedule, Step};
use crate::transcript::{Event, Stream};

/// Steps read ahead of the one that is shown; a full queue makes the reading thread wait.
const AHEAD: usize = 16;
/// Lines that one read-out keeps before they are written.
const LINES: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    #[error("the recording cannot be played")]
    Replay(#[from] ReplayError),
    #[error("{0}")]
    Speed(String),
    #[error("the terminal cannot be written to")]
    Write(#[from] std::io::Error),
}

/// How a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Played {
    ToTheEnd,
    Left,
}

/// Plays a recording's body. On a terminal: space holds, q leaves. Elsewhere: all its text at once.
pub async fn play<R, I, O>(
    body: R,
    how: &ReplayArgs,
    terminal: Option<(u32, u32)>,
    keys: &mut Keys<I>,
    out: &mut Text<O>,
) -> Result<Played, PlayError>
where
    R: Read + Seek + Send + 'static,
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
{
    let schedule = Schedule::new(how.speed, how.idle.map(|span| span.0)).map_err(PlayError::Speed)?;
    let from = how.at.map(|span| span.0);
    let (tell, mut steps) = mpsc::channel(AHEAD);
    // Ends with the recording, or with the first step that nobody takes any more.
    tokio::task::spawn_blocking(move || read(body, schedule, from, terminal, &tell));
    let mut due = Instant::now();
    while let Some(step) = steps.recv().await {
        let step = step?;
        if terminal.is_some() {
            due += step.delay;
            if !reached(&mut due, keys).await {
                out.say("\x1b[0m\x1b[?25h\n").await?;
                return Ok(Played::Left);
            }
        }
        out.say(&step.draw).await?;
    }
    Ok(Played::ToTheEnd)
}

/// Waits for the time of the next step; false if the person leaves meanwhile. What they hold is no time.
async fn reached<I: AsyncRead + Unpin>(due: &mut Instant, keys: &mut Keys<I>) -> bool {
    let mut held: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            key = keys.pressed() => match key {
                b'q' | 0x03 | 0x04 => return false,
                b' ' => match held.take() {
                    None => held = Some(Instant::now()),
                    Some(since) => *due += since.elapsed(),
                },
                _ => {}
            },
            () = sleep_until(*due), if held.is_none() => return true,
        }
    }
}

type Tell = mpsc::Sender<Result<Step, ReplayError>>;

fn read(body: impl Read + Seek, schedule: Schedule, from: Option<Duration>, terminal: Option<(u32, u32)>, tell: &Tell) {
    if let Err(error) = read_all(body, schedule, from, terminal, tell) {
        // Nobody there to hear it: the reader has left.
        tell.blocking_send(Err(error)).ok();
    }
}

fn read_all(
    body: impl Read + Seek,
    schedule: Schedule,
    from: Option<Duration>,
    terminal: Option<(u32, u32)>,
    tell: &Tell,
) -> Result<(), ReplayError> {
    let replay = Replay::over(body)?;
    if terminal.is_none()
        && let Some((cols, rows, _)) = replay.header().terminal.clone()
    {
        return read_out(replay, (cols, rows), from.unwrap_or_default(), tell);
    }
    let mut player = Player::new(replay, schedule, terminal);
    if let Some(from) = from {
        player.seek(from)?;
    }
    while let Some(step) = player.step()? {
        if tell.blocking_send(Ok(step)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// What a terminal showed, as the lines that scrolled by: for pipes and files.
fn read_out<R: Read + Seek>(mut replay: Replay<R>, (cols, rows): (u32, u32), from: Duration, tell: &Tell) -> Result<(), ReplayError> {
    let mut paper = Paper::new(cols, rows);
    let mut lines = Vec::new();
    for played in replay.by_ref() {
        let played = played?;
        let written = match played.event {
            Event::Bytes { stream: Stream::Output | Stream::Error, bytes } => paper.feed(&String::from_utf8_lossy(&bytes)),
            Event::Resize { cols, rows } => paper.resize(cols, rows),
            _ => Vec::new(),
        };
        if played.at >= from {
            lines.extend(written);
        }
        if lines.len() >= LINES && !send(&mut lines, tell) {
            return Ok(());
        }
    }
    lines.extend(paper.finish());
    lines.push(format!("-- {}", replay.totals().outcome));
    send(&mut lines, tell);
    Ok(())
}

fn send(lines: &mut Vec<String>, tell: &Tell) -> bool {
    let draw: String = lines.drain(..).map(|line| visible(&line) + "\n").collect();
    tell.blocking_send(Ok(Step { delay: Duration::ZERO, at: Duration::ZERO, draw })).is_ok()
}

/// Sizes beyond are clamped: a recorded one is the target's word.
const WIDEST: (u32, u32) = (1000, 400);

/// An emulator that keeps the lines that leave it.
struct Paper {
    terminal: avt::Terminal,
    transcript: avt::observer::Transcript,
}

impl Paper {
    fn new(cols: u32, rows: u32) -> Self {
        Self { terminal: emulator(cols, rows), transcript: avt::observer::Transcript::new() }
    }

    fn feed(&mut self, text: &str) -> Vec<String> {
        let (terminal, transcript) = (&mut self.terminal, &mut self.transcript);
        // The emulator is of others and the text hostile: a panic in there costs a screen, not the replay.
        catch_unwind(AssertUnwindSafe(|| terminal.feed_with(text, transcript))).unwrap_or_else(|_| self.start_again())
    }

    fn resize(&mut self, cols: u32, rows: u32) -> Vec<String> {
        let (cols, rows) = clamped(cols, rows);
        let (terminal, transcript) = (&mut self.terminal, &mut self.transcript);
        catch_unwind(AssertUnwindSafe(|| terminal.resize_with(cols, rows, transcript))).unwrap_or_else(|_| self.start_again())
    }

    fn start_again(&mut self) -> Vec<String> {
        let (cols, rows) = self.terminal.size();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        *self = Self::new(number(cols), number(rows));
        Vec::new()
    }

    fn finish(self) -> Vec<String> {
        let Self { terminal, transcript } = self;
        catch_unwind(AssertUnwindSafe(|| transcript.finish(&terminal))).unwrap_or_default()
    }
}

fn clamped(cols: u32, rows: u32) -> (usize, usize) {
    let size = |n: u32, most: u32| usize::try_from(n.clamp(1, most)).unwrap_or(1);
    (size(cols, WIDEST.0), size(rows, WIDEST.1))
}

fn emulator(cols: u32, rows: u32) -> avt::Terminal {
    let (cols, rows) = clamped(cols, rows);
    avt::Terminal::new(cols, rows).expect("both sizes are at least one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_reads_out_as_the_lines_that_scrolled_by() {
        let mut paper = Paper::new(10, 2);
        let mut lines = paper.feed("\x1b[?2004h$ ls\r\n\x1b[31mone\x1b[0m\r\ntwo\r\n");
        lines.extend(paper.resize(65_535, 0));
        lines.extend(paper.feed("\x1b]52;c;QQ==\x07$ exit"));
        lines.extend(paper.finish());
        assert_eq!(lines, ["$ ls", "one", "two", "$ exit"]);
    }

    #[tokio::test]
    async fn space_holds_and_q_leaves() {
        use tokio::io::AsyncWriteExt;
        let (near, mut far) = tokio::io::duplex(16);
        let mut keys = Keys::new(near);
        let mut due = Instant::now();
        assert!(reached(&mut due, &mut keys).await, "nothing is typed");
        far.write_all(b" ").await.unwrap();
        let held = tokio::time::timeout(Duration::from_millis(50), reached(&mut due, &mut keys)).await;
        assert!(held.is_err(), "held, the time of the next step does not come");
        far.write_all(b"xq").await.unwrap();
        assert!(!reached(&mut due, &mut keys).await);
        drop(far);
        assert!(reached(&mut due, &mut keys).await, "an ended input is no key");
    }
}
