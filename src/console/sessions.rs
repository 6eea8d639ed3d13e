//! Sessions: whose one may list, and whose one may replay.
//!
//! Everybody lists their own; to list others' or to replay any takes policy's `replay` on the target.
//! What runs is listed for who may watch or end it, too. A target that is not in the directory any more has no labels to rule on: there it takes a permit that
//! no label could take away.

use std::collections::BTreeMap;

use super::execute::Act;
use super::grammar::{Purpose, SessionWord, SessionsArgs};
use super::render::when;
use super::reply::{Evidence, Expired, LiveLine, LogRow, Next, RecordingLine, Refusal, RefusalKind, Reply, SessionLine};
use crate::access::ConsoleAction;
use crate::access::kinds::Kind;
use crate::audit::Event;
use crate::id::TargetId;
use crate::recording::{Activity, Part};
use crate::store::log::Included;
use crate::store::{Disposal, Found, SealedRow, SessionFilter, SessionRow};

/// Sessions read for a listing, newest first.
const READ: u32 = 1000;
/// Sessions of one listing.
const SHOWN: usize = 200;

impl Act<'_> {
    pub(super) async fn sessions(&self, args: &SessionsArgs) -> Result<Reply, Refusal> {
        // A name that no target can have lists nothing, as one that nobody has.
        let target = match &args.target {
            Some(name) => match self.target_named(name) {
                Some(target) => Some(target),
                None => return Ok(Reply::Sessions(Vec::new())),
            },
            None => None,
        };
        let filter = SessionFilter {
            person: args.person.clone(),
            target,
            request: args.request,
            since: args.since.map(|span| self.now.minus(span.0)),
            before: args.before,
            live_only: args.live,
            limit: READ,
        };
        let rows = self.console.store.sessions(&filter).await.map_err(|error| self.down(&error))?;
        // Many rows are of few targets.
        let mut may: BTreeMap<(TargetId, ConsoleAction), bool> = BTreeMap::new();
        let mut lists = |row: &SessionRow| {
            let mut may = |action| *may.entry((row.target.clone(), action)).or_insert_with(|| self.may_on(&row.target, action));
            row.person == *self.who.person()
                || may(ConsoleAction::Replay)
                || row.ended.is_none() && (may(ConsoleAction::Watch) || may(ConsoleAction::Kill))
        };
        let mut lines: Vec<SessionLine> = rows.iter().filter(|row| lists(row)).take(SHOWN).map(|row| self.line(row)).collect();
        self.with_reviews(&mut lines).await?;
        Ok(Reply::Sessions(lines))
    }

    /// Finds the recording that is meant, and writes down that it is about to be seen.
    pub(super) async fn fetch(&self, word: &SessionWord, purpose: Purpose, from: u64) -> Result<Reply, Refusal> {
        let row = self.meant(word).await?;
        let Some(sealed) = &row.sealed else {
            return Err(self.not_sealed(&row));
        };
        let gone = match row.disposal {
            Disposal::Kept | Disposal::Marked { .. } => None,
            Disposal::Erasing { at } | Disposal::Disposed { at } => Some(at),
        };
        if let Some(at) = gone
            && purpose != Purpose::Verify
        {
            let (schedule, gone) = (&sealed.due.schedule, when(at, self.now));
            let why = format!("has gone on schedule ({schedule}), {gone}; its certificate: countersign verify {}", row.id);
            return Err(self.refusal(RefusalKind::Refused, &row.id.to_string(), &why));
        }
        let name = match purpose {
            Purpose::Replay => "session.replay",
            Purpose::Export => "session.export",
            Purpose::Verify => "session.verify",
            Purpose::Rewrap => "session.key",
        };
        let facts = serde_json::json!({
            "person": self.who.person(), "key": self.who.fingerprint(), "source": self.who.source(), "session": row.id,
            "target": row.target, "of": row.person, "manifest": sealed.manifest,
        });
        // A gate event: what cannot be written down is not shown (FC5).
        self.console.store.report(Event::new(name, facts), self.now).await.map_err(|error| self.down(&error))?;
        self.evidence(&row, sealed, gone.is_some(), (purpose, from)).await.map(|evidence| Reply::Recording(Box::new(evidence)))
    }

    fn not_sealed(&self, row: &SessionRow) -> Refusal {
        let waits = self.console.recordings.waits_for_auditor(row.id);
        let why = match row.ended {
            None => "is still running",
            Some(_) if waits => "was interrupted and waits for an auditor, whose key alone opens what was recorded; then it is sealed",
            Some(_) => "is being sealed; try again in a moment",
        };
        let mut refusal = self.refusal(RefusalKind::Unavailable, &row.id.to_string(), why);
        refusal.next = vec![match row.ended {
            None => Next::Verb(format!("watch {}", row.id)),
            Some(_) if waits => Next::Companion(format!("auditors recover {}", row.id)),
            Some(_) => Next::Verb(format!("replay {}", row.id)),
        }];
        refusal
    }

    async fn evidence(
        &self,
        row: &SessionRow,
        sealed: &SealedRow,
        gone: bool,
        (purpose, from): (Purpose, u64),
    ) -> Result<Evidence, Refusal> {
        let part = |part: Part| self.console.recordings.part(row.id, part);
        let missing = |what: &str, error: std::io::Error| {
            tracing::error!(session = %row.id, %error, what, "a part of a sealed recording cannot be read");
            let why = format!("has no {what} any more, and no certificate says that it went: tell an operator");
            self.refusal(RefusalKind::Unavailable, &row.id.to_string(), &why)
        };
        let manifest = part(Part::Manifest).map_err(|error| missing("manifest", error))?;
        let signature = part(Part::Signature).map_err(|error| missing("signature", error))?;
        let key_file = match (gone, part(Part::Key)) {
            (false, Ok(bytes)) => Some(data_encoding::BASE64.encode(&bytes)),
            (true, _) | (false, Err(_)) => None,
        };
        let verifying = purpose == Purpose::Verify;
        let sealed_row = if verifying { self.log_row(sealed.seq, from).await? } else { None };
        let expired = match (gone, self.console.store.disposed_seq(row.id).await.map_err(|error| self.down(&error))?) {
            (true, Some(seq)) => match (part(Part::Expired), part(Part::ExpiredSignature), self.log_row(seq, from).await?) {
                (Ok(certificate), Ok(signature), Some(row)) => {
                    Some(Expired { certificate, signature: String::from_utf8_lossy(&signature).into_owned(), row })
                }
                _ => None,
            },
            _ => None,
        };
        Ok(Evidence {
            session: row.id,
            manifest,
            signature: String::from_utf8_lossy(&signature).into_owned(),
            body: (!gone && purpose != Purpose::Rewrap).then(|| recording_line(row, sealed)),
            key_file_b64: key_file,
            sealed: sealed_row,
            expired,
        })
    }

    /// A row of the log with its proof, and the proof that its tree continues the one that is known.
    pub(super) async fn log_row(&self, seq: u64, from: u64) -> Result<Option<LogRow>, Refusal> {
        let line = self.console.store.audit_line(seq).await.map_err(|error| self.down(&error))?;
        let proven = self.console.log.inclusion(seq, from, self.now).await.map_err(|error| self.down(&error))?;
        Ok(line.zip(proven).map(|(line, Included { checkpoint, proof, continues })| LogRow {
            seq,
            line,
            proof,
            checkpoint: checkpoint.note,
            continues,
        }))
    }

    async fn meant(&self, word: &SessionWord) -> Result<SessionRow, Refusal> {
        self.meant_for(word, ConsoleAction::Replay).await
    }

    /// The session that is meant, among those on whose target this person may do that.
    pub(super) async fn meant_for(&self, word: &SessionWord, action: ConsoleAction) -> Result<SessionRow, Refusal> {
        let rows = match word {
            SessionWord::Last => {
                let filter = SessionFilter { limit: READ, ..SessionFilter::default() };
                let rows = self.console.store.sessions(&filter).await.map_err(|error| self.down(&error))?;
                return rows
                    .into_iter()
                    .find(|row| row.sealed.is_some() && self.may_on(&row.target, action))
                    .ok_or_else(|| self.no_session("last", "is none: no recording that you may replay"));
            }
            SessionWord::Begins(text) => match self.console.store.find_session(text, None).await.map_err(|error| self.down(&error))? {
                Found::One(id) => vec![id],
                Found::Several(ids) => ids,
                Found::Nothing => Vec::new(),
            },
        };
        let mut mine = Vec::new();
        for id in rows {
            let row = self.console.store.session(id).await.map_err(|error| self.down(&error))?;
            mine.extend(row.filter(|row| self.may_on(&row.target, action)));
        }
        if mine.len() > 1 {
            let mut refusal =
                self.refusal(RefusalKind::Usage, &word.to_string(), "is the beginning of several, or a request with several sessions");
            refusal.next = mine.iter().map(|row| Next::Verb(format!("replay {}", row.id))).collect();
            return Err(refusal);
        }
        mine.pop().ok_or_else(|| self.no_session(&word.to_string(), "is unknown or not yours"))
    }

    pub(super) fn no_session(&self, what: &str, why: &str) -> Refusal {
        let mut refusal = self.refusal(RefusalKind::Refused, what, why);
        refusal.next = vec![Next::Verb("sessions".into())];
        refusal
    }

    fn line(&self, row: &SessionRow) -> SessionLine {
        let live = row.ended.is_none().then(|| self.console.recordings.activity(row.id)).flatten();
        let waits_for_auditor = self.console.recordings.waits_for_auditor(row.id);
        SessionLine { live: live.map(live_line), waits_for_auditor, ..line(row) }
    }

    pub(super) fn may_on(&self, target: &TargetId, action: ConsoleAction) -> bool {
        let (policy, person, groups) = (&self.directory.policy, self.who.person(), self.who.groups());
        match self.directory.targets.find(target.as_str()) {
            Some(found) => policy.may(person, groups, action, &found, self.now),
            None => policy.may_on_former(person, groups, action, target, self.now),
        }
    }

    /// On every target that there is; on none where there is none.
    pub(super) fn may_everywhere(&self, action: ConsoleAction) -> bool {
        !self.directory.kinds.is_empty() && self.directory.kinds.iter().all(|kind| self.may_on_kind(kind, action))
    }

    /// On some target.
    pub(super) fn may_somewhere(&self, action: ConsoleAction) -> bool {
        self.directory.kinds.iter().any(|kind| self.may_on_kind(kind, action))
    }

    fn may_on_kind(&self, kind: &Kind, action: ConsoleAction) -> bool {
        self.directory.policy.may(self.who.person(), self.who.groups(), action, &kind.like, self.now)
    }

    /// A target's id by its name or alias; a target that has left the directory by its id.
    fn target_named(&self, name: &str) -> Option<TargetId> {
        self.directory.targets.find(name).map(|target| target.id.clone()).or_else(|| name.parse().ok())
    }
}

fn live_line(activity: Activity) -> LiveLine {
    let Activity { input, output, idle, watchers } = activity;
    LiveLine { bytes_in: input, bytes_out: output, idle_s: idle.as_secs(), watchers }
}

fn line(row: &SessionRow) -> SessionLine {
    SessionLine {
        session: row.id,
        request: row.request,
        person: row.person.clone(),
        target: row.target.clone(),
        login: row.login.clone(),
        kind: row.kind.clone(),
        to: row.to.clone(),
        source: row.source.clone(),
        serial: row.serial,
        record: row.record.as_str().to_owned(),
        started: row.started,
        ends: row.ends_at,
        ended: row.ended,
        live: None,
        outcome: row.outcome.clone(),
        sealed: row.sealed.as_ref().map(|sealed| recording_line(row, sealed)),
        waits_for_auditor: false,
        unreviewed: false,
        reviewed_by: None,
    }
}

fn recording_line(row: &SessionRow, sealed: &SealedRow) -> RecordingLine {
    RecordingLine { session: row.id, sha256: sealed.sha256, bytes: sealed.bytes, file: sealed.file.clone() }
}
