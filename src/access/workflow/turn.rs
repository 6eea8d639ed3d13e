//! Whose turn it is: the stage that is asked, who of it is asked now, who is asked as well, until when.
//!
//! Hours, absences and the timer say who is asked and shown, and when others are asked too. They never
//! keep a decision from counting: whoever is of the stage may decide at any hour.

use std::time::Duration;

use super::{Decided, Escalation, Stage, Verdict, Workflow, places, strictest};
use crate::access::hours::Hours;
use crate::id::{Group, Person, WorkflowName};
use crate::time::Timestamp;

/// Somebody whom policy lets approve this request, never its requester.
#[derive(Debug, Clone, Copy)]
pub struct Approver<'a> {
    pub person: &'a Person,
    pub groups: &'a [Group],
    pub hours: Option<&'a Hours>,
    pub away: Option<&'a Away>,
}

/// Somebody said that they are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    pub person: Person,
    pub since: Timestamp,
    pub until: Timestamp,
    /// Who is asked in their place, at any hour, where they may decide too.
    pub instead: Option<Person>,
}

/// A stage that has asked wider, as it was written down: it stays so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escalated {
    pub workflow: WorkflowName,
    pub stage: usize,
    pub at: Timestamp,
}

/// When a request is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Since when somebody is asked.
    pub asked: Timestamp,
    /// Nobody may decide after this.
    pub not_after: Timestamp,
    pub now: Timestamp,
}

/// Why somebody of the stage is not asked now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    Away { person: Person, until: Timestamp },
    Hours { person: Person, hours: Hours },
}

/// Why a stage asks wider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wider {
    /// Nobody answered for this long.
    Unanswered(Duration),
    /// Fewer are in reach than have to agree.
    TooFew,
}

impl Wider {
    /// The word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Wider::Unanswered(_) => "unanswered",
            Wider::TooFew => "too-few",
        }
    }
}

/// One workflow that still waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    pub workflow: WorkflowName,
    /// From 0.
    pub stage: usize,
    pub since: Timestamp,
    /// When the request ends because the stage has not come together.
    pub ends: Timestamp,
    /// Who may decide now, …
    pub may: Vec<Person>,
    /// … and who of them is asked.
    pub asked: Vec<Person>,
    /// How many of the stage itself are in reach.
    pub reached: usize,
    /// Those of the stage who are not asked now, and why.
    pub absent: Vec<Absent>,
    /// Whom it asks as well, and why.
    pub wider: Option<(Vec<Group>, Wider)>,
    /// When this may be another: something begins or is over.
    pub next: Timestamp,
}

