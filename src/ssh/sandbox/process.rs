//! A local process with the far ends of its streams: in a terminal of its own, or on three pipes.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use russh::Sig;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::Child;

/// What to run, as a client asked for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Job {
    pub env: BTreeMap<String, String>,
    pub terminal: Option<Terminal>,
    pub program: Program,
}

#[derive(Debug, Clone)]
pub(super) struct Terminal {
    pub term: String,
    pub cols: u16,
    pub rows: u16,
}

#[derive(Debug, Clone, Default)]
pub(super) enum Program {
    /// The login shell.
    #[default]
    Shell,
    /// One command line, given to the shell; with what the client had asked for, where another was forced.
    Command { line: Vec<u8>, instead_of: Option<Vec<u8>> },
    /// The system's own sftp-server.
    Sftp(&'static Path),
}

/// A process that was started, its streams still to be taken.
pub(super) struct Process {
    child: Child,
    group: Option<Pid>,
    size: Option<OwnedFd>,
    pub input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pub output: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// `None` in a terminal, where standard error is the same device.
    pub error: Option<Box<dyn AsyncRead + Send + Unpin>>,
}

impl Process {
    /// Starts `job`; the process leads its own group, so that a hang-up reaches its children.
    pub fn start(job: Job) -> io::Result<Self> {
        let mut command = command(&job.program);
        command.envs(&job.env).kill_on_drop(true);
        let Some(terminal) = job.terminal else { return Self::on_pipes(command) };
        command.env("TERM", &terminal.term);
        Self::in_terminal(command, &terminal)
    }

    fn on_pipes(mut command: tokio::process::Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        Ok(Self {
            group: pid(&child),
            size: None,
            input: child.stdin.take().map(|stream| Box::new(stream) as _),
            output: child.stdout.take().map(|stream| Box::new(stream) as _),
            error: child.stderr.take().map(|stream| Box::new(stream) as _),
            child,
        })
    }

    fn in_terminal(command: tokio::process::Command, terminal: &Terminal) -> io::Result<Self> {
        let (pty, pts) = pty_process::open().map_err(io::Error::other)?;
        pty.resize(pty_process::Size::new(terminal.rows, terminal.cols)).map_err(io::Error::other)?;
        let size = pty.as_fd().try_clone_to_owned()?;
        let child = pty_process::Command::from(command).spawn(pts).map_err(io::Error::other)?;
        let (output, input) = pty.into_split();
        Ok(Self { group: pid(&child), size: Some(size), input: Some(Box::new(input)), output: Some(Box::new(output)), error: None, child })
    }

    pub fn resize(&self, cols: u16, rows: u16) {
        if let Some(size) = &self.size {
            let wanted = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
            // A terminal that has just gone has no size to lose.
            let _ = rustix::termios::tcsetwinsize(size, wanted);
        }
    }

    /// Sends a signal to the whole group; without effect once it has gone.
    pub fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

/// The signal that ended a process, by its SSH name (RFC 4254 section 6.10), and whether it left a core.
pub(super) fn ended_by(status: ExitStatus) -> Option<(Sig, bool)> {
    let raw = status.signal()?;
    let sig = match Signal::from_named_raw(raw) {
        Some(Signal::ABORT) => Sig::ABRT,
        Some(Signal::ALARM) => Sig::ALRM,
        Some(Signal::FPE) => Sig::FPE,
        Some(Signal::HUP) => Sig::HUP,
        Some(Signal::ILL) => Sig::ILL,
        Some(Signal::INT) => Sig::INT,
        Some(Signal::KILL) => Sig::KILL,
        Some(Signal::PIPE) => Sig::PIPE,
        Some(Signal::QUIT) => Sig::QUIT,
        Some(Signal::SEGV) => Sig::SEGV,
        Some(Signal::TERM) => Sig::TERM,
        Some(Signal::USR1) => Sig::USR1,
        _ => Sig::Custom(format!("{raw}@countersign")),
    };
    Some((sig, status.core_dumped()))
}

/// The local signal for an SSH one; nothing for names that no RFC knows.
pub(super) fn local_signal(sig: &Sig) -> Option<Signal> {
    Some(match sig {
        Sig::ABRT => Signal::ABORT,
        Sig::ALRM => Signal::ALARM,
        Sig::FPE => Signal::FPE,
        Sig::HUP => Signal::HUP,
        Sig::ILL => Signal::ILL,
        Sig::INT => Signal::INT,
        Sig::KILL => Signal::KILL,
        Sig::PIPE => Signal::PIPE,
        Sig::QUIT => Signal::QUIT,
        Sig::SEGV => Signal::SEGV,
        Sig::TERM => Signal::TERM,
        Sig::USR1 => Signal::USR1,
        Sig::Custom(_) => return None,
    })
}

/// Where systems keep their sftp-server.
pub(super) fn sftp_server() -> Option<&'static Path> {
    ["/usr/lib/openssh/sftp-server", "/usr/libexec/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.exists())
}

fn command(program: &Program) -> tokio::process::Command {
    use std::os::unix::ffi::OsStrExt;
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
    let mut command = match program {
        Program::Shell => {
            let mut command = tokio::process::Command::new(&shell);
            // A dash before its name tells a shell that it is a login shell.
            let name = Path::new(&shell).file_name().unwrap_or("sh".as_ref());
            let mut dashed = std::ffi::OsString::from("-");
            dashed.push(name);
            command.arg0(dashed);
            command
        }
        Program::Command { line, instead_of } => {
            let mut command = tokio::process::Command::new(&shell);
            command.arg("-c").arg(std::ffi::OsStr::from_bytes(line));
            if let Some(asked) = instead_of {
                command.env("SSH_ORIGINAL_COMMAND", std::ffi::OsStr::from_bytes(asked));
            }
            command
        }
        Program::Sftp(server) => tokio::process::Command::new(server),
    };
    if let Some(home) = std::env::home_dir().filter(|home| home.is_dir()) {
        command.current_dir(home);
    }
    command
}

fn pid(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}
