//! Scenarios on real files: a session, a crash, a full disk, a crowd, a replay.

mod crash;
mod crowd;
mod full_disk;
mod rules;
mod session;
mod watching;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::access::ruling::RecordLevel;
use crate::transcript::event::PerStream;
use crate::transcript::{Event, Exit, Stream};

const CAP: u64 = 10 * 1024 * 1024;

/// A directory of recordings that goes with the test.
struct Scene {
    recordings: Recordings,
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { recordings: open(dir.path()), dir }
    }

    fn spools(&self) -> Vec<PathBuf> {
        let spools = std::fs::read_dir(self.dir.path().join("recordings/spool")).unwrap();
        spools.map(|entry| entry.unwrap().path()).collect()
    }

    fn replay(&self, sealed: &Sealed) -> Replay {
        Replay::over(self.recordings.body(&sealed.file).unwrap()).unwrap()
    }
}

fn open(dir: &Path) -> Recordings {
    let settings = Settings { dir: dir.join("recordings"), free_floor: 0, bulk_cap: CAP, writers: 2 };
    Recordings::open(settings).unwrap()
}

fn header(terminal: bool) -> Header {
    let session = SessionId::new(Timestamp::from_micros(1_781_440_100_123_000));
    Header { session, record: RecordLevel::Full, ..crate::transcript::header::tests::header(terminal) }
}

fn bytes(stream: Stream, bytes: &[u8]) -> Event {
    Event::Bytes { stream, bytes: Bytes::copy_from_slice(bytes) }
}

fn exited() -> Outcome {
    Outcome::Exited(Exit::Status(0))
}

/// All streams of a recording, and its other events; every digest has been compared on the way.
fn rebuild(replay: Replay) -> (PerStream<Vec<u8>>, Vec<Event>) {
    let (mut streams, mut others) = (PerStream::<Vec<u8>>::default(), Vec::new());
    for played in replay {
        match played.unwrap().event {
            Event::Bytes { stream, bytes } => streams.of_mut(stream).extend_from_slice(&bytes),
            other => others.push(other),
        }
    }
    (streams, others)
}

/// What the stock tool says a sealed file holds.
fn stock_zstd(path: &Path) -> String {
    let out = Command::new("zstd").arg("-dc").arg(path).output().expect("zstd is installed (apt-get install zstd)");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Waits for a state, with a bound.
async fn until(what: &str, mut state: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !state() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
