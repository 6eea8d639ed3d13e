//! Countersign: an SSH bastion that holds a session until somebody says yes, signs a certificate for
//! it alone, and records it. Read `docs/architecture.md` first, then `ssh/session.rs`.

pub mod causes;
pub mod clock;
pub mod id;
pub mod time;

pub mod access;
pub mod retention;
pub mod transcript;

pub mod audit;
pub mod authority;
pub mod config;
pub mod judge;
pub mod notify;
pub mod pen;
pub mod recording;
pub mod store;

pub mod approvals;
pub mod backup;
pub mod console;
pub mod metrics;
pub mod ssh;

#[doc(hidden)]
pub mod fuzz;

pub mod cli;
pub mod demo;
