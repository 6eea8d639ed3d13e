//! From one line, as `ssh` hands it over, to words: POSIX quotes, no expansion of any kind.
//!
//! `ssh bastion deny K7Q3FM --note "freeze until 06:00"` arrives without its quotes, so `--note` and
//! `--reason` take every word up to the next option, and an apostrophe in them is an apostrophe.

/// The line cannot be cut into words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    #[error("a quote is not closed; close it, or put the text last: --note it's done")]
    Unclosed,
    #[error("the line is longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("the line holds a NUL or a character that is none")]
    NotText,
}

/// Longest console line: the longest exact command (32 KiB) with its quotes.
pub const MAX_LINE: usize = 64 * 1024;

/// Options whose text may be several words.
const FREE_TEXT: [&str; 2] = ["--note", "--reason"];

/// shell-words takes a word that begins with `#` for a comment and drops the rest of the line; in a
/// reason (`--reason #4711 disk full`) that would be a silent cut. This noncharacter stands in for it.
const HASH: &str = "\u{fdd0}";

/// Cuts a console line into words.
pub fn split(line: &str) -> Result<Vec<String>, BadLine> {
    if line.len() > MAX_LINE {
        return Err(BadLine::TooLong);
    }
    if line.contains(HASH) || line.contains('\0') {
        return Err(BadLine::NotText);
    }
    if let Some(words) = reason_with_apostrophe(line) {
        return Ok(words);
    }
    match quoted(&apostrophes_kept(line)) {
        Ok(words) => Ok(gather(words)),
        Err(unclosed) => free_text_last(line).ok_or(unclosed),
    }
}

/// In free text that is not quoted itself, an apostrophe between two letters (`don't`) is no quote.
fn apostrophes_kept(line: &str) -> String {
    let Some((text, _)) = free_text(line).filter(|(text, _)| !line[*text..].starts_with(['\'', '"'])) else {
        return line.to_owned();
    };
    let mut kept = line[..text].to_owned();
    let (mut before, mut rest) = (' ', line[text..].chars().peekable());
    while let Some(c) = rest.next() {
        if c == '\'' && before.is_alphanumeric() && rest.peek().is_some_and(|next| next.is_alphanumeric()) {
            kept.push('\\');
        }
        kept.push(c);
        before = c;
    }
    kept
}

/// `reason REQ it's the disk`: what follows the request is text, and its apostrophe is one.
fn reason_with_apostrophe(line: &str) -> Option<Vec<String>> {
    let (request, text) = line.trim().strip_prefix("reason ")?.trim_start().split_once(char::is_whitespace)?;
    let text = text.trim();
    let apostrophe = text.as_bytes().windows(2).any(|pair| matches!(pair, [before, b'\''] if before.is_ascii_alphanumeric()));
    let plain = apostrophe && !text.starts_with(['\'', '"']);
    plain.then(|| ["reason", request].into_iter().chain(text.split_whitespace()).map(str::to_owned).collect())
}

/// Where the text of the first `--note` or `--reason` begins, and where its option does.
fn free_text(line: &str) -> Option<(usize, usize)> {
    let begins = |(at, option): (usize, &str)| {
        let spaced = line[..at].ends_with(char::is_whitespace);
        let rest = line[at + option.len()..].strip_prefix([' ', '=', '\t'])?;
        spaced.then(|| (line.len() - rest.trim_start().len(), at))
    };
    FREE_TEXT.iter().flat_map(|option| line.match_indices(option)).filter_map(begins).min()
}

fn quoted(line: &str) -> Result<Vec<String>, BadLine> {
    let words = shell_words::split(&line.replace('#', HASH)).map_err(|_| BadLine::Unclosed)?;
    Ok(words.into_iter().map(|word| word.replace(HASH, "#")).collect())
}

