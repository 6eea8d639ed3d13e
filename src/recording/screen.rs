//! A virtual screen between a recording and the auditor's terminal.
//!
//! Recorded bytes go into an emulator and no further. What comes out is computed from its cells alone:
//! printable characters, cursor positions, colours and attributes, clearing, the cursor's visibility. So
//! a recording cannot ask the auditor's terminal anything, set its title or clipboard, or type into it.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use avt::{Cell, Color, Pen};

use super::visible::is_unseen;

/// Sizes beyond are clamped: a recorded one is the target's word (65535 × 65535 cells is 100 GB).
const LARGEST: (usize, usize) = (1000, 400);

/// The recorded terminal, and what the auditor's shows of it.
pub struct Screen {
    terminal: avt::Terminal,
    /// Columns and rows of the auditor's terminal, where they are known.
    view: Option<(usize, usize)>,
    shown: Vec<Vec<Cell>>,
    cursor: Option<(usize, usize)>,
    /// Nothing of ours stands on the auditor's terminal yet.
    blank: bool,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("size", &self.terminal.size()).field("view", &self.view).finish_non_exhaustive()
    }
}

impl Screen {
    pub fn new(cols: u32, rows: u32) -> Self {
        Self { terminal: terminal(clamp(cols, rows)), view: None, shown: Vec::new(), cursor: None, blank: true }
    }

    /// Says how large the auditor's terminal is; a larger recording is cut at the right, and follows the
    /// cursor downwards.
    pub fn fit(&mut self, cols: u32, rows: u32) {
        self.view = Some(clamp(cols, rows));
        self.blank = true;
    }

    /// Feeds recorded output.
    pub fn feed(&mut self, text: &str) {
        let terminal = &mut self.terminal;
        // The emulator is of others and the text hostile: a panic in there costs the picture, not the replay.
        if catch_unwind(AssertUnwindSafe(|| terminal.feed(text))).is_err() {
            let (cols, rows) = self.terminal.size();
            self.terminal = self::terminal((cols, rows));
        }
    }

    pub fn resize(&mut self, cols: u32, rows: u32) {
        let (cols, rows) = clamp(cols, rows);
        let terminal = &mut self.terminal;
        if catch_unwind(AssertUnwindSafe(|| terminal.resize(cols, rows))).is_err() {
            self.terminal = self::terminal((cols, rows));
        }
        self.blank = true;
    }

    /// Returns what brings the auditor's terminal from the last picture to this one; empty if it is the same.
    pub fn render_diff(&mut self) -> String {
        let mut pen = Drawing::default();
        if std::mem::take(&mut self.blank) {
            pen.out.push_str("\x1b[0m\x1b[2J");
            self.shown.clear();
            self.cursor = None;
        }
        let (cols, rows) = self.visible_size();
        let at = self.terminal.cursor();
        let top = (at.row + 1).saturating_sub(rows);
        self.shown.resize_with(rows, Vec::new);
        for (row, (line, shown)) in self.terminal.screen().visible_lines().skip(top).zip(&mut self.shown).enumerate() {
            shown.resize(cols, Cell::default());
            draw_row(row, line.cells().get(..cols).unwrap_or(line.cells()), shown, &mut pen);
        }
        // A column behind the last is where a full line waits to wrap.
        let cursor = at.visible.then_some((at.row.saturating_sub(top), at.col.min(cols - 1)));
        if pen.out.is_empty() && cursor == self.cursor {
            return pen.out;
        }
        pen.reset();
        match cursor {
            Some((row, col)) => {
                pen.move_to(row, col);
                pen.out.push_str("\x1b[?25h");
            }
            None => pen.out.push_str("\x1b[?25l"),
        }
        self.cursor = cursor;
        pen.out
    }

    /// Returns what leaves the auditor's terminal usable, below the picture.
    pub fn leave(&self) -> String {
        format!("\x1b[0m\x1b[{};1H\x1b[?25h\n", self.visible_size().1)
    }

    /// The picture as plain text, a line each.
    pub fn text(&self) -> Vec<String> {
        let line = |line: &avt::Line| line.cells().iter().filter(|cell| cell.width() > 0).map(|cell| safe(cell.char())).collect::<String>();
        self.terminal.screen().visible_lines().map(|l| line(l).trim_end().to_owned()).collect()
    }

