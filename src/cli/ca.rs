//! `countersign ca …`: what the keys of this bastion mean for targets and laptops.

mod check;
mod enroll;
mod show;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use crate::authority::PublicKeys;
use crate::config::Directory;
use crate::console::grammar::Destination;
use crate::id::{Login, TargetId};

#[derive(Debug, Subcommand)]
pub enum CaWhat {
    /// The lines for laptops and for targets, filled in
    Show {
        #[arg(short = 'c', value_name = "DIR")]
        dir: PathBuf,
    },
    /// A script that lets this bastion into a target; it shows what it would change until --apply
    Enroll(EnrollArgs),
    /// Log in to targets and say which half is missing
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub struct EnrollArgs {
    /// The target's name in targets.toml
    #[arg(required_unless_present = "any")]
    target: Option<TargetId>,
    /// One script for all hosts, for images: each is the target that its host name says
    #[arg(long, conflicts_with = "target")]
    any: bool,
    /// Accounts to let in; all that targets.toml lists, where none is named
    #[arg(long, value_name = "LOGIN")]
    login: Vec<Login>,
    #[arg(long, value_enum, default_value_t = Format::Shell)]
    format: Format,
    #[arg(short = 'c', value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// sh FILE, then sh FILE --apply
    Shell,
    /// A playbook
    Ansible,
    /// User data for a host's first boot
    CloudInit,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// LOGIN@TARGET
    #[arg(required_unless_present = "all")]
    place: Option<Destination>,
    /// Every login of every target
    #[arg(long, conflicts_with = "place")]
    all: bool,
    /// With this CA of `[keys] user_ca`, from 1: who lacks the next one
    #[arg(long, value_name = "N", default_value_t = 1)]
    signer: usize,
    #[arg(short = 'c', value_name = "DIR")]
    dir: PathBuf,
}

/// Runs one of them; returns the exit status.
pub async fn run(what: CaWhat, json: bool) -> anyhow::Result<u8> {
    match what {
        CaWhat::Show { dir } => show::run(&dir),
        CaWhat::Enroll(args) => enroll::run(&args),
        CaWhat::Check(args) => check::run(&args, json).await,
    }
}

fn load(dir: &Path) -> anyhow::Result<Directory> {
    let Ok(directory) = Directory::load(dir) else { bail!("{} is not in order: countersign check -c {0}", dir.display()) };
    Ok(directory)
}

fn public_keys(directory: &Directory) -> anyhow::Result<PublicKeys> {
    PublicKeys::read(&directory.config.keys).context("the bastion's keys cannot be read")
}
