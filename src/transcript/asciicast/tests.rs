use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::transcript::event::{Event, Exit, PerStream};
use crate::transcript::header::tests::header;
use crate::transcript::outcome::Outcome;
use crate::transcript::record::tests::{any_event, any_stream};

/// Encodes and decodes again; every line has to be JSON.
fn round(terminal: bool, events: &[(u64, Event)]) -> (Vec<(u64, Event)>, Totals, String) {
    let header = header(terminal);
    let mut bytes = first_line(&header);
    let mut encoder = Encoder::new(&header);
    for (at, event) in events {
        encoder.event(*at, event, &mut bytes);
    }
    let at = events.last().map_or(0, |(at, _)| *at);
    let ending = Ending { outcome: Outcome::Closed, ended: Timestamp::from_micros(5), cut: None, index: vec![IndexEntry(0, 99, 80, 24)] };
    encoder.finish(at, ending, &mut bytes);
    let text = String::from_utf8(bytes).unwrap();

    let mut lines = text.lines();
    let (mut decoder, read) = Decoder::open(lines.next().unwrap().as_bytes()).unwrap();
    assert_eq!(read, header);
    let (mut events, mut totals) = (Vec::new(), None);
    for line in lines {
        assert!(line.len() <= MAX_LINE);
        match decoder.line(line.as_bytes()).unwrap_or_else(|e| panic!("{e}: {line}")) {
            Line::Event { ms, event } => events.push((ms, event)),
            Line::Totals(found) => totals = Some(*found),
            Line::Half => {}
        }
    }
    (events, totals.expect("the last line"), text)
}

fn streams(events: &[(u64, Event)]) -> PerStream<Vec<u8>> {
    let mut streams = PerStream::<Vec<u8>>::default();
    for (_, event) in events {
        if let Event::Bytes { stream, bytes } = event {
            streams.of_mut(*stream).extend_from_slice(bytes);
        }
    }
    streams
}

fn bytes(stream: Stream, bytes: &[u8]) -> Event {
    Event::Bytes { stream, bytes: Bytes::copy_from_slice(bytes) }
}

/// Packets that cut sequences, mix line ends, and hold what is no text.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        any::<String>().prop_map(String::into_bytes),
        "[a\r\n]{0,12}".prop_map(String::into_bytes),
        Just("é€𝄞\u{1b}[1m".as_bytes()[..6].to_vec()),
        proptest::collection::vec(
            prop_oneof![Just(0xf0u8), Just(0x9d), Just(0x84), Just(0x9e), Just(0xe2), Just(0x82), Just(b'\r'), Just(b'\n')],
            0..12
        ),
    ]
}

proptest! {
    #[test]
    fn every_stream_is_rebuilt_byte_for_byte(terminal: bool, packets in proptest::collection::vec((any_stream(), packet()), 0..30)) {
        let events: Vec<_> = packets.iter().enumerate().map(|(i, (stream, packet))| (i as u64 * 700, bytes(*stream, packet))).collect();
        let (read, totals, _) = round(terminal, &events);
        let (read, sent) = (streams(&read), streams(&events));
        for stream in Stream::ALL {
            prop_assert_eq!(read.of(stream), sent.of(stream));
            prop_assert_eq!(totals.of(stream).sha256, Digest::of(sent.of(stream)));
            prop_assert_eq!(totals.of(stream).bytes, sent.of(stream).len() as u64);
        }
    }

    #[test]
    fn all_other_events_come_back_in_their_order(terminal: bool, events in proptest::collection::vec(any_event(), 0..20)) {
        let events: Vec<_> = events.into_iter().enumerate().map(|(i, event)| (i as u64 * 1_000_000, event)).collect();
        let (read, _, _) = round(terminal, &events);
        let others = |events: &[(u64, Event)]| events.iter().filter(|(_, e)| !matches!(e, Event::Bytes { .. })).map(|(_, e)| e.clone()).collect::<Vec<_>>();
        prop_assert_eq!(others(&read), others(&events));
    }

    #[test]
    fn no_line_panics(terminal: bool, lines in proptest::collection::vec(any::<Vec<u8>>(), 0..4)) {
        let (mut decoder, _) = Decoder::open(&first_line(&header(terminal))).unwrap();
        for line in lines {
            let _ = decoder.line(&line);
            let _ = Decoder::open(&line);
        }
    }
}

