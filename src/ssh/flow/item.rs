//! What comes on a channel, and what it weighs in a queue.

use bytes::BytesMut;
use russh::Sig;

/// What a control item counts beside its contents.
pub(super) const ITEM_COST: usize = 64;

/// What came on a channel, in the order it came.
#[derive(Debug)]
pub enum Item {
    Data(BytesMut),
    /// Extended data of type 1.
    Stderr(BytesMut),
    Eof,
    Pty(Pty),
    Env {
        name: String,
        value: String,
    },
    /// The client offers its agent (`auth-agent-req@openssh.com`).
    Agent,
    Start(Start),
    Resize(Size),
    Signal(Sig),
    Success,
    Failure,
    ExitStatus(u32),
    ExitSignal {
        signal: Sig,
        core_dumped: bool,
        message: String,
        language: String,
    },
}

/// A pty-req (RFC 4254 6.2).
#[derive(Debug, Clone)]
pub struct Pty {
    pub term: String,
    pub size: Size,
    pub modes: Vec<(russh::Pty, u32)>,
}

/// Columns and rows, then pixels (RFC 4254 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub cols: u32,
    pub rows: u32,
    pub pix_width: u32,
    pub pix_height: u32,
}

/// What starts a session channel.
#[derive(Debug, Clone)]
pub enum Start {
    Shell,
    Exec(Vec<u8>),
    Subsystem(String),
}

impl Item {
    /// What the item counts against the queue's bounds: all that a peer can make long, and something for
    /// being there, so that empty packets are bounded too.
    pub(super) fn cost(&self) -> usize {
        let contents = match self {
            Item::Data(bytes) | Item::Stderr(bytes) => bytes.len(),
            Item::Env { name, value } => name.len() + value.len(),
            Item::Pty(pty) => pty.term.len() + pty.modes.len() * size_of::<(russh::Pty, u32)>(),
            Item::Start(Start::Exec(command)) => command.len(),
            Item::Start(Start::Subsystem(name)) | Item::Signal(Sig::Custom(name)) => name.len(),
            Item::ExitSignal { signal, message, language, .. } => {
                let name = if let Sig::Custom(name) = signal { name.len() } else { 0 };
                name + message.len() + language.len()
            }
            Item::Eof
            | Item::Agent
            | Item::Start(Start::Shell)
            | Item::Resize(_)
            | Item::Signal(_)
            | Item::Success
            | Item::Failure
            | Item::ExitStatus(_) => 0,
        };
        ITEM_COST + contents
    }
}
