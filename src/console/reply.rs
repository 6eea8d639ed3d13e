//! What the console answers: typed values that serialise to stable JSON and render to text.
//!
//! The companion receives the same values over the wire and renders them itself; what it shows of a
//! request before signing comes from `document_b64` alone.

mod keys;
mod proof;

use serde::{Deserialize, Serialize};

use crate::access::canonical;
use crate::access::decision::{GrantedTerms, Level, Verdict};
use crate::access::request::{BadRequest, RequestDocument};
use crate::approvals::{RequestState, RequestView};
use crate::id::{Digest, Login, NotifierName, Person, RequestId, ScheduleName, SessionId, TargetId, WorkflowName};
use crate::store::decisions::DecisionRow;
use crate::time::Timestamp;

pub use keys::{Closed, KeysReply, Reader as KeyReader, WaitingLine};
pub use proof::{DecisionPart, ProofParts, SignerPart};

/// An answer to one verb.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Requests(Vec<Listed>),
    Request(Box<Card>),
    /// A request was made, joined, or decided while its maker waited.
    Asked(Box<Asked>),
    /// What would be asked: nothing was made.
    Would(Box<Would>),
    /// Policy asks nobody: nothing was made.
    Free(Vec<String>),
    Decided(Box<Decided>),
    /// Requests that can be decided together.
    Alike(Box<Alike>),
    Withdrawn(RequestId),
    Revoked(RequestId),
    ReasonGiven(RequestId),
    Grants(Vec<OpenGrant>),
    Targets(Vec<TargetLine>),
    Sessions(Vec<SessionLine>),
    Killed(Box<KilledLine>),
    Review(Vec<ReviewLine>),
    Reviewed(ReviewedLine),
    /// Somebody begins to watch; what they see follows.
    Watch(Box<WatchLine>),
    Seen(Vec<SeenLine>),
    Decision(Box<Issued>),
    Proof(Box<ProofParts>),
    Recording(Box<Evidence>),
    Checkpoint(Box<CheckpointLine>),
    AuditLog(Vec<AuditLine>),
    Auditors(Vec<AuditorLine>),
    /// A canary as an age file, base 64.
    Canary(String),
    Proven(Person),
    Keys(Box<KeysReply>),
    Policy(Box<PolicyText>),
    Held(Box<Held>),
    /// Ids of holds that ended.
    Released(Vec<String>),
    Retention(Box<RetentionState>),
    Plan(Vec<PlanLine>),
    Swept {
        marked: u64,
        erased: u64,
        held: u64,
        unverified: u64,
    },
    Drain(Drain),
    Away(AwayLine),
    Suspended(Box<SuspendedLine>),
    Unsuspended(Person),
    /// Lines of an exported log, in order; the last answer has none.
    AuditLines(Vec<String>),
    /// A file for a laptop.
    Setup(String),
    Whoami(Whoami),
    Status(Box<Status>),
    Help(String),
}

/// A request in one line; the matching code is not in listings. What is listed of its scope and times is
/// what was granted, once that is decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    pub request: RequestId,
    pub state: State,
    pub person: Person,
    pub source: String,
    pub login: Login,
    pub targets: Vec<TargetId>,
    pub scope: String,
    #[serde(rename = "for")]
    pub duration: String,
    pub once: bool,
    /// Not before.
    #[serde(with = "maybe_moment", default)]
    pub starts: Option<Timestamp>,
    /// Over by then, whenever it is used first.
    #[serde(with = "maybe_moment", default)]
    pub until: Option<Timestamp>,
    pub reason: String,
    #[serde(with = "moment")]
    pub made: Timestamp,
    #[serde(with = "moment")]
    pub expires: Timestamp,
    pub asked: Vec<Person>,
    pub approvers: Vec<Person>,
    pub waiters: u32,
    #[serde(with = "maybe_moment")]
    pub left: Option<Timestamp>,
    /// It was opened first; nobody had agreed.
    #[serde(default)]
    pub break_glass: bool,
    /// And some session on it waits for a review.
    #[serde(default)]
    pub unreviewed: bool,
    /// Who has its card open.
    #[serde(default)]
    pub looking: Vec<Person>,
}

