//! Legal holds: predicates over recordings, kept as they were asked.
//!
//! A hold names no recordings, so it covers those to come as well as those there are. What it covers
//! is not erased, whatever its schedule, until a person releases the hold.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{Digest, NotAWord, Person, RequestId, SessionId, TargetId};
use crate::time::Timestamp;

/// A hold as it was placed, and its release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    pub id: HoldId,
    /// The name of the matter: `LIT-14`. It is no condition.
    pub case: Option<String>,
    pub on: Predicate,
    pub reason: String,
    /// Of what was attached, such as the lawyers' mail.
    pub attached: Option<Digest>,
    pub by: Person,
    pub placed: Timestamp,
    pub released: Option<Release>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    pub by: Person,
    pub at: Timestamp,
    pub reason: String,
}

impl Hold {
    pub fn covers(&self, facts: &Recorded<'_>) -> bool {
        self.released.is_none() && self.on.matches(facts)
    }
}

/// What a hold is asked for; everything given has to be so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    pub person: Option<Person>,
    pub target: Option<Pattern>,
    pub session: Option<SessionId>,
    pub request: Option<RequestId>,
    /// Sessions that were live at this time or later.
    pub since: Option<Timestamp>,
    /// Sessions that were live at this time or earlier.
    pub until: Option<Timestamp>,
}

/// Conditions that can be so, and are not none at all: a hold of everything by an oversight would
/// stop all disposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Conditions", into = "Conditions")]
pub struct Predicate(Conditions);

/// Says why nothing can be held so, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAPredicate {
    #[error("a hold needs a condition: give --person, --target, --session, --request, --since or --until")]
    NoCondition,
    #[error("nothing is since {since} and until {until}: exchange them")]
    Backwards { since: Timestamp, until: Timestamp },
}

/// The facts of a recording that holds ask about.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    pub person: &'a Person,
    pub target: &'a TargetId,
    pub session: SessionId,
    /// None where policy let it pass without one.
    pub request: Option<RequestId>,
    pub started: Timestamp,
    /// None while it is live.
    pub ended: Option<Timestamp>,
}

impl Predicate {
    pub fn conditions(&self) -> &Conditions {
        &self.0
    }

    fn matches(&self, facts: &Recorded<'_>) -> bool {
        let Conditions { person, target, session, request, since, until } = &self.0;
        person.as_ref().is_none_or(|person| person == facts.person)
            && target.as_ref().is_none_or(|target| target.matches(facts.target))
            && session.is_none_or(|session| session == facts.session)
            && request.is_none_or(|request| facts.request == Some(request))
            && since.is_none_or(|since| facts.ended.is_none_or(|ended| ended >= since))
            && until.is_none_or(|until| facts.started <= until)
    }
}

impl TryFrom<Conditions> for Predicate {
    type Error = NotAPredicate;
    fn try_from(on: Conditions) -> Result<Self, NotAPredicate> {
        if on == Conditions::default() {
            return Err(NotAPredicate::NoCondition);
        }
        match (on.since, on.until) {
            (Some(since), Some(until)) if since > until => Err(NotAPredicate::Backwards { since, until }),
            _ => Ok(Self(on)),
        }
    }
}

impl From<Predicate> for Conditions {
    fn from(predicate: Predicate) -> Conditions {
        predicate.0
    }
}

/// A target's id in which `*` stands for any characters, or none: `pay-*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

impl Pattern {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Compares with a target's id, in time linear in both: each piece between stars is taken where it
    /// stands first, and no earlier choice is ever taken back.
    pub fn matches(&self, target: &TargetId) -> bool {
        let Some((head, rest)) = self.0.split_once('*') else { return self.0 == target.as_str() };
        let (pieces, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle = target.as_str().strip_prefix(head).and_then(|left| left.strip_suffix(tail));
        let take = |left, piece| str::split_once(left, piece).map(|(_, left)| left);
        middle.is_some_and(|left| pieces.split('*').try_fold(left, take).is_some())
    }
}

impl FromStr for Pattern {
    type Err = NotAWord;
    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | ':' | '*');
        if !text.is_empty() && text.len() <= MAX_PATTERN && text.chars().all(good) {
            return Ok(Self(text.to_owned()));
        }
        let rule = "write a target's name, with * for any characters: pay-*; at most 128 of a-z 0-9 . _ - : *";
        Err(NotAWord { what: "pattern of targets", given: text.chars().take(48).collect(), rule })
    }
}

impl TryFrom<String> for Pattern {
    type Error = NotAWord;
    fn try_from(text: String) -> Result<Self, NotAWord> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A ULID: sorts by time of placing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HoldId(ulid::Ulid);

impl HoldId {
    pub fn new(now: Timestamp) -> Self {
        let millis = u64::try_from(now.micros() / 1000).unwrap_or(0);
        Self(ulid::Ulid::from_parts(millis, rand::random::<u128>()))
    }
}

impl FromStr for HoldId {
    type Err = NotAWord;
    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let refuse =
            |_| NotAWord { what: "hold id", given: text.chars().take(48).collect(), rule: "26 characters; see `countersign holds`" };
        ulid::Ulid::from_string(text).map(Self).map_err(refuse)
    }
}

