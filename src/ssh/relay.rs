//! The relay of a session channel: record, then forward.
//!
//! One pump per direction; each takes what is queued, has the recorder write it, and only then passes it
//! on. A pump that waits for the recorder or for window makes only its own queue grow, and that shrinks
//! the sender's window (see `flow`). Both stop within a moment when the recording fails (FC4) or the
//! lease is over (FC7).

use std::time::Duration;

use bytes::Bytes;
use russh::Sig;
use tokio::time::{sleep, timeout};

use super::algorithms::signal_name;
use super::alternate::AlternateScreen;
use super::channel::{ClientChannel, Gone, Status};
use super::flow::{End, Item, Size};
use super::lease::{Lease, Notice};
use super::upstream::Upstream;
use crate::id::Person;
use crate::recording::{RecordError, Tape};
use crate::time::Timestamp;
use crate::transcript::{Event, Exit, Outcome, Stream};

/// What a pump takes at once.
const BATCH: usize = 256 * 1024;
/// How long what a client sent before it left is still passed on.
const LAST_INPUT: Duration = Duration::from_secs(5);
/// A target that does not take a byte for this long after the end does not matter any more.
const CONTROL: Duration = Duration::from_secs(10);

/// Whether standard input was approved with what runs (**D scope**: `bash -s` is a shell).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    Open,
    /// The command sees its end at once; what the client sends goes nowhere.
    Closed,
}

/// How a relay ended, and what the client is told of it.
#[derive(Debug)]
pub struct Relayed {
    pub outcome: Outcome,
    text: Option<String>,
    status: Option<Status>,
    language: String,
    /// A full-screen program had the terminal: leave its screen first, or the text goes with it.
    leave_screen: bool,
}

impl Relayed {
    pub fn of(outcome: Outcome) -> Self {
        Self { outcome, text: None, status: None, language: String::new(), leave_screen: false }
    }

    pub fn stopped(outcome: Outcome, text: String, status: Status) -> Self {
        Self { text: Some(text), status: Some(status), ..Self::of(outcome) }
    }

    pub fn unrecorded(error: &RecordError) -> Self {
        tracing::error!(%error, "recording failed; the session ends");
        let outcome = Outcome::RecordingFailed { why: error.to_string() };
        Self::stopped(outcome, "the recording failed, so the session ends here; what was shown is kept".into(), Status::RecordingFailed)
    }
}

/// Tells the client how it ended: text, then status or signal. The caller closes.
pub async fn tell(client: &ClientChannel, relayed: &Relayed) {
    if relayed.leave_screen {
        client.raw("\x1b[?1049l\r\n".into()).await;
    }
    if let Some(text) = &relayed.text {
        client.say(text).await;
    }
    match (&relayed.outcome, relayed.status) {
        (_, Some(status)) => client.exit_status(status as u32).await,
        (Outcome::Exited(Exit::Status(status)), None) => client.exit_status(*status).await,
        (Outcome::Exited(Exit::Signal { name, core_dumped, message }), None) => {
            let signal = named(name);
            client.exit_signal(signal, *core_dumped, message.clone(), relayed.language.clone()).await;
        }
        _ => {}
    }
}

fn named(name: &str) -> Sig {
    match name {
        "ABRT" => Sig::ABRT,
        "ALRM" => Sig::ALRM,
        "FPE" => Sig::FPE,
        "HUP" => Sig::HUP,
        "ILL" => Sig::ILL,
        "INT" => Sig::INT,
        "KILL" => Sig::KILL,
        "PIPE" => Sig::PIPE,
        "QUIT" => Sig::QUIT,
        "SEGV" => Sig::SEGV,
        "TERM" => Sig::TERM,
        "USR1" => Sig::USR1,
        other => Sig::Custom(other.to_owned()),
    }
}

