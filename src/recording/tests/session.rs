use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[tokio::test]
async fn a_session_is_sealed_and_every_stock_tool_reads_it() {
    let scene = Scene::new();
    let header = header(false);
    let recorder = scene.recordings.begin(header.clone()).await.unwrap();
    let tape = recorder.tape();
    tape.record(vec![Event::Marker { text: "exec".into() }, bytes(Stream::Input, b"in\xff\n")]).await.unwrap();
    tape.record(vec![bytes(Stream::Output, "naï".as_bytes()), bytes(Stream::Error, b"oops\n")]).await.unwrap();
    tape.record(vec![bytes(Stream::Output, "ve\r\n\0".as_bytes()), Event::Eof { stream: Stream::Output }]).await.unwrap();
    tape.record(vec![Event::Exit(Exit::Status(3))]).await.unwrap();
    let sealed = recorder.end(Outcome::Exited(Exit::Status(3))).await.unwrap().seal().await.unwrap();

    assert_eq!((sealed.session, &sealed.outcome), (header.session, &Outcome::Exited(Exit::Status(3))));
    let path = scene.recordings.locate(header.session).unwrap();
    let raw = std::fs::read(&path).unwrap();
    assert_eq!((Digest::of(&raw), raw.len() as u64), (sealed.sha256, sealed.bytes));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);

    let text = stock_zstd(&path);
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
    assert!(text.starts_with("{\"version\":2,\"width\":80,\"height\":24,\"timestamp\":1781440100,"), "{text}");

    let replay = scene.replay(&sealed);
    assert_eq!(replay.header(), &header);
    assert_eq!(replay.totals().outcome, "exited 3");
    let (streams, others) = rebuild(replay);
    assert_eq!(streams.of(Stream::Input), b"in\xff\n");
    assert_eq!(streams.of(Stream::Output), "naïve\r\n\0".as_bytes());
    assert_eq!(streams.of(Stream::Error), b"oops\n");
    assert_eq!(others.len(), 3);

    assert_eq!(scene.spools().len(), 1, "the spool is the recording until the transaction says otherwise");
    scene.recordings.unlink_spool(header.session).unwrap();
    scene.recordings.unlink_spool(header.session).unwrap();
    assert!(scene.spools().is_empty());
}

#[tokio::test]
async fn no_session_begins_below_the_floor() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { dir: dir.path().join("recordings"), free_floor: u64::MAX, bulk_cap: CAP, writers: 1 };
    let recordings = Recordings::open(settings).unwrap();
    let refused = recordings.begin(header(true)).await.unwrap_err();
    assert!(matches!(refused, RecordError::DiskFloor { floor: u64::MAX, .. }), "{refused}");
    assert_eq!(std::fs::read_dir(dir.path().join("recordings/spool")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_spool_that_cannot_be_made_begins_nothing() {
    let scene = Scene::new();
    let header = header(true);
    let first = scene.recordings.begin(header.clone()).await.unwrap();
    assert!(matches!(scene.recordings.begin(header.clone()).await, Err(RecordError::BadSpool { .. })));
    assert!(first.tape().record(vec![bytes(Stream::Output, b"still")]).await.is_ok());
    std::fs::rename(scene.dir.path().join("recordings/spool"), scene.dir.path().join("gone")).unwrap();
    assert!(matches!(scene.recordings.begin(self::header(true)).await, Err(RecordError::Io { .. })));
}

#[tokio::test]
async fn the_header_is_on_the_disk_before_the_recorder_exists() {
    let scene = Scene::new();
    let header = header(true);
    let _recorder = scene.recordings.begin(header.clone()).await.unwrap();
    let (mut reader, read) = super::super::read::SpoolReader::open(&scene.spools()[0]).unwrap();
    assert_eq!(read, header);
    assert!(matches!(reader.next().unwrap(), super::super::read::Next::Cut(_)));
}

#[tokio::test]
async fn what_record_has_returned_for_is_in_the_file() {
    let scene = Scene::new();
    let recorder = scene.recordings.begin(header(true)).await.unwrap();
    let tape = recorder.tape();
    for n in 0..200u32 {
        let canary = format!("canary-{n:04}");
        tape.record(vec![bytes(Stream::Output, canary.as_bytes())]).await.unwrap();
        let spool = std::fs::read(&scene.spools()[0]).unwrap();
        assert!(spool.ends_with(canary.as_bytes()), "{canary} was not written when record() returned");
    }
}

#[tokio::test]
async fn after_the_end_a_tape_takes_nothing() {
    let scene = Scene::new();
    let recorder = scene.recordings.begin(header(true)).await.unwrap();
    let tape = recorder.tape();
    let ended = recorder.end(exited()).await.unwrap();
    assert!(matches!(tape.record(vec![bytes(Stream::Output, b"late")]).await, Err(RecordError::Stopped)));
    ended.seal().await.unwrap();
}

#[tokio::test]
async fn what_was_written_is_synced_soon() {
    let scene = Scene::new();
    let recorder = scene.recordings.begin(header(true)).await.unwrap();
    recorder.tape().record(vec![bytes(Stream::Output, b"x")]).await.unwrap();
    let spool = recorder.tape().spool;
    until("the sync after a write", || !spool.is_dirty()).await;
}

#[tokio::test]
async fn a_second_process_is_kept_out_of_the_directory() {
    let scene = Scene::new();
    let settings = Settings { dir: scene.dir.path().join("recordings"), free_floor: 0, bulk_cap: CAP, writers: 1 };
    let refused = tokio::task::spawn_blocking(move || Recordings::open(settings)).await.unwrap();
    assert!(matches!(refused, Err(RecordError::InUse { .. })));
}
