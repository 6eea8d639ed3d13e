//! Queues and throttled streams between russh and the relay.
//!
//! Two rules hold everywhere (measured: russh's own channels deadlock in full-duplex bulk). R1: no event
//! loop of russh ever waits for anything of ours, so callbacks only [`Inbox::push`], which never blocks.
//! R2: back-pressure is applied to the channel's window or to the transport, never to a loop:
//! [`Inbox::window`] shrinks what a client may send, [`Paced`] spaces out its tiny packets,
//! [`Gated`] stops reading a target's transport. What comes in spite of that is bounded by [`HARD_CAP`].

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use russh::Sig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Sleep};

/// The window that a channel starts with, both sides, in bytes.
pub const WINDOW: u32 = 2 * 1024 * 1024;
/// Payload of one packet.
pub const PACKET: u32 = 32 * 1024;
/// A target's transport is not read while this much waits.
const TARGET_HIGH: usize = 1024 * 1024;
/// A client's window is two bytes while more than this waits.
const CLIENT_HIGH: usize = WINDOW as usize - 128 * 1024;
/// A channel whose peer ignores its window ends here.
const HARD_CAP: usize = 16 * 1024 * 1024;
/// Payloads below this are merged into the queue's tail, up to [`MERGED`].
const SMALL: usize = 1024;
const MERGED: usize = 16 * 1024;
/// What a control item counts beside its contents.
const ITEM_COST: usize = 64;

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
    fn cost(&self) -> usize {
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

/// Why nothing more comes on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// CHANNEL_CLOSE.
    Closed,
    /// The connection is gone.
    Lost,
    /// The peer sent more than [`HARD_CAP`] beyond its window.
    Overrun,
}

/// Whether any queue of one connection is nearly full; seen by that connection's stream.
#[derive(Debug, Default)]
pub struct Pressure {
    tight: AtomicUsize,
    reader: Mutex<Option<Waker>>,
}

impl Pressure {
    fn is_tight(&self) -> bool {
        self.tight.load(Ordering::Acquire) > 0
    }

    fn tighten(&self) {
        self.tight.fetch_add(1, Ordering::AcqRel);
    }