/// Relays until either side ends, the recording fails or the lease is over.
pub async fn run(client: &ClientChannel, upstream: &Upstream, tape: &Tape, mut lease: Lease, has_terminal: bool, input: Input) -> Relayed {
    let screen = AlternateScreen::new(has_terminal);
    lease.begin_warning();
    let mut watchers = tape.watchers();
    let mut voice = client.hears();
    let mut watched_by = Vec::new();
    let inward = inward(client, upstream, tape, input);
    let outward = outward(client, upstream, tape, &screen);
    tokio::pin!(inward, outward);
    let mut taking_input = true;
    let mut client_left = false;
    let last_input = sleep(Duration::MAX / 4);
    tokio::pin!(last_input);
    loop {
        tokio::select! {
            ended = &mut outward => return ended.unwrap_or_else(|error| Relayed::unrecorded(&error)),
            done = &mut inward, if taking_input => {
                taking_input = false;
                match done {
                    Ok(()) if client_left => return left(client),
                    Ok(()) => {}
                    Err(error) => return Relayed::unrecorded(&error),
                }
            }
            error = tape.failed() => return Relayed::unrecorded(&error),
            _ = client.inbox.gone(), if !client_left => {
                client_left = true;
                if !taking_input {
                    return left(client);
                }
                last_input.as_mut().reset(tokio::time::Instant::now() + LAST_INPUT);
            }
            () = &mut last_input, if client_left => return left(client),
            notice = lease.next() => match notice {
                Notice::EndsIn(left) => {
                    let text = lease.warning(left, Timestamp::now());
                    notify(client, tape, &screen, text).await;
                }
                Notice::Said(text) => notify(client, tape, &screen, text).await,
                Notice::Over(outcome) => return Relayed { leave_screen: screen.is_on(), ..over(outcome, &lease) },
            },
            // What it lagged behind was for reading at the time.
            said = voice.recv() => if let Ok(text) = said {
                notify(client, tape, &screen, text).await;
            },
            Ok(()) = watchers.changed() => {
                let now = watchers.borrow_and_update().clone();
                tell_watched(client, tape, &screen, &watched_by, &now).await;
                watched_by = now;
            }
        }
    }
}

/// How it ended when nothing more comes from the client.
pub fn left(client: &ClientChannel) -> Relayed {
    match client.inbox.ended() {
        Some(End::Overrun) => Relayed::of(Outcome::Killed { by: "the bastion".into(), why: "the client ignored its window".into() }),
        Some(End::Closed | End::Lost) | None => Relayed::of(Outcome::ClientLeft),
    }
}

/// Says what should not be missed: a full-screen program's person hears a bell.
async fn notify(client: &ClientChannel, tape: &Tape, screen: &AlternateScreen, text: String) {
    if remark(client, tape, screen, text).await == Said::Later {
        // A full-screen program owns the picture: a bell now, the text when it leaves.
        client.raw("\x07".into()).await;
    }
}

