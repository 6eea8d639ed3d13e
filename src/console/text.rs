//! Answers and refusals as text, in the words of `users.md`.

mod many;

pub use super::card::{card, granted, less};
use std::time::Duration;

use super::card::{join, span, tone};
use super::render::{Listing, Look, Tone, counted, prefixed, visible, when};
use super::reply::{
    Asked, AuditLine, AuditorLine, AwayLine, BarredLine, Card, Decided, Held, KeysReply, Listed, LiveLine, Next, NotifierLine, OpenGrant,
    PlanLine, Refusal, RefusalKind, Reply, RetentionState, ReviewLine, SessionLine, State, Status, SuspendedLine, TargetLine, Whoami,
};
use crate::access::decision::{GrantedTerms, Verdict};
use crate::recording::amount;
use crate::time::{Timestamp, about};

/// Who reads, where, when, and with which program.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    pub look: Look,
    pub now: Timestamp,
    pub voice: Voice<'a>,
}

/// With which program the reader types the next command.
#[derive(Debug, Clone, Copy)]
pub enum Voice<'a> {
    /// `ssh HOST verb`
    Console { host: &'a str },
    /// `countersign verb`
    Companion,
}

impl Voice<'_> {
    pub fn command(self, verb: &str) -> String {
        match self {
            Voice::Console { host } => format!("ssh {host} {verb}"),
            Voice::Companion => format!("countersign {verb}"),
        }
    }
}

/// Renders an answer. Listings and cards stand for themselves; what happened begins `countersign: `.
pub fn reply(reply: &Reply, reader: &Reader<'_>) -> String {
    match reply {
        Reply::Requests(listed) => requests(listed, reader),
        Reply::Request(request) => card(request, reader),
        Reply::Asked(asked) => said(&outcome(asked, reader)) + &many::beside(asked),
        Reply::Would(would) => many::would(would),
        Reply::Alike(alike) => many::alike(alike, reader),
        Reply::Free(targets) => said(&format!("{} needs nobody's approval: connect", many::some_of(targets))),
        Reply::Decided(done) => decided(done, reader),
        Reply::Withdrawn(id) => said(&format!("withdrew {id}")),
        Reply::Revoked(id) => said(&format!("revoked {id}; its sessions end now")),
        Reply::ReasonGiven(id) => said(&format!("{id} has its reason; somebody is asked now")),
        Reply::Grants(grants) => open_grants(grants, reader),
        Reply::Targets(targets) => target_lines(targets, reader),
        Reply::Sessions(sessions) => session_lines(sessions, reader),
        Reply::Killed(line) => said(&format!(
            "killed {}: {} on {}@{}; it ends now, and its recording stays. An approval that it ran on stays open: {}",
            line.session,
            line.person,
            line.login,
            line.target,
            reader.voice.command("grants")
        )),
        Reply::Review(lines) => review_lines(lines, reader),
        Reply::Reviewed(line) => {
            said(&format!("reviewed {}: {} on {}; its recording goes on schedule now", line.session, line.person, line.target))
        }
        Reply::Watch(watched) => super::Viewer::opening(watched),
        Reply::Seen(seen) => seen.iter().map(|one| format!("{}\n", super::render::json(one))).collect(),
        Reply::Decision(issued) => String::from_utf8_lossy(&issued.bytes).into_owned(),
        Reply::Proof(proof) => {
            said(&format!("{}: {} decisions, {} rows of the log", proof.request, proof.decisions.len(), proof.log.len()))
        }
        Reply::Recording(evidence) => said(&match &evidence.body {
            Some(body) => format!("{}: {} bytes sealed, SHA-256 {}", body.session, body.bytes, body.sha256),
            None => format!("{} has gone on schedule", evidence.session),
        }),
        Reply::Checkpoint(checkpoint) => checkpoint.note.clone(),
        Reply::AuditLog(rows) => audit_lines(rows, reader),
        Reply::Auditors(auditors) => auditor_lines(auditors, reader),
        Reply::Canary(canary) => format!("{canary}\n"),
        Reply::Proven(person) => said(&format!("proven: {person} can decrypt")),
        Reply::Keys(keys) => said(&match &**keys {
            KeysReply::Closed(closed) => format!("{} recordings are closed to an auditor", closed.left),
            KeysReply::Rewrapped(session) => format!("{session} has a new key file"),
            KeysReply::Waiting(waiting) => format!("{} recordings wait for an auditor", waiting.len()),
            KeysReply::Envelope { session, envelope } => format!("{session}: an envelope of {} bytes", envelope.len()),
            KeysReply::Recovered { session, sealed: true } => format!("{session} is sealed"),
            KeysReply::Recovered { session, sealed: false } => format!("{session} held nothing"),
        }),
        Reply::Policy(policy) => {
            let files = policy.files.iter().map(|(name, text)| format!("==> {} <==\n{}\n", visible(name), visible(text)));
            format!("policy {}, first loaded {}\n\n{}", policy.policy, when(policy.loaded, reader.now), files.collect::<String>())
        }
        Reply::Held(held) => said(&held_line(held)),
        Reply::Released(holds) => said(&format!("released {}", holds.join(", "))),
        Reply::Retention(state) => retention(state, reader),
        Reply::Plan(plan) => plan_lines(plan, reader),
        Reply::Swept { marked, erased, held, unverified } => {
            let also = if *unverified > 0 { format!(", {unverified} not as they were sealed and kept") } else { String::new() };
            said(&format!("{marked} marked, {erased} gone, {held} held{also}"))
        }
        Reply::Drain(drain) => said(&match drain.at {
            Some(at) => format!("everybody is told: bastion restarts {}; {} sessions run now", crate::time::at(at, reader.now), drain.live),
            None => "everybody is told: bastion goes on".to_owned(),
        }),
        Reply::Away(line) => said(&away_line(line, reader.now)),
        Reply::Suspended(line) => said(&suspended_line(line, reader)),
        Reply::Unsuspended(person) => said(&format!("{person} is let in again; what was ended stays so")),
        Reply::AuditLines(lines) => lines.iter().map(|line| format!("{line}\n")).collect(),
        Reply::Whoami(me) => whoami(me),
        Reply::Status(status) => status_lines(status, reader),
        Reply::Setup(text) | Reply::Help(text) => text.clone(),
    }
}

