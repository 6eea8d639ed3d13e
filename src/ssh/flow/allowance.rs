//! How often something may happen: a burst, then a rate (PURE).

use std::time::Duration;

use tokio::time::Instant;

/// So many at once, and so many more each second.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    burst: f64,
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Allowance {
    pub fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { burst: burst.into(), per_second: per_second.into(), left: burst.into(), at: now }
    }

    /// Takes `count`, or nothing if there are not so many.
    pub fn take(&mut self, count: u32, now: Instant) -> bool {
        // Most of the time there is enough, and the sum is not worth making.
        if self.left < f64::from(count) || now.duration_since(self.at) > Duration::from_millis(10) {
            self.left = (self.left + now.duration_since(self.at).as_secs_f64() * self.per_second).min(self.burst);
            self.at = now;
        }
        let enough = self.left >= f64::from(count);
        if enough {
            self.left -= f64::from(count);
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_rate() {
        let start = Instant::now();
        let mut allowance = Allowance::new(10, 2, start);
        assert!((0..10).all(|_| allowance.take(1, start)) && !allowance.take(1, start));
        let later = start + Duration::from_millis(1600);
        assert!((0..3).all(|_| allowance.take(1, later)) && !allowance.take(1, later));
        let much_later = start + Duration::from_secs(3600);
        assert!((0..10).all(|_| allowance.take(1, much_later)) && !allowance.take(1, much_later), "never more than the burst");
    }
}
