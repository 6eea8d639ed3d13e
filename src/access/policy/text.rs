//! The policy text as written: where each policy begins and ends, and where a word of it stands.
//!
//! Each policy is parsed by itself, so that one mistake hides no other and every place is exact. Strings
//! and comments end here where they end for Cedar (its lexer: `"(\\.|[^"\\])*"` and `//[^\n\r]*`);
//! `parse` counts the policies again with Cedar's own reader, so that none can get lost in between.

use std::ops::Range;

/// Brackets in brackets, beyond which a policy is refused before Cedar's recursive reader sees it.
const MAX_DEPTH: usize = 32;
/// Operators of one policy. Cedar recurses along chains of them too; where its stack gets short it skips
/// validation and fails evaluation (4.14: from about 800 on a thread's 2 MiB, measured).
const MAX_OPERATORS: usize = 256;

/// Policies in the order of the text, from their first word to their semicolon.
pub fn statements(text: &str) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    let mut start: Option<usize> = None;
    let mut end = 0;
    for (range, token) in tokens(text) {
        let from = *start.get_or_insert(range.start);
        end = range.end;
        if token == ";" {
            all.push(from..end);
            start = None;
        }
    }
    all.extend(start.map(|from| from..end));
    all
}

/// Where a policy gets too deep or too long for Cedar to judge, and in what.
pub fn too_complex(text: &str, within: &Range<usize>) -> Option<(usize, String)> {
    let (mut depth, mut half_operators) = (0usize, 0usize);
    for (range, token) in tokens(text.get(within.clone())?) {
        match token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "&" | "|" => half_operators += 1,
            "+" | "-" | "*" | "!" | "." | "if" | "when" | "unless" => half_operators += 2,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Some((within.start + range.start, format!("brackets nest deeper than {MAX_DEPTH}")));
        }
        if half_operators > 2 * MAX_OPERATORS {
            return Some((within.start + range.start, format!("the policy has more than {MAX_OPERATORS} operators")));
        }
    }
    None
}

/// Where these tokens follow each other within `within`, strings compared as written.
pub fn find(text: &str, within: &Range<usize>, wanted: &[&str]) -> Option<usize> {
    let part = text.get(within.clone())?;
    let all: Vec<(Range<usize>, &str)> = tokens(part).collect();
    let at = all.windows(wanted.len().max(1)).find(|window| window.iter().map(|(_, token)| *token).eq(wanted.iter().copied()))?;
    at.first().map(|(range, _)| within.start + range.start)
}

/// Words, strings (with their quotes) and single other characters; no space, no comments.
fn tokens(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = text.get(at..)?;
            let first = rest.chars().next()?;
            let length = if first.is_whitespace() {
                at += first.len_utf8();
                continue;
            } else if rest.starts_with("//") {
                at += rest.find(['\n', '\r']).unwrap_or(rest.len());
                continue;
            } else if first == '"' {
                string_length(rest)
            } else if first.is_ascii_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            let range = at..at + length;
            at = range.end;
            return text.get(range.clone()).map(|token| (range, token));
        }
    })
}

/// Length of the string that `rest` begins with, quotes included; all of it if it never ends.
fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<&str> {
        statements(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn a_semicolon_in_a_string_or_a_comment_ends_nothing() {
        assert_eq!(pieces("// a; b\n @id(\"x;\\\"y\") p; // tail;\n q;"), ["@id(\"x;\\\"y\") p;", "q;"]);
        assert_eq!(pieces("// hidden\rp;"), ["p;"], "a carriage return ends a comment, as it does for Cedar");
        assert_eq!(pieces("p; q"), ["p;", "q"], "what is left over is kept, for the parser to refuse");
        assert_eq!(pieces(" // nothing"), Vec::<&str>::new());
    }

    #[test]
    fn a_word_is_found_outside_strings_and_comments_only() {
        let text = "\"like\" // like\n x like \"y\";";
        assert_eq!(find(text, &(0..text.len()), &["like"]), Some(text.rfind("like").unwrap()));
        assert_eq!(find(text, &(0..text.len()), &["like", "\"y\""]), Some(text.rfind("like").unwrap()));
        assert_eq!(find(text, &(0..text.len()), &["absent"]), None);
    }
}