/// Renders a refusal: what, why, the next command, and where the console is.
pub fn refusal(refusal: &Refusal, voice: Voice<'_>) -> String {
    let how = match refusal.kind {
        RefusalKind::Refused => "refused: ",
        RefusalKind::Usage | RefusalKind::Undecided | RefusalKind::Unavailable => "",
    };
    let mut out = said(&format!("{how}{refusal}"));
    for next in &refusal.next {
        let line = match next {
            Next::Verb(verb) => voice.command(verb),
            Next::Companion(verb) => Voice::Companion.command(verb),
            Next::Shell(line) => line.clone(),
        };
        out.push_str(&format!("countersign:   {}\n", visible(&line)));
    }
    if matches!(voice, Voice::Console { .. }) {
        out.push_str(&format!("countersign: console: {}\n", visible(&refusal.console)));
    }
    out
}

/// An empty listing, and what to do next.
fn nothing(reader: &Reader<'_>, text: &str, verb: &str) -> String {
    said(&format!("{text}: {}", reader.voice.command(verb)))
}

/// Requests that are decided together: the first whole, of the others what is odd.
pub use many::alike;

fn said(text: &str) -> String {
    prefixed(&visible(text))
}

fn requests(listed: &[Listed], reader: &Reader<'_>) -> String {
    if listed.is_empty() {
        return nothing(reader, "nothing waits, and nothing was asked lately; to ask", "request LOGIN@TARGET --reason '…'");
    }
    let mut table = Listing::new(&["REQUEST", "STATE", "WHO", "WHERE", "WHAT", "FOR", "WHEN", "WHY"]);
    for one in listed {
        let span = spelled(&one.duration, one.once, one.starts, one.until, reader.now);
        let why = if one.reason.is_empty() { String::new() } else { format!("\"{}\"", one.reason) };
        table.row(
            tone(&one.state),
            [
                one.request.to_string(),
                one.state.word().to_owned(),
                one.person.to_string(),
                place(one.login.as_str(), &one.targets),
                one.scope.clone(),
                span,
                standing(one, reader.now),
                why,
            ],
        );
    }
    table.render(reader.look)
}

