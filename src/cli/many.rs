//! Several requests in one go: all are fetched, checked and shown before anything is signed, and what is
//! signed is exactly that. Those that ask for the same terms are decided by one signature, which names all
//! their digests; each one's proof holds the whole list.

use std::collections::BTreeSet;

use tokio::io::{AsyncBufRead, AsyncWrite};

use super::approve::{Hands, NotSigned, Order, Shown, fetch, sign_and_send, whoami};
use super::bastion::Bastion;
use super::sign::{Keys, Signer};
use super::terminal;
use crate::access::alike::{counted, listed};
use crate::access::decision::{Level, Verdict};
use crate::access::request::{MAX_TARGETS, matching_code};
use crate::console::decide::terms;
use crate::console::grammar::{Less, Verb};
use crate::console::reply::{Alike, Card, Decided, Reply, State, Whoami};
use crate::console::text::{self, Reader, Voice};
use crate::id::RequestId;
use crate::time::Timestamp;

/// Of what is unusual so much is said one by one.
const UNUSUAL: usize = 8;

/// What the person ordered: requests, each with the code that was read out, or one with all that are like it.
#[derive(Debug)]
pub struct Many {
    pub requests: Vec<(RequestId, Option<String>)>,
    pub like: bool,
    pub verdict: Verdict,
    pub less: Less,
}

impl Many {
    /// The order, if it is one about a single request.
    pub fn one(&self) -> Option<Order> {
        match self.requests.as_slice() {
            [(request, code)] if !self.like => {
                Some(Order { request: *request, verdict: self.verdict, code: code.clone(), less: self.less.clone() })
            }
            _ => None,
        }
    }

    fn about(&self, request: RequestId) -> Order {
        let code = self.requests.iter().find(|(id, _)| *id == request).and_then(|(_, code)| code.clone());
        Order { request, verdict: self.verdict, code, less: self.less.clone() }
    }
}

/// Shows, asks, signs, sends. Returns what the bastion says became of all of them.
pub async fn decide<R, W>(bastion: &mut Bastion<R, W>, order: &Many, hands: &Hands) -> anyhow::Result<Reply>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let me = whoami(bastion).await?;
    let named = look(bastion, order, &me).await?;
    let shown = checked(&named, order, &me)?;
    show(&named, &shown, order, hands);
    let own: Vec<String> = me.keys.iter().map(|key| key.fingerprint.clone()).collect();
    let keys = Keys {
        named: hands.key.as_deref(),
        agent: hands.agent.clone(),
        default: hands.default.clone(),
        listed: &own,
        level: shown.iter().map(|shown| shown.level).max().unwrap_or(Level::Key),
    };
    let signer = Signer::pick(&keys).await?;
    if order.verdict == Verdict::Approve && !hands.yes {
        confirm(&shown, &signer)?;
    }
    let kept = still(shown, &look(bastion, order, &me).await?)?;
    let mut decided = Decided { verdict: order.verdict, requests: Vec::new() };
    for group in groups(kept) {
        let Some(first) = group.first() else { continue };
        let digests = listed(group.iter().map(|shown| shown.digest));
        match sign_and_send(bastion, (&me, &signer), (&first.document, digests), order.verdict, &order.less).await? {
            Reply::Decided(some) => decided.requests.extend(some.requests),
            _ => return Err(NotSigned::Answer.into()),
        }
    }
    Ok(Reply::Decided(Box::new(decided)))
}

/// The requests as the bastion shows them now.
async fn look<R, W>(bastion: &mut Bastion<R, W>, order: &Many, me: &Whoami) -> anyhow::Result<Alike>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if let ([(request, _)], true) = (order.requests.as_slice(), order.like) {
        return match bastion.ask(&Verb::Alike { request: *request }).await? {
            Reply::Alike(mut alike) => {
                // What this person has said yes to already waits for others' yes alone.
                let said = |card: &Card| card.decisions.iter().any(|said| said.person == me.person && said.verdict == Verdict::Approve);
                alike.cards.retain(|card| card.request == *request || order.verdict == Verdict::Deny || !said(card));
                Ok(*alike)
            }
            _ => Err(NotSigned::Answer.into()),
        };
    }
    let mut cards = Vec::new();
    for (request, _) in &order.requests {
        cards.push(fetch(bastion, *request).await?);
    }
    Ok(Alike { cards, targets: Vec::new(), more: 0 })
}

