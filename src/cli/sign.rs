//! The person's own key, in their ssh-agent or in a file, signing what they have read.
//!
//! Outside `ssh/` only this file and `authority/agent.rs` speak the agent protocol (`russh::keys::agent`). An agent is a
//! stranger behind a socket: its frames are capped (russh refuses more than 256 KiB, CVE-2026-46673),
//! its answers have a deadline, and every signature is verified here before it is sent anywhere.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};
use tokio::net::UnixStream;

use super::terminal;
use crate::access::decision::{Level, NAMESPACE};

/// A key file is smaller.
const MAX_KEY_FILE: u64 = 64 * 1024;
/// An agent lists its keys at once.
const LIST_WITHIN: Duration = Duration::from_secs(10);
/// A hand has to reach the key, or type into the agent's own prompt.
const SIGN_WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("the key file cannot be read: {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is neither an OpenSSH private key nor a public one", .0.display())]
    NotAKey(PathBuf),
    #[error("the passphrase does not open {}; or load the key: ssh-add {}", .0.display(), .0.display())]
    Passphrase(PathBuf),
    #[error("{} has a passphrase and there is no terminal to ask on; load it: ssh-add {}", .0.display(), .0.display())]
    Locked(PathBuf),
    #[error("{key} keys sign through ssh-agent only; load it: ssh-add {}", path.display())]
    AgentOnly { key: String, path: PathBuf },
    #[error("the key {fingerprint} is not one of yours at this bastion; it lists: {}", listed.join(", "))]
    NotListed { fingerprint: String, listed: Vec<String> },
    #[error("no key to sign with: none in the ssh-agent and no {} is one of yours at this bastion ({}); name one: --key PATH", default.display(), listed.join(", "))]
    None { default: PathBuf, listed: Vec<String> },
    #[error("no ssh-agent: SSH_AUTH_SOCK is not set; start one (eval $(ssh-agent); ssh-add), or name a key file: --key PATH")]
    NoAgent,
    #[error("the ssh-agent at {} does not answer as one", socket.display())]
    Agent {
        socket: PathBuf,
        #[source]
        source: russh::keys::Error,
    },
    #[error("the ssh-agent did not answer in {} s", .0.as_secs())]
    Late(Duration),
    #[error("the ssh-agent has no key {0}; load it: ssh-add")]
    NotInAgent(String),
    #[error("the ssh-agent did not sign: refused, locked, or not touched in time")]
    Refused(#[source] russh::keys::Error),
    #[error("the key cannot sign")]
    Sign(#[source] russh::keys::ssh_key::Error),
}

/// A key that can sign now.
#[derive(Debug)]
pub struct Signer {
    key: PublicKey,
    by: By,
}

#[derive(Debug)]
enum By {
    Agent(PathBuf),
    File(Box<PrivateKey>),
}

/// Where keys may come from.
#[derive(Debug, Clone)]
pub struct Keys<'a> {
    /// `--key`: a private key, or the public half of one in the agent.
    pub named: Option<&'a Path>,
    /// The agent's socket, if there is one.
    pub agent: Option<PathBuf>,
    /// Where a key lies if nobody named one.
    pub default: PathBuf,
    /// Fingerprints that the bastion lists for this person.
    pub listed: &'a [String],
    /// What the request's workflows ask for.
    pub level: Level,
}

impl Signer {
    /// Picks the key: the named one, else the agent's first that is listed (a hardware key where a
    /// touch is asked for), else the default file.
    pub async fn pick(keys: &Keys<'_>) -> Result<Self, SignError> {
        if let Some(path) = keys.named {
            let signer = Self::named(path, keys.agent.as_deref()).await?;
            return if keys.listed.contains(&signer.fingerprint()) {
                Ok(signer)
            } else {
                Err(SignError::NotListed { fingerprint: signer.fingerprint(), listed: keys.listed.to_vec() })
            };
        }
        if let Some(socket) = &keys.agent {
            let mut own: Vec<PublicKey> = identities(socket).await?;
            own.retain(|key| keys.listed.contains(&fingerprint(key)));
            own.sort_by_key(|key| keys.level >= Level::Touch && !is_hardware(key));
            if let Some(key) = own.into_iter().next() {
                return Ok(Self { key, by: By::Agent(socket.clone()) });
            }
        }
        let none = || SignError::None { default: keys.default.clone(), listed: keys.listed.to_vec() };
        if !keys.default.exists() {
            return Err(none());
        }
        let signer = Self::named(&keys.default, keys.agent.as_deref()).await?;
        if keys.listed.contains(&signer.fingerprint()) { Ok(signer) } else { Err(none()) }
    }

