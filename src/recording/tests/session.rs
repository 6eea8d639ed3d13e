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

    let text = stock(scene.dir.path(), &scene.recordings, header.session);
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
    let settings = Settings { free_floor: u64::MAX, ..settings(dir.path()) };
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
    let unwrap = |envelope: &[u8]| scene.recordings.node.recovery.unwrap(envelope);
    let (mut reader, read) = super::super::read::SpoolReader::open(&scene.spools()[0], &unwrap).unwrap();
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
        assert_eq!(last_of(&scene), bytes(Stream::Output, canary.as_bytes()), "not written when record() returned");
        let spool = std::fs::read(&scene.spools()[0]).unwrap();
        assert!(!spool.windows(canary.len()).any(|window| window == canary.as_bytes()), "{canary} lies open on the disk");
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
    let settings = settings(scene.dir.path());
    let refused = tokio::task::spawn_blocking(move || Recordings::open(settings)).await.unwrap();
    assert!(matches!(refused, Err(RecordError::InUse { .. })));
}

/// The last event of the only spool, as recovery would find it now.
fn last_of(scene: &Scene) -> Event {
    let unwrap = |envelope: &[u8]| scene.recordings.node.recovery.unwrap(envelope);
    let (mut reader, _) = super::super::read::SpoolReader::open(&scene.spools()[0], &unwrap).unwrap();
    let mut last = None;
    while let super::super::read::Next::Event { event, .. } = reader.next().unwrap() {
        last = Some(event);
    }
    last.unwrap()
}

#[tokio::test]
async fn a_sealed_recording_verifies_and_its_manifest_by_ssh_keygen_alone() {
    let scene = Scene::new();
    let recorder = scene.recordings.begin(header(true)).await.unwrap();
    recorder.tape().record(vec![bytes(Stream::Output, b"seen")]).await.unwrap();
    let sealed = recorder.end(exited()).await.unwrap().seal().await.unwrap();
    let part = |part: Part| scene.recordings.part(sealed.session, part).unwrap();
    let (manifest, signature) = (part(Part::Manifest), String::from_utf8(part(Part::Signature)).unwrap());
    let known = crate::authority::SealVerifier::new("b-1", &scene.recordings.seal_key()).unwrap();
    let files = verify::Files {
        manifest: &manifest,
        signature: &signature,
        key_file: Some(&part(Part::Key)),
        body: scene.recordings.body(&sealed.file).unwrap(),
    };
    let verified = verify::verify(files, &known, Some(auditor())).unwrap();
    assert_eq!((verified.digest, verified.contents.unwrap().cut), (sealed.manifest, None));

    let dir = scene.dir.path();
    std::fs::write(dir.join("allowed"), format!("b-1 {}\n", scene.recordings.seal_key())).unwrap();
    std::fs::write(dir.join("sig"), &signature).unwrap();
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-Y", "verify", "-n", crate::transcript::manifest::NAMESPACE, "-I", "b-1"]);
    keygen.arg("-f").arg(dir.join("allowed")).arg("-s").arg(dir.join("sig"));
    std::fs::write(dir.join("manifest"), &manifest).unwrap();
    let said = run(keygen.stdin(std::fs::File::open(dir.join("manifest")).unwrap()));
    assert!(String::from_utf8_lossy(&said).starts_with("Good \"countersign-recording-v1\" signature for b-1"));
}

#[tokio::test]
async fn two_auditors_read_each_others_do_not_and_the_disk_shows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, other) = (Identity::generate(), Identity::generate(), Identity::generate());
    let auditors = vec![one.recipient().unwrap(), two.recipient().unwrap()];
    let keys = dir.path().join("key-files");
    let protection =
        Protection::Sealed { auditors, key_files: vec![keys.clone(), dir.path().join("key-mirror")], recovered_by: RecoveredBy::Node };
    let recordings = Recordings::open(Settings { protection, ..settings(dir.path()) }).unwrap();
    let recorder = recordings.begin(header(true)).await.unwrap();
    let canary = b"canary-4711-of-the-thief";
    recorder.tape().record(vec![bytes(Stream::Output, canary), bytes(Stream::Input, canary)]).await.unwrap();
    let sealed = recorder.end(exited()).await.unwrap().seal().await.unwrap();
    recordings.unlink_spool(sealed.session).unwrap();
    assert!(!holds(dir.path(), canary), "the disk holds what was on the screen");

    let manifest = Manifest::read(&recordings.part(sealed.session, Part::Manifest).unwrap()).unwrap();
    let recipient = manifest.body.recipient.unwrap();
    let copy = std::fs::read(recordings.locate(sealed.session).unwrap()).unwrap();
    let key_file = recordings.part(sealed.session, Part::Key).unwrap();
    for auditor in [&one, &two] {
        let own = open_key_file(&key_file, auditor, &recipient).unwrap();
        let replay = Replay::over(unseal(std::io::Cursor::new(copy.clone()), Some(&own)).unwrap()).unwrap();
        assert_eq!(rebuild(replay).0.of(Stream::Output), canary);
    }
    assert!(matches!(open_key_file(&key_file, &other, &recipient), Err(UnsealError::KeyFile(_))));
    recordings.erase_keys(sealed.session).await.unwrap();
    assert!(recordings.part(sealed.session, Part::Key).is_err(), "in no directory");
}

/// Whether any file below a directory holds these bytes.
fn holds(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() { holds(&path, bytes) } else { std::fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes) }
    })
}
