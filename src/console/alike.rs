//! Deciding what is alike together (`approve --like K7Q3FM`): who may decide a request is shown all that
//! wait like it, and says yes or no to exactly those. What comes after they were shown is not covered.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::{Decider, document, terms};
use super::execute::Act;
use super::grammar::{ApproveArgs, DecisionArgs, Less};
use super::reply::{Alike, AlikeTarget, Card, Decided, Issued, Next, Refusal, RefusalKind, Reply, State};
use super::text::stock_path;
use crate::access::alike::{Known, list_code, listed, oddities};
use crate::access::decision::{Level, Verdict};
use crate::access::request::{MAX_TARGETS, RequestDocument};
use crate::approvals::{RequestFilter, RequestState, RequestView, Said};
use crate::id::{Digest, RequestId, TargetId};

/// Open requests of one person that are looked through.
const READ: u32 = 2000;
/// Bytes of requests that go over the wire at once; with their JSON a line of [`super::wire::MAX_REPLY`] holds them.
const MOST_BYTES: usize = 2 << 20;

impl Act<'_> {
    /// The answer that the companion shows and signs over.
    pub(super) async fn alike(&self, id: RequestId) -> Result<Reply, Refusal> {
        let (views, more) = self.like(id, Verdict::Deny).await?;
        let known = self.known(&views).await?;
        let targets = known.into_iter().map(|(target, Known { labels, opened })| AlikeTarget {
            target,
            labels: labels.into_iter().collect(),
            opened,
        });
        let documents: Vec<&RequestDocument> = views.iter().map(|view| &view.document).collect();
        let unusual = self.console.approvals.unusual_of(&documents, self.now).await.map_err(|error| self.not_done(None, &error))?;
        let cards = views.iter().zip(unusual).map(|(view, unusual)| Card { unusual, ..Card::of(view) });
        Ok(Reply::Alike(Box::new(Alike { cards: cards.collect(), targets: targets.collect(), more })))
    }

    /// Says yes on this connection to several requests: each with its own code, or one and all that are
    /// like it, by its code and by that of the list that was shown.
    pub(super) async fn approve_many(&self, args: &ApproveArgs) -> Result<Reply, Refusal> {
        let named = args.said();
        let Some((first, code)) = named.first().copied() else { return Err(self.usage("the request", "is not named")) };
        if !args.like {
            let mut said = Vec::new();
            for (id, code) in &named {
                let view = self.seen(*id).await?;
                if view.level > Level::Connection {
                    return Err(self.needs_signature_over(&view, Verdict::Approve, &named));
                }
                let Some(code) = code else {
                    return Err(self.usage(id.as_str(), "needs its code behind it, from the requester's screen: approve REQ CODE REQ CODE"));
                };
                said.push(self.on_connection_said(&view, Verdict::Approve, Some(code), &args.less));
            }
            return self.said_of_many(Verdict::Approve, said).await;
        }
        let (views, more) = self.like(first, Verdict::Approve).await?;
        if let Some(view) = views.iter().find(|view| view.level > Level::Connection) {
            return Err(self.needs_signature_over(view, Verdict::Approve, &[(first, code)]));
        }
        let list = list_code(&listed(views.iter().map(|view| view.digest)));
        let shown = args.shown.as_deref().map(str::to_ascii_lowercase);
        let (Some(code), Some(_)) = (code, shown.as_ref().filter(|shown| **shown == list)) else {
            return Err(self.not_yet(&views, more, &list, shown.is_some()).await?);
        };
        // The list was shown with the one code that was compared; those of the others are the bastion's own.
        let said = views.iter().map(|view| {
            let code = if view.id == first { code } else { view.code.as_str() };
            self.on_connection_said(view, Verdict::Approve, Some(code), &args.less)
        });
        self.said_of_many(Verdict::Approve, said.collect()).await
    }

    /// Says no on this connection; nothing has to be compared for that.
    pub(super) async fn deny_many(&self, requests: &[RequestId], like: bool, note: &str) -> Result<Reply, Refusal> {
        let mut views = Vec::new();
        match requests {
            [one] if like => views = self.like(*one, Verdict::Deny).await?.0,
            several => {
                for id in several {
                    views.push(self.seen(*id).await?);
                }
            }
        }
        let less = Less { note: note.to_owned(), ..Less::default() };
        let said = views.iter().map(|view| self.on_connection_said(view, Verdict::Deny, None, &less));
        self.said_of_many(Verdict::Deny, said.collect()).await
    }

    /// The bytes of a decision on a request and all that are like it; kept until `submit` of that request.
    pub(super) async fn decision_like(&self, args: &DecisionArgs) -> Result<Reply, Refusal> {
        let (views, _) = self.like(args.request, args.verdict).await?;
        let Some(first) = views.first() else { return Err(self.unknown(args.request)) };
        if args.verdict == Verdict::Approve
            && let Some(more) = terms(&first.document, &args.less, self.now).beyond(&first.document.asked(), self.now)
        {
            return Err(self.usage(first.id.as_str(), &format!("would get more than was asked, or nothing: {more}")));
        }
        let key = self.who.fingerprint();
        let by = Decider { person: self.who.person(), key: &key, now: self.now };
        let digests: Vec<Digest> = listed(views.iter().map(|view| view.digest));
        let bytes = document(by, &first.document, digests, args.verdict, &args.less).bytes();
        self.console.waiting.keep(self.who.person(), first.id, bytes.clone(), self.now);
        let oddities = self.oddities(&views).await?;
        let also = views.iter().skip(1).map(|view| view.id).collect();
        Ok(Reply::Decision(Box::new(Issued { bytes, verdict: args.verdict, card: Card::of(first), also, oddities })))
    }

    /// The request, then all pending ones that are like it and that this person may decide too, the oldest
    /// first; and how many more there are. What they have said yes to already waits for others' yes alone.
    async fn like(&self, id: RequestId, verdict: Verdict) -> Result<(Vec<RequestView>, u64), Refusal> {
        let named = self.seen(id).await?;
        if named.state != RequestState::Pending {
            let why = format!("is {}: there is nothing to decide", State::of(&named.state).word());
            return Err(self.refusal(RefusalKind::Refused, id.as_str(), &why));
        }
        let filter = RequestFilter { open_only: true, person: Some(named.document.person.clone()), limit: READ };
        let mut others = self.console.approvals.requests(&filter, self.who, self.now).await.map_err(|error| self.not_done(None, &error))?;
        others.reverse();
        others.retain(|view| {
            let decidable = view.state == RequestState::Pending && view.due > self.now && view.asked.contains(self.who.person());
            let said = verdict == Verdict::Approve
                && view.decisions.iter().any(|said| said.person == *self.who.person() && said.verdict == Verdict::Approve);
            view.id != id && decidable && !said && view.document.is_like(&named.document)
        });
        let (mut room, mut more, mut views) = (MOST_BYTES.saturating_sub(named.bytes.len()), 0, vec![named]);
        for view in others {
            match room.checked_sub(view.bytes.len()).filter(|_| views.len() < MAX_TARGETS) {
                Some(left) => {
                    room = left;
                    views.push(view);
                }
                None => more += 1,
            }
        }
        Ok((views, more))
    }

    /// What is odd about these requests, in one line.
    async fn oddities(&self, views: &[RequestView]) -> Result<String, Refusal> {
        let known = self.known(views).await?;
        let documents: Vec<&RequestDocument> = views.iter().map(|view| &view.document).collect();
        Ok(oddities(&documents, &known))
    }

    async fn known(&self, views: &[RequestView]) -> Result<BTreeMap<TargetId, Known>, Refusal> {
        let Some(first) = views.first() else { return Ok(BTreeMap::new()) };
        let opened = self.console.store.opened_by(&first.document.person).await.map_err(|error| self.down(&error))?;
        let targets: BTreeSet<&TargetId> = views.iter().flat_map(|view| &view.document.targets).map(|target| &target.id).collect();
        let known = targets.into_iter().map(|id| {
            let labels = self.directory.targets.find(id.as_str()).map(|target| target.labels.clone()).unwrap_or_default();
            (id.clone(), Known { labels, opened: opened.contains(id) })
        });
        Ok(known.collect())
    }

    async fn said_of_many(&self, verdict: Verdict, said: Vec<Said>) -> Result<Reply, Refusal> {
        let about = said.first().and_then(|said| match said {
            Said::OnConnection { request, .. } => Some(*request),
            Said::Signed(_) => None,
        });
        let decided = self.console.approvals.decide_all(said, self.who, self.now).await.map_err(|error| self.not_done(about, &error))?;
        Ok(Reply::Decided(Box::new(Decided { verdict, requests: decided.iter().map(Card::of).collect() })))
    }

    pub(super) fn on_connection_said(&self, view: &RequestView, verdict: Verdict, code: Option<&str>, less: &Less) -> Said {
        Said::OnConnection {
            request: view.id,
            approver: self.who.clone(),
            verdict,
            code: code.map(str::to_ascii_uppercase),
            terms: match verdict {
                Verdict::Approve => Some(terms(&view.document, less, self.now)),
                Verdict::Deny => None,
            },
            note: less.note.clone(),
        }
    }

    fn usage(&self, what: &str, why: &str) -> Refusal {
        self.refusal(RefusalKind::Usage, what, why)
    }

    /// What would be decided, and the command that decides exactly that.
    async fn not_yet(&self, views: &[RequestView], more: u64, list: &str, again: bool) -> Result<Refusal, Refusal> {
        let Some(first) = views.first() else { return Err(self.usage("the list", "is empty")) };
        let more = if more > 0 { format!(" ({more} more are like it, for another time)") } else { String::new() };
        let changed = if again { "is another list now: " } else { "" };
        let count = crate::access::alike::counted(views.len(), "request");
        let odd = self.oddities(views).await?;
        let why = format!(
            "{changed}stands for {count} of {}{more}: {odd}. They are approved with the code on the requester's screen:",
            first.document.person
        );
        let mut refusal = self.usage(first.id.as_str(), &why);
        refusal.next = vec![
            Next::Verb("requests --pending".into()),
            Next::Verb(format!("show {}", first.id)),
            Next::Verb(format!("approve --like {} CODE --shown {list}", first.id)),
        ];
        Ok(refusal)
    }

    /// The same as for one request, with all that were named.
    fn needs_signature_over(&self, view: &RequestView, verdict: Verdict, named: &[(RequestId, Option<&str>)]) -> Refusal {
        let mut refusal = self.needs_signature(view, verdict);
        let host = &self.directory.config.host;
        refusal.next = match named {
            [(one, _)] => {
                let lines = stock_path(host, *one, "approve").map(|line| line.replacen("decision ", "decision --like ", 1));
                std::iter::once(Next::Companion(format!("approve --like {one}"))).chain(lines.map(Next::Shell)).collect()
            }
            several => {
                let ids: Vec<&str> = several.iter().map(|(id, _)| id.as_str()).collect();
                vec![Next::Companion(format!("approve {}", ids.join(" ")))]
            }
        };
        refusal
    }
}
