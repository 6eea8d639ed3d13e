//! What a running session shows, for those who watch it: from the memory of the process that records
//! it, never from its spool, which nobody decrypts for a watcher.
//!
//! A feed keeps a terminal's last picture and what came after it, or the last lines of anything else,
//! in bounded memory. The session only pushes and never waits: a watcher who reads too slowly misses
//! what fell out and is told so, a late one begins with the picture. Shown is what is recorded, after it
//! was written; input is counted and never shown.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;

use super::screen;
use super::visible::visible;
use super::withhold::weight;
use crate::access::ruling::RecordLevel;
use crate::id::Person;
use crate::time::boottime;
use crate::transcript::{Event, Header, Outcome, Stream};

/// Bytes of output kept behind the picture; beyond, the oldest are gone.
const KEPT: usize = 256 * 1024;
/// From here on the older half is drawn into the picture.
const FOLD: usize = 64 * 1024;
/// A flood is drawn no more often than this, beside the relay: its last screenful is what counts.
const FOLD_EVERY: Duration = Duration::from_millis(250);
/// Lines kept of what is no terminal.
const LINES: usize = 64;
/// Bytes in one direction within this long are one line.
const LINE_LASTS: Duration = Duration::from_secs(1);
/// Characters of output shown in a line.
const PREVIEW: usize = 120;
/// Watchers of one session.
const WATCHERS: usize = 8;

/// Something that a watcher is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// The terminal as it is: start anew with it.
    Picture {
        cols: u32,
        rows: u32,
        bytes: Vec<u8>,
    },
    Output(Bytes),
    Resize {
        cols: u32,
        rows: u32,
    },
    /// Of what is no terminal: an event, as a line.
    Line {
        at: Duration,
        text: String,
    },
    /// So much fell out before it was read; of a terminal a picture follows.
    Skipped(u64),
    Ended(String),
}

/// How much went through a running session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    pub input: u64,
    pub output: u64,
    /// Since anything went through.
    pub idle: Duration,
    pub watchers: Vec<Person>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    #[error("is not running here")]
    NotRunning,
    #[error("is watched by {WATCHERS} already")]
    Crowded,
}

#[derive(Debug)]
pub(super) struct Feed {
    started: Duration,
    shows: Shows,
    input: AtomicU64,
    output: AtomicU64,
    /// Microseconds after `started`.
    last: AtomicU64,
    state: Mutex<State>,
    /// The number of the next entry.
    news: watch::Sender<u64>,
    watchers: watch::Sender<Vec<Person>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    Screen,
    /// Lines, with the beginning of the output.
    Lines,
    /// Lines that only count: nothing of the output is recorded, or it is no text.
    Counts,
}

#[derive(Debug)]
struct State {
    next: u64,
    entries: VecDeque<(u64, Sight)>,
    weight: usize,
    picture: Picture,
    folding: bool,
    folded: Option<Duration>,
    line: Option<Growing>,
    ended: bool,
}

/// A terminal up to the first entry.
#[derive(Debug, Clone)]
struct Picture {
    cols: u32,
    rows: u32,
    /// What brings an emulator of that size there.
    dump: String,
    /// The beginning of a character that was cut.
    cut: Vec<u8>,
}

/// A line that more is counted into for a moment.
#[derive(Debug)]
struct Growing {
    at: Duration,
    stream: Stream,
    bytes: u64,
    preview: Vec<u8>,
}

impl Feed {
    pub(super) fn new(header: &Header) -> Arc<Self> {
        let kept = header.record >= RecordLevel::Output;
        let shows = match (header.is_terminal(), kept, header.kind.as_str()) {
            (true, true, _) => Shows::Screen,
            (false, true, "exec") => Shows::Lines,
            (_, _, _) => Shows::Counts,
        };
        let (cols, rows) = header.terminal.as_ref().map_or((80, 24), |(cols, rows, _)| (*cols, *rows));
        let state = State {
            next: 0,
            entries: VecDeque::new(),
            weight: 0,
            picture: Picture { cols, rows, dump: String::new(), cut: Vec::new() },
            folding: false,
            folded: None,
            line: None,
            ended: false,
        };
        Arc::new(Self {
            started: boottime(),
            shows,
            input: AtomicU64::new(0),
            output: AtomicU64::new(0),
            last: AtomicU64::new(0),
            state: Mutex::new(state),
            news: watch::Sender::new(0),
            watchers: watch::Sender::new(Vec::new()),
        })
    }

