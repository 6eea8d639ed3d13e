//! Everything that people read: lines in which nothing acts on their terminal, tables, JSON.
//!
//! [`visible`] is the one door for text that others wrote (reasons, notes, commands, names, what peers
//! say): behind it are no control, bidirectional or invisible characters. Colour is added after it.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::reply::{Refusal, Reply};
use crate::time::{Timestamp, about, at};

/// How a text is to look, where it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// Only on terminals, never with NO_COLOR.
    pub colour: bool,
    /// Columns of the terminal, if it is one.
    pub width: Option<usize>,
}

/// What a line says at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    /// Waits for somebody.
    Waiting,
    Good,
    Bad,
    /// Over; kept for reference.
    Past,
}

impl Look {
    pub fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Waiting => "33",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Past => "2",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn bold(self, text: &str) -> String {
        if self.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Returns `text` with everything that could act on a terminal, reorder or hide text written out as
/// `\u{202e}`: C0, DEL and C1 (CVE-2003-0063), bidirectional controls (CVE-2021-42574), separators,
/// joiners, fillers, tags and noncharacters. What comes out is one line.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// What no replay shows either, and here fillers, private use and noncharacters too: no name needs them.
fn is_hidden(c: char) -> bool {
    crate::recording::is_unseen(c)
        || matches!(u32::from(c),
            0x34f | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x3164 | 0xfdd0..=0xfdef | 0xffa0 | 0xe000..=0xf8ff
            | 0xf_0000..=0x10_ffff)
        || u32::from(c) & 0xfffe == 0xfffe
}

/// [`visible`], cut to `most` columns with an ellipsis that says so; a wide character takes two.
pub fn brief(text: &str, most: usize) -> String {
    let text = visible(text);
    if text.width() <= most {
        return text;
    }
    let (mut cut, mut room) = (String::new(), most.saturating_sub(1));
    for c in text.chars() {
        let width = c.width().unwrap_or(0);
        if width > room {
            break;
        }
        room -= width;
        cut.push(c);
    }
    cut.push('…');
    cut
}

/// Returns a value as JSON in which no character acts on a terminal; inside strings `\u202e` is the
/// same value.
pub fn json<T: Serialize>(value: &T) -> String {
    let plain = serde_json::to_string(value).expect("our answers hold strings, numbers, lists and objects with string keys only");
    let mut out = String::with_capacity(plain.len());
    let mut units = [0u16; 2];
    for c in plain.chars() {
        if is_hidden(c) {
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// The version of the JSON that people's programs read (`docs/json.md`).
pub const VERSION: u64 = 1;

/// An answer as one line of JSON, with the version of its shape.
pub fn answer(reply: &Reply) -> String {
    #[derive(Serialize)]
    struct Answer<'a> {
        v: u64,
        #[serde(flatten)]
        reply: &'a Reply,
    }
    json(&Answer { v: VERSION, reply }) + "\n"
}

/// A refusal as one line of JSON, with the exit status that goes with it.
pub fn refused(refusal: &Refusal) -> String {
    json(&serde_json::json!({ "v": VERSION, "status": refusal.kind.status(), "error": refusal })) + "\n"
}

/// An aligned listing. Cells go through [`visible`]; on a narrow terminal the widest columns give way,
/// the first never.
#[derive(Debug)]
pub struct Listing {
    heads: Vec<&'static str>,
    rows: Vec<(Tone, Vec<String>)>,
    /// Columns that a narrow terminal does without, in this order.
    spare: &'static [&'static str],
}

/// Columns between two cells.
const GAP: usize = 2;
/// A column gives way down to this.
const NARROWEST: usize = 8;

impl Listing {
    pub fn new(heads: &[&'static str]) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new(), spare: &[] }
    }

    pub fn row(&mut self, tone: Tone, cells: impl IntoIterator<Item = String>) {
        self.rows.push((tone, cells.into_iter().map(|cell| visible(&cell)).collect()));
    }

    /// Names columns that a narrow terminal can do without, what matters least first.
    pub fn without(mut self, spare: &'static [&'static str]) -> Self {
        self.spare = spare;
        self
    }

    pub fn render(mut self, look: Look) -> String {
        if let Some(width) = look.width {
            self.make_room(width);
        }
        let widths = self.widths(look.width);
        let fitted =
            |cells: &mut dyn Iterator<Item = &str>| -> Vec<String> { cells.zip(&widths).map(|(cell, most)| brief(cell, *most)).collect() };
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(fitted(&mut self.heads.iter().copied()));
        for (_, cells) in &self.rows {
            table.add_row(fitted(&mut cells.iter().map(String::as_str)));
        }
        let columns = table.column_count();
        for (i, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, if i + 1 == columns { 0 } else { GAP as u16 }));
        }
        let mut out = String::new();
        for (line, tone) in table.lines().zip(std::iter::once(Tone::Past).chain(self.rows.iter().map(|(tone, _)| *tone))) {
            let line = line.trim_end();
            let line = look.width.map_or_else(|| line.to_owned(), |width| brief(line, width));
            out.push_str(&look.tone(tone, &line));
            out.push('\n');
        }
        out
    }

    fn make_room(&mut self, width: usize) {
        for spare in self.spare {
            let widths = self.widths(None);
            if widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1) <= width {
                return;
            }
            if let Some(at) = self.heads.iter().position(|head| head == spare) {
                self.heads.remove(at);
                for (_, cells) in self.rows.iter_mut().filter(|(_, cells)| at < cells.len()) {
                    cells.remove(at);
                }
            }
        }
    }

