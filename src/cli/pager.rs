//! Long listings through the person's pager, where there is a terminal.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{say, terminal};
use crate::console::Look;
use crate::console::reply::Reply;

/// What is read from top to bottom, and may be long.
pub fn is_listing(reply: &Reply) -> bool {
    matches!(
        reply,
        Reply::Requests(_)
            | Reply::Grants(_)
            | Reply::Targets(_)
            | Reply::Sessions(_)
            | Reply::AuditLog(_)
            | Reply::Auditors(_)
            | Reply::Retention(_)
            | Reply::Plan(_)
            | Reply::Policy(_)
    )
}

/// Writes to standard output; what does not fit on the terminal goes through `$PAGER`, or `less`.
pub fn page(text: &str, look: Look) -> Result<(), u8> {
    let rows = terminal::size().filter(|_| look.width.is_some()).map(|(_, rows)| rows);
    let fits = |rows: u32| text.lines().count() < usize::try_from(rows).unwrap_or(usize::MAX);
    if rows.is_none_or(fits) || !through_pager(text) { say(text) } else { Ok(()) }
}

/// Whether a pager took it.
fn through_pager(text: &str) -> bool {
    let pager = std::env::var("PAGER").ok().unwrap_or_else(|| "less -FRX".to_owned());
    let words = shell_words::split(&pager).unwrap_or_default();
    let Some((program, options)) = words.split_first().filter(|(program, _)| *program != "cat") else { return false };
    let mut command = Command::new(program);
    if std::env::var_os("LESS").is_none() {
        // Without R it would show colours as letters.
        command.env("LESS", "FRX");
    }
    let Ok(mut child) = command.args(options).stdin(Stdio::piped()).spawn() else { return false };
    if let Some(mut input) = child.stdin.take() {
        // Who has read enough closes it.
        input.write_all(text.as_bytes()).ok();
    }
    child.wait().is_ok()
}
