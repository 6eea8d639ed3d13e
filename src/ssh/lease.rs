//! How long a running session may go on: to the grant's end on a clock that nobody can set back, no
//! longer than neither its grant is revoked nor itself is killed, and no longer than policy lets the
//! person in.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Bastion;
use crate::access::{Grant, OpeningContext};
use crate::approvals::{self, Approvals};
use crate::config::Directory;
use crate::console::Phase;
use crate::id::{RequestId, SessionId};
use crate::time::{Timestamp, about, boottime, short};
use crate::transcript::Outcome;

/// When the person is told that the end is near.
const WARNINGS: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(60)];
/// How often the row is read without a hint.
const LOOK: Duration = Duration::from_secs(20);
/// The longest look at the row.
const READ: Duration = Duration::from_secs(1);
/// How long a session goes on while nobody can tell whether it was revoked or killed (FC3).
const STALENESS: Duration = Duration::from_secs(60);

/// What the relay is told while it runs.
#[derive(Debug)]
pub enum Notice {
    /// The window closes in about this long.
    EndsIn(Duration),
    /// Something that everybody is told.
    Said(String),
    Over(Outcome),
}

/// What policy knew when it let the session open, and what tells of a reload since.
#[derive(Debug)]
pub struct Standing {
    pub changes: watch::Receiver<Arc<Directory>>,
    pub context: OpeningContext,
}

/// Who ended a session that policy does not allow any more; no person has a space in their name.
const POLICY: &str = "the policy";

enum Woken {
    Clock,
    Look,
    Policy,
    Phase,
    Stop,
}

/// The lease of one session.
pub struct Lease {
    approvals: Approvals,
    request: Option<RequestId>,
    /// On the clock of `boottime`.
    ends: Option<Duration>,
    /// The same as its row had it last.
    until: Option<Timestamp>,
    /// The request for more time that the cut waits for.
    waits_for: Option<RequestId>,
    warnings: Vec<Duration>,
    warns: bool,
    hints: broadcast::Receiver<RequestId>,
    kills: broadcast::Receiver<SessionId>,
    stop: watch::Receiver<bool>,
    phase: watch::Receiver<Phase>,
    announced: bool,
    second: tokio::time::Interval,
    look: tokio::time::Interval,
    must_look: bool,
    known_good: Duration,
    words: Words,
    grant: Grant,
    standing: Standing,
}

/// What the person reads of it.
#[derive(Debug)]
struct Words {
    /// `K7Q3FM ended (30m, by bob)`
    ended: String,
    /// `ssh deploy=web-1@bastion`
    again: String,
    /// ` · keep it: ssh bastion extend`, where an approval can be.
    keep: String,
}

