//! Second factors: a code is spent once, whoever brings it first, and guesses are counted.
//!
//! The one place where a [`SecondFactor`] is made. Steps only go up and are kept across restarts, so a
//! code that was seen is worth nothing (RFC 6238 5.2). Guesses are counted by person and not by
//! connection; who can guess at all has shown a key of that person before, so nobody else can lock them
//! out.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;
use sqlx::Row;

use super::columns::{count, time};
use super::{Store, StoreError, Tx};
use crate::access::SecondFactor;
use crate::access::factor::Step;
use crate::audit::Event;
use crate::id::Person;
use crate::time::Timestamp;

/// Wrong codes in a row before a person is locked.
pub const GUESSES: u32 = 5;
/// The first lock; each further one without a good code between is twice as long.
pub const LOCK: Duration = Duration::from_secs(15 * 60);
/// Locks double this often: the longest is 4 h.
const DOUBLED: u32 = 4;

/// What came of a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    Proven(SecondFactor),
    /// Wrong, or used before.
    Refused,
    Locked(Timestamp),
}

struct FactorRow {
    last_step: i64,
    wrong: u32,
    locks: u32,
    locked_until: Timestamp,
}

impl Store {
    /// Spends the step whose code was given, `None` where it fits none; counts it where it is worth
    /// nothing. One transaction: of two connections with the same code one gets in.
    pub async fn try_second_factor(
        &self,
        person: &Person,
        step: Option<Step>,
        source: IpAddr,
        now: Timestamp,
    ) -> Result<Tried, StoreError> {
        let person = person.clone();
        self.write(move |tx| Box::pin(async move { tx.try_second_factor(person, step, source, now).await })).await
    }
}

impl Tx {
    async fn try_second_factor(&mut self, person: Person, step: Option<Step>, source: IpAddr, now: Timestamp) -> Result<Tried, StoreError> {
        let row = self.factor(&person).await?;
        if now < row.locked_until {
            return Ok(Tried::Locked(row.locked_until));
        }
        if let Some(step) = step.filter(|step| step.number() > row.last_step) {
            let good = FactorRow { last_step: step.number(), wrong: 0, locks: 0, ..row };
            self.keep_factor(&person, &good).await?;
            return Ok(Tried::Proven(SecondFactor::proven(person, now)));
        }
        let wrong = row.wrong + 1;
        if wrong < GUESSES {
            self.keep_factor(&person, &FactorRow { wrong, ..row }).await?;
            return Ok(Tried::Refused);
        }
        let locked_until = now.plus(LOCK * (1 << row.locks.min(DOUBLED)));
        let locked = FactorRow { wrong: 0, locks: row.locks.saturating_add(1), locked_until, ..row };
        self.keep_factor(&person, &locked).await?;
        let facts = json!({ "person": person, "source": source, "wrong": wrong, "until": locked_until });
        self.append(Event::new("factor.lock", facts), now).await?;
        Ok(Tried::Locked(locked_until))
    }

    async fn factor(&mut self, person: &Person) -> Result<FactorRow, StoreError> {
        let row = sqlx::query("select last_step, wrong, locks, locked_until from second_factors where person = $1")
            .bind(person.as_str())
            .fetch_optional(&mut self.connection)
            .await?;
        let Some(row) = row else {
            return Ok(FactorRow { last_step: i64::MIN, wrong: 0, locks: 0, locked_until: Timestamp::from_micros(i64::MIN) });
        };
        Ok(FactorRow {
            last_step: row.try_get("last_step")?,
            wrong: count(&row, "wrong")?,
            locks: count(&row, "locks")?,
            locked_until: time(&row, "locked_until")?,
        })
    }

    async fn keep_factor(&mut self, person: &Person, row: &FactorRow) -> Result<(), StoreError> {
        sqlx::query(
            "insert into second_factors (person, last_step, wrong, locks, locked_until) values ($1, $2, $3, $4, $5)
             on conflict (person) do update set last_step = $2, wrong = $3, locks = $4, locked_until = $5",
        )
        .bind(person.as_str())
        .bind(row.last_step)
        .bind(i64::from(row.wrong))
        .bind(i64::from(row.locks))
        .bind(row.locked_until.micros())
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_010_000_000);
    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn alice() -> Person {
        "alice".parse().unwrap()
    }

    fn step(now: Timestamp) -> Step {
        Step::of(now)
    }

    async fn open(dir: &std::path::Path) -> Store {
        Store::open(&dir.join("state.db")).await.unwrap()
    }

    async fn tries(store: &Store, step: Option<Step>, now: Timestamp) -> Tried {
        store.try_second_factor(&alice(), step, SOURCE, now).await.unwrap()
    }

    #[tokio::test]
    async fn a_code_is_spent_once_by_whoever_is_first_and_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        let step = step(NOW);
        let mut racing = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let store = store.clone();
            racing.spawn(async move { tries(&store, Some(step), NOW).await });
        }
        let won = racing.join_all().await.into_iter().filter(|tried| matches!(tried, Tried::Proven(_))).count();
        assert_eq!(won, 1);
        store.close().await;
        let store = open(dir.path()).await;
        assert_eq!(tries(&store, Some(step), NOW).await, Tried::Refused, "a restart forgets nothing");
    }

    #[tokio::test]
    async fn five_wrong_codes_lock_a_person_for_longer_each_time_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        let mut now = NOW;
        for round in 0..7u32 {
            for _ in 1..GUESSES {
                assert_eq!(tries(&store, None, now).await, Tried::Refused);
            }
            let until = now.plus(LOCK * (1 << round.min(4)));
            assert_eq!(tries(&store, None, now).await, Tried::Locked(until));
            let last = until.minus(Duration::from_secs(1));
            assert_eq!(tries(&store, Some(step(last)), last).await, Tried::Locked(until), "the right code too");
            let bob = store.try_second_factor(&"bob".parse().unwrap(), Some(step(now)), SOURCE, now).await.unwrap();
            assert!(matches!(bob, Tried::Proven(_)));
            now = until;
        }
        let rows = store.audit(0, 100).await.unwrap();
        assert_eq!(rows.iter().filter(|row| row.name == "factor.lock").count(), 7);
        assert!(matches!(tries(&store, Some(step(now)), now).await, Tried::Proven(_)));
        for _ in 1..GUESSES {
            assert_eq!(tries(&store, None, now).await, Tried::Refused, "a good code begins anew");
        }
        assert_eq!(tries(&store, None, now).await, Tried::Locked(now.plus(LOCK)));
    }
}
