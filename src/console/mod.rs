//! What people do besides opening sessions: one grammar, one `execute`, rendered or as JSON.
//!
//! The stock client (`ssh bastion requests`) and the companion (subsystem `countersign-v1`) end in the
//! same `execute`, which authorizes, does and audits. Unknown and not-yours are one answer. Nothing
//! that others wrote reaches a terminal but through `render::visible`.

mod ask;
mod card;
pub mod decide;
pub mod grammar;
mod nearby;
pub mod render;
pub mod reply;
mod sight;
mod targets;
pub mod text;
pub mod wire;
mod words;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::access::Principal;
use crate::approvals::Approvals;
use crate::config::Directory;
use crate::recording::Recordings;
use crate::store::Store;

pub use nearby::{is_own, nearby};
pub use render::Look;
pub use words::gather;

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

    pub async fn wire(&self, _who: &Principal, _input: impl AsyncRead + Unpin + Send, _out: impl AsyncWrite + Unpin + Send) -> u32 {
        todo!()
    }
}
