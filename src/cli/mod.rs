//! (stub)
pub mod serve;
pub mod bastion;
pub mod sign;
mod terminal;
