//! A transport that answers to pressure, can be cut, and gives up a peer that does not read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::super::door::Stage;
use super::allowance::Allowance;
use super::inbox::Pressure;

/// Ends a connection from outside: every read and write of its stream fails at once. The connection ends
/// too when the last `Cut` is dropped: nobody could end it any more.
#[derive(Debug, Clone)]
pub struct Cut(Arc<watch::Sender<bool>>);

impl Default for Cut {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Cut {
    pub fn now(&self) {
        self.0.send_replace(true);
    }

    fn made(&self) -> Sign {
        let mut cut = self.0.subscribe();
        Sign::when(async move {
            let _ = cut.wait_for(|cut| *cut).await;
        })
    }
}

/// Something that happens once and stays true, to be looked at from `poll` functions.
pub(super) struct Sign(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Sign {
    pub(super) fn when(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Some(Box::pin(future)))
    }

    pub(super) fn is_given(&mut self, context: &mut Context<'_>) -> bool {
        let given = self.0.as_mut().is_none_or(|future| future.as_mut().poll(context).is_ready());
        if given {
            self.0 = None;
        }
        given
    }
}

/// How long a peer may leave our bytes unread before the connection is given up: long enough for a client
/// stopped with Ctrl-Z over a coffee, and no longer than keep-alives wait for one that is dead.
const WRITE_DEADLINE: Duration = Duration::from_secs(600);
/// How long a peer may take to close its side after we have closed ours.
const GOODBYE: Duration = Duration::from_secs(2);
/// russh asks for a packet's length, at most a block of it, then for the rest: what it asks for between
/// these two is the rest of a small packet.
const LENGTH: usize = 16;
const SMALL: usize = 1024;
/// Small packets that may come at once, and then each second: several times what typing, sftp's requests
/// or window changes in bulk need. A flood of requests, PINGs or IGNOREs is answered at that pace, and
/// costs its neighbours little.
const SMALL_PACKETS: (u32, u32) = (20_000, 20_000);
/// A pause of a peer that has spent them, as short as a timer sensibly gets; 200 have come back after it.
const REST: Duration = Duration::from_millis(10);
/// Reads and bytes that a login may take: a hundred times what it needs.
const STRANGER: Quota = Quota { reads: 2_000, bytes: 512 * 1024 };

/// What is left for a connection that has not logged in.
#[derive(Debug, Clone, Copy)]
struct Quota {
    reads: usize,
    bytes: usize,
}

/// How much of a peer's identification has been seen: printable ASCII and one line end (RFC 4253 4.2).
/// russh lets NUL and a lone CR pass into what is hashed and logged (CVE-2026-48108 and its kin).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ident {
    Text,
    CarriageReturn,
    Over,
}

impl Ident {
    /// Looks at more of it; an error is for what cannot be one.
    fn see(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            *self = match (*self, byte) {
                (Ident::Over, _) => break,
                (Ident::Text | Ident::CarriageReturn, b'\n') => Ident::Over,
                (Ident::Text, b'\r') => Ident::CarriageReturn,
                (Ident::Text, b' '..=b'~') => Ident::Text,
                (Ident::Text | Ident::CarriageReturn, _) => return Err(io::ErrorKind::InvalidData.into()),
            };
        }
        Ok(())
    }
}
/// Bytes read ahead of russh: little while a connection idles, much while it streams.
const AHEAD_IDLE: usize = 4 * 1024;
const AHEAD_BUSY: usize = 128 * 1024;
/// Reads below this count as a trickle.
const TRICKLE: usize = 2 * 1024;

/// How a stream answers to pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Space out tiny reads: the client trickles two bytes a round trip meanwhile.
    Pace,
    /// Do not read at all.
    Gate,
}

/// A transport under pressure control, with a write deadline and a [`Cut`].
pub struct Throttled<S> {
    stream: S,
    pressure: Arc<Pressure>,
    answer: Answer,
    cut: Sign,
    /// What was read ahead: russh asks for four bytes, then for the rest of one packet.
    ahead: Vec<u8>,
    used: usize,
    filled: usize,
    /// What the last read brought.
    last: usize,
    pause: Option<Pin<Box<Sleep>>>,
    trickling_since: Option<Instant>,
    stalled: Option<Pin<Box<Sleep>>>,
    write_deadline: Duration,
    small_packets: Allowance,
    rest: Option<Pin<Box<Sleep>>>,
    /// Until the login.
    stranger: Option<(Quota, watch::Receiver<Stage>)>,
    ident: Ident,
    /// Since our side is closed.
    goodbye: Option<Pin<Box<Sleep>>>,
}

impl<S> std::fmt::Debug for Throttled<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttled").field("answer", &self.answer).finish_non_exhaustive()
    }
}

impl<S> Throttled<S> {
    /// For a connection from a client.
    pub fn paced(stream: S, pressure: Arc<Pressure>, cut: &Cut) -> Self {
        Self::new(stream, pressure, cut, Answer::Pace)
    }

    /// For a connection to a target: our writes and its event loop go on while it is not read.
    pub fn gated(stream: S, pressure: Arc<Pressure>, cut: &Cut) -> Self {
        Self::new(stream, pressure, cut, Answer::Gate)
    }

