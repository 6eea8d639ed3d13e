//! Legal holds and what the schedules will do, for those who may `hold`.
//!
//! A hold on one session takes `hold` on its target; one by conditions reaches targets that nobody has
//! thought of, so it takes `hold` on all of them. The same for a release.

use super::execute::Act;
use super::grammar::{HoldArgs, ReleaseArgs, RetentionWhat, SessionWord};
use super::reply::{Held, HoldLine, Next, PlanLine, Refusal, RefusalKind, Reply, RetentionState, ScheduleLine};
use crate::access::ConsoleAction;
use crate::audit::Event;
use crate::retention::disposal::DisposalError;
use crate::retention::hold::{Conditions, Hold, HoldId, Predicate, Release};
use crate::store::disposal::Cursor;
use crate::store::{Disposal, SessionRow};
use crate::time::Timestamp;

/// Rows read at once.
const PAGE: u32 = 500;
/// Lines of a plan.
const PLANNED: usize = 500;
/// Certificates that an answer names.
const NAMED: usize = 20;

impl Act<'_> {
    pub(super) async fn hold(&self, args: &HoldArgs) -> Result<Reply, Refusal> {
        let mut conditions = Conditions {
            person: args.person.clone(),
            target: args.target.clone(),
            since: args.since.map(|moment| moment.0),
            until: args.until.map(|moment| moment.0),
            ..Conditions::default()
        };
        match &args.session {
            Some(word) => {
                let row = self.recorded(word, ConsoleAction::Hold).await?;
                conditions.session = Some(row.id);
            }
            None => self.may_hold_everywhere("place a hold by conditions")?,
        }
        let on = Predicate::try_from(conditions)
            .map_err(|bad| self.refusal(RefusalKind::Usage, "the hold", &format!("was not placed: {bad}")))?;
        let hold = Hold {
            id: HoldId::new(self.now),
            case: args.case.clone(),
            on,
            reason: args.reason.clone(),
            attached: args.attached,
            by: self.who.person().clone(),
            placed: self.now,
            released: None,
        };
        // Placed first, counted after: nothing goes in between.
        self.console.store.place_hold(hold.clone(), self.now).await.map_err(|error| self.down(&error))?;
        let (mut held, mut gone, mut certificates) = (0, 0, Vec::new());
        let mut behind: Cursor = None;
        loop {
            let rows = self.console.store.recordings_from(behind, PAGE).await.map_err(|error| self.down(&error))?;
            for row in rows.iter().filter(|row| hold.covers(&row.recorded())) {
                match row.disposal {
                    Disposal::Kept | Disposal::Marked { .. } => held += 1,
                    Disposal::Erasing { .. } | Disposal::Disposed { .. } => {
                        gone += 1;
                        certificates.extend((certificates.len() < NAMED).then_some(row.id));
                    }
                }
            }
            behind = rows.last().map(|row| (row.started, row.id));
            if rows.len() < PAGE as usize {
                break;
            }
        }
        Ok(Reply::Held(Box::new(Held { hold: line(&hold), held, gone, certificates })))
    }

    pub(super) async fn release(&self, args: &ReleaseArgs) -> Result<Reply, Refusal> {
        let holds = self.console.store.holds(false).await.map_err(|error| self.down(&error))?;
        let meant: Vec<Hold> = match args.hold.parse::<HoldId>().ok().filter(|id| holds.iter().any(|hold| hold.id == *id)) {
            Some(id) => holds.into_iter().filter(|hold| hold.id == id).collect(),
            None => {
                let word: SessionWord = args.hold.parse().map_err(|why: String| self.refusal(RefusalKind::Usage, &args.hold, &why))?;
                let row = self.recorded(&word, ConsoleAction::Hold).await?;
                holds.into_iter().filter(|hold| hold.on.conditions().session == Some(row.id)).collect()
            }
        };
        if meant.is_empty() {
            let mut refusal =
                self.refusal(RefusalKind::Refused, &args.hold, "is not held by itself; a hold by conditions is released by its id");
            refusal.next = vec![Next::Verb("retention show".into())];
            return Err(refusal);
        }
        for hold in &meant {
            match hold.on.conditions().session {
                Some(session) => drop(self.recorded(&SessionWord::Begins(session.to_string()), ConsoleAction::Hold).await?),
                None => self.may_hold_everywhere("release a hold by conditions")?,
            }
        }
        let mut released = Vec::new();
        for hold in meant {
            let release = Release { by: self.who.person().clone(), at: self.now, reason: args.reason.clone() };
            if self.console.store.release_hold(hold.id, release, self.now).await.map_err(|error| self.down(&error))? {
                released.push(hold.id.to_string());
            }
        }
        Ok(Reply::Released(released))
    }

    pub(super) async fn retention(&self, what: &RetentionWhat) -> Result<Reply, Refusal> {
        match what {
            RetentionWhat::Show => self.retention_show().await,
            RetentionWhat::Plan(args) => self.retention_plan(self.now.plus(args.within.0)).await,
            RetentionWhat::Run => self.retention_run().await,
        }
    }

    async fn retention_show(&self) -> Result<Reply, Refusal> {
        self.may_hold_somewhere()?;
        let store = &self.console.store;
        let (kept, gone) = store.recordings_counted().await.map_err(|error| self.down(&error))?;
        let holds = store.holds(false).await.map_err(|error| self.down(&error))?;
        let schedules = &self.directory.schedules;
        Ok(Reply::Retention(Box::new(RetentionState {
            kept,
            gone,
            zone: schedules.zone.name().to_owned(),
            grace: crate::time::short(schedules.grace),
            schedules: schedules
                .by_name
                .values()
                .map(|schedule| ScheduleLine {
                    schedule: schedule.name.clone(),
                    keep_at_least: schedule.keep_at_least.to_string(),
                    delete_after: schedule.delete_after.to_string(),
                    default: schedules.default.as_ref() == Some(&schedule.name),
                })
                .collect(),
            bounds: schedules.bounds.iter().map(|bound| format!("{}: at most {}", bound.label, bound.at_most)).collect(),
            holds: holds.iter().map(line).collect(),
        })))
    }

    /// What goes by a time, and what a hold keeps.
    async fn retention_plan(&self, by: Timestamp) -> Result<Reply, Refusal> {
        self.may_hold_somewhere()?;
        let holds = self.console.store.holds(false).await.map_err(|error| self.down(&error))?;
        let mut plan = Vec::new();
        let mut add = |row: &SessionRow| {
            let Some(sealed) = row.sealed.as_ref().filter(|_| self.may_on(&row.target, ConsoleAction::Hold)) else { return };
            plan.push(PlanLine {
                session: row.id,
                person: row.person.clone(),
                target: row.target.clone(),
                schedule: sealed.due.schedule.clone(),
                due: sealed.due.delete_by,
                marked: row.marked,
                held_by: holds
                    .iter()
                    .find(|hold| hold.covers(&row.recorded()))
                    .map(|hold| hold.case.clone().unwrap_or(hold.id.to_string())),
            });
        };
        for marked in [true, false] {
            let mut behind: Cursor = None;
            loop {
                let rows = match marked {
                    true => self.console.store.marked(self.now, behind, PAGE).await,
                    false => self.console.store.due(by, behind, PAGE).await,
                };
                let rows = rows.map_err(|error| self.down(&error))?;
                rows.iter().for_each(&mut add);
                behind = rows.last().and_then(|row| match marked {
                    true => row.marked.map(|at| (at, row.id)),
                    false => row.sealed.as_ref().map(|sealed| (sealed.due.delete_by, row.id)),
                });
                if rows.len() < PAGE as usize {
                    break;
                }
            }
        }
        plan.sort_by_key(|line| line.due.micros());
        plan.truncate(PLANNED);
        Ok(Reply::Plan(plan))
    }

    /// Does now what the bastion does by itself; nothing goes a moment earlier by it.
    async fn retention_run(&self) -> Result<Reply, Refusal> {
        self.may_hold_everywhere("run retention")?;
        let event = Event::new("retention.run", serde_json::json!({ "by": self.who.person() }));
        self.console.store.report(event, self.now).await.map_err(|error| self.down(&error))?;
        match self.console.disposal.sweep(self.directory.schedules.grace, self.now).await {
            Ok(swept) => Ok(Reply::Swept { marked: swept.marked, erased: swept.erased, held: swept.held, unverified: swept.unverified }),
            Err(error @ DisposalError::Clock(_)) => Err(self.refusal(RefusalKind::Refused, "retention", &error.to_string())),
            Err(error) => Err(self.down(&error)),
        }
    }

    /// The session that is meant, if this person may do that on its target.
    async fn recorded(&self, word: &SessionWord, action: ConsoleAction) -> Result<SessionRow, Refusal> {
        let row = self.meant_for(word, action).await?;
        Ok(row)
    }

    fn may_hold_everywhere(&self, what: &str) -> Result<(), Refusal> {
        if self.may_everywhere(ConsoleAction::Hold) {
            Ok(())
        } else {
            Err(self.refusal(RefusalKind::Refused, what, "is for those who may hold on every target"))
        }
    }

    fn may_hold_somewhere(&self) -> Result<(), Refusal> {
        if self.may_somewhere(ConsoleAction::Hold) {
            Ok(())
        } else {
            Err(self.refusal(RefusalKind::Refused, "retention", "is for those who may hold"))
        }
    }
}

fn line(hold: &Hold) -> HoldLine {
    let Conditions { person, target, session, request, since, until } = hold.on.conditions();
    let words = [
        session.map(|session| format!("session {session}")),
        request.map(|request| format!("request {request}")),
        person.as_ref().map(|person| format!("person {person}")),
        target.as_ref().map(|target| format!("target {target}")),
        since.map(|since| format!("since {since}")),
        until.map(|until| format!("until {until}")),
    ];
    HoldLine {
        hold: hold.id.to_string(),
        case: hold.case.clone(),
        on: words.into_iter().flatten().collect::<Vec<_>>().join(", "),
        reason: hold.reason.clone(),
        attached: hold.attached,
        by: hold.by.clone(),
        placed: hold.placed,
    }
}
