//! Where certificates are asked for: the node's end of the pen, the process that holds the user CA's key.
//!
//! Whoever asks has an answer or an error within a deadline. What is asked while there is no pen is refused at
//! once, and nothing is kept for the next one.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::wire::{Answer, Ask, Ready};
use crate::id::Digest;

/// From asking to the answer; a session waits for it.
const WITHIN: Duration = Duration::from_secs(10);
/// Asked for and not yet answered; who comes then is refused.
const AT_ONCE: usize = 256;

/// The pen, as those see it who need certificates.
#[derive(Debug, Clone)]
pub struct Pen {
    asks: mpsc::Sender<Waiting>,
    state: watch::Receiver<PenState>,
}

/// The other end, for whoever keeps a pen running.
#[derive(Debug)]
pub struct Desk {
    pub asks: mpsc::Receiver<Waiting>,
    pub state: watch::Sender<PenState>,
}

/// Somebody who asks and waits.
#[derive(Debug)]
pub struct Waiting {
    pub ask: Ask,
    pub answer: oneshot::Sender<Answer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PenState {
    Up(Ready),
    Down(String),
}

#[derive(Debug, thiserror::Error)]
pub enum PenError {
    #[error("the pen, which signs certificates, does not run: {0}")]
    Down(String),
    #[error("too many certificates are asked for at once; connect again")]
    Busy,
    #[error("the pen did not answer in time")]
    Late,
    #[error("the pen ended meanwhile; connect again")]
    Gone,
    #[error("the pen refused: {0}")]
    Refused(String),
    #[error("the pen answered something else")]
    Answer,
}

impl Pen {
    pub fn new() -> (Self, Desk) {
        let (asks, asked) = mpsc::channel(AT_ONCE);
        let (told, state) = watch::channel(PenState::Down("it is being started".into()));
        (Self { asks, state }, Desk { asks: asked, state: told })
    }

    pub fn state(&self) -> PenState {
        self.state.borrow().clone()
    }

    /// Asks for a certificate; its line.
    pub async fn signed(&self, ask: Ask) -> Result<String, PenError> {
        match self.asked(ask).await? {
            Answer::Signed(line) => Ok(line),
            Answer::Refused(why) => Err(PenError::Refused(why)),
            Answer::Ready(_) => Err(PenError::Answer),
        }
    }

    /// Has the policies read again, and waits until a pen has these. One that reads otherwise makes way for
    /// another, which looks with fresh eyes.
    pub async fn rereads(&self, policy: Digest) -> Result<(), PenError> {
        let deadline = Instant::now() + WITHIN;
        let said = match self.asked(Ask::Reread(policy)).await {
            Ok(Answer::Ready(ready)) if ready.policy == policy => return Ok(()),
            Ok(Answer::Ready(_)) => PenError::Refused("it reads other policies than this node".into()),
            Ok(Answer::Refused(why)) => PenError::Refused(why),
            Ok(Answer::Signed(_)) => PenError::Answer,
            Err(error) => error,
        };
        let mut state = self.state.clone();
        let up = state.wait_for(|state| matches!(state, PenState::Up(ready) if ready.policy == policy));
        match timeout_at(deadline, up).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(said),
        }
    }

    async fn asked(&self, ask: Ask) -> Result<Answer, PenError> {
        if let PenState::Down(why) = &*self.state.borrow() {
            return Err(PenError::Down(why.clone()));
        }
        let (answer, answered) = oneshot::channel();
        self.asks.try_send(Waiting { ask, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => PenError::Busy,
            mpsc::error::TrySendError::Closed(_) => PenError::Gone,
        })?;
        timeout(WITHIN, answered).await.map_err(|_| PenError::Late)?.map_err(|_| PenError::Gone)
    }
}