/// Says for each workflow that is not filled whose turn it is.
pub fn turns(
    workflows: &[&Workflow],
    requester: &Person,
    decisions: &[Decided],
    approvers: &[Approver<'_>],
    escalated: &[Escalated],
    times: Times,
) -> Vec<Turn> {
    let level = strictest(workflows);
    let approvals: Vec<&Decided> =
        decisions.iter().filter(|d| d.verdict == Verdict::Approve && d.person != *requester && d.level >= level).collect();
    let others: Vec<Approver<'_>> = approvers.iter().filter(|approver| approver.person != requester).copied().collect();
    workflows.iter().filter_map(|workflow| turn(workflow, &approvals, &others, escalated, times)).collect()
}

fn turn(workflow: &Workflow, approvals: &[&Decided], approvers: &[Approver<'_>], escalated: &[Escalated], times: Times) -> Option<Turn> {
    let filled = places::fill(&workflow.stages, approvals);
    let stage = workflow.stages.get(filled.stage).filter(|_| !filled.whole)?;
    let since = began(workflow, approvals, filled.stage).unwrap_or(times.asked).max(times.asked);
    let Times { not_after, now, .. } = times;
    let ends = stage.within.map_or(not_after, |within| since.plus(within).min(not_after));

    // Whoever has said yes is not asked again, be their yes of use here or elsewhere.
    let open = |approver: &&Approver<'_>| approvals.iter().all(|decided| decided.person != *approver.person);
    let first: Vec<&Approver<'_>> = approvers.iter().filter(open).filter(|one| stage.is_first(one.person, one.groups)).collect();
    let reach = Reach { now, stage: &first };
    let (in_reach, out): (Vec<&Approver<'_>>, Vec<&Approver<'_>>) = first.iter().partition(|one| reach.reaches(one));
    let missing = (stage.needed() as usize).saturating_sub(filled.have.len());
    let known = escalated.iter().any(|known| known.workflow == workflow.name && known.stage == filled.stage);
    let wider = stage.escalation.as_ref().and_then(|escalation| {
        let why = why_wider(escalation, since, now, in_reach.len() < missing);
        // Written down once, it stays, whoever has come back meanwhile.
        why.or_else(|| known.then_some(Wider::TooFew)).map(|why| (escalation.to.clone(), why))
    });
    let also: Vec<&Approver<'_>> = match &wider {
        Some(_) => {
            approvers.iter().filter(open).filter(|one| stage.is_wider(one.groups) && !stage.is_first(one.person, one.groups)).collect()
        }
        None => Vec::new(),
    };
    let names = |people: &mut dyn Iterator<Item = &&Approver<'_>>| people.map(|one| one.person.clone()).collect::<Vec<Person>>();
    let edges = first.iter().chain(&also).filter_map(|one| reach.changes(one));
    let timer = stage.escalation.as_ref().filter(|_| wider.is_none()).and_then(|escalation| Some(since.plus(escalation.after?)));
    let next = edges.chain(timer).filter(|at| *at > now).chain([ends]).min().unwrap_or(ends);
    Some(Turn {
        workflow: workflow.name.clone(),
        stage: filled.stage,
        since,
        ends,
        may: names(&mut first.iter().chain(&also)),
        asked: names(&mut in_reach.iter().chain(also.iter().filter(|one| reach.reaches(one)))),
        reached: in_reach.len(),
        absent: out.iter().filter_map(|one| reach.absent(one)).collect(),
        wider,
        next,
    })
}

fn why_wider(escalation: &Escalation, since: Timestamp, now: Timestamp, too_few: bool) -> Option<Wider> {
    let unanswered = escalation.after.filter(|after| since.plus(*after) <= now).map(Wider::Unanswered);
    unanswered.or_else(|| too_few.then_some(Wider::TooFew))
}

/// When the stage before came together: with the approval that filled it.
fn began(workflow: &Workflow, approvals: &[&Decided], stage: usize) -> Option<Timestamp> {
    if stage == 0 {
        return None;
    }
    let reached = |count: &usize| places::fill(&workflow.stages, approvals.get(..*count).unwrap_or_default()).stage >= stage;
    let count = (1..=approvals.len()).find(reached)?;
    approvals.get(count - 1).map(|decided| decided.at)
}

/// Who is in reach of a stage at a moment.
struct Reach<'a, 'b> {
    now: Timestamp,
    stage: &'b [&'b Approver<'a>],
}

impl Reach<'_, '_> {
    fn away<'c>(&self, one: &Approver<'c>) -> Option<&'c Away> {
        one.away.filter(|away| away.since <= self.now && self.now < away.until)
    }

    fn reaches(&self, one: &Approver<'_>) -> bool {
        self.absent(one).is_none()
    }

    fn absent(&self, one: &Approver<'_>) -> Option<Absent> {
        if let Some(away) = self.away(one) {
            return Some(Absent::Away { person: one.person.clone(), until: away.until });
        }
        let hours = one.hours.filter(|hours| !hours.hold(self.now) && !self.stands_in(one.person))?;
        Some(Absent::Hours { person: one.person.clone(), hours: hours.clone() })
    }

    fn stands_in(&self, person: &Person) -> bool {
        self.stage.iter().any(|one| self.away(one).is_some_and(|away| away.instead.as_ref() == Some(person)))
    }

    fn changes(&self, one: &Approver<'_>) -> Option<Timestamp> {
        let back = self.away(one).map(|away| away.until);
        back.into_iter().chain(one.hours.and_then(|hours| hours.next(self.now))).min()
    }
}

impl Absent {
    /// `bob away until Mon`, `carol 08-18 Berlin`
    pub fn words(&self, now: Timestamp) -> String {
        match self {
            Absent::Away { person, until } => format!("{person} away until {}", day(*until, now)),
            Absent::Hours { person, hours } => format!("{person} {}", hours.brief(now)),
        }
    }
}

/// `bob away until Mon, carol 08-18 Berlin`, of many the first few.
pub fn absent_words(absent: &[Absent], now: Timestamp) -> String {
    let mut words: Vec<String> = absent.iter().take(NAMED).map(|absent| absent.words(now)).collect();
    let more = absent.len().saturating_sub(NAMED);
    if more > 0 {
        words.push(format!("{more} more"));
    }
    words.join(", ")
}

/// Absent people who are named.
const NAMED: usize = 6;

/// `Mon` within a week, else the date; the hour where it is today or not midnight.
pub fn day(when: Timestamp, now: Timestamp) -> String {
    let (then, today) = (when.utc(), now.utc());
    let name = match when.since(now) {
        left if left < Duration::from_secs(7 * 86_400) => then.format("%a"),
        _ => then.format("%-d %b"),
    };
    if then.date_naive() == today.date_naive() {
        when.clock()
    } else if then.time() == chrono::NaiveTime::MIN {
        name.to_string()
    } else {
        format!("{name} {}", when.clock())
    }
}

/// Who is in reach of a stage at a moment where nobody is away: for `check`.
pub fn reached(stage: &Stage, approvers: &[Approver<'_>], now: Timestamp) -> usize {
    let open = |one: &&Approver<'_>| one.hours.is_none_or(|hours| hours.hold(now));
    approvers.iter().filter(|one| stage.is_eligible(one.person, one.groups)).filter(open).count()
}
