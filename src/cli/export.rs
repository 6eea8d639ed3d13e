//! A recording as a file of the auditor's own: asciicast for any player, or the text that was on the screen.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::Context;
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::bastion::Bastion;
use super::fetch::{Own, fetch};
use super::trust::Known;
use crate::console::grammar::{ExportArgs, Format, Purpose, ReplayArgs, SessionWord};
use crate::console::{Keys, Text, play};

pub async fn run<R, W>(bastion: &mut Bastion<R, W>, args: &ExportArgs, known: &Known, own: &Own) -> anyhow::Result<u8>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let fetched = fetch(bastion, &args.session, Purpose::Export, 0).await?;
    let body = fetched.open(&known.seal_key, own)?;
    match args.format {
        Format::Cast => {
            let cast = zstd::stream::read::Decoder::new(body).context("the recording is not compressed as it should be")?;
            write(cast, args.output.as_deref())?;
        }
        Format::Text => {
            let how = ReplayArgs { session: SessionWord::Last, speed: 1.0, idle: None, at: None };
            let mut keys = Keys::new(tokio::io::empty());
            match &args.output {
                None => play(body, &how, None, &mut keys, &mut Text::new(tokio::io::stdout(), false)).await?,
                Some(path) => {
                    let file = tokio::fs::File::from_std(create(path)?);
                    play(body, &how, None, &mut keys, &mut Text::new(file, false)).await?
                }
            };
        }
    }
    Ok(0)
}

fn write(mut cast: impl Read, to: Option<&Path>) -> anyhow::Result<()> {
    let copied = match to {
        None => std::io::copy(&mut cast, &mut std::io::stdout().lock()),
        Some(path) => std::io::copy(&mut cast, &mut create(path)?),
    };
    match copied {
        // `| head` has what it wanted.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        copied => copied.map(drop).context("the recording cannot be written out"),
    }
}

/// A new file of mode 0600; what it holds was encrypted for a reason. Never over another.
fn create(path: &Path) -> anyhow::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("{} cannot be made", path.display()))?;
    file.flush().with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(file)
}
