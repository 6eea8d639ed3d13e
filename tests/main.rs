//! Everything that is tested from outside: the real binary, a real sshd, stock clients.
//!
//! A file is a subject, a test a scene: two lines through `harness`, one act, and what a person would
//! see. `tests/run` prepares the machine and runs them all.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says what it expects by unwrapping it")]

mod architecture;
