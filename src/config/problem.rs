//! What is wrong and where: `file:line:column: what; fix`, all of it at once.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

use super::schema::Probe;

/// One thing wrong in one place: `file:line:column: what; fix`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub file: PathBuf,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    pub column: usize,
    pub what: String,
    pub fix: String,
}

impl Problem {
    /// A problem of a whole file or directory.
    pub fn whole(file: &Path, what: impl fmt::Display, fix: impl fmt::Display) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0, what: visible(&what.to_string()), fix: visible(&fix.to_string()) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}; {}", self.what, self.fix)
    }
}

/// A file's name and text.
#[derive(Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    pub text: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl Source {
    pub fn new(path: PathBuf, text: String) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path, text, lines }
    }

    /// The line of a byte offset, from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// A problem at a byte offset of the text.
    pub fn problem(&self, offset: usize, what: impl fmt::Display, fix: impl fmt::Display) -> Problem {
        let (line, column) = self.place(offset);
        Problem { line, column, ..Problem::whole(&self.path, what, fix) }
    }

    /// Line and column, both from 1, the column in characters.
    fn place(&self, offset: usize) -> (usize, usize) {
        let mut at = offset.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let line = self.line(at);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        (line, self.text.get(start..at).unwrap_or_default().chars().count() + 1)
    }
}

/// Collects while files are read; reading goes on after a mistake.
#[derive(Debug, Default)]
pub(super) struct Findings {
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    /// Notes what readers ask for, where it is that which is wanted.
    pub probe: Option<Probe>,
    /// The reader may see policies and no secret of a notifier (the pen).
    pub leaves_secrets: bool,
}

impl Findings {
    pub fn error(&self, problem: Problem) {
        self.errors.borrow_mut().push(problem);
    }

    pub fn warning(&self, problem: Problem) {
        self.warnings.borrow_mut().push(problem);
    }

    /// For a reader that is only to say what it would read.
    pub fn probing(probe: Probe) -> Self {
        Self { probe: Some(probe), ..Self::default() }
    }

    /// For a reader that sees no secret of a notifier.
    pub fn without_secrets() -> Self {
        Self { leaves_secrets: true, ..Self::default() }
    }

    /// How many errors there are so far.
    pub fn errors(&self) -> usize {
        self.errors.borrow().len()
    }

    pub fn errors_since(&self, before: usize) -> Vec<Problem> {
        self.errors.borrow().iter().skip(before).cloned().collect()
    }

    /// Errors and warnings, each sorted by place.
    pub fn into_sorted(self) -> (Vec<Problem>, Vec<Problem>) {
        let sorted = |found: RefCell<Vec<Problem>>| {
            let mut found = found.into_inner();
            found.sort();
            found.dedup();
            found
        };
        (sorted(self.errors), sorted(self.warnings))
    }
}

/// Shows control and bidirectional characters as escapes: a file may not write to the reader's terminal.
fn visible(text: &str) -> String {
    let hidden =
        |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    text.chars().map(|c| if hidden(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_count_from_one() {
        let source = Source::new("x.toml".into(), "a\nküche = 1\n".into());
        assert_eq!(source.problem("a\nküche ".len(), "bad", "do").to_string(), "x.toml:2:7: bad; do");
        assert_eq!(source.problem(999, "bad", "do").to_string(), "x.toml:3:1: bad; do");
        assert_eq!(source.problem(4, "inside a character", "do").to_string(), "x.toml:2:2: inside a character; do");
    }

    #[test]
    fn a_problem_never_writes_control_characters() {
        let problem = Problem::whole(Path::new("x"), "\u{1b}[2J\u{202e}", "y\n");
        assert_eq!(problem.to_string(), "x: \\u{1b}[2J\\u{202e}; y\\u{a}");
    }
}
