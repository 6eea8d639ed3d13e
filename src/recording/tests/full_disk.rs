use std::process::Stdio;

use super::*;

/// Five sessions write until the disk is full: all of them are told, all of them end, and everything that
/// `record` returned for replays.
async fn sessions_on_a_full_disk(dir: &Path) {
    let recordings = open(dir);
    let mut sessions = tokio::task::JoinSet::new();
    // All of them begin before the first one fills the disk.
    let mut recorders = Vec::new();
    for n in 0..5u8 {
        recorders.push((n, recordings.begin(header(true)).await.unwrap()));
    }
    for (n, recorder) in recorders {
        sessions.spawn(async move {
            let tape = recorder.tape();
            let text = vec![b'a' + n; 32 * 1024];
            let mut written = 0usize;
            let failed = loop {
                match tape.record(vec![bytes(Stream::Output, &text)]).await {
                    Ok(()) => written += text.len(),
                    Err(error) => break error,
                }
                assert!(written < 64 << 20, "this disk is never full");
            };
            assert!(matches!(failed, RecordError::Io { .. }), "{failed}");
            assert_eq!(tape.failed().await.to_string(), failed.to_string());
            assert!(tape.record(vec![bytes(Stream::Output, b"again")]).await.is_err(), "a failure is final");
            (recorder.end(exited()).await.unwrap(), written)
        });
    }
    let ended = tokio::time::timeout(Duration::from_secs(20), sessions.join_all()).await.expect("all sessions end");
    let refused = recordings.begin(header(true)).await;
    drop(refused);

    for (ended, written) in ended {
        let sealed = ended.seal().await.unwrap();
        assert!(matches!(sealed.outcome, Outcome::RecordingFailed { .. }), "never as complete: {:?}", sealed.outcome);
        let replay = replay(&recordings, &sealed);
        assert_eq!(replay.totals().cut, None, "the end record is there");
        assert!(rebuild(replay).0.of(Stream::Output).len() >= written, "all of the {written} bytes that went on");
        recordings.unlink_spool(sealed.session).unwrap();
    }

    // There is room again: the same process goes on.
    let recorder = recordings.begin(header(true)).await.unwrap();
    recorder.tape().record(vec![bytes(Stream::Output, b"again")]).await.unwrap();
    recorder.end(exited()).await.unwrap().seal().await.unwrap();
}

/// A tmpfs of a few megabytes, unmounted with the value.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "countersign-test"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_ends_sessions_and_loses_nothing_that_went_on() {
    if let Some(disk) = SmallDisk::mount() {
        return sessions_on_a_full_disk(disk.0.path()).await;
    }
    // Not root: a limit on file sizes in a process of its own, whose errors come the same way.
    let dir = tempfile::tempdir().unwrap();
    let shell = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\"";
    let child = Command::new("sh")
        .args(["-c", shell])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "recording::tests::full_disk::as_a_process_with_small_files"])
        .env("COUNTERSIGN_SMALL_FILES", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "run by the test above in a process whose files may not grow"]
async fn as_a_process_with_small_files() {
    let dir = std::env::var_os("COUNTERSIGN_SMALL_FILES").expect("set by the test above");
    sessions_on_a_full_disk(Path::new(&dir)).await;
}

#[tokio::test]
async fn a_seal_that_finds_no_room_leaves_the_spool_for_later() {
    let Some(disk) = SmallDisk::mount() else {
        // A directory in the way of the sealed file fails the seal as well.
        let scene = Scene::new();
        let header = header(true);
        let recorder = scene.recordings.begin(header.clone()).await.unwrap();
        let ended = recorder.end(exited()).await.unwrap();
        let way = scene.dir.path().join("recordings/sealed/2026");
        std::fs::write(&way, b"in the way").unwrap();
        assert!(ended.seal().await.is_err());
        std::fs::remove_file(way).unwrap();
        assert_eq!(scene.recordings.recover(&|_| false).await.unwrap().len(), 1);
        return;
    };
    let recordings = open(disk.0.path());
    let recorder = recordings.begin(header(true)).await.unwrap();
    // What does not compress needs its own size again.
    let noise: Vec<u8> = (0..700_000).map(|_| rand::random::<u8>()).collect();
    recorder.tape().record(vec![bytes(Stream::Output, &noise)]).await.unwrap();
    let ended = recorder.end(exited()).await.unwrap();
    let filler = disk.0.path().join("filler");
    let _ = std::fs::write(&filler, vec![0; 4 << 20]);
    assert!(ended.seal().await.is_err());
    assert!(recordings.recover(&|_| false).await.unwrap().is_empty());
    assert!(std::fs::read_dir(disk.0.path().join("recordings/sealed/2026/06")).unwrap().next().is_none(), "no half file stays");

    std::fs::remove_file(filler).unwrap();
    // A writer may hold the spool until its next turn; until then it is somebody's.
    let session = recordings.node.layout.all_spools().unwrap().0[0];
    until("nobody holds the spool", || !recordings.node.live.contains(session)).await;
    let sealed = recordings.recover(&|_| false).await.unwrap().remove(0);
    assert_eq!(sealed.outcome, exited());
    let replay = replay(&recordings, &sealed);
    assert_eq!(rebuild(replay).0.of(Stream::Output), &noise);
}
