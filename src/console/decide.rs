//! From a verdict to the bytes that are signed: for the companion, and for `decision` and `submit`.
//!
//! [`Waiting`] keeps the bytes that `decision` printed last until `submit` brings their signature. It
//! is a convenience, not authority: what counts is the signature over bytes that name the approver,
//! their key, the request's digest and the time, all verified when it comes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::grammar::Less;
use crate::access::decision::{CLOCK_SLACK, DecisionDocument, GrantedTerms, VERSION, Verdict};
use crate::access::request::{RequestDocument, doc_duration, doc_micros};
use crate::access::{Class, Scope};
use crate::id::{Digest, Person, RequestId};
use crate::time::Timestamp;

/// Decisions that wait for their signature on the whole node. When it is full the oldest goes, and its
/// person prints it again.
const MOST: usize = 512;
/// Of one person: nobody can push the others' out.
const MOST_OF_ONE: usize = 16;

/// What an approver grants: what was asked, or less. Times of day are the next such ones: the end's after the start.
pub fn terms(document: &RequestDocument, less: &Less, now: Timestamp) -> GrantedTerms {
    let asked = document.asked();
    let from = less.from.as_ref().map(|from| from.after(now));
    let opens = from.max(asked.starts()).unwrap_or(now);
    let mut commands: Vec<String> = less.scope.iter().filter_map(|part| part.command.clone()).collect();
    commands.sort_by_key(|command| Digest::of(command.as_bytes()));
    commands.dedup();
    let classes: BTreeSet<Class> = less.scope.iter().flat_map(|part| part.classes.iter().cloned()).collect();
    GrantedTerms {
        for_us: less.duration.map_or(asked.for_us, |span| doc_duration(span.0)),
        once: asked.once || less.once,
        scope: if classes.is_empty() { asked.scope } else { Scope(classes) },
        commands,
        from_us: from.map(doc_micros),
        until_us: less.until.as_ref().map(|until| doc_micros(until.after(opens))),
    }
}

/// Who decides, with which key, when.
#[derive(Debug, Clone, Copy)]
pub struct Decider<'a> {
    pub person: &'a Person,
    /// `SHA256:…` of the key that will sign.
    pub key: &'a str,
    pub now: Timestamp,
}

/// Writes the document of a decision on a request, or on several that ask for the same; `digests` are over
/// the bytes that were shown, sorted.
pub fn document(by: Decider<'_>, request: &RequestDocument, digests: Vec<Digest>, verdict: Verdict, less: &Less) -> DecisionDocument {
    DecisionDocument {
        v: VERSION,
        kind: "decision".into(),
        bastion: request.bastion.clone(),
        requests: digests,
        verdict,
        terms: match verdict {
            Verdict::Approve => Some(terms(request, less, by.now)),
            Verdict::Deny => None,
        },
        note: less.note.clone(),
        approver: by.person.clone(),
        key: by.key.to_owned(),
        time_us: doc_micros(by.now),
    }
}

/// Decisions that were printed and wait for their signature, by person and request.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    issued: Arc<Mutex<HashMap<(Person, RequestId), Printed>>>,
}

#[derive(Debug)]
struct Printed {
    at: Timestamp,
    bytes: Vec<u8>,
}

impl Waiting {
    fn issued(&self) -> MutexGuard<'_, HashMap<(Person, RequestId), Printed>> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was printed, in place of what the person printed for this request before.
    pub fn keep(&self, person: &Person, request: RequestId, bytes: Vec<u8>, now: Timestamp) {
        let mut issued = self.issued();
        issued.retain(|_, printed| now.since(printed.at) <= CLOCK_SLACK);
        issued.remove(&(person.clone(), request));
        while issued.keys().filter(|(whose, _)| whose == person).count() >= MOST_OF_ONE {
            drop_oldest(&mut issued, |(whose, _)| whose == person);
        }
        while issued.len() >= MOST {
            drop_oldest(&mut issued, |_| true);
        }
        issued.insert((person.clone(), request), Printed { at: now, bytes });
    }

    /// Returns the bytes printed last, while their time is close enough to count.
    pub fn printed(&self, person: &Person, request: RequestId, now: Timestamp) -> Option<Vec<u8>> {
        let issued = self.issued();
        let printed = issued.get(&(person.clone(), request))?;
        (now.since(printed.at) <= CLOCK_SLACK).then(|| printed.bytes.clone())
    }

