//! Authorize, do, audit: every verb of console and companion ends here.
//!
//! State changes are audited by the transaction that makes them; a refusal is a report event of its
//! own; a replay is a gate event, written before the first byte leaves.

use std::sync::Arc;

use super::ask::{Nothing, ahead};
use super::decide::{Decider, document, terms};
use super::grammar::{
    AuditArgs, AuditWhat, AuditorsArgs, AuditorsWhat, DecisionArgs, Destination, Less, MineArgs, PolicyArgs, PolicyWhat, Purpose,
    RequestArgs, RequestsArgs, RetentionArgs, TargetsArgs, Verb,
};
use super::nearby::nearby;
use super::render::brief;
use super::reply::{Asked, Card, Decided, Issued, KeyLine, Listed, Next, OpenGrant, Refusal, RefusalKind, Reply, Whoami, Would};
use super::text::stock_path;
use super::{Console, grammar, targets};
use crate::access::Principal;
use crate::access::decision::{BadDecision, DecisionDocument, Level, SignedDecision, Verdict};
use crate::access::request::MAX_TARGETS;
use crate::approvals::{
    Again, ApprovalError, Ask, GrantFilter, GrantView, Joined, RequestFilter, RequestState, RequestView, Said, SubmitError, Waiter,
};
use crate::audit::Event;
use crate::causes::with_causes;
use crate::config::Directory;
use crate::id::RequestId;
use crate::time::{Timestamp, short};

/// Requests read for a listing; the newest come first.
const READ: u32 = 10_000;
/// Requests that are over, in a listing, …
const OVER: usize = 50;
/// … of so many, open ones included, that are read for them.
const OVER_READ: u32 = 200;

/// One verb of one person, on one reading of the directory.
pub(super) struct Act<'a> {
    pub console: &'a Console,
    pub who: &'a Principal,
    pub directory: Arc<Directory>,
    pub now: Timestamp,
}

impl Console {
    /// Does what the verb says if this person may; every refusal is audited.
    pub async fn execute(&self, who: &Principal, verb: &Verb, now: Timestamp) -> Result<Reply, Refusal> {
        let act = self.act(who, now);
        // A channel may outlive what it was opened with: a certificate, a key, a person.
        let result = match who.again(&act.directory.people, now) {
            Ok(who) => Act { who: &who, directory: act.directory.clone(), ..act }.run(verb).await,
            Err(_) => Err(act.refusal(RefusalKind::Refused, verb.name(), "is for who is known here: connect again")),
        };
        if let Err(refusal) = &result {
            act.write_down(verb, refusal).await;
        }
        result
    }

    pub(super) fn act<'a>(&'a self, who: &'a Principal, now: Timestamp) -> Act<'a> {
        Act { console: self, who, directory: self.directory.borrow().clone(), now }
    }
}

