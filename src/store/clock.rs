//! The clock rule of a running node (**D clock**): the pure rule of `clock.rs`, and the row that it survives
//! a restart by.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::{Store, StoreError};
use crate::audit::Event;
use crate::clock::{Change, ClockRule, Last, Limits, Verdict};
use crate::time::{Seen, Timestamp};

/// Whether this node's clock can be believed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clock {
    store: Store,
    rule: Arc<Mutex<ClockRule>>,
}

/// How often the row is written while nothing happens.
const KEEP_EVERY: Duration = Duration::from_secs(60);

impl Clock {
    /// Compares with what the last run wrote down.
    pub async fn open(store: Store, seen: Seen) -> Result<Self, StoreError> {
        let last = store.last_clock().await?;
        let before = last.as_ref().map(|last| last.standing.clone());
        let (rule, verdict) = ClockRule::start(last, &seen, Limits::default());
        let event = match verdict {
            Verdict::Blocked(trouble) if before.as_ref() != Some(&rule.last().standing) => {
                tracing::error!(%trouble, "the clock cannot be believed: nothing is signed and nothing deleted");
                Some(Event::new("clock.block", json!({ "why": trouble.to_string() })))
            }
            Verdict::First | Verdict::Good | Verdict::Healed(_) | Verdict::Blocked(_) => None,
        };
        store.keep_clock(rule.last().clone(), event, seen.wall).await?;
        Ok(Self { store, rule: Arc::new(Mutex::new(rule)) })
    }

    /// Why nothing may be signed, by what the last run wrote down: for a process beside a node that does not
    /// run. Changes nothing.
    pub async fn standing(store: &Store, seen: Seen) -> Result<Option<String>, StoreError> {
        let (rule, _) = ClockRule::start(store.last_clock().await?, &seen, Limits::default());
        if rule.may_mint() {
            Ok(None)
        } else {
            Ok(rule.why().map(ToString::to_string).or_else(|| Some("the clock cannot be believed".into())))
        }
    }

    /// Looks again; to be called every second.
    pub async fn tick(&self, seen: Seen) -> Result<(), StoreError> {
        let now = seen.wall;
        let (change, last, due) = {
            let mut rule = self.rule();
            let before = rule.last().uptime;
            let change = rule.observe(&seen);
            let last = rule.last().clone();
            let minutes = |uptime: Duration| uptime.as_secs() / KEEP_EVERY.as_secs();
            (change, last.clone(), minutes(before) != minutes(last.uptime))
        };
        let event = change.map(|change| match change {
            Change::Blocked(trouble) => {
                tracing::error!(%trouble, "the clock cannot be believed: nothing is signed and nothing deleted");
                Event::new("clock.block", json!({ "why": trouble.to_string() }))
            }
            Change::Healed(trouble) => {
                tracing::warn!(%trouble, "the clock is synchronised and steady again: sessions are opened again");
                Event::new("clock.heal", json!({ "why": trouble.to_string() }))
            }
        });
        if event.is_some() || due {
            self.store.keep_clock(last, event, now).await?;
        }
        if let Some(by) = self.store.take_clock_accept(now).await? {
            self.accept(&by, now).await?;
        }
        Ok(())
    }

    /// An operator has looked at the clock and says that it is right.
    async fn accept(&self, by: &str, now: Timestamp) -> Result<(), StoreError> {
        let (trouble, last) = {
            let mut rule = self.rule();
            let trouble = rule.accept();
            (trouble, rule.last().clone())
        };
        let why = trouble.map(|trouble| trouble.to_string());
        let event = Event::new("clock.accept", json!({ "by": by, "why": why }));
        self.store.keep_clock(last, Some(event), now).await
    }

    /// Why nothing may be approved or signed now, if so.
    pub fn why_not_mint(&self) -> Option<String> {
        let rule = self.rule();
        if rule.may_mint() { None } else { rule.why().map(ToString::to_string).or_else(|| Some("the clock cannot be believed".into())) }
    }

    /// Why nothing may be deleted now, if so.
    pub fn why_not_dispose(&self) -> Option<String> {
        let rule = self.rule();
        if rule.may_dispose() { None } else { rule.why().map(ToString::to_string).or_else(|| Some("the clock cannot be believed".into())) }
    }

    /// How long this bastion has run in all.
    pub fn uptime(&self) -> Duration {
        self.rule().uptime()
    }

    fn rule(&self) -> MutexGuard<'_, ClockRule> {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    async fn last_clock(&self) -> Result<Option<Last>, StoreError> {
        let row = sqlx::query("select last from clock").fetch_optional(&self.readers).await?;
        row.as_ref().map(|row| super::columns::json(row, "last")).transpose()
    }

    async fn keep_clock(&self, last: Last, event: Option<Event>, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                sqlx::query("insert into clock (one, last) values (1, $1) on conflict (one) do update set last = $1")
                    .bind(super::columns::to_json(&last))
                    .execute(&mut tx.connection)
                    .await?;
                match event {
                    Some(event) => tx.append(event, now).await.map(drop),
                    None => Ok(()),
                }
            })
        })
        .await
    }

    /// Leaves word for the running bastion that its clock is right.
    pub async fn leave_clock_accept(&self, by: &str, now: Timestamp) -> Result<(), StoreError> {
        let by = by.to_owned();
        self.write(move |tx| {
            Box::pin(async move {
                let sql = "insert into clock_accepts (at, by) values ($1, $2)";
                sqlx::query(sql).bind(now.micros()).bind(by).execute(&mut tx.connection).await.map(drop).map_err(StoreError::from)
            })
        })
        .await
    }

    async fn take_clock_accept(&self, now: Timestamp) -> Result<Option<String>, StoreError> {
        use sqlx::Row as _;
        let waiting = sqlx::query("select by from clock_accepts where taken is null limit 1").fetch_optional(&self.readers).await?;
        let Some(row) = waiting else { return Ok(None) };
        let by: String = row.try_get("by")?;
        self.write(move |tx| {
            Box::pin(async move {
                let sql = "update clock_accepts set taken = $1 where taken is null";
                sqlx::query(sql).bind(now.micros()).execute(&mut tx.connection).await.map(drop).map_err(StoreError::from)
            })
        })
        .await?;
        Ok(Some(by))
    }
}
