//! `countersign notify test NAME -c DIR`: sends one notice, so that a mistake is found by day.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Subcommand;

use crate::config::Directory;
use crate::id::NotifierName;
use crate::notify::Notice;
use crate::time::Timestamp;

#[derive(Debug, Subcommand)]
pub enum NotifyWhat {
    /// Send one notice, as the bastion would, and say how it went
    Test {
        /// A name of `[notifiers]`
        name: NotifierName,
        #[arg(short = 'c', value_name = "DIR")]
        dir: PathBuf,
    },
}

pub async fn run(what: NotifyWhat) -> anyhow::Result<()> {
    let NotifyWhat::Test { name, dir } = what;
    let Ok(directory) = Directory::load(&dir) else { bail!("{} is not in order: countersign check -c {0}", dir.display()) };
    let config = &directory.config;
    let Some(plan) = config.notifiers.get(&name) else {
        let known: Vec<&str> = config.notifiers.keys().map(NotifierName::as_str).collect();
        let known = if known.is_empty() { "there are none".to_owned() } else { format!("there are {}", known.join(", ")) };
        bail!("{} has no [notifiers.{name}]; {known}", dir.join("countersign.toml").display());
    };
    let notice = Notice::test(name.as_str(), &config.host, Timestamp::now().plus(Duration::from_secs(60)));
    plan.notifier().deliver(&notice).await.with_context(|| format!("{name} did not take the notice"))?;
    eprintln!("countersign: {name} took the notice");
    Ok(())
}
