use super::*;

/// Records `typed` and `shown`, seals, and returns all bytes that were ever on the disk for it.
async fn kept(terminal: bool, record: RecordLevel) -> (Vec<u8>, Vec<Event>) {
    let scene = Scene::new();
    let recorder = scene.recordings.begin(Header { record, ..header(terminal) }).await.unwrap();
    let tape = recorder.tape();
    tape.record(vec![bytes(Stream::Input, b"typed-canary"), bytes(Stream::Output, b"shown-canary")]).await.unwrap();
    let ended = recorder.end(exited()).await.unwrap();
    let mut disk = std::fs::read(&scene.spools()[0]).unwrap();
    let sealed = ended.seal().await.unwrap();
    disk.extend(stock(scene.dir.path(), &scene.recordings, sealed.session).into_bytes());
    (disk, rebuild(scene.replay(&sealed)).1)
}

fn holds(disk: &[u8], canary: &str) -> bool {
    disk.windows(canary.len()).any(|window| window == canary.as_bytes())
}

#[tokio::test]
async fn what_a_level_withholds_is_nowhere_on_the_disk() {
    for terminal in [true, false] {
        for (level, typed, shown) in
            [(RecordLevel::Full, true, true), (RecordLevel::Output, false, true), (RecordLevel::Metadata, false, false)]
        {
            let (disk, _) = kept(terminal, level).await;
            assert_eq!((holds(&disk, "typed-canary"), holds(&disk, "shown-canary")), (typed, shown), "{level:?}");
        }
    }
}

#[tokio::test]
async fn only_without_a_terminal_does_a_digest_stand_for_it() {
    let withheld = |sha256| Event::Withheld { stream: Stream::Input, length: 12, sha256 };
    let (disk, events) = kept(true, RecordLevel::Output).await;
    assert_eq!(events, [withheld(None)]);
    assert!(!holds(&disk, &Digest::of(b"typed-canary").to_string()));
    let (_, events) = kept(false, RecordLevel::Output).await;
    assert_eq!(events, [withheld(Some(Digest::of(b"typed-canary")))]);
}

#[tokio::test]
async fn beyond_the_cap_each_chunk_is_a_length_and_a_digest() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { bulk_cap: 100_000, ..settings(dir.path()) };
    let recordings = Recordings::open(settings).unwrap();
    let recorder = recordings.begin(header(false)).await.unwrap();
    let all: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    for packet in all.chunks(32_768) {
        recorder.tape().record(vec![bytes(Stream::Output, packet)]).await.unwrap();
    }
    let sealed = recorder.end(exited()).await.unwrap().seal().await.unwrap();

    let replay = replay(&recordings, &sealed);
    let total = replay.totals().output.clone();
    let (streams, others) = rebuild(replay);
    assert_eq!(streams.of(Stream::Output), &all[..100_000]);
    let mut from = 100_000;
    for event in others {
        let Event::Withheld { stream: Stream::Output, length, sha256: Some(sha256) } = event else { panic!("{event:?}") };
        let to = from + usize::try_from(length).unwrap();
        assert_eq!(sha256, Digest::of(&all[from..to]));
        from = to;
    }
    assert_eq!(from, all.len());
    assert_eq!((total.bytes, total.withheld.unwrap().bytes), (100_000, 900_000));
}