    async fn named(path: &Path, agent: Option<&Path>) -> Result<Self, SignError> {
        let text = read_key_file(path)?;
        if !text.contains("PRIVATE KEY") {
            let key = PublicKey::from_openssh(text.trim()).map_err(|_| SignError::NotAKey(path.to_owned()))?;
            return Self::in_agent(key, agent.ok_or(SignError::NoAgent)?).await;
        }
        let private = PrivateKey::from_openssh(&text).map_err(|_| SignError::NotAKey(path.to_owned()))?;
        // The agent first where it has the key: no passphrase, and hardware keys sign nowhere else.
        if let Some(agent) = agent
            && (private.is_encrypted() || agent_only(private.public_key()))
            && let Ok(signer) = Self::in_agent(private.public_key().clone(), agent).await
        {
            return Ok(signer);
        }
        if agent_only(private.public_key()) {
            return Err(SignError::AgentOnly { key: private.algorithm().to_string(), path: path.to_owned() });
        }
        let private = if private.is_encrypted() { unlock(&private, path)? } else { private };
        Ok(Self { key: private.public_key().clone(), by: By::File(Box::new(private)) })
    }

    async fn in_agent(key: PublicKey, agent: &Path) -> Result<Self, SignError> {
        let held = identities(agent).await?.into_iter().any(|held| held.key_data() == key.key_data());
        if held { Ok(Self { key, by: By::Agent(agent.to_owned()) }) } else { Err(SignError::NotInAgent(fingerprint(&key))) }
    }

    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// `SHA256:…`
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.key)
    }

    /// Whether only a hand can make it sign (as far as the key's kind says).
    pub fn is_hardware(&self) -> bool {
        is_hardware(&self.key)
    }

    /// Signs the bytes of a decision: SSHSIG over SHA-512, as PEM.
    pub async fn sign(&self, bytes: &[u8]) -> Result<String, SignError> {
        let signed = match &self.by {
            By::File(private) => private.sign(NAMESPACE, HashAlg::Sha512, bytes).map_err(SignError::Sign)?,
            By::Agent(socket) => {
                let data = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, bytes).map_err(SignError::Sign)?;
                let mut agent = connect(socket).await?;
                let signing = agent.sign_request_signature(&self.key, Some(HashAlg::Sha512), &data);
                let signature = tokio::time::timeout(SIGN_WITHIN, signing).await.map_err(|_| SignError::Late(SIGN_WITHIN))?;
                let signature = signature.map_err(SignError::Refused)?;
                SshSig::new(self.key.key_data().clone(), NAMESPACE, HashAlg::Sha512, signature).map_err(SignError::Sign)?
            }
        };
        signed.to_pem(LineEnding::LF).map_err(SignError::Sign)
    }
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn is_hardware(key: &PublicKey) -> bool {
    matches!(key.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256)
}

/// Hardware keys, and RSA: this program holds no RSA private key (RUSTSEC-2023-0071).
fn agent_only(key: &PublicKey) -> bool {
    is_hardware(key) || matches!(key.algorithm(), Algorithm::Rsa { .. } | Algorithm::Dsa)
}

async fn connect(socket: &Path) -> Result<AgentClient<UnixStream>, SignError> {
    AgentClient::connect_uds(socket).await.map_err(|source| SignError::Agent { socket: socket.to_owned(), source })
}

