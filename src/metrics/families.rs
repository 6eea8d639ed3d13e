//! The metrics by name. Counters are the rows of the audit log by their names, since every change of state
//! has its row; gauges are the node's status at the moment of the scrape.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;

use super::Crowd;
use crate::console::Console;
use crate::console::reply::Status;
use crate::console::status::StatusError;
use crate::time::Timestamp;

type Labels = Vec<(String, String)>;

/// Rows of the log that are counted at once.
const READ: u32 = 4096;

/// What `troubles` can be about.
const TROUBLES: [&str; 10] = ["clock", "pen", "disk", "seal", "recover", "disposal", "checkpoint", "auditors", "notifier", "review"];

pub struct Families {
    pub console: Console,
    crowd: Crowd,
    counted: Mutex<Counted>,
}

/// The registry, and up to which row of the log events have been counted.
#[derive(Debug)]
struct Counted {
    registry: Registry,
    events: Family<Labels, Counter>,
    /// Of this process's first scrape or later; `None` before it.
    through: Option<u64>,
    gauges: Gauges,
}

#[derive(Debug, Default)]
struct Gauges {
    live_sessions: Gauge,
    pending_requests: Gauge,
    open_grants: Gauge,
    free_bytes: Gauge,
    floor_bytes: Gauge,
    sealing: Gauge,
    unsealed: Gauge,
    waiting_for_auditor: Gauge,
    marked: Gauge,
    overdue: Gauge,
    log_rows: Gauge,
    checkpoint_age: Gauge<f64, AtomicU64>,
    unproved: Gauge,
    unreviewed: Gauge,
    notices: Family<Labels, Gauge>,
    trouble: Family<Labels, Gauge>,
    connections: Gauge,
    unauthenticated: Gauge,
    waiting_at_door: Gauge,
}

impl std::fmt::Debug for Families {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Families").finish_non_exhaustive()
    }
}

impl Families {
    pub fn new(console: Console, crowd: Crowd) -> Self {
        let mut registry = Registry::with_prefix("countersign");
        let events = Family::<Labels, Counter>::default();
        registry.register("audit_events", "Rows of the audit log since the bastion started, by name", events.clone());
        let gauges = Gauges::default();
        gauges.register(&mut registry);
        let info = Family::<Labels, Gauge>::default();
        info.get_or_create(&vec![("version".into(), env!("CARGO_PKG_VERSION").into())]).set(1);
        registry.register("build", "The version that runs", info);
        Self { console, crowd, counted: Mutex::new(Counted { registry, events, through: None, gauges }) }
    }

    /// OpenMetrics text of now.
    pub async fn render(&self, now: Timestamp) -> Result<String, StatusError> {
        let status = self.console.status(now).await?;
        let mut counted = self.counted.lock().await;
        let mut through = match counted.through {
            Some(through) => through,
            // Counters begin with the process, as scrapers expect.
            None => self.console.store.rows_at_start(),
        };
        loop {
            let names = self.console.store.names_after(through, READ).await?;
            for (seq, name) in &names {
                counted.events.get_or_create(&vec![("name".into(), name.clone())]).inc();
                through = *seq;
            }
            if names.len() < READ as usize {
                break;
            }
        }
        counted.through = Some(through);
        counted.gauges.set(&status, now);
        let ((inside, waiting), connections) = (self.crowd)();
        counted.gauges.connections.set(i64::try_from(connections).unwrap_or(i64::MAX));
        counted.gauges.unauthenticated.set(i64::try_from(inside).unwrap_or(i64::MAX));
        counted.gauges.waiting_at_door.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &counted.registry);
        Ok(text)
    }
}

impl Gauges {
    fn register(&self, registry: &mut Registry) {
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge("live_sessions", "Sessions that run now", &self.live_sessions);
        gauge("pending_requests", "Requests that wait for a decision or a reason", &self.pending_requests);
        gauge("open_grants", "Approvals that are open", &self.open_grants);
        gauge("recordings_free_bytes", "Free bytes on the recordings' file system", &self.free_bytes);
        gauge("recordings_floor_bytes", "Free bytes below which no session opens", &self.floor_bytes);
        gauge("sealing_sessions", "Sessions that have ended and are being sealed", &self.sealing);
        gauge("unsealed_sessions", "Sessions that could not be sealed", &self.unsealed);
        gauge("waiting_sessions", "Interrupted recordings that wait for an auditor", &self.waiting_for_auditor);
        gauge("marked_recordings", "Recordings that are marked to go", &self.marked);
        gauge("overdue_recordings", "Recordings that should have gone", &self.overdue);
        gauge("log_rows", "Rows of the audit log", &self.log_rows);
        gauge("unproved_auditors", "Auditors who did not show for 90 days that they can decrypt", &self.unproved);
        gauge("unreviewed_sessions", "Sessions that were opened by break-glass and wait for a review", &self.unreviewed);
        gauge("connections", "Connections that have logged in", &self.connections);
        gauge("unauthenticated_connections", "Connections that have not logged in", &self.unauthenticated);
        gauge("waiting_connections", "Connections that wait for a place among them", &self.waiting_at_door);
        registry.register("checkpoint_age_seconds", "Since the oldest row without a checkpoint", self.checkpoint_age.clone());
        registry.register("notices", "Notices since the bastion started, by notifier and what became of them", self.notices.clone());
        registry.register("trouble", "1 where somebody has to do something; countersign status says what", self.trouble.clone());
    }

    fn set(&self, status: &Status, now: Timestamp) {
        let set = |gauge: &Gauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.live_sessions, status.live_sessions);
        set(&self.pending_requests, status.pending_requests);
        set(&self.open_grants, status.open_grants);
        set(&self.free_bytes, status.free_bytes);
        set(&self.floor_bytes, status.floor_bytes);
        set(&self.sealing, status.sealing);
        set(&self.unsealed, status.unsealed);
        set(&self.waiting_for_auditor, status.waiting_for_auditor);
        set(&self.marked, status.marked);
        set(&self.overdue, status.overdue);
        set(&self.log_rows, status.log_rows);
        set(&self.unreviewed, status.unreviewed);
        set(&self.unproved, status.unproved.len() as u64);
        self.checkpoint_age.set(status.unsigned_since.map_or(0.0, |since| now.since(since).as_secs_f64()));
        // A notifier that was taken out of the settings is gone here too.
        self.notices.clear();
        for line in &status.notifiers {
            let counts = [("delivered", line.delivered), ("waiting", line.waiting), ("dropped", line.dropped), ("lost", line.lost)];
            for (became, count) in counts {
                let labels = vec![("notifier".into(), line.notifier.to_string()), ("became".into(), became.into())];
                set(&self.notices.get_or_create(&labels), count);
            }
        }
        for what in TROUBLES {
            let is = status.troubles.iter().any(|trouble| trouble.what == what);
            self.trouble.get_or_create(&vec![("what".into(), what.into())]).set(i64::from(is));
        }
    }
}
