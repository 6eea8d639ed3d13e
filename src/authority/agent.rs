//! A CA key that lives in an ssh-agent (HSM, KMS, YubiKey): this process never holds it.
//!
//! An agent is a stranger behind a socket. Its frames are capped (russh refuses more than 256 KiB,
//! CVE-2026-46673), connecting and signing have one deadline, only so many ask at once, and what it
//! returns is a certificate of ours only if it verifies under the key that the configuration names.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::agent::client::AgentClient;
use russh::keys::signature::{self, Signer};
use russh::keys::ssh_key::certificate::Builder;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{self, Certificate, HashAlg, PublicKey, Signature};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::ca::SignError;

/// From connecting to the signature; a session waits for it.
const WITHIN: Duration = Duration::from_secs(5);
/// Signatures that are asked for at once; who comes then waits, within the same deadline.
const AT_ONCE: usize = 16;

/// The key that an agent is asked to sign with.
#[derive(Debug, Clone)]
pub(super) struct AgentKey {
    key: PublicKey,
    socket: PathBuf,
    turns: Arc<Semaphore>,
    within: Duration,
}

impl AgentKey {
    pub fn new(key: PublicKey, socket: &Path) -> Self {
        Self { key, socket: socket.to_owned(), turns: Arc::new(Semaphore::new(AT_ONCE)), within: WITHIN }
    }

    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// Signs what `recipe` builds, which has to be the same each time: ssh-key's builder signs at once and
    /// shows nobody the bytes, so a first signer takes them and fails, and a second one brings the agent's
    /// signature.
    pub async fn sign(&self, recipe: impl Fn() -> Result<Builder, ssh_key::Error>) -> Result<Certificate, SignError> {
        let catching = Catching { key: self.key.key_data(), caught: Mutex::default() };
        // Failing is what it is there for.
        drop(recipe()?.sign(&catching));
        let unsigned = catching.caught.into_inner().unwrap_or_else(PoisonError::into_inner);
        let signature = timeout(self.within, self.asked(&unsigned)).await.map_err(|_| SignError::Late(self.socket.clone()))??;
        let other_key = |_| SignError::OtherKey(self.socket.clone());
        let certificate = recipe()?.sign(&Bringing { key: self.key.key_data(), signature }).map_err(other_key)?;
        certificate.verify_signature().map_err(other_key)?;
        Ok(certificate)
    }

    async fn asked(&self, unsigned: &[u8]) -> Result<Signature, SignError> {
        let failed = |source| SignError::Agent { socket: self.socket.clone(), source };
        let _turn = self.turns.acquire().await.map_err(|_| SignError::Late(self.socket.clone()))?;
        let mut agent = AgentClient::connect_uds(&self.socket).await.map_err(failed)?;
        agent.sign_request_signature(&self.key, Some(HashAlg::Sha512), unsigned).await.map_err(failed)
    }
}

/// Takes the bytes to be signed, and signs nothing.
struct Catching<'a> {
    key: &'a KeyData,
    caught: Mutex<Vec<u8>>,
}

impl Signer<Signature> for Catching<'_> {
    fn try_sign(&self, unsigned: &[u8]) -> Result<Signature, signature::Error> {
        *self.caught.lock().unwrap_or_else(PoisonError::into_inner) = unsigned.to_vec();
        Err(signature::Error::new())
    }
}

impl From<&Catching<'_>> for KeyData {
    fn from(catching: &Catching<'_>) -> KeyData {
        catching.key.clone()
    }
}

/// Puts in a signature that was made elsewhere.
struct Bringing<'a> {
    key: &'a KeyData,
    signature: Signature,
}

impl Signer<Signature> for Bringing<'_> {
    fn try_sign(&self, _: &[u8]) -> Result<Signature, signature::Error> {
        Ok(self.signature.clone())
    }
}

