//! Whether a certificate may be signed: ruled from this process's own reading of the policies, from the signed
//! bytes and from its own record. Pure but for that record.
//!
//! Whoever asks is taken for hostile: nothing that was ruled, granted or counted elsewhere is believed. What
//! is believed, since it cannot be seen from here: who has proven their key on the connection, whether they
//! gave their second factor there, whether they were at the target before, and decisions at level
//! `connection`, where the workflow takes those.

use std::time::Duration;

use russh::keys::ssh_key::{HashAlg, PublicKey};

use super::record::{Entry, Record, Used};
use crate::access::canonical::NotCanonical;
use crate::access::certificate::{self, BadCertificate};
use crate::access::decision::{CLOCK_SLACK, DecisionDocument, GrantedTerms, Level};
use crate::access::people::PersonEntry;
use crate::access::policy::Question;
use crate::access::request::{ANY_SOURCE, BadRequest, RequestDocument};
use crate::access::ruling::{Denial, Hold, Terms};
use crate::access::source::Block;
use crate::access::workflow::{Progress, SourceRule, source_rule};
use crate::access::{Action, Ruling, Target, Want};
use crate::authority::evidence::{Asked, Evidence, Said};
use crate::authority::mint::{self, ForSession, LIFETIME};
use crate::authority::wire::SessionAsk;
use crate::config::Directory;
use crate::id::{Digest, RequestId};
use crate::judge::{Authority, workflows_of};
use crate::store::decisions::{DecisionRow, SignedRow};
use crate::time::{Timestamp, micros_of};

/// From the opening to the certificate: the recording is begun and the target dialled in between.
const OPENING: Duration = Duration::from_secs(120);
/// More than this no grant has in its record.
const MOST_EXTENSIONS: usize = 256;

/// What may be signed, and what has to be written down before.
#[derive(Debug)]
pub struct Judged {
    pub certificate: ForSession,
    pub entry: Entry,
}

