//! What people do besides opening sessions: one grammar, one `execute`, rendered or as JSON.
//! (stub: signatures only)

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::access::Principal;
use crate::approvals::Approvals;
use crate::config::Directory;
use crate::recording::Recordings;
use crate::store::Store;

#[derive(Debug, Clone)]
pub struct Console {
    pub approvals: Approvals,
    pub store: Store,
    pub recordings: Recordings,
    pub directory: watch::Receiver<Arc<Directory>>,
}

/// The terminal of a console channel, if it has one.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    pub cols: u32,
    pub rows: u32,
}

impl Console {
    /// Runs one command line of the stock client (`ssh bastion approve K7Q3FM`); no command is help and
    /// what waits for this person. Returns the exit status.
    pub async fn run(
        &self,
        _who: &Principal,
        _command: &str,
        _terminal: Option<Terminal>,
        _input: impl AsyncRead + Unpin + Send,
        _out: impl AsyncWrite + Unpin + Send,
        _err: impl AsyncWrite + Unpin + Send,
    ) -> u32 {
        todo!()
    }

    /// Serves the companion on the subsystem `countersign-v1` (**D wire**) until it hangs up.
    pub async fn wire(&self, _who: &Principal, _input: impl AsyncRead + Unpin + Send, _out: impl AsyncWrite + Unpin + Send) -> u32 {
        todo!()
    }
}
pub fn nearby(_d: &Directory, _p: &Principal, _n: &str) -> Vec<String> {
    todo!()
}
pub fn visible(_t: &str) -> String {
    todo!()
}
