//! `countersign backup` and `countersign restore`: on the bastion's own machine, with files.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::clock::operator;
use super::fetch::Own;
use super::say;
use crate::audit::recovery::{MAX_REASON, grouped};
use crate::backup::{self, Missing, Order, Restored};
use crate::console::render::visible;
use crate::time::Timestamp;
use crate::transcript::envelope::{NotARecipient, Recipient};

#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to write; readable by the recipients only
    file: PathBuf,
    /// Who may read it: an age or SSH public key, or its file; may be repeated
    #[arg(long, value_name = "RECIPIENT", num_args = 1)]
    to: Vec<String>,
    #[arg(short = 'c', value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// What `countersign backup` wrote
    file: PathBuf,
    /// What `countersign audit export` wrote since: revocations, used grants, holds, disposals
    #[arg(long, value_name = "EXPORT", required_unless_present = "without_log", conflicts_with = "without_log")]
    log: Option<PathBuf>,
    /// There is no export: whatever could have been used is void, and every recording is held
    #[arg(long)]
    without_log: bool,
    /// The recordings' own disk survived (not a mirror): its checkpoint tells whether rows are missing
    #[arg(long)]
    disk_survived: bool,
    /// A new directory; recordings and key files may be there already
    #[arg(short = 'c', value_name = "DIR")]
    dir: PathBuf,
    /// The key that opens the backup: a private SSH key or age's; else ~/.ssh/id_ed25519
    #[arg(long, value_name = "KEY")]
    identity: Option<PathBuf>,
    /// Why; everybody who remembers a longer log reads it
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Recipients in one backup: their part of the file is bounded.
const MAX_RECIPIENTS: usize = 60;
/// No public key is longer.
const MAX_KEY: u64 = 16 * 1024;

/// Backs the bastion up, and says what has to be kept in another way.
pub async fn make(args: &BackupArgs) -> anyhow::Result<u8> {
    let to: Vec<Recipient> = args.to.iter().map(|text| recipient(text)).collect::<Result<_, _>>()?;
    if to.is_empty() {
        bail!(
            "a backup holds the keys of the bastion, so it is encrypted: say to whom: --to age1… (age-keygen makes one), or --to KEY.pub"
        );
    }
    if to.len() > MAX_RECIPIENTS {
        bail!("a backup is for {MAX_RECIPIENTS} keys at most, not {}", to.len());
    }
    let made = backup::make(&args.dir, &args.file, &to, &operator(), Timestamp::now()).await?;
    let mut text = format!(
        "countersign: backed up {}: {} rows of log, {} bytes in {}, for {}\n",
        made.bastion,
        grouped(made.log.size),
        grouped(made.bytes),
        args.file.display(),
        if to.len() == 1 { "1 key".to_owned() } else { format!("{} keys", to.len()) }
    );
    for dir in &made.key_files {
        text.push_str(&format!(
            "countersign: not in it, so that what is destroyed stays destroyed: mirror key files: rsync -a --delete {}/ ELSEWHERE/\n",
            dir.display()
        ));
    }
    text.push_str(&format!("countersign: not in it either: recordings, in {}\n", made.recordings.display()));
    Ok(say(&text).err().unwrap_or(0))
}

/// A public key, or the file of one.
fn recipient(text: &str) -> anyhow::Result<Recipient> {
    match text.parse::<Recipient>() {
        Ok(recipient) => Ok(recipient),
        Err(NotARecipient::Unknown) if Path::new(text).is_file() => {
            let mut key = String::new();
            let file = std::fs::File::open(text).and_then(|file| file.take(MAX_KEY).read_to_string(&mut key));
            file.with_context(|| format!("{text} cannot be read"))?;
            key.parse().with_context(|| format!("nothing can be encrypted to {text}"))
        }
        Err(why) => bail!("nothing can be encrypted to {}: {why}", visible(&text.chars().take(80).collect::<String>())),
    }
}

/// Restores, and says what was done, what is missing, and what comes next.
pub async fn restore(args: &RestoreArgs) -> anyhow::Result<u8> {
    let reason = args.reason.trim();
    if reason.is_empty() || reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
        bail!("the reason is one line of 1 to {MAX_REASON} bytes: everybody who remembers a longer log reads it");
    }
    let own = Own::new(args.identity.as_deref());
    let identity =
        own.load().with_context(|| format!("{} cannot open the backup; name another key: --identity KEY", own.path.display()))?;
    let by = operator();
    let log = args.log.as_deref().filter(|_| !args.without_log);
    let order = Order { dir: &args.dir, backup: &args.file, log, disk_survived: args.disk_survived, identity: &identity, by: &by, reason };
    let restored = backup::restore(&order, Timestamp::now()).await?;
    Ok(say(&in_words(&restored, args)).err().unwrap_or(0))
}

/// Sessions that are named one by one.
const NAMED: usize = 20;

fn in_words(restored: &Restored, args: &RestoreArgs) -> String {
    let dir = args.dir.display();
    let Restored { bastion, made, applied, unsigned, missing, voided, held, recordings } = restored;
    let mut text = format!("countersign: restored {bastion} into {dir} from the backup of {made}\n");
    let mut line = |words: String| text.push_str(&format!("countersign: {}\n", visible(&words)));
    match args.log {
        Some(_) => line(format!("{} rows of the log since then were applied again", grouped(*applied))),
        None => line("no log was given: what happened since then is not known here".into()),
    }
    if *unsigned > 0 {
        line(format!("{} rows behind the export's last checkpoint are signed by nobody, and were left out", grouped(*unsigned)));
    }
    match missing {
        Missing::Nothing => line("no row is missing up to the last checkpoint beside the recordings".into()),
        Missing::Rows(from, to) => line(format!("Missing: {}-{}", grouped(*from), grouped(*to))),
        Missing::Unknown => line(
            "whether rows are missing, those know who remember the log; where the recordings' own disk survived, and not a mirror, \
                 say --disk-survived"
                .into(),
        ),
    }
    line(format!("void now: {} open requests, {} open grants; people ask again", voided.requests, voided.grants));
    if let Some(hold) = held {
        line(format!(
            "every recording is held ({hold}): holds may be lost; place those again, then: countersign release {hold} --reason …"
        ));
    }
    line(format!(
        "recordings: {} known, {} adopted again, {} more found to have gone lawfully",
        recordings.known, recordings.adopted, recordings.disposed
    ));
    for (session, why) in recordings.left.iter().take(NAMED) {
        line(format!("recording {session} was left alone: {why}"));
    }
    if recordings.left.len() > NAMED {
        line(format!("… and {} more", recordings.left.len() - NAMED));
    }
    if !recordings.back.is_empty() {
        let which: Vec<String> = recordings.back.iter().take(NAMED).map(ToString::to_string).collect();
        line(format!(
            "{} recordings that have lawfully gone lie here again, from a mirror? Remove: {}",
            recordings.back.len(),
            which.join(", ")
        ));
    }
    if recordings.without_key > 0 {
        line(format!("{} recordings have no key file here: put the mirror of the key files in its place", recordings.without_key));
    }
    line(format!("next: countersign check -c {dir}; countersign serve -c {dir}"));
    text
}