/// A request with the bytes that are signed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    pub request: RequestId,
    pub state: State,
    /// RFC 8785 JSON; all that is shown of the request is read from here.
    #[serde(with = "canonical::b64", rename = "document_b64")]
    pub bytes: Vec<u8>,
    /// The same for whoever reads JSON; never read back.
    #[serde(skip_deserializing)]
    pub document: serde_json::Value,
    pub digest: Digest,
    pub code: String,
    pub level: Level,
    pub tracks: Vec<Track>,
    pub asked: Vec<Person>,
    /// Who is not asked now and why, and who is asked as well.
    #[serde(default)]
    pub turns: Vec<String>,
    /// What its workflows tell whoever decides.
    #[serde(default)]
    pub prompts: Vec<String>,
    pub granted: Option<GrantedTerms>,
    pub approvers: Vec<Person>,
    /// In the order they came.
    #[serde(default)]
    pub decisions: Vec<DecisionLine>,
    pub waiters: u32,
    #[serde(with = "maybe_moment")]
    pub left: Option<Timestamp>,
    /// What differs from what this person did lately. Not in the bytes: an approver looks twice.
    #[serde(default)]
    pub unusual: Vec<String>,
    /// Who may decide and has it open, beside whoever reads.
    #[serde(default)]
    pub looking: Vec<Person>,
}

/// What one person decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionLine {
    pub person: Person,
    pub verdict: Verdict,
    pub level: Level,
    /// `SHA256:…` of the key that signed; absent at level `connection`.
    pub key: Option<String>,
    pub note: String,
    pub granted: Option<GrantedTerms>,
    #[serde(with = "moment")]
    pub at: Timestamp,
}

impl DecisionLine {
    fn of(row: &DecisionRow) -> Self {
        Self {
            person: row.person.clone(),
            verdict: row.verdict,
            level: row.level,
            key: row.signed.as_ref().map(|signed| signed.key.clone()),
            note: row.note.clone(),
            granted: row.terms.clone(),
            at: row.at,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Track {
    pub workflow: WorkflowName,
    /// The stage that is asked, from 1; of so many.
    #[serde(default)]
    pub stage: u64,
    #[serde(default)]
    pub stages: u64,
    pub approvers: Vec<String>,
    pub have: Vec<Person>,
    pub quorum: u32,
    pub level: Level,
}

/// Where a request stands, as a word and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    #[serde(rename = "needs-reason")]
    NeedsReason,
    Pending,
    Approved,
    Denied {
        by: Person,
        note: String,
    },
    Withdrawn,
    Expired,
    Void,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub card: Card,
    /// It was there already, asked for by a connection or another call.
    pub joined: bool,
    /// Targets that were named but need nobody's yes.
    pub free: Vec<TargetId>,
    /// Which targets need which workflows, where not all need the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// Whether this answer came after waiting for the decision.
    pub waited: bool,
}

/// Targets of one request that need the same workflows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub workflows: Vec<WorkflowName>,
    pub targets: Vec<TargetId>,
}

/// What a request would ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Would {
    pub login: Login,
    pub targets: Vec<TargetId>,
    pub scope: String,
    pub workflows: Vec<WorkflowName>,
    pub free: Vec<TargetId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// A request and those that are like it, the one that was named first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alike {
    pub cards: Vec<Card>,
    /// What the bastion knows of their targets beside the signed bytes.
    pub targets: Vec<AlikeTarget>,
    /// Others are like it too, and stay: so many are decided at once.
    pub more: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlikeTarget {
    pub target: TargetId,
    pub labels: Vec<String>,
    /// Their person has opened it before.
    pub opened: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    pub verdict: Verdict,
    pub requests: Vec<Card>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenGrant {
    pub request: RequestId,
    pub person: Person,
    pub login: Login,
    pub targets: Vec<TargetId>,
    pub scope: String,
    #[serde(rename = "for")]
    pub duration: String,
    /// Not before.
    #[serde(with = "maybe_moment", default)]
    pub starts: Option<Timestamp>,
    /// Over by then, whenever it is used first.
    #[serde(with = "maybe_moment", default)]
    pub until: Option<Timestamp>,
    /// `None` until it is used for the first time.
    #[serde(with = "maybe_moment")]
    pub ends: Option<Timestamp>,
    /// It lapses when nobody uses it by then.
    #[serde(with = "moment")]
    pub use_by: Timestamp,
    /// `None`: as many as fit into the window.
    pub uses_left: Option<u32>,
    pub approvers: Vec<Person>,
}

/// A target that the person may ask for, and what policy says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetLine {
    /// A name, or a pattern: `*.staging`.
    pub target: String,
    pub aliases: Vec<TargetId>,
    pub labels: Vec<String>,
    pub login: Login,
    /// Actions that nobody has to agree to.
    pub free: Vec<String>,
    /// Actions that wait for these workflows.
    pub held: Vec<String>,
    pub workflows: Vec<WorkflowName>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionLine {
    pub session: SessionId,
    pub request: Option<RequestId>,
    pub person: Person,
    pub target: TargetId,
    pub login: Login,
    pub kind: String,
    /// Where a forward leads, or listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    pub source: String,
    pub serial: u64,
    pub record: String,
    #[serde(with = "moment")]
    pub started: Timestamp,
    /// When its time is over; `None` where policy sets no end.
    #[serde(with = "maybe_moment", default)]
    pub ends: Option<Timestamp>,
    #[serde(with = "maybe_moment")]
    pub ended: Option<Timestamp>,
    pub outcome: Option<String>,
    /// While it runs.
    #[serde(default)]
    pub live: Option<LiveLine>,
    pub sealed: Option<RecordingLine>,
    /// A crash left it to the auditors: nobody else can open what was recorded, nor seal it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits_for_auditor: bool,
    /// It was opened by break-glass, and nobody else has looked at it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreviewed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewed_by: Option<Person>,
}

/// A session that waits for a review.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewLine {
    pub session: SessionId,
    pub request: Option<RequestId>,
    pub person: Person,
    pub target: TargetId,
    pub login: Login,
    pub kind: String,
    #[serde(with = "moment")]
    pub started: Timestamp,
    #[serde(with = "maybe_moment")]
    pub ended: Option<Timestamp>,
    /// Why it was opened.
    pub reason: String,
}

/// A session that somebody has reviewed just now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewedLine {
    pub session: SessionId,
    pub person: Person,
    pub target: TargetId,
}

