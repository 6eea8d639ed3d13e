//! Requests from being made to being decided, and grants from being given to being used up.
//!
//! The rows in the store are the truth: every change is one compare-and-swap with its audit row; a
//! wake-up is a hint to read the row again. What a request says is read from its stored bytes, what a
//! person may decide from today's directory, at the decision and again when a session opens. Nobody
//! decides on their own request; a denial is final.

mod away;
mod decide;
mod end;
mod extend;
mod glass;
mod kill;
mod looking;
pub mod notices;
mod open;
mod rerule;
mod submit;
mod suspend;
mod turns;
mod view;
mod wait;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use crate::access::decision::{BadDecision, GrantedTerms, SignedDecision, Verdict};
use crate::access::request::BadRequest;
use crate::access::ruling::{Hold, Terms};
use crate::access::{Principal, Scope, Target, Want};
use crate::config::Directory;
use crate::id::{Digest, Login, Person, RequestId, ScheduleName, SessionId, WorkflowName};
use crate::store::clock::Clock;
use crate::store::{Store, StoreError};
use crate::time::{Timestamp, about};

pub use crate::store::grants::{GrantFilter, GrantRow, GrantState};
pub use crate::store::requests::{RequestFilter, RequestState};
pub use crate::store::waiters::Waiter;
pub use away::AwayError;
pub use extend::ExtendError;
pub use kill::KillError;
pub use rerule::{Reruled, session_fallen, session_longest};
pub use suspend::SuspendError;
pub use turns::turn_words;
pub use view::{GrantView, RequestView};
pub use wait::Waiting;

#[derive(Debug, Clone)]
pub struct Approvals {
    pub(crate) store: Store,
    /// The bastion's id in every signed document.
    pub(crate) bastion: String,
    pub(crate) clock: Clock,
    pub(crate) directory: watch::Receiver<Arc<Directory>>,
    /// Who has which card open.
    looking: looking::Looking,
}

/// What a connection, or a person ahead of one, asks for.
#[derive(Debug, Clone)]
pub struct Ask {
    pub targets: Vec<Arc<Target>>,
    pub login: Login,
    pub scope: Scope,
    pub holds: Vec<Hold>,
    pub terms: Terms,
    /// The bytes of exact commands in `scope`.
    pub commands: Vec<Vec<u8>>,
    pub stdin: bool,
    /// `None`: what the workflow offers.
    pub duration: Option<Duration>,
    pub once: bool,
    pub start: Option<Timestamp>,
    pub reason: Option<String>,
    pub waiter: Waiter,
    pub again: Again,
}

/// Whether somebody asks knowing that they were denied the same a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    No,
    Knowingly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    New,
    Existing,
}

/// What one session is to be opened on.
#[derive(Debug, Clone)]
pub struct Opening {
    pub session: SessionId,
    pub principal: Principal,
    pub target: Arc<Target>,
    pub address: SocketAddr,
    pub login: Login,
    pub want: Want,
    pub terms: Terms,
    /// Policy allows the command by its exact text: without approval it is bound into the certificate.
    pub by_text: bool,
    pub basis: Basis,
    /// The policy set that ruled so.
    pub policy: Digest,
}

#[derive(Debug, Clone)]
pub enum Basis {
    /// Policy permits without asking anybody.
    Permitted,
    /// An approved request; its grant is used.
    Approved(RequestId),
}

/// A decision as it comes in.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "one at a time, and short-lived")]
pub enum Said {
    Signed(Box<SignedDecision>),
    /// On an authenticated connection: an approval repeats the matching code.
    OnConnection {
        request: RequestId,
        approver: Principal,
        verdict: Verdict,
        code: Option<String>,
        terms: Option<GrantedTerms>,
        note: String,
    },
}

impl Said {
    pub fn verdict(&self) -> Verdict {
        match self {
            Said::Signed(signed) => signed.document().verdict,
            Said::OnConnection { verdict, .. } => *verdict,
        }
    }
}

impl Approvals {
    pub fn new(store: Store, bastion: String, clock: Clock, directory: watch::Receiver<Arc<Directory>>) -> Self {
        Self { store, bastion, clock, directory, looking: Default::default() }
    }

