//! Knocking at a target with certificates that open nothing: `countersign ca check`.
//!
//! No channel is ever opened here, nothing runs on the host. All tries are on one connection, so that a
//! host that punishes failed logins (OpenSSH's PerSourcePenalties) counts one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::Disconnect;
use russh::client::{self, AuthResult};
use tokio::time::timeout;

use super::flow::Cut;
use super::upstream::{self, ConnectError, Meeting, TargetSide};
use crate::access::Target;
use crate::authority::ProbeCertificate;
use crate::id::Login;

/// Key exchange, or one try.
const WITHIN: Duration = Duration::from_secs(20);

/// A host that has proved to be the target, before anybody logs in.
pub struct Knocked {
    /// The address that the host sees.
    pub source: IpAddr,
    target: String,
    handle: client::Handle<TargetSide>,
    cut: Cut,
}

impl std::fmt::Debug for Knocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Knocked").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Whether the host let us in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Accepted,
    Refused,
}

/// Dials the target and verifies that it is the host.
pub async fn knock(target: &Arc<Target>, egress: Option<IpAddr>) -> Result<Knocked, ConnectError> {
    let address = upstream::resolve(target).await?;
    let stream = upstream::dial(target, address).await?;
    let local = stream.local_addr().map_or(IpAddr::from([0, 0, 0, 0]), |address| address.ip());
    let cut = Cut::default();
    let met = timeout(WITHIN, Meeting::with(target).meet(stream, &cut)).await;
    let handle = met.map_err(|_| ConnectError::Late("the target's key exchange"))??;
    Ok(Knocked { source: egress.unwrap_or(local), target: target.id.to_string(), handle, cut })
}

impl Knocked {
    /// Tries to log in. After a yes this connection is good for nothing more but leaving.
    pub async fn tries(&mut self, login: &Login, probe: ProbeCertificate) -> Result<Answer, ConnectError> {
        let ProbeCertificate { certificate, key } = probe;
        let asked = self.handle.authenticate_openssh_cert(login.to_string(), key, certificate);
        match timeout(WITHIN, asked).await.map_err(|_| ConnectError::Late("the target's login"))? {
            Ok(AuthResult::Success) => Ok(Answer::Accepted),
            Ok(AuthResult::Failure { .. }) => Ok(Answer::Refused),
            Err(error) => Err(ConnectError::Ssh(self.target.clone(), error)),
        }
    }

    pub async fn leaves(self) {
        let goodbye = self.handle.disconnect(Disconnect::ByApplication, "", "");
        let _ = timeout(Duration::from_millis(200), goodbye).await;
        self.cut.now();
    }
}
