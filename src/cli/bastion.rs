//! The bastion as the companion reaches it: through the person's own `ssh`, by the wire of
//! `console/wire.rs` (**D wire**). What comes back is a stranger's until it is checked.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::console::grammar::Verb;
use crate::console::render::brief;
use crate::console::reply::{Refusal, Reply};
use crate::console::wire::{self, Line, LineError, Lines, Said};

/// `ssh` may ask for a passphrase or a touch before the first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(300);
/// The bastion answers a verb.
const ANSWER: Duration = Duration::from_secs(60);

/// `~/.config/countersign/config.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What to give to `ssh`: a host, USER@HOST, or an alias of `~/.ssh/config`.
    pub bastion: Option<String>,
    /// The program, with its options.
    pub ssh: Option<String>,
    /// The key that decisions are signed with.
    pub key: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("no bastion is named: -b HOST, or COUNTERSIGN_BASTION, or bastion = \"HOST\" in {}", .0.display())]
    NoBastion(PathBuf),
    #[error("{0:?} is not a host for ssh: it begins with a hyphen, or holds white space or a control character")]
    BadBastion(String),
    #[error("COUNTERSIGN_SSH (or ssh = in the settings) is no command: {0:?}")]
    BadSsh(String),
    #[error("the settings {} cannot be read", path.display())]
    Settings {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{program} cannot be started")]
    Spawn {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{0} hung up without an answer; try: ssh {0} whoami")]
    Gone(String),
    #[error("{bastion} did not answer in {} s", after.as_secs())]
    Late { bastion: String, after: Duration },
    #[error("{bastion} does not speak {}: it said {said:?}", wire::SUBSYSTEM)]
    NotOurs { bastion: String, said: String },
    #[error("{0} answers another question than was asked")]
    Answer(String),
    #[error("the answer of {bastion} cannot be taken")]
    Line {
        bastion: String,
        #[source]
        source: LineError,
    },
    #[error("{bastion} cannot be written to")]
    Write {
        bastion: String,
        #[source]
        source: std::io::Error,
    },
    /// The bastion's own words, with the next command.
    #[error(transparent)]
    Refused(Box<Refusal>),
}

impl Settings {
    pub fn path() -> PathBuf {
        let base = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| std::env::home_dir().map(|home| home.join(".config")));
        base.unwrap_or_default().join("countersign/config.toml")
    }

    /// Reads the settings; no file is no settings.
    pub fn read(path: &Path) -> Result<Self, WireError> {
        let bad = |source: Box<dyn std::error::Error + Send + Sync>| WireError::Settings { path: path.to_owned(), source };
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| bad(error.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(bad(error.into())),
        }
    }
}

/// A conversation with a bastion.
#[derive(Debug)]
pub struct Bastion<R, W> {
    /// As the person named it.
    pub name: String,
    lines: Lines<R>,
    out: W,
    calls: u64,
    deadline: Duration,
    child: Option<Child>,
}

/// A conversation through a child `ssh`.
pub type ThroughSsh = Bastion<BufReader<ChildStdout>, ChildStdin>;

impl ThroughSsh {
    /// Starts the person's `ssh` for the subsystem.
    pub fn start(name: &str, ssh: &str) -> Result<Self, WireError> {
        if name.is_empty() || name.starts_with('-') || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(WireError::BadBastion(brief(name, 80)));
        }
        let words = shell_words::split(ssh).ok().filter(|words| !words.is_empty()).ok_or_else(|| WireError::BadSsh(ssh.to_owned()))?;
        let (program, options) = words.split_first().ok_or_else(|| WireError::BadSsh(ssh.to_owned()))?;
        let mut child = Command::new(program)
            .args(options)
            .args(["-T", "-s", "--", name, wire::SUBSYSTEM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| WireError::Spawn { program: program.clone(), source })?;
        let (Some(out), Some(input)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(WireError::Gone(name.to_owned()));
        };
        let mut bastion = Bastion::over(name, BufReader::new(input), out);
        bastion.child = Some(child);
        Ok(bastion)
    }
}

impl<R: AsyncBufRead + Unpin, W: AsyncWrite + Unpin> Bastion<R, W> {
    pub fn over(name: &str, input: R, out: W) -> Self {
        Self { name: name.to_owned(), lines: Lines::new(input, wire::MAX_REPLY), out, calls: 0, deadline: FIRST_ANSWER, child: None }
    }

    /// Asks, and returns the answer; events on the way are dropped.
    pub async fn ask(&mut self, verb: &Verb) -> Result<Reply, WireError> {
        self.send(verb).await?;
        loop {
            match self.hear().await? {
                Heard::Result(reply) => return Ok(reply),
                Heard::Event(_) | Heard::Bytes(_) => {}
            }
        }
    }

