//! The hold: a channel waits here, outside russh's event loop, until somebody has decided.
//!
//! The request's row is the truth; hints and ticks only make us read it again. Nothing the client sends
//! is lost or looked into, except what `users.md` 1 allows: at a prompt typed-ahead is dropped and 0x03
//! withdraws; an exec with a terminal withdraws on a packet of exactly 0x03.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::ask::{Asking, Ruled};
use super::channel::{ClientChannel, Status};
use super::flow::Item;
use super::opening::Opening;
use super::session::Stop;
use super::{Bastion, granted, queue, room};
use crate::access::request::{MAX_REASON, Needs};
use crate::access::ruling::{Hold, Ruling, Terms};
use crate::access::{OpeningContext, Principal, Target, Want};
use crate::approvals::{self, Again, Ask, Basis, Joined, RequestState, RequestView, SubmitError, Waiter};
use crate::console::Phase;
use crate::id::{Digest, Login, Person, RequestId, WorkflowName};
use crate::time::{Timestamp, at};

/// How often somebody at a prompt sees the clock, and how often anybody else gets a line.
const TICK: Duration = Duration::from_secs(1);
const LINE: Duration = Duration::from_secs(8);

/// What a session is opened on.
#[derive(Debug)]
pub struct Held {
    pub basis: Basis,
    pub terms: Terms,
    pub by_text: bool,
    pub context: OpeningContext,
    pub policy: Digest,
}

impl Held {
    fn on(basis: Basis, terms: Terms, ruled: &Ruled) -> Self {
        Self { basis, terms, by_text: ruled.by_text, context: ruled.context.clone(), policy: ruled.policy }
    }
}

/// How one wait came out.
enum Waited {
    Held(Held),
    /// The directory has changed, and with it what has to be asked, or a turn has come: once more, from the
    /// ruling on.
    Again,
}

/// Whose turn it is: kept from one try to the next, so that nobody loses their place.
#[derive(Default)]
struct Turns {
    /// Among the held channels of the connection.
    held: Option<OwnedSemaphorePermit>,
    /// Among the pending requests of the person.
    place: Option<queue::Place>,
}

/// Waits until this channel may be opened, or says why it may not. A reload on the way that asks for
/// other approvals begins the wait anew; the person only reads so.
pub async fn until_approved(asking: &mut Asking<'_>, opening: &mut Opening, client: &ClientChannel) -> Result<Held, Stop> {
    let mut turns = Turns::default();
    loop {
        let ruled = asking.rule().await?;
        if ruled.by_text && opening.pty.is_some() {
            let text = "refused: a command that is allowed by its exact text gets no terminal; run it without -t";
            return Err(Stop::new(text, Status::Refused));
        }
        room::admit(asking.bastion, &asking.principal, &asking.target, &asking.login, &ruled.asked.ruling, client).await?;
        match wait(asking, ruled, opening, client, &mut turns).await? {
            Waited::Held(held) => return Ok(held),
            Waited::Again => {}
        }
    }
}