impl Lease {
    pub fn of(grant: &Grant, bastion: &Bastion, standing: Standing) -> Self {
        let approvers: Vec<String> = grant.approvers.iter().map(ToString::to_string).collect();
        let ended = match grant.request {
            Some(id) => format!("{id} ended ({}, by {})", short(grant.granted_for), approvers.join(", ")),
            None => "this session's time is over".to_owned(),
        };
        let host = bastion.directory().config.host.clone();
        let keep = grant.request.map_or_else(String::new, |id| format!(" · keep it: ssh {host} extend {id}"));
        let words = Words { ended, again: format!("ssh {}={}@{host}", grant.login, grant.target.id), keep };
        let left = grant.ends_at.map(|ends| ends.since(Timestamp::now()));
        let mut phase = bastion.phase.clone();
        // An announcement from before is news to who comes now.
        phase.mark_changed();
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            approvals: bastion.approvals.clone(),
            request: grant.request,
            ends: left.map(|left| boottime() + left),
            until: grant.ends_at,
            waits_for: None,
            warnings: WARNINGS.into_iter().filter(|warning| left.is_some_and(|left| left > *warning)).collect(),
            warns: false,
            hints: bastion.approvals.hints(),
            kills: bastion.approvals.kills(),
            stop: bastion.stop.clone(),
            phase,
            announced: false,
            second,
            look: interval(LOOK),
            must_look: false,
            known_good: boottime(),
            words,
            grant: grant.clone(),
            standing,
        }
    }

    /// What the person reads when the end is near (`users.md` 14).
    pub fn warning(&self, left: Duration, now: Timestamp) -> String {
        let ends = crate::time::at(now.plus(left), now);
        format!("{} left{} · ends {ends} · what runs in tmux goes on", about(left), self.words.keep)
    }

    /// What the person reads when it is over (`users.md` 14).
    pub fn farewell(&self, outcome: &Outcome) -> String {
        let Words { ended, again, keep: _ } = &self.words;
        let goes_on = format!("What runs in tmux goes on, unrecorded until you return: {again}");
        match outcome {
            Outcome::Expired => format!("{ended}. {goes_on}"),
            Outcome::Revoked { by, why } if by == POLICY => format!("ended: the policy changed ({})", crate::console::visible(why)),
            Outcome::Revoked { by, why } if why.is_empty() => format!("revoked by {by}. {goes_on}"),
            Outcome::Revoked { by, why } => format!("revoked by {by}: {}. {goes_on}", crate::console::visible(why)),
            Outcome::Killed { by, why } => format!("ended by {by}: {}. {goes_on}", crate::console::visible(why)),
            _ => format!("the bastion is stopping{}; in a moment: {again}", self.comes_back(Timestamp::now())),
        }
    }

    /// Waits for the next notice; may be dropped and called again at any time.
    pub async fn next(&mut self) -> Notice {
        loop {
            // A hint was heard by a call that was dropped before it had looked.
            if self.must_look
                && let Some(notice) = self.look().await
            {
                return notice;
            }
            let Self { second, hints, kills, look, stop, standing, phase, .. } = self;
            let woken = tokio::select! {
                _ = second.tick(), if self.ends.is_some() => Woken::Clock,
                hint = hints.recv(), if self.request.is_some() => match hint {
                    Ok(id) if Some(id) != self.request => continue,
                    Ok(_) | Err(RecvError::Lagged(_)) => Woken::Look,
                    Err(RecvError::Closed) => Woken::Stop,
                },
                kill = kills.recv() => match kill {
                    Ok(id) if id != self.grant.session => continue,
                    Ok(_) | Err(RecvError::Lagged(_)) => Woken::Look,
                    Err(RecvError::Closed) => Woken::Stop,
                },
                _ = look.tick() => Woken::Look,
                changed = standing.changes.changed() => if changed.is_ok() { Woken::Policy } else { Woken::Stop },
                Ok(()) = phase.changed() => Woken::Phase,
                () = super::stopped(stop) => Woken::Stop,
            };
            let notice = match woken {
                Woken::Clock => match self.clock(boottime()) {
                    // Who extended it in the last moment may not have been heard.
                    Some(Notice::Over(_)) => match self.look().await {
                        None => match self.clock(boottime()) {
                            Some(Notice::Over(_)) => self.overrun().await,
                            other => other,
                        },
                        said => said,
                    },
                    other => other,
                },
                Woken::Look => {
                    self.must_look = true;
                    self.look().await
                }
                // Who suspended them says more.
                Woken::Policy if self.is_suspended() => match self.look().await {
                    None => self.policy(),
                    said => said,
                },
                Woken::Policy => self.policy(),
                Woken::Phase => self.phase(Timestamp::now()),
                Woken::Stop => Some(Notice::Over(Outcome::Shutdown)),
            };
            if let Some(notice) = notice {
                return notice;
            }
        }
    }

    /// `users.md` 24: nobody who is told has to guess what it costs them.
    fn phase(&mut self, now: Timestamp) -> Option<Notice> {
        let phase = self.phase.borrow_and_update().clone();
        match phase.words(now) {
            // Said once there is somebody to say it to.
            Some(_) if !self.warns => None,
            // At once: the goodbye says it.
            Some(_) if phase.ends_at().is_some_and(|at| at <= now) => None,
            Some(announced) => {
                self.announced = true;
                Some(Notice::Said(format!("{announced}{}", self.comes_back(now))))
            }
            None if std::mem::take(&mut self.announced) => Some(Notice::Said("bastion goes on".into())),
            None => None,
        }
    }

    /// `; K7Q3FM stays valid to 23:05Z, the same command brings you back`
    fn comes_back(&self, now: Timestamp) -> String {
        let restart = self.phase.borrow().ends_at().unwrap_or(now);
        match (self.request, self.until) {
            (Some(id), Some(ends)) if ends > restart => {
                format!("; {id} stays valid to {}, the same command brings you back", ends.clock())
            }
            (Some(_), _) => String::new(),
            (None, _) => "; the same command brings you back".into(),
        }
    }

    /// Waits until it is over, before anything runs: who could be warned is warned later.
    pub async fn over(&mut self) -> Outcome {
        loop {
            if let Notice::Over(outcome) = self.next().await {
                return outcome;
            }
        }
    }

    /// From now on there is somebody to warn.
    pub fn begin_warning(&mut self) {
        self.warns = true;
        self.phase.mark_changed();
    }

    fn is_suspended(&self) -> bool {
        self.standing.changes.borrow().people.is_suspended(self.grant.principal.person())
    }

    /// A new hold does not end a session, a no does (**D policy change**).
    fn policy(&mut self) -> Option<Notice> {
        let directory = self.standing.changes.borrow_and_update().clone();
        if let Some(why) = approvals::session_fallen(&directory, &self.grant, &self.standing.context) {
            return Some(Notice::Over(Outcome::Revoked { by: POLICY.into(), why }));
        }
        // Where somebody agreed the row says when it ends; it is moved by who rules again on rows.
        if self.request.is_some() {
            return None;
        }
        let longest = approvals::session_longest(&directory, &self.grant, &self.standing.context)?;
        let now = Timestamp::now();
        let latest = self.grant.opened_at.plus(longest);
        if self.until.is_some_and(|until| until <= latest) {
            return None;
        }
        (self.ends, self.until) = (Some(boottime() + latest.since(now)), Some(latest));
        self.warn_anew(boottime());
        self.warns.then(|| Notice::Said(format!("the policy changed: this session ends {}", crate::time::at(latest, now))))
    }

    /// Asked for more time before the end, the cut waits for the answer (`users.md` 14): as long as the signed terms
    /// say, and not where that cannot be read or written down.
    async fn overrun(&mut self) -> Option<Notice> {
        let over = Some(Notice::Over(Outcome::Expired));
        let (Some(id), Some(ends)) = (self.request, self.ends) else { return over };
        if boottime() >= ends + self.grant.overrun {
            return over;
        }
        let now = Timestamp::now();
        let waits = timeout(READ, self.approvals.waits_for_more(id, now)).await;
        let Ok(Ok(Some((extension, until)))) = waits else { return over };
        if self.waits_for == Some(extension) {
            return None;
        }
        let written = timeout(READ, self.approvals.overruns(self.grant.session, (id, extension), until, now)).await;
        if !matches!(written, Ok(Ok(()))) {
            return over;
        }
        self.waits_for = Some(extension);
        let text = format!(
            "{id}'s time is over, and {extension} asks for more: this goes on until somebody answers, at most to {}",
            until.clock()
        );
        self.warns.then_some(Notice::Said(text))
    }

    fn warn_anew(&mut self, now: Duration) {
        let left = self.ends.unwrap_or_default().saturating_sub(now);
        self.warnings = WARNINGS.into_iter().filter(|warning| left > *warning).collect();
    }

    fn clock(&mut self, now: Duration) -> Option<Notice> {
        let left = self.ends?.saturating_sub(now);
        if left.is_zero() {
            return Some(Notice::Over(Outcome::Expired));
        }
        let due = self.warnings.iter().position(|warning| left <= *warning).filter(|_| self.warns)?;
        self.warnings.remove(due);
        Some(Notice::EndsIn(left))
    }

    async fn look(&mut self) -> Option<Notice> {
        // A disk that hangs must not keep the clock from being looked at.
        match timeout(READ, self.approvals.ended_early(self.grant.session, self.request)).await {
            Ok(Ok(None)) => {
                self.known_good = boottime();
                self.must_look = false;
                self.prolonged().await
            }
            Ok(Ok(Some(outcome))) => Some(Notice::Over(outcome)),
            Ok(Err(error)) => self.stale(&error.to_string()),
            Err(_) => self.stale("the database does not answer"),
        }
    }

    /// Goes on to where the end has moved since: further where somebody agreed, nearer where policy gives less now.
    async fn prolonged(&mut self) -> Option<Notice> {
        let (id, ends, known) = (self.request?, self.ends?, self.until?);
        let found = timeout(READ, self.approvals.ends_at(id)).await.ok()?.ok()??;
        if found == known {
            return None;
        }
        let moved = (ends + found.since(known)).saturating_sub(known.since(found));
        (self.ends, self.until, self.waits_for) = (Some(moved), Some(found), None);
        self.warn_anew(boottime());
        let how = if found > known { "was extended" } else { "was shortened by the policy" };
        self.warns.then(|| Notice::Said(format!("{id} {how}: it ends {}", crate::time::at(found, Timestamp::now()))))
    }

    /// Nobody can tell whether somebody ended it: for a while that is borne.
    fn stale(&self, why: &str) -> Option<Notice> {
        tracing::warn!(why, session = %self.grant.session, "cannot tell whether a session was ended");
        let over = boottime().saturating_sub(self.known_good) >= STALENESS;
        over.then(|| Notice::Over(Outcome::Revoked { by: "the bastion".into(), why: "its state cannot be read".into() }))
    }
}
