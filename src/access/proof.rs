//! A proof of what was approved: the bytes that were signed, the signatures, the keys, as files.
//!
//! Whoever reads one needs nothing of ours: `ssh-keygen -Y verify` says of each decision whether it was signed,
//! and its bytes name the digest of `request.json`. What no signature carries is named as the bastion's word.

use std::collections::BTreeMap;

use russh::keys::ssh_key::PublicKey;
use serde::{Deserialize, Serialize};

use super::canonical::{self, NotCanonical};
use super::decision::{BadDecision, DecisionDocument, Level, NAMESPACE, SignedDecision, Verdict};
use super::request::{BadRequest, RequestDocument, matching_code};
use crate::id::{Digest, Person, RequestId};
use crate::time::Timestamp;

pub const VERSION: u64 = 1;
/// Decisions of one request that a proof holds; a workflow asks for fewer.
pub const MAX_DECISIONS: usize = 500;

const MANIFEST: &str = "manifest.json";
const REQUEST: &str = "request.json";
const SIGNERS: &str = "allowed_signers";
const LOG: &str = "log.jsonl";
const README: &str = "README";

/// A proof as it is read and written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub manifest: Manifest,
    /// The request's bytes.
    pub request: Vec<u8>,
    /// The signed ones, by their file in the manifest: bytes and SSHSIG.
    pub signed: BTreeMap<String, (Vec<u8>, String)>,
    pub signers: Vec<Signer>,
    /// Rows of the audit log with their proofs, a line each, as the bastion answers them.
    pub log: Vec<String>,
}

/// `manifest.json`: what belongs together, and what the bastion says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub v: u64,
    /// Always `proof`.
    pub kind: String,
    pub bastion: String,
    pub request: RequestId,
    pub digest: Digest,
    /// What became of it, in a word.
    pub state: String,
    /// In the order they came.
    pub decisions: Vec<Entry>,
    /// The key of the audit log.
    pub log_key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub person: Person,
    pub verdict: Verdict,
    pub level: Level,
    /// When it came, by the bastion's clock.
    #[serde(rename = "at_us")]
    pub at: Timestamp,
    /// Absent where nothing was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// A line of `allowed_signers`: a key that was its person's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    pub person: Person,
    /// As in `authorized_keys`, without a comment.
    pub key: String,
    /// Since when it is not theirs any more.
    pub left: Option<Timestamp>,
}

/// A decision whose signature fits, and one that has none.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Signed { entry: Entry, document: Box<DecisionDocument> },
    Unsigned(Entry),
}

impl Proof {
    /// The file of the `n`th decision, from 1.
    pub fn file_of(n: usize, person: &Person) -> String {
        format!("decision-{n}-{person}.json")
    }

