//! (stub)

pub mod sandbox;