    /// Shows what has been written; never waits for a watcher.
    pub(super) fn show(self: &Arc<Self>, events: Vec<Event>) {
        let now = boottime().saturating_sub(self.started);
        let mut state = lock(&self.state);
        for event in events {
            if let Event::Bytes { stream, bytes } = &event {
                let counter = if *stream == Stream::Input { &self.input } else { &self.output };
                counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                self.last.store(u64::try_from(now.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
            match self.shows {
                Shows::Screen => state.draw(event),
                Shows::Lines | Shows::Counts => state.write(event, now, self.shows == Shows::Lines),
            }
        }
        let folds = self.shows == Shows::Screen
            && state.weight > FOLD
            && !state.folding
            && state.folded.is_none_or(|last| now >= last + FOLD_EVERY);
        state.folding |= folds;
        self.tell(state);
        if folds {
            let feed = Arc::clone(self);
            // An emulator takes milliseconds for what the relay passes on in none.
            tokio::task::spawn_blocking(move || feed.fold());
        }
    }

    pub(super) fn end(&self, outcome: &str) {
        let mut state = lock(&self.state);
        if !std::mem::replace(&mut state.ended, true) {
            state.close_line();
            state.push(Sight::Ended(outcome.to_owned()));
        }
        self.tell(state);
    }

    fn tell(&self, state: MutexGuard<'_, State>) {
        let next = state.next;
        drop(state);
        self.news.send_if_modified(|seen| std::mem::replace(seen, next) != next);
    }

    /// Draws the older entries into the picture.
    fn fold(&self) {
        let mut state = lock(&self.state);
        let (mut weight, mut through) = (state.weight, None);
        for (number, sight) in &state.entries {
            if weight <= FOLD / 2 {
                break;
            }
            weight = weight.saturating_sub(heavy(sight));
            through = Some(*number);
        }
        let Some(through) = through else {
            state.folding = false;
            return;
        };
        let older: Vec<Sight> = state.entries.iter().take_while(|(number, _)| *number <= through).map(|(_, sight)| sight.clone()).collect();
        let picture = state.picture.clone();
        drop(state);
        let drawn = picture.after(&older);
        let mut state = lock(&self.state);
        while state.entries.front().is_some_and(|(number, _)| *number <= through) {
            if let Some((_, sight)) = state.entries.pop_front() {
                state.weight = state.weight.saturating_sub(heavy(&sight));
            }
        }
        // What fell out meanwhile lay behind these: the picture continues with what is left.
        state.picture = drawn;
        state.folding = false;
        state.folded = Some(boottime().saturating_sub(self.started));
    }

    pub(super) fn activity(&self) -> Activity {
        let last = Duration::from_micros(self.last.load(Ordering::Relaxed));
        Activity {
            input: self.input.load(Ordering::Relaxed),
            output: self.output.load(Ordering::Relaxed),
            idle: boottime().saturating_sub(self.started).saturating_sub(last),
            watchers: self.watchers.borrow().clone(),
        }
    }

    /// Who watches openly, as it changes.
    pub(super) fn watchers(&self) -> watch::Receiver<Vec<Person>> {
        self.watchers.subscribe()
    }

    /// Begins to watch; `openly`, the session is told the name.
    pub(super) fn watch(self: &Arc<Self>, openly: Option<Person>) -> Result<Watcher, WatchError> {
        if lock(&self.state).ended {
            return Err(WatchError::NotRunning);
        }
        if self.news.receiver_count() >= WATCHERS {
            return Err(WatchError::Crowded);
        }
        let watcher = Watcher { feed: Arc::clone(self), next: None, news: self.news.subscribe(), openly, over: false };
        if let Some(name) = &watcher.openly {
            self.watchers.send_modify(|all| all.push(name.clone()));
        }
        Ok(watcher)
    }

    /// What is there for somebody who has seen everything before `next`.
    fn since(&self, next: Option<u64>) -> (Vec<Sight>, u64) {
        let now = boottime().saturating_sub(self.started);
        let mut state = lock(&self.state);
        if state.line.as_ref().is_some_and(|line| now >= line.at + LINE_LASTS) {
            state.close_line();
        }
        let first = state.entries.front().map_or(state.next, |(number, _)| *number);
        let mut sights = Vec::new();
        let missed = next.map_or(0, |next| first.saturating_sub(next));
        if missed > 0 {
            sights.push(Sight::Skipped(missed));
        }
        if self.shows == Shows::Screen && (missed > 0 || next.is_none()) {
            sights.push(state.picture.sight());
        }
        let from = next.unwrap_or(0);
        sights.extend(state.entries.iter().skip_while(|(number, _)| *number < from).map(|(_, sight)| sight.clone()));
        (sights, state.next)
    }
}

impl State {
    fn push(&mut self, sight: Sight) {
        self.weight += heavy(&sight);
        self.entries.push_back((self.next, sight));
        self.next += 1;
        while self.weight > KEPT || (self.entries.len() > LINES && matches!(self.entries.front(), Some((_, Sight::Line { .. })))) {
            let Some((_, sight)) = self.entries.pop_front() else { return };
            self.weight = self.weight.saturating_sub(heavy(&sight));
            if let Sight::Resize { cols, rows } = sight {
                (self.picture.cols, self.picture.rows) = (cols, rows);
            }
        }
    }

    /// Of a terminal: its output and its size.
    fn draw(&mut self, event: Event) {
        match event {
            Event::Bytes { stream: Stream::Output | Stream::Error, bytes } => self.push(Sight::Output(bytes)),
            Event::Resize { cols, rows } => self.push(Sight::Resize { cols, rows }),
            Event::Bytes { stream: Stream::Input, .. }
            | Event::Withheld { .. }
            | Event::Eof { .. }
            | Event::Signal { .. }
            | Event::Environment { .. }
            | Event::Marker { .. }
            | Event::Exit(_) => {}
        }
    }

    /// Of anything else: a line for each event.
    fn write(&mut self, event: Event, at: Duration, shows_output: bool) {
        let text = match event {
            Event::Bytes { stream, bytes } => return self.count(stream, &bytes, at, shows_output && stream != Stream::Input),
            Event::Withheld { stream, length, .. } => format!("{stream} {}", amount(length)),
            Event::Eof { stream } => format!("{stream} ended"),
            Event::Resize { cols, rows } => format!("terminal {cols}x{rows}"),
            Event::Signal { name } => format!("signal {name} from the client"),
            Event::Environment { name, value } => format!("{name}={value}"),
            Event::Marker { text } => text,
            Event::Exit(exit) => Outcome::Exited(exit).to_string(),
        };
        self.close_line();
        self.push(Sight::Line { at, text: one_line(text.as_bytes()) });
    }

    fn count(&mut self, stream: Stream, bytes: &[u8], at: Duration, shows: bool) {
        if self.line.as_ref().is_some_and(|line| line.stream != stream || at >= line.at + LINE_LASTS) {
            self.close_line();
        }
        let line = self.line.get_or_insert_with(|| Growing { at, stream, bytes: 0, preview: Vec::new() });
        line.bytes += bytes.len() as u64;
        if shows {
            let room = (PREVIEW * 4).saturating_sub(line.preview.len());
            line.preview.extend(bytes.iter().take(room));
        }
    }

    fn close_line(&mut self) {
        let Some(Growing { at, stream, bytes, preview }) = self.line.take() else { return };
        let shown = one_line(&preview);
        let text = if shown.is_empty() { format!("{stream} {}", amount(bytes)) } else { format!("{stream} {}: {shown}", amount(bytes)) };
        self.push(Sight::Line { at, text });
    }
}

impl Picture {
    fn sight(&self) -> Sight {
        let bytes = [self.dump.as_bytes(), &self.cut].concat();
        Sight::Picture { cols: self.cols, rows: self.rows, bytes }
    }

    /// The picture after these. The emulator is of others and the output hostile: a panic in there costs
    /// the picture, not the session.
    fn after(self, sights: &[Sight]) -> Self {
        let Self { cols, rows, dump, mut cut } = self;
        let (mut size, drawn) = ((cols, rows), &mut cut);
        let dumped = catch_unwind(AssertUnwindSafe(|| {
            let mut terminal = screen::terminal(screen::clamp(cols, rows));
            terminal.feed(dump.as_str());
            for sight in sights {
                match sight {
                    Sight::Output(bytes) => terminal.feed(whole_characters(drawn, bytes).as_str()),
                    Sight::Resize { cols, rows } => {
                        size = (*cols, *rows);
                        let (cols, rows) = screen::clamp(*cols, *rows);
                        terminal.resize(cols, rows);
                    }
                    Sight::Picture { .. } | Sight::Line { .. } | Sight::Skipped(_) | Sight::Ended(_) => {}
                }
            }
            terminal.dump()
        }));
        Self { cols: size.0, rows: size.1, dump: dumped.unwrap_or_default(), cut }
    }
}

/// Somebody who watches; dropped, they have left.
#[derive(Debug)]
pub struct Watcher {
    feed: Arc<Feed>,
    /// What is seen next; nothing was seen yet without it.
    next: Option<u64>,
    news: watch::Receiver<u64>,
    openly: Option<Person>,
    over: bool,
}

impl Watcher {
    /// Waits for what is to be seen next; nothing after the end. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Vec<Sight>> {
        while !self.over {
            self.news.borrow_and_update();
            let (sights, next) = self.feed.since(self.next);
            self.next = Some(next);
            self.over = sights.iter().any(|sight| matches!(sight, Sight::Ended(_)));
            if !sights.is_empty() {
                return Some(sights);
            }
            // A line that grows is whole after a moment, whether or not anything comes.
            timeout(LINE_LASTS, self.news.changed()).await.ok();
        }
        None
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let Some(name) = &self.openly else { return };
        self.feed.watchers.send_modify(|all| {
            if let Some(at) = all.iter().position(|one| one == name) {
                all.remove(at);
            }
        });
    }
}

/// Appends to what was cut before, and returns what is whole: a character may arrive in two packets.
pub fn whole_characters(cut: &mut Vec<u8>, bytes: &[u8]) -> String {
    cut.extend_from_slice(bytes);
    let incomplete = match std::str::from_utf8(cut) {
        // Only an end that may still become a character is kept.
        Err(error) => {
            let tail = cut.len().saturating_sub(3);
            let ends = cut.get(tail..).unwrap_or_default();
            let starts = (0..ends.len()).find(|at| matches!(std::str::from_utf8(ends.get(*at..).unwrap_or_default()), Err(e) if e.error_len().is_none() && e.valid_up_to() == 0));
            match (error.error_len(), starts) {
                (None, _) => cut.len() - error.valid_up_to(),
                (Some(_), Some(at)) => ends.len() - at,
                (Some(_), None) => 0,
            }
        }
        Ok(_) => 0,
    };
    let rest = cut.split_off(cut.len() - incomplete);
    let text = String::from_utf8_lossy(cut).into_owned();
    *cut = rest;
    text
}

/// The beginning of a text as one line in which nothing acts.
fn one_line(bytes: &[u8]) -> String {
    let shown = visible(String::from_utf8_lossy(bytes).trim_end()).replace('\n', " ⏎ ").replace('\t', " ");
    let mut line: String = shown.chars().take(PREVIEW).collect();
    if shown.chars().count() > PREVIEW {
        line.push('…');
    }
    line
}

/// Bytes as people read them: `14 bytes`, `1.2 MB`.
pub fn amount(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) if bytes >= 10 * size => format!("{} {unit}", bytes / size),
        Some((size, unit)) => format!("{}.{} {unit}", bytes / size, bytes % size * 10 / size),
        None => format!("{bytes} bytes"),
    }
}

