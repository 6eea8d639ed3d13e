//! The few threads that write and sync all spools; no session has a thread of its own.
//!
//! A spool with something in its queue stands once in `ready`; a writer takes a part of its queue, writes
//! it at once, publishes, and puts the spool at the end again if there is more. So one bulk copy cannot
//! hold up a keystroke for longer than a batch. What was written is synced half a second later by other
//! threads; a sync never stands between a write and its publication. Both lists hold a spool at most
//! once: the number of running recordings bounds them.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::Durability;
use super::file::Batch;
use super::spool::{FailureKind, More, Spool};
use super::withhold::{Item, What, weight};
use crate::id::Digest;
use crate::transcript::event::{Event, Stream};
use crate::transcript::record::{self, MAX_CHUNK};

/// Bytes of one spool that are written before the next spool has its turn.
const TURN: usize = 256 * 1024;

/// Withheld bytes under one digest at most.
const DIGEST_CHUNK: u64 = 1024 * 1024;

/// From a write to its fdatasync; together with the sync itself less than the promised second.
const SYNC_AFTER: Duration = Duration::from_millis(500);

/// Syncs wait for the disk, not for a core: side by side they share one commit of the journal.
const SYNCERS: usize = 4;

#[derive(Debug)]
pub(super) struct Pool {
    ready: Mutex<Ready>,
    wake: Condvar,
    dirty: Mutex<VecDeque<(Instant, Weak<Spool>)>>,
    soiled: Condvar,
}

#[derive(Debug, Default)]
struct Ready {
    spools: VecDeque<Arc<Spool>>,
    stopped: bool,
}

impl Pool {
    pub(super) fn start(writers: usize) -> io::Result<Arc<Self>> {
        let pool = Arc::new(Self {
            ready: Mutex::new(Ready::default()),
            wake: Condvar::new(),
            dirty: Mutex::new(VecDeque::new()),
            soiled: Condvar::new(),
        });
        let started = (0..writers.max(1))
            .try_for_each(|n| spawn(format!("record-{n}"), &pool, Pool::write))
            .and_then(|()| (0..SYNCERS).try_for_each(|n| spawn(format!("sync-{n}"), &pool, Pool::sync)));
        started.inspect_err(|_| pool.stop())?;
        Ok(pool)
    }

    /// Gives a spool to the writers; only who set its `scheduled` may.
    pub(super) fn ready(&self, spool: Arc<Spool>) {
        lock(&self.ready).spools.push_back(spool);
        self.wake.notify_one();
    }

    /// Lets the threads end; called when no recording is left.
    pub(super) fn stop(&self) {
        lock(&self.ready).stopped = true;
        self.wake.notify_all();
        self.soiled.notify_all();
    }

    fn write(&self) {
        let (mut items, mut batch) = (Vec::new(), Batch::default());
        while let Some(spool) = self.next_ready() {
            // A panic in here is a bug; it must cost this recording and not the thread of all.
            let turn = catch_unwind(AssertUnwindSafe(|| turn(&spool, &mut items, &mut batch)));
            items.clear();
            match turn {
                Ok(Ok(more)) => {
                    if spool.soil() {
                        self.due(&spool);
                    }
                    if more == More::Yes {
                        self.ready(spool);
                    }
                }
                Ok(Err(error)) => spool.fail(error, "could not write to", FailureKind::Write),
                Err(_) => spool.fail(io::Error::other("the writer panicked"), "could not write to", FailureKind::Sync),
            }
        }
    }

