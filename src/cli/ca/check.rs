//! `countersign ca check deploy@web-1 -c DIR`: logs in with a probe and says which half is missing.
//!
//! A probe opens no session and needs no approval (see `authority/probe.rs`), but it is a certificate, so it
//! is in the log before it is signed. The log has one writer, the running node: this process leaves its
//! wish in the state and waits, as `clock accept` does; only where no node runs it writes for itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{CheckArgs, load};
use crate::access::Target;
use crate::access::probe::{Asks, Probe};
use crate::authority::{CaPlan, ProbeAuthority};
use crate::cli::say;
use crate::config::Directory;
use crate::console::render::VERSION;
use crate::console::{visible, with_causes};
use crate::id::Login;
use crate::pen::{self, Launch, Purpose};
use crate::ssh::probe::{Answer, knock};
use crate::store::Store;
use crate::store::clock::Clock;
use crate::store::probes::{Wish, Wished};
use crate::time::{Timestamp, seen};

/// Hosts that are knocked at together.
const AT_ONCE: usize = 16;
/// A running node takes a wish within a second or two.
const NODE: Duration = Duration::from_secs(4);
/// How often the state is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// One login of one target.
#[derive(Debug, Clone)]
struct Place {
    target: Arc<Target>,
    login: Login,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    login: Login,
    target: String,
    found: Found,
    text: String,
    /// What to type next.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    InOrder,
    Unreachable,
    HostKey,
    Clock,
    NoPrincipalsFile,
    NoPrincipal,
    Refused,
    /// This end failed.
    NotTried,
}

pub async fn run(args: &CheckArgs, json: bool) -> anyhow::Result<u8> {
    let directory = load(&args.dir)?;
    let places = places(&directory, args)?;
    let launch = Launch { quiet: true, ..Launch::new(&args.dir, Purpose::Probes(args.signer)) };
    let pen = pen::start(launch).await.with_context(|| signer(&directory.config.keys.user_ca))?;
    let authority = ProbeAuthority::new(pen);
    let path = directory.config.state.join("countersign.db");
    if !path.is_file() {
        bail!("{} is not there: start the bastion once, then try again", path.display());
    }
    let by = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "root".into());
    let store = Store::open(&path).await?;
    let check = Arc::new(Check { store, authority, directory, by, signer: args.signer, dir: args.dir.display().to_string() });
    let mut findings = check.all(places).await;
    name_missing_principals(&check, &mut findings);
    check.store.close().await;
    let bad = findings.iter().filter(|finding| finding.found != Found::InOrder).count();
    let text = if json { serde_json::json!({ "v": VERSION, "findings": findings }).to_string() + "\n" } else { check.text(&findings, bad) };
    Ok(say(&text).err().unwrap_or(u8::from(bad > 0)))
}

fn signer(plan: &CaPlan) -> String {
    let listed: Vec<String> = plan.all().map(|path| path.display().to_string()).collect();
    format!("the user CA ({}) cannot sign here", listed.join(", "))
}

fn places(directory: &Directory, args: &CheckArgs) -> anyhow::Result<Vec<Place>> {
    let of =
        |target: &Arc<Target>| target.logins.iter().map(|login| Place { target: target.clone(), login: login.clone() }).collect::<Vec<_>>();
    let Some(named) = &args.place else {
        return Ok(directory.targets.iter().flat_map(of).collect());
    };
    let Some(target) = directory.targets.find(&named.target) else { bail!("there is no target {:?}", visible(&named.target)) };
    match &named.login {
        None => Ok(of(&target)),
        Some(login) if target.logins.is_empty() || target.logins.contains(login) => {
            Ok(vec![Place { target: target.clone(), login: login.clone() }])
        }
        Some(login) => bail!("{} has no login {login}; it has {}", target.id, words(&target.logins)),
    }
}

