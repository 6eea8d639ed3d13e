//! A client's session channel as the tasks that own it see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Sig};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::flow::{End, Inbox};

/// Text to a client that does not read is given up after this.
const SAY: Duration = Duration::from_millis(500);

/// The exit statuses of the contract (section 2.3; sysexits.h where it has one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok = 0,
    Malformed = 64,
    Unreachable = 69,
    RecordingFailed = 70,
    Undecided = 75,
    Refused = 77,
    Ended = 79,
}

/// The channel's writing side and its queue. Whoever holds it is the channel's one owner task.
pub struct ClientChannel {
    pub inbox: Arc<Inbox>,
    write: ChannelWriteHalf<Msg>,
    handle: Handle,
    slots: Slots,
    /// Set when the channel has a terminal: lines then end in CR LF, since the client's is raw.
    terminal: AtomicBool,
}

impl std::fmt::Debug for ClientChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientChannel").field("id", &self.write.id()).finish_non_exhaustive()
    }
}

/// One of a connection's channels: held until its task has ended, not only until the client closed it.
#[derive(Debug, Clone)]
pub struct Slots {
    /// Counts the tasks by its clones.
    tasks: Arc<()>,
    holds: Arc<Semaphore>,
    held_at_most: usize,
}

impl Slots {
    pub fn new(held_at_most: usize) -> Self {
        Self { tasks: Arc::new(()), holds: Arc::new(Semaphore::new(held_at_most)), held_at_most }
    }

    /// How many channels have a task now, beside the connection's own handle.
    pub fn taken(&self) -> usize {
        Arc::strong_count(&self.tasks).saturating_sub(1)
    }
}

/// The client has gone; there is nobody to write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

impl ClientChannel {
    pub fn new(inbox: Arc<Inbox>, write: ChannelWriteHalf<Msg>, handle: Handle, slots: Slots) -> Self {
        Self { inbox, write, handle, slots, terminal: AtomicBool::new(false) }
    }

    pub fn has_terminal(&self, terminal: bool) {
        self.terminal.store(terminal, Ordering::Relaxed);
    }

    pub fn held_at_most(&self) -> usize {
        self.slots.held_at_most
    }

    /// Takes one of the connection's places for held channels, waiting in turn beyond the limit after
    /// saying `text`; `None` if the client leaves first.
    pub async fn turn(&self, text: &str) -> Option<OwnedSemaphorePermit> {
        if let Ok(turn) = self.slots.holds.clone().try_acquire_owned() {
            return Some(turn);
        }
        self.say(text).await;
        tokio::select! {
            turn = self.slots.holds.clone().acquire_owned() => turn.ok(),
            _ = self.inbox.gone() => None,
        }
    }

    /// Writes standard output; waits for window, until the client has gone.
    pub async fn output(&self, bytes: Bytes) -> Result<(), Gone> {
        tokio::select! {
            sent = self.write.data_bytes(bytes) => sent.map_err(|_| Gone),
            _ = self.inbox.gone() => Err(Gone),
        }
    }

    /// Writes standard error (extended data 1).
    pub async fn error(&self, bytes: Bytes) -> Result<(), Gone> {
        tokio::select! {
            sent = self.write.extended_data_bytes(1, bytes) => sent.map_err(|_| Gone),
            _ = self.inbox.gone() => Err(Gone),
        }
    }

    /// Says one line of our own on standard error: `countersign: TEXT`.
    pub async fn say(&self, text: &str) {
        let end = if self.terminal.load(Ordering::Relaxed) { "\r\n" } else { "\n" };
        self.raw(format!("countersign: {text}{end}")).await;
    }

    /// Writes text of our own as it is.
    pub async fn raw(&self, text: String) {
        let _ = timeout(SAY, self.error(Bytes::from(text))).await;
    }

    /// Reports how the command ended. Status or signal first, then EOF, then CLOSE: a client that sees
    /// CLOSE first reports 255 (measured: 23 of 400).
    pub async fn exit_signal(&self, signal: Sig, core_dumped: bool, message: String, language: String) {
        let _ = timeout(SAY, self.handle.exit_signal_request(self.write.id(), signal, core_dumped, message, language)).await;
    }

    pub async fn exit_status(&self, status: u32) {
        let _ = timeout(SAY, self.write.exit_status(status)).await;
    }

    /// Ends the channel.
    pub async fn close(&self) {
        let _ = timeout(SAY, self.write.eof()).await;
        let _ = timeout(SAY, self.write.close()).await;
        // russh tells nobody that the client has answered: what we close first ends here.
        self.inbox.finish(End::Closed);
    }

    /// Window-aware writer of standard output, for the console.
    pub fn writer(&self, extended: Option<u32>) -> impl tokio::io::AsyncWrite + Unpin + Send + 'static {
        Box::pin(self.write.make_writer_ext(extended))
    }
}
