//! Sessions that somebody ended: written once, read by the session's lease (FC7).

use sqlx::Row as _;
use tokio::sync::broadcast;

use super::columns::word;
use super::{Store, StoreError};
use crate::audit::Event;
use crate::id::{Person, SessionId};
use crate::time::Timestamp;

impl Store {
    /// Writes that a running session is to end, with its audit row; false if it has ended, or somebody
    /// was first.
    pub async fn kill_session(&self, id: SessionId, by: &Person, why: &str, event: Event, now: Timestamp) -> Result<bool, StoreError> {
        let (by, why) = (by.clone(), why.to_owned());
        let killed = self
            .write(move |tx| {
                Box::pin(async move {
                    let written = sqlx::query(
                        "insert into kills (session, person, why, at)
                         select $1, $2, $3, $4 where exists (select 1 from sessions where id = $1 and ended is null)
                         on conflict (session) do nothing",
                    )
                    .bind(id.to_string())
                    .bind(by.as_str())
                    .bind(why)
                    .bind(now.micros())
                    .execute(&mut tx.connection)
                    .await?;
                    if written.rows_affected() == 0 {
                        return Ok(false);
                    }
                    tx.append(event, now).await.map(|_| true)
                })
            })
            .await?;
        if killed {
            // After the COMMIT, so that who reads on the hint finds the row.
            self.wake.killed(id);
        }
        Ok(killed)
    }

    /// Who ended a session, and why, if somebody did.
    pub async fn killed(&self, id: SessionId) -> Result<Option<(Person, String)>, StoreError> {
        let row = sqlx::query("select person, why from kills where session = $1").bind(id.to_string()).fetch_optional(&self.urgent).await?;
        row.map(|row| Ok((word(&row, "person")?, row.try_get("why")?))).transpose()
    }

    /// A hint each time a session is killed.
    pub fn kills(&self) -> broadcast::Receiver<SessionId> {
        self.wake.listen_kills()
    }
}