    fn next_ready(&self) -> Option<Arc<Spool>> {
        let mut ready = lock(&self.ready);
        loop {
            if let Some(spool) = ready.spools.pop_front() {
                return Some(spool);
            }
            if ready.stopped {
                return None;
            }
            ready = self.wake.wait(ready).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn due(&self, spool: &Arc<Spool>) {
        lock(&self.dirty).push_back((Instant::now() + SYNC_AFTER, Arc::downgrade(spool)));
        self.soiled.notify_one();
    }

    fn sync(&self) {
        while let Some((due, spool)) = self.next_dirty() {
            // The list is in order of time, so whatever comes after this one is due later.
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // A recording that ended meanwhile was synced by its end.
            if let Some(spool) = spool.upgrade() {
                spool.sync();
            }
        }
    }

    fn next_dirty(&self) -> Option<(Instant, Weak<Spool>)> {
        let mut dirty = lock(&self.dirty);
        loop {
            if let Some(next) = dirty.pop_front() {
                return Some(next);
            }
            if lock(&self.ready).stopped {
                return None;
            }
            dirty = self.soiled.wait(dirty).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn spawn(name: String, pool: &Arc<Pool>, run: fn(&Pool)) -> io::Result<()> {
    let pool = Arc::clone(pool);
    thread::Builder::new().name(name).spawn(move || run(&pool)).map(|_detached| ())
}

/// Writes one part of a spool's queue and publishes it.
fn turn(spool: &Spool, items: &mut Vec<Item>, batch: &mut Batch) -> io::Result<More> {
    let number = spool.take(TURN, items);
    spool.write(batch, |batch| encode(items, batch))?;
    if spool.node.settings.durability == Durability::Strict && !spool.sync() {
        return Ok(More::No);
    }
    Ok(spool.advance(number))
}

fn encode(items: &mut Vec<Item>, batch: &mut Batch) {
    let mut items = items.drain(..).peekable();
    while let Some(Item { at, what }) = items.next() {
        match what {
            What::Keep(Event::Bytes { stream, mut bytes }) => {
                while !bytes.is_empty() {
                    let chunk = bytes.split_to(bytes.len().min(MAX_CHUNK));
                    batch.record(|to| record::encode_event(at, &Event::Bytes { stream, bytes: chunk }, to));
                }
            }
            What::Keep(event) => batch.record(|to| record::encode_event(at, &event, to)),
            What::Count { stream, mut length } => {
                while let Some(more) = items.next_if(|next| matches!(next.what, What::Count { stream: s, .. } if s == stream)) {
                    length += more.withheld();
                }
                batch.record(|to| record::encode_event(at, &Event::Withheld { stream, length, sha256: None }, to));
            }
            What::Digest { stream, bytes } => {
                let mut chunk = Chunk::of(&bytes);
                while chunk.length < DIGEST_CHUNK
                    && let Some(Item { what: What::Digest { bytes, .. }, .. }) =
                        items.next_if(|next| matches!(next.what, What::Digest { stream: s, .. } if s == stream))
                {
                    chunk.take(&bytes);
                }
                batch.record(|to| record::encode_event(at, &chunk.event(stream), to));
            }
        }
    }
}

/// Withheld bytes under one digest.
struct Chunk {
    length: u64,
    sha256: Sha256,
}

impl Chunk {
    fn of(bytes: &Bytes) -> Self {
        let mut chunk = Self { length: 0, sha256: Sha256::new() };
        chunk.take(bytes);
        chunk
    }

    fn take(&mut self, bytes: &Bytes) {
        self.length += bytes.len() as u64;
        self.sha256.update(bytes);
    }

    fn event(self, stream: Stream) -> Event {
        Event::Withheld { stream, length: self.length, sha256: Some(Digest(self.sha256.finalize().into())) }
    }
}

impl Item {
    /// Bytes that writing it takes, roughly.
    pub(super) fn weight(&self) -> usize {
        match &self.what {
            What::Keep(event) => weight(event),
            What::Digest { bytes, .. } => bytes.len(),
            What::Count { .. } => 64,
        }
    }

    fn withheld(&self) -> u64 {
        match &self.what {
            What::Keep(_) => 0,
            What::Digest { bytes, .. } => bytes.len() as u64,
            What::Count { length, .. } => *length,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
