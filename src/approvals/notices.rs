//! Who is told what by notifiers, and when: approvers when they are asked, the requester when it is decided and
//! before it ends (`users.md` 6).
//!
//! Runs beside everything else, on the hints that go out after a commit: nobody waits for it. It remembers what
//! it has told in memory alone. After a restart what waits counts as told; what was on its way is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{ApprovalError, Approvals, RequestFilter, RequestState, RequestView};
use crate::access::action::Class;
use crate::access::request::RequestDocument;
use crate::config::Directory;
use crate::id::{Digest, NotifierName, Person, RequestId};
use crate::notify::{About, Desk, Happened, Notice};
use crate::time::Timestamp;

/// Requests that differ only in their targets within this long are one notice.
const TOGETHER: Duration = Duration::from_secs(2);
/// Requests in one notice; more begin another.
const MOST: usize = 500;
/// How often grants are looked at that are about to end, and how long before the end somebody is told.
const LOOK: Duration = Duration::from_secs(5);
const BEFORE_END: Duration = Duration::from_secs(300);
/// A window that is shorter begins with its end in sight.
const LONG: Duration = Duration::from_secs(600);
/// News that is older is none.
const NEWS: Duration = Duration::from_secs(600);
/// What has been told is remembered so long after nobody could decide any more.
const REMEMBER: Duration = Duration::from_secs(3600);
const TICK: Duration = Duration::from_millis(500);
const READ: u32 = 20_000;

/// Tells until the node stops.
pub async fn run(approvals: Approvals, desk: Desk, mut stop: watch::Receiver<bool>) {
    let mut directory = approvals.directory.clone();
    let mut hints = approvals.hints();
    desk.set(&directory.borrow_and_update().config.notifiers);
    let started = Timestamp::now();
    let mut teller = Teller { approvals, desk, started, told: HashMap::new(), ending: HashMap::new(), asking: Vec::new() };
    teller.remember().await;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            hint = hints.recv() => match hint {
                Ok(id) => teller.look(id).await,
                Err(RecvError::Lagged(_)) => teller.look_at_all().await,
                Err(RecvError::Closed) => return,
            },
            Ok(()) = directory.changed() => teller.desk.set(&directory.borrow_and_update().config.notifiers),
            _ = tick.tick() => {
                teller.ask().await;
                if looked.elapsed() >= LOOK {
                    looked = Instant::now();
                    teller.look_ahead().await;
                }
            }
            () = stopped(&mut stop) => break,
        }
    }
    let waiting: u64 = teller.desk.standing().iter().map(|standing| standing.waiting).sum();
    if waiting > 0 {
        tracing::warn!(waiting, "stopped before these notices were delivered");
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the node is gone altogether.
    let _ = stop.wait_for(|stop| *stop).await;
}

struct Teller {
    approvals: Approvals,
    desk: Desk,
    started: Timestamp,
    told: HashMap<RequestId, Told>,
    /// Ends that were announced.
    ending: HashMap<RequestId, Timestamp>,
    asking: Vec<Asking>,
}

/// What has been said of a request.
struct Told {
    asked: Vec<Person>,
    over: bool,
    not_after: Timestamp,
}

/// Requests that differ only in their targets, until they are told.
struct Asking {
    like: Like,
    due: Instant,
    requests: Vec<RequestId>,
}

/// What requests of one notice share.
#[derive(PartialEq, Eq)]
struct Like {
    but_target: Digest,
    asked: Vec<Person>,
    notifiers: Vec<NotifierName>,
}

impl Teller {
    /// What waits from before the start has been told.
    async fn remember(&mut self) {
        for view in self.open().await {
            self.told.insert(view.id, Told { asked: view.asked, over: false, not_after: view.document.not_after() });
        }
    }

