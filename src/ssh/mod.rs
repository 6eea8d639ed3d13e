//! Everything that speaks SSH. Read `session.rs` first: the main path of a session.

mod algorithms;
mod alternate;
mod ask;
mod barred;
mod channel;
mod connection;
mod console;
mod crowd;
mod door;
mod factor;
pub mod flow;
mod forward;
mod front;
mod gate;
mod granted;
mod hold;
mod home;
mod jump;
mod lease;
mod listener;
mod login;
mod names;
mod opening;
pub mod probe;
mod queue;
mod relay;
mod room;
pub mod sandbox;
mod session;
mod trust;
mod upstream;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::crowd::Crowd;
use self::door::Door;
use crate::access::{Grant, Principal, Target};
use crate::approvals::{Approvals, Reruled, notices};
use crate::audit::Event;
use crate::authority::pen::Pen;
use crate::authority::{CertificateAuthority, HostCertificates, Keys};
use crate::config::Directory;
use crate::console::{Console, Phase};
use crate::id::SessionId;
use crate::recording::{Ended, Recordings, Sealed};
use crate::retention::disposal::{Disposal, DisposalError};
use crate::store::Store;
use crate::store::clock::Clock;
use crate::store::log::Log;
use crate::time::Timestamp;
use crate::transcript::Outcome;

/// One running node: what a channel needs on its way. Built once, in [`start`].
pub struct Bastion {
    directory: watch::Receiver<Arc<Directory>>,
    store: Store,
    approvals: Approvals,
    authority: CertificateAuthority,
    host_certificates: HostCertificates,
    recordings: Recordings,
    log: Log,
    clock: Clock,
    disposal: Disposal,
    console: Console,
    /// Sessions that ended and whose spools could not be sealed then.
    unsealed: Mutex<Vec<SessionId>>,
    /// True once the node stops.
    stop: watch::Receiver<bool>,
    /// What is told to everybody before that.
    phase: watch::Receiver<Phase>,
    live: Live,
    /// Sessions on a target, from their opening to their end.
    open: Live,
    door: Arc<Door>,
    /// Who waits for a place among the pending requests.
    queue: queue::Queue,
    crowd: Arc<Crowd>,
}

/// How many channels have a task that must not be cut short: it may still have to end a recording.
#[derive(Debug, Clone)]
struct Live(watch::Sender<usize>);

/// One of them, until dropped.
#[derive(Debug)]
struct Alive(watch::Sender<usize>);

impl Live {
    fn enter(&self) -> Alive {
        self.0.send_modify(|count| *count += 1);
        Alive(self.0.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl std::fmt::Debug for Bastion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bastion").finish_non_exhaustive()
    }
}

impl Bastion {
    /// The directory as it is now; a reload swaps it whole.
    fn directory(&self) -> Arc<Directory> {
        self.directory.borrow().clone()
    }

    /// Whether this person may ask for some login and some action there now.
    fn may_ask(&self, who: &Principal, target: &Target, now: Timestamp) -> bool {
        crate::console::is_own(&self.directory(), who, target, now)
    }

    /// Logs a refusal; a report event, so it does not hold up the answer.
    fn report_refusal(&self, who: Principal, wanted: String, why: &str) {
        let store = self.store.clone();
        let event = Event::refused(who.person(), who.source(), &wanted, why);
        tokio::spawn(async move {
            if let Err(error) = store.report(event, Timestamp::now()).await {
                tracing::error!(%error, "a refusal could not be logged");
            }
        });
    }

    /// Logs that no certificate was signed for a session that was opened, and why; a report event.
    fn report_unsigned(&self, grant: &Grant, why: &str) {
        let store = self.store.clone();
        let facts = serde_json::json!({
            "session": grant.session, "request": grant.request, "person": grant.principal.person(), "target": grant.target.id,
            "login": grant.login, "serial": grant.serial.to_string(), "why": why.chars().take(512).collect::<String>(),
        });
        tokio::spawn(async move {
            if let Err(error) = store.report(Event::new("certificate.refuse", facts), Timestamp::now()).await {
                tracing::error!(%error, "a certificate that was refused could not be logged");
            }
        });
    }

    /// Logs who did not come in: counts by source (**D order**).
    async fn report_at_door(&self, refusals: Vec<Event>) {
        for event in refusals {
            if let Err(error) = self.store.report(event, Timestamp::now()).await {
                tracing::error!(%error, "the refusals of a minute at the door could not be logged");
            }
        }
    }