    fn ease(&self) {
        if self.tight.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(reader) = lock(&self.reader).take()
        {
            reader.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding these locks; a poisoned one still holds consistent data.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The queue of one channel, one direction: filled by russh's callbacks, emptied by one task.
#[derive(Debug)]
pub struct Inbox {
    queue: Mutex<Queue>,
    arrived: Notify,
    end: watch::Sender<Option<End>>,
    interrupt: watch::Sender<Interrupt>,
    high: usize,
    pressure: Arc<Pressure>,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    cost: usize,
    tight: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupt {
    Ignored,
    Watched,
    Seen,
}

impl Inbox {
    pub fn facing_client(pressure: Arc<Pressure>) -> Arc<Self> {
        Self::new(CLIENT_HIGH, pressure)
    }

    pub fn facing_target(pressure: Arc<Pressure>) -> Arc<Self> {
        Self::new(TARGET_HIGH, pressure)
    }

    fn new(high: usize, pressure: Arc<Pressure>) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            arrived: Notify::new(),
            end: watch::Sender::new(None),
            interrupt: watch::Sender::new(Interrupt::Ignored),
            high,
            pressure,
        })
    }

    /// Takes what a callback was given; never waits. Beyond [`HARD_CAP`] the channel ends.
    pub fn push(&self, item: Item) {
        if self.ended().is_some() {
            return;
        }
        let mut queue = lock(&self.queue);
        let cost = item.cost();
        queue.cost += cost;
        match (queue.items.back_mut(), item) {
            (Some(Item::Data(tail)), Item::Data(bytes)) | (Some(Item::Stderr(tail)), Item::Stderr(bytes))
                if bytes.len() < SMALL && tail.len() < MERGED =>
            {
                tail.extend_from_slice(&bytes);
                queue.cost -= ITEM_COST;
            }
            (Some(Item::Resize(last)), Item::Resize(size)) => {
                *last = size;
                queue.cost -= cost;
            }
            (_, item) => queue.items.push_back(item),
        }
        if queue.cost > HARD_CAP {
            drop(queue);
            self.finish(End::Overrun);
        } else {
            if !queue.tight && queue.cost > self.high {
                queue.tight = true;
                self.pressure.tighten();
            }
            drop(queue);
            self.arrived.notify_one();
        }
    }

    /// Takes data from a packet. While interrupts are watched, a packet of exactly 0x03 is one and is
    /// not queued (`users.md` 1); otherwise 0x03 is a byte like any other.
    pub fn push_data(&self, bytes: &[u8]) {
        if bytes == [3] && *self.interrupt.borrow() == Interrupt::Watched {
            self.interrupt.send_replace(Interrupt::Seen);
        } else {
            self.push(Item::Data(BytesMut::from(bytes)));
        }
    }

    pub fn watch_interrupt(&self, watched: bool) {
        self.interrupt.send_replace(if watched { Interrupt::Watched } else { Interrupt::Ignored });
    }

    /// Returns when a watched interrupt has come.
    pub async fn interrupted(&self) {
        // The sender lives in `self`: waiting cannot fail.
        let _ = self.interrupt.subscribe().wait_for(|state| *state == Interrupt::Seen).await;
    }

    /// Says that nothing more comes. The first reason stands.
    pub fn finish(&self, end: End) {
        self.end.send_if_modified(|current| current.is_none() && current.replace(end).is_none());
        self.arrived.notify_one();
    }

    pub fn ended(&self) -> Option<End> {
        *self.end.borrow()
    }

    /// Returns as soon as the channel has ended, whatever is still queued.
    pub async fn gone(&self) -> End {
        match self.end.subscribe().wait_for(Option::is_some).await {
            Ok(end) => end.unwrap_or(End::Lost),
            Err(_) => End::Lost,
        }
    }

    /// Takes the oldest items, up to about `limit` bytes; `None` once the channel has ended and all is
    /// taken. One task at a time.
    pub async fn take(&self, limit: usize) -> Option<Vec<Item>> {
        loop {
            if let Some(items) = self.try_take(limit) {
                return Some(items);
            }
            if self.ended().is_some() {
                // What was pushed between the two looks is still there.
                return self.try_take(limit);
            }
            self.arrived.notified().await;
        }
    }

    fn try_take(&self, limit: usize) -> Option<Vec<Item>> {
        let mut queue = lock(&self.queue);
        let mut taken = Vec::new();
        let mut cost = 0;
        while cost < limit
            && let Some(item) = queue.items.pop_front()
        {
            cost += item.cost();
            taken.push(item);
        }
        queue.cost = queue.cost.saturating_sub(cost);
        if queue.tight && queue.cost <= self.high / 2 {
            queue.tight = false;
            self.pressure.ease();
        }
        (!taken.is_empty()).then_some(taken)
    }

    /// Takes one item.
    pub async fn next(&self) -> Option<Item> {
        self.take(1).await.and_then(|items| items.into_iter().next())
    }

    /// Puts back what was taken and not used, in front.
    pub fn put_back(&self, items: Vec<Item>) {
        let mut queue = lock(&self.queue);
        for item in items.into_iter().rev() {
            queue.cost += item.cost();
            queue.items.push_front(item);
        }
        drop(queue);
        self.arrived.notify_one();
    }

    /// The window that this queue has room for: what russh may grant the client next. Never 0 (russh
    /// ignores it) nor 1 (it would never grant again); 2 keeps the callback alive.
    pub fn window(&self) -> u32 {
        let cost = lock(&self.queue).cost;
        if cost > self.high { 2 } else { u32::try_from(WINDOW as usize - cost).unwrap_or(2) }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        if lock(&self.queue).tight {
            self.pressure.ease();
        }
    }
}

/// Ends a connection from outside: every read and write of its stream fails at once. The connection ends
/// too when the last `Cut` is dropped: nobody could end it any more.
#[derive(Debug, Clone)]
pub struct Cut(Arc<watch::Sender<bool>>);

impl Default for Cut {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Cut {
    pub fn now(&self) {
        self.0.send_replace(true);
    }

