use std::sync::mpsc;

use super::*;
use crate::recording::spool::QUEUE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_sessions_at_once_keep_their_own() {
    let scene = Scene::new();
    let mut sessions = tokio::task::JoinSet::new();
    for n in 0..50usize {
        let recordings = scene.recordings.clone();
        sessions.spawn(async move {
            let recorder = recordings.begin(header(n.is_multiple_of(2))).await.unwrap();
            let (one, other) = (recorder.tape(), recorder.tape());
            let (mut sent, mut typed) = (Vec::new(), Vec::new());
            for line in 0..40usize {
                let text = format!("session {n} line {line}\r\n").repeat(line * 7 + 1);
                sent.extend_from_slice(text.as_bytes());
                typed.push(b'0' + (line % 10) as u8);
                let (shown, keyed) = tokio::join!(
                    one.record(vec![bytes(Stream::Output, text.as_bytes())]),
                    other.record(vec![bytes(Stream::Input, &typed[line..])])
                );
                shown.unwrap();
                keyed.unwrap();
            }
            let sealed = recorder.end(Outcome::Exited(Exit::Status(n as u32))).await.unwrap().seal().await.unwrap();
            (n, sent, typed, sealed)
        });
    }
    for (n, sent, typed, sealed) in sessions.join_all().await {
        assert_eq!(sealed.outcome, Outcome::Exited(Exit::Status(n as u32)));
        let (streams, _) = rebuild(scene.replay(&sealed));
        assert_eq!(streams.of(Stream::Output), &sent);
        assert_eq!(streams.of(Stream::Input), &typed);
    }
}

#[tokio::test]
async fn a_full_queue_makes_record_wait_until_there_is_room() {
    let scene = Scene::new();
    let recorder = scene.recordings.begin(header(true)).await.unwrap();
    let spool = recorder.tape().spool;

    // A disk that stands still: somebody else holds the file.
    let (held, release) = (std::sync::Arc::clone(&spool), mpsc::channel::<()>());
    let stuck = std::thread::spawn(move || {
        let _file = held.file();
        let _ = release.1.recv();
    });
    until("the disk stands still", || spool.is_being_written()).await;

    let mut waiting = tokio::task::JoinSet::new();
    let packet = Bytes::from(vec![b'x'; 32 * 1024]);
    for _ in 0..100 {
        let (tape, bytes) = (recorder.tape(), packet.clone());
        waiting.spawn(async move { tape.record(vec![Event::Bytes { stream: Stream::Output, bytes }]).await });
    }
    until("the queue is full", || spool.free_room() < packet.len()).await;
    assert!(waiting.try_join_next().is_none(), "nothing is written");
    assert!(spool.queued() <= QUEUE, "{} bytes", spool.queued());

    drop(release.0);
    stuck.join().unwrap();
    assert!(waiting.join_all().await.into_iter().all(|recorded| recorded.is_ok()));
    assert_eq!(spool.free_room(), QUEUE, "all of the room came back");
    drop(spool);
    let sealed = recorder.end(exited()).await.unwrap().seal().await.unwrap();
    assert_eq!(scene.replay(&sealed).totals().output.bytes, 100 * 32 * 1024);
}

#[tokio::test]
async fn more_than_a_queue_in_one_call_goes_in_alone() {
    let scene = Scene::new();
    let recorder = scene.recordings.begin(header(true)).await.unwrap();
    let large = vec![b'y'; 3 * QUEUE];
    recorder.tape().record(vec![bytes(Stream::Output, &large), bytes(Stream::Output, b"end")]).await.unwrap();
    let sealed = recorder.end(exited()).await.unwrap().seal().await.unwrap();
    assert_eq!(rebuild(scene.replay(&sealed)).0.of(Stream::Output).len(), large.len() + 3);
}

#[tokio::test]
async fn a_disk_that_fails_wakes_everybody_who_waits() {
    let scene = Scene::new();
    let recorder = scene.recordings.begin(header(true)).await.unwrap();
    let spool = recorder.tape().spool;
    let (held, release) = (std::sync::Arc::clone(&spool), mpsc::channel::<()>());
    let stuck = std::thread::spawn(move || {
        let _file = held.file();
        let _ = release.1.recv();
    });
    until("the disk stands still", || spool.is_being_written()).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let tape = recorder.tape();
        waiting.spawn(async move { tape.record(vec![bytes(Stream::Output, &[b'z'; 32 * 1024])]).await });
    }
    until("some are written, some wait for room", || spool.free_room() < 32 * 1024).await;
    spool.fail(std::io::Error::from_raw_os_error(28), "could not write to", crate::recording::spool::FailureKind::Write);
    let all = waiting.join_all();
    let woken = tokio::time::timeout(Duration::from_secs(5), all).await.expect("nobody is left waiting");
    assert!(woken.iter().all(Result::is_err));
    drop(release.0);
    stuck.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_takes_neither_memory_nor_disk() {
    const PACKETS: u64 = 200 * 1024 / 32;
    let scene = Scene::new();
    let recorder = scene.recordings.begin(header(false)).await.unwrap();
    let tape = recorder.tape();
    let packet = Bytes::from((0..32 * 1024u32).map(|n| (n * 7 % 253) as u8).collect::<Vec<u8>>());
    let mut most = 0;
    for _ in 0..PACKETS / 4 {
        let events = vec![Event::Bytes { stream: Stream::Output, bytes: packet.clone() }; 4];
        tape.record(events).await.unwrap();
        most = most.max(tape.spool.queued());
    }
    assert!(most <= QUEUE, "{most} bytes were queued");
    drop(tape);
    let ended = recorder.end(exited()).await.unwrap();
    let spool = scene.spools()[0].metadata().unwrap().len();
    assert!(spool < CAP + CAP / 10, "the spool has {spool} bytes");
    let sealed = ended.seal().await.unwrap();
    let output = scene.replay(&sealed).totals().output.clone();
    assert_eq!((output.bytes, output.withheld.as_ref().map(|w| w.bytes)), (CAP, Some(200 * 1024 * 1024 - CAP)));
    assert_eq!(rebuild(scene.replay(&sealed)).0.of(Stream::Output).len() as u64, CAP);
}