async fn wait(
    asking: &mut Asking<'_>,
    ruled: Ruled,
    opening: &mut Opening,
    client: &ClientChannel,
    turns: &mut Turns,
) -> Result<Waited, Stop> {
    let Asking { bastion, principal, target, login, want, .. } = &*asking;
    let (terms, holds) = match &ruled.asked.ruling {
        Ruling::Permit(terms) => return Ok(Waited::Held(Held::on(Basis::Permitted, terms.clone(), &ruled))),
        Ruling::RequireApproval { terms, holds } => (terms.clone(), holds.clone()),
        Ruling::Deny(_) => return Err(Stop::new("refused", Status::Refused)),
    };
    let usable = bastion.approvals.usable(principal, target, login, want, &holds, Timestamp::now()).await;
    if let Some(id) = usable.map_err(state_lost)? {
        return Ok(Waited::Held(Held::on(Basis::Approved(id), terms, &ruled)));
    }
    if turns.held.is_none() {
        let text = format!("behind your {} held channels on this connection; this one waits in turn", client.held_at_most());
        let Some(turn) = client.turn(&text).await else { return Err(Stop { text: None, status: Status::Undecided }) };
        turns.held = Some(turn);
    }
    let waiter = if matches!(want.without_agent(), Want::Shell) { Waiter::Shell } else { Waiter::Other };
    let commands = ruled.asked.scope.exact_commands(want);
    let ask = Ask {
        targets: vec![target.clone()],
        login: login.clone(),
        scope: ruled.asked.scope,
        holds,
        terms,
        commands,
        stdin: true,
        duration: None,
        once: false,
        start: None,
        reason: opening.reason.clone(),
        waiter,
        again: Again::No,
    };
    let glass = bastion.approvals.may_break_glass(principal, &ask, Timestamp::now());
    // Before it is asked: a place that is freed meanwhile is not missed.
    let hints = bastion.approvals.hints();
    // Others of this person came first; what is asked already is joined all the same.
    let first = turns.place.as_ref().map_or_else(|| !bastion.queue.is_waited_in(principal.person()), queue::Place::is_first);
    let submitted = match first {
        true => bastion.approvals.submit(principal, ask, Timestamp::now()).await,
        false => bastion.approvals.join(principal, ask, Timestamp::now()).await,
    };
    let (id, joined) = match submitted {
        Ok(submitted) => submitted,
        Err(behind @ (SubmitError::TooManyOfYours(_) | SubmitError::TooMany(_))) => {
            let client = (client, opening.pty.is_some());
            turns.place = Some(queue::turn(bastion, turns.place.take(), principal.person(), client, &behind, hints).await?);
            return Ok(Waited::Again);
        }
        Err(error) => return Err(not_submitted(error, target, login)),
    };
    // The next one's turn.
    turns.place = None;
    let waiting = bastion.approvals.wait(id, waiter, Timestamp::now()).await.map_err(state_lost)?;
    let mut hold = Wait { bastion, principal, target, login, asking, opening, client, id, joined, glass, shown: Shown::default() };
    let end = hold.wait().await;
    match end {
        HoldEnd::Approved => {
            waiting.leave(Timestamp::now()).await.map_err(state_lost)?;
            if opening.is_a_person() {
                granted::tell(bastion, id, client).await;
            }
            still_stands(asking, id).await
        }
        HoldEnd::Passed => {
            waiting.leave(Timestamp::now()).await.map_err(state_lost)?;
            still_stands(asking, id).await
        }
        HoldEnd::PolicyChanged { reason } => {
            client.say(&format!("the policy changed: {id} is void")).await;
            opening.reason = opening.reason.take().or(reason);
            Ok(Waited::Again)
        }
        HoldEnd::Going => {
            waiting.stay();
            Err(Stop::new(format!("the bastion restarts; {id} stays asked, the same command brings you back"), Status::Ended))
        }
        HoldEnd::Stop(stop) => {
            let _ = waiting.leave(Timestamp::now()).await;
            Err(stop)
        }
    }
}

/// Rules again after the wait: the hour, the policy or the person's groups may have changed. What is
/// asked now must be what was approved (**D policy change**).
async fn still_stands(asking: &mut Asking<'_>, id: RequestId) -> Result<Waited, Stop> {
    let was_outdated = asking.is_outdated();
    let ruled = asking.rule().await?;
    let (terms, holds) = match &ruled.asked.ruling {
        Ruling::Permit(terms) => (terms.clone(), Vec::new()),
        Ruling::RequireApproval { terms, holds } => (terms.clone(), holds.clone()),
        Ruling::Deny(_) => return Err(Stop::new("refused", Status::Refused)),
    };
    let Asking { bastion, principal, target, login, want, .. } = asking;
    let usable = bastion.approvals.usable(principal, target, login, want, &holds, Timestamp::now()).await;
    match usable.map_err(state_lost)? {
        Some(usable) => Ok(Waited::Held(Held::on(Basis::Approved(usable), terms, &ruled))),
        None if was_outdated => Ok(Waited::Again),
        None => Err(granted::not_enough(bastion, id, want).await),
    }
}

enum HoldEnd {
    Approved,
    /// Another approval of theirs covers it meanwhile: one made ahead, or break-glass.
    Passed,
    /// The request is void because of a reload; the reason that it had.
    PolicyChanged {
        reason: Option<String>,
    },
    /// The bastion stops; the request stays.
    Going,
    Stop(Stop),
}

