//! Hints that a request or its grant has changed, or that a session was killed. A hint may be late, double or lost (a slow reader
//! skips): whoever gets one, or none for a while, reads the row again and acts on that.

use tokio::sync::{broadcast, watch};

use crate::id::{RequestId, SessionId};

/// Hints kept for a slow reader; who lags further behind is told so and reads everything again.
const KEPT: usize = 1024;

#[derive(Debug, Clone)]
pub(super) struct Wake {
    hints: broadcast::Sender<RequestId>,
    kills: broadcast::Sender<SessionId>,
    /// Counts how often somebody was suspended, or no more.
    suspended: watch::Sender<u64>,
}

impl Wake {
    pub(super) fn new() -> Self {
        Self { hints: broadcast::Sender::new(KEPT), kills: broadcast::Sender::new(KEPT), suspended: watch::Sender::new(0) }
    }

    pub(super) fn all(&self, woken: impl Iterator<Item = RequestId>) {
        for id in woken {
            // Nobody listening is fine.
            self.hints.send(id).ok();
        }
    }

    pub(super) fn listen(&self) -> broadcast::Receiver<RequestId> {
        self.hints.subscribe()
    }

    pub(super) fn killed(&self, session: SessionId) {
        self.kills.send(session).ok();
    }

    pub(super) fn suspended(&self) {
        self.suspended.send_modify(|count| *count += 1);
    }

    pub(super) fn listen_suspended(&self) -> watch::Receiver<u64> {
        self.suspended.subscribe()
    }

    pub(super) fn listen_kills(&self) -> broadcast::Receiver<SessionId> {
        self.kills.subscribe()
    }
}