    /// All files with their names, in the order in which they are read.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let signers: String = self.signers.iter().map(|signer| signer.line() + "\n").collect();
        let log: String = self.log.iter().map(|line| format!("{line}\n")).collect();
        let mut files = vec![
            (README.to_owned(), self.readme().into_bytes()),
            (MANIFEST.to_owned(), canonical::encode(&self.manifest)),
            (REQUEST.to_owned(), self.request.clone()),
            (SIGNERS.to_owned(), signers.into_bytes()),
        ];
        for (file, (bytes, signature)) in &self.signed {
            files.push((file.clone(), bytes.clone()));
            files.push((format!("{file}.sig"), signature.clone().into_bytes()));
        }
        files.push((LOG.to_owned(), log.into_bytes()));
        files
    }

    /// Reads a proof from its files; the README is for people and not read.
    pub fn read(files: &BTreeMap<String, Vec<u8>>) -> Result<Self, BadProof> {
        let bytes = |name: &str| files.get(name).cloned().ok_or_else(|| BadProof::Missing(name.to_owned()));
        let text = |name: &str| String::from_utf8(bytes(name)?).map_err(|_| BadProof::Text(name.to_owned()));
        let manifest: Manifest = canonical::decode(&bytes(MANIFEST)?).map_err(BadProof::Manifest)?;
        if manifest.v != VERSION || manifest.kind != "proof" || manifest.decisions.len() > MAX_DECISIONS {
            return Err(BadProof::Kind);
        }
        let mut signed = BTreeMap::new();
        for (n, entry) in manifest.decisions.iter().enumerate() {
            let Some(file) = &entry.file else { continue };
            if *file != Self::file_of(n + 1, &entry.person) {
                return Err(BadProof::Name(file.clone()));
            }
            signed.insert(file.clone(), (bytes(file)?, text(&format!("{file}.sig"))?));
        }
        let signers = text(SIGNERS)?.lines().map(Signer::read).collect::<Result<_, _>>()?;
        let log = text(LOG)?.lines().map(str::to_owned).collect();
        Ok(Self { manifest, request: bytes(REQUEST)?, signed, signers, log })
    }

    /// Checks all that its files say of each other: the request's digest, every signature under its person's key as
    /// of then, and that each signed decision is one on this request.
    pub fn check(&self) -> Result<(RequestDocument, Vec<Said>), BadProof> {
        let document = RequestDocument::read(&self.request)?;
        let Manifest { bastion, request, digest, decisions, .. } = &self.manifest;
        if Digest::of(&self.request) != *digest || document.request != *request || document.bastion != *bastion {
            return Err(BadProof::Request);
        }
        let mut said = Vec::with_capacity(decisions.len());
        for entry in decisions {
            let Some((bytes, signature)) = entry.file.as_ref().and_then(|file| self.signed.get(file)) else {
                if entry.level > Level::Connection {
                    return Err(BadProof::Level(entry.person.clone()));
                }
                said.push(Said::Unsigned(entry.clone()));
                continue;
            };
            let theirs = self.signers.iter().filter(|signer| signer.person == entry.person);
            let keys: Vec<PublicKey> = theirs.filter(|signer| signer.counts(entry.at)).map(Signer::public).collect::<Result<_, _>>()?;
            let bad = |source| BadProof::Decision { person: entry.person.clone(), source };
            let decision = SignedDecision::verify(bytes.clone(), signature, &entry.person, &keys, bastion, entry.at).map_err(bad)?;
            let signed = decision.document();
            if signed.requests.binary_search(digest).is_err() {
                return Err(BadProof::Other(entry.person.clone()));
            }
            if decision.level() != entry.level || signed.verdict != entry.verdict {
                return Err(BadProof::Level(entry.person.clone()));
            }
            if signed.terms.as_ref().is_some_and(|terms| terms.beyond(&document.asked(), entry.at).is_some()) {
                return Err(BadProof::More(entry.person.clone()));
            }
            said.push(Said::Signed { entry: entry.clone(), document: Box::new(signed.clone()) });
        }
        Ok((document, said))
    }

    /// The commands that verify it with stock tools, in its directory.
    pub fn commands(&self) -> Vec<String> {
        let mut lines = vec![format!("sha256sum {REQUEST}   # {}", self.manifest.digest)];
        for entry in &self.manifest.decisions {
            let Some(file) = &entry.file else { continue };
            lines.push(format!("grep -c {} {file}   # 1: it is about this request", self.manifest.digest));
            lines.push(format!(
                "ssh-keygen -Y verify -f {SIGNERS} -I {} -n {NAMESPACE} -O verify-time={} -s {file}.sig <{file}",
                entry.person,
                stamp(entry.at)
            ));
        }
        lines
    }

    fn readme(&self) -> String {
        let Manifest { request, bastion, state, decisions, .. } = &self.manifest;
        let mut text = format!("What was asked of the bastion {bastion} as {request}, and who agreed. It is {state} by now.\n\n");
        if let Ok(asked) = RequestDocument::read(&self.request) {
            let targets: Vec<String> = asked.targets.iter().take(20).map(|target| target.id.to_string()).collect();
            text.push_str(&format!(
                "{REQUEST}: {} asks for {} as {} on {}{}, for {}: {:?}\n  code {}\n",
                asked.person,
                asked.scope.words(),
                asked.login,
                targets.join(", "),
                if asked.targets.len() > 20 { format!(" and {} more", asked.targets.len() - 20) } else { String::new() },
                crate::time::short(asked.duration()),
                asked.reason,
                matching_code(&self.manifest.digest)
            ));
        }
        for entry in decisions {
            let verdict = match entry.verdict {
                Verdict::Approve => "yes",
                Verdict::Deny => "no",
            };
            let at = entry.at;
            text.push_str(&match &entry.file {
                Some(file) => format!("{file}: {} says {verdict}, signed, level {}, {at}\n", entry.person, entry.level.as_str()),
                None => format!(
                    "{} says {verdict} without a signature (level connection), {at}: the word of the bastion, which proves nothing\n",
                    entry.person
                ),
            });
        }
        text.push_str(&format!(
            "{SIGNERS}: the keys as of then; valid-before is when one ceased to be its person's. Whether a key was theirs at all\nis for you to know: compare it with a list of your own\n{LOG}: rows of the audit log about it, each with its proof\n\nTo verify, here:\n\n"
        ));
        text.extend(self.commands().iter().map(|line| format!("  {line}\n")));
        text.push_str(&format!("\nor all of it, the log too:\n\n  countersign verify {request}.proof\n"));
        text
    }
}

