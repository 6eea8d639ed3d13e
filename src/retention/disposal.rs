//! The only code that deletes a recording.
//!
//! Two phases: a mark, which the log announces, and the grace later the end. In order: a transaction that
//! looks for holds once more and says `erasing`, of a page of them; the key files; the body; the expiry
//! certificate beside the manifest; a transaction that says `disposed`. Each step can be done again, so a kill at any moment loses
//! nothing and leaves one certificate. What is not verified, not closed or held is never touched (FC13).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::step::{Next, step};
use crate::audit::Event;
use crate::authority::{BadSeal, SealKeyError, SealVerifier};
use crate::id::{Digest, SessionId};
use crate::recording::verify::signed_manifest;
use crate::recording::{Part, RecordError, Recordings};
use crate::store::clock::Clock;
use crate::store::disposal::{self, Cursor, Step};
use crate::store::{Disposal as State, SealedRow, SessionRow, Store, StoreError};
use crate::time::Timestamp;
use crate::transcript::expiry::{BadCertificate, Certificate, Gone, NAMESPACE};

/// Rows read at once, and changed in one transaction: memory does not grow with the number of recordings,
/// and who wants to open a session waits behind a page at most.
const PAGE: u32 = 128;

/// Disposal on one node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Disposal {
    store: Store,
    recordings: Recordings,
    clock: Clock,
    bastion: String,
    /// Recordings that were found changed or missing in this run; each is reported once.
    reported: Arc<Mutex<HashSet<SessionId>>>,
}

