//! Scenes over a real database in a directory of its own. Time is an argument: [`NOW`] and later.

mod clock;
mod decide;
mod end;
mod fail;
mod family;
mod glass;
mod open;
mod overrun;
mod race;
mod rerule;
mod storm;
mod submit;
mod suspend;
mod turns;
mod view;
mod wait;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey};
use tokio::sync::watch;

use super::*;
use crate::access::action::Class;
use crate::access::decision::{DecisionDocument, Level, NAMESPACE, SignedDecision};
use crate::access::factor::Factors;
use crate::access::family::Family;
use crate::access::kinds::kinds;
use crate::access::people::{People, PersonEntry};
use crate::access::policy::{PolicySet, Vocabulary};
use crate::access::target::{Entry, PrincipalStyle, Targets};
use crate::access::workflow::{SourceRule, Stage, Workflow, Workflows};
use crate::access::{Grant, VerifiedKey};
use crate::config::{Config, Limits, RecordingSettings};
use crate::id::Person;
use crate::recording::{Durability, Protection};
use crate::retention::schedule::{Schedule, Schedules};
use crate::store::AuditRow;
use crate::store::clock::Clock;

pub const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const BASTION: &str = "bastion-1";

const POLICY: &str = r#"
@id("leads-approve") permit (principal in Group::"leads", action == Action::"approve", resource);
@id("pci-needs-sec") forbid (principal, action == Action::"approve", resource in Label::"pci") unless { principal in Group::"sec" };
@id("auditors") permit (principal in Group::"auditors", action == Action::"replay", resource);
"#;

/// What the directory says; changed and published again where a scene needs it.
#[derive(Clone)]
pub struct Plan {
    pub people: Vec<PersonEntry>,
    pub targets: Vec<Target>,
    pub families: Vec<Family>,
    pub workflows: Workflows,
    pub limits: Limits,
    pub policy: String,
}

pub struct Scene {
    dir: tempfile::TempDir,
    pub plan: Plan,
    publish: watch::Sender<Arc<Directory>>,
    pub approvals: Approvals,
}

pub fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

pub fn key(n: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[n; 32]))
}

/// Who uses which key: carol has two.
const KEYS: [(&str, &[&str], &[u8]); 7] = [
    ("alice", &["sre"], &[1]),
    ("bob", &["leads"], &[2]),
    ("carol", &["leads", "sec"], &[3, 33]),
    ("dave", &["leads"], &[4]),
    ("erin", &["auditors"], &[5]),
    ("frank", &["sre", "leads"], &[6]),
    ("mallory", &["sre"], &[7]),
];

fn target(id: &str, labels: &[&str]) -> Target {
    Target {
        id: id.parse().unwrap(),
        host: "192.0.2.10".into(),
        port: 22,
        aliases: [].into(),
        labels: labels.iter().map(|label| label.to_string()).collect(),
        logins: vec!["deploy".parse().unwrap()],
        host_keys: vec![key(100).public_key().clone()],
        host_cas: vec![],
        principal: PrincipalStyle::LoginAtTarget,
        entry: Entry::default(),
    }
}

fn workflow(name: &str, quorum: u32, level: Level) -> Workflow {
    Workflow {
        name: name.parse().unwrap(),
        stages: vec![Stage { groups: vec!["leads".parse().unwrap()], quorum, ..Stage::default() }],
        level,
        decide_within: 15 * MINUTE,
        longest_grant: 60 * MINUTE,
        default_grant: 30 * MINUTE,
        use_within: 5 * MINUTE,
        linger: 5 * MINUTE,
        overrun: 5 * MINUTE,
        reason_required: false,
        prompt: None,
        rescue: false,
        break_glass: None,
        notify: vec![],
        reason_pattern: None,
        source: SourceRule::Address,
    }
}

impl Plan {
    fn usual() -> Self {
        let people = KEYS.map(|(name, groups, keys)| PersonEntry {
            name: name.parse().unwrap(),
            groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
            keys: keys.iter().map(|n| key(*n).public_key().clone()).collect(),
            accounts: vec![],
        });
        let mut reasoned = workflow("reasoned", 1, Level::Key);
        reasoned.reason_required = true;
        reasoned.reason_pattern = Some(r"INC-\d+( .*)?".into());
        let workflows = [
            workflow("lead", 1, Level::Key),
            workflow("pair", 2, Level::Key),
            workflow("touched", 1, Level::Touch),
            workflow("soft", 1, Level::Connection),
            reasoned,
        ];
        Self {
            people: people.into(),
            targets: vec![target("web-1", &["env=prod"]), target("web-2", &["env=prod"]), target("pay-1", &["pci"])],
            families: vec![],
            workflows: workflows.into_iter().map(|workflow| (workflow.name.clone(), workflow)).collect(),
            limits: Limits::default(),
            policy: POLICY.into(),
        }
    }

