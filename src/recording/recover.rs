//! At start: what the last boot left behind is sealed, cut at its last good record.
//!
//! Each spool is on its own: one that is broken, or cannot be sealed now, keeps no other from it and is
//! never removed.

use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::read::Unwrapped;
use super::seal::{delete_outputs, seal};
use super::spool::describe;
use super::{Node, RecordError, Sealed, off_the_runtime};
use crate::id::SessionId;
use crate::transcript::spool::SpoolKey;

pub(super) async fn recover(node: &Arc<Node>, is_sealed: &(dyn Fn(SessionId) -> bool + Send + Sync)) -> Result<Vec<Sealed>, RecordError> {
    let listed = Arc::clone(node);
    let (sessions, strangers) = off_the_runtime(move || listed.layout.all_spools()).await??;
    for path in &strangers {
        set_aside(path, "its name is no session's");
    }
    let mut seals = JoinSet::new();
    for session in sessions.into_iter().filter(|session| !node.live.contains(*session)) {
        if is_sealed(session) {
            node.layout.unlink_spool(session)?;
            continue;
        }
        let node = Arc::clone(node);
        seals.spawn(async move {
            let _turn = Arc::clone(&node.seals).acquire_owned().await.map_err(|_| RecordError::Stopped)?;
            let node = Arc::clone(&node);
            off_the_runtime(move || again(&node, session)).await?
        });
    }
    let mut all = Vec::new();
    while let Some(sealed) = seals.join_next().await {
        match sealed.unwrap_or(Err(RecordError::Stopped)) {
            Ok(sealed) => {
                tracing::warn!(session = %sealed.session, outcome = %sealed.outcome, "sealed what the last run left behind");
                all.push(sealed);
            }
            Err(error @ RecordError::Unbegun { .. }) => tracing::warn!(%error, "removed"),
            Err(error @ RecordError::Locked { .. }) => {
                tracing::warn!(%error, "an interrupted recording waits for an auditor: countersign auditors recover");
            }
            Err(error) => tracing::error!(error = %describe(&error), "a spool could not be sealed and stays"),
        }
    }
    all.sort_unstable_by_key(|sealed| sealed.session);
    Ok(all)
}

/// Seals one spool that could not be sealed when its session ended; whoever calls knows that nobody else does.
pub(super) async fn seal_again(node: &Arc<Node>, session: SessionId) -> Result<Sealed, RecordError> {
    let _turn = Arc::clone(&node.seals).acquire_owned().await.map_err(|_| RecordError::Stopped)?;
    let node = Arc::clone(node);
    off_the_runtime(move || again(&node, session)).await?
}

/// Deletes the outputs of an attempt that no row speaks of, and seals anew.
fn again(node: &Node, session: SessionId) -> Result<Sealed, RecordError> {
    let spool = node.layout.spool(session);
    delete_outputs(&node.layout, &node.protection(), session)?;
    let sealed = seal(node, &spool, &|envelope| match node.locked.key_of(session) {
        Some(key) => Unwrapped::Key(key),
        None => node.recovery.unwrap(envelope),
    });
    match &sealed {
        Err(RecordError::Locked { .. }) => node.locked.insert(session),
        Err(RecordError::BadSpool { why, .. }) => set_aside(&spool, why),
        Err(RecordError::Unbegun { .. }) => node.layout.unlink_spool(session)?,
        Ok(_) | Err(_) => {}
    }
    sealed
}

/// Seals a spool with the key that an auditor took out of its envelope; blocks on the disk.
///
/// A key that does not open it changes nothing: the spool stays, and waits.
pub(super) fn unlock(node: &Node, session: SessionId, key: SpoolKey) -> Result<Sealed, RecordError> {
    let spool = node.layout.spool(session);
    delete_outputs(&node.layout, &node.protection(), session)?;
    let sealed = seal(node, &spool, &|_| Unwrapped::Key(key.clone()));
    if let Err(RecordError::Unbegun { .. }) = &sealed {
        node.layout.unlink_spool(session)?;
        node.locked.forget(session);
    }
    sealed
}

/// Moves a spool that is none out of the way, with all that it holds.
fn set_aside(path: &Path, why: &str) {
    // Never over an older one.
    let free = (0u32..).map(|n| if n == 0 { path.with_extension("spool.bad") } else { path.with_extension(format!("spool.{n}.bad")) });
    let Some(aside) = free.into_iter().find(|aside| !aside.exists()) else { return };
    match std::fs::rename(path, &aside) {
        Ok(()) => tracing::error!(spool = %path.display(), aside = %aside.display(), why, "set aside a spool that cannot be read"),
        Err(error) => tracing::error!(spool = %path.display(), %error, why, "could not set aside a spool that cannot be read"),
    }
}