/// What goes through a running session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveLine {
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Since anything went through.
    pub idle_s: u64,
    /// Who watches openly.
    pub watchers: Vec<Person>,
}

/// A session that was ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KilledLine {
    pub session: SessionId,
    pub person: Person,
    pub target: TargetId,
    pub login: Login,
}

/// A session that is watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchLine {
    pub session: SessionId,
    pub person: Person,
    pub target: TargetId,
    pub login: Login,
    pub kind: String,
    #[serde(with = "moment")]
    pub started: Timestamp,
    /// Whether the person reads who watches.
    pub told: bool,
}

/// Something that a watcher sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum SeenLine {
    /// The terminal as it is: bytes that bring an emulator of this size there.
    Picture {
        cols: u32,
        rows: u32,
        #[serde(with = "canonical::b64", rename = "bytes_b64")]
        bytes: Vec<u8>,
    },
    Output {
        #[serde(with = "canonical::b64", rename = "bytes_b64")]
        bytes: Vec<u8>,
    },
    Resize {
        cols: u32,
        rows: u32,
    },
    /// An event of what is no terminal, microseconds after the start.
    Line {
        at_us: u64,
        text: String,
    },
    /// So much went by unseen, since it was read too slowly.
    Skipped {
        count: u64,
    },
    Ended {
        outcome: String,
    },
}

/// A sealed recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordingLine {
    pub session: SessionId,
    pub sha256: Digest,
    pub bytes: u64,
    /// Below the recordings' directory of the bastion.
    pub file: String,
}

/// A sealed recording, with everything that it is checked by. The bytes of its body follow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub session: SessionId,
    /// The manifest and its SSHSIG, as they lie beside the body.
    #[serde(with = "canonical::b64", rename = "manifest_b64")]
    pub manifest: Vec<u8>,
    pub signature: String,
    /// What follows; nothing where the recording has gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub body: Option<RecordingLine>,
    /// The recording's own key, encrypted to the auditors; absent in plain mode.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key_file_b64: Option<String>,
    /// The row of the audit log that says it was sealed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sealed: Option<LogRow>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expired: Option<Expired>,
}

/// A row of the audit log and its proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogRow {
    pub seq: u64,
    /// As it is hashed.
    pub line: String,
    /// RFC 6962 inclusion proof in the tree of the checkpoint.
    pub proof: Vec<Digest>,
    /// A signed note.
    pub checkpoint: String,
    /// RFC 6962 consistency proof from the rows that were said to be known to that tree.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub continues: Vec<Digest>,
}

/// The last signed state of the log, and the bastion's public keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointLine {
    pub bastion: String,
    /// A signed note.
    pub note: String,
    /// That it continues the size that was asked for; absent if it does not.
    pub proof: Option<Vec<Digest>>,
    /// The log's key, in the form of C2SP's signed notes.
    pub log_key: String,
    /// The key that manifests are signed with, as in `authorized_keys`.
    pub seal_key: String,
    /// The rows that say that the log was restored to fewer rows than were asked for, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub recovered: Vec<RecoveredRow>,
}

