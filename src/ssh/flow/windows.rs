//! What russh may grant the channels of one connection next, beside one that has stalled.
//!
//! russh fills a channel's window up to one target, the connection's, when a packet leaves less than half
//! of it; only the callback after such a grant can name the next target. A channel whose queue is full gets
//! 2 bytes at a time, so that the callback stays alive; with that as everybody's target its neighbours trickle
//! too (measured: 200 MB not in 20 s). So a large target stands for one packet, when that has to be a live
//! channel's: what is left of the bytes in hand was sent before the client saw a grant that came out of them.
//! Where everybody trickles, packets come in the order of the grants they answer, if this client keeps to it.
//! A client can prove either wrong; what a full queue gets of it is bounded, whatever the client does.

use std::collections::HashMap;
use std::sync::Arc;

use super::inbox::{Inbox, Room};
use super::{STALLED_MOST, WINDOW};

/// The target for a full queue. Never 0 (russh ignores it) nor 1 (it would never grant again).
const TRICKLE: u32 = 2;
/// A grant of less is not worth being wrong about.
const LEAST: u32 = 64 * 1024;
/// The most that is granted because of an order that was kept so far …
const FORESEEN: u32 = 512 * 1024;
/// … and not beside a queue that holds more than this because it was not kept.
const FORESEEN_MOST: usize = 5 * 1024 * 1024;
/// How often the order has to have been kept before it is believed; twice as often after each time that it
/// was not.
const KEPT: u32 = 4;
/// A channel that sends nothing while all others are granted so often does not send.
const ASLEEP: u64 = 4;
/// A channel that has trickled so often goes before one that streams.
const PATIENCE: u32 = 3;
/// Reads within which a channel that has sent may send again.
const BUSY: u64 = 8;

/// Where the reading of a connection is.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Which read of the transport it is.
    pub number: u64,
    /// Bytes of it that russh has still to come to.
    pub ahead: usize,
}

/// What russh counts of each channel, and the target it has for all.
#[derive(Debug)]
pub struct Windows {
    target: u32,
    channels: HashMap<u32, Granted>,
    grants: u64,
    /// Whose grant is answered next, if grants are answered in order, and how often they were.
    expected: Option<u32>,
    kept: u32,
    /// The target stands because of that order.
    foreseen: bool,
    mistakes: u32,
}

#[derive(Debug)]
struct Granted {
    inbox: Arc<Inbox>,
    /// What the client may still send.
    window: u32,
    /// Which grant of the connection was its last, and in which read.
    grant: u64,
    granted_in: u64,
    /// How many grants there had been when it last sent, and in which read that was.
    heard: u64,
    sent_in: u64,
    /// How often in a row it has answered a trickle and was granted another.
    trickled: u32,
    /// The packet that the last grant came after is not to be counted: it was before.
    before: bool,
}

impl Default for Windows {
    fn default() -> Self {
        let (channels, expected) = (HashMap::new(), None);
        Self { target: WINDOW, channels, grants: 0, expected, kept: 0, foreseen: false, mistakes: 0 }
    }
}

impl Windows {
    pub fn open(&mut self, id: u32, inbox: Arc<Inbox>) {
        let (heard, grant) = (self.grants, self.grants);
        let granted = Granted { inbox, window: WINDOW, grant, granted_in: 0, heard, sent_in: 0, trickled: 0, before: false };
        self.channels.insert(id, granted);
    }