    fn directory(&self) -> Directory {
        let period = |text: &str| text.parse().unwrap();
        let year = Schedule { name: "year".parse().unwrap(), keep_at_least: period("90d"), delete_after: period("1y") };
        let targets = Targets::new(self.targets.clone(), self.families.clone()).unwrap();
        let known = Vocabulary { workflows: self.workflows.keys().cloned().collect(), ..Vocabulary::default() };
        let policy = PolicySet::parse(&self.policy, &known).unwrap();
        Directory {
            root: "/".into(),
            config: Config {
                keys: crate::authority::KeyPlan::usual(std::path::Path::new("/nowhere")),
                client: Default::default(),
                bastion: BASTION.into(),
                host: "bastion".into(),
                listen: vec![],
                state: "/".into(),
                recordings: RecordingSettings {
                    dir: "/".into(),
                    durability: Durability::Second,
                    free_floor: 0,
                    reserve: None,
                    protection: Protection::Plain,
                    auditors: BTreeMap::new(),
                },
                egress: None,
                console: crate::config::ConsoleSettings::default(),
                metrics: None,
                limits: self.limits.clone(),
                notifiers: Default::default(),
            },
            people: People::new(self.people.clone(), &[]).unwrap(),
            factors: Factors::default(),
            kinds: kinds(&policy, &targets),
            targets,
            policy,
            workflows: self.workflows.clone(),
            presets: Default::default(),
            schedules: Schedules { default: Some(year.name.clone()), by_name: [(year.name.clone(), year)].into(), ..Schedules::default() },
            digest: Digest([9; 32]),
            texts: BTreeMap::new(),
            warnings: vec![],
        }
    }

    pub fn person(&mut self, name: &str) -> &mut PersonEntry {
        self.people.iter_mut().find(|entry| entry.name.as_str() == name).unwrap()
    }

    pub fn workflow(&mut self, name: &str) -> &mut Workflow {
        self.workflows.get_mut(&name.parse().unwrap()).unwrap()
    }
}

