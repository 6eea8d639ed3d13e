//! How the node is: what an operator looks at first, and what monitors are woken by.
//!
//! Each trouble names what to do. Whoever may do anything at the console may ask; engineers read at a
//! session what concerns them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::execute::Act;
use super::reply::{AwayLine, BarredLine, NotifierLine, Refusal, RefusalKind, Reply, Status, Trouble};
use super::{Console, with_causes};
use crate::access::ConsoleAction;
use crate::authority::pen::{Pen, PenState};
use crate::notify::{FAILING, Standing};
use crate::recording::RecordError;
use crate::retention::hold::Hold;
use crate::store::StoreError;
use crate::store::disposal::Cursor;
use crate::store::health::{Counts, LATELY};
use crate::store::suspensions::Suspension;
use crate::time::Timestamp;

/// Fewer days than these until the disk is full are a trouble.
const FEW_DAYS: u64 = 7;
/// A row of the log that waits longer for its checkpoint than this is a trouble: it is due after 10 s.
const UNSIGNED: Duration = Duration::from_secs(60);
/// What is due may take so long to go, besides the grace.
const LATE: Duration = Duration::from_secs(3600);
/// An auditor who has not shown for so long that they can decrypt.
const UNPROVED: Duration = Duration::from_secs(90 * 24 * 3600);
/// Overdue recordings that are looked at one by one.
const OVERDUE: u32 = 500;
const DAY: u64 = 24 * 3600;

#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error("the state cannot be read")]
    Store(#[from] StoreError),
    #[error("the recordings cannot be looked at")]
    Recordings(#[from] RecordError),
}

impl Act<'_> {
    pub(super) async fn status(&self) -> Result<Reply, Refusal> {
        if !ConsoleAction::ALL.into_iter().any(|action| self.may_somewhere(action)) {
            return Err(self.refusal(RefusalKind::Refused, "the status", "is for those who approve, audit or operate"));
        }
        let status = self.console.status(self.now).await.map_err(|error| self.down(&error))?;
        Ok(Reply::Status(Box::new(status)))
    }
}

impl Console {
    /// Looks at everything that an operator would; nothing of it is remembered.
    pub async fn status(&self, now: Timestamp) -> Result<Status, StatusError> {
        let directory = self.directory.borrow().clone();
        let counts = self.store.counts(now).await?;
        let (space, spools) = (self.recordings.space()?, self.recordings.spools()?);
        let proven = self.store.proofs().await?;
        let auditors = &directory.config.recordings.auditors;
        let unproved = auditors.iter().filter(|(name, key)| {
            !proven.iter().any(|proof| proof.auditor == **name && proof.key == key.to_string() && now.since(proof.at) <= UNPROVED)
        });
        let young = counts.first_session.is_none_or(|first| now.since(first) < UNPROVED);
        let pen = self.pen.as_ref().map(Pen::state);
        let mut status = Status {
            ok: true,
            troubles: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock: self.disposal.clock_trouble(),
            pen_landlock: match &pen {
                Some(PenState::Up(ready)) => Some(ready.landlock),
                Some(PenState::Down(_)) | None => None,
            },
            pen: match pen {
                Some(PenState::Down(why)) => Some(why),
                Some(PenState::Up(_)) | None => None,
            },
            live_sessions: counts.live_sessions,
            pending_requests: counts.pending_requests,
            open_grants: counts.open_grants,
            free_bytes: space.free,
            floor_bytes: space.floor,
            days_left: days_left(space.free.saturating_sub(space.floor), &counts, now),
            sealing: spools.all.saturating_sub(counts.live_sessions),
            unsealed: spools.stuck,
            waiting_for_auditor: spools.waiting,
            unreviewed: counts.unreviewed,
            marked: counts.marked,
            overdue: self.overdue(now.minus(directory.schedules.grace).minus(LATE)).await?,
            log_rows: counts.rows,
            checkpoint: counts.signed_at,
            unsigned_since: counts.unsigned_since,
            away: self.store.absences(now).await?.into_iter().map(AwayLine::of).collect(),
            suspended: self.store.suspensions().await?.into_iter().map(barred).collect(),
            unproved: if young { BTreeSet::new() } else { unproved.map(|(name, _)| name.clone()).collect() },
            notifiers: self.desk.standing().into_iter().map(notifier_line).collect(),
        };
        status.troubles = troubles(&status, now);
        status.ok = status.troubles.is_empty();
        Ok(status)
    }

    /// Recordings that should have gone by a time and that no hold keeps; counted up to a page.
    async fn overdue(&self, by: Timestamp) -> Result<u64, StoreError> {
        let start: Cursor = None;
        let mut rows = self.store.due(by, start, OVERDUE).await?;
        // Those marked before then, too.
        rows.extend(self.store.marked(by, start, OVERDUE).await?);
        let holds: Vec<Hold> = if rows.is_empty() { Vec::new() } else { self.store.holds(false).await? };
        let held = |row: &crate::store::SessionRow| holds.iter().any(|hold| hold.covers(&row.recorded()));
        Ok(rows.iter().filter(|row| !held(row)).count() as u64)
    }
}

