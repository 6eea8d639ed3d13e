//! `show --proof`: a request with its decisions as they were signed, for whoever may see it.

use super::execute::Act;
use super::grammar::Verb;
use super::reply::{DecisionPart, LogRow, Next, ProofParts, Refusal, RefusalKind, Reply, SignerPart, State};
use crate::access::decision::signer_line;
use crate::approvals::{RequestState, RequestView};
use crate::id::RequestId;
use crate::store::AuditFilter;

/// Rows of the log about one request; of more the newest.
const ROWS: u32 = 200;

impl Act<'_> {
    /// `from` is how much of the log whoever asks has seen signed.
    pub(super) async fn proof(&self, id: RequestId, from: u64) -> Result<Reply, Refusal> {
        let view = self.seen(id).await?;
        if view.state == RequestState::NeedsReason {
            return Err(self.refusal(RefusalKind::Refused, id.as_str(), "waits for its reason: its bytes are not fixed yet"));
        }
        let signers = self.signers(&view).await?;
        let log = self.rows_about(&view, from).await?;
        Ok(Reply::Proof(Box::new(ProofParts {
            request: id,
            bastion: self.directory.config.bastion.clone(),
            state: State::of(&view.state),
            decisions: view
                .decisions
                .iter()
                .map(|row| DecisionPart {
                    person: row.person.clone(),
                    verdict: row.verdict,
                    level: row.level,
                    at: row.at,
                    decision_b64: row.signed.as_ref().map(|signed| data_encoding::BASE64.encode(&signed.bytes)),
                    signature: row.signed.as_ref().map(|signed| signed.signature.clone()),
                })
                .collect(),
            bytes: view.bytes,
            signers,
            log,
            log_key: self.console.log.verifier().to_string(),
        })))
    }

    /// The keys that signed; of each whether it is still its person's, and if not, since when.
    async fn signers(&self, view: &RequestView) -> Result<Vec<SignerPart>, Refusal> {
        let mut signers: Vec<SignerPart> = Vec::new();
        for (row, signed) in view.decisions.iter().filter_map(|row| Some((row, row.signed.as_ref()?))) {
            let key = signer_line(&signed.signature).map_err(|error| self.down(&error))?;
            if signers.iter().any(|known| known.person == row.person && known.key == key) {
                continue;
            }
            let listed = self
                .directory
                .people
                .named(&row.person)
                .is_some_and(|entry| entry.keys.iter().any(|known| known.fingerprint(Default::default()).to_string() == signed.key));
            let left = match key.split(' ').nth(1).filter(|_| !listed) {
                None => None,
                Some(blob) => {
                    let without = self.console.store.policy_without(blob, row.at).await.map_err(|error| self.down(&error))?;
                    Some(without.unwrap_or(self.now))
                }
            };
            signers.push(SignerPart { person: row.person.clone(), key, left });
        }
        Ok(signers)
    }

    async fn rows_about(&self, view: &RequestView, from: u64) -> Result<Vec<LogRow>, Refusal> {
        let filter = AuditFilter {
            name: None,
            since: Some(view.document.made()),
            mentions: Some(format!("\"request\":\"{}\"", view.id)),
            limit: ROWS,
        };
        let mut rows = Vec::new();
        for row in self.console.store.audit_log(&filter).await.map_err(|error| self.down(&error))? {
            if row.facts.get("request").and_then(serde_json::Value::as_str) == Some(view.id.as_str()) {
                rows.extend(self.log_row(row.seq, from).await?);
            }
        }
        Ok(rows)
    }

    /// A proof is files on the person's machine.
    pub(super) fn proof_at_home(&self, id: RequestId) -> Refusal {
        let mut refusal = self.at_home(&Verb::Show { request: id, proof: true, output: None });
        refusal.next = vec![Next::Companion(format!("show {id} --proof"))];
        refusal
    }
}