/// A `log.recovered`, and that it is in the tree of the checkpoint beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveredRow {
    /// As it is hashed.
    pub line: String,
    /// RFC 6962 inclusion proof.
    pub proof: Vec<Digest>,
}

/// Somebody whom recordings are encrypted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditorLine {
    pub auditor: Person,
    pub key: String,
    /// When they last showed that this key decrypts.
    #[serde(with = "maybe_moment")]
    pub proven: Option<Timestamp>,
}

/// Somebody who is away; `until` is `null` once they are back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AwayLine {
    pub person: Person,
    #[serde(with = "maybe_moment")]
    pub until: Option<Timestamp>,
    pub instead: Option<Person>,
}

/// Somebody who was suspended, and what that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuspendedLine {
    pub person: Person,
    pub by: Person,
    pub reason: String,
    #[serde(with = "moment")]
    pub at: Timestamp,
    pub sessions: Vec<SessionId>,
    pub requests: u64,
    pub grants: u64,
}

/// What everybody is told: when the bastion restarts, or that it does not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    #[serde(with = "maybe_moment")]
    pub at: Option<Timestamp>,
    pub reason: String,
    /// Sessions that run now.
    pub live: u64,
}

/// A policy set as it was loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyText {
    pub policy: Digest,
    #[serde(with = "moment")]
    pub loaded: Timestamp,
    pub files: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoldLine {
    pub hold: String,
    pub case: Option<String>,
    /// Its conditions in words.
    pub on: String,
    pub reason: String,
    pub attached: Option<Digest>,
    pub by: Person,
    #[serde(with = "moment")]
    pub placed: Timestamp,
}

/// A hold that was placed, and what it found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held {
    pub hold: HoldLine,
    pub held: u64,
    /// Already gone, lawfully; each has a certificate.
    pub gone: u64,
    /// The first of those.
    pub certificates: Vec<SessionId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetentionState {
    pub kept: u64,
    pub gone: u64,
    pub zone: String,
    pub grace: String,
    pub schedules: Vec<ScheduleLine>,
    pub bounds: Vec<String>,
    pub holds: Vec<HoldLine>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleLine {
    pub schedule: ScheduleName,
    pub keep_at_least: String,
    pub delete_after: String,
    pub default: bool,
}

/// A recording that goes soon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanLine {
    pub session: SessionId,
    pub person: Person,
    pub target: TargetId,
    pub schedule: ScheduleName,
    #[serde(with = "moment")]
    pub due: Timestamp,
    #[serde(with = "maybe_moment")]
    pub marked: Option<Timestamp>,
    pub held_by: Option<String>,
}

/// A row of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditLine {
    pub seq: u64,
    #[serde(with = "moment")]
    pub at: Timestamp,
    pub name: String,
    pub facts: serde_json::Value,
}

/// A recording that has lawfully gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expired {
    #[serde(with = "canonical::b64", rename = "certificate_b64")]
    pub certificate: Vec<u8>,
    pub signature: String,
    pub row: LogRow,
}

/// A decision's bytes, issued to be signed, and the card they are about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Issued {
    #[serde(with = "canonical::b64", rename = "decision_b64")]
    pub bytes: Vec<u8>,
    pub verdict: Verdict,
    pub card: Card,
    /// The other requests that the bytes name, and what is odd about all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<RequestId>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub oddities: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Whoami {
    pub person: Person,
    pub groups: Vec<crate::id::Group>,
    pub source: String,
    /// The key verified on this connection.
    pub key: String,
    pub keys: Vec<KeyLine>,
    /// The bastion's id in signed documents.
    pub bastion: String,
    pub host: String,
    #[serde(with = "moment")]
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyLine {
    pub fingerprint: String,
    pub algorithm: String,
}

