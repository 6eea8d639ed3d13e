//! From a verdict to the bytes that are signed: for the companion, and for `decision` and `submit`.
//!
//! [`Waiting`] keeps the bytes that `decision` printed last until `submit` brings their signature. It
//! is a convenience, not authority: what counts is the signature over bytes that name the approver,
//! their key, the request's digest and the time, all verified when it comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::grammar::Less;
use crate::access::decision::{CLOCK_SLACK, DecisionDocument, GrantedTerms, VERSION, Verdict};
use crate::access::request::{RequestDocument, doc_duration, doc_micros};
use crate::id::{Digest, Person, RequestId};
use crate::time::Timestamp;

/// Decisions that wait for their signature on the whole node. When it is full the oldest goes, and its
/// person prints it again.
const MOST: usize = 512;
/// Of one person: nobody can push the others' out.
const MOST_OF_ONE: usize = 16;

/// What an approver grants: what was asked, or less.
pub fn terms(document: &RequestDocument, less: &Less) -> GrantedTerms {
    GrantedTerms {
        for_us: less.duration.map_or(document.for_us, |span| doc_duration(span.0)),
        once: document.once || less.once,
        scope: document.scope.clone(),
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
            Verdict::Approve => Some(terms(request, less)),
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
        let less = Less { duration: Some("15m".parse().unwrap()), once: true, note: "look only".into() };
        let by = Decider { person: &person("bob"), key: "SHA256:x", now: NOW };
        let decision = document(by, &request, vec![Digest::of(&request.bytes())], Verdict::Approve, &less);
        assert_eq!(DecisionDocument::read(&decision.bytes()).unwrap(), decision);
        let terms = decision.terms.unwrap();
        assert_eq!((terms.for_us, terms.once, terms.scope), (900_000_000, true, request.scope.clone()));
        assert!(document(by, &request, vec![Digest([0; 32])], Verdict::Deny, &less).terms.is_none());
    }
}