/// `15m once from 22:00Z to 06:00Z`
pub(super) fn spelled(duration: &str, once: bool, starts: Option<Timestamp>, until: Option<Timestamp>, now: Timestamp) -> String {
    let once = if once { " once" } else { "" };
    let from = starts.filter(|starts| *starts > now).map(|starts| format!(" from {}", starts.clock())).unwrap_or_default();
    let until = until.map(|until| format!(" to {}", until.clock())).unwrap_or_default();
    format!("{duration}{once}{from}{until}")
}

pub(super) fn place<T: std::fmt::Display>(login: &str, targets: &[T]) -> String {
    match targets {
        [only] => format!("{login}@{only}"),
        [first, rest @ ..] => format!("{login}@{first} +{}", rest.len()),
        [] => login.to_owned(),
    }
}

/// The one time that matters in a listing.
pub(super) fn standing(one: &Listed, now: Timestamp) -> String {
    match &one.state {
        State::NeedsReason | State::Pending => match one.left {
            Some(left) => format!("client left {} ago", counted(now.since(left))),
            None if !one.looking.is_empty() => format!("ends {}, {} looking", when(one.expires, now), are(&one.looking)),
            None => format!("ends {}", when(one.expires, now)),
        },
        State::Approved if one.unreviewed => "break-glass, unreviewed".to_owned(),
        State::Approved if one.break_glass => "break-glass".to_owned(),
        State::Approved => format!("by {}", join(&one.approvers)),
        State::Denied { by, note } if note.is_empty() => format!("by {by}"),
        State::Denied { by, note } => format!("by {by}: {note}"),
        State::Withdrawn | State::Expired | State::Void => format!("made {}", when(one.made, now)),
    }
}

/// `bob is`, `bob, carol are`
pub fn are<T: std::fmt::Display>(persons: &[T]) -> String {
    format!("{} {}", join(persons), if persons.len() == 1 { "is" } else { "are" })
}

fn outcome(asked: &Asked, reader: &Reader<'_>) -> String {
    let card = &asked.card;
    let id = card.request;
    match &card.state {
        State::NeedsReason => format!("{id} waits for your reason: {}", reader.voice.command(&format!("reason {id} 'INC-42 …'"))),
        State::Pending if asked.waited => format!("nobody decided {id} in time"),
        State::Pending => {
            let decide_by =
                card.read().map(|document| format!(" · expires {}", when(document.not_after(), reader.now))).unwrap_or_default();
            let how = if asked.joined { "was asked already" } else { "is asked" };
            format!("{id} {how} · code {} · asked {}{decide_by}", card.code, join(&card.asked))
        }
        State::Approved if card.approvers.is_empty() => {
            let terms = card.granted.as_ref().map(|terms| format!(" for {}", span(terms, reader.now))).unwrap_or_default();
            format!(
                "{id} is open by break-glass{terms}: connect. Everybody who may decide is told; it is recorded in full and reviewed after"
            )
        }
        State::Approved => {
            let terms = card.granted.as_ref().map(|terms| format!(" for {}", span(terms, reader.now))).unwrap_or_default();
            let less = given_less(card, reader.now).map(|less| format!("\nless than asked: {less}")).unwrap_or_default();
            format!("{id} approved by {}{terms}{less}", join(&card.approvers))
        }
        State::Denied { by, note } if note.is_empty() => format!("{id} denied by {by}"),
        State::Denied { by, note } => format!("{id} denied by {by}: {note}"),
        State::Withdrawn => format!("{id} was withdrawn"),
        State::Expired => format!("nobody decided {id} in time"),
        State::Void => format!("{id} is void"),
    }
}