    async fn session_ended(&self, grant: &Grant, outcome: &Outcome) {
        tracing::info!(session = %grant.session, %outcome, "session ended");
        if let Err(error) = self.store.session_ended(grant.session, &outcome.to_string(), Timestamp::now()).await {
            tracing::error!(session = %grant.session, %error, "the end could not be logged");
        }
    }

    async fn seal(&self, session: SessionId, ended: Ended) {
        match ended.seal().await {
            Ok(sealed) => self.sealed(&sealed).await,
            Err(error) => {
                let error = crate::console::with_causes(&error);
                tracing::error!(%session, error, "not sealed; it is tried again, here and at the next start");
                self.unsealed.lock().unwrap_or_else(PoisonError::into_inner).push(session);
            }
        }
    }

    async fn sealed(&self, sealed: &Sealed) {
        let session = sealed.session;
        match self.store.session_sealed(session, sealed.row(), Timestamp::now()).await {
            // The spool goes only when the row stands.
            Ok(()) => {
                if let Err(error) = self.recordings.unlink_spool(session) {
                    tracing::warn!(%session, %error, "a sealed spool could not be removed; the next start will");
                }
            }
            Err(error) => tracing::error!(%session, %error, "sealed, but not in the state; the next start seals again"),
        }
    }

    /// Tries again what could not be sealed, once there may be space again.
    async fn seal_what_is_left(&self) {
        let left = std::mem::take(&mut *self.unsealed.lock().unwrap_or_else(PoisonError::into_inner));
        for session in left {
            match self.recordings.seal_again(session).await {
                Ok(sealed) => self.sealed(&sealed).await,
                Err(error) => {
                    tracing::warn!(%session, error = crate::console::with_causes(&error), "still not sealed");
                    self.unsealed.lock().unwrap_or_else(PoisonError::into_inner).push(session);
                }
            }
        }
    }
}

/// A running node.
#[derive(Debug)]
pub struct Running {
    /// Where it listens, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    /// True once nobody is let in any more.
    shut: watch::Sender<bool>,
    phase: watch::Sender<Phase>,
    tasks: Vec<JoinHandle<()>>,
    live: Live,
    open: Live,
    directory: watch::Sender<Arc<Directory>>,
    pen: Pen,
    store: Store,
    approvals: Approvals,
    recordings: Recordings,
}

#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("the state cannot keep the new policy")]
    Store(#[from] crate::store::StoreError),
    #[error("recordings cannot be protected as it says")]
    Protect(#[from] crate::recording::RecordError),
}

/// The longest that nobody looks whether a restart is due.
const LOOK: std::time::Duration = std::time::Duration::from_secs(5);

/// How long the ends of sessions may take when the node stops.
const STOP: std::time::Duration = std::time::Duration::from_secs(20);

impl Running {
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Swaps the directory. What opens from now on is ruled by it; sessions that run, requests that wait
    /// and grants that are open are ruled again (**D policy change**); where it listens and writes stays as
    /// it started. Returns what it voided.
    ///
    /// Fails, and changes nothing, where the state cannot keep the new policy or a directory of key files
    /// cannot be used.
    pub async fn reload(&self, directory: Arc<Directory>) -> Result<Reruled, ReloadError> {
        let (now, before) = (Timestamp::now(), self.directory.borrow().digest);
        self.store.keep_policy(directory.digest, Some(before), &directory.texts, now).await?;
        self.recordings.protect(directory.config.recordings.protection.clone())?;
        self.recordings.keep_for_rescue(directory.reserve());
        let policy = directory.digest;
        let suspended = self.store.suspensions().await?.into_iter().map(|suspension| suspension.person).collect();
        // Live sessions look by themselves (`lease`).
        self.directory.send_replace(Arc::new(directory.with_suspended(suspended)));
        if let Err(error) = self.pen.rereads(policy).await {
            tracing::error!(error = crate::console::with_causes(&error), "the pen has not read these policies: it signs nothing by them");
        }
        Ok(self.approvals.rerule(now).await.unwrap_or_else(|error| {
            tracing::error!(error = crate::console::with_causes(&error), "what is pending is ruled again when it is decided or opened");
            Reruled::default()
        }))
    }

    /// Logs a reload that was not taken, and what kept it.
    pub async fn not_reloaded(&self, why: &str, errors: usize) {
        let kept = self.directory.borrow().digest;
        let facts = serde_json::json!({ "policy": kept, "why": why, "errors": errors });
        if let Err(error) = self.store.report(Event::new("policy.refuse", facts), Timestamp::now()).await {
            tracing::error!(error = crate::console::with_causes(&error), "a reload that was not taken could not be logged");
        }
    }

    /// Returns when an announced restart is due.
    pub async fn due(&self) {
        let mut phase = self.phase.subscribe();
        loop {
            let announced = match &*phase.borrow_and_update() {
                Phase::Announced { at, .. } => Some(*at),
                Phase::Serving | Phase::Draining { .. } => None,
            };
            let now = Timestamp::now();
            if announced.is_some_and(|at| at <= now) {
                return;
            }
            // Short steps: the wall clock may be set meanwhile.
            let left = announced.map_or(LOOK, |at| at.since(now).min(LOOK));
            tokio::select! {
                _ = phase.changed() => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    /// Lets nobody and nothing new in, tells everybody, and waits for what runs: until it has ended by
    /// itself, or as long as `[limits] drain` says.
    pub async fn drain(&self) {
        let longest = self.directory.borrow().config.limits.drain;
        self.shut.send_replace(true);
        self.phase.send_replace(Phase::Draining { at: Timestamp::now().plus(longest) });
        let mut open = self.open.0.subscribe();
        let _ = tokio::time::timeout(longest, open.wait_for(|count| *count == 0)).await;
    }

    /// How many sessions run on targets.
    pub fn open(&self) -> usize {
        *self.open.0.borrow()
    }

    /// Stops accepting, ends every session with a word, and waits until their recordings are sealed. What
    /// is not sealed within [`STOP`] is sealed at the next start.
    pub async fn stop(self) {
        self.shut.send_replace(true);
        self.stop.send_replace(true);
        for task in self.tasks {
            let _ = task.await;
        }
        let mut live = self.live.0.subscribe();
        if tokio::time::timeout(STOP, live.wait_for(|count| *count == 0)).await.is_err() {
            tracing::warn!(left = *live.borrow(), "stopped before every session had ended");
        }
    }
}

/// The parts a node is put together from; made by `cli::serve`.
#[derive(Debug)]
pub struct Parts {
    pub directory: watch::Sender<Arc<Directory>>,
    pub keys: Keys,
    /// Who signs for sessions.
    pub pen: Pen,
    pub store: Store,
    pub approvals: Approvals,
    pub recordings: Recordings,
    pub log: Log,
    pub clock: Clock,
    pub disposal: Disposal,
    /// Listeners that a service manager has bound; where there are any, `listen` is not.
    pub handed_over: Vec<std::net::TcpListener>,
}

/// Starts listening.
pub async fn start(parts: Parts) -> std::io::Result<Running> {
    let Parts { directory: reload, keys, pen, store, approvals, recordings, log, clock, disposal, handed_over } = parts;
    let directory = reload.subscribe();
    let (stop, stopped) = watch::channel(false);
    let (shut, closed) = watch::channel(false);
    let (live, open) = (Live(watch::Sender::new(0)), Live(watch::Sender::new(0)));
    let console = Console::new(approvals.clone(), store.clone(), recordings.clone(), log.clone(), disposal.clone(), directory.clone());
    let console = console.signing(pen.clone());
    let (listen, metrics) = {
        let config = &directory.borrow().config;
        (config.listen.clone(), config.metrics)
    };
    let for_monitors = match metrics {
        Some(address) => Some((TcpListener::bind(address).await?, console.clone())),
        None => None,
    };
    let (kept_store, kept_approvals, kept_recordings) = (store.clone(), approvals.clone(), recordings.clone());
    let phase = console.phase.clone();
    let (door, crowd) = (Arc::<Door>::default(), Arc::<Crowd>::default());
    let bastion = Arc::new(Bastion {
        directory,
        store,
        approvals,
        authority: CertificateAuthority::new(pen.clone()),
        host_certificates: HostCertificates::new(&keys),
        recordings,
        log,
        clock,
        disposal,
        console,
        unsealed: Mutex::new(Vec::new()),
        stop: stopped.clone(),
        phase: phase.subscribe(),
        live: live.clone(),
        open: open.clone(),
        door: door.clone(),
        queue: queue::Queue::default(),
        crowd: crowd.clone(),
    });
    let (mut addresses, mut tasks) = (Vec::new(), Vec::new());
    let mut listeners = Vec::new();
    for listener in handed_over {
        listener.set_nonblocking(true)?;
        listeners.push(TcpListener::from_std(listener)?);
    }
    if listeners.is_empty() {
        for address in listen {
            listeners.push(TcpListener::bind(address).await?);
        }
    }
    for listener in listeners {
        addresses.push(listener.local_addr()?);
        tasks.push(tokio::spawn(listener::accept(bastion.clone(), listener, closed.clone())));
    }
    if let Some((listener, console)) = for_monitors {
        tasks.push(tokio::spawn(crate::metrics::serve(
            listener,
            console,
            Box::new(move || (door.crowd(), crowd.connections())),
            stopped.clone(),
        )));
    }
    tasks.push(tokio::spawn(notices::run(bastion.approvals.clone(), bastion.console.desk.clone(), stopped.clone())));
    tasks.push(tokio::spawn(dispose(bastion.clone(), stopped.clone())));
    tasks.push(tokio::spawn(barred::publish(kept_store.clone(), reload.clone(), stopped.clone())));
    tasks.push(tokio::spawn(sweep(bastion, stopped)));
    Ok(Running {
        addresses,
        stop,
        shut,
        phase,
        tasks,
        live,
        open,
        directory: reload,
        pen,
        store: kept_store,
        approvals: kept_approvals,
        recordings: kept_recordings,
    })
}

/// Returns once the node stops.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the node is gone altogether.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// How often recordings that are due are looked for.
const DISPOSE: std::time::Duration = std::time::Duration::from_secs(30);

/// Deletes what is due, by itself.
async fn dispose(bastion: Arc<Bastion>, mut stop: watch::Receiver<bool>) {
    let mut due = tokio::time::interval(DISPOSE);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = due.tick() => {}
            () = stopped(&mut stop) => return,
        }
        bastion.seal_what_is_left().await;
        let grace = bastion.directory().schedules.grace;
        // Not cut short in the middle of a recording: the loop ends after this sweep at the latest.
        match bastion.disposal.sweep(grace, Timestamp::now()).await {
            Ok(swept) if swept.erased + swept.marked > 0 => {
                tracing::info!(marked = swept.marked, erased = swept.erased, held = swept.held, "retention");
            }
            Ok(_) => {}
            Err(DisposalError::Clock(why)) => tracing::warn!(why, "nothing is deleted while the clock cannot be believed"),
            Err(error) => tracing::error!(error = crate::console::with_causes(&error), "retention failed; it is tried again"),
        }
    }
}

/// Expires and voids what is due, every second.
async fn sweep(bastion: Arc<Bastion>, mut stop: watch::Receiver<bool>) {
    let mut changes = bastion.directory.clone();
    changes.mark_unchanged();
    let mut second = tokio::time::interval(std::time::Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = second.tick() => {
                let now = Timestamp::now();
                if let Err(error) = bastion.clock.tick(crate::time::seen().await).await {
                    tracing::error!(%error, "the clock could not be written down");
                }
                if let Err(error) = bastion.store.take_probes(bastion.clock.why_not_mint(), now).await {
                    tracing::error!(%error, "probes of `countersign ca check` could not be written down");
                }
                // Once more after a reload: for what was being asked while the directory was swapped.
                if changes.has_changed().unwrap_or(false) {
                    changes.mark_unchanged();
                    if let Err(error) = bastion.approvals.rerule(now).await {
                        changes.mark_changed();
                        tracing::error!(%error, "what is pending could not be ruled again; it is tried again in a second");
                    }
                }
                if let Err(error) = bastion.approvals.move_on(now).await {
                    tracing::error!(error = crate::console::with_causes(&error), "nobody else could be asked; it is tried again in a second");
                }
                if let Err(error) = bastion.approvals.sweep(now).await {
                    tracing::error!(%error, "the sweep failed; it is tried again in a second");
                }
                bastion.report_at_door(bastion.door.refusals_of_the_minute(now)).await;
                if let Err(error) = bastion.log.tick(now).await {
                    tracing::error!(error = crate::console::with_causes(&error), "no checkpoint could be signed; it is tried again in a second");
                }
            }
            () = stopped(&mut stop) => {
                bastion.report_at_door(bastion.door.last_refusals()).await;
                return;
            }
        }
    }
}
