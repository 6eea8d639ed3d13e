//! The pen's own process: reads, locks itself in, answers until the node is gone.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::lock::{self, KeyIn, LockError};
use super::record::{Record, RecordError};
use super::rule;
use crate::access::probe::Asks;
use crate::authority::KeyError;
use crate::authority::mint::{self, ForProbe, ForSession, Nib};
use crate::authority::wire::{self, Answer, AnswerFrame, Ask, AskFrame, ProbeAsk, Ready, SessionAsk, VERSION, WireError};
use crate::causes::with_causes;
use crate::config::Directory;
use crate::id::{Digest, Login};
use crate::time::Timestamp;

/// Asks that are read ahead, and recorded with one write.
const TOGETHER: usize = 16;
/// Signatures that an agent is waited for at once, and answers on their way.
const AT_ONCE: usize = 256;
/// How long the last answers may take once the pen ends.
const LAST: Duration = Duration::from_secs(2);

/// What a pen signs: never both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Sessions,
    /// For `ca check`, with the user CA of this number, from 1.
    Probes(usize),
}

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the pen is started by the bastion, with a socket as its standard input: countersign serve -c {}", .0.display())]
    NotASocket(PathBuf),
    #[error("the pen cannot wait for anything")]
    Runtime(#[source] io::Error),
    #[error("the policies cannot be read:\n{0}")]
    Policies(String),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("the node cannot be spoken to")]
    Wire(#[from] WireError),
}

/// Runs the pen on the socket at standard input until its other end is closed.
pub fn run(root: &Path, purpose: Purpose) -> Result<(), Failure> {
    let not_a_socket = |_| Failure::NotASocket(root.to_owned());
    let stream = StdStream::from(io::stdin().as_fd().try_clone_to_owned().map_err(not_a_socket)?);
    stream.peer_addr().map_err(not_a_socket)?;
    stream.set_nonblocking(true).map_err(not_a_socket)?;
    // One thread: what locks in counts for the thread that calls it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    match Process::start(root, purpose) {
        Ok((process, ready)) => runtime.block_on(process.serve(stream, ready)),
        Err(failure) => {
            let why = with_causes(&failure);
            runtime.block_on(async {
                let mut stream = UnixStream::from_std(stream).map_err(WireError::Io)?;
                wire::write(&AnswerFrame { v: VERSION, id: 0, answer: Answer::Refused(why) }, &mut stream).await
            })?;
            Err(failure)
        }
    }
}

struct Process {
    root: PathBuf,
    directory: Directory,
    nib: Arc<Nib>,
    /// Only where sessions are signed.
    record: Option<Record>,
    ready: Ready,
}

/// Whether the pen goes on after an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    GoesOn,
    /// Another one is to take its place, with fresh eyes on the files: one that took a file's place is not this
    /// one's to read.
    Ends,
}

/// What is read is not what the node rules by.
struct Otherwise {
    why: String,
    then: Then,
}

/// What is judged, and waits for the record to be on the disk.
enum ToSign {
    Session(Box<ForSession>),
    Probe(Box<ForProbe>),
}

impl Process {
    fn start(root: &Path, purpose: Purpose) -> Result<(Self, Ready), Failure> {
        let directory = load(root)?;
        let plan = &directory.config.keys;
        let n = match purpose {
            Purpose::Sessions => 1,
            Purpose::Probes(n) => n,
        };
        let nib = Arc::new(Nib::read(plan, n)?);
        let record = match purpose {
            Purpose::Sessions => Some(Record::open(&directory.config.state, Timestamp::now())?),
            Purpose::Probes(_) => None,
        };
        let landlock = lock::lock(root, if plan.user_ca.agent.is_some() { KeyIn::Agent } else { KeyIn::Memory })?;
        if !landlock {
            tracing::warn!("this kernel has no Landlock: the pen is kept from other calls (seccomp), not from other files");
        }
        let ca = nib.public_key().to_openssh().unwrap_or_default();
        let ready = Ready { ca, landlock, policy: directory.digest };
        Ok((Self { root: root.to_owned(), directory, nib, record, ready: ready.clone() }, ready))
    }

