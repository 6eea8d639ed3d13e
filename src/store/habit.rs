//! What a person opened lately.

use super::columns::{count, word};
use super::{Snapshot, StoreError};
use crate::access::habit::Habit;
use crate::id::Person;
use crate::time::Timestamp;

impl Snapshot {
    pub(crate) async fn habit(&mut self, person: &Person, since: Timestamp) -> Result<Habit, StoreError> {
        let mut habit = Habit::default();
        let opened = "select distinct target from sessions where person = $1 and started >= $2";
        for row in sqlx::query(opened).bind(person.as_str()).bind(since.micros()).fetch_all(&mut *self.tx).await? {
            habit.targets.insert(word(&row, "target")?);
        }
        let from = "select distinct source from sessions where person = $1 and started >= $2";
        for row in sqlx::query(from).bind(person.as_str()).bind(since.micros()).fetch_all(&mut *self.tx).await? {
            habit.sources.insert(word(&row, "source")?);
        }
        let when =
            "select started / 3600000000 % 24 as hour, count(*) as often from sessions where person = $1 and started >= $2 group by 1";
        for row in sqlx::query(when).bind(person.as_str()).bind(since.micros()).fetch_all(&mut *self.tx).await? {
            let hour: usize = count(&row, "hour")?;
            if let Some(often) = habit.hours.get_mut(hour) {
                *often = count(&row, "often")?;
            }
        }
        Ok(habit)
    }
}