/// How the node is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub ok: bool,
    pub troubles: Vec<Trouble>,
    pub version: String,
    /// Why the clock is not believed, if so.
    pub clock: Option<String>,
    /// Why nothing can be signed, if so.
    #[serde(default)]
    pub pen: Option<String>,
    /// Whether the kernel keeps the pen from files that are not its own (Landlock); absent while there is none.
    #[serde(default)]
    pub pen_landlock: Option<bool>,
    pub live_sessions: u64,
    pub pending_requests: u64,
    pub open_grants: u64,
    /// Of the recordings' file system.
    pub free_bytes: u64,
    pub floor_bytes: u64,
    /// Until the floor, at the rate of the last week; absent before there is one.
    pub days_left: Option<u64>,
    /// Sessions that have ended and are being sealed.
    pub sealing: u64,
    /// Those that could not be.
    pub unsealed: u64,
    /// Those that a crash left to the auditors.
    #[serde(default)]
    pub waiting_for_auditor: u64,
    /// Sessions that were opened by break-glass and wait for a review.
    #[serde(default)]
    pub unreviewed: u64,
    /// Recordings that are marked to go.
    pub marked: u64,
    /// Recordings that should have gone.
    pub overdue: u64,
    pub log_rows: u64,
    #[serde(with = "maybe_moment")]
    pub checkpoint: Option<Timestamp>,
    /// The oldest row that no checkpoint covers yet.
    #[serde(with = "maybe_moment")]
    pub unsigned_since: Option<Timestamp>,
    /// Auditors who did not show for 90 days that they can decrypt.
    pub unproved: std::collections::BTreeSet<Person>,
    #[serde(default)]
    pub notifiers: Vec<NotifierLine>,
    #[serde(default)]
    pub away: Vec<AwayLine>,
    #[serde(default)]
    pub suspended: Vec<BarredLine>,
}

/// Somebody who is let in no more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BarredLine {
    pub person: Person,
    pub by: Person,
    pub reason: String,
    #[serde(with = "moment")]
    pub at: Timestamp,
}

/// How a notifier does, since the bastion started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifierLine {
    pub notifier: NotifierName,
    pub delivered: u64,
    pub waiting: u64,
    /// Dropped from a full queue, the oldest first.
    pub dropped: u64,
    /// Tried in vain, or too late.
    pub lost: u64,
    /// Tries that failed since the last that did not.
    pub failed: u32,
    pub why: Option<String>,
}

/// Something that an operator has to do something about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// `clock`, `disk`, `seal`, `recover`, `disposal`, `checkpoint`, `auditors`, `notifier`, `review`
    pub what: String,
    pub why: String,
    pub fix: String,
}

/// Why something was not done: what, why, and the exact next command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what} {why}")]
pub struct Refusal {
    pub kind: RefusalKind,
    /// What was to be done, or to what: `deploy@web1`, `K7Q3FM`.
    pub what: String,
    /// Continues the sentence: `is unknown or not yours. Yours nearby: web-1`.
    pub why: String,
    pub next: Vec<Next>,
    /// Where to look: `ssh alice@bastion`.
    pub console: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    Usage,
    Refused,
    Undecided,
    Unavailable,
}

impl RefusalKind {
    /// Exit statuses of section 2.3 of the contract.
    pub fn status(self) -> u32 {
        match self {
            RefusalKind::Usage => 64,
            RefusalKind::Refused => 77,
            RefusalKind::Undecided => 75,
            RefusalKind::Unavailable => 69,
        }
    }
}

/// A command to type next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// A verb with its arguments, for the console and for the companion.
    Verb(String),
    /// A verb that only the companion can do.
    Companion(String),
    /// A whole line for the person's shell.
    Shell(String),
}

impl Card {
    pub fn of(view: &RequestView) -> Self {
        // Before the reason is known nothing is fixed: what is shown is only what they would be.
        let (bytes, code) = match view.state {
            RequestState::NeedsReason => (view.document.bytes(), String::new()),
            _ => (view.bytes.clone(), view.code.clone()),
        };
        Self {
            request: view.id,
            state: State::of(&view.state),
            digest: Digest::of(&bytes),
            bytes,
            document: serde_json::to_value(&view.document).unwrap_or_default(),
            code,
            level: view.level,
            tracks: view
                .tracks
                .iter()
                .map(|track| Track {
                    workflow: track.workflow.clone(),
                    stage: track.stage as u64 + 1,
                    stages: track.stages as u64,
                    approvers: track.approvers.clone(),
                    have: track.have.clone(),
                    quorum: track.quorum,
                    level: track.level,
                })
                .collect(),
            asked: view.asked.clone(),
            turns: view.turns.iter().filter_map(|turn| crate::approvals::turn_words(turn, view.seen)).collect(),
            prompts: view.prompts.clone(),
            granted: view.granted.clone(),
            approvers: view.approvers.clone(),
            decisions: view.decisions.iter().map(DecisionLine::of).collect(),
            waiters: view.waiters,
            left: view.left_at,
            unusual: Vec::new(),
            looking: view.looking.clone(),
        }
    }