impl Signer {
    fn line(&self) -> String {
        let until = self.left.map(|left| format!(",valid-before=\"{}\"", stamp(left))).unwrap_or_default();
        format!("{} namespaces=\"{NAMESPACE}\"{until} {}", self.person, self.key)
    }

    fn read(line: &str) -> Result<Self, BadProof> {
        let bad = || BadProof::Signer(line.chars().take(80).collect());
        let [person, options, kind, key] = line.split(' ').collect::<Vec<_>>()[..] else { return Err(bad()) };
        let rest = options.strip_prefix(&format!("namespaces=\"{NAMESPACE}\"")).ok_or_else(bad)?;
        let left = match rest {
            "" => None,
            _ => {
                let stamp = rest.strip_prefix(",valid-before=\"").and_then(|rest| rest.strip_suffix("Z\"")).ok_or_else(bad)?;
                let at = chrono::NaiveDateTime::parse_from_str(stamp, "%Y%m%d%H%M%S").map_err(|_| bad())?;
                Some(Timestamp::from_micros(at.and_utc().timestamp_micros()))
            }
        };
        let signer = Self { person: person.parse().map_err(|_| bad())?, key: format!("{kind} {key}"), left };
        if signer.line() == line { Ok(signer) } else { Err(bad()) }
    }

    /// As `ssh-keygen` counts: in whole seconds.
    fn counts(&self, at: Timestamp) -> bool {
        self.left.is_none_or(|left| at.micros() / 1_000_000 <= left.micros() / 1_000_000)
    }

    fn public(&self) -> Result<PublicKey, BadProof> {
        let bad = || BadProof::Signer(self.key.chars().take(80).collect());
        // ssh-key 0.7.0-rc.11 recurses without limit on nested certificates.
        if self.key.contains("-cert-v0") || self.key.len() > super::decision::MAX_SIGNATURE {
            return Err(bad());
        }
        PublicKey::from_openssh(&self.key).map_err(|_| bad())
    }
}

/// `20261125221400Z`, as `ssh-keygen` reads it.
fn stamp(at: Timestamp) -> String {
    at.utc().format("%Y%m%d%H%M%SZ").to_string()
}

#[derive(Debug, thiserror::Error)]
pub enum BadProof {
    #[error("{0} is missing")]
    Missing(String),
    #[error("{0} is not text")]
    Text(String),
    #[error("manifest.json cannot be read")]
    Manifest(#[source] NotCanonical),
    #[error("it is no proof that this version knows")]
    Kind,
    #[error("{0:?} is not what that decision's file is called")]
    Name(String),
    #[error("allowed_signers has a line that is none of a proof's: {0:?}")]
    Signer(String),
    #[error("request.json cannot be read")]
    Form(#[from] BadRequest),
    #[error("request.json is another request than the manifest names")]
    Request,
    #[error("the decision of {person} is not good")]
    Decision {
        person: Person,
        #[source]
        source: BadDecision,
    },
    #[error("the decision of {0} is about another request")]
    Other(Person),
    #[error("the decision of {0} is of another level or verdict than the manifest says")]
    Level(Person),
    #[error("the decision of {0} grants more than was asked")]
    More(Person),
}