    /// How wide each column may be.
    fn widths(&self, terminal: Option<usize>) -> Vec<usize> {
        let natural = |(i, head): (usize, &&str)| {
            self.rows.iter().filter_map(|(_, cells)| cells.get(i)).map(|cell| cell.width()).max().unwrap_or(0).max(head.width())
        };
        let mut widths: Vec<usize> = self.heads.iter().enumerate().map(natural).collect();
        let Some(terminal) = terminal else { return widths };
        let gaps = GAP * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > terminal {
            let over = widths.iter().sum::<usize>() + gaps - terminal;
            let mut order: Vec<usize> = widths.iter().skip(1).copied().collect();
            order.sort_unstable();
            let (widest, next) =
                (order.last().copied().unwrap_or(0), order.iter().rev().find(|width| Some(*width) != order.last()).copied());
            if widest <= NARROWEST {
                break;
            }
            // The widest shrink together, to the next or as far as it takes.
            let many = order.iter().filter(|width| **width == widest).count();
            let floor = next.unwrap_or(NARROWEST).max(NARROWEST).max(widest.saturating_sub(over.div_ceil(many)));
            for width in widths.iter_mut().skip(1).filter(|width| **width == widest) {
                *width = floor;
            }
        }
        widths
    }
}

/// `in 15 min (14:48Z)`; a day or more away says the day too.
pub fn when(moment: Timestamp, now: Timestamp) -> String {
    let away = moment.since(now).max(now.since(moment));
    if away < Duration::from_secs(36 * 3600) {
        return at(moment, now);
    }
    let day = moment.utc().format("%Y-%m-%d %H:%MZ");
    if moment < now { format!("{} ago ({day})", about(away)) } else { format!("in {} ({day})", about(away)) }
}

