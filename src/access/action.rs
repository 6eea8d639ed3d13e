//! What a channel wants to do on a target, in the words of the policy and of the request.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::endpoint::Endpoint;
use crate::id::{Digest, NotAWord};

/// A Cedar action on a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    Shell,
    Exec,
    SftpRead,
    SftpWrite,
    /// The client's side connects, through the target, to somewhere (`ssh -L`, `-D`).
    ForwardLocal,
    /// The target listens, and who connects there reaches the client's side (`ssh -R`).
    ForwardRemote,
    /// What runs on the target may have the client's agent sign (`ssh -A`).
    AgentForward,
}

impl Action {
    pub const ALL: [Action; 7] = [
        Action::Shell,
        Action::Exec,
        Action::SftpRead,
        Action::SftpWrite,
        Action::ForwardLocal,
        Action::ForwardRemote,
        Action::AgentForward,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Action::Shell => "shell",
            Action::Exec => "exec",
            Action::SftpRead => "sftp-read",
            Action::SftpWrite => "sftp-write",
            Action::ForwardLocal => "forward-local",
            Action::ForwardRemote => "forward-remote",
            Action::AgentForward => "agent-forward",
        }
    }

    /// Whether policy is told of a place ([`Endpoint`]) with it.
    pub fn is_forward(self) -> bool {
        match self {
            Action::ForwardLocal | Action::ForwardRemote => true,
            Action::Shell | Action::Exec | Action::SftpRead | Action::SftpWrite | Action::AgentForward => false,
        }
    }
}

/// A Cedar action of the console, on a target (or on a request's, a session's target).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConsoleAction {
    Approve,
    Replay,
    Watch,
    Kill,
    Hold,
    Review,
    /// Reading the audit log; counts where it may be done on every target.
    Audit,
    /// Announcing that the bastion restarts; counts where it may be done on every target.
    Drain,
    /// Letting a person in no more, and again; counts where it may be done on every target.
    Suspend,
    /// Opening first and being reviewed after; in no group of actions, so that nobody has it unsaid.
    BreakGlass,
}

impl ConsoleAction {
    pub const ALL: [ConsoleAction; 10] = [
        ConsoleAction::Approve,
        ConsoleAction::Replay,
        ConsoleAction::Watch,
        ConsoleAction::Kill,
        ConsoleAction::Hold,
        ConsoleAction::Review,
        ConsoleAction::Audit,
        ConsoleAction::Drain,
        ConsoleAction::Suspend,
        ConsoleAction::BreakGlass,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            ConsoleAction::Approve => "approve",
            ConsoleAction::Replay => "replay",
            ConsoleAction::Watch => "watch",
            ConsoleAction::Kill => "kill",
            ConsoleAction::Hold => "hold",
            ConsoleAction::Review => "review",
            ConsoleAction::Audit => "audit",
            ConsoleAction::Drain => "drain",
            ConsoleAction::Suspend => "suspend",
            ConsoleAction::BreakGlass => "break-glass",
        }
    }
}

/// What one channel, or one listener, wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    Shell,
    /// The bytes as they came; shell text is never parsed.
    Exec(Vec<u8>),
    Sftp,
    /// To be connected there.
    ForwardLocal(Endpoint),
    /// To have the target listen there.
    ForwardRemote(Endpoint),
    /// One of those that start something, and the client's agent with it.
    WithAgent(Box<Want>),
}

impl Want {
    /// Returns the actions that all have to be allowed.
    pub fn actions(&self) -> Vec<Action> {
        match self {
            Want::Shell => vec![Action::Shell],
            Want::Exec(_) => vec![Action::Exec],
            Want::Sftp => vec![Action::SftpRead, Action::SftpWrite],
            Want::ForwardLocal(_) => vec![Action::ForwardLocal],
            Want::ForwardRemote(_) => vec![Action::ForwardRemote],
            Want::WithAgent(want) => want.actions().into_iter().chain([Action::AgentForward]).collect(),
        }
    }

    /// The word of it in rows, recordings and listings: `shell`, `exec`, `sftp`, `forward-local`,
    /// `forward-remote`.
    pub fn kind(&self) -> &'static str {
        match self {
            Want::Shell => "shell",
            Want::Exec(_) => "exec",
            Want::Sftp => "sftp",
            Want::ForwardLocal(_) => "forward-local",
            Want::ForwardRemote(_) => "forward-remote",
            Want::WithAgent(want) => want.kind(),
        }
    }

    /// What is started, whether or not the agent goes with it.
    pub fn without_agent(&self) -> &Want {
        match self {
            Want::WithAgent(want) => want.without_agent(),
            Want::Shell | Want::Exec(_) | Want::Sftp | Want::ForwardLocal(_) | Want::ForwardRemote(_) => self,
        }
    }

    pub fn has_agent(&self) -> bool {
        matches!(self, Want::WithAgent(_))
    }

    /// Where it leads or listens, if it is a forward.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Want::ForwardLocal(endpoint) | Want::ForwardRemote(endpoint) => Some(endpoint),
            Want::Shell | Want::Exec(_) | Want::Sftp | Want::WithAgent(_) => None,
        }
    }

    /// The bytes of the command, if it is one.
    pub fn command_bytes(&self) -> Option<&[u8]> {
        match self.without_agent() {
            Want::Exec(bytes) => Some(bytes),
            Want::Shell | Want::Sftp | Want::ForwardLocal(_) | Want::ForwardRemote(_) | Want::WithAgent(_) => None,
        }
    }

    /// The command where policy may compare it: valid UTF-8 without NUL.
    pub fn command(&self) -> Option<&str> {
        self.command_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok()).filter(|text| !text.contains('\0'))
    }
}