fn words<T: std::fmt::Display>(list: &[T]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

struct Check {
    store: Store,
    authority: ProbeAuthority,
    directory: Directory,
    by: String,
    signer: usize,
    dir: String,
}

impl Check {
    async fn all(self: &Arc<Self>, places: Vec<Place>) -> Vec<Finding> {
        let mut left: VecDeque<(usize, Place)> = places.into_iter().enumerate().collect();
        let mut findings = BTreeMap::new();
        let mut running = JoinSet::new();
        loop {
            while running.len() < AT_ONCE
                && let Some((n, place)) = left.pop_front()
            {
                let check = self.clone();
                running.spawn(async move { (n, check.one(&place).await) });
            }
            match running.join_next().await {
                None => return findings.into_values().collect(),
                Some(Ok((n, finding))) => drop(findings.insert(n, finding)),
                Some(Err(error)) => tracing::error!(%error, "a check ended early"),
            }
        }
    }

    async fn one(&self, place: &Place) -> Finding {
        let mut knocked = match knock(&place.target, self.directory.config.egress).await {
            Ok(knocked) => knocked,
            Err(error) => {
                let found = if error.is_host_key() { Found::HostKey } else { Found::Unreachable };
                return self.finding(place, found, &with_causes(&error), None);
            }
        };
        let found = self.asked(place, &mut knocked).await;
        knocked.leaves().await;
        match found {
            Ok(found) => self.answered(place, found),
            Err(error) => {
                let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
                self.finding(place, Found::NotTried, &causes.join(": "), None)
            }
        }
    }

    /// The first probe asks what a session would; what its refusal means is asked by the others.
    async fn asked(&self, place: &Place, knocked: &mut crate::ssh::probe::Knocked) -> anyhow::Result<Found> {
        for (asks, yes) in [(Asks::Login, Found::InOrder), (Asks::Clock, Found::Clock), (Asks::Plain, Found::NoPrincipalsFile)] {
            if asks == Asks::Plain && place.target.certificate_principal(&place.login) == place.login.as_str() {
                continue;
            }
            let probe = self.logged(place, asks).await?;
            let certificate = self.authority.issue(&probe, knocked.source).await?;
            if knocked.tries(&place.login, certificate).await? == Answer::Accepted {
                return Ok(yes);
            }
        }
        Ok(Found::Refused)
    }

    /// Waits until the probe is in the log.
    async fn logged(&self, place: &Place, asks: Asks) -> anyhow::Result<Probe> {
        let principal = asks.principal(&place.target, &place.login);
        let wish = Wish { asks, target: place.target.id.clone(), login: place.login.clone(), principal, by: self.by.clone() };
        let ids = self.store.wish_probes(vec![wish], Timestamp::now()).await.context("the state cannot be written")?;
        let id = ids.first().context("the state took no wish")?;
        let began = Instant::now();
        loop {
            match self.store.redeem_probe(id, Timestamp::now()).await? {
                Wished::Logged(probe) => return Ok(probe),
                Wished::Refused(why) => bail!("no certificate: {why}"),
                Wished::Waits if began.elapsed() > 2 * NODE => bail!("no certificate: it could not be written into the log"),
                Wished::Waits if began.elapsed() > NODE => {
                    // No node runs: its clock rule holds for us too.
                    let why_not = Clock::standing(&self.store, seen().await).await?;
                    self.store.take_probes(why_not, Timestamp::now()).await?;
                }
                Wished::Waits => sleep(LOOK).await,
            }
        }
    }

    fn answered(&self, place: &Place, found: Found) -> Finding {
        let Place { target, login } = place;
        let principal = target.certificate_principal(login);
        let enroll = format!("countersign ca enroll {} -c {}", target.id, self.dir);
        let clock = format!("on {}: date -u; timedatectl (here it is {})", target.id, Timestamp::now().utc().format("%H:%M:%SZ"));
        match found {
            Found::InOrder => {
                let ca = self.authority.ca();
                self.finding(place, found, &format!("in order: the host is the pinned one, and lets {principal} in by {ca}"), None)
            }
            Found::Clock => {
                let text = "its clock is off: it takes our certificates, but not one that is valid now";
                self.finding(place, found, text, Some(clock))
            }
            Found::NoPrincipalsFile => {
                let text =
                    format!("it trusts our CA, but has no AuthorizedPrincipalsFile for {login}: it would let in {login}, not {principal}");
                self.finding(place, found, &text, Some(enroll))
            }
            _ => {
                let text = format!(
                    "sshd refused: it does not trust our CA{}, or has no line {principal} for {login}, or lets {login} in by no key (AllowUsers, PermitRootLogin)",
                    self.which()
                );
                self.finding(place, Found::Refused, &text, Some(format!("{enroll} | ssh root@{} sh     shows what it lacks", target.host)))
            }
        }
    }

    fn which(&self) -> String {
        if self.signer == 1 { String::new() } else { format!(" number {}", self.signer) }
    }

    fn finding(&self, place: &Place, found: Found, text: &str, next: Option<String>) -> Finding {
        Finding { login: place.login.clone(), target: place.target.id.to_string(), found, text: visible(text), next }
    }

    fn text(&self, findings: &[Finding], bad: usize) -> String {
        let mut text: String = findings
            .iter()
            .map(|Finding { login, target, text, next, .. }| {
                let next = next.as_ref().map(|next| format!("countersign:   {next}\n")).unwrap_or_default();
                format!("countersign: {login}@{target}: {text}\n{next}")
            })
            .collect();
        if findings.len() > 1 {
            let all = findings.len();
            text.push_str(&match bad {
                0 => format!("countersign: all {all} are in order\n"),
                bad if self.signer == 1 => format!("countersign: {bad} of {all} are not in order\n"),
                bad => format!("countersign: {bad} of {all} lack CA number {}: it cannot sign yet\n", self.signer),
            });
        }
        text
    }
}

/// Where another login of the same host gets in, the CA is trusted and the clock right: a line is missing.
fn name_missing_principals(check: &Check, findings: &mut [Finding]) {
    let well: Vec<(String, Login)> = findings
        .iter()
        .filter(|finding| finding.found == Found::InOrder)
        .map(|finding| (finding.target.clone(), finding.login.clone()))
        .collect();
    for finding in findings.iter_mut().filter(|finding| finding.found == Found::Refused) {
        let Some((_, other)) = well.iter().find(|(target, _)| *target == finding.target) else { continue };
        let login = &finding.login;
        finding.found = Found::NoPrincipal;
        finding.text = format!("it trusts our CA ({other} gets in), but has no line {login}@{} for {login}", finding.target);
        finding.next = Some(format!("countersign ca enroll {} -c {}", finding.target, check.dir));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_has_a_stable_name() {
        let names = [Found::InOrder, Found::NoPrincipalsFile, Found::HostKey].map(|found| serde_json::to_string(&found).unwrap());
        assert_eq!(names, ["\"in_order\"", "\"no_principals_file\"", "\"host_key\""]);
    }
}
