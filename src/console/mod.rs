//! What people do besides opening sessions: one grammar, one `execute`, rendered or as JSON.
//!
//! The stock client (`ssh bastion requests`) and the companion (subsystem `countersign-v1`) end in the
//! same `execute`, which authorizes, does and audits. Unknown and not-yours are one answer. Nothing
//! that others wrote reaches a terminal but through `render::visible`.

mod alike;
mod ask;
mod auditors;
mod card;
pub mod decide;
mod drain;
mod execute;
mod extend;
pub mod grammar;
pub mod inbox;
mod live;
mod log;
mod many;
mod nearby;
mod opened;
mod people;
mod play;
mod proof;
mod recover;
pub mod render;
pub mod reply;
mod retention;
mod review;
mod rewrap;
mod run;
mod serve;
mod sessions;
pub mod setup;
pub mod status;
mod streams;
mod targets;
pub mod text;
mod viewer;
pub mod wire;
mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::access::Principal;
use crate::approvals::Approvals;
use crate::authority::pen::Pen;
use crate::config::Directory;
use crate::id::RequestId;
use crate::notify::Desk;
use crate::recording::Recordings;
use crate::retention::disposal::Disposal;
use crate::store::Store;
use crate::store::log::Log;

pub use crate::causes::with_causes;
pub use auditors::canary_in;
pub use drain::Phase;
pub use many::MAX_LIST;
pub use nearby::{is_own, nearby};
pub use play::{PlayError, Played, play};
pub use render::{Look, visible};
pub use run::status;
pub use streams::{Keys, Text};
pub use text::are;
pub use viewer::Viewer;
pub use words::gather;

/// The console of one node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Console {
    pub approvals: Approvals,
    pub store: Store,
    pub recordings: Recordings,
    pub log: Log,
    pub disposal: Disposal,
    pub directory: watch::Receiver<Arc<Directory>>,
    /// Decisions printed for `ssh-keygen`, until their signature comes.
    waiting: decide::Waiting,
    /// How far the node is on its way out.
    pub phase: watch::Sender<Phase>,
    /// Who signs for sessions; absent where nobody does.
    pub pen: Option<Pen>,
    /// Canaries on their way to auditors and back.
    canaries: auditors::Canaries,
    /// Notices on their way to people.
    pub desk: Desk,
}

/// The terminal of a console channel, if it has one.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    pub cols: u32,
    pub rows: u32,
    /// It understands colour, and the person did not say NO_COLOR.
    pub colour: bool,
}

impl Console {
    pub fn new(
        approvals: Approvals,
        store: Store,
        recordings: Recordings,
        log: Log,
        disposal: Disposal,
        directory: watch::Receiver<Arc<Directory>>,
    ) -> Self {
        Self {
            approvals,
            store,
            recordings,
            log,
            disposal,
            directory,
            waiting: decide::Waiting::default(),
            phase: watch::Sender::new(Phase::default()),
            pen: None,
            canaries: auditors::Canaries::default(),
            desk: Desk::default(),
        }
    }

    /// The same of a node that opens sessions.
    pub fn signing(self, pen: Pen) -> Self {
        Self { pen: Some(pen), ..self }
    }

    /// Runs one command line of the stock client (`ssh bastion approve K7Q3FM`); no command is help and
    /// what waits for this person. Returns the exit status.
    pub async fn run(
        &self,
        who: &Principal,
        command: &str,
        terminal: Option<Terminal>,
        input: impl AsyncRead + Unpin + Send,
        out: impl AsyncWrite + Unpin + Send,
        err: impl AsyncWrite + Unpin + Send,
    ) -> u32 {
        // A stream that fails is a client that left: nobody is there to read a status.
        run::run(self, who, command, terminal, (input, out, err)).await.unwrap_or(0)
    }

    /// Opens the card of a request, with what its reader can do next (`ssh req-K7Q3FM@bastion`).
    pub async fn open_card(
        &self,
        who: &Principal,
        request: RequestId,
        terminal: Option<Terminal>,
        input: impl AsyncRead + Unpin + Send,
        out: impl AsyncWrite + Unpin + Send,
        err: impl AsyncWrite + Unpin + Send,
    ) -> u32 {
        run::card(self, who, request, terminal, (input, out, err)).await.unwrap_or(0)
    }

    /// Serves the companion on the subsystem `countersign-v1` (**D wire**) until it hangs up.
    pub async fn wire(&self, who: &Principal, input: impl AsyncRead + Unpin + Send, out: impl AsyncWrite + Unpin + Send) -> u32 {
        serve::serve(self, who, input, out).await.unwrap_or(0)
    }
}