    fn new(stream: S, pressure: Arc<Pressure>, cut: &Cut, answer: Answer) -> Self {
        Self {
            stream,
            pressure,
            answer,
            cut: cut.made(),
            ahead: vec![0; AHEAD_IDLE],
            used: 0,
            filled: 0,
            last: 0,
            pause: None,
            trickling_since: None,
            stalled: None,
            write_deadline: WRITE_DEADLINE,
            small_packets: Allowance::new(SMALL_PACKETS.0, SMALL_PACKETS.1, Instant::now()),
            rest: None,
            stranger: None,
            ident: Ident::Text,
            goodbye: None,
        }
    }

    #[cfg(test)]
    pub fn with_write_deadline(mut self, deadline: Duration) -> Self {
        self.write_deadline = deadline;
        self
    }

    /// Gives up a peer that sends more than a login takes before it has logged in.
    pub fn until_logged_in(mut self, stage: watch::Receiver<Stage>) -> Self {
        self.stranger = Some((STRANGER, stage));
        self
    }

    /// Counts a read, of `count` bytes where `asked` were wanted, against what a stranger may send and how
    /// fast small packets may come.
    fn spend(&mut self, asked: usize, count: usize) -> io::Result<()> {
        if let Some((quota, stage)) = &mut self.stranger {
            if *stage.borrow() == Stage::LoggedIn {
                self.stranger = None;
            } else {
                let (reads, bytes) = (quota.reads.checked_sub(1), quota.bytes.checked_sub(count));
                let (Some(reads), Some(bytes)) = (reads, bytes) else { return Err(io::ErrorKind::QuotaExceeded.into()) };
                *quota = Quota { reads, bytes };
            }
        }
        if (LENGTH + 1..SMALL).contains(&asked) && !self.small_packets.take(1, Instant::now()) {
            self.rest = Some(Box::pin(tokio::time::sleep(REST)));
        }
        Ok(())
    }

    /// Ready when reading may go on.
    fn poll_gate(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.pressure.is_tight() {
            self.pause = None;
            self.trickling_since = None;
            return Poll::Ready(());
        }
        self.pressure.wake_when_eased(context.waker());
        if !self.pressure.is_tight() {
            return Poll::Ready(());
        }
        match (self.answer, &mut self.pause) {
            (Answer::Gate, _) => Poll::Pending,
            (Answer::Pace, Some(pause)) => {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
                Poll::Ready(())
            }
            (Answer::Pace, None) => Poll::Ready(()),
        }
    }

    /// After a read of `count` bytes under pressure: how long until the next.
    fn pace(&mut self, count: usize) {
        if self.answer == Answer::Gate || !self.pressure.is_tight() {
            return;
        }
        if count >= TRICKLE {
            self.trickling_since = None;
            return;
        }
        let now = Instant::now();
        let since = *self.trickling_since.get_or_insert(now);
        let pause = match now.duration_since(since).as_millis() {
            0..1000 => Duration::from_millis(1),
            1000..60_000 => Duration::from_millis(10),
            _ => Duration::from_millis(100),
        };
        self.pause = Some(Box::pin(tokio::time::sleep(pause)));
    }

    /// Passes a write's result on, giving up a peer that has read nothing until the deadline.
    fn deadline<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        if self.cut.is_given(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let deadline = self.write_deadline;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> Throttled<S> {
    /// Fills the read-ahead from the transport, when pressure lets it.
    fn poll_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_gate(context));
        let mut buffer = ReadBuf::new(&mut self.ahead);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        let count = buffer.filled().len();
        (self.used, self.filled, self.last) = (0, count, count);
        self.pressure.has_read();
        self.pace(count);
        Poll::Ready(Ok(()))
    }

    /// Between two reads: makes room for a stream, gives it back when there is none.
    fn resize_ahead(&mut self) {
        if self.last == self.ahead.len() && self.last < AHEAD_BUSY {
            self.ahead = vec![0; AHEAD_BUSY];
        } else if self.last < AHEAD_IDLE / 4 && self.ahead.len() > AHEAD_IDLE {
            self.ahead = vec![0; AHEAD_IDLE];
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Throttled<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.is_given(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if let Some(goodbye) = &mut self.goodbye
            && goodbye.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(context));
            self.rest = None;
        }
        if self.used == self.filled {
            self.resize_ahead();
            ready!(self.poll_ahead(context))?;
        }
        let asked = buffer.remaining();
        let count = self.filled.saturating_sub(self.used).min(asked);
        // An error goes out with nothing read beside it.
        self.spend(asked, count)?;
        let (mut ident, end) = (self.ident, self.used + count);
        let read = self.ahead.get(self.used..end).unwrap_or_default();
        // A target may say lines of its own before; a client may not.
        if self.answer == Answer::Pace {
            ident.see(read)?;
        }
        buffer.put_slice(read);
        (self.ident, self.used) = (ident, end);
        self.pressure.is_ahead(self.filled.saturating_sub(end));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Throttled<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.deadline(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.deadline(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        // russh reads on until the peer has closed its side, however long that takes.
        self.goodbye.get_or_insert_with(|| Box::pin(tokio::time::sleep(GOODBYE)));
        self.deadline(context, result)
    }
}
