//! What waits for an approver, as a screen that keys act on (pure): a list, a card, and for what is
//! unusual a name to type. What a key decides is the card that is on the screen, and no other.

use super::card::{card, join};
use unicode_width::UnicodeWidthChar;

use super::render::{Listing, Look, Tone, prefixed, visible};
use super::reply::{Card, Listed, State};
use super::text::{Reader, Voice, place, spelled, standing};
use crate::access::decision::Verdict;
use crate::access::request::matching_code;
use crate::id::{Person, RequestId};
use crate::time::Timestamp;

/// Lines that are not rows of the list.
const AROUND: usize = 3;
/// Longest name that is typed.
const MAX_TYPED: usize = 128;

/// A key, as far as the screen knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Up,
    Down,
    Enter,
    Escape,
    Erase,
    Interrupt,
    Letter(char),
}

impl Key {
    /// Reads what a terminal sent at once; sequences that are not known here are nothing.
    pub fn read(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            match (first, after) {
                (0x1b, [b'[' | b'O', b'A', ..]) => keys.push(Key::Up),
                (0x1b, [b'[' | b'O', b'B', ..]) => keys.push(Key::Down),
                (0x1b, []) => keys.push(Key::Escape),
                (0x1b, [..]) => {}
                (b'\r' | b'\n', _) => keys.push(Key::Enter),
                (0x03 | 0x04, _) => keys.push(Key::Interrupt),
                (0x7f | 0x08, _) => keys.push(Key::Erase),
                (letter @ 0x20..=0x7e, _) => keys.push(Key::Letter(char::from(*letter))),
                _ => {}
            }
            if *first == 0x1b {
                // `ESC [ … final` and `ESC letter`.
                let intermediate = after.iter().skip(1).take_while(|byte| !(0x40..=0x7e).contains(*byte)).count();
                let taken = if matches!(after.first(), Some(b'[' | b'O')) { intermediate + 2 } else { 1 };
                rest = after.get(taken..).unwrap_or_default();
            }
        }
        keys
    }
}

/// What has to happen because of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    Nothing,
    Leave,
    /// Fetch this request's card.
    Look(RequestId),
    /// Sign this verdict on what this card shows.
    Decide {
        card: Box<Card>,
        verdict: Verdict,
        /// The person wants to say why first.
        with_note: bool,
    },
}

#[derive(Debug)]
enum View {
    List,
    Card(Box<Card>),
    /// The name that agrees to something unusual, as far as it is typed.
    Naming {
        card: Box<Card>,
        name: String,
        typed: String,
    },
}

#[derive(Debug)]
pub struct Inbox {
    me: Person,
    rows: Vec<Listed>,
    /// The row under the cursor, by its id: a list that changes does not move another one under it.
    at: Option<RequestId>,
    view: View,
    /// What happened last.
    said: String,
    /// Whether all of the card has been on the screen.
    whole: bool,
    /// The first line of the card that is on the screen.
    from: usize,
    /// The lines of a card that is higher than the screen, and how many the screen takes.
    pages: Option<(Vec<String>, usize)>,
}

impl Inbox {
    pub fn of(me: Person) -> Self {
        Self { me, rows: Vec::new(), at: None, view: View::List, said: String::new(), whole: true, from: 0, pages: None }
    }

    /// Takes a new list of what waits.
    pub fn listed(&mut self, rows: Vec<Listed>) {
        let index = self.index();
        self.rows = rows.into_iter().filter(|row| row.state == State::Pending).collect();
        if !self.rows.iter().any(|row| Some(row.request) == self.at) {
            self.at = self.rows.get(index.min(self.rows.len().saturating_sub(1))).map(|row| row.request);
        }
        let open = match &self.view {
            View::List => return,
            View::Card(card) | View::Naming { card, .. } => card.request,
        };
        if !self.rows.iter().any(|row| row.request == open) {
            self.said = prefixed(&format!("{open} waits no longer"));
            self.view = View::List;
        }
    }

    /// Shows a card that was looked up.
    pub fn opened(&mut self, card: Box<Card>) {
        self.at = Some(card.request);
        self.said.clear();
        (self.whole, self.from, self.pages) = (false, 0, None);
        self.view = View::Card(card);
    }

    /// Shows the list, and what happened.
    pub fn back(&mut self, said: String) {
        self.said = said;
        self.view = View::List;
    }

