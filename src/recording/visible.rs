//! Text of others, made harmless: no character of it moves a cursor, reorders a line or hides.

use std::fmt::Write as _;

/// Writes what a terminal would obey, or would not show, in letters: `^[` for escape, `\u{202e}` for
/// an override of direction. Line feeds and tabs stay; a carriage return before a line feed goes.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => shown.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\0'..='\u{1f}' => {
                // Ends before U+0060, so it is a character: `@` for NUL, `[` for escape.
                let letter = char::from_u32(u32::from(c) + 0x40).unwrap_or('?');
                shown.push('^');
                shown.push(letter);
            }
            '\u{7f}' => shown.push_str("^?"),
            c if is_unseen(c) => {
                // Writing to a string does not fail.
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Whether a character is no letter on a screen: controls of both sets, of direction, of format, tags.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_text_is_shown_and_not_obeyed() {
        assert_eq!(visible("ok\r\n\tdone"), "ok\n\tdone");
        assert_eq!(visible("\u{1b}]52;c;AAAA\u{7}"), "^[]52;c;AAAA^G");
        assert_eq!(visible("a\u{9b}2Jb\u{7f}\0"), "a\\u{9b}2Jb^?^@");
        assert_eq!(visible("gpj.\u{202e}exe\rx"), "gpj.\\u{202e}exe^Mx");
    }

    proptest! {
        #[test]
        fn nothing_unseen_is_left(text in any::<String>()) {
            prop_assert!(!visible(&text).chars().any(|c| is_unseen(c) && c != '\n' && c != '\t'));
        }
    }
}
