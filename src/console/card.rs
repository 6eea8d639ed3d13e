//! A request as its approver reads it: from the bytes that are signed, never from columns.

use super::render::Tone;
use super::render::{counted, visible, when};
use super::reply::{Card, State};
use super::text::Reader;
use crate::access::decision::{GrantedTerms, Verdict};
use crate::access::request::{ANY_SOURCE, RequestDocument, matching_code};
use crate::causes::with_causes;
use crate::id::Person;
use crate::time::{Timestamp, short};

/// Targets named one by one; beyond, the rest is counted and `--json` lists all.
const TARGETS_SHOWN: usize = 20;

/// Renders a card; bytes that are not what the card says are shown as nothing but that.
pub fn card(card: &Card, reader: &Reader<'_>) -> String {
    let document = match card.read() {
        Ok(document) => document,
        Err(bad) => return reader.look.tone(Tone::Bad, &visible(&format!("{}: {}", card.request, with_causes(&bad)))) + "\n",
    };
    let mut out = heading(card, reader);
    for (head, text) in asked(&document, reader.now) {
        out.push_str(&format!("  {head:<9} {}\n", visible(&text)));
    }
    for (head, text) in standing(card, reader.now) {
        out.push_str(&format!("  {head:<9} {}\n", visible(&text)));
    }
    if !card.unusual.is_empty() {
        out.push_str(&format!("  {:<9} {}\n", "unusual", reader.look.tone(Tone::Bad, &visible(&card.unusual.join(" · ")))));
    }
    out.push_str(&format!("  {:<9} {}\n", "digest", card.digest));
    if card.state.is_open() {
        out.push_str(&format!("  {:<9} {}\n", "approving", visible(&opens(&document))));
    }
    out
}

fn heading(card: &Card, reader: &Reader<'_>) -> String {
    let tone = tone(&card.state);
    let code = match card.state {
        State::NeedsReason => "its bytes are fixed, and somebody is asked, once a reason is given".to_owned(),
        _ => format!("code {}", matching_code(&card.digest)),
    };
    format!("{}  {}  {}\n", reader.look.bold(card.request.as_str()), reader.look.tone(tone, card.state.word()), reader.look.bold(&code))
}

pub(super) fn tone(state: &State) -> Tone {
    match state {
        State::NeedsReason | State::Pending => Tone::Waiting,
        State::Approved => Tone::Good,
        State::Denied { .. } => Tone::Bad,
        State::Withdrawn | State::Expired | State::Void => Tone::Past,
    }
}

/// What the bytes say.
fn asked(document: &RequestDocument, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("who", format!("{}, from {}", document.person, if document.source == ANY_SOURCE { "any address" } else { &document.source })),
        ("key", document.key.clone()),
        ("where", targets(document)),
        ("as", document.login.to_string()),
        ("what", document.scope.words()),
    ];
    rows.extend(document.commands.iter().map(|command| ("command", command.clone())));
    let input = if document.stdin { "reaches it" } else { "closed" };
    if !document.commands.is_empty() {
        rows.push(("input", input.to_owned()));
    }
    if !document.env.is_empty() {
        rows.push(("passes on", document.env.join(" ")));
    }
    match &document.extends {
        None => rows.push(("how long", how_long(document.for_us, document.once))),
        Some(extends) => {
            if document.not_after() > extends.ends() {
                rows.push(("until then", format!("what runs goes on past its end, to {} at most", when(document.not_after(), now))));
            }
            let running = counted(now.since(extends.since()));
            rows.push(("extends", format!("{}, running for {running}, ends {}", extends.request, when(extends.ends(), now))));
            let more = short(std::time::Duration::from_micros(document.for_us));
            rows.push(("how long", format!("{more} more, to {}", when(extends.until(), now))));
        }
    }
    if document.break_glass {
        rows.push(("opened", "first, by break-glass: nobody had agreed; somebody else reviews it".into()));
    }
    if let Some(start) = document.start_us {
        let start = Timestamp::from_micros(i64::try_from(start).unwrap_or(i64::MAX));
        rows.push(("not before", when(start, now)));
    }
    rows.push(("why", if document.reason.is_empty() { "no reason given".into() } else { document.reason.clone() }));
    for needs in &document.needs {
        let message = needs.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        rows.push(("needs", format!("{} ({}{message})", needs.workflow, needs.policy)));
    }
    rows.push(("made", when(document.made(), now)));
    rows.push(("decide by", when(document.not_after(), now)));
    rows.push(("bastion", document.bastion.clone()));
    rows
}