/// What the client has read so far.
#[derive(Default)]
struct Shown {
    needs_reason: bool,
    pending: bool,
    /// What was said last of whose turn it is, by workflow; and how far that was.
    turns: Vec<String>,
    stages: BTreeMap<WorkflowName, usize>,
    clock: bool,
    announced: bool,
    /// Who was said to be looking.
    looking: Vec<Person>,
    typed: String,
    /// Bytes of a character that is not whole yet.
    partial: Vec<u8>,
    /// The client's EOF, which is the shell's and not ours.
    eof: bool,
}

struct Wait<'a> {
    bastion: &'a Bastion,
    principal: &'a Principal,
    target: &'a Target,
    login: &'a Login,
    asking: &'a Asking<'a>,
    opening: &'a mut Opening,
    client: &'a ClientChannel,
    id: RequestId,
    joined: Joined,
    /// Whether policy lets them open first.
    glass: bool,
    shown: Shown,
}

impl Wait<'_> {
    async fn wait(&mut self) -> HoldEnd {
        let person = self.opening.is_a_person();
        let exec_with_terminal = self.opening.pty.is_some() && !person;
        self.client.inbox.watch_interrupt(exec_with_terminal);
        let end = self.until_decided(person).await;
        self.client.inbox.watch_interrupt(false);
        if self.shown.eof {
            self.client.inbox.put_back(vec![Item::Eof]);
        }
        if self.shown.clock {
            self.client.raw("\r\n".into()).await;
        }
        end
    }

    async fn until_decided(&mut self, person: bool) -> HoldEnd {
        let mut hints = self.bastion.approvals.hints();
        let started = Instant::now();
        let every = if person { TICK } else { LINE };
        let mut tick = interval_at(started + every, every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = self.bastion.stop.clone();
        let mut phase = self.bastion.phase.clone();
        // An announcement from before is news to who comes now.
        phase.mark_changed();
        let mut woken = false;
        loop {
            let view = match self.bastion.approvals.view(self.id).await {
                Ok(Some(view)) => view,
                Ok(None) => return stopped("this request is gone", Status::Refused),
                Err(error) => return HoldEnd::Stop(state_lost(error)),
            };
            if let Some(end) = self.look(&view, person).await {
                return end;
            }
            if std::mem::take(&mut woken) && self.may_pass(&view).await {
                return HoldEnd::Passed;
            }
            if view.looking.iter().any(|person| !self.shown.looking.contains(person)) {
                self.waiting(started.elapsed(), &view, person).await;
            }
            self.shown.looking.clone_from(&view.looking);
            // Until the row may have changed.
            loop {
                tokio::select! {
                    hint = hints.recv() => match hint {
                        Ok(id) if id != self.id => {}
                        Ok(_) | Err(RecvError::Lagged(_)) => {
                            woken = true;
                            break;
                        }
                        Err(RecvError::Closed) => return HoldEnd::Going,
                    },
                    _ = self.client.inbox.gone() => return HoldEnd::Stop(Stop { text: None, status: Status::Undecided }),
                    () = self.client.inbox.interrupted() => return self.withdraw().await,
                    item = self.client.inbox.next(), if person => match item {
                        Some(item) => if let Some(end) = self.typed(item, &view).await { return end },
                        None => return HoldEnd::Stop(Stop { text: None, status: Status::Undecided }),
                    },
                    now = tick.tick() => {
                        self.still_waiting(now.duration_since(started), &view, person).await;
                        // A hint can be lost; the row cannot.
                        break;
                    }
                    Ok(()) = phase.changed() => {
                        let now = phase.borrow_and_update().clone();
                        if let Some(end) = self.phase(&now).await {
                            return end;
                        }
                    }
                    () = super::stopped(&mut stop) => return HoldEnd::Going,
                }
            }
        }
    }

    /// Whether they hold an approval by now that covers what waits here.
    async fn may_pass(&self, view: &RequestView) -> bool {
        let hold = |needs: &Needs| Hold { workflow: needs.workflow.clone(), policy: needs.policy.clone(), message: needs.message.clone() };
        let holds: Vec<Hold> = view.document.needs.iter().map(hold).collect();
        let (target, want) = (self.target, &self.asking.want);
        let usable = self.bastion.approvals.usable(self.principal, target, self.login, want, &holds, Timestamp::now()).await;
        view.state.is_open() && usable.is_ok_and(|usable| usable.is_some())
    }

    /// Acts on the row: ends the hold, or shows what is new.
    async fn look(&mut self, view: &RequestView, person: bool) -> Option<HoldEnd> {
        let again = format!("Again: ssh {}={}@{}", self.login, self.target.id, self.bastion.directory().config.host);
        match &view.state {
            RequestState::Approved => return Some(HoldEnd::Approved),
            RequestState::Denied { by, note } if note.is_empty() => return Some(stopped(format!("denied by {by}"), Status::Refused)),
            RequestState::Denied { by, note } => {
                return Some(stopped(format!("denied by {by}: {}", crate::console::visible(note)), Status::Refused));
            }
            RequestState::Withdrawn => return Some(stopped(format!("{} was withdrawn", self.id), Status::Refused)),
            RequestState::Expired => return Some(stopped(format!("nobody decided {} in time. {again}", self.id), Status::Undecided)),
            RequestState::Void if self.asking.is_outdated() => {
                let reason = &view.document.reason;
                return Some(HoldEnd::PolicyChanged { reason: (!reason.is_empty()).then(|| reason.clone()) });
            }
            RequestState::Void => return Some(stopped(format!("{} is void. {again}", self.id), Status::Refused)),
            RequestState::NeedsReason if !self.shown.needs_reason => {
                self.shown.needs_reason = true;
                if person {
                    self.say_what_is_needed(view).await;
                    for prompt in &view.prompts {
                        self.client.say(&crate::console::visible(prompt)).await;
                    }
                    self.client.raw("countersign: reason: ".into()).await;
                } else {
                    let host = &self.bastion.directory().config.host;
                    let prompt: String = view.prompts.iter().map(|prompt| format!(" ({})", crate::console::visible(prompt))).collect();
                    let how = format!("ssh {host} reason {} 'INC-42 …'", self.id);
                    self.client.say(&format!("{} waits for your reason{prompt}: {how}", self.id)).await;
                }
            }
            RequestState::Pending if !self.shown.pending => {
                self.shown.pending = true;
                self.say_pending(view, person).await;
                self.shown.stages = stages(view);
                self.say_turns(view).await;
            }
            RequestState::Pending => self.say_turns(view).await,
            RequestState::NeedsReason => {}
        }
        None
    }

    /// Says what has changed of whom it asks (`users.md` 16), each once.
    async fn say_turns(&mut self, view: &RequestView) {
        let mut lines = Vec::new();
        let stages = stages(view);
        for (workflow, stage) in &stages {
            if self.shown.stages.get(workflow).is_some_and(|shown| shown < stage) {
                lines.extend(next_stage(view, workflow));
            }
        }
        self.shown.stages = stages;
        let words: Vec<String> = view.turns.iter().filter_map(|turn| approvals::turn_words(turn, Timestamp::now())).collect();
        lines.extend(words.iter().filter(|words| !self.shown.turns.contains(words)).cloned());
        self.shown.turns = words;
        if !lines.is_empty() && std::mem::take(&mut self.shown.clock) {
            self.client.raw("\r\n".into()).await;
        }
        for line in lines {
            self.client.say(&line).await;
        }
    }

    /// What is announced is said, here on any channel: nothing runs on it yet.
    async fn phase(&mut self, phase: &Phase) -> Option<HoldEnd> {
        match phase {
            Phase::Draining { .. } => return Some(HoldEnd::Going),
            Phase::Announced { .. } => {
                let announced = phase.words(Timestamp::now()).unwrap_or_default();
                if std::mem::take(&mut self.shown.clock) {
                    self.client.raw("\r\n".into()).await;
                }
                self.client.say(&format!("{announced}; {} stays asked, the same command brings you back", self.id)).await;
                self.shown.announced = true;
            }
            Phase::Serving if std::mem::take(&mut self.shown.announced) => self.client.say("bastion goes on").await,
            Phase::Serving => {}
        }
        None
    }

    async fn say_what_is_needed(&self, view: &RequestView) {
        self.client.say(&format!("{}@{} needs approval: {}", self.login, self.target.id, needs(view))).await;
    }

    async fn say_pending(&self, view: &RequestView, person: bool) {
        let now = Timestamp::now();
        let asked: Vec<String> = view.asked.iter().map(ToString::to_string).collect();
        let asked = if asked.is_empty() { "nobody is asked yet".to_owned() } else { format!("asked {}", asked.join(", ")) };
        let reason = crate::console::visible(&view.document.reason);
        let reason = if reason.is_empty() { String::new() } else { format!(" · reason {reason}") };
        let expires = format!("expires {}", at(view.document.not_after(), now));
        let joined = if self.joined == Joined::Existing { " (joined)" } else { "" };
        if person {
            if !self.shown.needs_reason {
                self.say_what_is_needed(view).await;
            }
            self.client.say(&format!("request {}{joined} · code {}{reason} · {asked} · {expires}", self.id, view.code)).await;
            self.client.say(&format!("approve with   countersign approve {}", self.id)).await;
        } else {
            let what = format!("{}@{} needs approval: {}", self.login, self.target.id, needs(view));
            self.client
                .say(&format!(
                    "{what} · request {}{joined} · code {}{reason} · {asked} · {expires} · approve with: countersign approve {}",
                    self.id, view.code, self.id
                ))
                .await;
        }
        if self.glass {
            let how = format!("countersign request --break-glass {}@{} --reason '…'", self.login, self.target.id);
            self.client.say(&format!("emergency: {how}   opens now; everybody is told, somebody else reviews it")).await;
        }
    }

    async fn still_waiting(&mut self, waited: Duration, view: &RequestView, person: bool) {
        if person {
            return self.waiting(waited, view, person).await;
        }
        let (minutes, seconds) = (waited.as_secs() / 60, waited.as_secs() % 60);
        self.client.say(&format!("still waiting {minutes}:{seconds:02}, {}{}", self.id, looking(view))).await;
    }

    /// The clock, and who is looking (`users.md` 6): at a prompt in place, else a line.
    async fn waiting(&mut self, waited: Duration, view: &RequestView, person: bool) {
        let (minutes, seconds) = (waited.as_secs() / 60, waited.as_secs() % 60);
        if self.client.is_silent() {
            // Once is enough on a terminal that something else has.
        } else if !person {
            self.client.say(&format!("waiting {minutes}:{seconds:02}{}", looking(view))).await;
        } else if view.state == RequestState::Pending {
            // What the line before it showed may have been longer.
            let rest = if view.looking.is_empty() && self.shown.looking.is_empty() { "" } else { "\u{1b}[K" };
            self.shown.clock = true;
            let text = format!("\rcountersign: waiting {minutes:02}:{seconds:02}{} (Ctrl-C withdraws){rest}", looking(view));
            self.client.raw(text).await;
        }
    }

    /// Somebody at a prompt did something. Typed-ahead is dropped, save for the reason they are asked.
    async fn typed(&mut self, item: Item, view: &RequestView) -> Option<HoldEnd> {
        match item {
            Item::Data(bytes) => {
                for byte in bytes {
                    if byte == 3 {
                        return Some(self.withdraw().await);
                    }
                    if view.state == RequestState::NeedsReason && self.edit(byte).await {
                        return self.give_reason().await;
                    }
                }
            }
            Item::Resize(size) => {
                if let Some(pty) = &mut self.opening.pty {
                    pty.size = size;
                }
            }
            Item::Eof => self.shown.eof = true,
            _ => {}
        }
        None
    }

    /// One key of the reason, echoed; true at Enter.
    async fn edit(&mut self, byte: u8) -> bool {
        let typed = &mut self.shown.typed;
        let echo = match byte {
            b'\r' | b'\n' => {
                self.client.raw("\r\n".into()).await;
                return true;
            }
            8 | 0x7f => typed.pop().map(|_| "\u{8} \u{8}".to_owned()),
            0x15 => {
                let back = "\u{8} \u{8}".repeat(typed.chars().count());
                typed.clear();
                Some(back)
            }
            b' '..=b'~' | 0x80.. if typed.len() < MAX_REASON => {
                let partial = &mut self.shown.partial;
                partial.push(byte);
                match std::str::from_utf8(partial).map(str::to_owned) {
                    Ok(whole) => {
                        partial.clear();
                        // Nothing that would move the cursor or turn the line around is shown or signed.
                        let whole: String = whole.chars().filter(|c| !c.is_control()).collect();
                        typed.push_str(&whole);
                        Some(whole)
                    }
                    Err(broken) => {
                        if broken.error_len().is_some() {
                            partial.clear();
                        }
                        None
                    }
                }
            }
            _ => None,
        };
        if let Some(echo) = echo {
            self.client.raw(echo).await;
        }
        false
    }

    async fn give_reason(&mut self) -> Option<HoldEnd> {
        let reason = std::mem::take(&mut self.shown.typed);
        match self.bastion.approvals.give_reason(self.id, self.principal, reason.trim(), Timestamp::now()).await {
            Ok(()) => None,
            Err(error @ approvals::ApprovalError::Reason(_)) => {
                self.client.say(&error.to_string()).await;
                self.client.raw("countersign: reason: ".into()).await;
                None
            }
            Err(error) => Some(HoldEnd::Stop(state_lost(error))),
        }
    }

    async fn withdraw(&self) -> HoldEnd {
        if let Err(error) = self.bastion.approvals.withdraw(self.id, self.principal, Timestamp::now()).await {
            tracing::warn!(request = %self.id, %error, "not withdrawn");
        }
        if self.shown.clock {
            self.client.raw("\r\n".into()).await;
        }
        HoldEnd::Stop(Stop::new(format!("{} withdrawn", self.id), Status::Refused))
    }
}