fn heavy(sight: &Sight) -> usize {
    match sight {
        Sight::Output(bytes) => weight(&Event::Bytes { stream: Stream::Output, bytes: bytes.clone() }),
        Sight::Line { text, .. } => 64 + text.len(),
        Sight::Picture { bytes, .. } => 64 + bytes.len(),
        Sight::Resize { .. } | Sight::Skipped(_) | Sight::Ended(_) => 64,
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::Exit;
    use crate::transcript::header::tests::header;

    fn out(text: &str) -> Event {
        Event::Bytes { stream: Stream::Output, bytes: Bytes::copy_from_slice(text.as_bytes()) }
    }

    /// What a terminal shows after these.
    fn picture(sights: &[Sight]) -> Vec<String> {
        let mut screen = super::super::Screen::new(80, 24);
        let mut cut = Vec::new();
        for sight in sights {
            match sight {
                Sight::Picture { cols, rows, bytes } => {
                    screen = super::super::Screen::new(*cols, *rows);
                    cut.clear();
                    screen.feed(&whole_characters(&mut cut, bytes));
                }
                Sight::Output(bytes) => screen.feed(&whole_characters(&mut cut, bytes)),
                Sight::Resize { cols, rows } => screen.resize(*cols, *rows),
                _ => {}
            }
        }
        screen.text().into_iter().filter(|line| !line.is_empty()).collect()
    }

    #[tokio::test]
    async fn a_late_watcher_begins_with_the_picture() {
        let feed = Feed::new(&header(true));
        feed.show(vec![out("\x1b[?1049h\x1b[1;1Hvim \u{1b}[31mred\x1b[0m"), Event::Resize { cols: 100, rows: 30 }]);
        // Far more than is kept: what was drawn first is only in the picture.
        for n in 0..40 {
            feed.show(vec![out(&format!("{}\x1b[6;1Hline {n}", "\x1b[5;1H0123456789".repeat(500)))]);
            let mut waited = 0;
            while lock(&feed.state).folding && waited < 1000 {
                tokio::time::sleep(Duration::from_millis(2)).await;
                waited += 1;
            }
            lock(&feed.state).folded = None;
        }
        let mut watcher = feed.watch(None).unwrap();
        let sights = watcher.next().await.unwrap();
        let shown = picture(&sights);
        assert!(shown[0].starts_with("vim red") && shown.iter().any(|line| line.starts_with("line 39")), "{shown:?}");
        feed.show(vec![out("\x1b[6;1Hmore")]);
        assert_eq!(watcher.next().await.unwrap().len(), 1, "and goes on with what comes");
    }

    #[tokio::test]
    async fn a_slow_watcher_is_told_what_it_missed_and_slows_nobody() {
        let feed = Feed::new(&header(true));
        let mut watcher = feed.watch(Some("erin".parse().unwrap())).unwrap();
        watcher.next().await.unwrap();
        assert_eq!(feed.activity().watchers.len(), 1);
        for n in 0..2000 {
            feed.show(vec![out(&format!("{n:0998}\r\n"))]);
        }
        assert!(lock(&feed.state).weight <= KEPT);
        let sights = watcher.next().await.unwrap();
        assert!(matches!(sights[0], Sight::Skipped(n) if n > 1000), "{:?}", sights[0]);
        assert!(picture(&sights).iter().any(|line| line.ends_with("1999")));
        drop(watcher);
        assert!(feed.activity().watchers.is_empty());
    }

    #[tokio::test]
    async fn a_command_is_lines_that_obey_nothing() {
        let feed = Feed::new(&header(false));
        let mut watcher = feed.watch(None).unwrap();
        let typed = Event::Bytes { stream: Stream::Input, bytes: Bytes::from_static(b"hunter2") };
        feed.show(vec![typed, out("one\n\x1b]52;c;QQ==\x07"), out("two"), Event::Exit(Exit::Status(3))]);
        feed.end("exited 3");
        let sights = watcher.next().await.unwrap();
        let lines: Vec<&str> =
            sights.iter().filter_map(|s| if let Sight::Line { text, .. } = s { Some(text.as_str()) } else { None }).collect();
        assert_eq!(lines, ["in 7 bytes", "out 19 bytes: one ⏎ ^[]52;c;QQ==^Gtwo", "exited 3"]);
        assert_eq!(sights.last(), Some(&Sight::Ended("exited 3".into())));
        assert_eq!(watcher.next().await, None);
        assert!(matches!(feed.watch(None), Err(WatchError::NotRunning)));
        let activity = feed.activity();
        assert_eq!((activity.input, activity.output), (7, 19));
    }

    #[test]
    fn what_is_not_recorded_is_not_shown() {
        let feed = Feed::new(&Header { record: RecordLevel::Metadata, ..header(true) });
        assert_eq!(feed.shows, Shows::Counts);
        assert_eq!(Feed::new(&Header { kind: "sftp".into(), ..header(false) }).shows, Shows::Counts);
    }

    #[test]
    fn a_cut_character_waits_for_its_rest() {
        let mut cut = Vec::new();
        assert_eq!(whole_characters(&mut cut, b"a\xe2\x94"), "a");
        assert_eq!(whole_characters(&mut cut, b"\x80b\xff"), "─b\u{fffd}");
        assert_eq!(whole_characters(&mut cut, b"\xffx\xf0\x9f"), "\u{fffd}x");
        assert_eq!(whole_characters(&mut cut, b"z"), "\u{fffd}z");
        assert!(cut.is_empty());
    }

    #[test]
    fn amounts_are_for_people() {
        assert_eq!([14, 1_234, 12_345, 1_200_000, 99_000_000_000].map(amount), ["14 bytes", "1.2 kB", "12 kB", "1.2 MB", "99 GB"]);
    }
}