    /// A hint each time some request or grant changed: read the row again, then act.
    pub fn hints(&self) -> broadcast::Receiver<RequestId> {
        self.store.hints()
    }

    fn directory(&self) -> Arc<Directory> {
        self.directory.borrow().clone()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("your {0} pending requests")]
    TooManyOfYours(usize),
    #[error("{0} requests are pending on this bastion")]
    TooMany(usize),
    #[error("{by} denied {what} {} ago{}", about(*ago), quoted(note))]
    DeniedLately {
        request: RequestId,
        by: Person,
        note: String,
        ago: Duration,
        /// `this`, or the targets of it that were denied.
        what: String,
    },
    #[error("the reason does not fit: {0}")]
    Reason(String),
    #[error("{asked} is longer than can be granted here: ask for {longest} or less")]
    TooLong { asked: String, longest: String },
    #[error("a request names 1 to 500 targets, each once, not {0}")]
    Targets(usize),
    #[error("nothing is opened while the bastion's clock cannot be believed: {0}")]
    Clock(String),
    #[error("break-glass is not open to you there")]
    BreakGlass,
    #[error("{by} said no to it {} ago, and break-glass does not pass that: talk to them, or ask", about(*ago))]
    BreakGlassDenied { by: Person, ago: Duration },
    #[error("you have {0} approvals by break-glass that you have not used: connect, or withdraw some")]
    BreakGlassUnused(usize),
    #[error("nothing is asked for that somebody could approve")]
    Nothing,
    #[error("the command cannot be asked for exactly: {0}")]
    Command(&'static str),
    #[error("the request is too long; ask for fewer targets or commands at a time")]
    TooLarge,
    #[error("the workflow {0} is not in approvals.toml any more; connect again")]
    Workflow(WorkflowName),
    #[error("the stored request cannot be read")]
    Stored(#[from] BadRequest),
    #[error("the request cannot be stored")]
    Store(#[from] StoreError),
}

/// `: "freeze until 06:00"`
fn quoted(note: &str) -> String {
    if note.is_empty() { String::new() } else { format!(": \"{note}\"") }
}

#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    #[error("nothing is approved while the bastion's clock cannot be believed: {0}")]
    Clock(String),
    #[error("{0} is unknown or not yours")]
    Unknown(RequestId),
    #[error("no request has the digest {0}: what was signed is not what is asked")]
    NoSuchRequest(Digest),
    #[error("{0} is already {1}")]
    Already(RequestId, &'static str),
    #[error("{0} waits for its reason; nobody is asked before")]
    NoReasonYet(RequestId),
    #[error("{0} has no grant that could be revoked")]
    NotGranted(RequestId),
    #[error("nobody decides on their own request")]
    Own,
    #[error("you are not asked to decide {0}")]
    NotEligible(RequestId),
    #[error("{id} is for {now} to agree to first; you are asked after them")]
    NotYet { id: RequestId, now: String },
    #[error("{id} has what it needs from you and yours; it is for {now} now")]
    NotNeeded { id: RequestId, now: String },
    #[error("{request} needs {needs}; this one is of level {has}")]
    Level { request: RequestId, needs: &'static str, has: &'static str },
    #[error("the code does not match what {0} shows")]
    Code(RequestId),
    #[error("an approval cannot grant more than was asked: {0}")]
    More(String),
    #[error("with what others granted, nothing of {0} would be left")]
    NothingLeft(RequestId),
    #[error("the reason does not fit: {0}")]
    Reason(String),
    #[error("the decision is not for this bastion or not yours")]
    Decision(#[from] BadDecision),
    #[error("the stored request cannot be read")]
    Stored(#[from] BadRequest),
    #[error("the state cannot be read or written")]
    Store(#[from] StoreError),
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("nothing is opened while the bastion's clock cannot be believed: {0}")]
    Clock(String),
    #[error("no retention schedule {0} is known: its recording would have no end")]
    Schedule(ScheduleName),
    #[error("the grant {0} cannot be used: it {1}")]
    Unusable(RequestId, &'static str),
    #[error("the key {0}, or the certificate it came with, is not known here any more; connect again")]
    Key(String),
    #[error("the policy changed just now")]
    PolicyChanged,
    #[error("the opening cannot be recorded in the state")]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests;