    /// The line that the cursor stands in, as plain text, with the full rows above that it continues.
    pub fn line_at_cursor(&self) -> String {
        let (cols, _) = self.terminal.size();
        let rows: Vec<&avt::Line> = self.terminal.screen().visible_lines().take(self.terminal.cursor().row + 1).collect();
        let continues = |line: &avt::Line| line.cells().get(cols - 1).is_some_and(|cell| cell.char() != ' ');
        let above = rows.iter().rev().skip(1).take_while(|line| continues(line)).count();
        let from = rows.len().saturating_sub(above + 1);
        let text =
            |line: &&avt::Line| line.cells().iter().filter(|cell| cell.width() > 0).map(|cell| safe(cell.char())).collect::<String>();
        rows.iter().skip(from).map(text).collect::<String>().trim_end().to_owned()
    }

    fn visible_size(&self) -> (usize, usize) {
        let (cols, rows) = self.terminal.size();
        self.view.map_or((cols, rows), |view| (cols.min(view.0), rows.min(view.1)))
    }
}

pub(super) fn clamp(cols: u32, rows: u32) -> (usize, usize) {
    let within = |n: u32, most: usize| usize::try_from(n).unwrap_or(most).clamp(1, most);
    (within(cols, LARGEST.0), within(rows, LARGEST.1))
}

pub(super) fn terminal((cols, rows): (usize, usize)) -> avt::Terminal {
    avt::Terminal::new(cols.max(1), rows.max(1)).expect("both sizes are at least one")
}

fn draw_row(row: usize, cells: &[Cell], shown: &mut [Cell], pen: &mut Drawing) {
    pen.at = None;
    let width = cells.len();
    let mut skip_tail = false;
    for (col, (cell, shown)) in cells.iter().zip(shown).enumerate() {
        let changed = *shown != *cell;
        *shown = *cell;
        if std::mem::take(&mut skip_tail) && cell.width() == 0 {
            continue;
        }
        if !changed {
            pen.at = None;
            continue;
        }
        if pen.at != Some(col) {
            pen.move_to(row, col);
        }
        pen.style(cell.pen());
        // Half a wide character, at the edge or without its other half, is a space.
        let whole = cell.width() == 1 || (cell.width() == 2 && col + 1 < width);
        let c = if whole { safe(cell.char()) } else { ' ' };
        pen.out.push(c);
        skip_tail = cell.width() == 2 && whole;
        // Terminals disagree about the width of most characters: only after these is the column sure.
        pen.at = is_surely_single(c).then_some(col + 1);
    }
}

fn safe(c: char) -> char {
    if is_unseen(c) { '\u{fffd}' } else { c }
}

fn is_surely_single(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{2ff}' | '\u{370}'..='\u{481}' | '\u{2500}'..='\u{259f}')
}

/// The drawing of one picture: where the terminal's cursor is and how it writes.
#[derive(Default)]
struct Drawing {
    out: String,
    at: Option<usize>,
    style: Option<Pen>,
}

impl Drawing {
    fn move_to(&mut self, row: usize, col: usize) {
        // Writing to a string does not fail, here and below.
        let _ = write!(self.out, "\x1b[{};{}H", row + 1, col + 1);
    }

    fn reset(&mut self) {
        if self.style.take().is_some() {
            self.out.push_str("\x1b[0m");
        }
    }