impl From<&Bringing<'_>> for KeyData {
    fn from(bringing: &Bringing<'_>) -> KeyData {
        bringing.key.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::process::{Child, Command, Stdio};
    use std::thread::JoinHandle;

    use russh::keys::ssh_key::certificate::CertType;

    use super::*;

    /// A real ssh-agent, ended with the test.
    struct Agent {
        child: Child,
        socket: PathBuf,
    }

    impl Agent {
        fn start(dir: &Path) -> Self {
            let socket = dir.join("agent");
            let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            while std::os::unix::net::UnixStream::connect(&socket).is_err() {
                assert!(std::time::Instant::now() < deadline, "ssh-agent did not start");
                std::thread::yield_now();
            }
            Self { child, socket }
        }

        fn add(&self, key: &Path) {
            let mut add = Command::new("ssh-add");
            assert!(add.arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket).stdin(Stdio::null()).status().unwrap().success());
        }
    }

    impl Drop for Agent {
        fn drop(&mut self) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }

    fn keygen(dir: &Path, name: &str, kind: &str) -> (PathBuf, PublicKey) {
        let path = dir.join(name);
        assert!(Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(&path).status().unwrap().success());
        let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        (path, PublicKey::from_openssh(public.trim()).unwrap())
    }

    fn recipe(of: &PublicKey) -> impl Fn() -> Result<Builder, ssh_key::Error> {
        let of = of.clone();
        move || {
            let mut builder = Builder::new([7; 16], of.clone(), 1_700_000_000, 1_700_000_060)?;
            builder.cert_type(CertType::User)?.valid_principal("deploy@web-1")?.critical_option("force-command", "/bin/true")?;
            Ok(builder)
        }
    }

    #[tokio::test]
    async fn a_key_in_a_real_agent_signs_what_ssh_keygen_reads() {
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::start(dir.path());
        let (_, user) = keygen(dir.path(), "user", "ed25519");
        for kind in ["ed25519", "ecdsa"] {
            let (path, ca) = keygen(dir.path(), kind, kind);
            agent.add(&path);
            let certificate = AgentKey::new(ca.clone(), &agent.socket).sign(recipe(&user)).await.unwrap();
            certificate.validate_at(1_700_000_001, [&ca.fingerprint(HashAlg::Sha256)]).unwrap();
            let file = dir.path().join("shown-cert.pub");
            std::fs::write(&file, certificate.to_openssh().unwrap()).unwrap();
            let said = Command::new("ssh-keygen").arg("-L").arg("-f").arg(&file).output().unwrap();
            let said = String::from_utf8(said.stdout).unwrap();
            assert!(said.contains(&ca.fingerprint(HashAlg::Sha256).to_string()) && said.contains("deploy@web-1"), "{said}");
        }
        let (_, elsewhere) = keygen(dir.path(), "elsewhere", "ed25519");
        let refused = AgentKey::new(elsewhere, &agent.socket).sign(recipe(&user)).await.unwrap_err();
        assert!(matches!(refused, SignError::Agent { .. }), "{refused}");
    }

    /// Reads one request, answers with `answer`, and holds the line until the client leaves.
    fn hostile(dir: &Path, answer: Vec<u8>) -> (PathBuf, JoinHandle<()>) {
        let socket = dir.join(format!("hostile-{:x}", rand::random::<u64>()));
        let listener = UnixListener::bind(&socket).unwrap();
        let agent = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut request = vec![0; u32::from_be_bytes(length).try_into().unwrap()];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&answer).ok();
            stream.read_to_end(&mut request).ok();
        });
        (socket, agent)
    }

    fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
        let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
        string(&[&[kind][..], &string(body)].concat())
    }

    #[tokio::test]
    async fn a_hostile_agent_signs_nothing_and_keeps_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (_, ca) = keygen(dir.path(), "ca", "ed25519");
        let (_, user) = keygen(dir.path(), "user", "ed25519");
        let other: Signature = super::super::mint::fresh_key().try_sign(b"something else").unwrap();
        let signature = [&11u32.to_be_bytes()[..], b"ssh-ed25519", &64u32.to_be_bytes(), other.as_bytes()].concat();
        let refused = async |answer: Vec<u8>| {
            let (socket, agent) = hostile(dir.path(), answer);
            let key = AgentKey { within: Duration::from_millis(500), ..AgentKey::new(ca.clone(), &socket) };
            let refused = key.sign(recipe(&user)).await.unwrap_err();
            agent.join().unwrap();
            refused
        };
        let by_other = refused(framed(14, &signature)).await;
        assert!(matches!(by_other, SignError::OtherKey(_)), "by some other key: {by_other:?}");
        // CVE-2026-46673
        assert!(matches!(refused(vec![0xff, 0xff, 0xff, 0xff, 14]).await, SignError::Agent { .. }), "4 GiB");
        assert!(matches!(refused(vec![0, 0, 0, 1, 5]).await, SignError::Agent { .. }), "SSH_AGENT_FAILURE");
        assert!(matches!(refused(framed(14, &[0xff; 12])).await, SignError::Agent { .. }), "no signature inside");
        assert!(matches!(refused(vec![0, 0, 0]).await, SignError::Late(_)), "a frame that never ends");
    }
}
