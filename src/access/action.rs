//! What a channel wants to do on a target, in the words of the policy and of the request.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{Digest, NotAWord};

/// A Cedar action on a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    Shell,
    Exec,
    SftpRead,
    SftpWrite,
}

impl Action {
    pub const ALL: [Action; 4] = [Action::Shell, Action::Exec, Action::SftpRead, Action::SftpWrite];

    pub fn as_str(self) -> &'static str {
        match self {
            Action::Shell => "shell",
            Action::Exec => "exec",
            Action::SftpRead => "sftp-read",
            Action::SftpWrite => "sftp-write",
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
    /// Opening first and being reviewed after; in no group of actions, so that nobody has it unsaid.
    BreakGlass,
}

impl ConsoleAction {
    pub const ALL: [ConsoleAction; 9] = [
        ConsoleAction::Approve,
        ConsoleAction::Replay,
        ConsoleAction::Watch,
        ConsoleAction::Kill,
        ConsoleAction::Hold,
        ConsoleAction::Review,
        ConsoleAction::Audit,
        ConsoleAction::Drain,
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
            ConsoleAction::BreakGlass => "break-glass",
        }
    }
}

/// What one session channel wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    Shell,
    /// The bytes as they came; shell text is never parsed.
    Exec(Vec<u8>),
    Sftp,
}

impl Want {
    /// Returns the actions that all have to be allowed.
    pub fn actions(&self) -> &'static [Action] {
        match self {
            Want::Shell => &[Action::Shell],
            Want::Exec(_) => &[Action::Exec],
            Want::Sftp => &[Action::SftpRead, Action::SftpWrite],
        }
    }

    /// The word of it in rows, recordings and listings: `shell`, `exec` or `sftp`.
    pub fn kind(&self) -> &'static str {
        match self {
            Want::Shell => "shell",
            Want::Exec(_) => "exec",
            Want::Sftp => "sftp",
        }
    }

    /// The bytes of the command, if it is one.
    pub fn command_bytes(&self) -> Option<&[u8]> {
        match self {
            Want::Exec(bytes) => Some(bytes),
            Want::Shell | Want::Sftp => None,
        }
    }

    /// The command where policy may compare it: valid UTF-8 without NUL.
    pub fn command(&self) -> Option<&str> {
        self.command_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok()).filter(|text| !text.contains('\0'))
    }
}

/// A class of actions that a request asks for and a grant holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Class {
    /// `exec:*`
    ExecAny,
    /// `exec:<sha256 of the command's bytes>`
    Exec(Digest),
    SftpRead,
    SftpWrite,
    Shell,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Class::ExecAny => f.write_str("exec:*"),
            Class::Exec(digest) => write!(f, "exec:{digest}"),
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
            rule: "use shell, exec:*, exec:SHA256, sftp-read or sftp-write",
        };
        match text {
            "shell" => Ok(Class::Shell),
            "exec:*" => Ok(Class::ExecAny),
            "sftp-read" => Ok(Class::SftpRead),
            "sftp-write" => Ok(Class::SftpWrite),
            _ => text.strip_prefix("exec:").ok_or_else(bad)?.parse().map(Class::Exec).map_err(|_| bad()),
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
