//! Many targets, and many requests, in few words.

use super::super::card::card;
use super::super::render::prefixed;
use super::super::reply::{Alike, Asked, Card, Decided, Part, State, Would};
use super::Reader;
use crate::access::alike::{Known, counted, oddities};
use crate::access::decision::Verdict;
use crate::access::request::RequestDocument;

/// Names that are said one by one; `--json` has all.
const SHOWN: usize = 20;

/// `web-1, web-2 and 7 more`
pub fn some_of<T: std::fmt::Display>(names: &[T]) -> String {
    let shown = names.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What else belongs to a request of many targets: which they are, what each needs, what needs nobody.
pub fn beside(asked: &Asked) -> String {
    let mut text = String::new();
    let targets = asked.card.read().map(|document| document.targets).unwrap_or_default();
    if targets.len() > 1 && asked.card.state.is_open() {
        let names: Vec<_> = targets.iter().map(|target| &target.id).collect();
        text.push_str(&format!("\nfor {}: {}", counted(targets.len(), "target"), some_of(&names)));
    }
    if asked.card.state.is_open() {
        text.push_str(&parts(&asked.parts));
    }
    if !asked.free.is_empty() {
        text.push_str(&format!("\n{} needs nobody's approval", some_of(&asked.free)));
    }
    prefixed(&text)
}

/// `3 of them need heads and lead (pay-1, …), 12 need lead (web-1, …): together they need all of these`
fn parts(parts: &[Part]) -> String {
    if parts.is_empty() {
        return String::new();
    }
    let each = parts.iter().map(|part| {
        let workflows = part.workflows.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        let need = if part.targets.len() == 1 { "needs" } else { "need" };
        format!("{} {need} {workflows} ({})", part.targets.len(), some_of(&part.targets))
    });
    let each = each.collect::<Vec<_>>().join(", ");
    format!("\nof these {each}: in one request all of them need all of that. Asked for apart, each needs its own")
}

/// What would be asked.
pub fn would(would: &Would) -> String {
    let workflows = would.workflows.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let mut text = format!(
        "would ask for {} as {} on {}: {}\nit needs {workflows}",
        would.scope,
        would.login,
        counted(would.targets.len(), "target"),
        would.targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    );
    text.push_str(&parts(&would.parts));
    if !would.free.is_empty() {
        text.push_str(&format!("\n{} needs nobody's approval, and is left out", some_of(&would.free)));
    }
    prefixed(&text)
}

/// Requests that are decided together: the first whole, then how many are like it and what is odd.
pub fn alike(alike: &Alike, reader: &Reader<'_>) -> String {
    let Some(first) = alike.cards.first() else { return String::new() };
    let documents: Vec<RequestDocument> = alike.cards.iter().filter_map(|card| card.read().ok()).collect();
    let known = alike.targets.iter().map(|one| {
        let known = Known { labels: one.labels.iter().cloned().collect(), opened: one.opened };
        (one.target.clone(), known)
    });
    let odd = oddities(&documents.iter().collect::<Vec<_>>(), &known.collect());
    let mut text = match alike.cards.len() {
        1 => format!("none is like {}: {odd}", first.request),
        n => {
            let others: Vec<_> = alike.cards.iter().skip(1).map(|card| card.request).collect();
            format!("and {} like it, {}\n{}: {odd}", others.len(), some_of(&others), counted(n, "request"))
        }
    };
    if alike.more > 0 {
        text.push_str(&format!("\n{} more are like it and stay: run this again for them", alike.more));
    }
    card(first, reader) + &prefixed(&text)
}

/// One line for several that came out alike.
pub fn decided(done: &Decided, reader: &Reader<'_>) -> Option<String> {
    let [first, _, ..] = done.requests.as_slice() else { return None };
    let ids: Vec<_> = done.requests.iter().map(|card| card.request).collect();
    let (count, ids) = (counted(ids.len(), "request"), some_of(&ids));
    let granted = |card: &Card| card.granted.as_ref().map(|terms| (terms.for_us, terms.once));
    match done.verdict {
        Verdict::Deny => Some(format!("denied {count}: {ids}")),
        Verdict::Approve if done.requests.iter().all(|card| card.state == State::Approved && granted(card) == granted(first)) => {
            let (for_us, once) = granted(first)?;
            let span = crate::time::short(std::time::Duration::from_micros(for_us));
            let once = if once { ", one session each" } else { "" };
            Some(format!("approved {count} for {span}{once}: {ids}. A wrong one? {}", reader.voice.command("revoke REQ")))
        }
        Verdict::Approve => None,
    }
}
