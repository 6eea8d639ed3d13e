//! A recording's next step on its way out: kept, marked, waiting, erased; or held.

use std::time::Duration;

use super::terms::Due;
use crate::time::Timestamp;

/// What the sweep does with a recording now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Nothing before this time.
    Keep { until: Timestamp },
    /// Nothing while a hold covers it; a mark it bears is taken away, so that after the release the
    /// whole grace passes again.
    Held,
    /// Mark it and say so in the log; nothing is lost yet.
    Mark,
    /// It is marked; nothing before the bastion has run for so much longer.
    Wait { left: Duration },
    /// Destroy its key file and its body, in a transaction that looks for holds once more.
    Erase,
}

/// Says what is next for a recording that is closed and verified.
///
/// It is erased at the first sweep at or after `delete_by` that finds it marked for `grace`, in time
/// that the bastion ran, and with no hold. So that this is `delete_by` itself it is marked `grace`
/// earlier, be that before `keep_until`: a mark is an announcement, and erasing never comes before
/// `delete_by`, which is never before `keep_until`. A bastion that was down is late by as much.
///
/// `marked` is the uptime since the mark, if it bears one. `now` has to come from a clock that may
/// dispose (`clock::ClockRule::may_dispose`): whoever could set the clock could otherwise erase.
pub fn step(due: &Due, held: bool, marked: Option<Duration>, grace: Duration, now: Timestamp) -> Next {
    let mark = due.delete_by.minus(grace);
    let left = |waited| grace.saturating_sub(waited).max(due.delete_by.max(due.keep_until).since(now));
    match marked {
        _ if held => Next::Held,
        None if now < mark => Next::Keep { until: mark },
        None => Next::Mark,
        Some(waited) if left(waited).is_zero() => Next::Erase,
        Some(waited) => Next::Wait { left: left(waited) },
    }
}
