//! Requests from being made to being decided, and grants from being given to being used up.
//!
//! The rows in the store are the truth: every change is one compare-and-swap with its audit row; a
//! wake-up is a hint to read the row again. (stub: signatures only)

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::access::decision::{GrantedTerms, Level, SignedDecision, Verdict};
use crate::access::request::RequestDocument;
use crate::access::ruling::{Hold, Terms};
use crate::access::workflow::TrackState;
use crate::access::{Grant, Principal, Scope, Target, Want};
use crate::config::Directory;
use crate::id::{Digest, Login, Person, RequestId, SessionId};
use crate::store::Store;
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub struct Approvals {
    pub(crate) store: Store,
    /// The bastion's id in every signed document.
    pub(crate) bastion: String,
    pub(crate) directory: watch::Receiver<Arc<Directory>>,
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
}

/// Who waits for the decision, and so what a hang-up means (`users.md` 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiter {
    /// A person at a prompt: when the last one leaves, the request is void after 10 s.
    Shell,
    /// Anything else: when the last one leaves, it stays for the workflow's `linger`.
    Other,
    /// Made ahead: nobody waits; it lives to its expiry.
    Nobody,
}

/// Where a request stands; read from its row, shown from its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestState {
    /// Nobody is asked before a reason is given; the bytes are not fixed yet.
    NeedsReason,
    Pending,
    Approved,
    Denied {
        by: Person,
        note: String,
    },
    Withdrawn,
    Expired,
    /// The last waiter left, or policy changed.
    Void,
}

#[derive(Debug, Clone)]
pub struct RequestView {
    pub id: RequestId,
    pub state: RequestState,
    /// Read from the stored bytes; before the reason is known, what they will say without it.
    pub document: RequestDocument,
    pub bytes: Vec<u8>,
    /// Of `bytes`; meaningless while `NeedsReason`.
    pub digest: Digest,
    pub code: String,
    pub tracks: Vec<TrackState>,
    /// The strictest level that any track asks for.
    pub level: Level,
    /// Persons who may decide, never the requester.
    pub asked: Vec<Person>,
    /// When approved: what was granted, and by whom.
    pub granted: Option<GrantedTerms>,
    pub approvers: Vec<Person>,
    pub waiters: u32,
    /// When the last waiter left, if nobody waits.
    pub left_at: Option<Timestamp>,
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
    pub basis: Basis,
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

impl Approvals {
    pub fn new(store: Store, bastion: String, directory: watch::Receiver<Arc<Directory>>) -> Self {
        Self { store, bastion, directory }
    }

    /// Makes a request, or joins the pending one of equal scope (in one transaction).
    pub async fn submit(&self, _who: &Principal, _ask: Ask, _now: Timestamp) -> Result<(RequestId, Joined), SubmitError> {
        todo!()
    }

    /// Registers a waiter; dropping the guard without [`Waiting::leave`] is caught by the sweep.
    pub async fn wait(&self, _id: RequestId, _waiter: Waiter, _now: Timestamp) -> Result<Waiting, ApprovalError> {
        todo!()
    }

    pub async fn view(&self, _id: RequestId) -> Result<Option<RequestView>, ApprovalError> {
        todo!()
    }

    /// Fixes the bytes of a request that waits for its reason. Only its requester may.
    pub async fn give_reason(&self, _id: RequestId, _who: &Principal, _reason: &str, _now: Timestamp) -> Result<(), ApprovalError> {
        todo!()
    }

    /// Takes a decision: authority, level, quorum, deny final. Returns the requests' new state.
    pub async fn decide(&self, _said: Said, _approver: &Principal, _now: Timestamp) -> Result<Vec<RequestView>, ApprovalError> {
        todo!()
    }

    pub async fn withdraw(&self, _id: RequestId, _who: &Principal, _now: Timestamp) -> Result<(), ApprovalError> {
        todo!()
    }

    /// Ends a grant and every session on it; its requester, its approvers and who may approve may.
    pub async fn revoke(&self, _id: RequestId, _who: &Principal, _reason: &str, _now: Timestamp) -> Result<(), ApprovalError> {
        todo!()
    }

    /// Finds an open grant of this person, key, source, target and login that covers `want` and went
    /// through every workflow that today's ruling needs.
    pub async fn usable(
        &self,
        _who: &Principal,
        _target: &Target,
        _login: &Login,
        _want: &Want,
        _holds: &[Hold],
        _now: Timestamp,
    ) -> Result<Option<RequestId>, ApprovalError> {
        todo!()
    }

    /// Uses the grant (or records that policy asks nobody) in one transaction with the session's row,
    /// the certificate's serial and their audit rows. Returns the evidence bytes with the grant:
    /// canonical JSON of the request's bytes and every decision with its signature.
    pub async fn open(&self, _opening: Opening, _now: Timestamp) -> Result<(Grant, Vec<u8>), OpenError> {
        todo!()
    }

    /// Whether a live session's grant has been revoked; who and why.
    pub async fn revoked(&self, _id: RequestId) -> Result<Option<(Person, String)>, ApprovalError> {
        todo!()
    }

    /// A hint each time some request or grant changed: read the row again, then act.
    pub fn hints(&self) -> tokio::sync::broadcast::Receiver<RequestId> {
        todo!()
    }

    /// Expires and voids what is due; called every second by the node's one sweeper.
    pub async fn sweep(&self, _now: Timestamp) -> Result<(), ApprovalError> {
        todo!()
    }

    /// At start: whoever waited on the last boot has gone.
    pub async fn forget_waiters(&self, _now: Timestamp) -> Result<(), ApprovalError> {
        todo!()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    New,
    Existing,
}

/// One who waits for a request. [`Waiting::leave`] when they hang up.
#[derive(Debug)]
pub struct Waiting {
    pub id: RequestId,
}

impl Waiting {
    pub async fn leave(self, _now: Timestamp) -> Result<(), ApprovalError> {
        todo!()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("your {0} pending requests")]
    TooManyOfYours(usize),
    #[error("{0} requests are pending on this bastion")]
    TooMany(usize),
    #[error("the reason does not fit: {0}")]
    Reason(String),
    #[error("the request cannot be stored")]
    Store(#[from] crate::store::StoreError),
}

#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    #[error("{0} is unknown or not yours")]
    Unknown(RequestId),
    #[error("{0} is already {1}")]
    Already(RequestId, &'static str),
    #[error("nobody decides on their own request")]
    Own,
    #[error("you are not asked to decide {0}")]
    NotEligible(RequestId),
    #[error("{request} needs a decision of level {needs}, this one is {has}")]
    Level { request: RequestId, needs: &'static str, has: &'static str },
    #[error("the code does not match what {0} shows")]
    Code(RequestId),
    #[error("an approval cannot grant more than was asked: {0}")]
    More(String),
    #[error("the reason does not fit: {0}")]
    Reason(String),
    #[error("the stored request cannot be read")]
    Stored(#[from] crate::access::request::BadRequest),
    #[error("the state cannot be read or written")]
    Store(#[from] crate::store::StoreError),
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the grant {0} cannot be used: {1}")]
    Unusable(RequestId, &'static str),
    #[error("the opening cannot be recorded in the state")]
    Store(#[from] crate::store::StoreError),
}