/// A class of actions that a request asks for and a grant holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Class {
    AgentForward,
    /// `exec:*`
    ExecAny,
    /// `exec:<sha256 of the command's bytes>`
    Exec(Digest),
    /// `forward-local:HOST:PORT`, where it leads; `*` for any host or port.
    ForwardLocal(Endpoint),
    /// `forward-remote:HOST:PORT`, what the target listens on; `*` for all its addresses, or any port.
    ForwardRemote(Endpoint),
    SftpRead,
    SftpWrite,
    Shell,
}

impl Class {
    /// The action that policy rules it by.
    pub fn action(&self) -> Action {
        match self {
            Class::AgentForward => Action::AgentForward,
            Class::ExecAny | Class::Exec(_) => Action::Exec,
            Class::ForwardLocal(_) => Action::ForwardLocal,
            Class::ForwardRemote(_) => Action::ForwardRemote,
            Class::SftpRead => Action::SftpRead,
            Class::SftpWrite => Action::SftpWrite,
            Class::Shell => Action::Shell,
        }
    }

    /// Where it leads or listens, if it is a forward.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Class::ForwardLocal(endpoint) | Class::ForwardRemote(endpoint) => Some(endpoint),
            Class::AgentForward | Class::ExecAny | Class::Exec(_) | Class::SftpRead | Class::SftpWrite | Class::Shell => None,
        }
    }

    /// Whether everything that `other` allows is allowed here.
    pub fn contains(&self, other: &Class) -> bool {
        self.meet(other).as_ref() == Some(other)
    }

    /// What both allow: an exact command lies within `exec:*`, a port within `*`.
    pub fn meet(&self, other: &Class) -> Option<Class> {
        match (self, other) {
            (Class::ExecAny, Class::Exec(_)) => Some(other.clone()),
            (Class::Exec(_), Class::ExecAny) => Some(self.clone()),
            (Class::ForwardLocal(a), Class::ForwardLocal(b)) => a.meet(b).map(Class::ForwardLocal),
            (Class::ForwardRemote(a), Class::ForwardRemote(b)) => a.meet(b).map(Class::ForwardRemote),
            (a, b) => (a == b).then(|| a.clone()),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Class::AgentForward => f.write_str("agent-forward"),
            Class::ExecAny => f.write_str("exec:*"),
            Class::Exec(digest) => write!(f, "exec:{digest}"),
            Class::ForwardLocal(to) => write!(f, "forward-local:{to}"),
            Class::ForwardRemote(on) => write!(f, "forward-remote:{on}"),
            Class::SftpRead => f.write_str("sftp-read"),
            Class::SftpWrite => f.write_str("sftp-write"),
            Class::Shell => f.write_str("shell"),
        }
    }
}

impl FromStr for Class {
    type Err = NotAWord;
    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let bad = || NotAWord {
            what: "class of actions",
            given: text.chars().take(48).collect(),
            rule: "use shell, exec:*, exec:SHA256, sftp-read, sftp-write, forward-local:HOST:PORT, forward-remote:HOST:PORT or agent-forward",
        };
        match text {
            "shell" => Ok(Class::Shell),
            "exec:*" => Ok(Class::ExecAny),
            "sftp-read" => Ok(Class::SftpRead),
            "sftp-write" => Ok(Class::SftpWrite),
            "agent-forward" => Ok(Class::AgentForward),
            _ => match text.split_once(':').ok_or_else(bad)? {
                ("exec", digest) => digest.parse().map(Class::Exec).map_err(|_| bad()),
                ("forward-local", to) => to.parse().map(Class::ForwardLocal).map_err(|_| bad()),
                ("forward-remote", on) => on.parse().map(Class::ForwardRemote).map_err(|_| bad()),
                _ => Err(bad()),
            },
        }
    }
}

impl TryFrom<String> for Class {
    type Error = NotAWord;
    fn try_from(text: String) -> Result<Self, NotAWord> {
        text.parse()
    }
}

impl From<Class> for String {
    fn from(class: Class) -> String {
        class.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_read_back() {
        for text in [
            "shell",
            "agent-forward",
            "forward-local:localhost:*",
            "forward-local:db-1.example:5432",
            "forward-local:*:443",
            "forward-local:[2001:db8::1]:22",
            "forward-remote:*:8080",
            "forward-remote:localhost:8080",
        ] {
            assert_eq!(text.parse::<Class>().unwrap().to_string(), text);
        }
        assert_eq!("forward-local:127.0.0.1:80".parse::<Class>().unwrap().to_string(), "forward-local:localhost:80");
        for text in ["forward-local", "forward-local:", "forward-local:db", "forward-local:db:0", "forward-x:db:80", "agent"] {
            assert!(text.parse::<Class>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_agent_goes_with_what_is_started() {
        let want = Want::WithAgent(Box::new(Want::Exec(b"git pull".to_vec())));
        assert_eq!((want.kind(), want.command(), want.has_agent()), ("exec", Some("git pull"), true));
        assert_eq!(want.actions(), [Action::Exec, Action::AgentForward]);
    }
}