    async fn serve(mut self, stream: StdStream, ready: Ready) -> Result<(), Failure> {
        let stream = UnixStream::from_std(stream).map_err(WireError::Io)?;
        let (mut from, mut to) = stream.into_split();
        let (answers, mut answered) = mpsc::channel::<AnswerFrame>(AT_ONCE);
        let writer = tokio::spawn(async move {
            while let Some(answer) = answered.recv().await {
                if wire::write(&answer, &mut to).await.is_err() {
                    return;
                }
            }
        });
        let (asks, mut asked) = mpsc::channel(TOGETHER);
        let reader = tokio::spawn(async move {
            loop {
                let next = wire::read::<AskFrame>(&mut from).await.transpose();
                let Some(next) = next else { return };
                let last = next.as_ref().is_err_and(|error| !error.is_of_one_frame());
                if asks.send(next).await.is_err() || last {
                    return;
                }
            }
        });
        answer(&answers, 0, Answer::Ready(ready)).await;
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut then = Then::GoesOn;
        while then == Then::GoesOn
            && let Some(first) = asked.recv().await
        {
            let mut batch = vec![first];
            while batch.len() < TOGETHER
                && let Ok(next) = asked.try_recv()
            {
                batch.push(next);
            }
            then = self.batch(batch, &answers, &turns).await;
        }
        reader.abort();
        drop(answers);
        // Whoever does not read its last answers keeps nobody here.
        let _ = timeout(LAST, writer).await;
        Ok(())
    }

    /// Judges some asks, records them together, then has each signed.
    async fn batch(
        &mut self,
        batch: Vec<Result<AskFrame, WireError>>,
        answers: &mpsc::Sender<AnswerFrame>,
        turns: &Arc<Semaphore>,
    ) -> Then {
        let mut judged = Vec::new();
        let mut then = Then::GoesOn;
        for asked in batch {
            let frame = match asked {
                Ok(frame) => frame,
                Err(error) => {
                    let why = with_causes(&error);
                    tracing::warn!(why, "the node said something that nobody would ask");
                    answer(answers, 0, Answer::Refused(why)).await;
                    continue;
                }
            };
            let said = match (frame.ask, then) {
                (_, Then::Ends) => Err("the pen starts anew; connect again".to_owned()),
                (Ask::Reread(policy), Then::GoesOn) => match self.reads(policy) {
                    Ok(()) => {
                        answer(answers, frame.id, Answer::Ready(self.ready.clone())).await;
                        continue;
                    }
                    Err(otherwise) => {
                        then = otherwise.then;
                        Err(otherwise.why)
                    }
                },
                (Ask::Session(ask), Then::GoesOn) => match self.reads(ask.policy) {
                    Ok(()) => self.session(&ask).map(|it| ToSign::Session(Box::new(it))),
                    Err(otherwise) => {
                        then = otherwise.then;
                        Err(otherwise.why)
                    }
                },
                (Ask::Probe(ask), Then::GoesOn) => self.probe(&ask).map(|it| ToSign::Probe(Box::new(it))),
            };
            match said {
                Ok(it) => judged.push((frame.id, it)),
                Err(why) => answer(answers, frame.id, Answer::Refused(why)).await,
            }
        }
        let recorded = self.record.as_mut().map_or(Ok(()), Record::commit);
        for (id, it) in judged {
            match &recorded {
                Ok(()) => sign(self.nib.clone(), it, id, answers.clone(), turns).await,
                Err(error) => {
                    let why = with_causes(error);
                    tracing::error!(why, "nothing is signed that cannot be recorded");
                    answer(answers, id, Answer::Refused(why)).await;
                }
            }
        }
        if self.record.as_ref().is_some_and(Record::is_full) {
            tracing::info!("the pen's record has grown; another one takes over and writes it anew");
            then = Then::Ends;
        }
        then
    }