#[test]
fn a_sequence_cut_by_a_packet_is_drawn_whole() {
    let (_, _, text) = round(true, &[(0, bytes(Stream::Output, b"caf\xc3")), (5000, bytes(Stream::Output, b"\xa9!"))]);
    assert!(text.contains("[0.000,\"o\",\"caf\"]\n[0.005,\"o\",\"é!\"]\n"), "{text}");
}

#[test]
fn standard_error_is_drawn_and_still_told_apart() {
    let (read, _, text) = round(false, &[(0, bytes(Stream::Error, b"no such file\n"))]);
    assert!(text.contains("\"o\",\"no such file\\r\\n\"]"), "{text}");
    assert_eq!(read, [(0, bytes(Stream::Error, b"no such file\n"))]);
}

#[test]
fn one_broken_byte_costs_one_event_and_a_binary_none_that_is_drawn() {
    let (_, _, text) = round(true, &[(0, bytes(Stream::Output, b"ab\xffcd"))]);
    assert!(text.contains("\"o\",\"ab\"]") && text.contains("\"o\",\"\u{fffd}\"]") && text.contains("\"o\",\"cd\"]"), "{text}");
    let binary: Vec<u8> = (0..=255).cycle().take(4096).collect();
    let (_, _, text) = round(false, &[(0, bytes(Stream::Output, &binary))]);
    assert!(text.contains("\"b\",") && !text.contains("\"o\","), "{text}");
}

#[test]
fn a_changed_transcript_contradicts_its_totals() {
    let (_, _, text) = round(true, &[(0, bytes(Stream::Output, b"rm -rf /srv"))]);
    let changed = text.replace("rm -rf /srv", "ls -la /srv");
    let mut lines = changed.lines();
    let (mut decoder, _) = Decoder::open(lines.next().unwrap().as_bytes()).unwrap();
    let said: Vec<_> = lines.map(|line| decoder.line(line.as_bytes())).collect();
    assert_eq!(said.last().unwrap(), &Err(BadLine::Totals(Stream::Output)));
}

#[test]
fn what_is_withheld_is_counted() {
    let events = [
        (0, Event::Withheld { stream: Stream::Output, length: 7, sha256: Some(Digest::of(b"chunk 1")) }),
        (1000, Event::Withheld { stream: Stream::Output, length: 7, sha256: Some(Digest::of(b"chunk 2")) }),
        (1000, Event::Withheld { stream: Stream::Input, length: 3, sha256: None }),
        (2000, Event::Exit(Exit::Status(0))),
    ];
    let (read, totals, _) = round(false, &events);
    assert_eq!(read.len(), 4);
    let digests = Digest::of(&[Digest::of(b"chunk 1").0, Digest::of(b"chunk 2").0].concat());
    assert_eq!(totals.output.withheld, Some(Withheld { bytes: 14, chunks: 2, digests: Some(digests) }));
    assert_eq!(totals.input.withheld, Some(Withheld { bytes: 3, chunks: 1, digests: None }));
}

#[test]
fn what_this_version_does_not_know_is_refused() {
    let header = String::from_utf8(first_line(&header(true))).unwrap();
    for (line, rule) in [
        ("[0.0,\"o\"]", "three fields"),
        ("[0.0,\"z\",\"\"]", "a code"),
        ("[-1,\"o\",\"\"]", "a time"),
        ("[1e300,\"o\",\"\"]", "a time"),
        ("[0.0,\"r\",\"80\"]", "a size"),
        ("[0.0,\"w\",\"{\\\"stream\\\":\\\"out\\\"}\"]", "a length"),
        ("[0.0,\"b\",\"{\\\"stream\\\":\\\"out\\\",\\\"b64\\\":\\\"*\\\"}\"]", "base64"),
        ("[0.0,\"f\",\"{\\\"stream\\\":\\\"up\\\"}\"]", "a stream"),
    ] {
        let (mut decoder, _) = Decoder::open(header.as_bytes()).unwrap();
        assert!(decoder.line(line.as_bytes()).is_err(), "{rule}: {line}");
    }
    assert!(Decoder::open(b"{\"version\":2,\"width\":80,\"height\":24}").is_err());
    assert!(Decoder::open(header.replacen("\"version\":2", "\"version\":3", 1).as_bytes()).is_err());
    assert!(Decoder::open(header.replacen("\"v\":1", "\"v\":9", 1).as_bytes()).is_err());
}