    pub async fn send(&mut self, verb: &Verb) -> Result<(), WireError> {
        self.calls += 1;
        let call = wire::call(self.calls, verb);
        let sent = async {
            self.out.write_all(call.as_bytes()).await?;
            self.out.flush().await
        };
        match tokio::time::timeout(ANSWER, sent).await {
            Ok(Ok(())) => Ok(()),
            // What ssh has to say about it stands on standard error already.
            Ok(Err(source)) if source.kind() == std::io::ErrorKind::BrokenPipe => Err(WireError::Gone(self.name.clone())),
            Ok(Err(source)) => Err(WireError::Write { bastion: self.name.clone(), source }),
            Err(_) => Err(self.late(ANSWER)),
        }
    }

    /// Returns what comes next for the last call, within the deadline.
    pub async fn hear(&mut self) -> Result<Heard, WireError> {
        let within = self.deadline;
        let heard = tokio::time::timeout(within, self.hear_at_last()).await.map_err(|_| self.late(within))?;
        self.deadline = ANSWER;
        heard
    }

    /// Like [`Self::hear`], without a deadline: for what a person watches or waits for. What still comes
    /// for an earlier call, which this one has interrupted, is passed over.
    pub async fn hear_at_last(&mut self) -> Result<Heard, WireError> {
        let failed = |name: &str, source| WireError::Line { bastion: name.to_owned(), source };
        loop {
            let line = match self.lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) => return Err(WireError::Gone(self.name.clone())),
                Err(source) => return Err(failed(&self.name, source)),
            };
            let Ok(Line { id, said }) = serde_json::from_slice::<Line>(&line) else {
                return Err(WireError::NotOurs { bastion: self.name.clone(), said: brief(&String::from_utf8_lossy(&line), 80) });
            };
            match (id, said) {
                (Some(id), Said::Event(_)) if id < self.calls => {}
                (Some(id), _) if id != self.calls => return Err(WireError::Answer(self.name.clone())),
                (_, Said::Event(reply)) => return Ok(Heard::Event(reply)),
                (_, Said::Result(reply)) => return Ok(Heard::Result(reply)),
                (_, Said::Error(refusal)) => return Err(WireError::Refused(Box::new(refusal))),
                (_, Said::Bytes(length)) => {
                    return self.lines.bytes(length).await.map(Heard::Bytes).map_err(|source| failed(&self.name, source));
                }
            }
        }
    }

    fn late(&self, after: Duration) -> WireError {
        WireError::Late { bastion: self.name.clone(), after }
    }
}

#[derive(Debug)]
pub enum Heard {
    Event(Reply),
    Result(Reply),
    Bytes(Vec<u8>),
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn hears(said: &[u8]) -> Result<Reply, WireError> {
        let mut bastion = Bastion::over("bastion", said, tokio::io::sink());
        bastion.ask(&Verb::Whoami).await
    }

    #[tokio::test]
    async fn an_answer_is_heard_and_events_pass_by() {
        let said = b"{\"id\":1,\"event\":{\"help\":\"wait\"}}\n{\"id\":1,\"result\":{\"help\":\"done\"}}\n";
        assert_eq!(hears(said).await.unwrap(), Reply::Help("done".into()));
    }

    #[tokio::test]
    async fn a_hostile_bastion_is_one_clear_error() {
        assert!(matches!(hears(b"").await, Err(WireError::Gone(_))));
        assert!(matches!(hears(b"Welcome!\x1b[2J\n").await, Err(WireError::NotOurs { said, .. }) if !said.contains('\x1b')));
        assert!(matches!(hears(b"{\"id\":7,\"result\":{\"help\":\"x\"}}\n").await, Err(WireError::Answer(_))));
        assert!(matches!(hears(b"{\"id\":1,\"bytes\":4294967296}\n").await, Err(WireError::Line { source: LineError::Bulk(_), .. })));
        assert!(matches!(hears(&vec![b'x'; wire::MAX_REPLY + 1]).await, Err(WireError::Line { source: LineError::TooLong(_), .. })));
        assert!(matches!(hears(b"{\"id\":1,\"result\":").await, Err(WireError::Line { source: LineError::Cut, .. })));
    }

    #[test]
    fn a_bastion_is_never_an_option_of_ssh() {
        for name in ["", "-oProxyCommand=x", "a b", "a\nb"] {
            assert!(matches!(ThroughSsh::start(name, "ssh"), Err(WireError::BadBastion(_))), "{name:?}");
        }
        assert!(matches!(ThroughSsh::start("bastion", "'"), Err(WireError::BadSsh(_))));
    }

    #[test]
    fn unknown_settings_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        assert!(Settings::read(&path).unwrap().bastion.is_none());
        std::fs::write(&path, "bastion = \"b\"\nbastoin = \"c\"\n").unwrap();
        assert!(matches!(Settings::read(&path), Err(WireError::Settings { .. })));
    }
}