    /// Sees to it that what is read is what the node rules by.
    fn reads(&mut self, policy: Digest) -> Result<(), Otherwise> {
        if self.directory.digest == policy {
            return Ok(());
        }
        let read = load(&self.root).map_err(|error| {
            tracing::warn!(%error, "the policies cannot be read again");
            Otherwise { why: error.to_string(), then: Then::Ends }
        })?;
        if read.digest != policy {
            let why = "the policies on the disk are not those that the node rules by; have them read again: SIGHUP";
            tracing::warn!(node = %policy, pen = %read.digest, why);
            return Err(Otherwise { why: why.to_owned(), then: Then::GoesOn });
        }
        self.ready.policy = policy;
        self.directory = read;
        Ok(())
    }

    fn session(&mut self, ask: &SessionAsk) -> Result<ForSession, String> {
        let judged = match &self.record {
            Some(record) => rule::judge(&self.directory, record, ask, Timestamp::now()).map_err(|error| with_causes(&error)),
            None => Err("this pen signs for `ca check` alone".to_owned()),
        };
        match (judged, &mut self.record) {
            (Ok(judged), Some(record)) => {
                record.stage(judged.entry);
                let it = judged.certificate;
                tracing::info!(session = %ask.session, serial = it.serial, principal = it.principal, key_id = it.key_id, "signs");
                Ok(it)
            }
            (Ok(_), None) => Err("nothing is recorded here".to_owned()),
            (Err(why), _) => {
                tracing::warn!(session = %ask.session, person = %ask.person, target = %ask.target, login = %ask.login, why, "does not sign");
                Err(why)
            }
        }
    }

    /// A probe opens nothing; its principal is one that a certificate could have here.
    fn probe(&self, ask: &ProbeAsk) -> Result<ForProbe, String> {
        let refused = |why: &str| {
            tracing::warn!(principal = ask.principal.chars().take(80).collect::<String>(), why, "does not sign a probe");
            Err(why.to_owned())
        };
        if self.record.is_some() {
            return refused("this pen signs for sessions alone");
        }
        let Some(asks) = Asks::ALL.into_iter().find(|asks| asks.word() == ask.asks) else { return refused("it asks nothing known") };
        let login = ask.principal.split('@').next().and_then(|login| login.parse::<Login>().ok());
        let target = match ask.principal.split_once('@') {
            Some((_, target)) => self.directory.targets.find(target).is_some(),
            None => true,
        };
        let (Some(_), true) = (login, target) else { return refused("it is for no login of a target") };
        let Some(subject) = mint::subject(&ask.subject) else { return refused("its key cannot be read") };
        let Some(serial) = ask.serial.parse().ok().filter(|serial| *serial > 0) else { return refused("its serial cannot be read") };
        let by: String = ask.by.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
        Ok(ForProbe { asks, subject, serial, principal: ask.principal.clone(), by, seen_from: ask.seen_from })
    }
}

/// Signs beside the others: an agent may take its time.
async fn sign(nib: Arc<Nib>, it: ToSign, id: u64, answers: mpsc::Sender<AnswerFrame>, turns: &Arc<Semaphore>) {
    let Ok(turn) = turns.clone().acquire_owned().await else { return };
    tokio::spawn(async move {
        let _turn = turn;
        let now = Timestamp::now();
        let signed = match &it {
            ToSign::Session(it) => nib.sign_session(it, now).await,
            ToSign::Probe(it) => nib.sign_probe(it, now).await,
        };
        let said = match signed.and_then(|certificate| Ok(certificate.to_openssh()?)) {
            Ok(line) => Answer::Signed(line),
            Err(error) => {
                let why = with_causes(&error);
                tracing::error!(why, "cannot sign");
                Answer::Refused(why)
            }
        };
        answer(&answers, id, said).await;
    });
}

async fn answer(answers: &mpsc::Sender<AnswerFrame>, id: u64, said: Answer) {
    // The writer is gone where the node is.
    let _ = answers.send(AnswerFrame { v: VERSION, id, answer: said }).await;
}

fn load(root: &Path) -> Result<Directory, Failure> {
    Directory::load_without_secrets(root).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::Policies(all.join("\n"))
    })
}