fn given_less(card: &Card, now: Timestamp) -> Option<String> {
    let notes: Vec<_> = card.decisions.iter().map(|said| (&said.person, said.note.as_str())).collect();
    less(&card.read().ok()?.asked(), card.granted.as_ref()?, &notes, now)
}

fn decided(done: &Decided, reader: &Reader<'_>) -> String {
    match many::decided(done, reader) {
        Some(line) => said(&line),
        None => done.requests.iter().map(|card| said(&decision_line(card, done.verdict, reader))).collect(),
    }
}

/// `approved K7Q3FM for 30m. Wrong one? countersign revoke K7Q3FM`
fn decision_line(card: &Card, verdict: Verdict, reader: &Reader<'_>) -> String {
    let id = card.request;
    match (verdict, &card.state) {
        (Verdict::Deny, _) => format!("denied {id}"),
        (Verdict::Approve, State::Approved) => {
            let span = card.granted.as_ref().map(|terms| crate::time::short(std::time::Duration::from_micros(terms.for_us)));
            let once = if card.granted.as_ref().is_some_and(|terms| terms.once) { ", one session" } else { "" };
            let starts = card.granted.as_ref().and_then(GrantedTerms::starts).filter(|starts| *starts > reader.now);
            let starts = starts.map(|starts| format!(", not before {}", when(starts, reader.now))).unwrap_or_default();
            let undo = reader.voice.command(&format!("revoke {id}"));
            format!("approved {id} for {}{once}{starts}. Wrong one? {undo}", span.unwrap_or_else(|| "as asked".into()))
        }
        (Verdict::Approve, _) => {
            let missing = card
                .tracks
                .iter()
                .map(|track| format!("{} of {} of {}", track.have.len(), track.quorum, track.approvers.join(", ")))
                .collect::<Vec<_>>();
            format!("your yes to {id} is kept; it has {}", missing.join(" and "))
        }
    }
}

fn open_grants(grants: &[OpenGrant], reader: &Reader<'_>) -> String {
    if grants.is_empty() {
        return nothing(reader, "no approval is open; to ask for one", "request LOGIN@TARGET --for 30m --reason '…'");
    }
    let mut table = Listing::new(&["REQUEST", "WHO", "WHERE", "WHAT", "ENDS", "USES", "APPROVED BY"]);
    for one in grants {
        let ends = match one.ends {
            Some(ends) => when(ends, reader.now),
            None if one.starts.is_some_and(|starts| starts > reader.now) || one.until.is_some() => {
                format!("{}, unused {}", spelled(&one.duration, false, one.starts, one.until, reader.now), when(one.use_by, reader.now))
            }
            None => format!("{} from first use, unused {}", one.duration, when(one.use_by, reader.now)),
        };
        let uses = one.uses_left.map_or_else(|| "any".to_owned(), |n| n.to_string());
        let cells = [
            one.request.to_string(),
            one.person.to_string(),
            place(one.login.as_str(), &one.targets),
            one.scope.clone(),
            ends,
            uses,
            join(&one.approvers),
        ];
        table.row(Tone::Good, cells);
    }
    table.render(reader.look)
}

fn target_lines(targets: &[TargetLine], reader: &Reader<'_>) -> String {
    if targets.is_empty() {
        return nothing(reader, "policy lets you ask for no target; who you are here", "whoami");
    }
    let mut table = Listing::new(&["TARGET", "LOGIN", "WITHOUT ASKING", "WITH APPROVAL", "OF", "LABELS"]);
    for one in targets {
        let tone = if one.held.is_empty() { Tone::Good } else { Tone::Plain };
        let cells =
            [one.target.clone(), one.login.to_string(), one.free.join(" "), one.held.join(" "), join(&one.workflows), one.labels.join(" ")];
        table.row(tone, cells);
    }
    table.render(reader.look)
}