    fn made(&self) -> Sign {
        let mut cut = self.0.subscribe();
        Sign::when(async move {
            let _ = cut.wait_for(|cut| *cut).await;
        })
    }
}

/// Something that happens once and stays true, to be looked at from `poll` functions.
struct Sign(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Sign {
    fn when(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Some(Box::pin(future)))
    }

    fn is_given(&mut self, context: &mut Context<'_>) -> bool {
        let given = self.0.as_mut().is_none_or(|future| future.as_mut().poll(context).is_ready());
        if given {
            self.0 = None;
        }
        given
    }
}

/// How long a peer may leave our bytes unread before the connection is given up.
const WRITE_DEADLINE: Duration = Duration::from_secs(600);
/// Bytes read ahead of russh: little while a connection idles, much while it streams.
const AHEAD_IDLE: usize = 4 * 1024;
const AHEAD_BUSY: usize = 128 * 1024;
/// Reads below this count as a trickle.
const TRICKLE: usize = 2 * 1024;

/// How a stream answers to pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Space out tiny reads: the client trickles two bytes a round trip meanwhile.
    Pace,
    /// Do not read at all.
    Gate,
}

/// A transport under pressure control, with a write deadline and a [`Cut`].
pub struct Throttled<S> {
    stream: S,
    pressure: Arc<Pressure>,
    answer: Answer,
    cut: Sign,
    /// What was read ahead: russh asks for four bytes, then for the rest of one packet.
    ahead: Vec<u8>,
    used: usize,
    filled: usize,
    /// What the last read brought.
    last: usize,
    pause: Option<Pin<Box<Sleep>>>,
    trickling_since: Option<Instant>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> std::fmt::Debug for Throttled<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttled").field("answer", &self.answer).finish_non_exhaustive()
    }
}

impl<S> Throttled<S> {
    /// For a connection from a client.
    pub fn paced(stream: S, pressure: Arc<Pressure>, cut: &Cut) -> Self {
        Self::new(stream, pressure, cut, Answer::Pace)
    }

    /// For a connection to a target: our writes and its event loop go on while it is not read.
    pub fn gated(stream: S, pressure: Arc<Pressure>, cut: &Cut) -> Self {
        Self::new(stream, pressure, cut, Answer::Gate)
    }

    fn new(stream: S, pressure: Arc<Pressure>, cut: &Cut, answer: Answer) -> Self {
        Self {
            stream,
            pressure,
            answer,
            cut: cut.made(),
            ahead: vec![0; AHEAD_IDLE],
            used: 0,
            filled: 0,
            last: 0,
            pause: None,
            trickling_since: None,
            stalled: None,
        }
    }

    /// Ready when reading may go on.
    fn poll_gate(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.pressure.is_tight() {
            self.pause = None;
            self.trickling_since = None;
            return Poll::Ready(());
        }
        *lock(&self.pressure.reader) = Some(context.waker().clone());
        if !self.pressure.is_tight() {
            return Poll::Ready(());
        }
        match (self.answer, &mut self.pause) {
            (Answer::Gate, _) => Poll::Pending,
            (Answer::Pace, Some(pause)) => {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
                Poll::Ready(())
            }
            (Answer::Pace, None) => Poll::Ready(()),
        }
    }

    /// After a read of `count` bytes under pressure: how long until the next.
    fn pace(&mut self, count: usize) {
        if self.answer == Answer::Gate || !self.pressure.is_tight() {
            return;
        }
        if count >= TRICKLE {
            self.trickling_since = None;
            return;
        }
        let now = Instant::now();
        let since = *self.trickling_since.get_or_insert(now);
        let pause = match now.duration_since(since).as_millis() {
            0..1000 => Duration::from_millis(1),
            1000..60_000 => Duration::from_millis(10),
            _ => Duration::from_millis(100),
        };
        self.pause = Some(Box::pin(tokio::time::sleep(pause)));
    }