/// Where it stands: beside the bytes, so never mixed with them.
fn standing(card: &Card, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    for track in &card.tracks {
        let have = if track.have.is_empty() { "nobody yet".to_owned() } else { join(&track.have) };
        let stage = if track.stages > 1 { format!("stage {} of {}, ", track.stage, track.stages) } else { String::new() };
        let who = track.approvers.join(", ");
        let text = format!("{stage}{} of {who} for {}, level {}: {have}", track.quorum, track.workflow, track.level.as_str());
        rows.push(("asks", text));
    }
    if card.state.is_open() && !card.asked.is_empty() {
        rows.push(("asked", join(&card.asked)));
    }
    if card.state.is_open() {
        rows.extend(card.turns.iter().map(|words| ("now", words.clone())));
        rows.extend(card.prompts.iter().map(|prompt| ("mind", prompt.clone())));
    }
    for said in card.decisions.iter().filter(|said| said.verdict == Verdict::Approve) {
        let how = match &said.key {
            Some(key) => format!("signed ({}) with {key}", said.level.as_str()),
            None => "unsigned, said on a connection".to_owned(),
        };
        let note = if said.note.is_empty() { String::new() } else { format!(": \"{}\"", said.note) };
        rows.push(("said yes", format!("{} {}, {how}{note}", said.person, when(said.at, now))));
    }
    match &card.state {
        State::Approved if card.approvers.is_empty() => {}
        State::Approved => {
            let terms = card.granted.as_ref().map(|terms| format!(", {}", granted(terms, now))).unwrap_or_default();
            rows.push(("approved", format!("by {}{terms}", join(&card.approvers))));
        }
        State::Denied { by, note } => rows.push(("denied", if note.is_empty() { format!("by {by}") } else { format!("by {by}: {note}") })),
        State::NeedsReason | State::Pending | State::Withdrawn | State::Expired | State::Void => {}
    }
    if card.state.is_open() && !card.looking.is_empty() {
        rows.push(("looking", join(&card.looking)));
    }
    if let Some(left) = card.left.filter(|_| card.state.is_open()) {
        rows.push(("client", format!("left {} ago", counted(now.since(left)))));
    } else if card.waiters > 0 {
        rows.push(("client", "waits".into()));
    }
    rows
}

fn targets(document: &RequestDocument) -> String {
    let mut names: Vec<String> = document.targets.iter().take(TARGETS_SHOWN).map(|target| target.id.to_string()).collect();
    let more = document.targets.len().saturating_sub(TARGETS_SHOWN);
    if more > 0 {
        names.push(format!("and {more} more ({} in all; --json lists them)", document.targets.len()));
    }
    names.join(", ")
}

pub(super) fn how_long(for_us: u64, once: bool) -> String {
    let span = short(std::time::Duration::from_micros(for_us));
    if once { format!("{span} from first use, one session") } else { format!("{span} from first use") }
}

/// `shell (with exec and file transfer), 15m from first use, one session, not before in 2 h (22:00Z)`
pub fn granted(terms: &GrantedTerms, now: Timestamp) -> String {
    format!("{}, {}", reach(terms), span(terms, now))
}

/// `one exact command (uptime)`
fn reach(terms: &GrantedTerms) -> String {
    let commands = if terms.commands.is_empty() { String::new() } else { format!(" ({})", terms.commands.join("; ")) };
    format!("{}{commands}", terms.scope.words())
}

/// `15m from first use, one session, not before in 2 h (22:00Z)`
pub(super) fn span(terms: &GrantedTerms, now: Timestamp) -> String {
    let mut text = how_long(terms.for_us, terms.once);
    if let Some(starts) = terms.starts().filter(|starts| *starts > now) {
        text.push_str(&format!(", not before {}", when(starts, now)));
    }
    if let Some(ends) = terms.ends() {
        text.push_str(&format!(", over by {}", when(ends, now)));
    }
    text
}

/// How what was granted is less than what was asked, and what its approvers say of that; nothing where it is not.
/// `15m of 30m, one session, only file transfer (bob: "look only")`
pub fn less(asked: &GrantedTerms, granted: &GrantedTerms, notes: &[(&Person, &str)], now: Timestamp) -> Option<String> {
    let time = |micros| short(std::time::Duration::from_micros(micros));
    let mut parts = Vec::new();
    if granted.for_us < asked.for_us {
        parts.push(format!("{} of {}", time(granted.for_us), time(asked.for_us)));
    }
    if granted.once && !asked.once {
        parts.push("one session".to_owned());
    }
    if granted.scope != asked.scope {
        parts.push(format!("only {}", reach(granted)));
    }
    if let Some(starts) = granted.starts().filter(|starts| granted.from_us > asked.from_us && *starts > now) {
        parts.push(format!("not before {}", when(starts, now)));
    }
    if let Some(ends) = granted.ends() {
        parts.push(format!("over by {}", when(ends, now)));
    }
    let notes: Vec<String> = notes.iter().filter(|(_, note)| !note.is_empty()).map(|(who, note)| format!("{who}: \"{note}\"")).collect();
    let why = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
    (!parts.is_empty()).then(|| format!("{}{why}", parts.join(", ")))
}

/// What a yes does, in one sentence.
fn opens(document: &RequestDocument) -> String {
    if let Some(extends) = &document.extends {
        let more = short(std::time::Duration::from_micros(document.for_us));
        return format!("lets what {} has open on {} go on for {more} more; it opens nothing", document.person, extends.request);
    }
    let count = match document.targets.len() {
        1 => targets(document),
        n => format!("{n} targets"),
    };
    format!(
        "lets {} open {} as {} on {count} for {}; each session is recorded",
        document.person,
        document.scope.words(),
        document.login,
        how_long(document.for_us, document.once)
    )
}

pub(super) fn join<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
