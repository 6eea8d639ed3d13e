//! The pen: the process that holds the user CA's key, and signs nothing that it has not judged by itself.
//!
//! It is the same binary, started by the node with one socket and nothing else. It reads the key and the
//! policies, locks itself in (`lock`), and from then on takes every word from the node for a stranger's: it
//! rules again (`rule`), verifies the decisions' signatures, looks at its own clock and its own record of what
//! was signed (`record`). Whoever has taken over what the node says can have certificates only for what the
//! policies permit and what approvers have signed. Outside of that: approvals at level `connection`, which are
//! the node's word; who has proven their key, likewise; and the key file itself, which processes of the same
//! account may read where it is no agent's.

mod keeper;
mod lock;
mod process;
mod record;
mod rule;

pub use keeper::{Launch, StartError, start};
pub use process::{Failure, Purpose, run};
