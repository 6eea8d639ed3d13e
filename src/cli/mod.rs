//! The command line: one small file per verb, which parses and calls.

pub mod bastion;
pub mod check;
pub mod init;
pub mod serve;
pub mod sign;
mod terminal;