impl Act<'_> {
    /// A refusal is a report event.
    pub(super) async fn write_down(&self, verb: &Verb, refusal: &Refusal) {
        if refusal.kind != RefusalKind::Refused {
            return;
        }
        let event = Event::refused(self.who.person(), self.who.source(), &format!("{} {}", verb.name(), refusal.what), &refusal.why);
        if let Err(error) = self.console.store.report(event, self.now).await {
            tracing::error!(person = %self.who.person(), verb = verb.name(), error = with_causes(&error), "a refusal could not be written down");
        }
    }

    async fn run(&self, verb: &Verb) -> Result<Reply, Refusal> {
        match verb {
            Verb::Request(args) => self.request(args).await,
            Verb::Extend(args) => self.extend(args).await,
            Verb::Requests(args) => self.requests(args).await,
            Verb::Show { request, proof: false, .. } => self.show(*request).await,
            Verb::Show { request, proof: true, .. } => Err(self.proof_at_home(*request)),
            Verb::Proof { request, from } => self.proof(*request, *from).await,
            Verb::Approve(args) => match args.said().as_slice() {
                [(request, code)] if !args.like => self.approve(*request, *code, &args.less).await,
                _ => self.approve_many(args).await,
            },
            Verb::Deny { requests, like, note } => self.deny_many(requests, *like, note).await,
            Verb::Alike { request } => self.alike(*request).await,
            Verb::Withdraw { request } => {
                self.seen(*request).await?;
                self.done(*request, self.console.approvals.withdraw(*request, self.who, self.now).await)?;
                Ok(Reply::Withdrawn(*request))
            }
            Verb::Grants(args) => self.grants(args).await,
            Verb::Revoke { request, reason } => {
                self.seen(*request).await?;
                self.done(*request, self.console.approvals.revoke(*request, self.who, reason, self.now).await)?;
                Ok(Reply::Revoked(*request))
            }
            Verb::Targets(TargetsArgs { what: None }) => self.targets().await,
            Verb::Targets(TargetsArgs { what: Some(_) }) => Err(self.where_the_files_are()),
            Verb::Sessions(args) => self.sessions(args).await,
            Verb::Replay(args) => self.fetch(&args.session, Purpose::Replay, 0).await,
            Verb::Watch { session } => self.watch(session).await.map(|(line, _)| Reply::Watch(Box::new(line))),
            Verb::Kill { session, reason } => self.kill(session, reason).await,
            Verb::Hold(args) => self.hold(args).await,
            Verb::Release(args) => self.release(args).await,
            Verb::Retention(RetentionArgs { what }) => self.retention(what).await,
            Verb::Policy(PolicyArgs { what: PolicyWhat::Show { digest } }) => self.policy(digest).await,
            Verb::Policy(PolicyArgs { what: PolicyWhat::Test { .. } | PolicyWhat::Explain(_) }) => Err(self.at_home(verb)),
            Verb::Drain(args) => self.drain(args).await,
            Verb::Away(args) => self.away(args).await,
            Verb::Suspend(args) => self.suspend(args).await,
            Verb::Unsuspend(args) => self.unsuspend(args).await,
            Verb::Auditors(AuditorsArgs { what: AuditorsWhat::List }) => self.auditors().await,
            Verb::Auditors(AuditorsArgs { what: AuditorsWhat::Prove | AuditorsWhat::Rewrap(_) | AuditorsWhat::Recover(_) }) => {
                Err(self.at_home(verb))
            }
            Verb::Keys(what) => self.keys(what).await,
            Verb::Canary => self.canary(),
            Verb::Proven { canary_b64 } => self.proven(canary_b64).await,
            Verb::Checkpoint { from } => self.checkpoint(*from).await,
            Verb::Audit(AuditArgs { what: AuditWhat::Log(args) }) => self.audit_log(args).await,
            Verb::Audit(AuditArgs { what: AuditWhat::Export }) => self.audit_export().await,
            Verb::Audit(AuditArgs { what: AuditWhat::Verify(_) }) | Verb::Verify(_) | Verb::Export(_) => Err(self.at_home(verb)),
            Verb::Fetch { session, purpose, from } => self.fetch(session, *purpose, *from).await,
            Verb::Reason { request, words } => {
                self.seen(*request).await?;
                let reason = words.join(" ");
                self.done(*request, self.console.approvals.give_reason(*request, self.who, &reason, self.now).await)?;
                Ok(Reply::ReasonGiven(*request))
            }
            Verb::Decision(args) => self.decision(args).await,
            Verb::Submit { request, signature } => self.submit(*request, signature).await,
            Verb::Decide { document_b64, signature } => self.decide(document_b64, signature).await,
            Verb::Setup(args) => self.setup(args.what).await,
            Verb::Whoami => Ok(Reply::Whoami(self.whoami())),
            Verb::Review => self.review().await,
            Verb::Reviewed(args) => self.reviewed(args).await,
            Verb::Status => self.status().await,
            Verb::Help => Ok(Reply::Help(grammar::help())),
        }
    }

    async fn request(&self, args: &RequestArgs) -> Result<Reply, Refusal> {
        if args.takes_list() {
            let why = "is a list that nobody sent: give it to `ssh HOST request LOGIN@- <LIST`, or to the companion";
            return Err(self.refusal(RefusalKind::Usage, "LOGIN@-", why));
        }
        let opened = self.console.store.opened_by(self.who.person()).await.map_err(|error| self.down(&error))?;
        let (directory, who, asked, now) = (self.directory.clone(), self.who.clone(), args.clone(), self.now);
        let ruled = off_the_loop(move || ahead(&directory, &who, &asked, &opened, now)).await;
        let usage = |what: &str, why: String| Err(self.refusal(RefusalKind::Usage, what, &why));
        let ahead = match ruled.map_err(|error| self.down(&error))? {
            Ok(ahead) if args.dry_run => return Ok(Reply::Would(Box::new(Would::of(&ahead)))),
            Ok(ahead) => ahead,
            Err(Nothing::Free(named)) => return Ok(Reply::Free(named.iter().map(ToString::to_string).collect())),
            Err(Nothing::NotYours(named)) => return Err(self.not_yours(&named).await),
            Err(Nothing::Logins(one, other)) => {
                return usage("a target", format!("has {one} as its login, another target {other}; name one: LOGIN@TARGET"));
            }
            Err(Nothing::Preset(unknown)) => return usage("the request", format!("was not made: {unknown}")),
            Err(Nothing::Beyond(target, classes, on)) => {
                let preset = args.preset.as_deref().unwrap_or_default();
                let more = if on > 1 { format!(" and {} more", on - 1) } else { String::new() };
                let why = format!("asks for {}, which is not yours on {target}{more}; ask without it", super::card::join(&classes));
                return Err(self.refusal(RefusalKind::Refused, &format!("the preset {preset}"), &why));
            }
            Err(Nothing::TooMany(found)) => {
                return usage("the request", format!("would name {found} targets; 1 to {MAX_TARGETS} fit: ask in parts"));
            }
        };
        let ask = Ask {
            targets: ahead.targets,
            login: ahead.login,
            scope: ahead.scope,
            holds: ahead.holds,
            terms: ahead.terms,
            commands: ahead.commands,
            stdin: ahead.stdin,
            duration: args.duration.map(|span| span.0),
            once: args.once,
            start: args.start.as_ref().map(|start| start.after(self.now)),
            reason: args.reason.clone(),
            waiter: Waiter::Nobody,
            again: if args.again { Again::Knowingly } else { Again::No },
        };
        if args.break_glass {
            let opened = self.console.approvals.break_glass(self.who, ask, self.now).await;
            let id = opened.map_err(|error| self.not_submitted(&error, &args.targets))?;
            let card = Card::of(&self.seen(id).await?);
            return Ok(Reply::Asked(Box::new(Asked { card, joined: false, free: ahead.free, parts: ahead.parts, waited: false })));
        }
        let submitted = self.console.approvals.submit(self.who, ask, self.now).await;
        let (id, joined) = submitted.map_err(|error| self.not_submitted(&error, &args.targets))?;
        let card = Card::of(&self.seen(id).await?);
        Ok(Reply::Asked(Box::new(Asked { card, joined: joined == Joined::Existing, free: ahead.free, parts: ahead.parts, waited: false })))
    }

    /// Opens a card; whoever waits reads who looks.
    async fn show(&self, request: RequestId) -> Result<Reply, Refusal> {
        let view = self.seen(request).await?;
        self.console.approvals.looks(&view, self.who.person());
        let mut card = Card::of(&view);
        card.looking.retain(|person| person != self.who.person());
        if view.state.is_open() {
            let unusual = self.console.approvals.unusual(&view.document, self.now).await;
            card.unusual = unusual.map_err(|error| self.not_done(Some(request), &error))?;
        }
        Ok(Reply::Request(Box::new(card)))
    }

    async fn requests(&self, args: &RequestsArgs) -> Result<Reply, Refusal> {
        let person = args.mine.then(|| self.who.person().clone());
        let open = RequestFilter { open_only: true, person: person.clone(), limit: READ };
        let mut views = self.console.approvals.requests(&open, self.who, self.now).await.map_err(|error| self.not_done(None, &error))?;
        if !args.pending {
            // Of those that are over only so many are read as are shown: reading one takes a while.
            let lately = RequestFilter { open_only: false, person, limit: OVER_READ };
            let lately = self.console.approvals.requests(&lately, self.who, self.now).await.map_err(|error| self.not_done(None, &error))?;
            views.extend(lately.into_iter().filter(|view| !view.state.is_open()));
        }
        // What waits first, the most urgent on top; then what is over, newest first.
        views.sort_by_key(|view| match view.state.is_open() {
            true => (0, view.due.micros()),
            false => (1, -view.document.made().micros()),
        });
        let open = views.iter().filter(|view| view.state.is_open()).count();
        views.truncate(open + OVER);
        let mut listed = views.iter().map(Listed::of).collect();
        self.with_unreviewed(&mut listed, args.mine).await?;
        Ok(Reply::Requests(listed))
    }

    async fn approve(&self, request: RequestId, code: Option<&str>, less: &Less) -> Result<Reply, Refusal> {
        let view = self.seen(request).await?;
        if view.level > Level::Connection {
            return Err(self.needs_signature(&view, Verdict::Approve));
        }
        let Some(code) = code else {
            let mut refusal =
                self.refusal(RefusalKind::Usage, view.id.as_str(), "needs the code on the requester's screen: ask them for it");
            refusal.next = vec![Next::Verb(format!("show {}", view.id)), Next::Verb(format!("approve {} CODE", view.id))];
            return Err(refusal);
        };
        let said = self.on_connection_said(&view, Verdict::Approve, Some(code), less);
        let decided = self.console.approvals.decide(said, self.who, self.now).await.map_err(|error| match &error {
            ApprovalError::Level { .. } => self.needs_signature(&view, Verdict::Approve),
            _ => self.not_done(Some(view.id), &error),
        })?;
        Ok(Reply::Decided(Box::new(Decided { verdict: Verdict::Approve, requests: decided.iter().map(Card::of).collect() })))
    }

    /// The bytes of a decision, for the key verified on this connection; kept until `submit`.
    async fn decision(&self, args: &DecisionArgs) -> Result<Reply, Refusal> {
        if args.like {
            return self.decision_like(args).await;
        }
        let view = self.seen(args.request).await?;
        self.console.approvals.looks(&view, self.who.person());
        let card = Card::of(&view);
        let request = match view.state {
            RequestState::Pending => card.read().map_err(|error| self.down(&error))?,
            ref over => {
                let over = super::reply::State::of(over);
                return Err(self.refusal(
                    RefusalKind::Refused,
                    view.id.as_str(),
                    &format!("is {}: there is nothing to decide", over.word()),
                ));
            }
        };
        if args.verdict == Verdict::Approve
            && let Some(more) = terms(&request, &args.less, self.now).beyond(&request.asked(), self.now)
        {
            let why = format!("would get more than was asked, or nothing: {more}");
            return Err(self.refusal(RefusalKind::Usage, view.id.as_str(), &why));
        }
        let key = self.who.fingerprint();
        let by = Decider { person: self.who.person(), key: &key, now: self.now };
        let bytes = document(by, &request, vec![card.digest], args.verdict, &args.less).bytes();
        self.console.waiting.keep(self.who.person(), view.id, bytes.clone(), self.now);
        Ok(Reply::Decision(Box::new(Issued { bytes, verdict: args.verdict, card, also: Vec::new(), oddities: String::new() })))
    }

    async fn submit(&self, request: RequestId, signature: &str) -> Result<Reply, Refusal> {
        let view = self.seen(request).await?;
        let Some(bytes) = self.console.waiting.printed(self.who.person(), request, self.now) else {
            let mut refusal = self.refusal(
                RefusalKind::Refused,
                view.id.as_str(),
                "has no decision of yours that waits for a signature: print it and sign it within 2 min",
            );
            refusal.next = stock_path(&self.directory.config.host, request, "approve").map(Next::Shell).to_vec();
            return Err(refusal);
        };
        let reply = self.signed(Some(view.id), bytes, signature).await?;
        self.console.waiting.done(self.who.person(), request);
        Ok(reply)
    }

    async fn decide(&self, document_b64: &str, signature: &str) -> Result<Reply, Refusal> {
        let bytes = data_encoding::BASE64
            .decode(document_b64.as_bytes())
            .map_err(|_| self.refusal(RefusalKind::Refused, "the decision", "is not base 64"))?;
        let about = match DecisionDocument::read(&bytes).map(|document| document.requests.first().copied()) {
            Ok(Some(digest)) => self.console.approvals.named(digest).await.map_err(|error| self.not_done(None, &error))?,
            Ok(None) | Err(_) => None,
        };
        self.signed(about, bytes, signature).await
    }

    /// Takes a decision with its signature; only the bytes and the key count, not who carried them here.
    async fn signed(&self, about: Option<RequestId>, bytes: Vec<u8>, signature: &str) -> Result<Reply, Refusal> {
        let keys = self.directory.people.named(self.who.person()).map(|entry| entry.keys.clone()).unwrap_or_default();
        let signed = SignedDecision::verify(bytes, signature, self.who.person(), &keys, &self.directory.config.bastion, self.now);
        let signed = signed.map_err(|bad| self.bad_signature(about, &bad))?;
        let verdict = signed.document().verdict;
        let said = Said::Signed(Box::new(signed));
        let decided = self.console.approvals.decide(said, self.who, self.now).await.map_err(|error| self.not_done(about, &error))?;
        Ok(Reply::Decided(Box::new(Decided { verdict, requests: decided.iter().map(Card::of).collect() })))
    }

    async fn grants(&self, args: &MineArgs) -> Result<Reply, Refusal> {
        let person = args.mine.then(|| self.who.person().clone());
        let filter = GrantFilter { open_only: true, person, limit: READ };
        let grants = self.console.approvals.grants(&filter, self.who, self.now).await.map_err(|error| self.not_done(None, &error))?;
        let lines = grants.into_iter().map(|GrantView { request, grant }| OpenGrant {
            request: grant.request,
            person: grant.person,
            login: grant.login,
            targets: request.document.targets.iter().map(|target| target.id.clone()).collect(),
            scope: grant.terms.scope.words(),
            starts: grant.terms.starts(),
            until: grant.terms.ends(),
            duration: short(std::time::Duration::from_micros(grant.terms.for_us)),
            ends: grant.ends_at,
            use_by: grant.use_by,
            uses_left: grant.uses_left,
            approvers: grant.approvers,
        });
        Ok(Reply::Grants(lines.collect()))
    }

    async fn targets(&self) -> Result<Reply, Refusal> {
        let (directory, who, now) = (self.directory.clone(), self.who.clone(), self.now);
        let lines = off_the_loop(move || targets::targets(&directory, &who, now)).await;
        lines.map(Reply::Targets).map_err(|error| self.down(&error))
    }

    fn whoami(&self) -> Whoami {
        let entry = self.directory.people.named(self.who.person());
        let keys = entry.map(|entry| entry.keys.as_slice()).unwrap_or_default();
        Whoami {
            person: self.who.person().clone(),
            groups: self.who.groups().to_vec(),
            source: self.who.source().to_string(),
            key: self.who.fingerprint(),
            keys: keys
                .iter()
                // The default is SHA-256, as OpenSSH prints it.
                .map(|key| KeyLine { fingerprint: key.fingerprint(Default::default()).to_string(), algorithm: key.algorithm().to_string() })
                .collect(),
            bastion: self.directory.config.bastion.clone(),
            host: self.directory.config.host.clone(),
            now: self.now,
        }
    }

    /// The request, if this person may see it; unknown and not-yours are one answer.
    pub(super) async fn seen(&self, id: RequestId) -> Result<RequestView, Refusal> {
        let view = self.console.approvals.view(id).await.map_err(|error| self.not_done(Some(id), &error))?;
        view.filter(|view| self.console.approvals.may_see(view, self.who, self.now)).ok_or_else(|| self.unknown(id))
    }

    fn done(&self, id: RequestId, result: Result<(), ApprovalError>) -> Result<(), Refusal> {
        result.map_err(|error| self.not_done(Some(id), &error))
    }
}

