//! What sealing costs: bytes kept per byte seen, a crowd that ends at once, verification, the log, the sweep.
//!
//! Prints figures and asserts nothing about time. `cargo bench --bench sealed`

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a benchmark says what it expects by unwrapping it")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign::access::ruling::RecordLevel;
use countersign::audit::{Event as AuditEvent, LogPoint};
use countersign::authority::{KeyPlan, Keys, SealKey, SealVerifier};
use countersign::id::{Digest, SessionId};
use countersign::recording::verify::{Files, verify};
use countersign::recording::{Durability, Header, Part, Protection, Recordings, RecoveredBy, Settings};
use countersign::retention::disposal::Disposal;
use countersign::retention::terms::{Terms, TermsOf};
use countersign::store::Store;
use countersign::store::clock::Clock;
use countersign::time::Timestamp;
use countersign::transcript::envelope::Identity;
use countersign::transcript::{Event, Exit, Outcome, Stream};

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        sizes().await;
        crowd().await;
        verifying().await;
        log().await;
        sweep().await;
    });
}

struct Scene {
    dir: tempfile::TempDir,
    auditor: Identity,
    recordings: Recordings,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        std::fs::create_dir(&keys).unwrap();
        for key in ["host_ed25519", "user_ca", "host_ca", "seal_key", "log_key"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(keys.join(key)).status().unwrap();
            assert!(made.success());
        }
        let auditor = Identity::generate();
        let auditors = vec![auditor.recipient().unwrap(), Identity::generate().recipient().unwrap()];
        let settings = Settings {
            dir: dir.path().join("recordings"),
            free_floor: 0,
            bulk_cap: u64::MAX,
            writers: 2,
            durability: Durability::Second,
            protection: Protection::Sealed { auditors, key_files: vec![dir.path().join("key-files")], recovered_by: RecoveredBy::Node },
            bastion: "bench".into(),
            seal_key: SealKey::new(&Keys::read(&KeyPlan::usual(dir.path())).unwrap()),
            log: tokio::sync::watch::channel(LogPoint { size: 0, root: Digest([0; 32]) }).1,
        };
        Self { recordings: Recordings::open(settings).unwrap(), dir, auditor }
    }

    async fn record(&self, terminal: bool, chunks: &[Vec<u8>]) -> countersign::recording::Ended {
        let recorder = self.recordings.begin(header(terminal)).await.unwrap();
        let tape = recorder.tape();
        for chunk in chunks {
            tape.record(vec![Event::Bytes { stream: Stream::Output, bytes: Bytes::copy_from_slice(chunk) }]).await.unwrap();
        }
        recorder.end(Outcome::Exited(Exit::Status(0))).await.unwrap()
    }
}

fn header(terminal: bool) -> Header {
    let period = |text: &str| text.parse().unwrap();
    let of = TermsOf { name: "year".parse().unwrap(), keep_at_least: period("90d"), delete_after: period("1y") };
    let now = Timestamp::now();
    Header {
        session: SessionId::new(now),
        request: None,
        person: "alice".parse().unwrap(),
        target: "web-1".parse().unwrap(),
        login: "deploy".parse().unwrap(),
        kind: if terminal { "shell" } else { "exec" }.into(),
        command: None,
        terminal: terminal.then(|| (80, 24, "xterm-256color".into())),
        started: now,
        record: RecordLevel::Output,
        retention: Terms { schedules: vec![of], at_most: vec![], zone: "UTC".into(), policy: Digest([0; 32]) },
        serial: 1,
    }
}

/// What `gzip -6` makes of the same bytes, without times or anything else.
fn gzip(bytes: &[u8]) -> usize {
    let mut child = Command::new("gzip").arg("-6").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, &bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output.stdout.len()
}

async fn sizes() {
    println!("bytes kept per byte seen: body, key file, manifest and signature together; gzip -6 of the bare bytes beside it");
    let short: Vec<Vec<u8>> = vec![b"$ ls\r\n".to_vec(), b"Cargo.toml  README.md  src\r\n$ ".to_vec(), b"exit\r\n".to_vec()];
    let top = |n: usize| {
        let lines: String = (0..22)
            .map(|row| {
                format!(
                    "{:>7} root      20   0 {:>9} {:>6}   {:>5} S  {:>4}.{} 0.{}   0:{:02}.{:02} process-{row}\x1b[K\r\n",
                    1000 + row * 7,
                    90_000 + n * row,
                    4000 + n % 97,
                    1024,
                    n % 9,
                    row % 10,
                    n % 10,
                    n % 60,
                    row
                )
            })
            .collect();
        format!("\x1b[H\x1b[7mtop - {:02}:{:02}\x1b[0m\r\n{lines}", n / 60, n % 60).into_bytes()
    };
    let heavy: Vec<Vec<u8>> = (0..1200).map(top).collect();
    let bulk: Vec<Vec<u8>> = (0..1600u64)
        .map(|n| (0..2048u64).flat_map(|m| (n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(m * m)).to_le_bytes()).collect())
        .collect();
    for (name, terminal, chunks) in [("short", true, short), ("terminal-heavy", true, heavy), ("bulk", false, bulk)] {
        let scene = Scene::new();
        let raw: Vec<u8> = chunks.concat();
        let sealed = scene.record(terminal, &chunks).await.seal().await.unwrap();
        let parts =
            [Part::Key, Part::Manifest, Part::Signature].map(|part| scene.recordings.part(sealed.session, part).unwrap().len() as u64);
        let all = sealed.bytes + parts.iter().sum::<u64>();
        let gz = gzip(&raw);
        println!(
            "  {name:<15} {:>9} raw {:>9} kept (body {:>9})  {:>6.3} per byte   gzip {:>9} {:>6.3}",
            raw.len(),
            all,
            sealed.bytes,
            all as f64 / raw.len() as f64,
            gz,
            gz as f64 / raw.len() as f64
        );
    }
}

