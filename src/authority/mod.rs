//! The keys of this bastion and what it signs with them.
//!
//! A user certificate is asked for only with a `&Grant`, lives two minutes, fits one login on one target
//! from one address, and names session, request and person in its key id. Its private key is made here
//! and never leaves memory; the user CA's key never comes here: the pen has it, a process of its own (`pen`),
//! which judges by itself before it signs. A host certificate is signed only for a target's own name. Beside
//! these there is one more kind, for a `&Probe` alone: it runs `true`, for `countersign ca check`.

mod agent;
mod ca;
pub mod evidence;
mod host;
mod issue;
mod keys;
pub mod mint;
pub mod pen;
mod plan;
mod probe;
mod public;
mod seal;
pub mod wire;

pub use ca::SignError;
pub use host::HostCertificates;
pub use issue::{Certificate, CertificateAuthority, IssueError, Needs, Ruled};
pub use keys::{KeyError, Keys, judge};
pub use plan::{CaPlan, KeyPlan};
pub use probe::{ProbeAuthority, ProbeCertificate};
pub use public::{LaptopKeys, PublicKeys, bare};
pub use seal::{BadSeal, SealKey, SealKeyError, SealVerifier};

#[cfg(test)]
pub(crate) mod tests {
    use super::SealKey;
    use russh::keys::ssh_key::PrivateKey;
    use russh::keys::ssh_key::private::Ed25519Keypair;

    pub(crate) fn seal_key() -> SealKey {
        SealKey::of(PrivateKey::from(Ed25519Keypair::from_seed(&[5; 32])))
    }
}
