//! How long recordings are kept: by schedules, label bounds and legal holds. Nothing here deletes.

pub mod disposal;
pub mod hold;
pub mod period;
pub mod schedule;
pub mod step;
pub mod terms;

#[cfg(test)]
pub(crate) mod tests;
