//! Where notices are left, and who takes them on: a queue and a task for each notifier.
//!
//! A queue holds [`QUEUE`] notices; when it is full the oldest is dropped and counted. A notice is tried
//! [`PAUSES`] times with growing pauses, never after its time, and then counted as lost. A notifier that hangs
//! holds up its own notices and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{NotDelivered, Notice, Notifier, Notifiers, Plan};
use crate::id::NotifierName;
use crate::time::Timestamp;

/// Notices of one notifier that wait.
const QUEUE: usize = 256;
/// Before each try.
const PAUSES: [Duration; 4] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];
/// A bound on one try, whatever the notifier's own is.
const TRY: Duration = Duration::from_secs(70);
/// Tries that failed one after another from which on somebody should look.
pub const FAILING: u32 = 3;

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Desk {
    lines: Arc<Mutex<BTreeMap<NotifierName, Line>>>,
}

#[derive(Debug)]
struct Line {
    plan: Plan,
    queue: VecDeque<Notice>,
    wake: Arc<Notify>,
    work: JoinHandle<()>,
    counts: Counts,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counts {
    delivered: u64,
    dropped: u64,
    lost: u64,
    /// Tries that failed since the last that did not.
    failed: u32,
    why: Option<String>,
}

/// How a notifier does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub name: NotifierName,
    pub delivered: u64,
    pub waiting: u64,
    /// For want of room.
    pub dropped: u64,
    /// Tried in vain, or too late.
    pub lost: u64,
    /// Tries that failed one after another.
    pub failed: u32,
    pub why: Option<String>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Desk {
    fn lines(&self) -> MutexGuard<'_, BTreeMap<NotifierName, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes on the notifiers of a directory; what waits for one that stays goes on waiting.
    pub fn set(&self, notifiers: &Notifiers) {
        let mut lines = self.lines();
        lines.retain(|name, _| notifiers.contains_key(name));
        for (name, plan) in notifiers {
            if lines.get(name).is_some_and(|line| line.plan == *plan) {
                continue;
            }
            let wake = Arc::new(Notify::new());
            let work = tokio::spawn(work(self.clone(), name.clone(), plan.notifier(), wake.clone()));
            let queue = lines.get_mut(name).map(|line| std::mem::take(&mut line.queue)).unwrap_or_default();
            wake.notify_one();
            lines.insert(name.clone(), Line { plan: plan.clone(), queue, wake, work, counts: Counts::default() });
        }
    }

    /// Leaves a notice for these notifiers. Never waits.
    pub fn leave(&self, names: impl IntoIterator<Item = NotifierName>, notice: &Notice) {
        let mut lines = self.lines();
        for name in names {
            let Some(line) = lines.get_mut(&name) else { continue };
            if line.queue.len() >= QUEUE {
                line.queue.pop_front();
                line.counts.dropped += 1;
            }
            line.queue.push_back(notice.clone());
            line.wake.notify_one();
        }
    }

    pub fn standing(&self) -> Vec<Standing> {
        let standing = |(name, line): (&NotifierName, &Line)| Standing {
            name: name.clone(),
            delivered: line.counts.delivered,
            waiting: line.queue.len() as u64,
            dropped: line.counts.dropped,
            lost: line.counts.lost,
            failed: line.counts.failed,
            why: line.counts.why.clone(),
        };
        self.lines().iter().map(standing).collect()
    }

    fn next(&self, name: &NotifierName) -> Option<Notice> {
        self.lines().get_mut(name)?.queue.pop_front()
    }

    fn count(&self, name: &NotifierName, how: impl FnOnce(&mut Counts)) {
        if let Some(line) = self.lines().get_mut(name) {
            how(&mut line.counts);
        }
    }
}

/// Delivers what is left for one notifier, one after another, for as long as it is configured.
async fn work(desk: Desk, name: NotifierName, notifier: Box<dyn Notifier>, wake: Arc<Notify>) {
    loop {
        match desk.next(&name) {
            Some(notice) => deliver(&desk, &name, &*notifier, &notice).await,
            None => wake.notified().await,
        }
    }
}

async fn deliver(desk: &Desk, name: &NotifierName, notifier: &dyn Notifier, notice: &Notice) {
    for pause in PAUSES {
        tokio::time::sleep(pause).await;
        if notice.until <= Timestamp::now() {
            break;
        }
        let tried = tokio::time::timeout(TRY, notifier.deliver(notice)).await;
        let Err(failed) = tried.unwrap_or_else(|_| Err(NotDelivered::now("it took too long"))) else {
            desk.count(name, |counts| *counts = Counts { delivered: counts.delivered + 1, failed: 0, why: None, ..counts.clone() });
            tracing::debug!(notifier = %name, kind = notice.kind, "a notice was delivered");
            return;
        };
        tracing::warn!(notifier = %name, kind = notice.kind, why = %failed, "a notice was not delivered");
        desk.count(name, |counts| (counts.failed, counts.why) = (counts.failed.saturating_add(1), Some(failed.why.clone())));
        if !failed.again {
            break;
        }
    }
    desk.count(name, |counts| counts.lost += 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::CommandPlan;

    fn command(script: &str) -> Plan {
        let args = vec!["-c".into(), script.into()];
        Plan::Command(CommandPlan { program: "/bin/sh".into(), args, within: Duration::from_secs(30) })
    }

    fn notice(n: usize) -> Notice {
        Notice::test(&n.to_string(), "bastion", Timestamp::now().plus(Duration::from_secs(600)))
    }

    fn name(text: &str) -> NotifierName {
        text.parse().unwrap()
    }

    async fn until(there: impl Fn() -> bool) {
        let wait = async {
            while !there() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("within 20 s");
    }

    fn of(desk: &Desk, which: &str) -> Standing {
        desk.standing().into_iter().find(|standing| standing.name == name(which)).unwrap()
    }

    #[tokio::test]
    async fn one_that_hangs_delays_no_other_and_keeps_the_newest() {
        let desk = Desk::default();
        desk.set(&[(name("dead"), command("sleep 600")), (name("live"), command("cat >/dev/null"))].into());
        desk.leave([name("dead"), name("live"), name("unknown")], &notice(0));
        until(|| of(&desk, "live").delivered == 1 && of(&desk, "dead").waiting == 0).await;
        for n in 1..=QUEUE + 7 {
            desk.leave([name("dead")], &notice(n));
        }
        let dead = of(&desk, "dead");
        assert_eq!((dead.waiting, dead.dropped, dead.delivered), (QUEUE as u64, 7, 0));
        // Another plan under the same name gets what still waits.
        desk.set(&[(name("dead"), command("cat >/dev/null"))].into());
        until(|| of(&desk, "dead").delivered > 2).await;
        assert_eq!(desk.standing().len(), 1);
    }

    #[tokio::test]
    async fn what_fails_is_tried_again_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let tried = dir.path().join("tried");
        let script = format!("echo >>{0}; [ $(wc -l <{0}) -ge 2 ]", tried.display());
        let desk = Desk::default();
        desk.set(&[(name("page"), command(&script))].into());
        desk.leave([name("page")], &notice(1));
        until(|| of(&desk, "page").failed == 1).await;
        assert!(of(&desk, "page").why.unwrap().contains("exit status: 1"));
        until(|| of(&desk, "page").delivered == 1).await;
        assert_eq!((of(&desk, "page").failed, of(&desk, "page").why), (0, None));
        let late = Notice { until: Timestamp::from_micros(0), ..notice(2) };
        desk.leave([name("page")], &late);
        until(|| of(&desk, "page").lost == 1).await;
    }
}
