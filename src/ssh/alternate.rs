//! Whether a full-screen program has the terminal: looks for the three sequences that switch to the
//! alternate screen and back, and for nothing else. Never decides anything but where a warning goes.

use std::sync::{Mutex, PoisonError};

/// DECSET 1049, 1047 and 47 (xterm's ctlseqs), without the final `h` or `l`.
const SWITCHES: [&[u8]; 3] = [b"\x1b[?1049", b"\x1b[?1047", b"\x1b[?47"];
const LONGEST: usize = 8;

#[derive(Debug)]
pub struct AlternateScreen {
    state: Option<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    on: bool,
    /// The last bytes, in case a sequence is cut.
    tail: Vec<u8>,
    owed: Option<String>,
}

impl AlternateScreen {
    /// Without a terminal nothing is tracked and nothing may be written.
    pub fn new(has_terminal: bool) -> Self {
        Self { state: has_terminal.then(Mutex::default) }
    }

    pub fn is_known(&self) -> bool {
        self.state.is_some()
    }

    pub fn is_on(&self) -> bool {
        self.with(|state| state.on).unwrap_or(false)
    }

    /// Keeps a text until the program leaves the screen, after what is kept already.
    pub fn later(&self, text: String) {
        self.with(|state| {
            state.owed = Some(match state.owed.take() {
                Some(before) => format!("{before}\r\ncountersign: {text}"),
                None => text,
            });
        });
    }

    /// Looks at output on its way; returns the text that is owed once the screen was left.
    pub fn feed(&self, bytes: &[u8]) -> Option<String> {
        self.with(|state| {
            let mut seen = std::mem::take(&mut state.tail);
            let kept = seen.len();
            // Only a chunk with an escape, or one that continues one, is looked at closely.
            if kept == 0 && !bytes.contains(&0x1b) {
                return None;
            }
            seen.extend_from_slice(bytes);
            for (at, _) in seen.iter().enumerate().filter(|(_, byte)| **byte == 0x1b) {
                let rest = seen.get(at..).unwrap_or_default();
                for switch in SWITCHES {
                    match rest.strip_prefix(switch).and_then(|rest| rest.first()) {
                        Some(b'h') => state.on = true,
                        Some(b'l') => state.on = false,
                        _ => {}
                    }
                }
            }
            let from = seen.len().saturating_sub(LONGEST);
            let cut = seen.get(from..).and_then(|end| end.iter().rposition(|byte| *byte == 0x1b)).map(|at| from + at);
            state.tail = cut.and_then(|at| seen.get(at..)).unwrap_or_default().to_vec();
            if state.on { None } else { state.owed.take() }
        })
        .flatten()
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> Option<T> {
        self.state.as_ref().map(|state| act(&mut state.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_seen_however_it_is_cut() {
        let text = b"\x1b[31mred\x1b[?1049hvim\x1b[?1049l$ ";
        for cut in 0..text.len() {
            let screen = AlternateScreen::new(true);
            let (a, b) = text.split_at(cut);
            screen.feed(a);
            screen.feed(b);
            assert!(!screen.is_on(), "cut at {cut}");
            let screen = AlternateScreen::new(true);
            let (a, b) = text[..16].split_at(cut.min(16));
            screen.feed(a);
            screen.feed(b);
            assert!(screen.is_on(), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_owed_comes_when_the_program_leaves() {
        let screen = AlternateScreen::new(true);
        screen.feed(b"\x1b[?1049h");
        screen.later("5 min left".into());
        assert_eq!(screen.feed(b"typing"), None);
        assert_eq!(screen.feed(b"\x1b[?1049l"), Some("5 min left".into()));
    }
}