    /// Counts a packet of data, as russh does: one beyond the window counts nothing (RFC 4254 5.2).
    pub fn sent(&mut self, id: u32, bytes: usize, reading: Reading) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        (channel.heard, channel.sent_in) = (self.grants, reading.number);
        if !std::mem::take(&mut channel.before) {
            let left = u32::try_from(bytes).ok().and_then(|bytes| channel.window.checked_sub(bytes));
            channel.window = left.unwrap_or(channel.window);
        }
    }

    /// After a grant to `id`: the target of the next.
    pub fn granted(&mut self, id: u32, reading: Reading) -> u32 {
        self.channels.retain(|_, channel| channel.inbox.ended().is_none());
        self.grants += 1;
        if let Some(expected) = self.expected {
            self.kept = if expected == id { self.kept.saturating_add(1) } else { 0 };
        }
        if let Some(channel) = self.channels.get_mut(&id) {
            if self.foreseen && channel.inbox.room().stalled {
                self.mistakes += 1;
            }
            let trickles = channel.window <= TRICKLE && self.target <= TRICKLE;
            channel.trickled = if trickles { channel.trickled.saturating_add(1) } else { 0 };
            (channel.window, channel.grant, channel.granted_in) = (self.target, self.grants, reading.number);
            (channel.heard, channel.sent_in, channel.before) = (self.grants, reading.number, true);
        }
        let channels: Vec<Seen> = self.channels.iter().filter_map(|(id, channel)| self.see(*id, channel, reading)).collect();
        let next = channels.iter().filter(|channel| !channel.asleep && channel.trickles).min_by_key(|channel| channel.grant);
        self.expected = next.map(|channel| channel.id);
        (self.target, self.foreseen) = match self.choose(&channels, next, reading) {
            Choice::Safe(target) => (target, false),
            Choice::Foreseen(target) => (target, true),
        };
        self.target
    }

    fn choose(&self, channels: &[Seen], next: Option<&Seen>, reading: Reading) -> Choice {
        let awake = || channels.iter().filter(|channel| !channel.asleep);
        let full = || awake().filter(|channel| channel.stalled);
        if full().next().is_none() {
            let careful = awake().map(|channel| channel.room).min().unwrap_or(WINDOW);
            return Choice::Safe(bounded(channels, careful, STALLED_MOST));
        }
        let live = || channels.iter().filter(|channel| !channel.stalled);
        // Whoever has half of it left is granted nothing by the next packet, and needs nothing yet.
        let hungry = live().filter(|channel| channel.window < channel.room / 2);
        let Some(room) = hungry.map(|channel| channel.room).min() else { return Choice::Safe(TRICKLE) };
        let target = bounded(channels, room, STALLED_MOST);
        let only_live = reading.ahead > 0
            && full().all(|channel| channel.trickles && channel.granted_now)
            && live().filter(|channel| channel.busy).all(|channel| channel.window < target / 2);
        let impatient = live().any(|channel| !channel.asleep && channel.trickled >= PATIENCE);
        let streaming = live().any(|channel| channel.busy && !channel.trickles);
        if only_live && target >= LEAST && !(impatient && streaming) {
            return Choice::Safe(target);
        }
        let target = bounded(channels, room.min(FORESEEN), FORESEEN_MOST);
        let in_order = self.kept >= KEPT.saturating_mul(1 << self.mistakes.min(8));
        let settled = full().all(|channel| channel.trickles) && awake().all(|channel| !channel.trickles || channel.trickled > 0);
        if in_order && settled && target >= LEAST && next.is_some_and(|channel| !channel.stalled) {
            return Choice::Foreseen(target);
        }
        Choice::Safe(TRICKLE)
    }

    /// A channel as it is now; `None` for one on which nothing more comes.
    fn see(&self, id: u32, channel: &Granted, reading: Reading) -> Option<Seen> {
        let Room { queued, stalled, over } = channel.inbox.room();
        let left = u32::try_from((WINDOW as usize).saturating_sub(queued)).unwrap_or(TRICKLE);
        let trickles = channel.window <= TRICKLE;
        let silent = channel.heard + ASLEEP * (self.channels.len() as u64) < self.grants;
        (!over).then_some(Seen {
            id,
            room: if stalled { TRICKLE } else { left.max(TRICKLE) },
            stalled,
            window: channel.window,
            held: queued + channel.window as usize,
            trickles,
            trickled: channel.trickled,
            asleep: silent && (stalled || trickles),
            grant: channel.grant,
            granted_now: channel.granted_in == reading.number,
            busy: channel.sent_in + BUSY >= reading.number,
        })
    }
}

/// The target of the next grant, and what it stands on.
enum Choice {
    Safe(u32),
    Foreseen(u32),
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    id: u32,
    /// What may be granted it without filling its queue.
    room: u32,
    stalled: bool,
    window: u32,
    /// Queued, and still to come.
    held: usize,
    /// It has next to nothing left, …
    trickles: bool,
    /// … and so often it had before.
    trickled: u32,
    asleep: bool,
    grant: u64,
    granted_now: bool,
    busy: bool,
}