fn session_lines(sessions: &[SessionLine], reader: &Reader<'_>) -> String {
    if sessions.is_empty() {
        return nothing(reader, "no session that you may see; what you may ask for", "targets");
    }
    let id = id_length(sessions, reader.look);
    let id = |one: &SessionLine| one.session.to_string().chars().take(id).collect::<String>();
    if sessions.iter().all(|one| one.ended.is_none()) {
        return live_lines(sessions, reader, &id);
    }
    let mut table =
        Listing::new(&["SESSION", "WHO", "WHERE", "KIND", "BEGAN", "LASTED", "REQUEST", "END"]).without(&["KIND", "REQUEST", "LASTED"]);
    for one in sessions {
        let (lasted, tone) = match one.ended {
            Some(ended) => (about(ended.since(one.started)), Tone::Plain),
            None => (format!("{}, live", about(reader.now.since(one.started))), Tone::Good),
        };
        let cells = [
            id(one),
            one.person.to_string(),
            format!("{}@{}", one.login, one.target),
            kind_of(one),
            when(one.started, reader.now),
            lasted,
            granted_by(one),
            end_of(one),
        ];
        table.row(tone, cells);
    }
    table.render(reader.look)
}

fn review_lines(lines: &[ReviewLine], reader: &Reader<'_>) -> String {
    if lines.is_empty() {
        return nothing(reader, "nothing waits for a review; what was recorded", "sessions");
    }
    let mut table =
        Listing::new(&["SESSION", "WHO", "WHERE", "KIND", "BEGAN", "LASTED", "REQUEST", "WHY"]).without(&["KIND", "REQUEST", "LASTED"]);
    for one in lines {
        let lasted = one.ended.map_or_else(|| "live".to_owned(), |ended| about(ended.since(one.started)));
        let cells = [
            one.session.to_string(),
            one.person.to_string(),
            format!("{}@{}", one.login, one.target),
            one.kind.clone(),
            when(one.started, reader.now),
            lasted,
            one.request.map(|id| id.to_string()).unwrap_or_default(),
            format!("\"{}\"", one.reason),
        ];
        table.row(Tone::Waiting, cells);
    }
    let how =
        said(&format!("look at one: {}. Then: {}", reader.voice.command("replay SES"), reader.voice.command("reviewed SES --note '…'")));
    format!("{}{how}", table.render(reader.look))
}

/// How it ended, and what its recording waits for.
fn end_of(one: &SessionLine) -> String {
    let outcome = one.outcome.clone().unwrap_or_default();
    let outcome = if one.waits_for_auditor { format!("{outcome}, waiting for an auditor") } else { outcome };
    match &one.reviewed_by {
        _ if one.unreviewed => format!("{outcome}, break-glass, unreviewed"),
        Some(by) => format!("{outcome}, break-glass, reviewed by {by}"),
        None => outcome,
    }
}

/// What runs: who from where, since when, how busy, on which approval, until when.
/// `shell`, `forward-local localhost:5432`
fn kind_of(one: &SessionLine) -> String {
    one.to.as_ref().map_or(one.kind.clone(), |to| format!("{} {to}", one.kind))
}

fn live_lines(sessions: &[SessionLine], reader: &Reader<'_>, id: &dyn Fn(&SessionLine) -> String) -> String {
    let watchers = |one: &SessionLine| one.live.as_ref().map(|live| join(&live.watchers)).unwrap_or_default();
    let watched = sessions.iter().any(|one| !watchers(one).is_empty());
    let mut heads = vec!["SESSION", "WHO", "FROM", "WHERE", "KIND", "SINCE", "IDLE", "IN", "OUT", "REQUEST", "ENDS"];
    heads.extend(watched.then_some("WATCHED BY"));
    let mut table = Listing::new(&heads).without(&["KIND", "IN", "OUT", "FROM", "IDLE"]);
    for one in sessions {
        let live = |tell: &dyn Fn(&LiveLine) -> String| one.live.as_ref().map(tell).unwrap_or_default();
        let soon = one.ends.is_some_and(|ends| ends.since(reader.now) < ENDS_SOON);
        let mut cells = vec![
            id(one),
            one.person.to_string(),
            one.source.clone(),
            format!("{}@{}", one.login, one.target),
            kind_of(one),
            when(one.started, reader.now),
            live(&|live| counted(Duration::from_secs(live.idle_s))),
            live(&|live| amount(live.bytes_in)),
            live(&|live| amount(live.bytes_out)),
            granted_by(one),
            one.ends.map_or_else(|| "open".to_owned(), |ends| when(ends, reader.now)),
        ];
        cells.extend(watched.then(|| watchers(one)));
        table.row(if soon { Tone::Waiting } else { Tone::Good }, cells);
    }
    table.render(reader.look)
}

