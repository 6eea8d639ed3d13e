//! Spools that a crash left to the auditors, and keys of spools that could not be sealed when they ended.
//!
//! Always true: such a spool stays as it is until an auditor's key has opened it and what was sealed of it
//! stands in the state; no key of one is kept beyond that, nor written anywhere.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::read::{NoSpool, SpoolReader};
use super::{Node, RecordError, Recordings, Sealed, off_the_runtime, recover};
use crate::id::SessionId;
use crate::transcript::spool::{KEY, SpoolKey};

#[derive(Debug, Default)]
pub(super) struct Locked(Mutex<Spools>);

#[derive(Debug, Default)]
struct Spools {
    waiting: BTreeSet<SessionId>,
    keys: HashMap<SessionId, SpoolKey>,
}

impl Locked {
    fn spools(&self) -> MutexGuard<'_, Spools> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, session: SessionId) {
        self.spools().waiting.insert(session);
    }

    pub(super) fn waits(&self, session: SessionId) -> bool {
        self.spools().waiting.contains(&session)
    }

    /// Keeps the key of a spool of this boot that is to be sealed again.
    pub(super) fn keep(&self, session: SessionId, key: SpoolKey) {
        self.spools().keys.insert(session, key);
    }

    pub(super) fn key_of(&self, session: SessionId) -> Option<SpoolKey> {
        self.spools().keys.get(&session).cloned()
    }

    /// Once its spool is gone.
    pub(super) fn forget(&self, session: SessionId) {
        let mut spools = self.spools();
        spools.waiting.remove(&session);
        spools.keys.remove(&session);
    }
}

impl Recordings {
    /// The sessions whose interrupted recordings only an auditor can open.
    pub fn waiting(&self) -> Vec<SessionId> {
        self.node.locked.spools().waiting.iter().copied().collect()
    }

    pub fn waits_for_auditor(&self, session: SessionId) -> bool {
        self.node.locked.waits(session)
    }

    /// The envelope of a spool that waits: an age file to those who were auditors when it began.
    pub async fn envelope(&self, session: SessionId) -> Result<Vec<u8>, RecordError> {
        let node = self.node.clone();
        off_the_runtime(move || {
            let path = node.layout.spool(session);
            let read = File::open(&path).and_then(SpoolReader::envelope_of);
            read.map_err(|e| RecordError::io("could not read", &path, e))?.map_err(|no| match no {
                NoSpool::Unbegun => RecordError::Unbegun { path },
                NoSpool::Locked => RecordError::Locked { path },
                NoSpool::Bad(why) => RecordError::BadSpool { path, why },
            })
        })
        .await?
    }

    /// Seals a spool that waits, as interrupted, with the key that an auditor took out of its envelope. The
    /// spool stays until [`Recordings::unlink_spool`].
    pub async fn unlock(&self, session: SessionId, key: &[u8; KEY]) -> Result<Unlocked, RecordError> {
        if !self.node.live.insert(session) {
            return Err(RecordError::Busy);
        }
        let alone = Alone { node: Arc::clone(&self.node), session };
        // Asked last: whoever had it before has unlinked it by now, or left it waiting.
        if !self.waits_for_auditor(session) {
            return Err(RecordError::Busy);
        }
        let key = SpoolKey::new(key);
        let turn = Arc::clone(&self.node.seals).acquire_owned().await.map_err(|_| RecordError::Stopped)?;
        off_the_runtime(move || {
            let _turn = turn;
            recover::unlock(&alone.node, session, key).map(|sealed| Unlocked { sealed, _alone: alone })
        })
        .await?
    }
}

/// What was sealed of a spool that waited. Nobody else touches the spool while this is held: until the row
/// stands, another attempt would take these very files away.
#[derive(Debug)]
pub struct Unlocked {
    pub sealed: Sealed,
    _alone: Alone,
}

#[derive(Debug)]
struct Alone {
    node: Arc<Node>,
    session: SessionId,
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.node.live.remove(self.session);
    }
}
