//! What people type for places, times and sessions, parsed once at the edge.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{Login, RequestId};
use crate::retention::hold::Pattern;
use crate::time::{Timestamp, parse_duration, short};

/// `LOGIN@TARGET`, split at its last `@`, `=` or `%` (**D names**); the target is only looked up later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination {
    /// `None`: the target's default, else the person's own name.
    pub login: Option<Login>,
    pub target: String,
}

impl FromStr for Destination {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (login, target) = match text.rsplit_once(['@', '=', '%']) {
            Some((login, target)) => (Some(login.parse().map_err(|bad: crate::id::NotAWord| bad.to_string())?), target),
            None => (None, text),
        };
        if target.is_empty() || target.len() > 255 {
            return Err("write LOGIN@TARGET, such as deploy@web-1".into());
        }
        Ok(Self { login, target: target.to_owned() })
    }
}

impl Destination {
    /// `deploy@-`: the targets are a list on standard input.
    pub fn is_list(&self) -> bool {
        self.target == "-"
    }

    /// `deploy@web-*`: every own target whose name fits.
    pub fn pattern(&self) -> Option<Pattern> {
        self.target.to_ascii_lowercase().parse().ok().filter(|_| self.target.contains('*'))
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.login {
            Some(login) => write!(f, "{login}@{}", self.target),
            None => f.write_str(&self.target),
        }
    }
}

impl TryFrom<String> for Destination {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> String {
        destination.to_string()
    }
}

/// A point in time: `2026-05-01` (its beginning, UTC) or RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub Timestamp);

impl FromStr for Moment {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let day = text.parse::<chrono::NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0)).map(|day| day.and_utc());
        let moment = day.or_else(|| chrono::DateTime::parse_from_rfc3339(text).ok().map(|moment| moment.to_utc()));
        let moment = moment.ok_or_else(|| format!("{text:?} is no day and no time: write 2026-05-01 or 2026-05-01T14:00:00Z"))?;
        Ok(Self(Timestamp::from_micros(moment.timestamp_micros())))
    }
}

/// A duration as people write it: `30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Self)
    }
}

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        match span.0.subsec_nanos() {
            0 => short(span.0),
            _ => humantime::format_duration(span.0).to_string(),
        }
    }
}

/// How far back: a day or a time, or so long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    At(Moment),
    Ago(Span),
}

impl FromStr for Since {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |_| format!("{text:?} is no day and no span: write 2026-05-01 or 90d");
        text.parse().map(Since::At).or_else(|_: String| text.parse().map(Since::Ago)).map_err(|why: String| bad(why))
    }
}

impl Since {
    pub fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Since::At(moment) => moment.0,
            Since::Ago(span) => now.minus(span.0),
        }
    }
}

/// When a request's window opens: the next time it is `22:00` UTC, or a whole RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Start {
    Clock(chrono::NaiveTime),
    At(chrono::DateTime<chrono::Utc>),
}

impl FromStr for Start {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = chrono::NaiveTime::parse_from_str(text.trim_end_matches('Z'), "%H:%M") {
            return Ok(Self::Clock(time));
        }
        chrono::DateTime::parse_from_rfc3339(text)
            .map(|at| Self::At(at.to_utc()))
            .map_err(|_| format!("{text:?} is not a time: write 22:00 (UTC) or 2026-11-21T22:00:00Z"))
    }
}

impl Start {
    /// The moment that is meant, given when it was said.
    pub fn after(&self, now: crate::time::Timestamp) -> crate::time::Timestamp {
        let at = match self {
            Start::At(at) => *at,
            Start::Clock(time) => {
                let today = now.utc().date_naive().and_time(*time).and_utc();
                if today < now.utc() { today + chrono::Days::new(1) } else { today }
            }
        };
        crate::time::Timestamp::from_micros(at.timestamp_micros())
    }
}

impl TryFrom<String> for Start {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Start> for String {
    fn from(start: Start) -> String {
        match start {
            Start::Clock(time) => time.format("%H:%MZ").to_string(),
            Start::At(at) => at.to_rfc3339(),
        }
    }
}

/// What stands behind `approve`: requests, and behind each the code that its requester reads out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Word {
    Request(RequestId),
    /// As it was typed: `BRAVO-41`.
    Code(String),
}

impl FromStr for Word {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('-') && text.len() <= 16 {
            return Ok(Self::Code(text.to_owned()));
        }
        text.parse().map(Self::Request).map_err(|bad: crate::id::NotAWord| bad.to_string())
    }
}

impl TryFrom<String> for Word {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Word> for String {
    fn from(word: Word) -> String {
        match word {
            Word::Request(id) => id.to_string(),
            Word::Code(code) => code,
        }
    }
}

/// How people name a session: its id, the beginning of it, its request's id, or `last`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SessionWord {
    Last,
    /// Upper case; at most 26 characters of Crockford's base 32. Six of them may be a request's id.
    Begins(String),
}

impl FromStr for SessionWord {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "last" {
            return Ok(Self::Last);
        }
        let fits = (1..=26).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if fits {
            Ok(Self::Begins(text.to_ascii_uppercase()))
        } else {
            Err("write a session's id or its beginning, a request's id, or last".into())
        }
    }
}

impl std::fmt::Display for SessionWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SessionWord::Last => f.write_str("last"),
            SessionWord::Begins(text) => f.write_str(text),
        }
    }
}

impl TryFrom<String> for SessionWord {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SessionWord> for String {
    fn from(word: SessionWord) -> String {
        word.to_string()
    }
}
