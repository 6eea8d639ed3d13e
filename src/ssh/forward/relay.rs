//! The relay of one forwarded connection: record, then forward, each direction by a pump of its own.
//!
//! EOF passes at once, so that either side may close its half first. The rules of `ssh/flow` hold: a pump
//! waits for the recorder or for window, and only its own queue grows.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::ledger::Ledger;
use super::sniff::{Sniff, Sniffed};
use crate::recording::RecordError;
use crate::ssh::channel::{ClientChannel, Gone};
use crate::ssh::flow::{End, Item};
use crate::ssh::upstream::Far;
use crate::transcript::Stream;

/// What a pump takes at once.
const BATCH: usize = 256 * 1024;
/// How long the first bytes are kept back when nothing follows that would tell what they are.
const QUIET: Duration = Duration::from_millis(500);
/// How long what one side sent before it left is still passed on.
const LAST: Duration = Duration::from_secs(5);
/// An EOF that cannot be sent for this long does not matter any more.
const CONTROL: Duration = Duration::from_secs(10);

/// How a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// Either side closed it, and what it had sent is passed on.
    Closed,
    /// The client, or its connection, is gone.
    ClientLeft,
    /// The connection to the target broke.
    TargetLost,
    /// One side spoke SSH.
    Ssh,
    /// One side sent beyond its window.
    Overrun,
    Unrecorded(RecordError),
}

/// Bytes that have passed, recorded first.
#[derive(Debug, Default, Clone, Copy)]
pub struct Passed {
    pub input: u64,
    pub output: u64,
}

enum Pumped {
    /// The sender closed, and all of it is passed on.
    Over(End),
    /// The receiver takes nothing more.
    Gone,
    Ssh,
}

/// Relays until either side closes.
pub async fn run(client: &ClientChannel, far: &Far, ledger: &Ledger) -> (Ended, Passed) {
    let mut passed = Passed::default();
    let (mut inside, mut outside) = (0, 0);
    let ended = both_ways(client, far, ledger, (&mut inside, &mut outside)).await;
    (passed.input, passed.output) = (inside, outside);
    (ended, passed)
}

async fn both_ways(client: &ClientChannel, far: &Far, ledger: &Ledger, (inside, outside): (&mut u64, &mut u64)) -> Ended {
    let inward = pump(Way::Inward { client, far }, ledger, inside);
    let outward = pump(Way::Outward { client, far }, ledger, outside);
    tokio::pin!(inward, outward);
    let (mut in_open, mut out_open) = (true, true);
    let last = sleep(Duration::MAX / 4);
    tokio::pin!(last);
    let mut ended = Ended::Closed;
    while in_open || out_open {
        let (done, is_inward) = tokio::select! {
            done = &mut inward, if in_open => (done, true),
            done = &mut outward, if out_open => (done, false),
            () = &mut last => return ended,
        };
        if is_inward {
            in_open = false;
        } else {
            out_open = false;
        }
        match done {
            Err(error) => return Ended::Unrecorded(error),
            Ok(Pumped::Ssh) => return Ended::Ssh,
            Ok(Pumped::Over(End::Overrun)) => return Ended::Overrun,
            // A channel that is closed takes nothing: what the other way still holds has nowhere to go.
            Ok(Pumped::Over(End::Closed)) => return Ended::Closed,
            Ok(Pumped::Over(End::Lost)) => return if is_inward { Ended::ClientLeft } else { Ended::TargetLost },
            // What the one that left had sent before is still passed on, for a while.
            Ok(Pumped::Gone) => {
                ended = if is_inward { Ended::TargetLost } else { Ended::ClientLeft };
                last.as_mut().reset(Instant::now() + LAST);
            }
        }
    }
    ended
}

/// One direction.
#[derive(Clone, Copy)]
enum Way<'a> {
    Inward { client: &'a ClientChannel, far: &'a Far },
    Outward { client: &'a ClientChannel, far: &'a Far },
}

impl Way<'_> {
    fn stream(self) -> Stream {
        match self {
            Way::Inward { .. } => Stream::Input,
            Way::Outward { .. } => Stream::Output,
        }
    }

    async fn take(self) -> Result<Vec<Item>, End> {
        let inbox = match self {
            Way::Inward { client, .. } => &client.inbox,
            Way::Outward { far, .. } => &far.inbox,
        };
        inbox.take(BATCH).await.ok_or_else(|| inbox.ended().unwrap_or(End::Lost))
    }

    /// Waits for window. A writer that waits for it on a closed channel is never woken: it is raced.
    async fn data(self, bytes: Bytes) -> Result<(), Gone> {
        match self {
            Way::Outward { client, .. } => client.output(bytes).await,
            Way::Inward { far, .. } => tokio::select! {
                sent = far.write.data_bytes(bytes) => sent.map_err(|_| Gone),
                _ = far.inbox.gone() => Err(Gone),
            },
        }
    }

    async fn eof(self) -> Result<(), Gone> {
        match self {
            Way::Outward { client, .. } => client.eof(CONTROL).await,
            Way::Inward { far, .. } => tokio::select! {
                sent = timeout(CONTROL, far.write.eof()) => sent.unwrap_or(Ok(())).map_err(|_| Gone),
                _ = far.inbox.gone() => Err(Gone),
            },
        }
    }
}

async fn pump(way: Way<'_>, ledger: &Ledger, passed: &mut u64) -> Result<Pumped, RecordError> {
    let mut sniff = Sniff::default();
    loop {
        let taken = if sniff.keeps() {
            match timeout(QUIET, way.take()).await {
                Ok(taken) => taken,
                Err(_) => {
                    let kept = sniff.release();
                    if forward(way, ledger, vec![kept], passed).await? == Err(Gone) {
                        return Ok(Pumped::Gone);
                    }
                    continue;
                }
            }
        } else {
            way.take().await
        };
        let (items, over) = match taken {
            Ok(items) => (items, None),
            Err(end) => (Vec::new(), Some(end)),
        };
        let (mut batch, mut eof) = (Vec::with_capacity(items.len()), false);
        for item in items {
            match item {
                Item::Data(bytes) => match sniff.feed(bytes.freeze()) {
                    Sniffed::Pass(bytes) => batch.push(bytes),
                    Sniffed::Keep => {}
                    Sniffed::Ssh => return Ok(Pumped::Ssh),
                },
                Item::Eof => eof = true,
                // A forwarded connection has one stream each way, and no requests.
                _ => {}
            }
        }
        if (eof || over.is_some()) && sniff.keeps() {
            batch.push(sniff.release());
        }
        if !batch.is_empty() && forward(way, ledger, batch, passed).await? == Err(Gone) {
            return Ok(Pumped::Gone);
        }
        if eof {
            ledger.eof(way.stream()).await?;
            if way.eof().await.is_err() {
                return Ok(Pumped::Gone);
            }
        }
        if let Some(end) = over {
            return Ok(Pumped::Over(end));
        }
    }
}

/// Records, then passes on.
async fn forward(way: Way<'_>, ledger: &Ledger, batch: Vec<Bytes>, passed: &mut u64) -> Result<Result<(), Gone>, RecordError> {
    ledger.bytes(way.stream(), &batch).await?;
    for bytes in batch {
        let length = bytes.len() as u64;
        if way.data(bytes).await.is_err() {
            return Ok(Err(Gone));
        }
        *passed += length;
    }
    Ok(Ok(()))
}
