//! The node's side: starts the pen, carries asks and answers, and starts another when it ends.
//!
//! The pen gets one end of a socket pair as its standard input, no environment, and nothing else of ours. When
//! this process goes, however it goes, that socket closes and the pen with it.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::process::Purpose;
use crate::authority::pen::{Desk, Pen, PenState, Waiting};
use crate::authority::wire::{self, Answer, AnswerFrame, AskFrame, Ready, VERSION, WireError};

/// From its start until it is ready: it reads the directory, and may wait for its predecessor to be gone.
const START: Duration = Duration::from_secs(30);
/// Once its socket is closed.
const END: Duration = Duration::from_secs(5);
/// Between the end of one and the start of the next; doubled each time, up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// One that ran for so long had a good start.
const LONG: Duration = Duration::from_secs(60);
/// Nobody reads more answers than this ahead.
const AHEAD: usize = 256;
/// Who has asked and is still remembered; those that gave up go first.
const ASKED: usize = 1024;

/// How a pen is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program; this one where nothing else is said.
    pub program: Option<PathBuf>,
    pub root: PathBuf,
    pub purpose: Purpose,
    /// Its log as JSON.
    pub json: bool,
    /// Only warnings in its log.
    pub quiet: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the pen, which signs certificates, cannot be started")]
    Spawn(#[from] io::Error),
    #[error("the pen, which signs certificates, cannot be spoken to")]
    Wire(#[from] WireError),
    #[error("the pen, which signs certificates, did not say that it is ready in time")]
    Late,
    #[error("the pen, which signs certificates, ended at its start; its log says why")]
    Gone,
    /// Its own words.
    #[error("{0}")]
    Refused(String),
}

impl Launch {
    pub fn new(root: &Path, purpose: Purpose) -> Self {
        Self { program: None, root: root.to_owned(), purpose, json: false, quiet: false }
    }

    fn command(&self, its_end: StdStream) -> Command {
        let own = || std::env::current_exe().ok().filter(|path| path.exists());
        // Where the file has gone, the image of this process is still there.
        let program = self.program.clone().or_else(own).unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        let mut command = Command::new(program);
        command.arg0("countersign").arg("pen").arg(&self.root);
        if let Purpose::Probes(n) = self.purpose {
            command.args(["--probes", &n.to_string()]);
        }
        command.args(["--log", if self.json { "json" } else { "text" }]);
        if self.quiet {
            command.arg("--quiet");
        }
        command.env_clear().stdin(OwnedFd::from(its_end)).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
        command
    }
}

/// Starts a pen and keeps one running for as long as anybody may ask. Fails where the first does not come up,
/// with its own words for it.
pub async fn start(launch: Launch) -> Result<Pen, StartError> {
    let first = Running::start(&launch).await?;
    let (pen, desk) = Pen::new();
    desk.state.send_replace(PenState::Up(first.ready.clone()));
    tokio::spawn(keep(launch, desk, first));
    Ok(pen)
}

async fn keep(launch: Launch, mut desk: Desk, first: Running) {
    let mut running = first;
    let mut pause = PAUSE;
    loop {
        let began = Instant::now();
        match running.serves(&mut desk.asks).await {
            End::NobodyAsks => return,
            End::Gone(why) => {
                tracing::error!(why, "the pen ended; nothing is signed until another runs");
                desk.state.send_replace(PenState::Down(format!("{why}; another is being started")));
            }
        }
        if began.elapsed() > LONG {
            pause = PAUSE;
        }
        running = loop {
            // Who has asked before they knew has no answer, which says it.
            while let Ok(waiting) = desk.asks.try_recv() {
                drop(waiting);
            }
            if desk.asks.is_closed() {
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match Running::start(&launch).await {
                Ok(next) => break next,
                Err(error) => {
                    let why = said(&error);
                    tracing::error!(why, "the pen cannot be started; it is tried again");
                    desk.state.send_replace(PenState::Down(why));
                }
            }
        };
        tracing::info!("the pen runs again");
        desk.state.send_replace(PenState::Up(running.ready.clone()));
    }
}

/// One pen process.
struct Running {
    child: Child,
    to: OwnedWriteHalf,
    answers: mpsc::Receiver<AnswerFrame>,
    ready: Ready,
}

enum End {
    NobodyAsks,
    Gone(String),
}

impl Running {
    async fn start(launch: &Launch) -> Result<Self, StartError> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        // The command holds their end until it is dropped, and with it the stream would never end.
        let child = launch.command(theirs).spawn()?;
        let (mut from, to) = UnixStream::from_std(ours)?.into_split();
        let (told, mut answers) = mpsc::channel::<AnswerFrame>(AHEAD);
        tokio::spawn(async move {
            while let Ok(Some(answer)) = wire::read::<AnswerFrame>(&mut from).await {
                if told.send(answer).await.is_err() {
                    return;
                }
            }
        });
        match timeout(START, answers.recv()).await {
            Ok(Some(AnswerFrame { answer: Answer::Ready(ready), .. })) => Ok(Self { child, to, answers, ready }),
            Ok(Some(AnswerFrame { answer: Answer::Refused(why), .. })) => Err(StartError::Refused(why)),
            Ok(Some(AnswerFrame { answer: Answer::Signed(_), .. }) | None) => Err(StartError::Gone),
            Err(_) => Err(StartError::Late),
        }
    }

    /// Carries asks to it and answers back, until either side is gone.
    async fn serves(&mut self, asks: &mut mpsc::Receiver<Waiting>) -> End {
        let mut waiting: HashMap<u64, oneshot::Sender<Answer>> = HashMap::new();
        let mut id = 0u64;
        let end = loop {
            tokio::select! {
                asked = asks.recv() => {
                    let Some(Waiting { ask, answer }) = asked else { break End::NobodyAsks };
                    if waiting.len() >= ASKED {
                        waiting.retain(|_, answer| !answer.is_closed());
                    }
                    id += 1;
                    match wire::write(&AskFrame { v: VERSION, id, ask }, &mut self.to).await {
                        Ok(()) => drop(waiting.insert(id, answer)),
                        // Longer than any is; nobody else suffers.
                        Err(error @ WireError::TooLong(_)) => drop(answer.send(Answer::Refused(error.to_string()))),
                        Err(error) => break End::Gone(error.to_string()),
                    }
                }
                answered = self.answers.recv() => match answered {
                    None => break End::Gone("it is gone".into()),
                    Some(AnswerFrame { id: 0, answer, .. }) => tracing::warn!(?answer, "the pen could not read what it was asked"),
                    Some(AnswerFrame { id, answer, .. }) => {
                        if let Some(asked) = waiting.remove(&id) {
                            drop(asked.send(answer));
                        }
                    }
                },
            }
        };
        // What was asked and not answered is answered by nobody.
        drop(waiting);
        let _ = self.to.shutdown().await;
        match (timeout(END, self.child.wait()).await, end) {
            (Ok(Ok(status)), End::Gone(_)) => End::Gone(format!("it ended ({status})")),
            (Ok(_), end) => end,
            (Err(_), end) => {
                let _ = self.child.start_kill();
                end
            }
        }
    }
}

fn said(error: &StartError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