/// Why nothing is signed. Whoever reads the log sees it, and the person at the session.
#[derive(Debug, thiserror::Error)]
pub enum NotSigned {
    #[error("its {0} cannot be read")]
    Form(&'static str),
    #[error("the serial {0} was used")]
    Serial(u64),
    #[error("it was opened at {0}, which is not now")]
    NotNow(Timestamp),
    #[error("the key is not {0}'s")]
    Key(String),
    #[error("the certificate of the login names nobody: {0}")]
    Certificate(#[from] BadCertificate),
    #[error("{0} has no second factor")]
    Factor(String),
    #[error("no such target, or another host than the policies say")]
    Target,
    #[error("no such login there")]
    Login,
    #[error("the policy denies it: {0}")]
    Denied(String),
    #[error("the policy wants the approval of {0}, and none is shown")]
    NoApproval(String),
    #[error("the request cannot be read")]
    Request(#[from] BadRequest),
    #[error("the evidence cannot be read")]
    Evidence(#[from] NotCanonical),
    #[error("{0} was asked for {1}")]
    Another(RequestId, &'static str),
    #[error("{0} is not through the workflow that the policy wants")]
    Workflow(RequestId),
    #[error("{0} is for any address, which its workflow does not allow")]
    AnySource(RequestId),
    #[error("{0} has no approvals that stand")]
    NotApproved(RequestId),
    #[error("{0} does not reach that far")]
    Scope(RequestId),
    #[error("{0} {1}")]
    Unusable(RequestId, &'static str),
    #[error("it would go on until {asked}, and {granted} is the end")]
    Longer { asked: Timestamp, granted: Timestamp },
    #[error("it is over")]
    Over,
    #[error("the command has to be in the certificate, as text, without a terminal")]
    Exact,
}

/// Who asks, as the policies know them.
struct Asker<'d> {
    entry: &'d PersonEntry,
    fingerprint: String,
    source_block: String,
}

/// What of the ask has been found in the directory.
struct Scene<'a> {
    directory: &'a Directory,
    ask: &'a SessionAsk,
    asker: Asker<'a>,
    target: &'a Target,
    want: Want,
    now: Timestamp,
}

/// What carries the session.
struct Basis {
    request: Option<RequestId>,
    /// Whether the certificate has to carry the command.
    exact: bool,
    /// When it begins, where that was said.
    begins: Option<Timestamp>,
    /// When it ends at the latest; `None` where the policy sets no end.
    ends: Option<Timestamp>,
    /// When nothing can be signed on it any more.
    fits_until: Timestamp,
    used: Option<Used>,
}

/// Judges one ask. The caller has seen that both read the same policies.
pub fn judge(directory: &Directory, record: &Record, ask: &SessionAsk, now: Timestamp) -> Result<Judged, NotSigned> {
    let subject = mint::subject(&ask.subject).ok_or(NotSigned::Form("key"))?;
    let serial = ask.serial.parse().ok().filter(|serial: &u64| *serial > 0 && serial.to_string() == ask.serial);
    let serial = serial.ok_or(NotSigned::Form("serial"))?;
    if record.knows_serial(serial) {
        return Err(NotSigned::Serial(serial));
    }
    if now.since(ask.opened) > OPENING || ask.opened.since(now) > OPENING {
        return Err(NotSigned::NotNow(ask.opened));
    }
    let asker = asker(directory, ask, now)?;
    let target = directory.targets.find(ask.target.as_str()).filter(|target| target.id == ask.target && target.pin() == ask.pin);
    let target = target.ok_or(NotSigned::Target)?;
    if target.account(Some(&ask.login), &ask.person).is_none() {
        return Err(NotSigned::Login);
    }
    let want = want(ask).ok_or(NotSigned::Form("command"))?;
    let scene = Scene { directory, ask, asker, target: &target, want, now };
    let evidence = Evidence::read(&ask.evidence)?;
    let basis = match (scene.rule(), &evidence.request) {
        (Ruling::Deny(denial), _) => return Err(NotSigned::Denied(denial.brief())),
        (Ruling::Permit(terms), None) => scene.permitted(&terms),
        (Ruling::RequireApproval { holds, .. }, None) => return Err(NotSigned::NoApproval(workflows(&holds))),
        (Ruling::Permit(terms), Some(asked)) => scene.approved(&terms, &[], asked, &evidence.extensions, record)?,
        (Ruling::RequireApproval { terms, holds }, Some(asked)) => scene.approved(&terms, &holds, asked, &evidence.extensions, record)?,
    };
    scene.judged(serial, subject, basis)
}

/// Finds the person, and that the key is theirs today.
fn asker<'d>(directory: &'d Directory, ask: &SessionAsk, now: Timestamp) -> Result<Asker<'d>, NotSigned> {
    let key = mint::person_key(&ask.key).ok_or(NotSigned::Form("person's key"))?;
    let not_theirs = || NotSigned::Key(ask.person.to_string());
    let source = ask.source.to_canonical();
    let entry = match &ask.certificate {
        None => directory.people.by_key(&key).ok_or_else(not_theirs)?,
        Some(line) => {
            let certificate = mint::login_certificate(line).ok_or(NotSigned::Form("login's certificate"))?;
            if certificate.public_key() != key.key_data() {
                return Err(not_theirs());
            }
            certificate::person(&directory.people, &certificate, source, now)?
        }
    };
    // What only the state knows of suspensions, the node keeps to; what the files say, this keeps to as well.
    if entry.name != ask.person || directory.people.is_suspended(&entry.name) {
        return Err(not_theirs());
    }
    if ask.second_factor && directory.people.factor(&ask.person).is_none() {
        return Err(NotSigned::Factor(ask.person.to_string()));
    }
    Ok(Asker { entry, fingerprint: key.fingerprint(HashAlg::Sha256).to_string(), source_block: Block::of(source).to_string() })
}

fn want(ask: &SessionAsk) -> Option<Want> {
    let starts = match (ask.want.as_str(), &ask.command, &ask.endpoint) {
        ("shell", None, None) => Want::Shell,
        ("sftp", None, None) => Want::Sftp,
        ("exec", Some(command), None) => Want::Exec(command.clone()),
        ("forward-local", None, Some(to)) if !ask.agent => Want::ForwardLocal(to.clone()),
        ("forward-remote", None, Some(on)) if !ask.agent => Want::ForwardRemote(on.clone()),
        _ => return None,
    };
    Some(if ask.agent { Want::WithAgent(Box::new(starts)) } else { starts })
}

/// Whether a request went through every workflow that is wanted.
fn is_through(document: &RequestDocument, holds: &[Hold]) -> bool {
    holds.iter().all(|hold| document.needs.iter().any(|needs| needs.workflow == hold.workflow))
}

fn workflows(holds: &[Hold]) -> String {
    let names: Vec<&str> = holds.iter().map(|hold| hold.workflow.as_str()).collect();
    names.join(", ")
}

impl Scene<'_> {
    /// Over everything that is wanted, at this process's own time.
    fn rule(&self) -> Ruling {
        let rulings = self.want.actions().into_iter().map(|action| self.rule_on(action, self.want.command()));
        rulings.reduce(Ruling::meet).unwrap_or(Ruling::Deny(Denial::NoPermit))
    }

    fn rule_on(&self, action: Action, command: Option<&str>) -> Ruling {
        let Self { directory, ask, asker, target, now, .. } = self;
        directory.policy.rule(&Question {
            person: &asker.entry.name,
            groups: &asker.entry.groups,
            target,
            login: &ask.login,
            action,
            command,
            to: self.want.endpoint(),
            source: ask.source,
            now: *now,
            first_time: ask.first_time,
            mfa: ask.second_factor,
            inner_auth: true,
        })
    }

    fn permitted(&self, terms: &Terms) -> Basis {
        let by_text = matches!(self.want.without_agent(), Want::Exec(_)) && !matches!(self.rule_on(Action::Exec, None), Ruling::Permit(_));
        let ends = terms.longest_grant.map(|longest| self.now.plus(longest));
        Basis { request: None, exact: by_text, begins: None, ends, fits_until: self.now.plus(LIFETIME), used: None }
    }

    fn approved(&self, ruled: &Terms, holds: &[Hold], asked: &Asked, extensions: &[Asked], record: &Record) -> Result<Basis, NotSigned> {
        let document = RequestDocument::read(&asked.bytes)?;
        let (id, digest) = (document.request, Digest::of(&asked.bytes));
        self.is_asked_in(&document)?;
        if document.extends.is_some() {
            return Err(NotSigned::Another(id, "more time alone"));
        }
        if !document.scope.covers(&self.want) {
            return Err(NotSigned::Scope(id));
        }
        if !is_through(&document, holds) {
            return Err(NotSigned::Workflow(id));
        }
        let workflows = workflows_of(self.directory, &document).ok_or(NotSigned::Workflow(id))?;
        if document.source == ANY_SOURCE && source_rule(&workflows) != SourceRule::Any {
            return Err(NotSigned::AnySource(id));
        }
        let (terms, given) = self.granted(&document, digest, &asked.decisions).ok_or(NotSigned::NotApproved(id))?;
        if !terms.scope.covers(&self.want) {
            return Err(NotSigned::Scope(id));
        }
        let longest = workflows.iter().map(|workflow| workflow.longest_grant).chain(ruled.longest_grant).min().unwrap_or_default();
        if let Some(why) = terms.closed(self.now) {
            return Err(NotSigned::Unusable(id, why));
        }
        let start = terms.starts().map_or(given, |starts| starts.max(given));
        let use_within = workflows.iter().map(|workflow| workflow.use_within).min().unwrap_or_default();
        let use_by = start.plus(use_within).plus(CLOCK_SLACK);
        let used = match record.grant(id) {
            Some(used) if used.digest != digest => return Err(NotSigned::Unusable(id, "is another request than was signed for before")),
            Some(_) if terms.once => return Err(NotSigned::Unusable(id, "was used")),
            Some(used) => Used { uses: used.uses.saturating_add(1), ..used.clone() },
            None if self.now > use_by => return Err(NotSigned::Unusable(id, "was not used in time")),
            None => {
                let window = Duration::from_micros(terms.for_us.min(u64::try_from(micros_of(Duration::MAX)).unwrap_or(u64::MAX)));
                let ends = self.now.plus(window.min(longest));
                let ends = terms.ends().map_or(ends, |closes| closes.min(ends));
                Used { request: id, digest, first: self.now, ends, uses: 1, extended_by: Vec::new() }
            }
        };
        let used = self.extended(&document, used, longest, extensions);
        if used.ends <= self.now {
            return Err(NotSigned::Unusable(id, "is over"));
        }
        let exact = terms.scope.is_exact_for(&self.want) || !self.any_command(&document);
        // Forgotten sooner, it would be used for the first time once more.
        Ok(Basis {
            request: Some(id),
            exact,
            begins: terms.starts(),
            ends: Some(used.ends),
            fits_until: used.ends.max(use_by),
            used: Some(used),
        })
    }

    /// Whether a command that is not bound into the certificate may be any: without it the certificate is good
    /// for each, so policy has to let each pass, at most by workflows that this request went through.
    fn any_command(&self, document: &RequestDocument) -> bool {
        match (self.want.without_agent(), self.rule_on(Action::Exec, None)) {
            (Want::Exec(_), Ruling::Deny(_)) => false,
            (Want::Exec(_), Ruling::RequireApproval { holds, .. }) => is_through(document, &holds),
            (_, _) => true,
        }
    }

    /// Whether exactly this person and key, from there or from anywhere, asked this bastion for this very host
    /// and login.
    fn is_asked_in(&self, document: &RequestDocument) -> Result<(), NotSigned> {
        let Self { directory, ask, asker, target, .. } = self;
        let another = |what| Err(NotSigned::Another(document.request, what));
        if document.bastion != directory.config.bastion {
            another("another bastion")
        } else if document.person != ask.person {
            another("somebody else")
        } else if document.key != asker.fingerprint {
            another("another key")
        } else if !document.is_for_source(&asker.source_block) {
            another("another address")
        } else if document.login != ask.login {
            another("another login")
        } else if !document.targets.iter().any(|asked| asked.id == target.id && asked.pin == ask.pin) {
            another("another target")
        } else {
            Ok(())
        }
    }

    /// What was granted, by decisions that stand today, and when the last of them came.
    fn granted(&self, document: &RequestDocument, digest: Digest, said: &[Said]) -> Option<(GrantedTerms, Timestamp)> {
        let ours = |at: Timestamp| at.since(self.now) <= CLOCK_SLACK && at.since(document.not_after()) <= CLOCK_SLACK;
        let rows: Vec<DecisionRow> = said.iter().filter(|said| ours(said.at)).filter_map(row).collect();
        let authority = Authority::over_one(self.directory, document, self.target, self.now);
        match authority.weigh_proven(&rows, digest, &self.directory.config.bastion) {
            Progress::Approved { terms, by } => {
                // By break-glass: policy and every workflow let them open first (`judge`); nobody has agreed.
                if document.break_glass && by.is_empty() {
                    return Some((terms, document.made().min(self.now)));
                }
                let last = rows.iter().filter(|row| by.contains(&row.person)).map(|row| row.at).max()?;
                Some((terms, last))
            }
            Progress::Waiting { .. } | Progress::Denied { .. } => None,
        }
    }

    /// Adds the time that was approved later, each once, as far as it was signed for and the policies let any
    /// grant run. What does not stand adds nothing.
    fn extended(&self, base: &RequestDocument, mut used: Used, longest: Duration, extensions: &[Asked]) -> Used {
        for asked in extensions {
            let Ok(document) = RequestDocument::read(&asked.bytes) else { continue };
            let Some(extends) = &document.extends else { continue };
            let known = used.extended_by.contains(&document.request) || used.extended_by.len() >= MOST_EXTENSIONS;
            // Asked for from another address, perhaps; nothing is opened from there.
            let same = document.person == self.ask.person && document.login == self.ask.login;
            if known || !same || extends.request != used.request || extends.digest != used.digest {
                continue;
            }
            // Through the same workflows and for the same hosts, or it would be agreed to by whoever is easier asked.
            if document.bastion != self.directory.config.bastion || document.needs != base.needs || document.targets != base.targets {
                continue;
            }
            let Some((terms, given)) = self.granted(&document, Digest::of(&asked.bytes), &asked.decisions) else { continue };
            if given > used.ends.plus(CLOCK_SLACK + document.overrun()) {
                continue;
            }
            let most = extends.until().min(used.first.plus(longest));
            used.ends = used.ends.plus(Duration::from_micros(terms.for_us)).min(most).max(used.ends);
            used.extended_by.push(document.request);
        }
        used
    }

    fn judged(self, serial: u64, subject: PublicKey, basis: Basis) -> Result<Judged, NotSigned> {
        let Self { ask, target, want, now, .. } = self;
        match (ask.ends, basis.ends) {
            (Some(asked), Some(granted)) if asked > granted => return Err(NotSigned::Longer { asked, granted }),
            (None, Some(granted)) => return Err(NotSigned::Longer { asked: Timestamp::from_micros(i64::MAX), granted }),
            (_, None) | (Some(_), Some(_)) => {}
        }
        let ends = ask.ends.into_iter().chain(basis.ends).fold(now.plus(LIFETIME), std::cmp::Ord::min);
        if ends <= now {
            return Err(NotSigned::Over);
        }
        let force_command = match (ask.exact, want.command().filter(|command| !command.is_empty())) {
            (false, _) if basis.exact => return Err(NotSigned::Exact),
            // What forwards needs no session: the certificate is for none.
            (false, _) if want.endpoint().is_some() => Some("/bin/false".to_owned()),
            (false, _) => None,
            (true, Some(command)) if !ask.pty => Some(command.to_owned()),
            (true, _) => return Err(NotSigned::Exact),
        };
        let request = basis.request.map_or("-".to_owned(), |request| request.to_string());
        let certificate = ForSession {
            subject,
            serial,
            key_id: format!("countersign/{}/{request}/{}", ask.session, ask.person),
            principal: target.certificate_principal(&ask.login),
            begins: basis.begins,
            ends,
            seen_from: ask.seen_from,
            force_command,
            pty: ask.pty && want.endpoint().is_none(),
            port_forwarding: want.endpoint().is_some(),
            agent_forwarding: want.has_agent(),
        };
        Ok(Judged { certificate, entry: Entry::new(serial, basis.fits_until, basis.used) })
    }
}

/// A decision as the judge takes it; `None` where its bytes say nothing.
fn row(said: &Said) -> Option<DecisionRow> {
    let signed = match &said.signed {
        None => None,
        Some(signed) => {
            let document = DecisionDocument::read(&signed.bytes).ok()?;
            Some(SignedRow { bytes: signed.bytes.clone(), signature: signed.sig.clone(), key: document.key })
        }
    };
    Some(DecisionRow {
        person: said.person.clone(),
        groups: Vec::new(),
        verdict: said.verdict,
        terms: said.terms.clone(),
        note: String::new(),
        level: if signed.is_some() { said.level } else { Level::Connection },
        signed,
        at: said.at,
    })
}
