//! Notices on their way out of the node: to a chat by webhook, to a program by its standard input.
//!
//! Nothing that decides or opens waits for one: a notice is left with the [`Desk`] after the commit, and each
//! notifier takes it from a bounded queue of its own. No notice holds a matching code, a command's text or a
//! secret, and none can be answered with one tap. What a notifier is reached and signed by is never printed.
//! What still waits here when the node stops is gone.

mod command;
mod desk;
mod harmless;
mod hidden;
mod notice;
mod webhook;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use crate::id::NotifierName;

pub use command::CommandPlan;
pub use desk::{Desk, FAILING, Standing};
pub use harmless::line;
pub use hidden::{Found, Hidden};
pub use notice::{About, Happened, Notice};
pub use webhook::{BadUrl, WebhookPlan};

/// Something that takes notices to people.
pub trait Notifier: Send + Sync {
    /// Delivers one notice, within a deadline of its own.
    fn deliver<'a>(&'a self, notice: &'a Notice) -> Pin<Box<dyn Future<Output = Result<(), NotDelivered>> + Send + 'a>>;
}

/// Why a notice did not arrive: words without addresses or secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotDelivered {
    pub why: String,
    /// Whether another try may go better.
    pub again: bool,
}

impl NotDelivered {
    fn now(why: impl Into<String>) -> Self {
        Self { why: why.into(), again: true }
    }

    fn ever(why: impl Into<String>) -> Self {
        Self { why: why.into(), again: false }
    }
}

/// `[notifiers.NAME]` of `countersign.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    Webhook(WebhookPlan),
    Command(CommandPlan),
}

pub type Notifiers = BTreeMap<NotifierName, Plan>;

impl Plan {
    pub fn notifier(&self) -> Box<dyn Notifier> {
        match self {
            Plan::Webhook(plan) => Box::new(plan.open()),
            Plan::Command(plan) => Box::new(plan.clone()),
        }
    }
}