/// A session that ends within this is marked.
const ENDS_SOON: Duration = Duration::from_secs(300);
/// Characters of a session's id that are its time.
const TIME_OF_ID: usize = 10;

/// How much of their ids tells these sessions apart: on a terminal as little as does, since a beginning
/// is enough to name one; elsewhere all of it.
fn id_length(sessions: &[SessionLine], look: Look) -> usize {
    let mut ids: Vec<String> = sessions.iter().map(|one| one.session.to_string()).collect();
    ids.sort_unstable();
    let same = |(a, b): (&String, &String)| a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let shared = ids.iter().zip(ids.iter().skip(1)).map(same).max().unwrap_or(0);
    if look.width.is_some() { TIME_OF_ID.max(shared + 1) } else { usize::MAX }
}

fn granted_by(one: &SessionLine) -> String {
    let glass = if one.unreviewed && one.ended.is_none() { " (break-glass)" } else { "" };
    one.request.map_or_else(|| "none needed".to_owned(), |id| format!("{id}{glass}"))
}

/// After this long without a proof a key may be lost without anybody knowing.
const PROVE_EVERY: Duration = Duration::from_secs(90 * 86_400);

fn auditor_lines(auditors: &[AuditorLine], reader: &Reader<'_>) -> String {
    if auditors.is_empty() {
        return said("recordings are not encrypted: there is nobody to list (mode = \"plain\")");
    }
    let mut table = Listing::new(&["AUDITOR", "PROVEN", "KEY"]);
    for one in auditors {
        let (proven, tone) = match one.proven {
            Some(at) if reader.now.since(at) <= PROVE_EVERY => (when(at, reader.now), Tone::Good),
            Some(at) => (format!("{}: prove again", when(at, reader.now)), Tone::Plain),
            None => ("never: countersign auditors prove".to_owned(), Tone::Plain),
        };
        table.row(tone, [one.auditor.to_string(), proven, one.key.clone()]);
    }
    table.render(reader.look)
}

fn held_line(held: &Held) -> String {
    let mut text = format!("{} held", held.held);
    if held.gone > 0 {
        let some: Vec<String> = held.certificates.iter().map(ToString::to_string).collect();
        let more = if u64::try_from(some.len()).is_ok_and(|named| named < held.gone) { ", …" } else { "" };
        text.push_str(&format!(", {} already lawfully gone (certificates {}{more})", held.gone, some.join(", ")));
    }
    format!("{text}; hold {} on {}", held.hold.hold, held.hold.on)
}

fn retention(state: &RetentionState, reader: &Reader<'_>) -> String {
    let mut out = format!("{} kept, {} gone; days in {}, marked {} before\n\n", state.kept, state.gone, visible(&state.zone), state.grace);
    let mut table = Listing::new(&["SCHEDULE", "KEEP AT LEAST", "GONE AFTER", ""]);
    for one in &state.schedules {
        let usual = if one.default { "default" } else { "" };
        table.row(Tone::Plain, [one.schedule.to_string(), one.keep_at_least.clone(), one.delete_after.clone(), usual.to_owned()]);
    }
    out.push_str(&table.render(reader.look));
    for bound in &state.bounds {
        out.push_str(&format!("{}\n", visible(bound)));
    }
    if !state.holds.is_empty() {
        let mut table = Listing::new(&["HOLD", "CASE", "ON", "BY", "PLACED", "REASON"]);
        for hold in &state.holds {
            let case = hold.case.clone().unwrap_or_default();
            let cells = [hold.hold.clone(), case, hold.on.clone(), hold.by.to_string(), when(hold.placed, reader.now), hold.reason.clone()];
            table.row(Tone::Plain, cells);
        }
        out.push_str(&format!("\n{}", table.render(reader.look)));
    }
    out
}