    async fn open(&self) -> Vec<RequestView> {
        let read = async {
            let directory = self.approvals.directory();
            let mut snapshot = self.approvals.store.snapshot().await?;
            let mut views = Vec::new();
            for row in snapshot.requests(&RequestFilter { open_only: true, person: None, limit: READ }).await? {
                if row.state == RequestState::Pending {
                    views.push(self.approvals.view_of(&mut snapshot, row, &directory, Timestamp::now()).await?);
                }
            }
            Ok::<_, ApprovalError>(views)
        };
        read.await.unwrap_or_else(|error| {
            tracing::error!(error = %error, "what waits could not be read for notices");
            Vec::new()
        })
    }

    async fn look_at_all(&mut self) {
        let known: Vec<RequestId> = self.told.iter().filter(|(_, told)| !told.over).map(|(id, _)| *id).collect();
        let open: Vec<RequestId> = self.open().await.into_iter().map(|view| view.id).collect();
        for id in known.into_iter().chain(open) {
            self.look(id).await;
        }
    }

    /// Tells what is new about a request.
    async fn look(&mut self, id: RequestId) {
        let view = match self.approvals.view(id).await {
            Ok(Some(view)) => view,
            Ok(None) => return,
            Err(error) => return tracing::error!(request = %id, error = %error, "a request could not be read for notices"),
        };
        match &view.state {
            RequestState::Pending => self.pending(&view),
            RequestState::Approved | RequestState::Denied { .. } | RequestState::Expired => self.over(&view),
            RequestState::Withdrawn | RequestState::Void => {
                self.told.remove(&id);
            }
            RequestState::NeedsReason => {}
        }
    }

    fn pending(&mut self, view: &RequestView) {
        let not_after = view.document.not_after();
        match self.told.get_mut(&view.id) {
            None => {
                self.told.insert(view.id, Told { asked: view.asked.clone(), over: false, not_after });
                self.gather(view);
            }
            Some(told) => {
                let new: Vec<Person> = view.asked.iter().filter(|person| !told.asked.contains(person)).cloned().collect();
                if !new.is_empty() {
                    told.asked.extend(new.iter().cloned());
                    let left = not_after.since(Timestamp::now());
                    self.tell(std::slice::from_ref(view), &Happened::Escalated { to: new, left }, not_after);
                }
            }
        }
    }

    /// Puts a request to others like it that came just now.
    fn gather(&mut self, view: &RequestView) {
        let like = Like::of(view, self.notifiers(&view.document));
        if like.notifiers.is_empty() {
            return;
        }
        match self.asking.iter_mut().find(|asking| asking.like == like && asking.requests.len() < MOST) {
            Some(asking) => asking.requests.push(view.id),
            None => self.asking.push(Asking { like, due: Instant::now() + TOGETHER, requests: vec![view.id] }),
        }
    }

    /// Tells what has been gathered, and what of it still waits.
    async fn ask(&mut self) {
        let now = Instant::now();
        let due = self.asking.extract_if(.., |asking| asking.due <= now).collect::<Vec<_>>();
        for asking in due {
            let mut views = Vec::new();
            for id in asking.requests {
                let view = self.approvals.view(id).await.ok().flatten();
                views.extend(view.filter(|view| view.state == RequestState::Pending));
            }
            let Some(first) = views.first() else { continue };
            let not_after = first.document.not_after();
            let left = not_after.since(Timestamp::now());
            self.tell(&views, &Happened::Asked { of: asking.like.asked, left }, not_after);
        }
    }

    fn over(&mut self, view: &RequestView) {
        let now = Timestamp::now();
        let (made, not_after) = (view.document.made(), view.document.not_after());
        let told = self.told.entry(view.id).or_insert_with(|| {
            // Of before the start, or forgotten since: its grant has changed, not its decision.
            let over = made < self.started || not_after.plus(REMEMBER) < now;
            Told { asked: Vec::new(), over, not_after }
        });
        if std::mem::replace(&mut told.over, true) {
            return;
        }
        let happened = match &view.state {
            RequestState::Approved if view.document.break_glass => Happened::BreakGlass { to: view.deciders.clone() },
            RequestState::Approved => {
                let granted = view.granted.as_ref().map_or(view.document.for_us, |terms| terms.for_us);
                Happened::Approved { by: view.approvers.clone(), duration: Duration::from_micros(granted) }
            }
            RequestState::Denied { by, note } => Happened::Denied { by: by.clone(), note: note.clone() },
            _ => Happened::Expired,
        };
        self.tell(std::slice::from_ref(view), &happened, now.plus(NEWS));
    }

