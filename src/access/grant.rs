//! The right to open one session now, as a value that cannot be forged.
//!
//! A [`Grant`] is made in `store/grants.rs` alone, by the transaction that used the grant's row up
//! (or recorded that policy asks nobody) and logged it. A certificate is signed only for a `&Grant`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::action::Want;
use super::principal::Principal;
use super::ruling::RecordLevel;
use super::target::Target;
use crate::id::{Login, Person, RequestId, SessionId};
use crate::retention::terms::Terms;
use crate::time::Timestamp;

/// What one session may do, on which host, until when. See the module for who makes it.
#[derive(Debug, Clone)]
pub struct Grant {
    opened: Opened,
}

/// The facts of an opening, as the transaction wrote them.
#[derive(Debug, Clone)]
pub struct Opened {
    pub session: SessionId,
    /// `None` where policy asked nobody.
    pub request: Option<RequestId>,
    pub principal: Principal,
    pub target: Arc<Target>,
    /// Resolved once, before anything was asked of the host.
    pub address: SocketAddr,
    pub login: Login,
    pub want: Want,
    /// The certificate carries the command as `force-command`, and the client may not choose another.
    pub exact: bool,
    /// Whether the client's standard input may reach an exact command.
    pub stdin: bool,
    /// A workflow that rescues is among those that agreed.
    pub rescue: bool,
    /// Nobody has agreed: it is recorded in full, and reviewed after.
    pub break_glass: bool,
    pub approvers: Vec<Person>,
    /// The length of the window, for what people read.
    pub granted_for: Duration,
    /// Wall time at which the session ends, whatever it does; `None` where policy sets no end.
    pub ends_at: Option<Timestamp>,
    /// How long the cut waits for an answer, where more time was asked for before the end.
    pub overrun: Duration,
    /// The certificate's serial, unique on this bastion.
    pub serial: u64,
    pub record: RecordLevel,
    /// What the schedules say of its recording, fixed now.
    pub retention: Terms,
    pub opened_at: Timestamp,
}

impl Grant {
    /// Only for the transaction in `store/grants.rs` (see `tests/architecture.rs`).
    pub(crate) fn opened(opened: Opened) -> Self {
        Self { opened }
    }
}

impl std::ops::Deref for Grant {
    type Target = Opened;
    fn deref(&self) -> &Opened {
        &self.opened
    }
}