fn plan_lines(plan: &[PlanLine], reader: &Reader<'_>) -> String {
    if plan.is_empty() {
        return nothing(reader, "nothing goes in that time; to look further ahead", "retention plan --within 1y");
    }
    let mut table = Listing::new(&["SESSION", "WHO", "WHERE", "SCHEDULE", "GOES", ""]);
    for one in plan {
        let (note, tone) = match (&one.held_by, one.marked) {
            (Some(case), _) => (format!("held: {case}"), Tone::Good),
            (None, Some(_)) => ("marked".to_owned(), Tone::Plain),
            (None, None) => (String::new(), Tone::Plain),
        };
        let cells = [
            one.session.to_string(),
            one.person.to_string(),
            one.target.to_string(),
            one.schedule.to_string(),
            when(one.due, reader.now),
            note,
        ];
        table.row(tone, cells);
    }
    table.render(reader.look)
}

fn audit_lines(rows: &[AuditLine], reader: &Reader<'_>) -> String {
    if rows.is_empty() {
        return nothing(reader, "no row of the log is like that; the newest of all kinds", "audit log");
    }
    let mut table = Listing::new(&["ROW", "WHEN", "WHAT", "FACTS"]);
    for row in rows {
        let facts = row.facts.as_object().map(|facts| {
            let known = facts.iter().filter(|(_, value)| !value.is_null());
            let pairs = known.map(|(key, value)| match value {
                serde_json::Value::String(text) => format!("{key}={text}"),
                other => format!("{key}={other}"),
            });
            pairs.collect::<Vec<_>>().join(" ")
        });
        let cells = [row.seq.to_string(), when(row.at, reader.now), row.name.clone(), facts.unwrap_or_default()];
        table.row(Tone::Plain, cells);
    }
    table.render(reader.look)
}

/// What is wrong first, each with what to do; then the numbers.
fn status_lines(status: &Status, reader: &Reader<'_>) -> String {
    let mut out = String::new();
    for trouble in &status.troubles {
        out.push_str(&reader.look.tone(Tone::Bad, &format!("{}: {}", trouble.what, visible(&trouble.why))));
        out.push_str(&format!("\n  {}\n", visible(&trouble.fix)));
    }
    if status.ok {
        out.push_str(&format!("{}\n", reader.look.tone(Tone::Good, "ok")));
    }
    let days = status.days_left.map_or_else(String::new, |days| format!(", {days} days at the present rate"));
    let signed = status.checkpoint.map_or_else(|| "none yet".to_owned(), |at| when(at, reader.now));
    let lines = [
        ("sessions", format!("{} live, {} being sealed, {} not sealed", status.live_sessions, status.sealing, status.unsealed)),
        ("requests", format!("{} pending, {} grants open", status.pending_requests, status.open_grants)),
        ("disk", format!("{} MB free, floor {} MB{days}", status.free_bytes >> 20, status.floor_bytes >> 20)),
        ("reviews", format!("{} sessions wait for one", status.unreviewed)),
        ("retention", format!("{} marked, {} overdue", status.marked, status.overdue)),
        ("log", format!("{} rows, last checkpoint {signed}", status.log_rows)),
        ("clock", status.clock.clone().unwrap_or_else(|| "believed".into())),
        ("pen", pen(status)),
        ("version", status.version.clone()),
    ];
    out.push_str(&lines.map(|(name, text)| format!("{name:<10}{}\n", visible(&text))).concat());
    for line in &status.away {
        out.push_str(&format!("{:<10}{}\n", "away", away_words(line, reader.now)));
    }
    for BarredLine { person, by, reason, at } in &status.suspended {
        let why = if reason.is_empty() { String::new() } else { format!(": {}", visible(reason)) };
        out.push_str(&format!("{:<10}{person} by {by}, {}{why}\n", "suspended", when(*at, reader.now)));
    }
    for line in &status.notifiers {
        let NotifierLine { notifier, delivered, waiting, dropped, lost, .. } = line;
        out.push_str(&format!("{:<10}{notifier}: {delivered} delivered, {waiting} wait, {dropped} dropped, {lost} lost\n", "notices"));
    }
    out
}

