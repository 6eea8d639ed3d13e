//! `countersign pen DIR`: the process that signs, as `serve` and `ca check` start it; nobody types it.

use std::path::PathBuf;

use clap::Args;

use super::{LogFormat, log, supervised};
use crate::pen::{self, Purpose};

#[derive(Debug, Args)]
pub struct PenArgs {
    dir: PathBuf,
    /// Sign for `ca check` instead, with this CA of the list
    #[arg(long, value_name = "N")]
    probes: Option<usize>,
    #[arg(long, value_name = "text|json", default_value = "text")]
    log: LogFormat,
    /// Only warnings in the log
    #[arg(long)]
    quiet: bool,
}

/// Runs on one thread until the bastion is gone.
pub fn run(args: &PenArgs) -> anyhow::Result<u8> {
    supervised::keep_memory_private();
    log(if args.quiet { "countersign=warn" } else { "countersign=info" }, args.log);
    for stray in supervised::strays() {
        tracing::warn!(stray, "the pen was handed a descriptor that is not its own");
    }
    pen::run(&args.dir, args.probes.map_or(Purpose::Sessions, Purpose::Probes))?;
    Ok(0)
}
