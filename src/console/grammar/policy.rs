//! `policy show|test|explain`: the first asks the bastion, the others read a directory on this machine.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::typed::Destination;
use crate::access::Endpoint;
use crate::id::Person;
use crate::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyArgs {
    #[command(subcommand)]
    pub what: PolicyWhat,
}

#[derive(Debug, Clone, PartialEq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PolicyWhat {
    /// The files, as they were loaded
    Show {
        /// The digest, or its beginning
        digest: String,
    },
    /// Run the policies' own tests, policies/cases, of a directory on this machine
    Test {
        #[arg(short = 'c', value_name = "DIR")]
        dir: PathBuf,
    },
    /// What would be ruled, by which policy, and whom it would take
    Explain(ExplainArgs),
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainArgs {
    /// Who asks
    pub person: Person,
    /// Where, as which account; TARGET alone is its default login
    #[arg(value_name = "LOGIN@TARGET")]
    pub place: Destination,
    /// shell, exec, sftp, sftp-read, sftp-write, forward-local, forward-remote, agent-forward, or what is done on the console: approve, kill …
    pub action: String,
    /// The command of an exec, where policy compares it
    #[arg(long, allow_hyphen_values = true)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Where a forward leads or listens: HOST:PORT
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Endpoint>,
    /// When, RFC 3339; else now
    #[arg(long, value_name = "2026-01-01T03:00Z", value_parser = minute)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// From which address
    #[arg(long, value_name = "IP", default_value = "192.0.2.1")]
    pub source: IpAddr,
    /// With a second factor
    #[arg(long)]
    #[serde(default)]
    pub mfa: bool,
    /// For the first time on this target
    #[arg(long)]
    #[serde(default)]
    pub first_time: bool,
    /// The directory, on this machine
    #[arg(short = 'c', value_name = "DIR")]
    pub dir: PathBuf,
}

/// Reads RFC 3339; the seconds may be left out.
fn minute(text: &str) -> Result<Timestamp, String> {
    let whole = match text.strip_suffix('Z').and_then(|time| time.split_once('T')) {
        Some((day, time)) if time.matches(':').count() == 1 => format!("{day}T{time}:00Z"),
        _ => text.to_owned(),
    };
    chrono::DateTime::parse_from_rfc3339(&whole)
        .map(|at| Timestamp::from_micros(at.timestamp_micros()))
        .map_err(|_| format!("{text:?} is not a time: write 2026-01-05T03:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rfc_3339_with_or_without_seconds() {
        assert_eq!(minute("2026-01-01T03:00Z"), minute("2026-01-01T04:00:00+01:00"));
        assert_eq!(minute("2026-01-01T03:00Z").unwrap().to_string(), "2026-01-01T03:00:00.000Z");
        for bad in ["03:00", "2026-01-01", "2026-01-01T03Z", "2026-01-01T25:00Z", "Z", "T:Z"] {
            assert!(minute(bad).is_err(), "{bad}");
        }
    }
}