impl TryFrom<String> for HoldId {
    type Error = NotAWord;
    fn try_from(text: String) -> Result<Self, NotAWord> {
        text.parse()
    }
}

impl From<HoldId> for String {
    fn from(id: HoldId) -> String {
        id.to_string()
    }
}

impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl fmt::Debug for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// As long as a target's id may be.
const MAX_PATTERN: usize = 128;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::access::canonical;

    fn day(n: i64) -> Timestamp {
        Timestamp::from_micros(1_777_593_600_000_000).plus(Duration::from_secs(86_400 * u64::try_from(n).unwrap()))
    }

    fn hold(on: Conditions) -> Hold {
        let on = Predicate::try_from(on).unwrap();
        let (by, reason) = ("erin".parse().unwrap(), "letter of 3 May".into());
        Hold { id: HoldId::new(day(9)), case: Some("LIT-14".into()), on, reason, attached: None, by, placed: day(9), released: None }
    }

    /// Every condition given: the recording it describes is covered, and each fact changed alone frees it.
    #[test]
    fn everything_given_has_to_be_so() {
        let (alice, bob): (Person, Person) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let (pay, web): (TargetId, TargetId) = ("pay-7".parse().unwrap(), "web-1".parse().unwrap());
        let (session, request) = (SessionId::new(day(2)), "K7Q3FM".parse().unwrap());
        let conditions = Conditions {
            person: Some(alice.clone()),
            target: Some("pay-*".parse().unwrap()),
            session: Some(session),
            request: Some(request),
            since: Some(day(1)),
            until: Some(day(3)),
        };
        let mut hold = hold(conditions);
        let facts = Recorded { person: &alice, target: &pay, session, request: Some(request), started: day(2), ended: Some(day(2)) };
        for covered in [
            facts,
            Recorded { ended: None, ..facts },
            Recorded { started: day(0), ended: Some(day(1)), ..facts },
            Recorded { started: day(3), ended: Some(day(8)), ..facts },
            Recorded { started: day(0), ended: Some(day(8)), ..facts },
        ] {
            assert!(hold.covers(&covered), "{covered:?}");
        }
        for free in [
            Recorded { person: &bob, ..facts },
            Recorded { target: &web, ..facts },
            Recorded { session: SessionId::new(day(2)), ..facts },
            Recorded { request: None, ..facts },
            Recorded { started: day(0), ended: Some(day(0)), ..facts },
            Recorded { started: day(4), ended: None, ..facts },
        ] {
            assert!(!hold.covers(&free), "{free:?}");
        }
        let bytes = canonical::encode(&hold);
        assert_eq!(canonical::decode::<Hold>(&bytes).unwrap(), hold);
        hold.released = Some(Release { by: bob.clone(), at: day(10), reason: "settled".into() });
        assert!(!hold.covers(&facts));
        assert_eq!(canonical::decode::<Hold>(&canonical::encode(&hold)).unwrap(), hold);
    }

    #[test]
    fn a_hold_of_nothing_in_particular_is_refused_wherever_it_comes_from() {
        assert_eq!(Predicate::try_from(Conditions::default()), Err(NotAPredicate::NoCondition));
        let backwards = Conditions { since: Some(day(2)), until: Some(day(1)), ..Conditions::default() };
        assert!(Predicate::try_from(backwards).is_err());
        let mut json = serde_json::to_value(hold(Conditions { until: Some(day(1)), ..Conditions::default() })).unwrap();
        assert!(serde_json::from_value::<Hold>(json.clone()).is_ok());
        json["on"]["until"] = serde_json::Value::Null;
        assert!(serde_json::from_value::<Hold>(json).is_err());
    }

    /// What a pattern means, written as plainly as possible and in exponential time.
    fn plainly(pattern: &str, text: &str) -> bool {
        match pattern.chars().next() {
            None => text.is_empty(),
            Some('*') => (0..=text.len()).any(|skip| plainly(&pattern[1..], &text[skip..])),
            Some(c) => text.starts_with(c) && plainly(&pattern[1..], &text[1..]),
        }
    }

    #[test]
    fn a_hostile_pattern_costs_nothing() {
        let pattern: Pattern = "a*".repeat(64).parse().unwrap();
        assert!(!pattern.matches(&format!("{}b", "a".repeat(63)).parse().unwrap()));
        for wrong in ["", "pay?", "Pay-*", "pay-[1]", "a b", &"*".repeat(129)] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_means_what_it_says(pattern in "[ab*]{1,8}", text in "[ab]{1,10}") {
            let found = pattern.parse::<Pattern>().unwrap().matches(&text.parse().unwrap());
            prop_assert_eq!(found, plainly(&pattern, &text));
        }

        #[test]
        fn any_text_is_a_pattern_or_an_error(text in "\\PC*", target in "[a-z0-9:._-]{1,128}") {
            if let (Ok(pattern), Ok(target)) = (text.parse::<Pattern>(), target.parse()) {
                pattern.matches(&target);
            }
        }
    }
}
