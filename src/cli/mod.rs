//! (stub)
pub mod bastion;
pub mod sign;
mod terminal;
