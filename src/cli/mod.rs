//! (stub)
pub mod serve;
