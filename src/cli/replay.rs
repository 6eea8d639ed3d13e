//! A replay in the person's own terminal: the body comes over the wire into a file without a name.

use std::io::{Seek, Write};

use anyhow::{Context, bail};
use sha2::Digest as _;
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::bastion::{Bastion, Heard};
use super::{say, terminal};
use crate::console::grammar::{ReplayArgs, Verb};
use crate::console::render::json;
use crate::console::reply::{RecordingLine, Reply};
use crate::console::{Keys, Look, Text, play};
use crate::id::Digest;

/// Fetches a recording and plays it; with `--json`, says only what it is.
pub async fn run<R, W>(bastion: &mut Bastion<R, W>, args: ReplayArgs, look: Look, as_json: bool) -> anyhow::Result<u8>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (recording, body) = fetch(bastion, &args).await?;
    if as_json {
        return Ok(say(&(json(&Reply::Recording(recording)) + "\n")).err().unwrap_or(0));
    }
    let size = terminal::size().filter(|_| look.width.is_some());
    // On a terminal keys act at once; its modes come back when this ends.
    let raw = size.and_then(|_| terminal::raw().ok());
    let mut out = Text::new(tokio::io::stdout(), raw.is_some());
    match (&raw, terminal::keys()) {
        (Some(_), Ok(typed)) => play(body, &args, size, &mut Keys::new(typed), &mut out).await?,
        (None, _) | (_, Err(_)) => play(body, &args, size, &mut Keys::new(tokio::io::empty()), &mut out).await?,
    };
    Ok(0)
}

/// Takes exactly the bytes that were announced, into a file of mode 0600 that has no name.
async fn fetch<R, W>(bastion: &mut Bastion<R, W>, args: &ReplayArgs) -> anyhow::Result<(RecordingLine, std::fs::File)>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    bastion.send(&Verb::Replay(args.clone())).await?;
    let Heard::Event(Reply::Recording(recording)) = bastion.hear().await? else {
        bail!("the bastion answers with something else than a recording");
    };
    let mut body = tempfile::tempfile().context("no place for the recording; set TMPDIR")?;
    let (mut sum, mut length) = (sha2::Sha256::new(), 0u64);
    loop {
        match bastion.hear().await? {
            Heard::Bytes(bytes) => {
                length += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                if length > recording.bytes {
                    bail!("the recording {} is longer than the {} bytes that were announced", recording.session, recording.bytes);
                }
                sum.update(&bytes);
                body.write_all(&bytes).context("the recording cannot be kept; set TMPDIR")?;
            }
            Heard::Result(_) => break,
            Heard::Event(_) => bail!("the bastion answers with something else than a recording"),
        }
    }
    if length != recording.bytes || Digest(sum.finalize().into()) != recording.sha256 {
        bail!(
            "the recording {} is not the one that was sealed: {length} of {} bytes, or another SHA-256",
            recording.session,
            recording.bytes
        );
    }
    body.rewind().context("the recording cannot be read back")?;
    Ok((recording, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::wire::{Said, say as put, say_bytes};
    use std::io::Read;

    async fn fetched(announced: u64, sent: &[u8], digest: Digest) -> anyhow::Result<Vec<u8>> {
        let recording =
            RecordingLine { session: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(), sha256: digest, bytes: announced, file: "f".into() };
        let mut wire = Vec::new();
        put(&mut wire, Some(1), Said::Event(Reply::Recording(recording.clone()))).await.unwrap();
        say_bytes(&mut wire, 1, sent).await.unwrap();
        put(&mut wire, Some(1), Said::Result(Reply::Recording(recording))).await.unwrap();
        let mut bastion = Bastion::over("bastion", &wire[..], tokio::io::sink());
        let args = ReplayArgs { session: "last".parse().unwrap(), speed: 1.0, idle: None, at: None };
        let (_, mut body) = fetch(&mut bastion, &args).await?;
        let mut got = Vec::new();
        body.read_to_end(&mut got)?;
        Ok(got)
    }

    #[tokio::test]
    async fn a_recording_is_taken_only_as_it_was_sealed() {
        let sent = vec![7; 600_000];
        let digest = Digest::of(&sent);
        assert_eq!(fetched(600_000, &sent, digest).await.unwrap(), sent);
        assert!(fetched(599_999, &sent, digest).await.unwrap_err().to_string().contains("longer"));
        assert!(fetched(600_001, &sent, digest).await.is_err());
        assert!(fetched(600_000, &sent, Digest([0; 32])).await.unwrap_err().to_string().contains("sealed"));
    }
}
