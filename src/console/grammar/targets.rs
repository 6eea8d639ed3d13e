//! `targets`: what a person may ask for, and beside it what an operator does with the files on the
//! bastion's own machine.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TargetsArgs {
    /// None of it travels: it is done where the files are.
    #[command(subcommand)]
    #[serde(skip)]
    pub what: Option<TargetsWhat>,
}

#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum TargetsWhat {
    /// For operators: write hosts that are known elsewhere into a file of targets.d
    Import(ImportArgs),
    /// For operators: pin another host key, of a host that was made anew
    Pin(PinArgs),
}

#[derive(Debug, Clone, PartialEq, Args)]
pub struct ImportArgs {
    /// A file, or - for standard input
    #[arg(value_name = "FILE|-")]
    pub source: PathBuf,
    /// What it is: known_hosts; ansible: what `ansible-inventory --list` prints; csv: name,address,labels,logins,host_key
    #[arg(long, value_name = "known_hosts|ansible|csv")]
    pub from: From,
    /// Print what would be written
    #[arg(long)]
    pub dry_run: bool,
    /// Where to, below policies/
    #[arg(long, value_name = "targets.d/NAME.toml", default_value = "targets.d/imported.toml")]
    pub file: String,
    /// An account on hosts that come without one; may be repeated, the first is the default
    #[arg(long, value_name = "LOGIN")]
    pub login: Vec<String>,
    /// A label for every host; may be repeated
    #[arg(long, value_name = "env=prod")]
    pub label: Vec<String>,
    /// The CA of hosts that come without a key: the key or its .pub file
    #[arg(long, value_name = "KEY|FILE")]
    pub host_ca: Vec<String>,
    /// Where to look up the keys of hosts that come without one
    #[arg(long, value_name = "FILE")]
    pub known_hosts: Option<PathBuf>,
    /// The bastion's directory
    #[arg(short = 'c', long = "dir", value_name = "DIR")]
    pub dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum From {
    #[value(name = "known_hosts")]
    KnownHosts,
    Ansible,
    Csv,
}

#[derive(Debug, Clone, PartialEq, Args)]
pub struct PinArgs {
    pub target: String,
    /// The key that the host's own console shows; may be repeated, all of them replace what is pinned
    // A path by type only: the companion's own `--key`, which is one, stands on every verb.
    #[arg(long, value_name = "'ssh-ed25519 …'", required = true)]
    pub key: Vec<PathBuf>,
    /// Why; the audit log keeps it
    #[arg(long, required = true, num_args = 1..)]
    pub reason: Vec<String>,
    /// The bastion's directory
    #[arg(short = 'c', long = "dir", value_name = "DIR")]
    pub dir: PathBuf,
}