async fn crowd() {
    let scene = Scene::new();
    let chunks: Vec<Vec<u8>> = (0..64).map(|n| format!("line {n} of a session that is like others\r\n").repeat(400).into_bytes()).collect();
    let mut ended = Vec::new();
    for _ in 0..50 {
        ended.push(scene.record(true, &chunks).await);
    }
    let began = Instant::now();
    let mut seals = tokio::task::JoinSet::new();
    ended.into_iter().for_each(|one| drop(seals.spawn(one.seal())));
    let mut longest = Duration::ZERO;
    while let Some(sealed) = seals.join_next().await {
        sealed.unwrap().unwrap();
        longest = began.elapsed();
    }
    println!("50 sessions of 1 MB end at once: the last is sealed after {longest:.2?}");
}

async fn verifying() {
    let scene = Scene::new();
    let line = |n: usize| format!("{n:>9} some text that a program writes, with numbers {} and words\n", n * 7919 % 10_007).into_bytes();
    let chunks: Vec<Vec<u8>> = (0..2000).map(|n| (0..500).flat_map(|m| line(n * 500 + m)).collect()).collect();
    let raw: usize = chunks.iter().map(Vec::len).sum();
    let began = Instant::now();
    let sealed = scene.record(false, &chunks).await;
    let recorded = began.elapsed();
    let began = Instant::now();
    let sealed = sealed.seal().await.unwrap();
    let sealing = began.elapsed();
    let part = |part: Part| scene.recordings.part(sealed.session, part).unwrap();
    let (manifest, signature, key_file) = (part(Part::Manifest), String::from_utf8(part(Part::Signature)).unwrap(), part(Part::Key));
    let known = SealVerifier::new("bench", &scene.recordings.seal_key()).unwrap();
    let body = scene.recordings.body(&sealed.file).unwrap();
    let began = Instant::now();
    let files = Files { manifest: &manifest, signature: &signature, key_file: Some(&key_file), body };
    verify(files, &known, Some(&scene.auditor)).unwrap();
    let verified = began.elapsed();
    let rate = |took: Duration| raw as f64 / 1e6 / took.as_secs_f64();
    println!(
        "{} MB of text: recorded at {:.0} MB/s, sealed at {:.0} MB/s, verified at {:.0} MB/s",
        raw / 1_000_000,
        rate(recorded),
        rate(sealing),
        rate(verified)
    );
}

async fn log() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("bench.db")).await.unwrap();
    const ROWS: u64 = 20_000;
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            for n in 0..ROWS / 64 {
                let facts = serde_json::json!({ "session": "01M85CYQW3MD95JV56X25KJJDN", "n": n, "task": task });
                store.report(AuditEvent::new("bench", facts), Timestamp::now()).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    println!("audit appends, 64 at a time, each durable when it returns: {:.0} a second", ROWS as f64 / began.elapsed().as_secs_f64());
    let began = Instant::now();
    for n in 0..500 {
        store.report(AuditEvent::new("bench", serde_json::json!({ "n": n })), Timestamp::now()).await.unwrap();
    }
    println!("audit appends, one after another: {:.0} a second", 500.0 / began.elapsed().as_secs_f64());
}

fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Rows as sealing leaves them, straight into the database: the sweep reads nothing else before it marks.
fn fill(database: &Path, due: Timestamp) {
    const SCRIPT: &str = "
import sqlite3, sys, json
db, due = sqlite3.connect(sys.argv[1]), int(sys.argv[2])
terms = json.dumps({'schedules': [{'name': 'year', 'keep_at_least': 'P1D', 'delete_after': 'P1D'}], 'at_most': [], 'zone': 'UTC', 'policy': '00' * 32})
letters = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
def ulid(n):
    text = ''
    for _ in range(16): text, n = letters[n % 32] + text, n // 32
    return '01M85CYQW3' + text
rows = ((ulid(n), None, 'alice', 'web-1', 'deploy', 'shell', '192.0.2.1', n + 1, 'output', terms, due - 10**11 + n, due - 10**11 + n + 1, 'exited 0', 'sealed/x', bytes(32), 1, bytes(32), 1, 'year', due, due) for n in range(100000))
db.executemany('insert into sessions (id, request, person, target, login, kind, source, serial, record, retention, started, ended, outcome, file, sha256, bytes, manifest, sealed_seq, schedule, keep_until, due) values (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)', rows)
db.commit()
";
    let done = Command::new("python3").args(["-c", SCRIPT]).arg(database).arg(due.micros().to_string()).status().unwrap();
    assert!(done.success());
}

async fn sweep() {
    let scene = Scene::new();
    let path = scene.dir.path().join("bench.db");
    let store = Store::open(&path).await.unwrap();
    let clock = Clock::open(store.clone(), countersign::time::seen().await).await.unwrap();
    let disposal = Disposal::new(store.clone(), scene.recordings.clone(), clock, "bench".into());
    let now = Timestamp::now();
    fill(&path, now.plus(Duration::from_secs(3600)));
    let (before, began) = (peak_memory(), Instant::now());
    let swept = disposal.sweep(Duration::from_secs(60), now).await.unwrap();
    println!("sweep over 100,000 recordings of which none is due: {:.2?}, {swept:?}", began.elapsed());
    let began = Instant::now();
    let swept = disposal.sweep(Duration::from_secs(7200), now).await.unwrap();
    let took = began.elapsed();
    println!(
        "sweep that marks all 100,000, each with its row, a page in a transaction: {took:.1?} ({:.0} a second), {swept:?}; peak memory {before} -> {} MiB",
        swept.marked as f64 / took.as_secs_f64(),
        peak_memory()
    );
}
