use super::*;
use crate::recording::play::{Player, Schedule};

/// Records `events` in a spool with chosen times, as recovery finds it, and seals it.
async fn recorded(scene: &Scene, terminal: bool, events: &[(u64, Event)]) -> Sealed {
    use crate::recording::file::Batch;
    use crate::recording::layout::Layout;
    let layout = Layout::open(&scene.dir.path().join("recordings")).unwrap();
    let header = header(terminal);
    let mut file = new_spool(&scene.recordings, &layout, &header);
    for (ms, event) in events {
        let mut batch = Batch::default();
        file.open_batch(&mut batch);
        batch.record(|to| crate::transcript::record::encode_event(ms * 1000, event, to));
        file.append(&batch).unwrap();
    }
    scene.recordings.recover(&|_| false).await.unwrap().remove(0)
}

fn play(mut player: Player<Unsealed>) -> Vec<(u64, String)> {
    let mut steps = Vec::new();
    while let Some(step) = player.step().unwrap() {
        steps.push((u64::try_from(step.delay.as_millis()).unwrap(), step.draw));
    }
    steps
}

#[tokio::test]
async fn a_command_replays_as_text_that_obeys_nothing() {
    let scene = Scene::new();
    let events = [
        (0, bytes(Stream::Output, b"ok\n")),
        (5000, bytes(Stream::Error, b"\x1b]52;c;QQ==\x07warn")),
        (5005, Event::Withheld { stream: Stream::Output, length: 9, sha256: None }),
        (9000, Event::Exit(Exit::Status(2))),
    ];
    let sealed = recorded(&scene, false, &events).await;
    let schedule = Schedule::new(2.0, Some(Duration::from_secs(2))).unwrap();
    let steps = play(Player::new(scene.replay(&sealed), schedule, None));
    assert_eq!(steps[0], (0, "ok\n".into()));
    assert_eq!(steps[1], (1002, "^[]52;c;QQ==^Gwarn\n-- out: 9 bytes not kept\n".into()));
    assert_eq!(steps[2], (1000, "-- exited 2\n".into()));
    assert!(steps[3].1.starts_with("-- interrupted (cut at byte "), "{:?}", steps[3]);
}

#[tokio::test]
async fn a_terminal_replays_as_pictures_in_time() {
    let scene = Scene::new();
    let events = [
        (0, bytes(Stream::Output, b"$ ")),
        (1000, bytes(Stream::Output, b"l")),
        (1004, bytes(Stream::Output, b"s")),
        (3000, bytes(Stream::Output, b"\r\n\x1b[31mred\x1b[0m\x1b[6n\x1b]0;title\x07")),
    ];
    let sealed = recorded(&scene, true, &events).await;
    let steps = play(Player::new(scene.replay(&sealed), Schedule::default(), Some((80, 24))));
    assert_eq!(steps.iter().map(|step| step.0).collect::<Vec<_>>(), [0, 1004, 1996, 0]);
    assert!(steps[1].1.contains("ls"), "{:?}", steps[1]);
    assert!(steps[2].1.contains("\x1b[0;38;5;1mred\x1b[0m"), "{:?}", steps[2]);
    assert!(!steps.iter().any(|(_, draw)| draw.contains("title") || draw.contains("6n")));
}

#[tokio::test]
async fn a_seek_begins_at_its_time_with_the_right_size() {
    let scene = Scene::new();
    // A second each, 40 KiB of text that does not shrink to one frame, and another size half-way.
    let mut events: Vec<(u64, Event)> = Vec::new();
    for second in 0..60u64 {
        if second == 30 {
            events.push((second * 1000, Event::Resize { cols: 132, rows: 43 }));
        }
        events.push((second * 1000, bytes(Stream::Output, format!("{:040960}\x1b[2J\x1b[Hsecond {second}", 0).as_bytes())));
    }
    let sealed = recorded(&scene, true, &events).await;
    let mut replay = scene.replay(&sealed);
    assert!(replay.totals().index.len() > 5, "{:?}", replay.totals().index);

    for (to, size) in [(0, (80, 24)), (10, (80, 24)), (45, (132, 43)), (3600, (132, 43))] {
        assert_eq!(replay.seek(Duration::from_secs(to)).unwrap(), Some(size), "{to} s");
        let first = replay.next().unwrap().unwrap().at.as_secs();
        assert!(first <= to && first + 10 > to.min(59), "{to} s: begins at {first} s");
    }

    let mut player = Player::new(replay, Schedule::default(), Some((132, 43)));
    player.seek(Duration::from_secs(45)).unwrap();
    let step = player.step().unwrap().unwrap();
    assert_eq!(step.delay, Duration::ZERO);
    assert!(step.draw.contains("45"), "{}", step.draw);
    assert_eq!(player.step().unwrap().unwrap().delay, Duration::from_secs(1));
}

#[tokio::test]
async fn a_sealed_file_that_was_cut_is_no_shorter_recording() {
    let scene = Scene::new();
    let events: Vec<_> = (0..20).map(|n| (n, bytes(Stream::Output, format!("{n:050000}").as_bytes()))).collect();
    let sealed = recorded(&scene, true, &events).await;
    let path = scene.recordings.locate(sealed.session).unwrap();
    let raw = std::fs::read(&path).unwrap();
    for length in [0, 10, raw.len() / 2, raw.len() - 1] {
        assert!(Replay::over(std::io::Cursor::new(&raw[..length])).is_err(), "{length} bytes");
    }
}