impl Scene {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::usual();
        let (publish, directory) = watch::channel(Arc::new(plan.directory()));
        let store = Store::open(&dir.path().join("state.db")).await.unwrap();
        let approvals =
            Approvals::new(store.clone(), BASTION.into(), Clock::open(store, crate::time::seen().await).await.unwrap(), directory);
        Self { dir, plan, publish, approvals }
    }

    /// Stops the bastion and starts it again on the same database.
    pub async fn restart(&mut self) {
        self.approvals.store.close().await;
        self.approvals.store = Store::open(&self.dir.path().join("state.db")).await.unwrap();
    }

    /// Edits the directory and reloads it.
    pub fn reload(&mut self, edit: impl FnOnce(&mut Plan)) {
        edit(&mut self.plan);
        self.publish.send_replace(Arc::new(self.plan.directory()));
    }

    pub fn store(&self) -> &Store {
        &self.approvals.store
    }

    /// Who comes with their (first) key from the usual address.
    pub fn who(&self, name: &str) -> Principal {
        let (_, _, keys) = KEYS.iter().find(|(known, _, _)| *known == name).unwrap();
        self.coming(keys[0], "198.51.100.7")
    }

    pub fn coming(&self, n: u8, from: &str) -> Principal {
        let from: IpAddr = from.parse().unwrap();
        // By the usual people: what a connection knew when it was made.
        let people = People::new(Plan::usual().people, &[]).unwrap();
        Principal::identify(&people, VerifiedKey::proven(key(n).public_key().clone()), from, NOW).unwrap()
    }

    pub fn target(&self, id: &str) -> Arc<Target> {
        Arc::new(self.plan.targets.iter().find(|target| target.id.as_str() == id).unwrap().clone())
    }

    /// A shell (with exec and file transfer) as deploy on web-1, held by these workflows.
    pub fn ask(&self, workflows: &[&str]) -> Ask {
        let hold = |name: &&str| Hold { workflow: name.parse().unwrap(), policy: format!("needs-{name}"), message: None };
        Ask {
            targets: vec![self.target("web-1")],
            login: "deploy".parse().unwrap(),
            scope: Scope([Class::Shell, Class::ExecAny, Class::SftpRead, Class::SftpWrite].into()),
            holds: workflows.iter().map(hold).collect(),
            terms: Terms::default(),
            commands: vec![],
            stdin: true,
            duration: None,
            once: false,
            start: None,
            reason: None,
            waiter: Waiter::Nobody,
            again: Again::No,
        }
    }

    pub async fn submit(&self, name: &str, ask: Ask) -> RequestId {
        self.approvals.submit(&self.who(name), ask, NOW).await.unwrap().0
    }

    /// A pending request of alice's.
    pub async fn pending(&self, workflow: &str) -> RequestId {
        self.submit("alice", self.ask(&[workflow])).await
    }

    /// A request of alice's that bob has approved.
    pub async fn approved(&self, ask: Ask) -> RequestId {
        let id = self.submit("alice", ask).await;
        let said = self.signed("bob", &[id], Verdict::Approve, None).await;
        self.approvals.decide(said, &self.who("bob"), NOW).await.unwrap();
        id
    }

    pub async fn view(&self, id: RequestId) -> RequestView {
        self.approvals.view(id).await.unwrap().unwrap()
    }

    pub async fn state(&self, id: RequestId) -> RequestState {
        self.view(id).await.state
    }

    pub async fn grant(&self, id: RequestId) -> GrantRow {
        self.store().snapshot().await.unwrap().grant(id).await.unwrap().unwrap()
    }

    /// What `name` signs with their first key; without terms an approval grants what was asked.
    pub async fn signed(&self, name: &str, requests: &[RequestId], verdict: Verdict, terms: Option<GrantedTerms>) -> Said {
        let (_, _, keys) = KEYS.iter().find(|(known, _, _)| *known == name).unwrap();
        let first = self.view(requests[0]).await.document;
        let as_asked = GrantedTerms { for_us: first.for_us, once: first.once, scope: first.scope, ..GrantedTerms::default() };
        let terms = (verdict == Verdict::Approve).then(|| terms.unwrap_or(as_asked));
        let mut digests = Vec::new();
        for id in requests {
            digests.push(self.view(*id).await.digest);
        }
        digests.sort();
        self.sign(name, keys[0], DecisionDocument { requests: digests, verdict, terms, ..decision(name, keys[0]) })
    }

    pub fn sign(&self, name: &str, n: u8, document: DecisionDocument) -> Said {
        let bytes = document.bytes();
        let signature = key(n).sign(NAMESPACE, HashAlg::Sha512, &bytes).unwrap().to_pem(LineEnding::LF).unwrap();
        let person: Person = name.parse().unwrap();
        let keys: Vec<PublicKey> = vec![key(n).public_key().clone()];
        let bastion = document.bastion.clone();
        Said::Signed(Box::new(SignedDecision::verify(bytes, &signature, &person, &keys, &bastion, NOW).unwrap()))
    }

    /// What `name` says on their connection.
    pub fn spoken(&self, name: &str, request: RequestId, verdict: Verdict, code: Option<&str>) -> Said {
        let code = code.map(str::to_owned);
        Said::OnConnection { request, approver: self.who(name), verdict, code, terms: None, note: "said".into() }
    }

    pub async fn decide(&self, name: &str, request: RequestId, verdict: Verdict) -> Result<RequestState, ApprovalError> {
        let said = self.signed(name, &[request], verdict, None).await;
        let views = self.approvals.decide(said, &self.who(name), NOW).await?;
        Ok(views.into_iter().next().unwrap().state)
    }

    /// Alice, from the usual address, wants this on web-1 as deploy.
    pub fn opening(&self, basis: Basis, want: Want, now: Timestamp) -> Opening {
        Opening {
            session: SessionId::new(now),
            principal: self.who("alice"),
            target: self.target("web-1"),
            address: "192.0.2.10:22".parse().unwrap(),
            login: "deploy".parse().unwrap(),
            want,
            terms: Terms::default(),
            by_text: false,
            basis,
            policy: Digest([9; 32]),
        }
    }

    pub async fn open(&self, id: RequestId, now: Timestamp) -> Result<Grant, OpenError> {
        let opening = self.opening(Basis::Approved(id), Want::Shell, now);
        self.approvals.open(opening, now).await.map(|(grant, _)| grant)
    }

    pub async fn usable(&self, want: &Want, now: Timestamp) -> Option<RequestId> {
        let holds = self.ask(&["lead"]).holds;
        let (alice, login) = (self.who("alice"), "deploy".parse().unwrap());
        self.approvals.usable(&alice, &self.target("web-1"), &login, want, &holds, now).await.unwrap()
    }

    pub async fn log(&self) -> Vec<AuditRow> {
        self.store().audit(0, 10_000).await.unwrap()
    }

    /// Names of the audit rows, in order.
    pub async fn names(&self) -> Vec<String> {
        self.log().await.into_iter().map(|row| row.name).collect()
    }
}

/// An approver's empty document; what is decided is filled in.
fn decision(name: &str, n: u8) -> DecisionDocument {
    DecisionDocument {
        v: 1,
        kind: "decision".into(),
        bastion: BASTION.into(),
        requests: vec![],
        verdict: Verdict::Deny,
        terms: None,
        note: "seen".into(),
        approver: name.parse().unwrap(),
        key: key(n).fingerprint(HashAlg::Sha256).to_string(),
        time_us: crate::access::request::doc_micros(NOW),
    }
}
