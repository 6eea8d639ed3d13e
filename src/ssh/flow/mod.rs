//! Queues and throttled streams between russh and the relay.
//!
//! Two rules hold everywhere (measured: russh's own channels deadlock in full-duplex bulk). R1: no event
//! loop of russh ever waits for anything of ours, so callbacks only [`Inbox::push`], which never blocks.
//! R2: back-pressure is applied to the channel's window or to the transport, never to a loop:
//! [`Windows`] shrinks what a client may send, a paced [`Throttled`] spaces out its tiny packets, a gated one
//! stops reading a target's transport. What comes in spite of that is bounded by [`HARD_CAP`].

mod allowance;
mod inbox;
mod item;
mod throttled;
mod tunnel;
mod windows;

pub use allowance::Allowance;
pub use inbox::{End, Inbox, Pressure};
pub use item::{Item, Pty, Size, Start};
pub use throttled::{Cut, Throttled};
pub use tunnel::Tunnel;
pub use windows::Windows;

/// The window that a channel starts with, both sides, in bytes.
pub const WINDOW: u32 = 2 * 1024 * 1024;
/// Payload of one packet.
pub const PACKET: u32 = 32 * 1024;
/// A target's transport is not read while this much waits.
const TARGET_HIGH: usize = 1024 * 1024;
/// A client's window is two bytes while more than this waits.
const CLIENT_HIGH: usize = WINDOW as usize - 128 * 1024;
/// A full queue holds no more than this, its window included, of a client that answers to its window.
const STALLED_MOST: usize = 6 * 1024 * 1024;
/// A channel whose peer ignores its window ends here.
const HARD_CAP: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use std::sync::Arc;
    use std::time::Duration;

    use bytes::BytesMut;
    use russh::Sig;

    use super::super::door::Stage;
    use super::item::ITEM_COST;
    use super::*;

    fn inbox() -> (Arc<Inbox>, Arc<Pressure>) {
        let pressure = Arc::new(Pressure::default());
        (Inbox::facing_client(pressure.clone()), pressure)
    }

    fn bytes_of(items: Vec<Item>) -> Vec<u8> {
        items.into_iter().flat_map(|item| if let Item::Data(bytes) = item { bytes.to_vec() } else { Vec::new() }).collect()
    }

    proptest! {
        /// Whatever is pushed in whatever pieces comes out in order, and pressure is given back.
        #[test]
        fn a_stream_goes_through_unchanged(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..200), limit in 1usize..100_000) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (inbox, pressure) = inbox();
                for packet in &packets {
                    inbox.push_data(packet);
                }
                inbox.finish(End::Closed);
                let mut out = Vec::new();
                while let Some(items) = inbox.take(limit).await {
                    out.extend(bytes_of(items));
                }
                prop_assert_eq!(out, packets.concat());
                prop_assert!(!pressure.is_tight());
                Ok(())
            })?;
        }
    }

    #[tokio::test]
    async fn a_packet_of_0x03_is_an_interrupt_only_while_watched() {
        let (inbox, _) = inbox();
        inbox.push_data(&[3]);
        inbox.watch_interrupt(true);
        inbox.push_data(&[3, 3]);
        inbox.push_data(&[3]);
        inbox.interrupted().await;
        inbox.watch_interrupt(false);
        inbox.push_data(b"\x03tail");
        inbox.finish(End::Closed);
        assert_eq!(bytes_of(inbox.take(1000).await.unwrap()), b"\x03\x03\x03\x03tail");
    }

    #[tokio::test]
    async fn a_peer_that_ignores_its_window_is_ended_with_a_reason() {
        let (inbox, _) = inbox();
        for _ in 0..=HARD_CAP / 32_768 {
            inbox.push_data(&[0; 32_768]);
        }
        assert_eq!(inbox.gone().await, End::Overrun);
    }

    #[tokio::test]
    async fn a_flood_of_control_items_is_bounded() {
        let (inbox, _) = inbox();
        for n in 0..2 * HARD_CAP / ITEM_COST {
            inbox.push(Item::Signal(Sig::INT));
            inbox.push(Item::Resize(Size { cols: 1, rows: u32::try_from(n % 50).unwrap(), pix_width: 0, pix_height: 0 }));
        }
        assert_eq!(inbox.ended(), Some(End::Overrun));
    }

    #[tokio::test]
    async fn empty_packets_and_long_names_are_counted() {
        let (inbox, _) = inbox();
        for _ in 0..HARD_CAP / ITEM_COST {
            inbox.push(Item::Data(BytesMut::new()));
            inbox.push(Item::Stderr(BytesMut::new()));
        }
        assert_eq!(inbox.ended(), Some(End::Overrun));
        let (inbox, _) = super::tests::inbox();
        for _ in 0..=HARD_CAP / 250_000 {
            inbox.push(Item::Signal(Sig::Custom("x".repeat(250_000))));
        }
        assert_eq!(inbox.ended(), Some(End::Overrun));
    }

    #[tokio::test]
    async fn a_hang_up_is_seen_behind_any_queue() {
        let (inbox, _) = inbox();
        inbox.push_data(&[7; 100_000]);
        inbox.finish(End::Lost);
        assert_eq!(inbox.gone().await, End::Lost);
        assert_eq!(bytes_of(inbox.take(usize::MAX).await.unwrap()).len(), 100_000);
        assert!(inbox.take(1).await.is_none());
    }

    #[tokio::test]
    async fn a_gated_stream_is_read_again_when_the_queue_drains() {
        let pressure = Arc::new(Pressure::default());
        let inbox = Inbox::facing_target(pressure.clone());
        inbox.push(Item::Data(BytesMut::zeroed(TARGET_HIGH + 1)));
        let (ours, mut theirs) = tokio::io::duplex(64);
        let cut = Cut::default();
        let mut gated = Throttled::gated(ours, pressure, &cut);
        theirs.write_all(b"hello").await.unwrap();
        let mut buffer = [0; 5];
        let early = tokio::time::timeout(Duration::from_millis(50), gated.read_exact(&mut buffer)).await;
        assert!(early.is_err(), "read in spite of a full queue");
        let drain = async { inbox.take(usize::MAX).await };
        let (read, _) = tokio::join!(tokio::time::timeout(Duration::from_secs(5), gated.read_exact(&mut buffer)), drain);
        read.unwrap().unwrap();
        assert_eq!(&buffer, b"hello");
    }

    #[tokio::test]
    async fn a_peer_that_never_reads_is_given_up() {
        let (ours, _theirs) = tokio::io::duplex(4);
        let cut = Cut::default();
        let mut stream = Throttled::paced(ours, Arc::default(), &cut).with_write_deadline(Duration::from_millis(20));
        assert_eq!(stream.write_all(b"more than fits").await.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    }

    /// russh reads on after its goodbye for as long as the peer likes.
    #[tokio::test]
    async fn a_peer_that_does_not_close_after_the_goodbye_is_left() {
        let (ours, _theirs) = tokio::io::duplex(4);
        let cut = Cut::default();
        let mut stream = Throttled::paced(ours, Arc::default(), &cut);
        stream.shutdown().await.unwrap();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_u8()).await.expect("it waits for ever");
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_stranger_sends_only_so_much() {
        let (stage, reached) = tokio::sync::watch::channel(Stage::Silent);
        let endless = || tokio::io::join(tokio::io::repeat(b'\n'), tokio::io::sink());
        let cut = Cut::default();
        let mut stranger = Throttled::paced(endless(), Arc::default(), &cut).until_logged_in(reached.clone());
        let mut buffer = vec![0; 2 << 20];
        assert_eq!(stranger.read_exact(&mut buffer).await.unwrap_err().kind(), std::io::ErrorKind::QuotaExceeded);
        let mut drips = Throttled::paced(endless(), Arc::default(), &cut).until_logged_in(reached.clone());
        let mut reads = 0;
        while drips.read_u8().await.is_ok() {
            reads += 1;
        }
        assert_eq!(reads, 2000);
        let mut known = Throttled::paced(endless(), Arc::default(), &cut).until_logged_in(reached);
        stage.send_replace(Stage::LoggedIn);
        known.read_exact(&mut buffer).await.unwrap();
    }

    /// D-04: 100,000 requests in one go are read at a pace that leaves the others their share.
    #[tokio::test]
    async fn a_flood_of_small_packets_is_paced() {
        let cut = Cut::default();
        let endless = tokio::io::join(tokio::io::repeat(b'\n'), tokio::io::sink());
        let mut stream = Throttled::paced(endless, Arc::default(), &cut);
        let mut packet = [0; 64];
        let started = std::time::Instant::now();
        for _ in 0..30_000 {
            stream.read_exact(&mut packet).await.unwrap();
        }
        assert!(started.elapsed() >= Duration::from_millis(400), "a burst of 20,000, then 20,000 a second: {:?}", started.elapsed());
        let mut bulk = vec![0; 32 * 1024];
        for _ in 0..2_000 {
            stream.read_exact(&mut bulk).await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_identification_is_printable_and_one_line() {
        for (ident, good) in [
            ("SSH-2.0-x\r\n\0", true),
            ("SSH-2.0-x\n\r\x07", true),
            ("SSH-2.0-\0x\r\n", false),
            ("SSH-2.0-a\rb\r\n", false),
            ("SSH-2.0-\u{e9}\r\n", false),
        ] {
            let (ours, mut theirs) = tokio::io::duplex(100);
            theirs.write_all(ident.as_bytes()).await.unwrap();
            drop(theirs);
            let cut = Cut::default();
            let read = Throttled::paced(ours, Arc::default(), &cut).read_to_end(&mut Vec::new()).await;
            assert_eq!(read.is_ok(), good, "{ident:?}");
        }
    }

    #[tokio::test]
    async fn a_cut_ends_reads_and_stalled_writes() {
        let cut = Cut::default();
        let (ours, _theirs) = tokio::io::duplex(4);
        let mut stream = Throttled::paced(ours, Arc::default(), &cut);
        let stalled = tokio::spawn(async move {
            let write = stream.write_all(b"more than fits").await;
            let read = stream.read_u8().await;
            (write.is_err(), read.is_err())
        });
        cut.now();
        assert_eq!(stalled.await.unwrap(), (true, true));
    }
}