    /// Passes a write's result on, giving up a peer that has read nothing for [`WRITE_DEADLINE`].
    fn deadline<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        if self.cut.is_given(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_DEADLINE)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> Throttled<S> {
    /// Fills the read-ahead from the transport, when pressure lets it.
    fn poll_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_gate(context));
        let mut buffer = ReadBuf::new(&mut self.ahead);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        let count = buffer.filled().len();
        (self.used, self.filled, self.last) = (0, count, count);
        self.pace(count);
        Poll::Ready(Ok(()))
    }

    /// Between two reads: makes room for a stream, gives it back when there is none.
    fn resize_ahead(&mut self) {
        if self.last == self.ahead.len() && self.last < AHEAD_BUSY {
            self.ahead = vec![0; AHEAD_BUSY];
        } else if self.last < AHEAD_IDLE / 4 && self.ahead.len() > AHEAD_IDLE {
            self.ahead = vec![0; AHEAD_IDLE];
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Throttled<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.is_given(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.used == self.filled {
            self.resize_ahead();
            ready!(self.poll_ahead(context))?;
        }
        let rest = self.ahead.get(self.used..self.filled).unwrap_or_default();
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..count).unwrap_or_default());
        self.used += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Throttled<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.deadline(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.deadline(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.deadline(context, result)
    }
}

type Taking = Pin<Box<dyn Future<Output = Option<Vec<Item>>> + Send>>;

/// A channel as a stream: what carries the inner server of a jump. Reads an [`Inbox`], writes through
/// a window-aware writer, and fails once the channel has ended (a writer that waits for window on a
/// closed channel is never woken by russh).
pub struct Tunnel<W> {
    inbox: Arc<Inbox>,
    writer: W,
    rest: Bytes,
    taking: Option<Taking>,
    ready: VecDeque<Bytes>,
    eof: bool,
    gone: Sign,
}

impl<W> std::fmt::Debug for Tunnel<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

impl<W> Tunnel<W> {
    pub fn new(inbox: Arc<Inbox>, writer: W) -> Self {
        let gone = {
            let inbox = inbox.clone();
            Sign::when(async move {
                inbox.gone().await;
            })
        };
        Self { inbox, writer, rest: Bytes::new(), taking: None, ready: VecDeque::new(), eof: false, gone }
    }
}

impl<W: Unpin> AsyncRead for Tunnel<W> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.rest.is_empty() {
                let count = self.rest.len().min(buffer.remaining());
                buffer.put_slice(&self.rest.split_to(count));
                return Poll::Ready(Ok(()));
            }
            if let Some(next) = self.ready.pop_front() {
                self.rest = next;
                continue;
            }
            if self.eof {
                return Poll::Ready(Ok(()));
            }
            let inbox = self.inbox.clone();
            let taking = self.taking.get_or_insert_with(|| Box::pin(async move { inbox.take(256 * 1024).await }));
            let taken = ready!(taking.as_mut().poll(context));
            self.taking = None;
            let Some(items) = taken else {
                self.eof = true;
                continue;
            };
            for item in items {
                match item {
                    Item::Data(bytes) => self.ready.push_back(bytes.freeze()),
                    Item::Eof => self.eof = true,
                    // Nothing else has a meaning on a direct-tcpip channel.
                    _ => {}
                }
            }
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Tunnel<W> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.gone.is_given(context) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.writer).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn inbox() -> (Arc<Inbox>, Arc<Pressure>) {
        let pressure = Arc::new(Pressure::default());
        (Inbox::facing_client(pressure.clone()), pressure)
    }

    fn bytes_of(items: Vec<Item>) -> Vec<u8> {
        items.into_iter().flat_map(|item| if let Item::Data(bytes) = item { bytes.to_vec() } else { Vec::new() }).collect()
    }

    proptest! {
        /// Whatever is pushed in whatever pieces comes out in order, and pressure is given back.
        #[test]
        fn a_stream_goes_through_unchanged(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..200), limit in 1usize..100_000) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (inbox, pressure) = inbox();
                for packet in &packets {
                    inbox.push_data(packet);
                }
                inbox.finish(End::Closed);
                let mut out = Vec::new();
                while let Some(items) = inbox.take(limit).await {
                    out.extend(bytes_of(items));
                }
                prop_assert_eq!(out, packets.concat());
                prop_assert!(!pressure.is_tight());
                Ok(())
            })?;
        }

        #[test]
        fn the_window_is_never_one_that_sticks(sizes in prop::collection::vec(0usize..40_000, 0..200)) {
            let (inbox, _) = inbox();
            for size in sizes {
                inbox.push(Item::Data(BytesMut::zeroed(size)));
                prop_assert!(inbox.window() >= 2 && inbox.window() <= WINDOW);
            }
        }
    }

    #[tokio::test]
    async fn a_packet_of_0x03_is_an_interrupt_only_while_watched() {
        let (inbox, _) = inbox();
        inbox.push_data(&[3]);
        inbox.watch_interrupt(true);
        inbox.push_data(&[3, 3]);
        inbox.push_data(&[3]);
        inbox.interrupted().await;
        inbox.watch_interrupt(false);
        inbox.push_data(b"\x03tail");
        inbox.finish(End::Closed);
        assert_eq!(bytes_of(inbox.take(1000).await.unwrap()), b"\x03\x03\x03\x03tail");
    }

    #[tokio::test]
    async fn a_peer_that_ignores_its_window_is_ended_with_a_reason() {
        let (inbox, _) = inbox();
        for _ in 0..=HARD_CAP / 32_768 {
            inbox.push_data(&[0; 32_768]);
        }
        assert_eq!(inbox.gone().await, End::Overrun);
    }

    #[tokio::test]
    async fn a_flood_of_control_items_is_bounded() {
        let (inbox, _) = inbox();
        for n in 0..2 * HARD_CAP / ITEM_COST {
            inbox.push(Item::Signal(Sig::INT));
            inbox.push(Item::Resize(Size { cols: 1, rows: u32::try_from(n % 50).unwrap(), pix_width: 0, pix_height: 0 }));
        }
        assert_eq!(inbox.ended(), Some(End::Overrun));
    }

    #[tokio::test]
    async fn empty_packets_and_long_names_are_counted() {
        let (inbox, _) = inbox();
        for _ in 0..HARD_CAP / ITEM_COST {
            inbox.push(Item::Data(BytesMut::new()));
            inbox.push(Item::Stderr(BytesMut::new()));
        }
        assert_eq!(inbox.ended(), Some(End::Overrun));
        let (inbox, _) = super::tests::inbox();
        for _ in 0..=HARD_CAP / 250_000 {
            inbox.push(Item::Signal(Sig::Custom("x".repeat(250_000))));
        }
        assert_eq!(inbox.ended(), Some(End::Overrun));
    }

    #[tokio::test]
    async fn a_hang_up_is_seen_behind_any_queue() {
        let (inbox, _) = inbox();
        inbox.push_data(&[7; 100_000]);
        inbox.finish(End::Lost);
        assert_eq!(inbox.gone().await, End::Lost);
        assert_eq!(bytes_of(inbox.take(usize::MAX).await.unwrap()).len(), 100_000);
        assert!(inbox.take(1).await.is_none());
    }

    #[tokio::test]
    async fn a_gated_stream_is_read_again_when_the_queue_drains() {
        let pressure = Arc::new(Pressure::default());
        let inbox = Inbox::facing_target(pressure.clone());
        inbox.push(Item::Data(BytesMut::zeroed(TARGET_HIGH + 1)));
        let (ours, mut theirs) = tokio::io::duplex(64);
        let cut = Cut::default();
        let mut gated = Throttled::gated(ours, pressure, &cut);
        theirs.write_all(b"hello").await.unwrap();
        let mut buffer = [0; 5];
        let early = tokio::time::timeout(Duration::from_millis(50), gated.read_exact(&mut buffer)).await;
        assert!(early.is_err(), "read in spite of a full queue");
        let drain = async { inbox.take(usize::MAX).await };
        let (read, _) = tokio::join!(tokio::time::timeout(Duration::from_secs(5), gated.read_exact(&mut buffer)), drain);
        read.unwrap().unwrap();
        assert_eq!(&buffer, b"hello");
    }

    #[tokio::test]
    async fn a_cut_ends_reads_and_stalled_writes() {
        let cut = Cut::default();
        let (ours, _theirs) = tokio::io::duplex(4);
        let mut stream = Throttled::paced(ours, Arc::default(), &cut);
        let stalled = tokio::spawn(async move {
            let write = stream.write_all(b"more than fits").await;
            let read = stream.read_u8().await;
            (write.is_err(), read.is_err())
        });
        cut.now();
        assert_eq!(stalled.await.unwrap(), (true, true));
    }
}