/// Refusals: what, why, the next command.
impl Act<'_> {
    pub(super) fn refusal(&self, kind: RefusalKind, what: &str, why: &str) -> Refusal {
        let console = format!("ssh {}@{}", self.who.person(), self.directory.config.host);
        Refusal { kind, what: what.to_owned(), why: why.to_owned(), next: Vec::new(), console }
    }

    pub(super) fn unknown(&self, id: RequestId) -> Refusal {
        let mut refusal = self.refusal(RefusalKind::Refused, id.as_str(), "is unknown or not yours");
        refusal.next = vec![Next::Verb("requests".into())];
        refusal
    }

    /// `deploy@web1 is unknown or not yours. Yours nearby: web-1`; of several all are named, and nothing is asked.
    async fn not_yours(&self, named: &[Destination]) -> Refusal {
        let why = match named {
            [one] => match nearby(self.directory.clone(), self.who.clone(), &one.target).await.as_slice() {
                [] => "is unknown or not yours".to_owned(),
                near => format!("is unknown or not yours. Yours nearby: {}", super::card::join(near)),
            },
            several => format!("are unknown or not yours ({} names); nothing was asked", several.len()),
        };
        let mut refusal = self.refusal(RefusalKind::Refused, &super::card::join(named), &why);
        refusal.next = vec![Next::Verb("targets".into())];
        refusal
    }

    /// The state, or what lies under it, did not answer.
    pub(super) fn down(&self, error: &dyn std::error::Error) -> Refusal {
        tracing::error!(person = %self.who.person(), error = with_causes(error), "the console could not answer");
        self.refusal(
            RefusalKind::Unavailable,
            "the bastion",
            "cannot answer now; nothing was changed as far as it knows. Look again, then retry",
        )
    }

    pub(super) fn needs_signature(&self, view: &RequestView, verdict: Verdict) -> Refusal {
        let verb = match verdict {
            Verdict::Approve => "approve",
            Verdict::Deny => "deny",
        };
        let how = view.level.words();
        let mut refusal =
            self.refusal(RefusalKind::Refused, view.id.as_str(), &format!("needs {how}; with the companion, or with three lines:"));
        refusal.next = vec![Next::Companion(format!("{verb} {}", view.id))];
        refusal.next.extend(stock_path(&self.directory.config.host, view.id, verb).map(Next::Shell));
        refusal
    }

    fn bad_signature(&self, about: Option<RequestId>, bad: &BadDecision) -> Refusal {
        let what = about.map_or_else(|| "the decision".to_owned(), |id| id.to_string());
        // What a document says in place of something else is repeated, and may be long.
        let why = brief(&format!("the decision is not taken: {}", with_causes(bad)), 300);
        let mut refusal = self.refusal(RefusalKind::Refused, &what, &why);
        if let BadDecision::Key = bad {
            refusal.next = vec![Next::Verb("whoami".into())];
        }
        refusal
    }

    pub(super) fn not_submitted(&self, error: &SubmitError, targets: &[Destination]) -> Refusal {
        match error {
            SubmitError::Store(error) => self.down(error),
            SubmitError::DeniedLately { request, by, .. } => {
                let named = match targets {
                    [first, _, _, _, ..] => Destination { target: "-".into(), ..first.clone() }.to_string(),
                    few => few.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
                };
                let said = error.to_string();
                let why = said.strip_prefix(&format!("{by} ")).unwrap_or(&said);
                let mut refusal = self.refusal(RefusalKind::Refused, by.as_str(), &format!("{why}. Again:"));
                refusal.next = vec![Next::Verb(format!("request {named} --again --reason '…'")), Next::Verb(format!("show {request}"))];
                refusal
            }
            SubmitError::TooManyOfYours(_) => {
                let mut refusal = self.refusal(RefusalKind::Refused, "the request", &format!("is behind {error}"));
                refusal.next = vec![Next::Verb("requests --mine --pending".into())];
                refusal
            }
            SubmitError::BreakGlass => {
                let named = targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                let mut refusal = self.refusal(RefusalKind::Refused, "break-glass", "is not open to you there; ask:");
                refusal.next = vec![Next::Verb(format!("request {named} --reason '…'"))];
                refusal
            }
            SubmitError::TooMany(_) => self.refusal(RefusalKind::Refused, "the request", &format!("has to wait: {error}")),
            _ => self.refusal(RefusalKind::Usage, "the request", &format!("was not made: {}", with_causes(error))),
        }
    }

    pub(super) fn not_done(&self, id: Option<RequestId>, error: &ApprovalError) -> Refusal {
        let what = id.map_or_else(|| "the decision".to_owned(), |id| id.to_string());
        let refuse = |why: &str, next: &[String]| {
            let mut refusal = self.refusal(RefusalKind::Refused, &what, why);
            refusal.next = next.iter().cloned().map(Next::Verb).collect();
            refusal
        };
        match error {
            ApprovalError::Store(_) | ApprovalError::Stored(_) => self.down(error),
            ApprovalError::Unknown(id) => self.unknown(*id),
            ApprovalError::Already(id, state) => refuse(&format!("is already {state}"), &[format!("show {id}")]),
            ApprovalError::Own => refuse("is yours: nobody decides on their own request", &[format!("withdraw {what}")]),
            ApprovalError::NotYet { now, .. } => {
                refuse(&format!("is for {now} to agree to first; you are asked after them"), &[format!("show {what}")])
            }
            ApprovalError::NotNeeded { now, .. } => {
                refuse(&format!("has all that it needs from you and yours; it is for {now} now"), &[format!("show {what}")])
            }
            ApprovalError::Level { needs, has, .. } => refuse(&format!("needs {needs}; this one is of level {has}"), &["whoami".into()]),
            ApprovalError::NotEligible(id) => refuse("is for others to decide", &[format!("show {id}")]),
            ApprovalError::Code(id) => refuse(
                "was not approved: the code is not the one that it shows. Compare it with the requester's screen",
                &[format!("show {id}")],
            ),
            other => refuse(&format!("was not changed: {}", with_causes(other)), &[]),
        }
    }
}

/// Runs what takes the processor for long (policy over thousands of targets) beside the event loop.
pub(super) async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, tokio::task::JoinError> {
    tokio::task::spawn_blocking(work).await
}