/// ` · bob is looking`
fn looking(view: &RequestView) -> String {
    if view.looking.is_empty() { String::new() } else { format!(" · {} looking", crate::console::are(&view.looking)) }
}

/// For whoever comes while the bastion drains.
pub fn going() -> Stop {
    Stop::new("the bastion restarts and opens nothing new; connect again in a moment", Status::Ended)
}

fn stopped(text: impl Into<String>, status: Status) -> HoldEnd {
    HoldEnd::Stop(Stop::new(text, status))
}

/// How far each workflow is that waits.
fn stages(view: &RequestView) -> BTreeMap<WorkflowName, usize> {
    view.turns.iter().map(|turn| (turn.workflow.clone(), turn.stage)).collect()
}

/// `stage 2 of 2: 1 of heads · asked gina`
fn next_stage(view: &RequestView, workflow: &WorkflowName) -> Option<String> {
    let track = view.tracks.iter().find(|track| track.workflow == *workflow)?;
    let turn = view.turns.iter().find(|turn| turn.workflow == *workflow)?;
    let asked: Vec<&str> = turn.asked.iter().map(Person::as_str).collect();
    let asked = if asked.is_empty() { String::new() } else { format!(" · asked {}", asked.join(", ")) };
    Some(format!("stage {} of {}: {} of {}{asked}", track.stage + 1, track.stages, track.quorum, track.approvers.join(", ")))
}

