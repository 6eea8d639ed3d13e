//! A client's session channel as the tasks that own it see it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Sig};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, oneshot};
use tokio::time::timeout;

use super::connection::Connection;
use super::flow::{End, Inbox};

/// Text to a client that does not read is given up after this.
const SAY: Duration = Duration::from_millis(500);
/// How long a client may take to answer a channel that is opened towards it.
const ANSWER: Duration = Duration::from_secs(30);

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
    /// A listener has none: it is only held, and ended, like a channel.
    write: Option<ChannelWriteHalf<Msg>>,
    handle: Handle,
    slots: Slots,
    connection: Connection,
    /// What is said of the connection from this channel's opening on, for the one that reads it aloud.
    heard: Mutex<Option<broadcast::Receiver<String>>>,
    /// What is said of it is said beside it, after these words: its stream is somebody else's.
    beside: Option<String>,
    /// Set when the channel has a terminal: lines then end in CR LF, since the client's is raw.
    terminal: AtomicBool,
}

impl std::fmt::Debug for ClientChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientChannel").field("id", &self.write.as_ref().map(ChannelWriteHalf::id)).finish_non_exhaustive()
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
    pub fn new(inbox: Arc<Inbox>, write: ChannelWriteHalf<Msg>, towards: Towards) -> Self {
        Self { write: Some(write), ..Self::of_none(inbox, towards, String::new()) }.aloud()
    }

    /// For what the client asked of its connection and of no channel.
    pub fn of_none(inbox: Arc<Inbox>, towards: Towards, name: String) -> Self {
        let Towards { handle, slots, connection } = towards;
        let (heard, terminal) = (Mutex::new(None), AtomicBool::new(false));
        Self { inbox, write: None, handle, slots, connection, heard, beside: Some(name), terminal }
    }

    fn aloud(self) -> Self {
        Self { beside: None, ..self }
    }

    /// A session's, which tells its person what becomes of the connection's forwards.
    pub fn listening(self) -> Self {
        let heard = Mutex::new(Some(self.connection.voice.listen()));
        Self { heard, ..self }
    }

    /// What has been said of the connection since; once.
    pub fn hears(&self) -> broadcast::Receiver<String> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).take();
        heard.unwrap_or_else(|| self.connection.voice.listen())
    }

    /// From here on what is said of it is said on the connection's terminals, after `name`.
    pub fn speaks_beside(&mut self, name: String) {
        self.beside = Some(name);
    }

    /// Whether its stream is never written to by us.
    pub fn is_silent(&self) -> bool {
        self.beside.is_some()
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What opens further channels towards this client.
    pub fn towards(&self) -> Towards {
        Towards { handle: self.handle.clone(), slots: self.slots.clone(), connection: self.connection.clone() }
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
        let write = self.write.as_ref().ok_or(Gone)?;
        tokio::select! {
            sent = write.data_bytes(bytes) => sent.map_err(|_| Gone),
            _ = self.inbox.gone() => Err(Gone),
        }
    }

    /// Says that nothing more comes on standard output.
    pub async fn eof(&self, within: Duration) -> Result<(), Gone> {
        let write = self.write.as_ref().ok_or(Gone)?;
        tokio::select! {
            sent = timeout(within, write.eof()) => sent.unwrap_or(Ok(())).map_err(|_| Gone),
            _ = self.inbox.gone() => Err(Gone),
        }
    }

    /// Writes standard error (extended data 1).
    pub async fn error(&self, bytes: Bytes) -> Result<(), Gone> {
        let write = self.write.as_ref().ok_or(Gone)?;
        tokio::select! {
            sent = write.extended_data_bytes(1, bytes) => sent.map_err(|_| Gone),
            _ = self.inbox.gone() => Err(Gone),
        }
    }

    /// Says one line of our own on standard error: `countersign: TEXT`.
    pub async fn say(&self, text: &str) {
        if let Some(name) = &self.beside {
            return self.connection.voice.say(format!("{name}{text}"));
        }
        let end = if self.terminal.load(Ordering::Relaxed) { "\r\n" } else { "\n" };
        self.raw(format!("countersign: {text}{end}")).await;
    }

    /// Writes text of our own as it is.
    pub async fn raw(&self, text: String) {
        if self.is_silent() {
            return;
        }
        let _ = timeout(SAY, self.error(Bytes::from(text))).await;
    }

    /// Reports how the command ended. Status or signal first, then EOF, then CLOSE: a client that sees
    /// CLOSE first reports 255 (measured: 23 of 400).
    pub async fn exit_signal(&self, signal: Sig, core_dumped: bool, message: String, language: String) {
        let Some(write) = &self.write else { return };
        let _ = timeout(SAY, self.handle.exit_signal_request(write.id(), signal, core_dumped, message, language)).await;
    }

    pub async fn exit_status(&self, status: u32) {
        let Some(write) = &self.write else { return };
        let _ = timeout(SAY, write.exit_status(status)).await;
    }

    /// Ends the channel.
    pub async fn close(&self) {
        if let Some(write) = &self.write {
            let _ = timeout(SAY, write.eof()).await;
            let _ = timeout(SAY, write.close()).await;
        }
        // russh tells nobody that the client has answered: what we close first ends here.
        self.inbox.finish(End::Closed);
    }

    /// Window-aware writer of standard output, for the console.
    pub fn writer(&self, extended: Option<u32>) -> Box<dyn tokio::io::AsyncWrite + Unpin + Send> {
        match &self.write {
            Some(write) => Box::new(Box::pin(write.make_writer_ext(extended))),
            None => Box::new(tokio::io::sink()),
        }
    }
}

/// Opens channels towards a client; each counts as one of its connection's.
#[derive(Clone)]
pub struct Towards {
    pub handle: Handle,
    pub slots: Slots,
    pub connection: Connection,
}

impl std::fmt::Debug for Towards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Towards").finish_non_exhaustive()
    }
}

impl Towards {
    /// Opens a channel to the client's agent; `None` if the client has none, or does not answer.
    pub async fn agent(self) -> Option<ClientChannel> {
        let handle = self.handle.clone();
        self.open("agent: ".into(), async move { handle.channel_open_agent().await }).await
    }

    /// Announces a connection to what the client asked the target to listen on (RFC 4254 7.2).
    pub async fn forwarded(self, address: String, port: u32, originator: String, originator_port: u32) -> Option<ClientChannel> {
        let (handle, name) = (self.handle.clone(), format!("listening on {address}:{port}: "));
        self.open(name, async move { handle.channel_open_forwarded_tcpip(address, port, originator, originator_port).await }).await
    }

    /// A future of russh's that opens a channel must not be cancelled: it runs in a task of its own, and what
    /// nobody waits for any more is closed there.
    async fn open(
        self,
        name: String,
        asking: impl Future<Output = Result<russh::Channel<Msg>, russh::Error>> + Send + 'static,
    ) -> Option<ClientChannel> {
        let turn = self.connection.openings.turns.clone().try_acquire_owned().ok()?;
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let _turn = turn;
            let Ok(channel) = asking.await else { return };
            let id = channel.id();
            let (read, write) = channel.split();
            // R1: with the reading half gone the loop's own delivery fails at once and is ignored.
            drop(read);
            let inbox = self.connection.openings.meet(id);
            let mut client = ClientChannel::new(inbox, write, self);
            client.speaks_beside(name);
            if let Err(client) = tell.send(client) {
                client.close().await;
            }
        });
        timeout(ANSWER, told).await.ok()?.ok()
    }
}