    fn style(&mut self, pen: &Pen) {
        if self.style.unwrap_or_default() == *pen {
            return;
        }
        self.out.push_str("\x1b[0");
        for (on, code) in [
            (pen.is_bold(), ";1"),
            (pen.is_faint(), ";2"),
            (pen.is_italic(), ";3"),
            (pen.is_underline(), ";4"),
            (pen.is_inverse(), ";7"),
            (pen.is_strikethrough(), ";9"),
        ] {
            self.out.push_str(if on { code } else { "" });
        }
        for (color, layer) in [(pen.foreground(), 38), (pen.background(), 48)] {
            let _ = match color {
                Some(Color::Indexed(n)) => write!(self.out, ";{layer};5;{n}"),
                Some(Color::RGB(rgb)) => write!(self.out, ";{layer};2;{};{};{}", rgb.r, rgb.g, rgb.b),
                None => Ok(()),
            };
        }
        self.out.push('m');
        self.style = Some(*pen);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Panics at anything but printable characters and the closed set of sequences.
    fn assert_closed_set(drawn: &str) {
        let mut rest = drawn;
        while let Some(c) = rest.chars().next() {
            if c != '\x1b' {
                assert!(!is_unseen(c), "{c:?} in {drawn:?}");
                rest = &rest[c.len_utf8()..];
                continue;
            }
            let body = rest.strip_prefix("\x1b[").unwrap_or_else(|| panic!("no CSI: {rest:?}"));
            let end = body.find(|c: char| !c.is_ascii_digit() && c != ';' && c != '?').unwrap();
            let known = match &body[end..=end] {
                "m" | "H" => !body[..end].contains('?'),
                "J" => &body[..end] == "2",
                "h" | "l" => &body[..end] == "?25",
                _ => false,
            };
            assert!(known, "{:?}", &body[..=end]);
            rest = &body[end + 1..];
        }
    }

    /// Draws on a second emulator as the auditor's terminal would.
    fn redrawn(auditor: &mut avt::Terminal, drawn: &str) -> Vec<String> {
        auditor.feed(drawn);
        auditor.screen().visible_lines().map(|line| line.text().trim_end().to_owned()).collect()
    }

    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-z ]{1,10}",
            Just("\r\n".to_owned()),
            "\x1b\\[[0-9;?]{0,6}[@-~]",
            "\u{9b}[0-9;]{0,4}[@-~]",
            "\x1b\\][0-9]{1,2};[a-zA-Z0-9+/=]{0,8}\x07",
            "\x1bP[\\$a-z+]{0,5}\x1b\\\\",
            Just("\x1b]8;;http://x\x1b\\".to_owned()),
            Just("\x1bPtmux;\x1b\x1b]52;c;QQ==\x07\x1b\\".to_owned()),
            "[漢字é│─😀\u{301}\u{202e}\u{200b}]{1,6}",
            any::<String>(),
        ];
        proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn only_the_closed_set_comes_out(text in hostile(), more in hostile(), cols in 1u32..40, rows in 1u32..12) {
            let mut screen = Screen::new(cols, rows);
            screen.feed(&text);
            assert_closed_set(&screen.render_diff());
            screen.feed(&more);
            assert_closed_set(&screen.render_diff());
            screen.resize(cols / 2, rows + 3);
            assert_closed_set(&screen.render_diff());
        }

        #[test]
        fn the_auditor_sees_the_same_picture(texts in proptest::collection::vec(hostile(), 1..4), cols in 2u32..40, rows in 1u32..12) {
            let mut screen = Screen::new(cols, rows);
            let mut auditor = avt::Terminal::new(cols as usize, rows as usize).unwrap();
            for text in texts {
                screen.feed(&text);
                let seen = redrawn(&mut auditor, &screen.render_diff());
                prop_assert_eq!(seen, screen.text());
            }
        }
    }

    #[test]
    fn an_unchanged_picture_draws_nothing() {
        let mut screen = Screen::new(20, 3);
        screen.feed("\x1b[1;31mroot\x1b[0m# ");
        assert!(screen.render_diff().contains("\x1b[0;1;38;5;1mroot\x1b[0m"));
        screen.feed("\x07\x1b]0;evil\x07\x1b[c\x1b[6n");
        assert_eq!(screen.render_diff(), "");
        screen.feed("x");
        assert_eq!(screen.render_diff(), "\x1b[1;7Hx\x1b[1;8H\x1b[?25h");
    }

    #[test]
    fn an_absurd_size_is_clamped_and_a_small_terminal_shows_the_end() {
        let mut screen = Screen::new(65_535, 65_535);
        screen.resize(0, 0);
        screen.resize(10, 50);
        screen.fit(5, 2);
        screen.feed(&(0..40).map(|n| format!("line {n}\r\n")).collect::<String>());
        let mut auditor = avt::Terminal::new(5, 2).unwrap();
        assert_eq!(redrawn(&mut auditor, &screen.render_diff()), ["line", ""]);
    }
}