    /// Tells of grants that are about to end, and forgets what nobody asks about any more.
    async fn look_ahead(&mut self) {
        let now = Timestamp::now();
        self.told.retain(|_, told| !told.over || told.not_after.plus(REMEMBER) >= now);
        self.ending.retain(|_, ends| *ends >= now);
        let soon = async { self.approvals.store.snapshot().await?.grants_ending(now.plus(BEFORE_END)).await };
        let soon = soon.await.unwrap_or_else(|error| {
            tracing::error!(error = %error, "what ends soon could not be read for notices");
            Vec::new()
        });
        for (id, first_used, ends) in soon {
            if ends <= now || ends.since(first_used) < LONG || self.ending.insert(id, ends) == Some(ends) {
                continue;
            }
            if let Ok(Some(view)) = self.approvals.view(id).await {
                self.tell(&[view], &Happened::Ending { left: ends.since(now) }, ends);
            }
        }
    }

    fn tell(&self, views: &[RequestView], happened: &Happened, until: Timestamp) {
        let Some(first) = views.first() else { return };
        let host = self.approvals.directory().config.host.clone();
        let notice = Notice::of(&about(views, &first.document), happened, &host, until);
        self.desk.leave(self.notifiers(&first.document), &notice);
    }

    /// The notifiers of all workflows that it goes through, each once.
    fn notifiers(&self, document: &RequestDocument) -> Vec<NotifierName> {
        let directory: Arc<Directory> = self.approvals.directory();
        let workflows = document.needs.iter().filter_map(|needs| directory.workflows.get(&needs.workflow));
        let mut names: Vec<NotifierName> = workflows.flat_map(|workflow| workflow.notify.iter().cloned()).collect();
        names.sort();
        names.dedup();
        names
    }
}

impl Like {
    fn of(view: &RequestView, notifiers: Vec<NotifierName>) -> Self {
        Self { but_target: view.document.but_target(), asked: view.asked.clone(), notifiers }
    }
}

fn about(views: &[RequestView], document: &RequestDocument) -> About {
    let mut targets: Vec<_> = views.iter().flat_map(|view| view.document.targets.iter().map(|target| target.id.clone())).collect();
    targets.sort();
    targets.dedup();
    About {
        requests: views.iter().map(|view| view.id).collect(),
        person: document.person.clone(),
        login: document.login.clone(),
        targets,
        what: what(document),
        duration: document.duration(),
        once: document.once,
        reason: document.reason.clone(),
    }
}

/// `shell`: with what comes with it, a notice need not say. The text of a command stays on the card: it may
/// hold what is nobody's in a chat.
fn what(document: &RequestDocument) -> String {
    match &document.extends {
        Some(extends) => format!("more time on {}", extends.request),
        None if document.scope.0.contains(&Class::Shell) => "shell".to_owned(),
        None => document.scope.words(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::request::tests::sample;
    use crate::access::scope::Scope;
    use crate::id::Digest;

    #[test]
    fn a_notice_names_the_kind_and_never_the_command() {
        let scoped = |classes: &[Class]| RequestDocument { scope: Scope(classes.iter().cloned().collect()), ..sample() };
        assert_eq!(what(&scoped(&[Class::Shell, Class::ExecAny, Class::SftpRead, Class::SftpWrite])), "shell");
        let exact = RequestDocument { commands: vec!["mysql -psecret".into()], ..scoped(&[Class::Exec(Digest::of(b"mysql -psecret"))]) };
        assert_eq!(what(&exact), "one exact command");
        assert_eq!(what(&scoped(&[Class::SftpRead, Class::SftpWrite])), "file transfer");
    }
}