/// Takes only what was named, or what its own bytes show to be like it.
fn checked(named: &Alike, order: &Many, me: &Whoami) -> Result<Vec<Shown>, NotSigned> {
    let mut shown: Vec<Shown> = Vec::new();
    let expected = order.requests.iter().map(|(id, _)| *id);
    // Of those that are like it the bastion says which; beyond, a name for each card.
    let names: Vec<RequestId> = match order.like {
        true => expected.take(1).chain(named.cards.iter().skip(1).map(|card| card.request)).collect(),
        false => expected.collect(),
    };
    if names.len() != named.cards.len() || names.len() > MAX_TARGETS {
        return Err(NotSigned::Answer);
    }
    for (request, card) in names.iter().zip(&named.cards) {
        let one = Shown::check(card, &order.about(*request), me)?;
        if let Some(first) = shown.first().filter(|first| order.like && !one.document.is_like(&first.document)) {
            return Err(NotSigned::NotAlike(*request, first.document.request));
        }
        if shown.iter().any(|other| other.digest == one.digest) {
            return Err(NotSigned::Answer);
        }
        shown.push(one);
    }
    if shown.is_empty() { Err(NotSigned::Answer) } else { Ok(shown) }
}

/// On standard error, so that standard output holds the answer alone. A denial may have to be quick.
fn show(named: &Alike, shown: &[Shown], order: &Many, hands: &Hands) {
    let reader = Reader { look: hands.look, now: Timestamp::now(), voice: Voice::Companion };
    match (order.verdict, order.like) {
        (_, true) => eprint!("{}", text::alike(named, &reader)),
        (Verdict::Approve, false) => named.cards.iter().for_each(|card| eprint!("{}", text::card(card, &reader))),
        (Verdict::Deny, false) => {}
    }
    if order.verdict == Verdict::Approve && order.less.is_less() {
        let now = Timestamp::now();
        for first in groups_of(shown) {
            eprintln!("countersign: you grant less: {}", text::granted(&terms(&first.document, &order.less, now), now));
        }
    }
}

/// By y; where any of them is unusual, by typing how many targets there are, as for one it is by the target's
/// name (`users.md` 5).
fn confirm(shown: &[Shown], signer: &Signer) -> Result<(), NotSigned> {
    let Some(first) = shown.first() else { return Err(NotSigned::NothingLeft) };
    let (code, key) = (matching_code(&first.digest), signer.fingerprint());
    let asked = format!("countersign: code {code} for {} on their screen too?", first.document.request);
    let all = if shown.len() == 1 { first.document.request.to_string() } else { format!("all {}", counted(shown.len(), "request")) };
    let unusual: BTreeSet<&str> = shown.iter().flat_map(|one| &one.unusual).map(String::as_str).collect();
    let targets: BTreeSet<_> = shown.iter().flat_map(|one| &one.document.targets).map(|target| &target.id).collect();
    let (prompt, wanted) = if unusual.is_empty() {
        (format!("{asked} Sign the yes to {all} with {key}? [y/N] "), None)
    } else {
        let few = unusual.iter().take(UNUSUAL).copied().collect::<Vec<_>>().join(" · ");
        let more = if unusual.len() > UNUSUAL { format!(" · and {} more", unusual.len() - UNUSUAL) } else { String::new() };
        let name = match targets.first() {
            Some(only) if targets.len() == 1 => only.to_string(),
            _ => counted(targets.len(), "target"),
        };
        let what = crate::console::visible(&few);
        let prompt = format!("countersign: unusual: {what}{more}\n{asked} Type {name} to sign the yes to {all} with {key}: ");
        (prompt, Some(name))
    };
    match (terminal::ask(&prompt), wanted) {
        (Ok(answer), Some(name)) if answer.trim() == name => Ok(()),
        (Ok(answer), None) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        (Ok(_), _) => Err(NotSigned::Declined),
        (Err(error), _) => Err(NotSigned::NobodyToAsk(error)),
    }
}

/// Leaves out what has ended since it was shown. What has come since was not shown, and is not covered;
/// what was shown with other bytes stops everything.
fn still(shown: Vec<Shown>, now: &Alike) -> Result<Vec<Shown>, NotSigned> {
    let came = now.cards.iter().filter(|card| !shown.iter().any(|shown| shown.document.request == card.request)).count();
    if came > 0 {
        eprintln!("countersign: {} came since; not covered by this", counted(came, "request"));
    }
    let mut kept = Vec::new();
    for one in shown {
        let request = one.document.request;
        match now.cards.iter().find(|card| card.request == request).filter(|card| card.state == State::Pending) {
            Some(card) => {
                one.is_still(card)?;
                kept.push(one);
            }
            None => eprintln!("countersign: {request} does not wait any more; left out"),
        }
    }
    if kept.is_empty() { Err(NotSigned::NothingLeft) } else { Ok(kept) }
}