    /// Lays the open card out for a screen of this size. What is higher than the screen is read in pages, and
    /// approved once its end was there.
    pub fn sized(&mut self, now: Timestamp, (width, height): (usize, usize)) {
        let (View::Card(shown) | View::Naming { card: shown, .. }) = &self.view else { return };
        let bare = card(shown, &Reader { look: Look::default(), now, voice: Voice::Companion });
        let lines: Vec<String> = bare.lines().flat_map(|line| wrapped(line, width.max(1))).collect();
        let page = height.saturating_sub(AROUND).max(1);
        self.whole |= self.from + page >= lines.len();
        self.pages = (lines.len() > page).then_some((lines, page));
    }

    /// `needs` says what has to be typed to agree to a card; nothing for what is usual.
    pub fn press(&mut self, key: Key, needs: impl Fn(&Card) -> Option<String>) -> Then {
        if key == Key::Interrupt {
            return Then::Leave;
        }
        match &mut self.view {
            View::List => match key {
                Key::Up | Key::Letter('k') => self.step(-1),
                Key::Down | Key::Letter('j') => self.step(1),
                Key::Enter | Key::Letter('l' | ' ') => return self.at.map_or(Then::Nothing, Then::Look),
                Key::Letter('q') => return Then::Leave,
                Key::Escape | Key::Erase | Key::Letter(_) | Key::Interrupt => {}
            },
            View::Card(card) => {
                let mine = card.state == State::Pending && card.asked.contains(&self.me);
                let decide = |card: &Card, verdict, with_note| Then::Decide { card: Box::new(card.clone()), verdict, with_note };
                match key {
                    Key::Letter('a') if mine && self.whole => match needs(card) {
                        None => return decide(card, Verdict::Approve, false),
                        Some(name) => self.view = View::Naming { card: card.clone(), name, typed: String::new() },
                    },
                    Key::Letter('d') if mine => return decide(card, Verdict::Deny, false),
                    Key::Letter('D') if mine => return decide(card, Verdict::Deny, true),
                    Key::Letter(' ' | 'j') | Key::Down => self.page(1),
                    Key::Letter('b' | 'k') | Key::Up => self.page(-1),
                    Key::Escape | Key::Erase | Key::Letter('q' | 'h') => self.back(String::new()),
                    Key::Enter | Key::Letter(_) | Key::Interrupt => {}
                }
            }
            View::Naming { card, name, typed } => match key {
                Key::Enter if typed == name && self.whole => {
                    let card = card.clone();
                    self.view = View::Card(card.clone());
                    return Then::Decide { card, verdict: Verdict::Approve, with_note: false };
                }
                Key::Enter | Key::Escape => {
                    self.said = prefixed("not approved");
                    self.view = View::Card(card.clone());
                }
                Key::Erase => {
                    typed.pop();
                }
                Key::Letter(letter) if typed.len() < MAX_TYPED => typed.push(letter),
                Key::Letter(_) | Key::Up | Key::Down | Key::Interrupt => {}
            },
        }
        Then::Nothing
    }

    fn index(&self) -> usize {
        self.rows.iter().position(|row| Some(row.request) == self.at).unwrap_or(0)
    }

    fn page(&mut self, by: isize) {
        let Some((lines, page)) = &self.pages else { return };
        let by = by.saturating_mul(isize::try_from(*page).unwrap_or(isize::MAX));
        self.from = self.from.saturating_add_signed(by).min(lines.len().saturating_sub(*page));
    }

    /// The card, or the part of it that the screen takes.
    fn body(&self, shown: &Card, reader: &Reader<'_>) -> String {
        match &self.pages {
            Some((lines, page)) => lines.iter().skip(self.from).take(*page).map(|line| format!("{line}\n")).collect(),
            None => card(shown, reader),
        }
    }

    fn step(&mut self, by: isize) {
        let next = self.index().saturating_add_signed(by).min(self.rows.len().saturating_sub(1));
        self.at = self.rows.get(next).map(|row| row.request);
    }

