//! What a watcher reads of a running session: pictures on a terminal, lines elsewhere.
//!
//! As in a replay, the session's own bytes never reach the watcher's terminal: a picture is drawn from an
//! emulator's cells, a line goes through `visible`.

use std::time::Duration;

use super::render::{brief, counted, visible};
use super::reply::{SeenLine, WatchLine};
use crate::id::SessionId;
use crate::recording::{Screen, whole_characters};

/// Lines and pictures come no more often than this: what is more is drawn together.
pub const PACE: Duration = Duration::from_millis(40);

/// The view of one watcher.
#[derive(Debug)]
pub struct Viewer {
    who: String,
    session: SessionId,
    /// Columns and rows of the watcher's terminal, where there is one.
    terminal: Option<(u32, u32)>,
    screen: Screen,
    /// A terminal's session, once a picture came.
    is_screen: bool,
    cut: Vec<u8>,
    skipped: u64,
}

impl Viewer {
    pub fn new(watched: &WatchLine, terminal: Option<(u32, u32)>) -> Self {
        let who = format!("{} · {}@{}", watched.person, watched.login, watched.target);
        Self { who, session: watched.session, terminal, screen: Screen::new(80, 24), is_screen: false, cut: Vec::new(), skipped: 0 }
    }

    /// What is said before anything is seen.
    pub fn opening(watched: &WatchLine) -> String {
        let told = if watched.told { "; they read that you do" } else { "" };
        let WatchLine { session, person, login, target, kind, .. } = watched;
        format!("countersign: watching {person} on {login}@{target} ({kind}, {session}){told}\n")
    }

    /// Returns what to write for what was seen.
    pub fn show(&mut self, seen: &[SeenLine]) -> String {
        let mut out = String::new();
        for one in seen {
            match one {
                SeenLine::Picture { cols, rows, bytes } => {
                    self.is_screen = true;
                    self.cut.clear();
                    self.screen = Screen::new(*cols, *rows);
                    if let Some((cols, rows)) = self.terminal {
                        // The last line is ours.
                        self.screen.fit(cols, rows.saturating_sub(1).max(1));
                    }
                    // Without a terminal only what comes from now on is lines.
                    let text = whole_characters(&mut self.cut, bytes);
                    self.screen.feed(&text);
                    if self.terminal.is_none() {
                        self.screen.text().into_iter().filter(|line| !line.is_empty()).for_each(|line| push_line(&mut out, &line));
                    }
                }
                SeenLine::Output { bytes } => {
                    let text = whole_characters(&mut self.cut, bytes);
                    if self.terminal.is_some() { self.screen.feed(&text) } else { self.lines(&text, &mut out) }
                }
                SeenLine::Resize { cols, rows } => self.screen.resize(*cols, *rows),
                SeenLine::Line { at_us, text } => {
                    push_line(&mut out, &format!("{:>7}  {text}", counted(Duration::from_micros(*at_us))));
                }
                SeenLine::Skipped { count } => {
                    self.skipped = self.skipped.saturating_add(*count);
                    if self.terminal.is_none() || !self.is_screen {
                        push_line(&mut out, &format!("-- {count} skipped: it runs faster than you read"));
                    }
                }
                SeenLine::Ended { outcome } => {
                    out.push_str(&self.picture());
                    out.push_str(&self.leave());
                    push_line(&mut out, &format!("-- {outcome}"));
                    return out;
                }
            }
        }
        out + &self.picture()
    }

    /// Returns what leaves the watcher's terminal usable.
    pub fn leave(&self) -> String {
        match (self.terminal, self.is_screen) {
            (Some((_, rows)), true) => format!("\x1b[0m\x1b[{rows};1H\x1b[2K\x1b[?25h"),
            (Some(_), false) | (None, _) => String::new(),
        }
    }

    fn picture(&mut self) -> String {
        let Some((cols, rows)) = self.terminal.filter(|_| self.is_screen) else { return String::new() };
        let drawn = self.screen.render_diff();
        // After clearing, our line too is drawn anew.
        match drawn.strip_prefix("\x1b[0m\x1b[2J") {
            Some(rest) => format!("\x1b[0m\x1b[2J\x1b[{rows};1H\x1b[7m{}\x1b[0m{rest}", self.status(cols)),
            None => drawn,
        }
    }

    fn status(&self, cols: u32) -> String {
        let skipped = if self.skipped > 0 { format!(" · {} skipped", self.skipped) } else { String::new() };
        let text = format!(" watching {}{skipped} · q leaves · {} ", self.who, self.session);
        brief(&text, usize::try_from(cols).unwrap_or(80))
    }

    /// Writes each line as the cursor leaves it.
    fn lines(&mut self, text: &str, out: &mut String) {
        let mut rest = text;
        while let Some((line, more)) = rest.split_once('\n') {
            self.screen.feed(line);
            push_line(out, &self.screen.line_at_cursor());
            self.screen.feed("\n");
            rest = more;
        }
        self.screen.feed(rest);
    }
}

fn push_line(out: &mut String, line: &str) {
    out.push_str(&visible(line));
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn watched() -> WatchLine {
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        WatchLine {
            session: crate::id::SessionId::new(now),
            person: "alice".parse().unwrap(),
            target: "web-1".parse().unwrap(),
            login: "deploy".parse().unwrap(),
            kind: "shell".into(),
            started: now,
            told: true,
        }
    }

    fn output(text: &str) -> SeenLine {
        SeenLine::Output { bytes: text.as_bytes().to_vec() }
    }

    #[test]
    fn a_terminal_gets_pictures_above_one_line_of_ours() {
        let mut viewer = Viewer::new(&watched(), Some((60, 10)));
        let shown = viewer.show(&[SeenLine::Picture { cols: 80, rows: 24, bytes: b"$ top".to_vec() }, output("\x1b]52;c;QQ==\x07\x1b[6n")]);
        assert!(shown.contains("top") && !shown.contains("52;c") && !shown.contains("6n"), "{shown:?}");
        assert!(shown.contains("\x1b[10;1H\x1b[7m watching alice · deploy@web-1 · q leaves"), "{shown:?}");
        assert_eq!(viewer.show(&[output("\x07")]), "", "nothing to see, nothing drawn");
        let end = viewer.show(&[output("bye"), SeenLine::Ended { outcome: "killed by bob: x\u{202e}".into() }]);
        assert!(end.contains("bye") && end.ends_with("-- killed by bob: x\\u{202e}\n"), "{end:?}");
    }

    #[test]
    fn without_a_terminal_lines_come_as_they_are_finished() {
        let mut viewer = Viewer::new(&watched(), None);
        let picture = SeenLine::Picture { cols: 20, rows: 4, bytes: b"before\r\n$ ".to_vec() };
        assert_eq!(viewer.show(&[picture]), "before\n$\n");
        assert_eq!(viewer.show(&[output("ls -x\x08l")]), "");
        assert_eq!(
            viewer.show(&[output("\r\n\x1b[31mred\x1b[0m and a line of more than twenty\r\n$ ")]),
            "$ ls -l\nred and a line of more than twenty\n"
        );
        assert_eq!(viewer.show(&[SeenLine::Skipped { count: 3 }]), "-- 3 skipped: it runs faster than you read\n");
        assert_eq!(viewer.show(&[SeenLine::Line { at_us: 61_000_000, text: "out 3 bytes".into() }]), "   1:01  out 3 bytes\n");
    }
}
