//! What the tasks of one client's connection share: a voice where somebody reads, the channels that are
//! opened towards the client, and how many key exchanges with targets it has under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use russh::ChannelId;
use tokio::sync::{Semaphore, broadcast};

use super::flow::{Inbox, Pressure};

/// Lines that nobody reads are dropped beyond this.
const LINES: usize = 16;
/// Channels that wait for the client's answer; beyond, what comes is refused.
pub(super) const OPENING: usize = 32;
/// Forwards that are being connected at once: sshd begins to drop at ten (`MaxStartups`).
const CONNECTING: usize = 4;

/// Shared by everything that runs on one connection.
#[derive(Debug, Clone)]
pub struct Connection {
    pub voice: Voice,
    pub openings: Arc<Openings>,
    pub connecting: Arc<Semaphore>,
    given: Arc<Mutex<Given>>,
}

impl Connection {
    pub fn new(pressure: Arc<Pressure>) -> Self {
        Self {
            voice: Voice(broadcast::Sender::new(LINES)),
            openings: Arc::new(Openings { pressure, half: Mutex::default(), turns: Arc::new(Semaphore::new(OPENING)) }),
            connecting: Arc::new(Semaphore::new(CONNECTING)),
            given: Arc::default(),
        }
    }

    /// Keeps what a session channel gave in its environment.
    pub fn keep(&self, reason: &Option<String>, preset: &Option<String>) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.reason = reason.clone().or(given.reason.take());
        given.preset = preset.clone().or(given.preset.take());
    }

    pub fn given(&self) -> Given {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the client gave last for one of its channels: a forward has no environment to give any in.
#[derive(Debug, Clone, Default)]
pub struct Given {
    pub reason: Option<String>,
    pub preset: Option<String>,
}

/// Says what concerns no session channel on those that have a terminal; where there is none, it stands in
/// the log alone.
#[derive(Debug, Clone)]
pub struct Voice(broadcast::Sender<String>);

impl Voice {
    pub fn say(&self, text: String) {
        // Nobody listens on a connection without a session.
        let _ = self.0.send(text);
    }

    pub fn listen(&self) -> broadcast::Receiver<String> {
        self.0.subscribe()
    }
}

/// Channels that we open: the callback that hears the client's answer and the task that asked meet here,
/// whichever comes first, over the queue that the channel's data goes to.
#[derive(Debug)]
pub struct Openings {
    pressure: Arc<Pressure>,
    half: Mutex<HashMap<ChannelId, Arc<Inbox>>>,
    /// Each is taken until the client has answered.
    pub turns: Arc<Semaphore>,
}

impl Openings {
    /// Called once by each side.
    pub fn meet(&self, id: ChannelId) -> Arc<Inbox> {
        let mut half = self.half.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inbox) = half.remove(&id) {
            return inbox;
        }
        let inbox = Inbox::facing_client(self.pressure.clone());
        half.insert(id, inbox.clone());
        inbox
    }
}