/// `1 of sre-leads (prod-needs-a-lead)`, one for each workflow.
fn needs(view: &RequestView) -> String {
    let tracks: Vec<String> = view
        .tracks
        .iter()
        .map(|track| {
            let have = u32::try_from(track.have.len()).unwrap_or(u32::MAX);
            let missing = track.quorum.saturating_sub(have);
            let policy = view
                .document
                .needs
                .iter()
                .find(|needs| needs.workflow == track.workflow)
                .map_or(String::new(), |n| format!(" ({})", n.policy));
            format!("{missing} of {}{policy}", track.approvers.join(", "))
        })
        .collect();
    tracks.join(" and ")
}

fn not_submitted(error: SubmitError, target: &Target, login: &Login) -> Stop {
    match error {
        SubmitError::DeniedLately { .. } => Stop::new(
            format!("{}. Again: countersign request {login}@{} --again --reason …", crate::console::visible(&error.to_string()), target.id),
            Status::Refused,
        ),
        SubmitError::Reason(_) => Stop::new(format!("refused: {error}"), Status::Malformed),
        SubmitError::Store(error) => state_lost(error),
        other => Stop::new(format!("refused: {other}"), Status::Refused),
    }
}

fn state_lost(error: impl std::error::Error) -> Stop {
    tracing::error!(%error, "the state failed a held channel");
    Stop::new("refused: the bastion's state cannot be read or written; try again, or tell an operator", Status::Refused)
}
