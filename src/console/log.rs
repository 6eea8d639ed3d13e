//! The audit log as people read it, and its last signed state.
//!
//! Its rows are about every target, so it is read by those who may `audit` every target.

use super::execute::Act;
use super::grammar::{AuditLogArgs, Verb};
use super::reply::{AuditLine, CheckpointLine, Next, PolicyText, Refusal, RefusalKind, Reply};
use crate::access::ConsoleAction;
use crate::audit::Event;
use crate::store::AuditFilter;

/// Rows of one listing at most.
const MOST: u32 = 10_000;

impl Act<'_> {
    /// What companions keep. Not logged: it says nothing of anybody, and every verb begins with it.
    pub(super) async fn checkpoint(&self, from: u64) -> Result<Reply, Refusal> {
        let continuation = self.console.log.continuation(from, self.now).await.map_err(|error| self.down(&error))?;
        Ok(Reply::Checkpoint(Box::new(CheckpointLine {
            bastion: self.directory.config.bastion.clone(),
            note: continuation.note,
            proof: continuation.proof,
            log_key: self.console.log.verifier().to_string(),
            seal_key: self.console.recordings.seal_key(),
        })))
    }

    pub(super) async fn audit_log(&self, args: &AuditLogArgs) -> Result<Reply, Refusal> {
        self.may_audit()?;
        let filter = AuditFilter {
            name: args.name.clone(),
            since: args.since.map(|span| self.now.minus(span.0)),
            mentions: args.about.clone(),
            limit: args.limit.min(MOST),
        };
        let rows = self.console.store.audit_log(&filter).await.map_err(|error| self.down(&error))?;
        let line = |row: crate::store::AuditRow| AuditLine { seq: row.seq, at: row.at, name: row.name, facts: row.facts };
        Ok(Reply::AuditLog(rows.into_iter().map(line).collect()))
    }

    /// Says that an export may begin; `serve` and `run` send the rows.
    pub(super) async fn audit_export(&self) -> Result<Reply, Refusal> {
        self.may_audit()?;
        let facts = serde_json::json!({ "person": self.who.person(), "key": self.who.fingerprint(), "source": self.who.source() });
        self.console.store.report(Event::new("audit.export", facts), self.now).await.map_err(|error| self.down(&error))?;
        self.console.log.checkpoint(self.now).await.map_err(|error| self.down(&error))?;
        Ok(Reply::AuditLines(Vec::new()))
    }

    pub(super) async fn policy(&self, digest: &str) -> Result<Reply, Refusal> {
        self.may_audit()?;
        let found = self.console.store.policy(digest).await.map_err(|error| self.down(&error))?;
        let row = found.filter(|_| digest.len() >= 4).ok_or_else(|| {
            self.refusal(
                RefusalKind::Refused,
                &digest.chars().take(64).collect::<String>(),
                "is the digest of no policies loaded here, or of several",
            )
        })?;
        Ok(Reply::Policy(Box::new(PolicyText { policy: row.digest, loaded: row.loaded, files: row.files })))
    }

    fn may_audit(&self) -> Result<(), Refusal> {
        if self.may_everywhere(ConsoleAction::Audit) {
            Ok(())
        } else {
            Err(self.refusal(RefusalKind::Refused, "the audit log", "is for those who may audit every target"))
        }
    }

    /// For what an operator does to the files of a bastion, on its own machine.
    pub(super) fn where_the_files_are(&self) -> Refusal {
        let mut refusal = self.refusal(RefusalKind::Usage, "that", "works on the bastion's own machine, where its files are");
        refusal.next = vec![Next::Shell("countersign targets --help".into())];
        refusal
    }

    /// For verbs that only make sense on the person's own machine.
    pub(super) fn at_home(&self, verb: &Verb) -> Refusal {
        let why = "works on your machine, so that nobody has to trust the bastion";
        let mut refusal = self.refusal(RefusalKind::Usage, verb.name(), why);
        refusal.next = vec![Next::Companion(verb.name().to_owned())];
        refusal
    }
}