/// `bob until Mon, carol instead`
fn away_words(line: &AwayLine, now: Timestamp) -> String {
    let until = line.until.map(|until| format!(" until {}", crate::access::workflow::day(until, now))).unwrap_or_default();
    let instead = line.instead.as_ref().map(|instead| format!(", {instead} instead")).unwrap_or_default();
    format!("{}{until}{instead}", line.person)
}

fn away_line(line: &AwayLine, now: Timestamp) -> String {
    match line.until {
        None => format!("{} is back", line.person),
        Some(until) => format!("noted: away {} ({})", away_words(line, now), crate::time::at(until, now)),
    }
}

fn suspended_line(line: &SuspendedLine, reader: &Reader<'_>) -> String {
    let SuspendedLine { person, sessions, requests, grants, .. } = line;
    let ended = format!("{} sessions end now; requests void {requests}, approvals ended {grants}", sessions.len());
    let back = reader.voice.command(&format!("unsuspend {person} --reason '…'"));
    format!("{person} is suspended: {ended}. Write suspended = true into people.toml; the way back: {back}")
}

/// Whether certificates are signed, and how well the process that does is locked in.
fn pen(status: &Status) -> String {
    match (&status.pen, status.pen_landlock) {
        (Some(_), _) => "signs nothing".into(),
        (None, Some(true)) => "signs, kept from other files and calls".into(),
        (None, Some(false)) => "signs, kept from other calls; this kernel has no Landlock to keep it from other files".into(),
        (None, None) => "none".into(),
    }
}

fn whoami(me: &Whoami) -> String {
    let mut out = format!(
        "{}  in {}, from {}, at {} ({})\n",
        me.person,
        join(&me.groups),
        visible(&me.source),
        visible(&me.host),
        visible(&me.bastion)
    );
    for key in &me.keys {
        let here = if key.fingerprint == me.key { "  this connection" } else { "" };
        out.push_str(&format!("  {} {}{here}\n", visible(&key.fingerprint), visible(&key.algorithm)));
    }
    out
}

/// What `decision` says on standard error while its bytes go to standard output: the card, and the
/// line that signs.
pub fn beside_decision(issued: &super::reply::Issued, reader: &Reader<'_>) -> String {
    let what = match issued.verdict {
        Verdict::Approve => "approve",
        Verdict::Deny => "deny",
    };
    let mut out = card(&issued.card, reader);
    if !issued.also.is_empty() {
        let also = many::some_of(&issued.also);
        let count = crate::access::alike::counted(issued.also.len() + 1, "request");
        out.push_str(&said(&format!("and all that are like it, {also}: {count}, {}", issued.oddities)));
    }
    out.push_str(&said(&format!("the bytes to sign say: {what} {}; bring the signature within 2 min", issued.card.request)));
    out
}

/// The three lines that decide with nothing but stock tools (`users.md` 5).
pub fn stock_path(host: &str, id: crate::id::RequestId, verdict: &str) -> [String; 3] {
    let namespace = crate::access::decision::NAMESPACE;
    [
        format!("ssh {host} decision {id} {verdict} >d"),
        "less d".to_owned(),
        format!("ssh-keygen -Y sign -n {namespace} -f KEY d && ssh {host} submit {id} <d.sig"),
    ]
}