    /// The whole screen, `height` lines at most.
    pub fn picture(&self, reader: &Reader<'_>, height: usize) -> String {
        let (body, keys) = match &self.view {
            View::List => (self.list(reader, height.saturating_sub(AROUND + 3).max(1)), "enter look · j k move · q leave".to_owned()),
            View::Card(shown) if shown.asked.contains(&self.me) && self.whole => {
                let keys = format!(
                    "code {}: compare the code with their screen · a approve · d deny · D deny, say why · esc back",
                    matching_code(&shown.digest)
                );
                (self.body(shown, reader), keys)
            }
            View::Card(shown) if shown.asked.contains(&self.me) => {
                (self.body(shown, reader), "more below: space · d deny · D deny, say why · esc back".to_owned())
            }
            View::Card(shown) => (self.body(shown, reader), format!("asked {} · esc back", join(&shown.asked))),
            View::Naming { card: shown, name, typed } => (self.body(shown, reader), format!("type {name} to approve: {typed}")),
        };
        let said = if self.said.is_empty() { String::new() } else { format!("\n{}", self.said) };
        format!("{body}{said}\n{}", visible(&keys))
    }

    fn list(&self, reader: &Reader<'_>, height: usize) -> String {
        if self.rows.is_empty() {
            return "nothing waits for you\n".into();
        }
        let mut table = Listing::new(&["", "REQUEST", "WHO", "WHERE", "WHAT", "FOR", "WHEN", "WHY"]);
        let first = (self.index() + 1).saturating_sub(height);
        for one in self.rows.iter().skip(first).take(height) {
            let here = Some(one.request) == self.at;
            let span = spelled(&one.duration, one.once, one.starts, one.until, reader.now);
            let cells = [
                if here { ">" } else { " " }.to_owned(),
                one.request.to_string(),
                one.person.to_string(),
                place(one.login.as_str(), &one.targets),
                one.scope.clone(),
                span,
                standing(one, reader.now),
                if one.reason.is_empty() { String::new() } else { format!("\"{}\"", one.reason) },
            ];
            table.row(if here { Tone::Waiting } else { Tone::Plain }, cells);
        }
        let more = self.rows.len().saturating_sub(height);
        let more = if more > 0 { format!("{more} more\n") } else { String::new() };
        table.render(reader.look) + &more
    }
}