async fn identities(socket: &Path) -> Result<Vec<PublicKey>, SignError> {
    let list = async {
        let mut agent = connect(socket).await?;
        agent.request_identities().await.map_err(|source| SignError::Agent { socket: socket.to_owned(), source })
    };
    let held = tokio::time::timeout(LIST_WITHIN, list).await.map_err(|_| SignError::Late(LIST_WITHIN))??;
    Ok(held
        .into_iter()
        .filter_map(|identity| match identity {
            AgentIdentity::PublicKey { key, .. } => Some(key),
            // A decision is signed with the plain key; the agent lists that one too.
            AgentIdentity::Certificate { .. } => None,
        })
        .collect())
}

pub(super) fn read_key_file(path: &Path) -> Result<String, SignError> {
    let failed = |source| SignError::File { path: path.to_owned(), source };
    let mut text = String::new();
    std::fs::File::open(path).map_err(failed)?.take(MAX_KEY_FILE).read_to_string(&mut text).map_err(failed)?;
    // ssh-key 0.7.0-rc.11 recurses without limit on nested certificates.
    if text.contains("-cert-v0") { Err(SignError::NotAKey(path.to_owned())) } else { Ok(text) }
}

/// The text of a key file that has a passphrase, without it.
pub(super) fn unlocked_text(text: &str, path: &Path) -> Result<zeroize::Zeroizing<String>, SignError> {
    let private = PrivateKey::from_openssh(text).map_err(|_| SignError::NotAKey(path.to_owned()))?;
    unlock(&private, path)?.to_openssh(LineEnding::LF).map_err(SignError::Sign)
}

