//! Certificates for `countersign ca check`: they open nothing, and show whether a host would let us in.
//!
//! A probe needs no approval because it is no session: `true` is all it may run, no terminal, no
//! forwarding, from one address, for a minute. Whoever stole one with its key could learn that a login
//! works. It is a type of its own, so that nothing that opens sessions can be handed one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::{self, PrivateKey, PublicKey};

use super::ca::{CaKey, SignError};
use super::issue::{fresh_key, host_block, seconds};
use super::keys::{self, KeyError};
use super::plan::KeyPlan;
use crate::access::probe::{Asks, Probe};
use crate::time::Timestamp;

/// Before and after now: a minute in all.
const HALF: Duration = Duration::from_secs(30);
/// How far ahead of ours the clock of a host may be to be found out by [`Asks::Clock`].
const DAY: Duration = Duration::from_secs(86_400);

/// Signs probes with one of the user CAs.
#[derive(Debug, Clone)]
pub struct ProbeAuthority {
    user_ca: CaKey,
}

/// A signed probe with its private key. Demanded by `ssh::probe`.
#[derive(Debug)]
pub struct ProbeCertificate {
    pub(crate) certificate: ssh_key::Certificate,
    pub(crate) key: Arc<PrivateKey>,
}

impl ProbeAuthority {
    /// Takes the user CA number `n` of the list, from 1.
    pub fn new(plan: &KeyPlan, n: usize) -> Result<Self, KeyError> {
        Ok(Self { user_ca: keys::user_ca(plan, n)? })
    }

    pub fn public_key(&self) -> &PublicKey {
        self.user_ca.public_key()
    }

    /// Signs one; `source` is the address that the target sees.
    pub async fn issue(&self, probe: &Probe, source: IpAddr, now: Timestamp) -> Result<ProbeCertificate, SignError> {
        let key = fresh_key();
        let nonce: [u8; 16] = rand::random();
        let (from, to) = match probe.asks() {
            Asks::Login | Asks::Plain => (seconds(now.minus(HALF)), seconds(now.plus(HALF))),
            // A host whose battery died is back in 1970.
            Asks::Clock => (0, seconds(now.plus(DAY))),
        };
        let recipe = || {
            let mut builder = Builder::new(nonce, key.public_key(), from, to)?;
            builder.cert_type(CertType::User)?;
            builder.serial(probe.serial())?;
            builder.key_id(format!("countersign/check/-/{}", probe.by()))?;
            builder.valid_principal(probe.principal())?;
            builder.critical_option("force-command", "/bin/true")?;
            builder.critical_option("source-address", host_block(source))?;
            builder.comment("countersign")?;
            Ok(builder)
        };
        let certificate = self.user_ca.sign(recipe).await?;
        Ok(ProbeCertificate { certificate, key: Arc::new(key) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::probe::Facts;

    fn minutes_long(certificate: &ssh_key::Certificate) -> u64 {
        (certificate.valid_before() - certificate.valid_after()) / 60
    }

    #[tokio::test]
    async fn a_probe_may_run_true_from_one_address_for_a_minute_and_nothing_else() {
        let ca = CaKey::File(Arc::new(fresh_key()));
        let authority = ProbeAuthority { user_ca: ca };
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        for (asks, principal, minutes) in
            [(Asks::Login, "deploy@web-1", 1), (Asks::Plain, "deploy", 1), (Asks::Clock, "deploy@web-1", 28_334_773)]
        {
            let facts = Facts { asks, principal: principal.into(), serial: 7, by: "root".into() };
            let ProbeCertificate { certificate, .. } = authority.issue(&Probe::logged(facts), [192, 0, 2, 1].into(), now).await.unwrap();
            assert!(certificate.cert_type().is_user());
            assert_eq!(certificate.valid_principals(), [principal]);
            let options: Vec<(&str, &str)> = certificate.critical_options().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(options, [("force-command", "/bin/true"), ("source-address", "192.0.2.1/32")]);
            assert!(certificate.extensions().is_empty());
            assert_eq!(minutes_long(&certificate), minutes);
            assert_eq!((certificate.serial(), certificate.key_id()), (7, "countersign/check/-/root"));
        }
    }
}