/// Tells a person who has begun to watch, and who no longer does.
async fn tell_watched(client: &ClientChannel, tape: &Tape, screen: &AlternateScreen, before: &[Person], now: &[Person]) {
    for (those, others, what) in [(now, before, "watches this session"), (before, now, "no longer watches")] {
        for person in those.iter().filter(|person| !others.contains(person)) {
            remark(client, tape, screen, format!("{person} {what}")).await;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Now,
    /// When the program that has the screen leaves it.
    Later,
    /// There is no terminal to say it on.
    Recorded,
}

/// Says something in the middle of a session, recorded first; only a terminal is written to.
async fn remark(client: &ClientChannel, tape: &Tape, screen: &AlternateScreen, text: String) -> Said {
    let recorded = tape.record(vec![Event::Marker { text: text.clone() }]).await;
    if recorded.is_err() || !screen.is_known() {
        return Said::Recorded;
    }
    if screen.is_on() {
        screen.later(text);
        return Said::Later;
    }
    client.say(&text).await;
    Said::Now
}

/// The end of a lease, as the client is told.
pub fn over(outcome: Outcome, lease: &Lease) -> Relayed {
    let text = lease.farewell(&outcome);
    Relayed::stopped(outcome, text, Status::Ended)
}

/// Client to target. Returns when the client has gone and all it sent is passed on, or the target takes
/// nothing more.
async fn inward(client: &ClientChannel, upstream: &Upstream, tape: &Tape, input: Input) -> Result<(), RecordError> {
    if input == Input::Closed {
        let text = "standard input was not approved: the command sees its end".to_owned();
        tape.record(vec![Event::Marker { text }, Event::Eof { stream: Stream::Input }]).await?;
        if Inward::Eof.send(upstream).await.is_err() {
            return Ok(());
        }
    }
    while let Some(items) = client.inbox.take(BATCH).await {
        let mut events = Vec::with_capacity(items.len());
        let mut forwards = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Data(_) | Item::Eof if input == Input::Closed => {}
                Item::Data(bytes) => {
                    let bytes = bytes.freeze();
                    events.push(Event::Bytes { stream: Stream::Input, bytes: bytes.clone() });
                    forwards.push(Inward::Data(bytes));
                }
                Item::Eof => {
                    events.push(Event::Eof { stream: Stream::Input });
                    forwards.push(Inward::Eof);
                }
                Item::Resize(size) => {
                    events.push(Event::Resize { cols: size.cols, rows: size.rows });
                    forwards.push(Inward::Resize(size));
                }
                Item::Signal(signal) => {
                    events.push(Event::Signal { name: signal_name(&signal) });
                    forwards.push(Inward::Signal(signal));
                }
                // A second pty, start or variable on a started channel, and what only targets send.
                Item::Stderr(_)
                | Item::Pty(_)
                | Item::Env { .. }
                | Item::Agent
                | Item::Start(_)
                | Item::Success
                | Item::Failure
                | Item::ExitStatus(_)
                | Item::ExitSignal { .. } => {}
            }
        }
        tape.record(events).await?;
        for forward in forwards {
            if forward.send(upstream).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

enum Inward {
    Data(Bytes),
    Eof,
    Resize(Size),
    Signal(Sig),
}

impl Inward {
    async fn send(self, upstream: &Upstream) -> Result<(), Gone> {
        let write = &upstream.write;
        let sending = async {
            match self {
                Inward::Data(bytes) => write.data_bytes(bytes).await,
                Inward::Eof => timeout(CONTROL, write.eof()).await.unwrap_or(Ok(())),
                Inward::Resize(size) => write.window_change(size.cols, size.rows, size.pix_width, size.pix_height).await,
                Inward::Signal(signal) => write.signal(signal).await,
            }
        };
        // A writer that waits for window on a closed channel is never woken.
        tokio::select! {
            sent = sending => sent.map_err(|_| Gone),
            _ = upstream.inbox.gone() => Err(Gone),
        }
    }
}

/// Target to client. Returns when the target's channel has ended and all of it is passed on.
///
/// The target's EOF is kept back until its status is known: sshd often sends EOF first, the client then
/// closes, and russh forgets the channel before the status can be passed on (measured).
async fn outward(client: &ClientChannel, upstream: &Upstream, tape: &Tape, screen: &AlternateScreen) -> Result<Relayed, RecordError> {
    let mut exit = None;
    let mut spoken = String::new();
    while let Some(items) = upstream.inbox.take(BATCH).await {
        let mut events = Vec::with_capacity(items.len());
        let mut forwards = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Data(bytes) => {
                    let bytes = bytes.freeze();
                    events.push(Event::Bytes { stream: Stream::Output, bytes: bytes.clone() });
                    forwards.push((Stream::Output, bytes));
                }
                Item::Stderr(bytes) => {
                    let bytes = bytes.freeze();
                    events.push(Event::Bytes { stream: Stream::Error, bytes: bytes.clone() });
                    forwards.push((Stream::Error, bytes));
                }
                Item::Eof => events.push(Event::Eof { stream: Stream::Output }),
                Item::ExitStatus(status) => exit = Some(Exit::Status(status)),
                Item::ExitSignal { signal, core_dumped, message, language } => {
                    exit = Some(Exit::Signal { name: signal_name(&signal), core_dumped, message });
                    spoken = language;
                }
                // Late answers, and what only clients send.
                Item::Success
                | Item::Failure
                | Item::Pty(_)
                | Item::Env { .. }
                | Item::Agent
                | Item::Start(_)
                | Item::Resize(_)
                | Item::Signal(_) => {}
            }
        }
        if !events.is_empty() {
            tape.record(events).await?;
        }
        for (stream, bytes) in forwards {
            let owed = screen.feed(&bytes);
            let sent = match stream {
                Stream::Error => client.error(bytes).await,
                Stream::Output | Stream::Input => client.output(bytes).await,
            };
            if sent.is_err() {
                return Ok(left(client));
            }
            if let Some(text) = owed {
                client.say(&text).await;
            }
        }
    }
    let ended = upstream.inbox.ended();
    if let Some(exit) = exit {
        tape.record(vec![Event::Exit(exit.clone())]).await?;
        return Ok(Relayed { language: spoken, ..Relayed::of(Outcome::Exited(exit)) });
    }
    Ok(match ended {
        Some(End::Closed) => Relayed::of(Outcome::Closed),
        Some(End::Overrun) => Relayed::stopped(
            Outcome::TargetLost { why: "it ignored its window".into() },
            "the target sent more than its window allows and was cut".into(),
            Status::Unreachable,
        ),
        Some(End::Lost) | None => Relayed::stopped(
            Outcome::TargetLost { why: "the connection broke".into() },
            "the connection to the target broke".into(),
            Status::Unreachable,
        ),
    })
}
