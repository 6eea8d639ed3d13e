//! Whom the state suspends is in every directory that is published: at the start, with a reload, and here within
//! a second of the row.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::Directory;
use crate::id::Person;
use crate::store::Store;

/// A hint may be lost, or a reload have read the rows a moment before.
const LOOK: Duration = Duration::from_secs(1);

/// Publishes the directory anew whenever somebody is suspended, or no more.
pub(super) async fn publish(store: Store, directory: watch::Sender<Arc<Directory>>, mut stop: watch::Receiver<bool>) {
    let mut changes = store.suspended();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            changed = changes.changed() => if changed.is_err() { return },
            () = super::stopped(&mut stop) => return,
        }
        match store.suspensions().await {
            Ok(suspensions) => {
                let suspended: BTreeSet<Person> = suspensions.into_iter().map(|suspension| suspension.person).collect();
                directory.send_if_modified(|directory| {
                    let differs = *directory.people.suspended() != suspended;
                    if differs {
                        *directory = Arc::new(directory.with_suspended(suspended));
                    }
                    differs
                });
            }
            Err(error) => tracing::error!(%error, "who is suspended could not be read; it is tried again in a second"),
        }
    }
}
