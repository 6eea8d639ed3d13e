//! Host certificates for the inner server of a jump: exactly the names of one target.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::{self, PrivateKey};

use super::ca::{CaKey, SignError};
use super::keys::Keys;
use super::mint::seconds;
use crate::access::Target;
use crate::id::Digest;
use crate::time::Timestamp;

const LIFETIME: Duration = Duration::from_secs(3600);
const RENEW_BEFORE: Duration = Duration::from_secs(600);
/// Targets whose certificate is kept; beyond, the cache starts afresh.
const CACHED: usize = 4096;

/// Signs and keeps short-lived host certificates over the bastion's own host key.
#[derive(Debug, Clone)]
pub struct HostCertificates {
    host: PrivateKey,
    host_ca: CaKey,
    cache: Arc<Mutex<HashMap<Digest, (Timestamp, ssh_key::Certificate)>>>,
}

impl HostCertificates {
    pub fn new(keys: &Keys) -> Self {
        Self { host: keys.host.clone(), host_ca: keys.host_ca.clone(), cache: Arc::default() }
    }

    /// The host key that the certificates are about.
    pub fn host_key(&self) -> &PrivateKey {
        &self.host
    }

    /// Returns a certificate for all names of `target`: id, aliases, address and the name asked for
    /// (`users.md` 11: HostKeyAlias), which the caller has found to be one of them.
    pub async fn for_target(&self, target: &Target, now: Timestamp) -> Result<ssh_key::Certificate, SignError> {
        let names: Vec<String> = target.names().into_iter().collect();
        let cached = Digest::of(names.join("\n").as_bytes());
        if let Some((until, certificate)) = self.lock().get(&cached)
            && now.plus(RENEW_BEFORE) < *until
        {
            return Ok(certificate.clone());
        }
        let until = now.plus(LIFETIME);
        let from = now.minus(Duration::from_secs(300));
        let (nonce, serial): ([u8; 16], u64) = (rand::random(), rand::random::<u64>() >> 1);
        let recipe = || {
            let mut builder = Builder::new(nonce, self.host.public_key(), seconds(from), seconds(until))?;
            builder.cert_type(CertType::Host)?;
            builder.serial(serial)?;
            builder.key_id(format!("countersign host {}", target.id))?;
            for name in &names {
                builder.valid_principal(name.as_str())?;
            }
            Ok(builder)
        };
        let certificate = self.host_ca.sign(recipe).await?;
        let mut cache = self.lock();
        if cache.len() >= CACHED {
            cache.clear();
        }
        cache.insert(cached, (until, certificate.clone()));
        Ok(certificate)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, (Timestamp, ssh_key::Certificate)>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