/// Requests that one signature can decide: what they ask for is the same.
fn groups(shown: Vec<Shown>) -> Vec<Vec<Shown>> {
    let mut groups: Vec<Vec<Shown>> = Vec::new();
    for one in shown {
        let same = |group: &&mut Vec<Shown>| group.first().is_some_and(|first| first.document.asked() == one.document.asked());
        match groups.iter_mut().find(same) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups
}

/// The first of each group.
fn groups_of(shown: &[Shown]) -> Vec<&Shown> {
    let mut firsts: Vec<&Shown> = Vec::new();
    for one in shown {
        if !firsts.iter().any(|first| first.document.asked() == one.document.asked()) {
            firsts.push(one);
        }
    }
    firsts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::request::RequestDocument;
    use crate::access::request::tests::sample;
    use crate::console::reply::KeyLine;
    use crate::console::reply::tests::pending;
    use crate::id::Digest;

    fn on(target: &str) -> RequestDocument {
        let mut document = RequestDocument { request: RequestId::random(), ..sample() };
        document.targets[0].id = target.parse().unwrap();
        document
    }

    fn card(document: &RequestDocument) -> Card {
        pending(document, &[])
    }

    fn seen(documents: &[&RequestDocument]) -> Alike {
        Alike { cards: documents.iter().map(|document| card(document)).collect(), targets: Vec::new(), more: 0 }
    }

    fn me() -> Whoami {
        Whoami {
            person: "bob".parse().unwrap(),
            groups: Vec::new(),
            source: "192.0.2.9".into(),
            key: "SHA256:k".into(),
            keys: vec![KeyLine { fingerprint: "SHA256:k".into(), algorithm: "ssh-ed25519".into() }],
            bastion: "bastion-1".into(),
            host: "bastion".into(),
            now: Timestamp::now(),
        }
    }

    fn order(requests: &[&RequestDocument], like: bool) -> Many {
        let requests = requests.iter().map(|document| (document.request, None)).collect();
        Many { requests, like, verdict: Verdict::Approve, less: Less::default() }
    }

    #[test]
    fn what_is_not_like_it_by_its_own_bytes_is_not_signed() {
        let (one, two) = (on("web-1"), on("web-2"));
        let like = order(&[&one], true);
        assert_eq!(checked(&seen(&[&one, &two]), &like, &me()).unwrap().len(), 2);
        let other = RequestDocument { login: "root".parse().unwrap(), ..on("web-3") };
        let refused = checked(&seen(&[&one, &two, &other]), &like, &me()).err().unwrap();
        assert!(matches!(refused, NotSigned::NotAlike(which, _) if which == other.request), "{refused}");
        // Another one in the place of the one that was named, the same one twice, one that lies about itself.
        assert!(checked(&seen(&[&two, &one]), &like, &me()).is_err());
        assert!(checked(&seen(&[&one, &one]), &like, &me()).is_err());
        let mut lying = seen(&[&one, &two]);
        lying.cards[1].digest = Digest([9; 32]);
        assert!(checked(&lying, &like, &me()).is_err());
        assert!(checked(&seen(&[&one]), &order(&[&one, &two], false), &me()).is_err(), "one is missing");
    }

    #[test]
    fn what_came_since_is_not_covered_and_what_has_ended_is_left_out() {
        let (one, two, late) = (on("web-1"), on("web-2"), on("web-3"));
        let like = order(&[&one], true);
        let shown = || checked(&seen(&[&one, &two]), &like, &me()).unwrap();
        let mut now = seen(&[&one, &two, &late]);
        assert_eq!(still(shown(), &now).unwrap().len(), 2);
        now.cards[1].state = State::Withdrawn;
        let kept = still(shown(), &now).unwrap();
        assert_eq!(kept.iter().map(|shown| shown.document.request).collect::<Vec<_>>(), [one.request]);
        let moved = RequestDocument { request: two.request, ..on("db-1") };
        assert!(matches!(still(shown(), &seen(&[&one, &moved])), Err(NotSigned::Changed(_))));
        assert!(matches!(still(shown(), &seen(&[&late])), Err(NotSigned::NothingLeft)));
    }

    #[test]
    fn one_signature_grants_one_thing() {
        let (one, two) = (on("web-1"), on("web-2"));
        let longer = RequestDocument { for_us: 2 * one.for_us, ..on("web-3") };
        let all = [&one, &longer, &two];
        let groups = groups(checked(&seen(&all), &order(&all, false), &me()).unwrap());
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    }
}
