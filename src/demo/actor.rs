//! What a person does in the tour: a program that runs while somebody watches, within a bound.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::scene::{Person, Scene};

/// Everything in the tour happens at once; what takes longer does not happen.
const BOUND: Duration = Duration::from_secs(30);

/// A program that runs.
pub struct Actor {
    child: Child,
    out: Ear,
    err: Ear,
    /// How much of standard error has been shown.
    shown: usize,
}

/// A program that has ended.
pub struct Played {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
    /// What of `err` nobody was shown while it ran.
    pub news: String,
}

impl Actor {
    /// Connects with the stock `ssh`; `reason` goes where clients put one.
    pub fn ssh(scene: &Scene, person: Person, reason: &str, words: &[&str]) -> anyhow::Result<Self> {
        let [program, options @ ..] = scene.ssh_words(person);
        let mut command = Command::new(program);
        command.args(options).args(["-o", "BatchMode=yes", "-o", "SendEnv=LC_COUNTERSIGN_REASON"]);
        Self::start(command.args(words).env("LC_COUNTERSIGN_REASON", reason))
    }

    /// Runs the companion: this program, with the person's key.
    pub async fn companion(scene: &Scene, person: Person, words: &[&str]) -> anyhow::Result<Played> {
        let mut command = Command::new(&scene.program);
        command.args(["-b", "bastion", "--yes", "--key"]).arg(scene.key(person)).args(words);
        Self::start(command.env("COUNTERSIGN_SSH", scene.ssh_line(person)).env("XDG_STATE_HOME", scene.remembered(person)))?.ends().await
    }

    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.env("NO_COLOR", "1").env_remove("SSH_AUTH_SOCK").env_remove("COUNTERSIGN_LOG");
        let program = command.as_std().get_program().to_owned();
        let mut child = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else { bail!("{} has no output", program.display()) };
        Ok(Self { child, out: Ear::on(out), err: Ear::on(err), shown: 0 })
    }

    /// Waits until standard error says something of which `find` makes something.
    pub async fn reads<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        let heard = self.err.until(find);
        match tokio::time::timeout(BOUND, heard).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => bail!("ended without {what}; it said: {}", self.err.text()),
            Err(_) => bail!("no {what} in {} s; it said: {}", BOUND.as_secs(), self.err.text()),
        }
    }

    /// What standard output has so far.
    pub fn out(&self) -> String {
        self.out.text()
    }

    /// What standard error has said since this was asked last.
    pub fn news(&mut self) -> String {
        let said = self.err.text();
        let news = said.get(self.shown..).unwrap_or_default().to_owned();
        self.shown = said.len();
        news
    }

    pub async fn ends(mut self) -> anyhow::Result<Played> {
        let ended = tokio::time::timeout(BOUND, async {
            let status = self.child.wait().await?;
            self.out.ends().await;
            self.err.ends().await;
            Ok::<_, std::io::Error>(status)
        });
        let Ok(status) = ended.await else {
            bail!("still running after {} s; it said: {}{}", BOUND.as_secs(), self.out.text(), self.err.text())
        };
        Ok(Played { status: status?.code(), out: self.out.text(), news: self.news(), err: self.err.text() })
    }
}

/// Keeps what comes out of a stream.
struct Ear {
    heard: Arc<Mutex<Vec<u8>>>,
    more: watch::Receiver<()>,
    listening: JoinHandle<()>,
}

impl Ear {
    fn on(mut from: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (tell, more) = watch::channel(());
        let to = heard.clone();
        let listening = tokio::spawn(async move {
            let mut buffer = bytes::BytesMut::with_capacity(16 * 1024);
            while let Ok(1..) = from.read_buf(&mut buffer).await {
                lock(&to).extend_from_slice(&buffer.split());
                tell.send_replace(());
            }
        });
        Self { heard, more, listening }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.heard)).into_owned()
    }

    /// Returns what `find` finds; nothing if the stream ends before.
    async fn until<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = find(&self.text()) {
                return Some(found);
            }
            if self.more.changed().await.is_err() {
                return find(&self.text());
            }
        }
    }

    async fn ends(&mut self) {
        // It ends with the stream; a panic in it is nobody's.
        let _ = (&mut self.listening).await;
    }
}

fn lock(heard: &Mutex<Vec<u8>>) -> std::sync::MutexGuard<'_, Vec<u8>> {
    heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