/// What one sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    pub marked: u64,
    pub erased: u64,
    pub held: u64,
    /// Not as they were sealed, so not deleted either.
    pub unverified: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum DisposalError {
    #[error("nothing is deleted: {0}. An operator who has looked at the clock runs: countersign clock accept -c DIR")]
    Clock(String),
    #[error("the state cannot be changed")]
    Store(#[from] StoreError),
    #[error("the files of a recording cannot be changed")]
    Files(#[from] RecordError),
    #[error("the expiry certificate cannot be signed")]
    Sign(#[from] SealKeyError),
    #[error("the seal key cannot be used")]
    Key(#[from] BadSeal),
}

impl Disposal {
    pub fn new(store: Store, recordings: Recordings, clock: Clock, bastion: String) -> Self {
        Self { store, recordings, clock, bastion, reported: Arc::default() }
    }

    /// Why nothing is deleted now, if the clock is not believed.
    pub fn clock_trouble(&self) -> Option<String> {
        self.clock.why_not_dispose()
    }

    /// Marks what is due, erases what was marked long enough ago, finishes what a crash left half-way.
    pub async fn sweep(&self, grace: Duration, now: Timestamp) -> Result<Swept, DisposalError> {
        if let Some(why) = self.clock.why_not_dispose() {
            return Err(DisposalError::Clock(why));
        }
        let mut swept = Swept::default();
        let mut behind: Cursor = None;
        loop {
            let rows = self.store.marked(now, behind, PAGE).await?;
            self.go_on(&rows, grace, now, &mut swept).await?;
            behind = rows.last().and_then(|row| row.marked.map(|at| (at, row.id)));
            if rows.len() < PAGE as usize {
                break;
            }
        }
        behind = None;
        loop {
            let rows = self.store.due(now.plus(grace), behind, PAGE).await?;
            self.go_on(&rows, grace, now, &mut swept).await?;
            behind = rows.last().and_then(|row| row.sealed.as_ref().map(|sealed| (sealed.due.delete_by, row.id)));
            if rows.len() < PAGE as usize {
                return Ok(swept);
            }
        }
    }

    /// Does the next step of each of a page.
    async fn go_on(&self, rows: &[SessionRow], grace: Duration, now: Timestamp, swept: &mut Swept) -> Result<(), DisposalError> {
        let (mut to_mark, mut to_erase, mut erasing) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let Some(sealed) = &row.sealed else { continue };
            let marked = match row.disposal {
                State::Kept => None,
                State::Marked { uptime, .. } => Some(self.clock.uptime().saturating_sub(uptime)),
                // A hold that comes later is too late: its key may be gone already.
                State::Erasing { at } => {
                    erasing.push((row, at));
                    continue;
                }
                State::Disposed { .. } => continue,
            };
            match step(&sealed.due, false, marked, grace, now) {
                Next::Keep { .. } | Next::Wait { .. } | Next::Held => {}
                Next::Mark => to_mark.push(row.clone()),
                Next::Erase if self.is_verified(row, sealed, now).await? => to_erase.push(row),
                Next::Erase => swept.unverified += 1,
            }
        }
        self.mark(&to_mark, grace, now, swept).await?;
        erasing.extend(self.begin(&to_erase, now, swept).await?.into_iter().map(|row| (row, now)));
        self.erase(&erasing, swept).await
    }

    async fn mark(&self, rows: &[SessionRow], grace: Duration, now: Timestamp, swept: &mut Swept) -> Result<(), DisposalError> {
        if rows.is_empty() {
            return Ok(());
        }
        for step in self.store.mark(rows, grace, self.clock.uptime(), now).await? {
            match step {
                Step::Done => swept.marked += 1,
                Step::Held => swept.held += 1,
                Step::NotNow => {}
            }
        }
        Ok(())
    }

    /// Begins to erase; returns those on which nothing can stop it any more.
    async fn begin<'a>(&self, rows: &[&'a SessionRow], now: Timestamp, swept: &mut Swept) -> Result<Vec<&'a SessionRow>, DisposalError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let steps = self.store.begin_erasing(rows.iter().map(|row| row.id).collect(), now).await?;
        let mut begun = Vec::new();
        for (row, step) in rows.iter().zip(steps) {
            match step {
                Step::Done => begun.push(*row),
                Step::Held => {
                    self.store.unmark(row.id, now).await?;
                    swept.held += 1;
                }
                Step::NotNow => {}
            }
        }
        Ok(begun)
    }

    /// Whether what would go is what was sealed; if not, the log says so once, and it stays.
    async fn is_verified(&self, row: &SessionRow, sealed: &SealedRow, now: Timestamp) -> Result<bool, DisposalError> {
        let what = match self.recordings.is_as_sealed(&sealed.file, sealed.sha256).await? {
            Some(true) => match self.why_not_by_its_manifest(row, sealed).await? {
                None => return Ok(true),
                Some(why) => why,
            },
            Some(false) => "its body is not the one that was sealed",
            None => "its body is not there",
        };
        let new = self.reported.lock().unwrap_or_else(PoisonError::into_inner).insert(row.id);
        if new {
            tracing::error!(session = %row.id, what, "a recording that is due is not deleted");
            self.store.report(Event::new("session.unverified", serde_json::json!({ "session": row.id, "why": what })), now).await?;
        }
        Ok(false)
    }

    /// The day is in the signed manifest, not in a row that anybody with the database could move; and a key file
    /// that is not there cannot be destroyed here.
    async fn why_not_by_its_manifest(&self, row: &SessionRow, sealed: &SealedRow) -> Result<Option<&'static str>, DisposalError> {
        let seal_key = SealVerifier::new(&self.bastion, &self.recordings.seal_key())?;
        let read = |part| self.recordings.part(row.id, part);
        let (Ok(bytes), Ok(signature)) = (read(Part::Manifest), read(Part::Signature)) else {
            return Ok(Some("its manifest or signature cannot be read"));
        };
        let Ok(manifest) = signed_manifest(&bytes, &String::from_utf8_lossy(&signature), &seal_key) else {
            return Ok(Some("its manifest is not signed by the seal key"));
        };
        if Digest::of(&bytes) != sealed.manifest || manifest.session != row.id {
            return Ok(Some("its manifest is not the one that was sealed"));
        }
        if manifest.retention.due(manifest.ended_us).ok().as_ref() != Some(&sealed.due) {
            return Ok(Some("its row has another day than its manifest"));
        }
        let locked = manifest.body.recipient.is_some();
        Ok((locked && !self.recordings.has_all_keys(row.id).await?).then_some("a key file is not in every directory of key_files"))
    }

    /// Removes the files of each, and writes down that they have gone.
    async fn erase(&self, rows: &[(&SessionRow, Timestamp)], swept: &mut Swept) -> Result<(), DisposalError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut gone = Vec::with_capacity(rows.len());
        let mut failed = None;
        for (row, began) in rows {
            let Some(sealed) = &row.sealed else { continue };
            match self.erase_files(row, sealed, *began).await {
                Ok(certificate) => gone.push(disposal::Gone { session: row.id, manifest: sealed.manifest, certificate }),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        // What has gone is written down whatever became of the next.
        let steps = self.store.disposed(gone, Timestamp::now()).await?;
        swept.erased += steps.iter().filter(|step| **step == Step::Done).count() as u64;
        failed.map_or(Ok(()), Err)
    }

    /// Key files, body; then the certificate stands in their place.
    async fn erase_files(&self, row: &SessionRow, sealed: &SealedRow, began: Timestamp) -> Result<Vec<u8>, DisposalError> {
        self.recordings.erase_keys(row.id).await?;
        self.recordings.erase_body(row.id).await?;
        let certificate = Certificate::of(Gone {
            bastion: self.bastion.clone(),
            session: row.id,
            manifest: sealed.manifest,
            body_sha256: sealed.sha256,
            body_bytes: sealed.bytes,
            schedule: sealed.due.schedule.clone(),
            due: sealed.due.delete_by,
            marked: row.marked.unwrap_or(began),
            erased: began,
        });
        let bytes = certificate.bytes();
        let signature = self.recordings.sign(NAMESPACE, &bytes)?;
        Ok(self.recordings.leave_certificate(row.id, bytes, signature).await?)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BadExpiry {
    #[error(transparent)]
    Form(#[from] BadCertificate),
    #[error("the expiry certificate is not signed by this bastion's seal key")]
    Signature(#[from] BadSeal),
}

impl Certificate {
    /// Reads a certificate that the seal key has signed.
    pub fn signed(bytes: &[u8], signature: &str, seal_key: &SealVerifier) -> Result<Self, BadExpiry> {
        seal_key.verify(NAMESPACE, bytes, signature)?;
        Ok(Self::read(bytes)?)
    }
}