/// Days until the disk is full, if recordings go on to grow as they did.
fn days_left(room: u64, counts: &Counts, now: Timestamp) -> Option<u64> {
    let span = counts.first_session.map(|first| now.since(first).min(LATELY)).filter(|span| span.as_secs() >= DAY)?;
    let a_day = counts.bytes_lately.saturating_mul(DAY).checked_div(span.as_secs()).filter(|bytes| *bytes > 0)?;
    Some(room / a_day)
}

/// What is wrong, the worst first. Pure.
fn troubles(status: &Status, now: Timestamp) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    let mut add = |what: &str, why: String, fix: &str| troubles.push(Trouble { what: what.to_owned(), why, fix: fix.to_owned() });
    if let Some(why) = &status.clock {
        add("clock", why.clone(), "look at the clock, then on the bastion: countersign clock accept -c DIR");
    }
    if let Some(why) = &status.pen {
        add("pen", format!("no certificate is signed, so no session opens: {why}"), "the bastion's log says why; it is tried again");
    }
    if status.free_bytes < status.floor_bytes {
        let why = format!("{} MB free, the floor is {} MB: no session opens", status.free_bytes >> 20, status.floor_bytes >> 20);
        add("disk", why, "make room on the file system of the recordings");
    } else if let Some(days) = status.days_left.filter(|days| *days < FEW_DAYS) {
        add("disk", format!("full in {days} days at the present rate"), "make room, or shorten schedules: countersign retention plan");
    }
    if status.unsealed > 0 {
        add("seal", format!("{} ended sessions could not be sealed", status.unsealed), "the bastion's log says why; they are tried again");
    }
    if status.waiting_for_auditor > 0 {
        let why = format!("{} interrupted recordings wait for an auditor", status.waiting_for_auditor);
        add("recover", why, "an auditor runs: countersign auditors recover");
    }
    if status.overdue > 0 {
        add("disposal", format!("{} recordings should have gone", status.overdue), "countersign retention run, and the bastion's log");
    }
    if let Some(since) = status.unsigned_since.filter(|since| now.since(*since) > UNSIGNED) {
        let why = format!("rows of the log wait for a checkpoint since {}", crate::time::at(since, now));
        add("checkpoint", why, "the bastion's log says why none could be signed");
    }
    if !status.unproved.is_empty() {
        let names: Vec<String> = status.unproved.iter().map(ToString::to_string).collect();
        let why = format!("{} did not show for 90 days that they can decrypt", names.join(", "));
        add("auditors", why, "they run: countersign auditors prove");
    }
    if status.unreviewed > 0 {
        let why = format!("{} sessions that were opened by break-glass wait for a review", status.unreviewed);
        add("review", why, "who may review runs: countersign review");
    }
    for line in status.notifiers.iter().filter(|line| line.failed >= FAILING) {
        let (dropped, lost) = (line.dropped, line.lost);
        let why = line.why.as_deref().unwrap_or("it does not say why");
        let why = format!("{} failed {} times: {why}; {dropped} notices dropped, {lost} lost", line.notifier, line.failed);
        add("notifier", why, &format!("look at it, then: countersign notify test {} -c DIR", line.notifier));
    }
    troubles
}

fn barred(suspension: Suspension) -> BarredLine {
    let Suspension { person, by, reason, at } = suspension;
    BarredLine { person, by, reason, at }
}

fn notifier_line(standing: Standing) -> NotifierLine {
    let Standing { name, delivered, waiting, dropped, lost, failed, why } = standing;
    NotifierLine { notifier: name, delivered, waiting, dropped, lost, failed, why }
}

/// What a monitor reads where even the looking failed.
pub fn cannot_look(error: &StatusError) -> Trouble {
    Trouble { what: "status".into(), why: with_causes(error), fix: "the bastion's log says more".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(bytes_lately: u64, first: Option<Timestamp>) -> Counts {
        Counts {
            live_sessions: 0,
            pending_requests: 0,
            open_grants: 0,
            marked: 0,
            unreviewed: 0,
            bytes_lately,
            first_session: first,
            rows: 0,
            signed_rows: 0,
            signed_at: None,
            unsigned_since: None,
        }
    }

    #[test]
    fn days_are_counted_from_what_was_sealed_lately() {
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let ago = |days: u64| Some(now.minus(Duration::from_secs(days * DAY)));
        assert_eq!(days_left(700, &counts(70, ago(30)), now), Some(70), "ten a day over a week");
        assert_eq!(days_left(700, &counts(70, ago(2)), now), Some(20), "thirty-five a day over two days");
        assert_eq!(days_left(700, &counts(70, Some(now)), now), None, "an hour says nothing");
        assert_eq!(days_left(700, &counts(0, ago(30)), now), None);
        assert_eq!(days_left(700, &counts(70, None), now), None);
    }
}
