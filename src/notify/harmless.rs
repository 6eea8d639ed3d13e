//! What people wrote, made harmless for where notices are read.

use std::fmt::Write as _;

use crate::recording::is_unseen;

/// One line of at most so many characters: what is unseen, or would reorder the rest, is written out as
/// `\u{202e}`; what is cut says so.
pub fn line(text: &str, most: usize) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == most {
            out.push('…');
            break;
        }
        if is_unseen(c) {
            // Writing to a string does not fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Text for a chat: nothing in it is a link with a text of its own, a mention or markup of Slack's
/// (`<!channel>`, `<https://…|bank>`), nor of those that take its messages and know `@all` and `[bank](https://…)`.
pub fn chat(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // Looks the same and calls nobody. Between a login and its target it is no mention anywhere.
            '@' if !before.is_alphanumeric() => out.push('\u{ff20}'),
            ']' if rest.peek() == Some(&'(') => out.push_str("] "),
            c => out.push(c),
        }
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_of_chats_is_text() {
        assert_eq!(chat("deploy@web-1 <!channel> @here"), "deploy@web-1 &lt;!channel&gt; \u{ff20}here");
        assert_eq!(chat("[bank](https://evil) <https://evil|bank> &lt;"), "[bank] (https://evil) &lt;https://evil|bank&gt; &amp;lt;");
    }

    #[test]
    fn a_line_stays_one_and_in_order() {
        assert_eq!(line("gpj.\u{202e}exe\nnext\u{1b}[2J", 100), "gpj.\\u{202e}exe\\u{a}next\\u{1b}[2J");
        assert_eq!(line("abcdef", 3), "abc…");
        assert_eq!(line("abc", 3), "abc");
    }

    proptest! {
        #[test]
        fn nothing_opens_a_bracket_or_calls_anybody(text in any::<String>()) {
            let out = chat(&line(&text, 300));
            prop_assert!(!out.contains(['<', '>', '\n']));
            prop_assert!(!out.contains(" @") && !out.starts_with('@') && !out.contains("]("));
        }
    }
}