/// As much of a target as each full queue may get by mistake, and again, before it holds `most`.
fn bounded(channels: &[Seen], target: u32, most: usize) -> u32 {
    let spare = channels.iter().filter(|channel| channel.stalled).map(|channel| most.saturating_sub(channel.held) / 2).min();
    spare.map_or(target, |spare| target.min(u32::try_from(spare).unwrap_or(target)).max(TRICKLE))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::super::{Item, PACKET, Pressure};
    use super::*;

    /// russh's arithmetic (0.65, `adjust_window_size`), a client that sends all it may on every channel in the
    /// order of their numbers, and a wire between them.
    struct Line {
        windows: Windows,
        target: u32,
        inboxes: Vec<Arc<Inbox>>,
        /// As russh counts them, and as the client knows them.
        counted: Vec<u32>,
        known: Vec<u32>,
        up: VecDeque<(usize, u32)>,
        down: VecDeque<(usize, u32)>,
        reads: u64,
        sent: Vec<u64>,
    }

    const HEAD: u32 = 36;

    impl Line {
        fn new(channels: usize) -> Self {
            let mut windows = Windows::default();
            let inboxes: Vec<_> = (0..channels).map(|_| Inbox::facing_client(Arc::<Pressure>::default())).collect();
            for (id, inbox) in inboxes.iter().enumerate() {
                windows.open(id as u32, inbox.clone());
            }
            let full = vec![WINDOW; channels];
            Self {
                windows,
                target: WINDOW,
                inboxes,
                counted: full.clone(),
                known: full,
                up: VecDeque::new(),
                down: VecDeque::new(),
                reads: 0,
                sent: vec![0; channels],
            }
        }

        /// The client hears `grants` of what was granted, then writes about `most` bytes.
        fn client(&mut self, grants: usize, most: u32, silent: &[bool]) {
            for (id, bytes) in self.down.drain(..grants.min(self.down.len())) {
                self.known[id] += bytes;
            }
            let mut written = 0;
            loop {
                let before = written;
                for id in (0..self.known.len()).filter(|id| !silent[*id]) {
                    let bytes = self.known[id].min(PACKET);
                    if bytes > 0 && written < most {
                        self.known[id] -= bytes;
                        self.up.push_back((id, bytes));
                        written += bytes + HEAD;
                    }
                }
                if written == before {
                    return;
                }
            }
        }

        /// russh reads once.
        fn server(&mut self) {
            self.reads += 1;
            let (mut read, mut ahead) = (Vec::new(), 0);
            while ahead < 128 * 1024
                && let Some(packet) = self.up.pop_front()
            {
                ahead += (packet.1 + HEAD) as usize;
                read.push(packet);
            }
            for (id, bytes) in read {
                ahead -= (bytes + HEAD) as usize;
                let reading = Reading { number: self.reads, ahead };
                if bytes <= self.counted[id] {
                    self.counted[id] -= bytes;
                }
                if self.counted[id] < self.target / 2 {
                    self.down.push_back((id, self.target - self.counted[id]));
                    self.counted[id] = self.target;
                    self.target = self.windows.granted(id as u32, reading);
                }
                self.windows.sent(id as u32, bytes as usize, reading);
                self.inboxes[id].push(Item::Data(BytesMut::zeroed(bytes as usize)));
                self.sent[id] += u64::from(bytes);
                assert_eq!(self.windows.channels[&(id as u32)].window, self.counted[id], "it counts as russh does");
            }
        }

        async fn live_read(&self, stalled: &[bool]) {
            for (inbox, _) in self.inboxes.iter().zip(stalled).filter(|(_, stalled)| !**stalled) {
                while inbox.room().queued > 0 {
                    inbox.take(usize::MAX).await;
                }
            }
        }
    }

    /// Runs it for `turns`; returns what each channel has sent in the second half of them.
    fn run(stalled: &[bool], silent: &[bool], turns: &[(usize, u32)]) -> (Vec<u64>, Line) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut line = Line::new(stalled.len());
        let mut before = Vec::new();
        for (turn, (grants, most)) in turns.iter().enumerate() {
            // A channel that is silent is so once it has filled its queue.
            let quiet: Vec<bool> =
                silent.iter().zip(&line.sent).map(|(silent, sent)| *silent && *sent >= u64::from(WINDOW) - 100_000).collect();
            line.client(*grants, *most, &quiet);
            line.server();
            runtime.block_on(line.live_read(stalled));
            if turn == turns.len() / 2 {
                before = line.sent.clone();
            }
        }
        (line.sent.iter().zip(before).map(|(all, before)| all - before).collect(), line)
    }

    fn scenes() -> impl Strategy<Value = (Vec<bool>, Vec<bool>, Vec<(usize, u32)>)> {
        (2usize..7).prop_flat_map(|channels| {
            let flags = || prop::collection::vec(any::<bool>(), channels);
            (flags(), flags(), prop::collection::vec((0usize..12, 1u32..400_000), 1000))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// Whatever comes when and in which pieces, beside full queues that are sent to or not: no full queue
        /// grows beyond its bound, and nobody stops.
        #[test]
        fn a_full_queue_is_bounded_and_stops_nobody((mut stalled, silent, turns) in scenes()) {
            stalled[0] = true;
            let last = stalled.len() - 1;
            if stalled.iter().all(|stalled| *stalled) {
                stalled[last] = false;
            }
            let silent: Vec<bool> = silent.iter().zip(&stalled).map(|(silent, stalled)| *silent && *stalled).collect();
            let (moved, line) = run(&stalled, &silent, &turns);
            for (id, inbox) in line.inboxes.iter().enumerate() {
                prop_assert!(inbox.room().queued <= STALLED_MOST, "{id} of {stalled:?} holds {}", inbox.room().queued);
            }
            prop_assert!(moved.iter().zip(&stalled).all(|(moved, stalled)| *stalled || *moved > 500), "{stalled:?}, silent {silent:?}, moved {moved:?}");
        }
    }

    #[test]
    fn in_whatever_order_a_client_serves_its_channels() {
        for stalled in [vec![true, false], vec![false, true], vec![true, true, false, true, true], vec![false, true, true, true]] {
            for most in [40_000, 140_000, 3_000_000] {
                let (moved, line) = run(&stalled, &vec![false; stalled.len()], &vec![(usize::MAX, most); 1000]);
                for (id, stalled_) in stalled.iter().enumerate() {
                    assert!(*stalled_ || moved[id] > 13_000_000, "{stalled:?} at {most}: {moved:?}");
                    assert!(line.inboxes[id].room().queued < FORESEEN_MOST);
                }
            }
        }
    }

    #[test]
    fn nothing_is_held_back_where_nothing_stalls() {
        let (moved, _) = run(&[false, false], &[false, false], &vec![(usize::MAX, 3_000_000); 300]);
        assert!(moved.iter().all(|moved| *moved > 9_000_000), "{moved:?}");
    }
}
