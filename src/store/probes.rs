//! Probes of `countersign ca check`, which is another process than the node: it leaves its wish here, the
//! node writes it into the log, and only then may the one who asked sign for it, once.

use sqlx::Row as _;

use super::columns::{count, misread};
use super::{Store, StoreError, Tx};
use crate::access::probe::{Asks, Facts, Probe};
use crate::audit::Event;
use crate::id::{Login, TargetId};
use crate::time::Timestamp;

/// A wish that is older is nobody's any more.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(60);
/// Taken at once.
const AT_ONCE: u32 = 500;

/// What a probe is to find out, where, and who asks.
#[derive(Debug, Clone)]
pub struct Wish {
    pub asks: Asks,
    pub target: TargetId,
    pub login: Login,
    pub principal: String,
    /// The operator's account on the bastion.
    pub by: String,
}

/// What became of a wish.
#[derive(Debug)]
pub enum Wished {
    /// It is in the log, and this is the right to sign for it.
    Logged(Probe),
    Waits,
    Refused(String),
}

impl Store {
    /// Leaves wishes for whoever writes the log; returns their ids in the same order.
    pub async fn wish_probes(&self, wishes: Vec<Wish>, now: Timestamp) -> Result<Vec<String>, StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                let mut ids = Vec::new();
                for wish in wishes {
                    let id = ulid::Ulid::from_parts(u64::try_from(now.micros() / 1000).unwrap_or(0), rand::random::<u128>()).to_string();
                    sqlx::query("insert into probes (id, asks, target, login, principal, by, at) values ($1, $2, $3, $4, $5, $6, $7)")
                        .bind(&id)
                        .bind(wish.asks.word())
                        .bind(wish.target.as_str())
                        .bind(wish.login.as_str())
                        .bind(&wish.principal)
                        .bind(&wish.by)
                        .bind(now.micros())
                        .execute(&mut tx.connection)
                        .await?;
                    ids.push(id);
                }
                Ok(ids)
            })
        })
        .await
    }

    /// Puts what was wished for into the log, each with its serial, or says why not; to be called every
    /// second. Whoever is first takes a wish.
    pub async fn take_probes(&self, why_not: Option<String>, now: Timestamp) -> Result<(), StoreError> {
        let waiting = sqlx::query("select 1 from probes where taken is null limit 1").fetch_optional(&self.readers).await?;
        if waiting.is_none() {
            return Ok(());
        }
        self.write(move |tx| {
            Box::pin(async move {
                let rows =
                    sqlx::query("select id, asks, target, login, principal, by, at from probes where taken is null order by at limit $1")
                        .bind(i64::from(AT_ONCE))
                        .fetch_all(&mut tx.connection)
                        .await?;
                for row in rows {
                    let at = Timestamp::from_micros(row.try_get("at")?);
                    let late = (now.since(at) > WITHIN).then(|| "nobody wrote it into the log in time".to_owned());
                    tx.take_probe(&row, why_not.clone().or(late), now).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Redeems a wish: the right to sign, once, where it is in the log.
    pub async fn redeem_probe(&self, id: &str, now: Timestamp) -> Result<Wished, StoreError> {
        let id = id.to_owned();
        self.write(move |tx| {
            Box::pin(async move {
                let row = sqlx::query(
                    "update probes set used = $2 where id = $1 and taken is not null and used is null
                     returning asks, principal, by, serial, refused",
                )
                .bind(&id)
                .bind(now.micros())
                .fetch_optional(&mut tx.connection)
                .await?;
                let Some(row) = row else { return Ok(Wished::Waits) };
                if let Some(refused) = row.try_get::<Option<String>, _>("refused")? {
                    return Ok(Wished::Refused(refused));
                }
                let word: &str = row.try_get("asks")?;
                let asks = Asks::ALL.into_iter().find(|asks| asks.word() == word);
                let asks = asks.ok_or_else(|| misread("asks", format!("{word:?} is nothing that a probe asks")))?;
                let (principal, by) = (row.try_get("principal")?, row.try_get("by")?);
                Ok(Wished::Logged(Probe::logged(Facts { asks, principal, serial: count(&row, "serial")?, by })))
            })
        })
        .await
    }
}

impl Tx {
    async fn take_probe(&mut self, row: &sqlx::sqlite::SqliteRow, refused: Option<String>, now: Timestamp) -> Result<(), StoreError> {
        let id: String = row.try_get("id")?;
        let serial = match &refused {
            Some(_) => None,
            None => Some(self.fresh_serial().await?),
        };
        if let Some(serial) = serial {
            let text = |column| row.try_get::<String, _>(column);
            let facts = serde_json::json!({
                "kind": "check", "check": id, "asks": text("asks")?, "target": text("target")?, "login": text("login")?,
                "principal": text("principal")?, "by": text("by")?, "serial": serial.to_string(), "force_command": "/bin/true",
            });
            self.append(Event::new("certificate.issue", facts), now).await?;
        }
        sqlx::query("update probes set taken = $2, serial = $3, refused = $4 where id = $1 and taken is null")
            .bind(&id)
            .bind(now.micros())
            .bind(serial.map(|serial| i64::try_from(serial).unwrap_or(i64::MAX)))
            .bind(refused)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }
}
