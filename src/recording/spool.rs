//! One running spool: a bounded queue in front of its file, and how far the file has come.
//!
//! The queue holds at most [`QUEUE`] bytes; a full one makes [`Spool::record`] wait in order of arrival.
//! A failure is final: the queue is dropped, every waiter is told, no later write is tried.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::file::{Batch, SpoolFile};
use super::withhold::{Item, Rule, weight};
use super::{Node, RecordError};
use crate::id::SessionId;
use crate::transcript::Event;

/// Bytes that wait in one spool's queue at most.
pub(super) const QUEUE: usize = 1024 * 1024;

/// A disk that does not take a batch in this time has failed.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Spool {
    pub(super) session: SessionId,
    pub(super) path: PathBuf,
    pub(super) node: Arc<Node>,
    /// Boot time at the start; events are counted from here.
    started: Duration,
    queue: Mutex<Queue>,
    /// Bytes of the queue that are free.
    room: Semaphore,
    progress: watch::Sender<Progress>,
    failure: OnceLock<Failure>,
    file: Mutex<SpoolFile>,
    handle: Arc<File>,
    dirty: AtomicBool,
}

/// What the watch carries: `recorded_through`, and that no more will come.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    written: u64,
    failed: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) error: RecordError,
    pub(super) kind: FailureKind,
}

/// What a failure says about the bytes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// A batch was not written; what is before it stands.
    Write,
    /// The kernel lost pages, or did not answer: nobody knows what stands.
    Sync,
}

#[derive(Debug)]
struct Queue {
    items: VecDeque<Item>,
    /// Room to give back when the item of that number is written.
    held: VecDeque<(u64, usize)>,
    pushed: u64,
    taken: u64,
    last_at: u64,
    rule: Rule,
    state: QueueState,
    /// With the writers, or waiting for one.
    scheduled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QueueState {
    Open,
    Closed,
}

impl Spool {
    pub(super) fn new(node: Arc<Node>, session: SessionId, path: PathBuf, file: SpoolFile, rule: Rule) -> Arc<Self> {
        let queue = Queue {
            items: VecDeque::new(),
            held: VecDeque::new(),
            pushed: 0,
            taken: 0,
            last_at: 0,
            rule,
            state: QueueState::Open,
            scheduled: false,
        };
        Arc::new(Self {
            session,
            path,
            node,
            started: crate::time::boottime(),
            queue: Mutex::new(queue),
            room: Semaphore::new(QUEUE),
            progress: watch::Sender::new(Progress::default()),
            failure: OnceLock::new(),
            handle: file.handle(),
            file: Mutex::new(file),
            dirty: AtomicBool::new(false),
        })
    }

    /// Queues the events and returns when they are written. Dropped while it waits for room, nothing
    /// was queued; dropped later, the events are written all the same.
    pub(super) async fn record(self: &Arc<Self>, events: Vec<Event>) -> Result<(), RecordError> {
        match tokio::time::timeout(DEADLINE, self.record_without_deadline(events)).await {
            Ok(done) => done,
            Err(_) => {
                self.fail(io::ErrorKind::TimedOut.into(), "could not write for 30 s to", FailureKind::Sync);
                Err(self.failure())
            }
        }
    }

    async fn record_without_deadline(self: &Arc<Self>, events: Vec<Event>) -> Result<(), RecordError> {
        if events.is_empty() {
            return if self.failure.get().is_some() { Err(self.failure()) } else { Ok(()) };
        }
        // More than the whole queue goes in alone.
        let room = events.iter().map(weight).sum::<usize>().min(QUEUE);
        match self.room.acquire_many(u32::try_from(room).unwrap_or(u32::MAX)).await {
            Ok(permit) => permit.forget(),
            Err(_closed) => return Err(self.failure()),
        }
        let last = self.push(events, room)?;
        self.written(last).await
    }

    /// Puts the events into the queue and wakes a writer; returns the number of the last item.
    fn push(self: &Arc<Self>, events: Vec<Event>, room: usize) -> Result<u64, RecordError> {
        let mut queue = lock(&self.queue);
        if queue.state == QueueState::Closed || self.failure.get().is_some() {
            drop(queue);
            self.room.add_permits(room);
            return Err(self.failure());
        }
        let since = crate::time::boottime().saturating_sub(self.started);
        let at = u64::try_from(since.as_micros()).unwrap_or(u64::MAX).max(queue.last_at);
        queue.last_at = at;
        let Queue { items, rule, pushed, held, .. } = &mut *queue;
        for event in events {
            rule.admit(event, |what| {
                items.push_back(Item { at, what });
                *pushed += 1;
            });
        }
        let last = *pushed;
        held.push_back((last, room));
        let wake = !std::mem::replace(&mut queue.scheduled, true);
        drop(queue);
        if wake {
            self.node.pool.ready(Arc::clone(self));
        }
        Ok(last)
    }