/// Joins the words after `--note` and `--reason`, up to the next option, into one.
pub fn gather(words: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let free = FREE_TEXT.iter().any(|option| word == *option || word.strip_prefix(option).is_some_and(|rest| rest.starts_with('=')));
        if !free {
            out.push(word);
            continue;
        }
        let (option, first) = word.split_once('=').map_or((word.as_str(), None), |(option, text)| (option, Some(text.to_owned())));
        let mut text: Vec<String> = first.into_iter().collect();
        while let Some(more) = words.next_if(|next| !next.starts_with("--")) {
            text.push(more);
        }
        // Nothing follows: left bare, so that the grammar names what is missing.
        out.push(if text.is_empty() { option.to_owned() } else { format!("{option}={}", text.join(" ")) });
    }
    out
}

/// A line whose quotes do not close because its free text, to the end of the line, has an apostrophe.
fn free_text_last(line: &str) -> Option<Vec<String>> {
    let (text, option) = free_text(line)?;
    let mut words = quoted(&line[..text]).ok()?;
    let last = words.pop()?;
    let option = if line[option..].starts_with(FREE_TEXT[0]) { FREE_TEXT[0] } else { FREE_TEXT[1] };
    last.starts_with(option).then(|| words.push(format!("{option}={}", line[text..].trim_end())))?;
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Vec<String> {
        split(line).unwrap()
    }

    #[test]
    fn quotes_are_posix_and_nothing_expands() {
        assert_eq!(words(r#"a 'b c' "d \" e" f\ g"#), ["a", "b c", "d \" e", "f g"]);
        assert_eq!(words("$HOME ~ * $(id) `id` a|b;c"), ["$HOME", "~", "*", "$(id)", "`id`", "a|b;c"]);
    }

    #[test]
    fn free_text_takes_the_words_to_the_next_option() {
        assert_eq!(words("deny K7Q3FM --note freeze until 06:00"), ["deny", "K7Q3FM", "--note=freeze until 06:00"]);
        assert_eq!(
            words("request a@b --reason INC-42 disk full --for 30m"),
            ["request", "a@b", "--reason=INC-42 disk full", "--for", "30m"]
        );
        assert_eq!(words("deny K7Q3FM --note=not now -x"), ["deny", "K7Q3FM", "--note=not now -x"]);
        assert_eq!(words("deny K7Q3FM --note"), ["deny", "K7Q3FM", "--note"]);
    }

    #[test]
    fn a_number_sign_in_a_reason_is_not_a_comment() {
        assert_eq!(words("reason K7Q3FM #4711 disk full"), ["reason", "K7Q3FM", "#4711", "disk", "full"]);
    }

    #[test]
    fn an_apostrophe_in_free_text_is_an_apostrophe() {
        assert_eq!(words("deny K7Q3FM --note don't, it's late"), ["deny", "K7Q3FM", "--note=don't, it's late"]);
        assert_eq!(words("request a@b --reason can't log in --for 30m"), ["request", "a@b", "--reason=can't log in", "--for", "30m"]);
        assert_eq!(words("reason K7Q3FM #42 it's the disk"), ["reason", "K7Q3FM", "#42", "it's", "the", "disk"]);
        assert_eq!(words("deny K7Q3FM --note the dogs' dinner"), ["deny", "K7Q3FM", "--note=the dogs' dinner"]);
        assert_eq!(words("deny K7Q3FM --note 'it'\\''s late' --json"), ["deny", "K7Q3FM", "--note=it's late", "--json"]);
        assert_eq!(split("approve 'K7Q3FM"), Err(BadLine::Unclosed));
    }

    proptest! {
        #[test]
        fn any_line_is_words_or_one_error(line in "\\PC{0,80}") {
            let _ = split(&line);
        }

        #[test]
        fn what_a_shell_would_quote_comes_back(words in proptest::collection::vec("[^\u{0}\u{fdd0}-]{0,12}", 0..6)) {
            prop_assert_eq!(split(&shell_words::join(&words)).unwrap(), words);
        }
    }
}
