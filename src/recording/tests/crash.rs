use std::collections::BTreeSet;

use super::*;
use crate::recording::file::Batch;
use crate::recording::layout::Layout;
use crate::transcript::record::encode_event;

/// A spool as a crash leaves it: whole records only, no end. Returns where each record ends.
fn spool(scene: &Scene, layout: &Layout, header: &Header, events: &[Event]) -> Vec<u64> {
    let path = layout.spool(header.session);
    let mut file = new_spool(&scene.recordings, layout, header);
    let mut ends = vec![path.metadata().unwrap().len()];
    for (n, event) in events.iter().enumerate() {
        let mut batch = Batch::default();
        file.open_batch(&mut batch);
        batch.record(|to| encode_event(n as u64 * 1000, event, to));
        file.append(&batch).unwrap();
        ends.push(path.metadata().unwrap().len());
    }
    ends
}

fn said() -> Vec<Event> {
    ["one\r\n", "two \u{e9}\r\n", "three"].iter().map(|text| bytes(Stream::Output, text.as_bytes())).collect()
}

#[tokio::test]
async fn a_spool_torn_at_any_byte_keeps_every_whole_record() {
    let scene = Scene::new();
    let layout = Layout::open(&scene.dir.path().join("recordings")).unwrap();
    let mut torn = Vec::new();
    // Envelopes differ in length, so each spool has borders of its own.
    let longest = spool(&scene, &layout, &header(true), &said())[3];
    for cut in 0..=longest {
        let header = header(true);
        let ends = spool(&scene, &layout, &header, &said());
        let cut = cut.min(ends[3]);
        std::fs::OpenOptions::new().write(true).open(layout.spool(header.session)).unwrap().set_len(cut).unwrap();
        torn.push((header.session, cut, ends));
    }
    let sealed = scene.recordings.recover(&|_| false).await.unwrap();
    for (session, cut, ends) in torn {
        let Some(sealed) = sealed.iter().find(|sealed| sealed.session == session) else {
            assert!(cut < ends[0], "only a torn header cannot be sealed, not a spool of {cut} bytes");
            continue;
        };
        assert_eq!(sealed.outcome, Outcome::Interrupted);
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        let expected: Vec<u8> = ["one\r\n", "two \u{e9}\r\n", "three"][..whole].concat().into_bytes();
        let replay = scene.replay(sealed);
        assert_eq!(replay.totals().cut.as_ref().map(|cut| cut.offset), Some(ends[whole]));
        assert_eq!(rebuild(replay).0.of(Stream::Output), &expected, "torn at {cut}");
    }
    assert!(scene.recordings.set_aside().unwrap().is_empty(), "what ends within its header held nothing");
    assert!(scene.spools().iter().all(|path| sealed.iter().any(|one| layout.spool(one.session) == *path)), "and is gone");
}

#[tokio::test]
async fn a_flipped_bit_is_never_sealed_as_if_it_were_whole() {
    let scene = Scene::new();
    let layout = Layout::open(&scene.dir.path().join("recordings")).unwrap();
    let header = header(true);
    let ends = spool(&scene, &layout, &header, &said());
    let path = layout.spool(header.session);
    let mut raw = std::fs::read(&path).unwrap();
    let at = usize::try_from(ends[2]).unwrap() - 3;
    raw[at] ^= 4;
    std::fs::write(&path, raw).unwrap();
    let sealed = scene.recordings.recover(&|_| false).await.unwrap().remove(0);
    assert_eq!(sealed.outcome, Outcome::Interrupted);
    let replay = scene.replay(&sealed);
    assert_eq!(replay.totals().cut.as_ref().unwrap().why, "record 2 is not what was written there");
    assert_eq!(rebuild(replay).0.of(Stream::Output), b"one\r\n");
}