    /// Reads what is asked from the bytes; they must be a request, canonical, and this one.
    pub fn read(&self) -> Result<RequestDocument, BadCard> {
        if Digest::of(&self.bytes) != self.digest {
            return Err(BadCard::Digest(self.request));
        }
        let document = RequestDocument::read(&self.bytes)?;
        if document.request != self.request {
            return Err(BadCard::Other { shown: document.request, asked: self.request });
        }
        Ok(document)
    }
}

/// A card whose bytes are not what the card says.
#[derive(Debug, thiserror::Error)]
pub enum BadCard {
    #[error("the bytes of {0} do not have the digest that the bastion names")]
    Digest(RequestId),
    #[error("the bytes are those of {shown}, not of {asked}")]
    Other { shown: RequestId, asked: RequestId },
    #[error("the bytes cannot be read as a request")]
    Form(#[from] BadRequest),
}

impl Listed {
    pub fn of(view: &RequestView) -> Self {
        let document = &view.document;
        let asked = document.asked();
        let terms = view.granted.as_ref().unwrap_or(&asked);
        Self {
            request: view.id,
            state: State::of(&view.state),
            person: document.person.clone(),
            source: document.source.clone(),
            login: document.login.clone(),
            targets: document.targets.iter().map(|target| target.id.clone()).collect(),
            scope: terms.scope.words(),
            duration: crate::time::short(std::time::Duration::from_micros(terms.for_us)),
            once: terms.once,
            starts: terms.starts(),
            until: terms.ends(),
            reason: document.reason.clone(),
            made: document.made(),
            expires: view.due,
            asked: view.asked.clone(),
            approvers: view.approvers.clone(),
            waiters: view.waiters,
            left: view.left_at,
            break_glass: document.break_glass,
            unreviewed: false,
            looking: view.looking.clone(),
        }
    }
}

impl State {
    pub fn of(state: &RequestState) -> Self {
        match state {
            RequestState::NeedsReason => State::NeedsReason,
            RequestState::Pending => State::Pending,
            RequestState::Approved => State::Approved,
            RequestState::Denied { by, note } => State::Denied { by: by.clone(), note: note.clone() },
            RequestState::Withdrawn => State::Withdrawn,
            RequestState::Expired => State::Expired,
            RequestState::Void => State::Void,
        }
    }

    /// Whether somebody can still decide.
    pub fn is_open(&self) -> bool {
        match self {
            State::NeedsReason | State::Pending => true,
            State::Approved | State::Denied { .. } | State::Withdrawn | State::Expired | State::Void => false,
        }
    }

    pub fn word(&self) -> &'static str {
        match self {
            State::NeedsReason => "needs-reason",
            State::Pending => "pending",
            State::Approved => "approved",
            State::Denied { .. } => "denied",
            State::Withdrawn => "withdrawn",
            State::Expired => "expired",
            State::Void => "void",
        }
    }
}

/// Moments in answers: RFC 3339 with microseconds, in UTC.
mod moment {
    use chrono::{DateTime, SecondsFormat};
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::Timestamp;

    pub fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&at.utc().to_rfc3339_opts(SecondsFormat::Micros, true))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(from)?;
        let at = DateTime::parse_from_rfc3339(&text).map_err(serde::de::Error::custom)?;
        Ok(Timestamp::from_micros(at.timestamp_micros()))
    }
}

mod maybe_moment {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::Timestamp;

    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::moment::serialize(at, to),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        #[derive(Deserialize)]
        struct Held(#[serde(with = "super::moment")] Timestamp);
        Ok(Option::<Held>::deserialize(from)?.map(|Held(at)| at))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::access::request::matching_code;

    /// The card of a request that waits, with bytes, digest and code as they belong together.
    pub(crate) fn pending(document: &RequestDocument, asked: &[&str]) -> Card {
        let bytes = document.bytes();
        let digest = Digest::of(&bytes);
        Card {
            request: document.request,
            state: State::Pending,
            document: serde_json::Value::Null,
            digest,
            code: matching_code(&digest),
            bytes,
            level: Level::Key,
            tracks: Vec::new(),
            asked: asked.iter().map(|name| name.parse().unwrap()).collect(),
            turns: Vec::new(),
            prompts: Vec::new(),
            granted: None,
            approvers: Vec::new(),
            decisions: Vec::new(),
            waiters: 1,
            left: None,
            unusual: Vec::new(),
            looking: Vec::new(),
        }
    }
}
