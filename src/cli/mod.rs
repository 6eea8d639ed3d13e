//! The command line: one small file per verb, which parses and calls.

pub mod check;
pub mod init;