#[tokio::test]
async fn recovery_unlinks_what_has_a_row_and_seals_again_what_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let recordings = open(dir.path());
    let mut sessions = Vec::new();
    for n in 0..3 {
        let recorder = recordings.begin(header(true)).await.unwrap();
        recorder.tape().record(vec![bytes(Stream::Output, b"work")]).await.unwrap();
        let ended = recorder.end(Outcome::Exited(Exit::Status(n))).await.unwrap();
        sessions.push(ended.seal().await.unwrap());
    }
    let killed = recordings.begin(header(true)).await.unwrap();
    killed.tape().record(vec![bytes(Stream::Output, b"until the kill")]).await.unwrap();
    drop((recordings, killed));

    // A newer attempt died half-way, an older one left a file that is not whole.
    let layout = Layout::open(&dir.path().join("recordings")).unwrap();
    std::fs::write(layout.sealed(sessions[1].session, Part::Body).with_extension("age.tmp"), b"half").unwrap();
    std::fs::write(layout.sealed(sessions[2].session, Part::Body), b"half").unwrap();

    let recordings = open(dir.path());
    let row = sessions[0].session;
    let sealed = recordings.recover(&|session| session == row).await.unwrap();
    let outcomes: BTreeSet<String> = sealed.iter().map(|sealed| sealed.outcome.to_string()).collect();
    assert_eq!(outcomes, BTreeSet::from(["exited 1".into(), "exited 2".into(), "interrupted".into()]));
    for before in &sessions[1..] {
        let after = sealed.iter().find(|after| after.session == before.session).unwrap();
        assert_eq!(before.ended, after.ended);
        assert_ne!(before.sha256, after.sha256, "a fresh identity each attempt");
        assert_eq!(rebuild(replay(&recordings, after)).0.of(Stream::Output), b"work");
    }
    assert!(!layout.spool(row).exists());
    assert!(!layout.sealed(sessions[1].session, Part::Body).with_extension("age.tmp").exists());
    for sealed in &sealed {
        recordings.unlink_spool(sealed.session).unwrap();
    }
    assert!(recordings.recover(&|_| true).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_no_spool_is_set_aside_and_keeps_nobody() {
    let scene = Scene::new();
    let spools = scene.dir.path().join("recordings/spool");
    std::fs::write(spools.join("notes.spool"), b"not ours").unwrap();
    std::fs::write(spools.join(format!("{}.spool", header(true).session)), b"CSSPOOL3 of a later version").unwrap();
    let layout = Layout::open(&scene.dir.path().join("recordings")).unwrap();
    let (good, other) = (header(true), header(true));
    spool(&scene, &layout, &good, &said());
    // A spool under the name of another session.
    spool(&scene, &layout, &other, &said());
    std::fs::rename(layout.spool(other.session), layout.spool(header(true).session)).unwrap();

    let sealed = scene.recordings.recover(&|_| false).await.unwrap();
    assert_eq!(sealed.iter().map(|sealed| sealed.session).collect::<Vec<_>>(), [good.session]);
    let aside = scene.recordings.set_aside().unwrap();
    assert_eq!(aside.len(), 3, "{aside:?}");
    assert_eq!(std::fs::read(spools.join("notes.spool.bad")).unwrap(), b"not ours");
}

#[tokio::test]
async fn a_running_session_is_left_alone() {
    let scene = Scene::new();
    let running = scene.recordings.begin(header(true)).await.unwrap();
    assert!(scene.recordings.recover(&|_| false).await.unwrap().is_empty());
    assert!(scene.recordings.recover(&|_| true).await.unwrap().is_empty());
    running.tape().record(vec![bytes(Stream::Output, b"on")]).await.unwrap();
    let sealed = running.end(exited()).await.unwrap().seal().await.unwrap();
    assert_eq!(rebuild(scene.replay(&sealed)).0.of(Stream::Output), b"on");
}

#[tokio::test]
async fn a_recorder_that_was_dropped_is_no_success() {
    let scene = Scene::new();
    let recorder = scene.recordings.begin(header(true)).await.unwrap();
    let tape = recorder.tape();
    tape.record(vec![bytes(Stream::Output, b"then")]).await.unwrap();
    drop(recorder);
    assert!(matches!(tape.record(vec![bytes(Stream::Output, b"after")]).await, Err(RecordError::Stopped)));
    let watched = std::sync::Arc::downgrade(&tape.spool);
    drop(tape);
    until("the writers let go of it", || watched.strong_count() == 0).await;
    let sealed = scene.recordings.recover(&|_| false).await.unwrap();
    assert_eq!(sealed[0].outcome, Outcome::Interrupted);
    assert_eq!(rebuild(scene.replay(&sealed[0])).0.of(Stream::Output), b"then");
}

#[tokio::test]
async fn a_failed_sync_is_never_a_success_later() {
    let scene = Scene::new();
    let recorder = scene.recordings.begin(header(true)).await.unwrap();
    let tape = recorder.tape();
    tape.record(vec![bytes(Stream::Output, b"before")]).await.unwrap();
    let lost = std::io::Error::from_raw_os_error(5);
    tape.spool.fail(lost, "could not sync", crate::recording::spool::FailureKind::Sync);
    assert!(tape.failed().await.to_string().starts_with("could not sync"));
    assert!(tape.record(vec![bytes(Stream::Output, b"after")]).await.is_err());
    assert!(recorder.end(exited()).await.is_err());
    drop(tape);
    // The spool stays, and what can be read of it is sealed as what it is.
    let sealed = scene.recordings.recover(&|_| false).await.unwrap();
    assert!(matches!(&sealed[0].outcome, Outcome::RecordingFailed { why } if why.contains("could not sync")), "{:?}", sealed[0].outcome);
    assert_eq!(rebuild(scene.replay(&sealed[0])).0.of(Stream::Output), b"before");
}