fn unlock(private: &PrivateKey, path: &Path) -> Result<PrivateKey, SignError> {
    let prompt = format!("countersign: passphrase of {}: ", path.display());
    let passphrase = terminal::secret(&prompt).map_err(|_| SignError::Locked(path.to_owned()))?;
    private.decrypt(passphrase.as_bytes()).map_err(|_| SignError::Passphrase(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::decision::{DecisionDocument, GrantedTerms, SignedDecision, VERSION, Verdict};
    use crate::access::{Class, Scope};
    use crate::id::Digest;
    use crate::time::Timestamp;
    use std::os::unix::net::UnixListener;
    use std::process::{Child, Command, Stdio};

    /// A real ssh-agent with the keys that are added, ended with the test.
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
            let added =
                Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket).stdin(Stdio::null()).status().unwrap();
            assert!(added.success());
        }
    }

    impl Drop for Agent {
        fn drop(&mut self) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }

    fn keygen(dir: &Path, name: &str, kind: &str, passphrase: &str) -> (PathBuf, String) {
        let path = dir.join(name);
        let made = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", passphrase, "-C", name, "-f"]).arg(&path).status().unwrap();
        assert!(made.success());
        let public = PublicKey::from_openssh(std::fs::read_to_string(path.with_extension("pub")).unwrap().trim()).unwrap();
        (path, fingerprint(&public))
    }

    fn keys<'a>(named: Option<&'a Path>, agent: Option<&Path>, default: &Path, listed: &'a [String]) -> Keys<'a> {
        Keys { named, agent: agent.map(Path::to_owned), default: default.to_owned(), listed, level: Level::Key }
    }

    fn decision(key: &str) -> Vec<u8> {
        let terms = GrantedTerms { for_us: 1_800_000_000, once: false, scope: Scope([Class::Shell].into()), ..GrantedTerms::default() };
        DecisionDocument {
            v: VERSION,
            kind: "decision".into(),
            bastion: "bastion-1".into(),
            requests: vec![Digest([1; 32])],
            verdict: Verdict::Approve,
            terms: Some(terms),
            note: String::new(),
            approver: "bob".parse().unwrap(),
            key: key.into(),
            time_us: 1_700_000_000_000_000,
        }
        .bytes()
    }

    /// `ssh-keygen -Y verify`, the way an auditor checks a decision years later.
    fn stock_verify(dir: &Path, key: &PublicKey, bytes: &[u8], pem: &str) -> bool {
        std::fs::write(dir.join("signers"), format!("bob {}\n", key.to_openssh().unwrap())).unwrap();
        std::fs::write(dir.join("sig"), pem).unwrap();
        std::fs::write(dir.join("doc"), bytes).unwrap();
        let verified = Command::new("ssh-keygen")
            .args(["-Y", "verify", "-I", "bob", "-n", NAMESPACE, "-f"])
            .arg(dir.join("signers"))
            .arg("-s")
            .arg(dir.join("sig"))
            .stdin(std::fs::File::open(dir.join("doc")).unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        verified.unwrap().success()
    }

    #[tokio::test]
    async fn a_key_file_signs_what_ssh_keygen_verifies() {
        let dir = tempfile::tempdir().unwrap();
        for kind in ["ed25519", "ecdsa"] {
            let (path, listed) = keygen(dir.path(), kind, kind, "");
            let signer = Signer::pick(&keys(Some(&path), None, &path, std::slice::from_ref(&listed))).await.unwrap();
            let bytes = decision(&listed);
            let pem = signer.sign(&bytes).await.unwrap();
            assert!(stock_verify(dir.path(), signer.key(), &bytes, &pem), "{kind}");
            assert!(!stock_verify(dir.path(), signer.key(), &[&bytes[..], b" "].concat(), &pem), "{kind}");
            let now = Timestamp::from_micros(1_700_000_000_000_000);
            let ours = SignedDecision::verify(bytes, &pem, &"bob".parse().unwrap(), &[signer.key().clone()], "bastion-1", now);
            assert_eq!(ours.unwrap().level(), Level::Key);
        }
    }

    #[tokio::test]
    async fn the_agents_first_listed_key_signs() {
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::start(dir.path());
        let (other, _) = keygen(dir.path(), "other", "ed25519", "");
        let (mine, listed) = keygen(dir.path(), "mine", "rsa", "");
        agent.add(&other);
        agent.add(&mine);
        let listed = [listed];
        let signer = Signer::pick(&keys(None, Some(&agent.socket), &dir.path().join("none"), &listed)).await.unwrap();
        assert_eq!(signer.fingerprint(), listed[0]);
        let bytes = decision(&listed[0]);
        let pem = signer.sign(&bytes).await.unwrap();
        assert!(stock_verify(dir.path(), signer.key(), &bytes, &pem));

        let public = mine.with_extension("pub");
        let by_public = Signer::pick(&keys(Some(&public), Some(&agent.socket), &public, &listed)).await.unwrap();
        assert_eq!(by_public.fingerprint(), listed[0]);
    }

    #[tokio::test]
    async fn a_locked_key_file_signs_through_the_agent_or_says_how() {
        let dir = tempfile::tempdir().unwrap();
        let (path, listed) = keygen(dir.path(), "locked", "ed25519", "secret");
        let private = PrivateKey::from_openssh(std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(private.decrypt("secret").is_ok() && private.decrypt("wrong").is_err());
        let rsa = keygen(dir.path(), "rsa", "rsa", "");
        let refused = Signer::pick(&keys(Some(&rsa.0), None, &rsa.0, &[rsa.1])).await.unwrap_err();
        assert!(refused.to_string().contains("ssh-add"), "{refused}");
        let unlisted = Signer::pick(&keys(None, None, &dir.path().join("none"), &[listed])).await.unwrap_err();
        assert!(matches!(unlisted, SignError::None { .. }), "{unlisted}");
    }

    #[tokio::test]
    async fn a_key_that_is_not_listed_does_not_sign() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = keygen(dir.path(), "mine", "ed25519", "");
        let refused = Signer::pick(&keys(Some(&path), None, &path, &["SHA256:other".into()])).await.unwrap_err();
        assert!(matches!(refused, SignError::NotListed { .. }));
    }

    /// CVE-2026-46673: an agent that announces 4 GiB.
    #[tokio::test]
    async fn an_agents_four_gigabytes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("hostile");
        let listener = UnixListener::bind(&socket).unwrap();
        let hostile = std::thread::spawn(move || {
            use std::io::Write as _;
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&[0xff, 0xff, 0xff, 0xff, 12]).ok();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).ok();
        });
        let refused = Signer::pick(&keys(None, Some(&socket), &dir.path().join("none"), &["SHA256:x".into()])).await.unwrap_err();
        assert!(matches!(refused, SignError::Agent { .. }), "{refused}");
        hostile.join().unwrap();
    }
}