    /// Forgets what has been decided.
    pub fn done(&self, person: &Person, request: RequestId) {
        self.issued().remove(&(person.clone(), request));
    }
}

fn drop_oldest(issued: &mut HashMap<(Person, RequestId), Printed>, whose: impl Fn(&(Person, RequestId)) -> bool) {
    let oldest = issued.iter().filter(|(key, _)| whose(key)).min_by_key(|(_, printed)| printed.at).map(|(key, _)| key.clone());
    if let Some(oldest) = oldest {
        issued.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn person(name: &str) -> Person {
        name.parse().unwrap()
    }

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    #[test]
    fn a_printed_decision_is_kept_for_two_minutes_for_its_person() {
        let waiting = Waiting::default();
        let id = RequestId::random();
        waiting.keep(&person("bob"), id, b"first".to_vec(), NOW);
        waiting.keep(&person("bob"), id, b"second".to_vec(), NOW);
        assert_eq!(waiting.printed(&person("bob"), id, NOW).unwrap(), b"second");
        assert_eq!(waiting.printed(&person("carol"), id, NOW), None);
        assert_eq!(waiting.printed(&person("bob"), id, NOW.plus(Duration::from_secs(121))), None);
        waiting.done(&person("bob"), id);
        assert_eq!(waiting.printed(&person("bob"), id, NOW), None);
    }

    #[test]
    fn nobody_pushes_out_what_others_printed() {
        let waiting = Waiting::default();
        let id = RequestId::random();
        waiting.keep(&person("bob"), id, b"bob's".to_vec(), NOW);
        for n in 0..MOST * 2 {
            waiting.keep(&person("mallory"), RequestId::random(), vec![1], NOW.plus(Duration::from_micros(n as u64)));
        }
        assert_eq!(waiting.printed(&person("bob"), id, NOW).unwrap(), b"bob's");
        assert_eq!(waiting.issued().len(), 1 + MOST_OF_ONE);
    }

    #[test]
    fn less_is_written_into_the_terms() {
        let request = crate::access::request::tests::sample();
        let less = Less { duration: Some("15m".parse().unwrap()), once: true, note: "look only".into(), ..Less::default() };
        let by = Decider { person: &person("bob"), key: "SHA256:x", now: NOW };
        let decision = document(by, &request, vec![Digest::of(&request.bytes())], Verdict::Approve, &less);
        assert_eq!(DecisionDocument::read(&decision.bytes()).unwrap(), decision);
        let terms = decision.terms.unwrap();
        assert_eq!((terms.for_us, terms.once, terms.scope), (900_000_000, true, request.scope.clone()));
        assert!(document(by, &request, vec![Digest([0; 32])], Verdict::Deny, &less).terms.is_none());
    }

    #[test]
    fn a_window_is_the_next_night() {
        let mut request = crate::access::request::tests::sample();
        let less = |from: &str, until: &str| Less { from: from.parse().ok(), until: until.parse().ok(), ..Less::default() };
        // It is 22:13:20Z.
        let terms = terms(&request, &less("23:00", "06:00"), NOW);
        let (from, until) = (terms.starts().unwrap(), terms.ends().unwrap());
        assert_eq!((from.since(NOW).as_secs(), until.since(from).as_secs()), (2800, 7 * 3600));
        request.start_us = Some(doc_micros(until));
        let late = super::terms(&request, &less("", "06:30"), NOW);
        assert_eq!((late.starts(), late.ends()), (None, Some(until.plus(Duration::from_secs(1800)))), "after the start that was asked for");
        let exactly = Less { scope: vec!["exec:uptime".parse().unwrap(), "exec:id".parse().unwrap()], ..Less::default() };
        let by = Decider { person: &person("bob"), key: "SHA256:x", now: NOW };
        let decision = document(by, &request, vec![Digest([0; 32])], Verdict::Approve, &exactly);
        assert_eq!(DecisionDocument::read(&decision.bytes()).unwrap(), decision);
        assert_eq!(decision.terms.unwrap().commands.len(), 2);
    }
}
