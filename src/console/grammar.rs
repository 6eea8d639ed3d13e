//! The verbs that console and companion share: one grammar, which is also the wire's.
//!
//! A [`Verb`] comes from a console line, from the companion's arguments or as JSON from the wire; it
//! is the same value each time, and `execute` is the only one who acts on it.

mod auditors;
mod less;
mod people;
mod policy;
mod targets;
mod typed;

use clap::{Args, Parser, Subcommand};
use serde::{Deserialize, Serialize};

use super::words;
use crate::access::decision::Verdict;
use crate::access::request::{MAX_REASON, MAX_TARGETS};
use crate::id::{Digest, Person, RequestId, SessionId};
use crate::retention::hold::Pattern;

pub use auditors::{AuditorsArgs, AuditorsWhat, KeysWhat, RecoverArgs, RewrapArgs};
pub use less::{Less, Part};
pub use people::{AwayArgs, SuspendArgs, UnsuspendArgs, Until};
pub use policy::{ExplainArgs, PolicyArgs, PolicyWhat};
pub use targets::{From, ImportArgs, PinArgs, TargetsArgs, TargetsWhat};
pub use typed::{Destination, Moment, SessionWord, Since, Span, Start, Word};

/// One console line.
#[derive(Debug, Parser)]
#[command(name = "countersign", bin_name = "", no_binary_name = true, disable_version_flag = true, disable_help_subcommand = true)]
#[command(about = "Hold, approve, record: the console of this bastion")]
pub struct Line {
    /// Answer as JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What a person can do besides opening sessions.
#[derive(Debug, Clone, PartialEq, Subcommand, Serialize, Deserialize)]
#[serde(tag = "verb", content = "args", rename_all = "snake_case", deny_unknown_fields)]
pub enum Verb {
    /// Ask ahead of connecting
    Request(RequestArgs),
    /// What waits for a decision, and what was decided
    Requests(RequestsArgs),
    /// Exactly what is asked, read from the bytes that are signed
    Show {
        request: RequestId,
        /// Write what was signed, with the keys and the rows of the log, as files that prove it
        #[arg(long)]
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        proof: bool,
        /// Where: a new directory, or a new FILE.tar
        #[arg(short, long, value_name = "DIR|FILE.tar", requires = "proof")]
        #[serde(skip)]
        output: Option<std::path::PathBuf>,
    },
    /// Say yes
    Approve(ApproveArgs),
    /// Say no; final
    Deny {
        #[arg(required = true, value_name = "REQ")]
        requests: Vec<RequestId>,
        /// And all that are like it: same person, login, classes, reason, workflows
        #[arg(long)]
        #[serde(default)]
        like: bool,
        /// Why; the requester reads it
        #[arg(long, default_value = "")]
        #[serde(default)]
        note: String,
    },
    /// Take a request of yours back
    Withdraw { request: RequestId },
    /// Approvals that are open now
    Grants(MineArgs),
    /// End an approval and every session on it
    Revoke {
        request: RequestId,
        #[arg(long, default_value = "")]
        #[serde(default)]
        reason: String,
    },
    /// Ask for more time on an approval that runs
    Extend(ExtendArgs),
    /// What I may ask for
    Targets(TargetsArgs),
    /// What was recorded
    Sessions(SessionsArgs),
    /// Play a recording
    Replay(ReplayArgs),
    /// Look on while a session runs
    Watch {
        /// A running session, the beginning of one, a request, or `last`
        session: SessionWord,
    },
    /// End a running session, whatever it runs on
    Kill {
        /// A running session, the beginning of one, a request, or `last`
        session: SessionWord,
        /// Why; the person reads it. May take the rest of the line
        #[arg(long, required = true)]
        reason: String,
    },
    /// What was opened by break-glass and waits for somebody to look at it
    Review,
    /// Say that you have looked at a session that was opened by break-glass
    Reviewed(ReviewedArgs),
    /// Check recordings: a session, a file on this machine, or all
    Verify(VerifyArgs),
    /// Take a recording out, decrypted, as a file of yours
    Export(ExportArgs),
    /// The audit log
    Audit(AuditArgs),
    /// Keep recordings whatever their schedule says
    Hold(HoldArgs),
    /// End a hold
    Release(ReleaseArgs),
    /// What goes when, and why
    Retention(RetentionArgs),
    /// Who reads recordings, and whether they still can
    Auditors(AuditorsArgs),
    /// What a digest of policies stands for; what policies of a directory say
    Policy(PolicyArgs),
    /// Tell everybody when this bastion restarts; it stops by itself then
    Drain(DrainArgs),
    /// I am away, or there again: whom requests ask
    Away(AwayArgs),
    /// Let a person in no more, at once: ends and voids what is theirs
    Suspend(SuspendArgs),
    /// Let a suspended person in again
    Unsuspend(UnsuspendArgs),
    /// Give the reason that a request waits for
    Reason {
        request: RequestId,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Print the bytes of a decision, to be signed with ssh-keygen
    Decision(DecisionArgs),
    /// Bring the signature of the decision printed last, on standard input
    Submit {
        request: RequestId,
        /// From standard input: SSHSIG, PEM.
        #[arg(skip)]
        #[serde(default)]
        signature: String,
    },
    /// The files that make a laptop reach everything of yours through here
    Setup(SetupArgs),
    /// Who I am here, and my keys
    Whoami,
    /// How the bastion is; fails where somebody has to do something
    Status,
    /// These lines
    Help,
    /// A request and those that are like it, to be decided together: the companion's own `--like`.
    #[command(skip)]
    Alike { request: RequestId },
    /// A canary for the auditor who is here.
    #[command(skip)]
    Canary,
    /// The canary, decrypted.
    #[command(skip)]
    Proven { canary_b64: String },
    /// Keys of recordings on their way between bastion and auditor: the companion's own `auditors`.
    #[command(skip)]
    Keys(KeysWhat),
    /// The last signed state of the log, and the proof that it continues an earlier one.
    #[command(skip)]
    Checkpoint { from: u64 },
    /// A recording with what it is checked by: the companion's own `replay`, `export` and `verify`.
    #[command(skip)]
    Fetch {
        session: SessionWord,
        purpose: Purpose,
        /// Rows of the log that whoever asks has seen signed: the proofs continue from there.
        #[serde(default)]
        from: u64,
    },
    /// What a proof is made of: the companion's own `show --proof`.
    #[command(skip)]
    Proof {
        request: RequestId,
        /// Rows of the log that whoever asks has seen signed.
        #[serde(default)]
        from: u64,
    },
    /// A decision with its signature: the companion's own `approve` and `deny`.
    #[command(skip)]
    Decide { document_b64: String, signature: String },
}

/// What a recording is fetched for; the log names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    Replay,
    Export,
    Verify,
    /// Its key file and manifest alone, to wrap its key anew.
    Rewrap,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestArgs {
    /// LOGIN@TARGET, several with the same login; LOGIN@- for names on standard input, 'LOGIN@web-*' for all of mine like that
    #[arg(required = true, value_name = "LOGIN@TARGET")]
    pub targets: Vec<Destination>,
    /// How long, from first use
    #[arg(long = "for", value_name = "30m")]
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Span>,
    /// Why; may take the rest of the line
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Ask for exactly this command
    #[arg(long, value_name = "COMMAND")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<String>,
    /// Ask for what a tool needs, by the name that approvals.toml gives: vscode
    #[arg(long, value_name = "NAME", conflicts_with = "exec")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// For one session only
    #[arg(long)]
    #[serde(default)]
    pub once: bool,
    /// Not before (22:00, UTC, or RFC 3339)
    #[arg(long, value_name = "22:00")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Wait for the decision
    #[arg(long)]
    #[serde(default)]
    pub wait: bool,
    /// Open at once, where policy lets you: everybody is told, and somebody else reviews it after
    #[arg(long)]
    #[serde(default)]
    pub break_glass: bool,
    /// Ask although the same was denied a moment ago
    #[arg(long)]
    #[serde(default)]
    pub again: bool,
    /// Only say what would be asked, of which targets
    #[arg(long)]
    #[serde(default)]
    pub dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewedArgs {
    /// A session, the beginning of one, or the request that it ran on
    pub session: SessionWord,
    /// What you found; may take the rest of the line
    #[arg(long, required = true)]
    pub note: String,
}

#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExtendArgs {
    /// A request, or a session on it; the only one that runs, where none is named
    #[arg(value_name = "REQ|SES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// How much longer; what its workflow offers, where nothing is said
    #[arg(long = "for", value_name = "15m")]
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub duration: Option<Span>,
    /// Why; as before, where nothing is said. May take the rest of the line
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Wait for the decision
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestsArgs {
    /// Only what waits for a decision
    #[arg(long)]
    pub pending: bool,
    /// Only what I asked for
    #[arg(long)]
    pub mine: bool,
    /// Stay, and list again whenever something changes
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproveArgs {
    /// One request or several; behind each the code on the requester's screen, needed where the decision is not signed
    #[arg(required = true, value_name = "REQ [CODE]")]
    pub what: Vec<Word>,
    /// And all that are like it: same person, login, classes, reason, workflows
    #[arg(long)]
    #[serde(default)]
    pub like: bool,
    /// The code of the list as it was shown, needed with --like where the decision is not signed
    #[arg(long, value_name = "LIST")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
    #[command(flatten)]
    #[serde(default)]
    pub less: Less,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionArgs {
    pub request: RequestId,
    #[arg(value_parser = verdict, value_name = "approve|deny")]
    pub verdict: Verdict,
    /// And all that are like it: same person, login, classes, reason, workflows
    #[arg(long)]
    #[serde(default)]
    pub like: bool,
    #[command(flatten)]
    #[serde(default)]
    pub less: Less,
}

#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MineArgs {
    /// Only mine
    #[arg(long)]
    pub mine: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionsArgs {
    /// Only what is running
    #[arg(long)]
    pub live: bool,
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<Person>,
    #[arg(long, value_name = "TARGET")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Only what began within this long
    #[arg(long, value_name = "1d")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Span>,
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// Only what began before this one: the next page
    #[arg(long, value_name = "SES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<SessionId>,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayArgs {
    /// A session, the beginning of one, a request, or `last`
    pub session: SessionWord,
    /// Times as fast
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    #[serde(default = "as_it_was")]
    pub speed: f64,
    /// Cut pauses to this
    #[arg(long, value_name = "2s")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Span>,
    /// Begin here
    #[arg(long, value_name = "1m20s")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Span>,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyArgs {
    /// A session, the beginning of one, a request, `last`; a file: the body or its manifest; or what `show --proof` wrote
    #[arg(value_name = "SES|FILE|PROOF", required_unless_present = "all")]
    pub what: Option<String>,
    /// Every recording that I may replay
    #[arg(long, conflicts_with = "what")]
    #[serde(default)]
    pub all: bool,
    /// For a file: the key file that belongs to it
    #[arg(long, value_name = "FILE")]
    #[serde(default)]
    pub key_file: Option<std::path::PathBuf>,
    /// For a proof: the key of the bastion's log, as `audit export` prints it
    #[arg(long, value_name = "FILE")]
    #[serde(default)]
    pub log_key: Option<std::path::PathBuf>,
    /// For a file: the bastion's seal key, as in keys/allowed_signers.pub
    #[arg(long, value_name = "FILE")]
    #[serde(default)]
    pub seal_key: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportArgs {
    pub session: SessionWord,
    /// cast: asciicast v2, for any player; text: what was on the screen
    #[arg(long, value_name = "cast|text", default_value = "cast")]
    pub format: Format,
    /// Write here instead of to standard output
    #[arg(short, long, value_name = "FILE")]
    #[serde(default)]
    pub output: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Cast,
    Text,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldArgs {
    /// One session; or conditions, which reach what comes later too
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionWord>,
    /// The name of the matter
    #[arg(long, value_name = "LIT-14")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    #[arg(long, conflicts_with = "session")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<Person>,
    /// A target's name, with * for any characters
    #[arg(long, value_name = "pay-*", conflicts_with = "session")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Pattern>,
    /// Sessions that were live then or later
    #[arg(long, value_name = "2026-05-01", conflicts_with = "session")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Moment>,
    /// Sessions that were live then or earlier
    #[arg(long, value_name = "2026-06-01", conflicts_with = "session")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// Why; may take the rest of the line
    #[arg(long, required = true)]
    pub reason: String,
    /// A document that belongs to it; its SHA-256 is kept, the document is not
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub attach: Option<std::path::PathBuf>,
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<Digest>,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseArgs {
    /// A hold's id, or the session that was held
    #[arg(value_name = "HOLD|SES")]
    pub hold: String,
    #[arg(long, required = true)]
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetupArgs {
    /// config: for Include in ~/.ssh/config; known_hosts: what it points at
    #[arg(value_name = "config|known_hosts")]
    pub what: SetupWhat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetupWhat {
    Config,
    #[value(name = "known_hosts", alias = "known-hosts")]
    KnownHosts,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionArgs {
    #[command(subcommand)]
    pub what: RetentionWhat,
}

#[derive(Debug, Clone, PartialEq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RetentionWhat {
    /// Schedules, holds, how much is kept
    Show,
    /// What goes soon, and what a hold keeps
    Plan(PlanArgs),
    /// Look for what is due now; the bastion does so by itself
    Run,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanArgs {
    /// How far to look ahead
    #[arg(long, value_name = "30d", default_value = "30d")]
    pub within: Span,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditArgs {
    #[command(subcommand)]
    pub what: AuditWhat,
}

#[derive(Debug, Clone, PartialEq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AuditWhat {
    /// The newest rows
    Log(AuditLogArgs),
    /// The whole log with its checkpoints, to be kept and verified anywhere
    Export,
    /// Check an exported log on this machine
    Verify(AuditVerifyArgs),
}

#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditLogArgs {
    /// Only this kind: session, session.open, certificate …
    #[arg(value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[arg(long, value_name = "1d")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Span>,
    /// Only rows that mention this: a session, a request, a person, a digest
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// At most so many
    #[arg(long, short = 'n', default_value_t = 50)]
    pub limit: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditVerifyArgs {
    /// What `audit export` wrote; without it the bastion's log is fetched
    pub file: Option<std::path::PathBuf>,
    /// The log's key, as the companion keeps it or `audit export` prints it: NAME+HASH+KEY
    #[arg(long, value_name = "VKEY")]
    pub log_key: Option<String>,
    /// A checkpoint that was kept: the log has to continue it
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrainArgs {
    /// When sessions end (22:10, UTC, or RFC 3339)
    #[arg(long, value_name = "22:10", required_unless_present = "cancel", conflicts_with = "cancel")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Start>,
    /// Why; everybody reads it
    #[arg(long, default_value = "")]
    pub reason: String,
    /// It does not restart after all
    #[arg(long)]
    #[serde(skip)]
    pub cancel: bool,
}

impl ApproveArgs {
    /// The requests, each with the code that stands behind it.
    pub fn said(&self) -> Vec<(RequestId, Option<&str>)> {
        let mut said: Vec<(RequestId, Option<&str>)> = Vec::new();
        for word in &self.what {
            match (word, said.last_mut()) {
                (Word::Request(id), _) => said.push((*id, None)),
                (Word::Code(code), Some((_, known))) => *known = Some(code),
                (Word::Code(_), None) => {}
            }
        }
        said
    }

    pub fn requests(&self) -> Vec<RequestId> {
        self.said().into_iter().map(|(id, _)| id).collect()
    }
}

/// Checks requests that are decided together.
fn many(requests: &[RequestId], like: bool) -> Result<(), String> {
    match requests {
        [] => Err("name a request, such as K7Q3FM".into()),
        [_, _, ..] if like => Err("--like takes one request: all that are like it are decided with it".into()),
        some if some.len() > MAX_TARGETS => Err(format!("{} requests at once are too many: at most {MAX_TARGETS}", some.len())),
        some if some.iter().collect::<std::collections::BTreeSet<_>>().len() < some.len() => Err("a request is named twice".into()),
        _ => Ok(()),
    }
}

fn as_it_was() -> f64 {
    1.0
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.01..=1000.0).contains(&speed) => Ok(speed),
        Ok(_) | Err(_) => Err(format!("{text:?} is not a speed: write a number from 0.01 to 1000")),
    }
}

fn verdict(text: &str) -> Result<Verdict, String> {
    match text {
        "approve" => Ok(Verdict::Approve),
        "deny" => Ok(Verdict::Deny),
        _ => Err("write approve or deny".into()),
    }
}

/// What is wrong with a console line, or the help that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAVerb {
    Help(String),
    Usage(String),
}

/// Reads a console line; an empty one is no verb.
pub fn parse(line: &str) -> Result<Line, NotAVerb> {
    let words = words::split(line).map_err(|bad| NotAVerb::Usage(bad.to_string()))?;
    let parsed = Line::try_parse_from(words).map_err(|error| match error.kind() {
        clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            NotAVerb::Help(error.to_string())
        }
        _ => NotAVerb::Usage(error.to_string()),
    })?;
    if let Some(verb) = &parsed.verb {
        verb.check().map_err(NotAVerb::Usage)?;
    }
    Ok(parsed)
}

impl Verb {
    pub fn show(request: RequestId) -> Self {
        Verb::Show { request, proof: false, output: None }
    }

    /// Checks what the types cannot say; also for what comes over the wire.
    pub fn check(&self) -> Result<(), String> {
        let fits = |what: &str, text: &str, most: usize| {
            if text.len() > most { Err(format!("the {what} is {} bytes long, at most {most} fit", text.len())) } else { Ok(()) }
        };
        match self {
            Verb::Request(args) => {
                if args.targets.len() > MAX_TARGETS || args.targets.is_empty() {
                    return Err(format!("a request names 1 to {MAX_TARGETS} targets, not {}", args.targets.len()));
                }
                fits("reason", args.reason.as_deref().unwrap_or(""), MAX_REASON)?;
                fits("preset's name", args.preset.as_deref().unwrap_or(""), 64)?;
                if args.preset.is_some() && args.exec.is_some() {
                    return Err("a preset and an exact command are two requests".into());
                }
                fits("command", args.exec.as_deref().unwrap_or(""), 32 * 1024)?;
                if args.exec.as_deref().is_some_and(|command| command.is_empty() || command.contains('\0')) {
                    return Err("the command is empty or holds a NUL".into());
                }
                if args.targets.windows(2).any(|pair| matches!(pair, [a, b] if a.login != b.login)) {
                    return Err("all targets of one request have the same login; make one request each".into());
                }
                Ok(())
            }
            Verb::Extend(args) => fits("reason", args.reason.as_deref().unwrap_or(""), MAX_REASON),
            Verb::Reason { words, .. } => fits("reason", &words.join(" "), MAX_REASON),
            Verb::Deny { requests, like, note } => {
                many(requests, *like)?;
                fits("note", note, MAX_REASON)
            }
            Verb::Revoke { reason: note, .. } => fits("note", note, MAX_REASON),
            Verb::Kill { reason, .. } => {
                if reason.trim().is_empty() {
                    return Err("the reason is empty: write --reason and why".into());
                }
                fits("reason", reason, MAX_REASON)
            }
            Verb::Reviewed(args) => {
                if args.note.trim().is_empty() {
                    return Err("the note is empty: write --note and what you found".into());
                }
                fits("note", &args.note, MAX_REASON)
            }
            Verb::Hold(args) => {
                fits("case", args.case.as_deref().unwrap_or(""), 100)?;
                fits("reason", &args.reason, MAX_REASON)
            }
            Verb::Release(args) => fits("reason", &args.reason, MAX_REASON),
            Verb::Drain(args) => fits("reason", &args.reason, 200),
            Verb::Away(args) => {
                if args.back == args.until.is_some() || (args.back && args.instead.is_some()) {
                    return Err("write --until MON, or --back".into());
                }
                Ok(())
            }
            Verb::Suspend(args) => {
                fits("person's name", &args.person, 64)?;
                fits("reason", &args.reason, MAX_REASON)
            }
            Verb::Unsuspend(args) => fits("reason", &args.reason, MAX_REASON),
            Verb::Proven { canary_b64 } => fits("canary", canary_b64, 256),
            Verb::Keys(what) => what.check(),
            Verb::Approve(args) => {
                many(&args.requests(), args.like)?;
                fits("list", args.shown.as_deref().unwrap_or(""), 64)?;
                fits("note", &args.less.note, MAX_REASON)
            }
            Verb::Decision(args) => fits("note", &args.less.note, MAX_REASON),
            Verb::Submit { signature, .. } => fits("signature", signature, crate::access::decision::MAX_SIGNATURE),
            Verb::Decide { document_b64, signature } => {
                fits("decision", document_b64, 2 * crate::access::canonical::MAX_BYTES)?;
                fits("signature", signature, crate::access::decision::MAX_SIGNATURE)
            }
            Verb::Replay(args) => speed(&args.speed.to_string()).map(|_| ()),
            Verb::Requests(_)
            | Verb::Show { .. }
            | Verb::Proof { .. }
            | Verb::Alike { .. }
            | Verb::Withdraw { .. }
            | Verb::Grants(_)
            | Verb::Targets(_)
            | Verb::Sessions(_)
            | Verb::Watch { .. }
            | Verb::Fetch { .. }
            | Verb::Checkpoint { .. }
            | Verb::Verify(_)
            | Verb::Export(_)
            | Verb::Audit(_)
            | Verb::Retention(_)
            | Verb::Policy(_)
            | Verb::Auditors(_)
            | Verb::Canary
            | Verb::Setup(_)
            | Verb::Whoami
            | Verb::Review
            | Verb::Status
            | Verb::Help => Ok(()),
        }
    }

    /// Whether who asks waits for the decision.
    pub fn waits(&self) -> bool {
        matches!(self, Verb::Request(RequestArgs { wait: true, .. }) | Verb::Extend(ExtendArgs { wait: true, .. }))
    }

    /// The verb's name, as typed.
    pub fn name(&self) -> &'static str {
        match self {
            Verb::Request(_) => "request",
            Verb::Extend(_) => "extend",
            Verb::Requests(_) => "requests",
            Verb::Show { .. } => "show",
            Verb::Proof { .. } => "proof",
            Verb::Approve(_) => "approve",
            Verb::Deny { .. } => "deny",
            Verb::Withdraw { .. } => "withdraw",
            Verb::Grants(_) => "grants",
            Verb::Revoke { .. } => "revoke",
            Verb::Targets(_) => "targets",
            Verb::Sessions(_) => "sessions",
            Verb::Replay(_) => "replay",
            Verb::Watch { .. } => "watch",
            Verb::Kill { .. } => "kill",
            Verb::Reason { .. } => "reason",
            Verb::Decision(_) => "decision",
            Verb::Submit { .. } => "submit",
            Verb::Setup(_) => "setup",
            Verb::Whoami => "whoami",
            Verb::Review => "review",
            Verb::Reviewed(_) => "reviewed",
            Verb::Status => "status",
            Verb::Help => "help",
            Verb::Fetch { .. } => "fetch",
            Verb::Checkpoint { .. } => "checkpoint",
            Verb::Verify(_) => "verify",
            Verb::Export(_) => "export",
            Verb::Audit(_) => "audit",
            Verb::Hold(_) => "hold",
            Verb::Release(_) => "release",
            Verb::Retention(_) => "retention",
            Verb::Policy(_) => "policy",
            Verb::Drain(_) => "drain",
            Verb::Away(_) => "away",
            Verb::Suspend(_) => "suspend",
            Verb::Unsuspend(_) => "unsuspend",
            Verb::Auditors(_) => "auditors",
            Verb::Alike { .. } => "alike",
            Verb::Canary => "canary",
            Verb::Proven { .. } => "proven",
            Verb::Keys(_) => "keys",
            Verb::Decide { .. } => "decide",
        }
    }
}

/// The console's help, every verb with its one line.
pub fn help() -> String {
    use clap::CommandFactory;
    let mut text = String::new();
    for verb in Line::command().get_subcommands() {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("  {:<10} {about}\n", verb.get_name()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn verb(line: &str) -> Verb {
        parse(line).unwrap().verb.unwrap()
    }

    #[test]
    fn a_request_reads_as_the_contract_writes_it() {
        let Verb::Request(args) =
            verb("request deploy@web-1 --for 30m --reason \"INC-42\" --exec 'systemctl restart nginx' --once --start 22:00 --wait")
        else {
            panic!()
        };
        assert_eq!(args.targets, ["deploy@web-1".parse().unwrap()]);
        assert_eq!(args.duration, Some(Span(Duration::from_secs(1800))));
        assert_eq!(args.exec.as_deref(), Some("systemctl restart nginx"));
        assert!(args.once && args.wait && args.reason.as_deref() == Some("INC-42"));
    }

    #[test]
    fn approve_takes_the_code_and_less() {
        let Verb::Approve(args) = verb("approve k7q3fm BRAVO-41 --for 15m --once --note only to look") else { panic!() };
        assert_eq!(args.said(), [("K7Q3FM".parse().unwrap(), Some("BRAVO-41"))]);
        assert_eq!(
            args.less,
            Less { duration: Some(Span(Duration::from_secs(900))), once: true, note: "only to look".into(), ..Less::default() }
        );
    }

    #[test]
    fn many_are_decided_at_once() {
        let Verb::Approve(args) = verb("approve --like K7Q3FM BRAVO-41 --shown 0123456789abcdef") else { panic!() };
        assert!(args.like && args.said() == [("K7Q3FM".parse().unwrap(), Some("BRAVO-41"))]);
        let Verb::Approve(args) = verb("approve K7Q3FM ABCDEF ALFA-01 123456") else { panic!() };
        let ids = ["K7Q3FM", "ABCDEF", "123456"].map(|id| id.parse().unwrap());
        assert_eq!(args.said(), [(ids[0], None), (ids[1], Some("ALFA-01")), (ids[2], None)]);
        let Verb::Deny { requests, like: false, note } = verb("deny K7Q3FM ABCDEF --note not in a freeze") else { panic!() };
        assert_eq!((requests.as_slice(), note.as_str()), (&ids[..2], "not in a freeze"));
        assert!(matches!(verb("decision --like K7Q3FM approve"), Verb::Decision(DecisionArgs { like: true, .. })));
    }

    #[test]
    fn a_reason_is_the_rest_of_the_line() {
        assert_eq!(
            verb("reason K7Q3FM INC-42 disk full --really"),
            Verb::Reason { request: "K7Q3FM".parse().unwrap(), words: ["INC-42", "disk", "full", "--really"].map(String::from).to_vec() }
        );
    }

    #[test]
    fn every_listing_takes_json() {
        for line in ["requests --json", "--json grants", "targets --json", "sessions --json --live", "show K7Q3FM --json"] {
            assert!(parse(line).unwrap().json, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let usage = |line: &str| match parse(line) {
            Err(NotAVerb::Usage(text)) => text,
            other => panic!("{line}: {other:?}"),
        };
        assert!(usage("approve K7").contains("request id"));
        assert!(usage("frobnicate").contains("frobnicate"));
        assert!(usage("request deploy@web-1 admin@web-2").contains("same login"));
        assert!(usage("approve BRAVO-41").contains("K7Q3FM"));
        assert!(usage("approve --like K7Q3FM ABCDEF").contains("one request"));
        assert!(usage("deny K7Q3FM K7Q3FM").contains("twice"));
        assert!(usage("replay 01J9 --speed NaN").contains("speed"));
        assert!(usage("decide x y").contains("decide"), "the wire's own verb is none of the console's");
        assert!(parse("").unwrap().verb.is_none());
        assert!(matches!(parse("--help"), Err(NotAVerb::Help(_))));
    }

    #[test]
    fn the_next_ten_oclock_may_be_tomorrow() {
        let now = crate::time::Timestamp::from_micros(1_700_000_000_000_000); // 22:13:20Z
        let start: Start = "22:00".parse().unwrap();
        assert_eq!(start.after(now).since(now).as_secs(), 86_400 - 800);
    }

    #[test]
    fn the_wire_reads_what_it_writes() {
        for line in [
            "approve K7Q3FM BRAVO-41 --for 15m",
            "deny --like K7Q3FM",
            "request 'deploy@web-*' deploy@- --dry-run",
            "approve K7Q3FM --scope sftp-read,exec:uptime --from 22:00 --until 06:00",
            "requests --mine",
            "replay last --idle 1500ms",
            "targets",
            "request a@b --start 22:00",
            "help",
        ] {
            let verb = verb(line);
            let json = serde_json::to_value(&verb).unwrap();
            assert_eq!(serde_json::from_value::<Verb>(json.clone()).unwrap(), verb, "{json}");
        }
        assert!(serde_json::from_str::<Verb>(r#"{"verb":"show","args":{"request":"K7Q3FM","also":1}}"#).is_err());
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "\\PC{0,60}") {
            let _ = parse(&line);
        }

        #[test]
        fn no_argument_panics(verb in 0usize..16, rest in "[ a-zA-Z0-9@=%'\"\\-.#\u{202e}\u{1b}]{0,40}") {
            let names = ["request", "requests", "show", "approve", "deny", "withdraw", "grants", "revoke", "targets", "sessions", "replay",
                "reason", "decision", "submit", "whoami", "help"];
            let _ = parse(&format!("{} {rest}", names[verb]));
        }
    }
}
