//! What a channel asks for before it is a session: terminal, environment, reason, and what to start.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::flow::{Inbox, Item, Pty, Start};
use super::gate;
use crate::access::Want;

/// A channel that has not asked to start anything by then is closed.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// What the client asked for, already answered with success (russh-notes: reply at once, refuse later).
#[derive(Debug, Clone)]
pub struct Opening {
    pub pty: Option<Pty>,
    /// Admitted variables, in the order they came.
    pub env: Vec<(String, String)>,
    /// From `COUNTERSIGN_REASON` or `LC_COUNTERSIGN_REASON`; never forwarded.
    pub reason: Option<String>,
    /// From `COUNTERSIGN_PRESET` or `LC_COUNTERSIGN_PRESET`; never forwarded.
    pub preset: Option<String>,
    /// `NO_COLOR` is set: for the console, never forwarded.
    pub no_colour: bool,
    /// The client offers its agent.
    pub agent: bool,
    pub start: Start,
}

impl Opening {
    /// Waits for the request that starts something; `None` if the client left or never asks.
    pub async fn read(inbox: &Arc<Inbox>) -> Option<Self> {
        let read = async {
            let (mut pty, mut env, mut reason, mut preset) = (None, Vec::new(), None, None);
            let (mut no_colour, mut agent) = (false, false);
            while let Some(item) = inbox.next().await {
                match item {
                    Item::Pty(asked) => pty = Some(asked),
                    Item::Env { name, value } => match gate::env(&name) {
                        gate::Env::Pass if env.len() < gate::MAX_ENV => env.push((name, value)),
                        gate::Env::Reason => reason = Some(value),
                        gate::Env::Preset => preset = Some(value).filter(|name| !name.is_empty()),
                        gate::Env::Console => no_colour = !value.is_empty(),
                        gate::Env::Pass | gate::Env::Refuse => {}
                    },
                    Item::Agent => agent = true,
                    Item::Resize(size) => {
                        if let Some(pty) = &mut pty {
                            pty.size = size;
                        }
                    }
                    Item::Start(start) => return Some(Self { pty, env, reason, preset, no_colour, agent, start }),
                    // Data before a start has nowhere to go (RFC 4254 6.5).
                    _ => {}
                }
            }
            None
        };
        timeout(START_DEADLINE, read).await.ok().flatten()
    }

    /// Of a forward, which has none of it: nobody can be asked, and nothing is started.
    pub fn of_forward() -> Self {
        let start = Start::Subsystem(String::new());
        Self { pty: None, env: Vec::new(), reason: None, preset: None, no_colour: false, agent: false, start }
    }

    /// What is wanted in the policy's words; `None` for subsystems that it does not know.
    pub fn want(&self) -> Option<Want> {
        match &self.start {
            Start::Shell => Some(Want::Shell),
            Start::Exec(command) => Some(Want::Exec(command.clone())),
            Start::Subsystem(name) if name == "sftp" => Some(Want::Sftp),
            Start::Subsystem(_) => None,
        }
    }

    /// Whether a person sits at a prompt: a shell with a terminal. A terminal alone is not a person
    /// (`users.md` 1: ansible runs with one).
    pub fn is_a_person(&self) -> bool {
        self.pty.is_some() && matches!(self.start, Start::Shell)
    }
}
