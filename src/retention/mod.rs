//! How long recordings are kept. Only the schedules for now; disposal follows.

pub mod schedule;