    /// Returns when items up to `number` are written.
    async fn written(&self, number: u64) -> Result<(), RecordError> {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|now| now.written >= number || now.failed).await.map(|now| now.written >= number);
        if reached.unwrap_or(false) { Ok(()) } else { Err(self.failure()) }
    }

    /// Returns when the spool has failed, never otherwise.
    pub(super) async fn failed(&self) -> RecordError {
        let mut progress = self.progress.subscribe();
        if progress.wait_for(|now| now.failed).await.is_err() {
            std::future::pending::<()>().await;
        }
        self.failure()
    }

    /// Takes no more events, and returns when those taken are written or the spool has failed.
    pub(super) async fn drain(&self) {
        let last = self.close();
        if tokio::time::timeout(DEADLINE, self.written(last)).await.is_err() {
            self.fail(io::ErrorKind::TimedOut.into(), "could not write for 30 s to", FailureKind::Sync);
        }
    }

    /// Takes no more events; returns the number of the last.
    pub(super) fn close(&self) -> u64 {
        let mut queue = lock(&self.queue);
        queue.state = QueueState::Closed;
        queue.pushed
    }

    /// Moves up to `bytes` of the queue's items to `batch`, at least one; returns the last one's number.
    pub(super) fn take(&self, bytes: usize, batch: &mut Vec<Item>) -> u64 {
        let mut queue = lock(&self.queue);
        let mut taken = 0;
        while taken < bytes
            && let Some(item) = queue.items.pop_front()
        {
            taken += item.weight();
            batch.push(item);
            queue.taken += 1;
        }
        queue.taken
    }

    /// Writes a batch that [`Spool::take`] gave; `encode` fills it in.
    pub(super) fn write(&self, batch: &mut Batch, encode: impl FnOnce(&mut Batch)) -> io::Result<()> {
        let mut file = lock(&self.file);
        file.open_batch(batch);
        encode(batch);
        file.append(batch)
    }

    /// Publishes that items up to `number` are written; says whether more are waiting. If none are, the
    /// spool is no longer with the writers.
    pub(super) fn advance(&self, number: u64) -> More {
        let (mut freed, mut queue) = (0, lock(&self.queue));
        while let Some((last, room)) = queue.held.front().copied()
            && last <= number
        {
            queue.held.pop_front();
            freed += room;
        }
        let more = if queue.items.is_empty() { More::No } else { More::Yes };
        queue.scheduled = more == More::Yes;
        drop(queue);
        self.room.add_permits(freed);
        // The next writer may have published already: never backwards, or its waiters would wait for ever.
        self.progress.send_modify(|progress| progress.written = progress.written.max(number));
        more
    }

    /// Ends the spool for good; the first failure stands.
    pub(super) fn fail(&self, source: io::Error, doing: &'static str, kind: FailureKind) {
        let error = RecordError::io(doing, &self.path, source);
        if self.failure.set(Failure { error, kind }).is_ok() {
            tracing::error!(session = %self.session, path = %self.path.display(), error = %describe(&self.failure()), "recording failed");
        }
        let mut queue = lock(&self.queue);
        queue.state = QueueState::Closed;
        queue.items.clear();
        queue.held.clear();
        drop(queue);
        self.room.close();
        self.progress.send_modify(|progress| progress.failed = true);
    }

    pub(super) fn why_failed(&self) -> Option<&Failure> {
        self.failure.get()
    }

    fn failure(&self) -> RecordError {
        self.failure.get().map_or(RecordError::Stopped, |failure| failure.error.clone())
    }

    /// Marks that there is something to sync; says whether that is new.
    pub(super) fn soil(&self) -> bool {
        !self.dirty.swap(true, Ordering::AcqRel)
    }

    /// Makes what was written until now durable; says whether it is. A failure is never tried again: the
    /// kernel reports a lost page once.
    pub(super) fn sync(&self) -> bool {
        // Before, not after: what is written meanwhile has to be synced again.
        self.dirty.store(false, Ordering::Release);
        match self.handle.sync_data() {
            Ok(()) => self.why_failed().is_none(),
            Err(error) => {
                self.fail(error, "could not sync", FailureKind::Sync);
                false
            }
        }
    }

    pub(super) fn file(&self) -> MutexGuard<'_, SpoolFile> {
        lock(&self.file)
    }

    /// Microseconds since the start, never before the last event.
    pub(super) fn now(&self) -> u64 {
        let since = crate::time::boottime().saturating_sub(self.started);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX).max(lock(&self.queue).last_at)
    }

    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
impl Spool {
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    pub(super) fn is_being_written(&self) -> bool {
        self.file.try_lock().is_err()
    }

    pub(super) fn free_room(&self) -> usize {
        self.room.available_permits()
    }

    /// Bytes that wait in the queue.
    pub(super) fn queued(&self) -> usize {
        lock(&self.queue).items.iter().map(Item::weight).sum()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.node.live.remove(self.session);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    Yes,
    No,
}

/// An error with its causes, on one line.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A writer that panicked leaves its spool failed; the lock itself guards nothing that it could break.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
