//! The queue of one channel: pushed to without waiting, bounded, and the source of back-pressure.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::BytesMut;
use tokio::sync::{Notify, watch};

use super::item::{ITEM_COST, Item};
use super::windows::Reading;
use super::{CLIENT_HIGH, HARD_CAP, TARGET_HIGH};

/// Payloads below this are merged into the queue's tail, up to [`MERGED`].
const SMALL: usize = 1024;
const MERGED: usize = 16 * 1024;

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
    reads: AtomicU64,
    ahead: AtomicUsize,
}

impl Pressure {
    pub(super) fn is_tight(&self) -> bool {
        self.tight.load(Ordering::Acquire) > 0
    }

    /// Has the stream's reader woken when the last full queue has drained.
    pub(super) fn wake_when_eased(&self, reader: &Waker) {
        *lock(&self.reader) = Some(reader.clone());
    }

    /// Where the stream's reader is. russh reads and calls back in one task: what a callback sees is of the
    /// packet it is called for.
    pub fn reading(&self) -> Reading {
        Reading { number: self.reads.load(Ordering::Relaxed), ahead: self.ahead.load(Ordering::Relaxed) }
    }

    pub(super) fn has_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_ahead(&self, bytes: usize) {
        self.ahead.store(bytes, Ordering::Relaxed);
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
    eof: bool,
}

/// How full a queue is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub queued: usize,
    /// So full that its peer has to wait.
    pub stalled: bool,
    /// Nothing more comes: its peer has said so.
    pub over: bool,
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
        // After its end no more data comes (RFC 4254 5.3); what does goes nowhere.
        if queue.eof && matches!(item, Item::Data(_) | Item::Stderr(_) | Item::Eof) {
            return;
        }
        let cost = item.cost();
        queue.cost += cost;
        queue.eof |= matches!(item, Item::Eof);
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

    pub(super) fn room(&self) -> Room {
        let queue = lock(&self.queue);
        Room { queued: queue.cost, stalled: queue.cost > self.high, over: queue.eof }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        if lock(&self.queue).tight {
            self.pressure.ease();
        }
    }
}
