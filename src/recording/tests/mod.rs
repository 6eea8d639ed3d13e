//! Scenarios on real files: a session, a crash, a full disk, a crowd, a replay.

mod crash;
mod crowd;
mod full_disk;
mod keys;
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
use crate::transcript::envelope::Identity;
use crate::transcript::event::PerStream;
use crate::transcript::manifest::Manifest;
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

    fn replay(&self, sealed: &Sealed) -> Replay<Unsealed> {
        replay(&self.recordings, sealed)
    }
}

/// An auditor whom every recording of these tests is encrypted to.
fn auditor() -> &'static Identity {
    static AUDITOR: std::sync::OnceLock<Identity> = std::sync::OnceLock::new();
    AUDITOR.get_or_init(Identity::generate)
}

/// A spool that this node's recovery key opens.
fn new_spool(recordings: &Recordings, layout: &layout::Layout, header: &Header) -> file::SpoolFile {
    let node = &recordings.node;
    let (key, envelope) = node.recovery.new_key(&node.protection()).unwrap();
    file::SpoolFile::create(&layout.spool(header.session), key, None, &envelope, &header.to_json()).unwrap()
}

/// A recording as its auditor opens it.
fn replay(recordings: &Recordings, sealed: &Sealed) -> Replay<Unsealed> {
    let manifest = Manifest::read(&recordings.part(sealed.session, Part::Manifest).unwrap()).unwrap();
    let key_file = recordings.part(sealed.session, Part::Key).unwrap();
    let own = open_key_file(&key_file, auditor(), manifest.body.recipient.as_deref().unwrap()).unwrap();
    Replay::over(unseal(recordings.body(&sealed.file).unwrap(), Some(&own)).unwrap()).unwrap()
}

fn settings(dir: &Path) -> Settings {
    let auditors = vec![auditor().recipient().unwrap()];
    Settings {
        dir: dir.join("recordings"),
        free_floor: 0,
        bulk_cap: CAP,
        writers: 2,
        durability: Durability::Second,
        protection: Protection::Sealed { auditors, key_files: vec![dir.join("key-files")], recovered_by: RecoveredBy::Node },
        bastion: "b-1".into(),
        seal_key: crate::authority::tests::seal_key(),
        log: tokio::sync::watch::channel(LogPoint { size: 0, root: Digest([0; 32]) }).1,
    }
}

fn open(dir: &Path) -> Recordings {
    Recordings::open(settings(dir)).unwrap()
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
fn rebuild<R: std::io::Read + std::io::Seek>(replay: Replay<R>) -> (PerStream<Vec<u8>>, Vec<Event>) {
    let (mut streams, mut others) = (PerStream::<Vec<u8>>::default(), Vec::new());
    for played in replay {
        match played.unwrap().event {
            Event::Bytes { stream, bytes } => streams.of_mut(stream).extend_from_slice(&bytes),
            other => others.push(other),
        }
    }
    (streams, others)
}

/// What the stock tools alone make of a sealed recording, with the auditor's key.
fn stock(dir: &Path, recordings: &Recordings, session: SessionId) -> String {
    let (key, own) = (dir.join("auditor.key"), dir.join("own.key"));
    std::fs::write(&key, auditor().secret().unwrap().as_bytes()).unwrap();
    std::fs::write(dir.join("key.age"), recordings.part(session, Part::Key).unwrap()).unwrap();
    std::fs::write(&own, run(Command::new("age").arg("-d").arg("-i").arg(&key).arg(dir.join("key.age")))).unwrap();
    let compressed = run(Command::new("age").arg("-d").arg("-i").arg(&own).arg(recordings.locate(session).unwrap()));
    std::fs::write(dir.join("cast.zst"), compressed).unwrap();
    String::from_utf8(run(Command::new("zstd").arg("-dc").arg(dir.join("cast.zst")))).unwrap()
}

fn run(command: &mut Command) -> Vec<u8> {
    let out = command.output().unwrap_or_else(|error| panic!("{command:?}: {error} (tests/run installs it)"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// Waits for a state, with a bound.
async fn until(what: &str, mut state: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !state() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