/// A line in as many as it takes.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for letter in line.chars() {
        let wide = letter.width().unwrap_or(0);
        if used + wide > width {
            lines.push(String::new());
            used = 0;
        }
        used += wide;
        if let Some(last) = lines.last_mut() {
            last.push(letter);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::request::tests::sample;
    use crate::console::reply::tests::pending;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    fn row(id: &str) -> Listed {
        Listed {
            request: id.parse().unwrap(),
            state: State::Pending,
            person: "alice".parse().unwrap(),
            source: "192.0.2.7/32".into(),
            login: "deploy".parse().unwrap(),
            targets: vec!["web-1".parse().unwrap()],
            scope: "shell".into(),
            duration: "30m".into(),
            once: false,
            starts: None,
            until: None,
            reason: "INC-42".into(),
            made: NOW,
            expires: NOW,
            asked: vec!["bob".parse().unwrap()],
            approvers: vec![],
            waiters: 1,
            left: None,
            break_glass: false,
            unreviewed: false,
            looking: vec![],
        }
    }

    fn shown() -> Box<Card> {
        Box::new(pending(&sample(), &["bob"]))
    }

    fn usual(_: &Card) -> Option<String> {
        None
    }

    fn named(_: &Card) -> Option<String> {
        Some("web-1".into())
    }

    fn inbox() -> Inbox {
        let mut inbox = Inbox::of("bob".parse().unwrap());
        inbox.listed(vec![row("AAAAAA"), row("BBBBBB"), row("K7Q3FM")]);
        inbox
    }

    fn picture(inbox: &Inbox) -> String {
        inbox.picture(&Reader { look: Look::default(), now: NOW, voice: Voice::Companion }, 40)
    }

    #[test]
    fn a_list_that_changes_moves_nothing_under_the_cursor() {
        let mut inbox = inbox();
        inbox.press(Key::Down, usual);
        assert_eq!(inbox.press(Key::Enter, usual), Then::Look("BBBBBB".parse().unwrap()));
        inbox.listed(vec![row("CCCCCC"), row("DDDDDD"), row("BBBBBB")]);
        assert_eq!(inbox.press(Key::Enter, usual), Then::Look("BBBBBB".parse().unwrap()));
        inbox.listed(vec![row("CCCCCC")]);
        assert_eq!(inbox.press(Key::Enter, usual), Then::Look("CCCCCC".parse().unwrap()));
        inbox.listed(vec![]);
        assert_eq!(inbox.press(Key::Enter, usual), Then::Nothing);
    }

    #[test]
    fn one_key_decides_what_is_on_the_screen() {
        let mut inbox = inbox();
        assert_eq!(inbox.press(Key::Letter('a'), usual), Then::Nothing, "nothing is decided from the list");
        assert_eq!(inbox.press(Key::Letter('d'), usual), Then::Nothing);
        inbox.opened(shown());
        inbox.sized(NOW, (80, 60));
        assert!(picture(&inbox).contains(&shown().code), "{}", picture(&inbox));
        let decided = inbox.press(Key::Letter('a'), usual);
        assert_eq!(decided, Then::Decide { card: shown(), verdict: Verdict::Approve, with_note: false });
    }

    #[test]
    fn what_is_unusual_is_agreed_to_by_name() {
        let mut inbox = inbox();
        inbox.opened(shown());
        inbox.sized(NOW, (80, 60));
        assert_eq!(inbox.press(Key::Letter('a'), named), Then::Nothing);
        assert_eq!(inbox.press(Key::Letter('y'), named), Then::Nothing);
        assert_eq!(inbox.press(Key::Enter, named), Then::Nothing);
        assert!(picture(&inbox).contains("not approved"));
        inbox.press(Key::Letter('a'), named);
        for letter in "webb".chars() {
            inbox.press(Key::Letter(letter), named);
        }
        inbox.press(Key::Erase, named);
        for letter in "-1".chars() {
            inbox.press(Key::Letter(letter), named);
        }
        assert!(matches!(inbox.press(Key::Enter, named), Then::Decide { verdict: Verdict::Approve, .. }));
        inbox.opened(shown());
        assert!(matches!(inbox.press(Key::Letter('d'), named), Then::Decide { verdict: Verdict::Deny, .. }), "a denial is always one key");
    }

    #[test]
    fn a_card_is_approved_once_its_end_was_on_the_screen() {
        let mut inbox = inbox();
        inbox.opened(shown());
        inbox.sized(NOW, (80, 12));
        assert_eq!(inbox.press(Key::Letter('a'), usual), Then::Nothing);
        assert!(picture(&inbox).contains("alice") && !picture(&inbox).contains("digest"), "{}", picture(&inbox));
        for _ in 0..3 {
            inbox.press(Key::Letter(' '), usual);
            inbox.sized(NOW, (80, 12));
        }
        assert!(picture(&inbox).contains("digest") && picture(&inbox).contains(&shown().code), "{}", picture(&inbox));
        assert!(matches!(inbox.press(Key::Letter('a'), usual), Then::Decide { verdict: Verdict::Approve, .. }));
        inbox.opened(shown());
        inbox.sized(NOW, (80, 12));
        assert!(matches!(inbox.press(Key::Letter('d'), usual), Then::Decide { verdict: Verdict::Deny, .. }));
    }

    #[test]
    fn who_is_not_asked_decides_nothing() {
        let mut inbox = Inbox::of("carol".parse().unwrap());
        inbox.opened(shown());
        assert_eq!(inbox.press(Key::Letter('a'), usual), Then::Nothing);
        assert_eq!(inbox.press(Key::Letter('d'), usual), Then::Nothing);
    }

    #[test]
    fn a_card_that_waits_no_longer_goes_from_the_screen() {
        let mut inbox = inbox();
        inbox.opened(shown());
        inbox.listed(vec![row("AAAAAA")]);
        assert!(picture(&inbox).contains("K7Q3FM waits no longer"));
        assert_eq!(inbox.press(Key::Letter('a'), usual), Then::Nothing);
    }

    #[test]
    fn keys_of_terminals() {
        assert_eq!(Key::read(b"\x1b[A\x1b[Bj\x1bOB"), [Key::Up, Key::Down, Key::Letter('j'), Key::Down]);
        assert_eq!(Key::read(b"\x1b"), [Key::Escape]);
        assert_eq!(Key::read(b"\x1b[15~\x1b[1;5Aa\x03"), [Key::Letter('a'), Key::Interrupt]);
        assert_eq!(Key::read(b"\xc3\xa9\x7f\r"), [Key::Erase, Key::Enter]);
        assert_eq!(Key::read(b"\x1b["), []);
    }
}
