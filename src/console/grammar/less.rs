//! How an approval grants less than was asked, as people type it.

use std::str::FromStr;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Span, Start};
use crate::access::Class;
use crate::id::Digest;

/// How an approval may grant less than was asked.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Less {
    /// Grant at most this long
    #[arg(long = "for", value_name = "15m")]
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub duration: Option<Span>,
    /// Grant one session only
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// Grant only this: shell, exec:*, sftp, sftp-read, 'exec:COMMAND' (which takes the rest); several with commas
    #[arg(long, value_name = "exec:*,sftp")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<Part>,
    /// Not before (22:00, UTC, or RFC 3339)
    #[arg(long, value_name = "22:00")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Start>,
    /// Over by then, whenever it was used first (06:00, UTC, or RFC 3339)
    #[arg(long, value_name = "06:00")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Start>,
    /// For the requester and the record; may take the rest of the line
    #[arg(long, default_value = "")]
    pub note: String,
}

impl Less {
    /// Whether anything but the note is said.
    pub fn is_less(&self) -> bool {
        let Self { duration, once, scope, from, until, note: _ } = self;
        duration.is_some() || *once || !scope.is_empty() || from.is_some() || until.is_some()
    }
}

/// One value of `--scope`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Part {
    typed: String,
    pub classes: Vec<Class>,
    /// The text of the exact command among them.
    pub command: Option<String>,
}

impl FromStr for Part {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut part = Self { typed: text.to_owned(), classes: Vec::new(), command: None };
        let mut rest = text;
        loop {
            let (word, more) = rest.split_once(',').map_or((rest, None), |(word, more)| (word, Some(more)));
            match word.trim() {
                "sftp" => part.classes.extend([Class::SftpRead, Class::SftpWrite]),
                "exec" => part.classes.push(Class::ExecAny),
                word => match (word.parse(), rest.trim_start().strip_prefix("exec:")) {
                    (Ok(class), _) => part.classes.push(class),
                    (Err(_), Some(command)) if !command.is_empty() && !command.contains('\0') => {
                        part.classes.push(Class::Exec(Digest::of(command.as_bytes())));
                        part.command = Some(command.to_owned());
                        return Ok(part);
                    }
                    (Err(_), _) => {
                        return Err(format!(
                            "{word:?} is no scope: write shell, exec:*, sftp, sftp-read, sftp-write, forward-local:HOST:PORT, forward-remote:HOST:PORT, agent-forward or 'exec:COMMAND'"
                        ));
                    }
                },
            }
            match more {
                Some(more) => rest = more,
                None => return Ok(part),
            }
        }
    }
}

impl TryFrom<String> for Part {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Part> for String {
    fn from(part: Part) -> String {
        part.typed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_classes_and_at_most_one_command_to_its_end() {
        let part = |text: &str| text.parse::<Part>().unwrap();
        assert_eq!(part("exec:*,sftp").classes, [Class::ExecAny, Class::SftpRead, Class::SftpWrite]);
        let one = part("sftp-read,exec:tail -f a, b");
        assert_eq!(one.command.as_deref(), Some("tail -f a, b"));
        assert_eq!(one.classes, [Class::SftpRead, Class::Exec(Digest::of(b"tail -f a, b"))]);
        assert_eq!(part(&format!("exec:{}", Digest([7; 32]))).classes, [Class::Exec(Digest([7; 32]))]);
        for wrong in ["", "exec:", "root", "shell,,sftp"] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
    }
}