/// Minutes and seconds, as a clock counts: `0:40`, `1:02:03`.
pub fn counted(span: Duration) -> String {
    let all = span.as_secs();
    let (h, m, s) = (all / 3600, all / 60 % 60, all % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

/// Puts `countersign: ` before each line of a text for people.
pub fn prefixed(text: &str) -> String {
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| format!("countersign: {}\n", visible(line.trim_end()))).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a hostile peer puts into a field.
    pub(crate) const HOSTILE: [&str; 16] = [
        "\u{1b}]52;c;cm0gLXJmIC8=\u{7}",
        "\u{1b}[2J\u{1b}[H",
        "\u{9b}31m",
        "a\r\nK7Q3FM  approved",
        "ends\u{202e}detrever",
        "\u{2066}isolated\u{2069}",
        "zero\u{200b}width\u{feff}",
        "line\u{2028}separator\u{2029}",
        "tab\there",
        "nul\0byte",
        "\u{90}tmux;\u{1b}\u{1b}]0;x\u{9c}",
        "\u{e0041}tag",
        "=cmd|' /C calc'!A0",
        "<script>alert(1)</script>",
        "\"},{\"state\":\"approved",
        "\u{7f}\u{8}\u{8}\u{8}",
    ];

    /// Asserts that a text is lines of characters that act on nothing.
    pub(crate) fn assert_inert(text: &str) {
        for c in text.chars() {
            assert!(c == '\n' || !is_hidden(c), "{c:?} in {text:?}");
        }
    }

    #[test]
    fn hostile_text_is_one_visible_line() {
        for text in HOSTILE {
            let shown = visible(text);
            assert_inert(&shown);
            assert!(!shown.contains('\n'), "{shown:?}");
        }
        assert_eq!(visible("ends\u{202e}x"), "ends\\u{202e}x");
        assert_eq!(visible("Überprüfung 数据库 déjà ok 🙂"), "Überprüfung 数据库 déjà ok 🙂");
    }

    #[test]
    fn json_keeps_the_value_and_acts_on_nothing() {
        for text in HOSTILE {
            let line = json(&serde_json::json!({ "reason": text }));
            assert_inert(&line);
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["reason"], text);
        }
    }

    #[test]
    fn a_listing_is_one_line_each_and_aligned() {
        let mut listing = Listing::new(&["REQUEST", "WHO", "WHY"]);
        for text in HOSTILE {
            listing.row(Tone::Plain, ["K7Q3FM".into(), text.to_owned(), text.to_owned()]);
        }
        let again = Listing { heads: listing.heads.clone(), rows: listing.rows.clone(), spare: &[] };
        let text = again.render(Look::default());
        assert_inert(&text);
        assert_eq!(text.lines().count(), 1 + HOSTILE.len());
        let narrow = listing.render(Look { colour: false, width: Some(40) });
        assert!(narrow.lines().all(|line| line.chars().count() <= 40));

        let mut listing = Listing::new(&["A", "B"]);
        listing.row(Tone::Waiting, ["12345".into(), "x".into()]);
        let again = Listing { heads: listing.heads.clone(), rows: listing.rows.clone(), spare: &[] };
        assert_eq!(again.render(Look::default()), "A      B\n12345  x\n");
        assert_eq!(listing.render(Look { colour: true, width: None }).lines().nth(1), Some("\u{1b}[33m12345  x\u{1b}[0m"));
    }

    #[test]
    fn wide_characters_align_and_a_narrow_terminal_cuts_the_widest() {
        let mut listing = Listing::new(&["WHO", "WHY", "END"]);
        listing.row(Tone::Plain, ["数据库".into(), "磁盘已满 and a long story about why it is".into(), "x".into()]);
        listing.row(Tone::Plain, ["alice".into(), "INC-42".into(), "y".into()]);
        let mut spared = Listing::new(&["A", "SPARE", "LESS", "B"]).without(&["SPARE", "LESS"]);
        spared.row(Tone::Plain, ["1", "2", "3", "4"].map(String::from));
        assert_eq!(spared.render(Look { colour: false, width: Some(12) }), "A  LESS  B\n1  3     4\n");
        let text = listing.render(Look { colour: false, width: Some(30) });
        let columns = |line: &str, what: &str| line[..line.rfind(what).unwrap()].width();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.width() <= 30), "{text}");
        assert!(lines[1].contains('…') && columns(lines[1], "x") == columns(lines[2], "y"), "{text}");
        assert_eq!(columns(lines[0], "END"), columns(lines[2], "y"), "{text}");
        assert!(lines[1].starts_with("数据库"), "the first column is whole: {text}");
        assert_eq!(brief("数据库", 4), "数…");
    }

    #[test]
    fn a_time_is_never_bare() {
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        assert_eq!(when(now.plus(Duration::from_secs(900)), now), "in 15 min (22:28Z)");
        assert_eq!(when(now.minus(Duration::from_secs(3 * 86_400)), now), "3 days ago (2023-11-11 22:13Z)");
        assert_eq!(counted(Duration::from_secs(40)), "0:40");
    }

    proptest! {
        #[test]
        fn nothing_hidden_comes_out(text in any::<String>()) {
            let shown = visible(&text);
            prop_assert!(shown.chars().all(|c| !is_hidden(c)));
            prop_assert_eq!(visible(&shown), shown.clone(), "shown twice, shown the same");
            let line = json(&text);
            prop_assert!(line.chars().all(|c| !is_hidden(c)));
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }
}
